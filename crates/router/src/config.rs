//! The Collector's configuration file: named components, and the pipelines that join them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use service::config::{Dialect, Logging, Problems, Unneeded, Value};

use crate::components::Components;

/// The whole file. Component bodies stay as written until their type is known; see [`Components`].
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// Where data comes in.
    pub receivers: BTreeMap<String, Value>,
    /// What is done to it on its way.
    pub processors: BTreeMap<String, Value>,
    /// Where it goes.
    pub exporters: BTreeMap<String, Value>,
    /// Exporters of one pipeline that are receivers of another.
    pub connectors: BTreeMap<String, Value>,
    /// Everything beside pipelines.
    pub extensions: BTreeMap<String, Value>,
    /// What is in use.
    pub service: ServiceConfig,
}

/// `service`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ServiceConfig {
    /// Extensions in use.
    pub extensions: Vec<String>,
    /// Pipelines by `signal` or `signal/name`.
    pub pipelines: BTreeMap<String, PipelineConfig>,
    /// The router's own logs and metrics.
    pub telemetry: TelemetryConfig,
}

/// One pipeline.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PipelineConfig {
    /// Ids of receivers or connectors.
    pub receivers: Vec<String>,
    /// Ids of processors, in order.
    pub processors: Vec<String>,
    /// Ids of exporters or connectors.
    pub exporters: Vec<String>,
}

/// `service.telemetry`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TelemetryConfig {
    /// Own logs.
    pub logs: LogsConfig,
    /// Own metrics.
    pub metrics: MetricsConfig,
}

/// `service.telemetry.logs`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct LogsConfig {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

/// `service.telemetry.metrics`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct MetricsConfig {
    /// `none` turns the metrics listener off.
    pub level: String,
    /// Address of the metrics listener, in the older form.
    pub address: String,
    /// Address of the metrics listener: the first `pull.exporter.prometheus`.
    pub readers: Vec<ReaderConfig>,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { level: "normal".to_owned(), address: String::new(), readers: Vec::new() }
    }
}

/// One of `service.telemetry.metrics.readers`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ReaderConfig {
    /// A reader that is asked.
    pub pull: PullConfig,
}

/// `pull`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PullConfig {
    /// How it is asked.
    pub exporter: PullExporterConfig,
}

/// `pull.exporter`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PullExporterConfig {
    /// By Prometheus.
    pub prometheus: PrometheusReaderConfig,
}

/// `pull.exporter.prometheus`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct PrometheusReaderConfig {
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Default for PrometheusReaderConfig {
    fn default() -> Self {
        Self { host: "localhost".to_owned(), port: 8888 }
    }
}

impl MetricsConfig {
    /// `host:port` of the metrics listener, unless it is off.
    pub fn listen(&self) -> Option<String> {
        match (self.level.as_str(), self.address.as_str(), self.readers.first()) {
            ("none", ..) => None,
            (_, address, _) if !address.is_empty() => Some(address.to_owned()),
            (_, _, Some(reader)) => {
                let PrometheusReaderConfig { host, port } = &reader.pull.exporter.prometheus;
                Some(format!("{host}:{port}"))
            }
            (_, _, None) => Some("localhost:8888".to_owned()),
        }
    }
}

impl Config {
    /// What runs when nothing is configured: OTLP on loopback, everything kept, to the stores on this host.
    pub const UNCONFIGURED: &str = "
receivers: {otlp: {protocols: {grpc: , http: }}}
processors: {batch: }
exporters:
  otlphttp/traces: {traces_endpoint: 'http://127.0.0.1:3200/v1/traces', compression: none}
  otlphttp/logs: {logs_endpoint: 'http://127.0.0.1:3100/otlp/v1/logs', compression: none}
extensions: {health_check: }
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [otlphttp/traces]}
    logs: {receivers: [otlp], processors: [batch], exporters: [otlphttp/logs]}
";

    /// Whether no pipeline was configured at all.
    pub fn is_unconfigured(&self) -> bool {
        self.service.pipelines.is_empty() && self.receivers.is_empty() && self.exporters.is_empty()
    }
}

impl service::config::Config for Config {
    const DIALECT: Dialect = Dialect::Collector;

    fn unneeded() -> Unneeded {
        Unneeded::new(&[
            "service.telemetry.traces",
            "service.telemetry.resource",
            "service.telemetry.logs.encoding",
            "service.telemetry.logs.development",
            "service.telemetry.logs.disable_caller",
            "service.telemetry.logs.disable_stacktrace",
            "service.telemetry.logs.sampling",
            "service.telemetry.logs.output_paths",
            "service.telemetry.logs.error_output_paths",
            "service.telemetry.logs.initial_fields",
            "service.telemetry.metrics.readers.*.periodic",
            "service.telemetry.metrics.readers.*.pull.exporter.prometheus.without_scope_info",
            "service.telemetry.metrics.readers.*.pull.exporter.prometheus.without_type_suffix",
            "service.telemetry.metrics.readers.*.pull.exporter.prometheus.without_units",
            "service.telemetry.metrics.readers.*.pull.exporter.prometheus.with_resource_constant_labels",
        ])
    }

    fn check(&self, problems: &mut Problems) {
        if !self.is_unconfigured() {
            for missing in Components::read(self, problems).not_built {
                problems.warn(format!("{missing}: not built yet, left out"));
            }
        }
    }

    fn logging(&self) -> Logging {
        Logging { level: Some(self.service.telemetry.logs.level.clone()), format: None }
    }
}
