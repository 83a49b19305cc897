//! The OTLP receivers: gRPC, whose messages never become structs, and HTTP with protobuf or JSON.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use service::Failure;
use service::http::read_body;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, NamedService, UnaryService};
use wire::decompress::{DecompressError, Encoding, decompress};
use wire::otlp::{Format, rpc};

use crate::grpc::Raw;
use crate::ingest::{Ingest, status};
use crate::tenancy::Tenancy;

/// What a receiver needs.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) ingest: Ingest,
    pub(crate) tenancy: Tenancy,
    /// Largest body or message, also after decompression.
    pub(crate) max_bytes: usize,
}

/// OTLP over HTTP: `POST /v1/traces`.
pub(crate) fn http(receiver: Receiver) -> Router {
    Router::new().route("/v1/traces", post(export)).with_state(receiver)
}

async fn export(State(receiver): State<Receiver>, request: Request) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let Some(format) = Format::from_content_type(content_type.unwrap_or_default()) else {
        let text = "unsupported media type, supported: [application/json, application/x-protobuf]";
        return Failure::invalid(text).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE).into_response();
    };
    let content_type = [(header::CONTENT_TYPE, format.content_type())];
    match receiver.take(request, format).await {
        Ok(()) => (content_type, rpc::export_response(format)).into_response(),
        Err(failure) => {
            let (code, headers): (StatusCode, HeaderMap) = failure.parts();
            (code, headers, content_type, status(&failure).encode(format)).into_response()
        }
    }
}

impl Receiver {
    async fn take(&self, request: Request, format: Format) -> Result<(), Failure> {
        let tenant = self.tenancy.writer(request.headers())?;
        let encoding = request.headers().get(header::CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("?"));
        let encoding = encoding.unwrap_or_default();
        let encoding = Encoding::parse(encoding)
            .ok_or_else(|| Failure::invalid(format!("unsupported Content-Encoding {encoding:?}")))?;
        let body = read_body(request.into_body(), self.max_bytes).await?;
        let body = decompress(body, encoding, self.max_bytes).map_err(|error| match error {
            DecompressError::TooLarge { limit } => Failure::too_large(limit),
            corrupt => Failure::invalid(corrupt.to_string()),
        })?;
        self.ingest.push(&tenant, body, format).await
    }
}

/// OTLP over gRPC.
#[derive(Clone)]
pub(crate) struct TraceService(pub(crate) Receiver);

impl NamedService for TraceService {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tonic::codegen::Service<http::Request<tonic::body::Body>> for TraceService {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        if request.uri().path() != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
            let unknown: Ready<_> = ready(Ok(tonic::Status::unimplemented("").into_http()));
            return Box::pin(unknown);
        }
        let receiver = self.0.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(receiver.max_bytes);
            Ok(grpc.unary(Export(receiver), request).await)
        })
    }
}

struct Export(Receiver);

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, tonic::Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let Receiver { ingest, tenancy, .. } = self.0.clone();
        Box::pin(async move {
            let tenant = tenancy.grpc_writer(request.metadata())?;
            ingest.push(&tenant, request.into_inner(), Format::Protobuf).await?;
            Ok(tonic::Response::new(rpc::export_response(Format::Protobuf)))
        })
    }
}
