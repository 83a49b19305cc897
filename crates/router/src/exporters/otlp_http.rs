//! `otlphttp` (`otlp_http`): OTLP over HTTP, protobuf.

use std::collections::BTreeMap;
use std::io::Write as _;

use futures::future::BoxFuture;
use http::header;
use serde::{Deserialize, Serialize};
use service::Failure;
use service::config::{Duration, Secret};
use wire::otlp::Signal;

use super::otlp_grpc::{headers, warn_of_rejected};
use super::{QueueConfig, RetryConfig, TlsConfig};
use crate::data::{Consumer, Data};

/// `exporters.otlphttp`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct OtlpHttpConfig {
    /// Base URL; `/v1/traces` and `/v1/logs` are appended.
    pub endpoint: String,
    /// Full URL for traces instead.
    pub traces_endpoint: String,
    /// Full URL for logs instead.
    pub logs_endpoint: String,
    /// TLS towards the endpoint.
    pub tls: TlsConfig,
    /// `gzip` or `none`.
    pub compression: String,
    /// Headers of every request.
    pub headers: BTreeMap<String, Secret>,
    /// Longest time of one export.
    pub timeout: Duration,
    /// Trying again.
    pub retry_on_failure: RetryConfig,
    /// Acknowledging before the export.
    pub sending_queue: QueueConfig,
}

impl Default for OtlpHttpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            traces_endpoint: String::new(),
            logs_endpoint: String::new(),
            tls: TlsConfig::default(),
            compression: "gzip".to_owned(),
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(30),
            retry_on_failure: RetryConfig::default(),
            sending_queue: QueueConfig::default(),
        }
    }
}

/// The exporter.
pub struct OtlpHttp {
    client: reqwest::Client,
    traces: Option<reqwest::Url>,
    logs: Option<reqwest::Url>,
    gzip: bool,
}

impl OtlpHttp {
    /// Prepares the exporter; connects when it is first used.
    pub fn new(config: &OtlpHttpConfig) -> Result<Self, String> {
        let gzip = match config.compression.as_str() {
            "gzip" => true,
            "none" | "" => false,
            other => return Err(format!("compression: '{other}' is none of gzip, none")),
        };
        let url = |own: &str, key: &str, path: &str| match (own, config.endpoint.trim_end_matches('/')) {
            ("", "") => Ok(None),
            ("", base) => parse("endpoint", &format!("{base}{path}")),
            (full, _) => parse(key, full),
        };
        let traces = url(&config.traces_endpoint, "traces_endpoint", "/v1/traces")?;
        let logs = url(&config.logs_endpoint, "logs_endpoint", "/v1/logs")?;
        if traces.is_none() && logs.is_none() {
            return Err("endpoint: missing; write a URL such as http://host:4318".to_owned());
        }
        let mut client = reqwest::Client::builder()
            .timeout(config.timeout.get())
            .default_headers(headers(&config.headers)?)
            .redirect(reqwest::redirect::Policy::none());
        if config.tls.insecure_skip_verify {
            return Err(
                "tls.insecure_skip_verify: certificates are always verified; give tls.ca_file".to_owned()
            );
        }
        if !config.tls.ca_file.is_empty() {
            let pem = std::fs::read(&config.tls.ca_file)
                .map_err(|e| format!("tls.ca_file: {}: {e}", config.tls.ca_file))?;
            let authority = reqwest::Certificate::from_pem(&pem).map_err(|e| format!("tls.ca_file: {e}"))?;
            client = client.add_root_certificate(authority);
        } else {
            let urls = traces.iter().chain(&logs);
            client = service::trust::by_system(client, urls).map_err(|e| format!("tls: {e}"))?;
        }
        let client = client.build().map_err(|e| format!("tls: {e}"))?;
        Ok(Self { client, traces, logs, gzip })
    }
}

fn parse(key: &str, url: &str) -> Result<Option<reqwest::Url>, String> {
    url.parse().map(Some).map_err(|e| format!("{key}: '{url}' is not a URL: {e}"))
}

impl Consumer for OtlpHttp {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let url = match data.signal {
                Signal::Traces => &self.traces,
                Signal::Logs => &self.logs,
            };
            let Some(url) = url.clone() else {
                return Err(Failure::internal(format!(
                    "this exporter has no endpoint for {:?}",
                    data.signal
                )));
            };
            let mut request = self.client.post(url).header(header::CONTENT_TYPE, "application/x-protobuf");
            let body = if self.gzip {
                request = request.header(header::CONTENT_ENCODING, "gzip");
                gzip(&data.body).map_err(|e| Failure::internal(e.to_string()))?
            } else {
                data.body
            };
            let response = request
                .body(body)
                .send()
                .await
                .map_err(|e| Failure::unavailable(e.without_url().to_string(), None))?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response
                .bytes()
                .await
                .map_err(|e| Failure::unavailable(e.without_url().to_string(), None))?;
            if status.is_success() {
                warn_of_rejected(&body);
                return Ok(());
            }
            let text = match wire::otlp::rpc::Status::from_protobuf(&body) {
                Ok(status) if !status.message.is_empty() => status.message,
                _ => String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned(),
            };
            Err(Failure::from_http(status, &headers, &text))
        })
    }
}

fn gzip(body: &[u8]) -> std::io::Result<bytes::Bytes> {
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}
