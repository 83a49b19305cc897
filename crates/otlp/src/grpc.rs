//! `TraceService/Export` and `LogsService/Export` over gRPC.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::otlp::{Format, Signal, rpc};

use crate::{Door, Export, RawCodec, decode};

/// gRPC path of an export of traces.
pub const TRACES_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// gRPC path of an export of logs.
pub const LOGS_EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// The gRPC services of a door.
pub fn routes(door: &Door) -> Routes {
    let mut routes = Routes::default();
    if door.traces {
        routes = routes.add_service(Service::<TRACES>(door.clone()));
    }
    if door.logs {
        routes = routes.add_service(Service::<LOGS>(door.clone()));
    }
    routes
}

const TRACES: bool = true;
const LOGS: bool = false;

/// The gRPC service of one signal.
#[derive(Clone)]
struct Service<const SIGNAL: bool>(Door);

impl NamedService for Service<TRACES> {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl NamedService for Service<LOGS> {
    const NAME: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
}

impl<const SIGNAL: bool> tower::Service<http::Request<Body>> for Service<SIGNAL> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (signal, path) =
            if SIGNAL == TRACES { (Signal::Traces, TRACES_EXPORT) } else { (Signal::Logs, LOGS_EXPORT) };
        let door = self.0.clone();
        Box::pin(async move {
            if request.uri().path() != path {
                return Ok(Status::unimplemented("only Export is served").into_http());
            }
            let mut grpc = Grpc::new(RawCodec)
                .accept_compressed(Gzip)
                .accept_compressed(Zstd)
                .max_decoding_message_size(door.max_bytes);
            Ok(grpc.unary(Unary { door, signal }, request).await)
        })
    }
}

struct Unary {
    door: Door,
    signal: Signal,
}

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (door, signal) = (self.door.clone(), self.signal);
        Box::pin(async move {
            let (metadata, _, body) = request.into_parts();
            let decoded = decode(signal, body, Format::Protobuf).await;
            let (body, counts) = decoded.inspect_err(|_| door.sink.undecodable(signal, "grpc"))?;
            let headers = metadata.into_headers();
            door.sink.export(Export { signal, body, counts, headers, transport: "grpc" }).await?;
            Ok(Response::new(rpc::export_response(Format::Protobuf)))
        })
    }
}
