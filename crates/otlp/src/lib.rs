//! The doors of OTLP: servers over gRPC and HTTP that hand on undecoded requests, and the codec of clients.
//!
//! Bodies are checked once and stay bytes: nobody behind the door needs messages. What is done with a
//! request is the [`Sink`]'s business; its failures become gRPC statuses and HTTP answers with
//! `google.rpc.Status` bodies, as the OpenTelemetry protocol asks.

mod codec;
mod decode;
mod grpc;
mod http;

pub use codec::RawCodec;
pub use decode::{decode, off_thread};
pub use grpc::{LOGS_EXPORT, TRACES_EXPORT, routes};
pub use http::router;

use std::sync::Arc;

use ::http::HeaderMap;
use bytes::Bytes;
use futures::future::BoxFuture;
use service::Failure;
use wire::otlp::{Counts, Signal};

/// One export request: protobuf bytes that passed [`Signal::check`].
#[derive(Debug, Clone)]
pub struct Export {
    /// Traces or logs.
    pub signal: Signal,
    /// `ExportTraceServiceRequest` or `ExportLogsServiceRequest`.
    pub body: Bytes,
    /// What is in it.
    pub counts: Counts,
    /// HTTP headers or gRPC metadata, for tenants.
    pub headers: HeaderMap,
    /// `grpc` or `http`.
    pub transport: &'static str,
}

/// Takes export requests.
pub trait Sink: Send + Sync + 'static {
    /// Takes all of the request or none of it.
    fn export(&self, request: Export) -> BoxFuture<'_, Result<(), Failure>>;

    /// Hears of a request that could not be decoded.
    fn undecodable(&self, signal: Signal, transport: &'static str) {
        let _ = (signal, transport);
    }
}

/// What a door serves, and its bounds.
#[derive(Clone)]
pub struct Door {
    /// Where requests go.
    pub sink: Arc<dyn Sink>,
    /// Largest body after decompression, in bytes.
    pub max_bytes: usize,
    /// Whether traces are taken.
    pub traces: bool,
    /// Whether logs are taken.
    pub logs: bool,
}
