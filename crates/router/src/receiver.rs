//! `otlp`: the receiver. What it takes goes to the pipelines; what they say goes back to the sender.

use std::sync::Arc;

use futures::future::BoxFuture;
use otlp::{Export, Sink};
use serde::{Deserialize, Serialize};
use service::config::Present;
use service::{Failure, TlsConfig};
use wire::otlp::Signal;

use crate::data::{Consumer, Data};
use crate::metrics::{ReceiverLabels, ReceiverMetrics};

/// `receivers.otlp`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct OtlpReceiverConfig {
    /// A protocol is on if its key is there.
    pub protocols: ProtocolsConfig,
}

/// `receivers.otlp.protocols`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ProtocolsConfig {
    /// OTLP over gRPC.
    pub grpc: Present<GrpcConfig>,
    /// OTLP over HTTP.
    pub http: Present<HttpConfig>,
}

/// `receivers.otlp.protocols.grpc`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct GrpcConfig {
    /// `host:port`
    pub endpoint: String,
    /// Largest message after decompression, in MiB; 0 means 16 MiB.
    pub max_recv_msg_size_mib: usize,
    /// Serve over TLS.
    pub tls: TlsConfig,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { endpoint: "localhost:4317".to_owned(), max_recv_msg_size_mib: 0, tls: TlsConfig::default() }
    }
}

/// `receivers.otlp.protocols.http`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct HttpConfig {
    /// `host:port`
    pub endpoint: String,
    /// Accepted as `/v1/traces`.
    pub traces_url_path: String,
    /// Accepted as `/v1/logs`.
    pub logs_url_path: String,
    /// Largest body after decompression, in bytes.
    pub max_request_body_size: usize,
    /// Serve over TLS.
    pub tls: TlsConfig,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            endpoint: "localhost:4318".to_owned(),
            traces_url_path: "/v1/traces".to_owned(),
            logs_url_path: "/v1/logs".to_owned(),
            max_request_body_size: 20 << 20,
            tls: TlsConfig::default(),
        }
    }
}

/// The receiver's side of the pipelines it feeds.
pub struct OtlpReceiver {
    /// Its id, for metrics.
    pub id: String,
    /// Pipelines of traces.
    pub traces: Option<Arc<dyn Consumer>>,
    /// Pipelines of logs.
    pub logs: Option<Arc<dyn Consumer>>,
    /// Counts.
    pub metrics: ReceiverMetrics,
}

impl OtlpReceiver {
    fn labels(&self, transport: &'static str) -> ReceiverLabels {
        ReceiverLabels { receiver: self.id.clone(), transport: transport.to_owned() }
    }
}

impl Sink for OtlpReceiver {
    fn export(&self, request: Export) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let Export { signal, body, counts, transport, .. } = request;
            let items = counts.items as u64;
            if items == 0 {
                return Ok(());
            }
            let pipeline = match signal {
                Signal::Traces => &self.traces,
                Signal::Logs => &self.logs,
            };
            let Some(pipeline) = pipeline else {
                return Err(Failure::not_found(format!("no pipeline takes {signal:?} here")));
            };
            let result = pipeline.consume(Data { signal, body, items }).await;
            self.metrics.count(signal, &self.labels(transport), items, result.is_ok());
            result
        })
    }

    fn undecodable(&self, signal: Signal, transport: &'static str) {
        self.metrics.failed(signal, &self.labels(transport));
    }
}
