//! `otlp` (`otlp_grpc`): OTLP over gRPC.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use http::HeaderName;
use http::uri::PathAndQuery;
use otlp::{LOGS_EXPORT, RawCodec, TRACES_EXPORT};
use serde::{Deserialize, Serialize};
use service::Failure;
use service::config::{Duration, Secret};
use tonic::Request;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use wire::otlp::Signal;
use wire::otlp::rpc::PartialSuccess;

use super::{QueueConfig, RetryConfig, TlsConfig};
use crate::data::{Consumer, Data};

/// `exporters.otlp`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct OtlpGrpcConfig {
    /// `host:port`, or a URL.
    pub endpoint: String,
    /// TLS towards the endpoint.
    pub tls: TlsConfig,
    /// `gzip`, `zstd` or `none`.
    pub compression: String,
    /// Metadata of every request.
    pub headers: BTreeMap<String, Secret>,
    /// Longest time of one export.
    pub timeout: Duration,
    /// Trying again.
    pub retry_on_failure: RetryConfig,
    /// Acknowledging before the export.
    pub sending_queue: QueueConfig,
}

impl Default for OtlpGrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tls: TlsConfig::default(),
            compression: "gzip".to_owned(),
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            retry_on_failure: RetryConfig::default(),
            sending_queue: QueueConfig::default(),
        }
    }
}

/// The exporter. It connects when it is first used, and again whenever the connection is lost.
pub struct OtlpGrpc {
    channel: Channel,
    compression: Option<CompressionEncoding>,
    headers: http::HeaderMap,
}

impl OtlpGrpc {
    /// Prepares the exporter; does not connect yet, but needs a running runtime.
    pub fn new(config: &OtlpGrpcConfig) -> Result<Self, String> {
        let compression = match config.compression.as_str() {
            "gzip" => Some(CompressionEncoding::Gzip),
            "zstd" => Some(CompressionEncoding::Zstd),
            "none" | "" => None,
            other => return Err(format!("compression: '{other}' is none of gzip, zstd, none")),
        };
        Ok(Self {
            channel: endpoint(config)?.connect_lazy(),
            compression,
            headers: headers(&config.headers)?,
        })
    }

    /// What can be checked without a runtime.
    pub fn check(config: &OtlpGrpcConfig) -> Result<(), String> {
        endpoint(config).map(drop).and_then(|()| headers(&config.headers).map(drop))
    }
}

fn endpoint(config: &OtlpGrpcConfig) -> Result<Endpoint, String> {
    if config.endpoint.is_empty() {
        return Err("endpoint: missing; write host:port".to_owned());
    }
    let bare = config.endpoint.split_once("://").map_or(&*config.endpoint, |(_, rest)| rest);
    let plain = config.tls.insecure || config.endpoint.starts_with("http://");
    let uri = format!("{}://{bare}", if plain { "http" } else { "https" });
    let problem = |e: tonic::transport::Error| format!("endpoint: '{}': {e}", config.endpoint);
    let endpoint = Endpoint::from_shared(uri).map_err(problem)?.timeout(config.timeout.get());
    let endpoint = endpoint.connect_timeout(config.timeout.get());
    if plain { Ok(endpoint) } else { endpoint.tls_config(tls(&config.tls)?).map_err(problem) }
}

fn tls(config: &TlsConfig) -> Result<ClientTlsConfig, String> {
    if config.insecure_skip_verify {
        return Err("tls.insecure_skip_verify: certificates are always verified; give tls.ca_file".to_owned());
    }
    let read = |key: &str, path: &str| std::fs::read(path).map_err(|e| format!("tls.{key}: {path}: {e}"));
    let mut tls = ClientTlsConfig::new();
    tls = match config.ca_file.as_str() {
        "" => tls.with_enabled_roots(),
        path => tls.ca_certificate(Certificate::from_pem(read("ca_file", path)?)),
    };
    if !config.cert_file.is_empty() {
        let (cert, key) = (read("cert_file", &config.cert_file)?, read("key_file", &config.key_file)?);
        tls = tls.identity(Identity::from_pem(cert, key));
    }
    if !config.server_name_override.is_empty() {
        tls = tls.domain_name(&config.server_name_override);
    }
    Ok(tls)
}

/// Configured headers, checked.
pub(super) fn headers(config: &BTreeMap<String, Secret>) -> Result<http::HeaderMap, String> {
    let pair = |(name, value): (&String, &Secret)| {
        let key =
            HeaderName::try_from(name.as_str()).map_err(|_| format!("headers.{name}: not a header name"))?;
        let mut value = http::HeaderValue::try_from(value.reveal())
            .map_err(|_| format!("headers.{name}: the value is not allowed in a header"))?;
        value.set_sensitive(true);
        Ok((key, value))
    };
    config.iter().map(pair).collect()
}

impl Consumer for OtlpGrpc {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let mut client = Grpc::new(self.channel.clone());
            if let Some(encoding) = self.compression {
                client = client.send_compressed(encoding);
            }
            client.ready().await.map_err(|e| Failure::unavailable(e.to_string(), None))?;
            let path = match data.signal {
                Signal::Traces => TRACES_EXPORT,
                Signal::Logs => LOGS_EXPORT,
            };
            let mut request = Request::new(data.body);
            *request.metadata_mut() = MetadataMap::from_headers(self.headers.clone());
            let response = client.unary(request, PathAndQuery::from_static(path), RawCodec).await?;
            warn_of_rejected(response.get_ref());
            Ok(())
        })
    }
}

/// A partial success is never tried again; it is worth a warning.
pub(super) fn warn_of_rejected(response: &[u8]) {
    match PartialSuccess::from_response(response) {
        Ok(partial) if partial.rejected > 0 => {
            tracing::warn!(
                rejected = partial.rejected,
                reason = partial.message,
                "the receiver refused a part"
            );
        }
        _ => {}
    }
}
