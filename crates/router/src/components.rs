//! Reads component bodies by the type in their id, and checks that the pipelines fit together.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use service::config::{Problems, Unneeded, Value};
use wire::otlp::Signal;

use crate::config::Config;
use crate::exporters::debug::DebugConfig;
use crate::exporters::otlp_grpc::{OtlpGrpc, OtlpGrpcConfig};
use crate::exporters::otlp_http::{OtlpHttp, OtlpHttpConfig};
use crate::processors::batch::BatchConfig;
use crate::processors::memory_limiter::MemoryLimiterConfig;
use crate::processors::resource::{Resource, ResourceConfig};
use crate::receiver::OtlpReceiverConfig;
use crate::sampling::{Sampler, TailSamplingConfig};

/// Component types of the Collector that are known here by name but not built.
const NOT_BUILT: [&str; 34] = [
    "attributes",
    "aws_cloud_map",
    "count",
    "exceptions",
    "failover",
    "file",
    "filelog",
    "file_log",
    "file_storage",
    "filter",
    "forward",
    "groupbytrace",
    "hostmetrics",
    "jaeger",
    "k8s_attributes",
    "k8sattributes",
    "load_balancing",
    "loadbalancing",
    "loki",
    "pprof",
    "probabilistic_sampler",
    "prometheus",
    "prometheus_remote_write",
    "prometheusremotewrite",
    "resource_detection",
    "resourcedetection",
    "routing",
    "service_graph",
    "servicegraph",
    "span",
    "span_metrics",
    "spanmetrics",
    "transform",
    "zipkin",
];

/// Types of extensions that are accepted without effect.
const EXTENSIONS_NOT_BUILT: [&str; 1] = ["zpages"];

/// A processor by its type.
#[derive(Debug, Clone)]
pub enum Processor {
    /// `batch`
    Batch(BatchConfig),
    /// `tail_sampling`
    TailSampling(Box<TailSamplingConfig>),
    /// `memory_limiter`
    MemoryLimiter(MemoryLimiterConfig),
    /// `resource`
    Resource(ResourceConfig),
}

/// An exporter by its type.
#[derive(Debug, Clone)]
pub enum Exporter {
    /// `otlp`
    OtlpGrpc(Box<OtlpGrpcConfig>),
    /// `otlphttp`
    OtlpHttp(Box<OtlpHttpConfig>),
    /// `debug`
    Debug,
    /// `embedded`: the stores of the same process.
    Embedded,
}

/// `extensions.health_check`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct HealthCheckConfig {
    /// `host:port`
    pub endpoint: String,
    /// Path that answers.
    pub path: String,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self { endpoint: "localhost:13133".to_owned(), path: "/".to_owned() }
    }
}

/// A pipeline whose parts are all built.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its id.
    pub id: String,
    /// What flows through it.
    pub signal: Signal,
    /// Ids.
    pub receivers: Vec<String>,
    /// Ids, in order.
    pub processors: Vec<String>,
    /// Ids.
    pub exporters: Vec<String>,
}

/// All components in their types, and the pipelines that can run.
#[derive(Debug, Clone, Default)]
pub struct Components {
    /// OTLP receivers by id.
    pub receivers: BTreeMap<String, OtlpReceiverConfig>,
    /// Processors by id.
    pub processors: BTreeMap<String, Processor>,
    /// Exporters by id.
    pub exporters: BTreeMap<String, Exporter>,
    /// The health check, if in use.
    pub health_check: Option<HealthCheckConfig>,
    /// Pipelines without those that need something that is not built.
    pub pipelines: Vec<Pipeline>,
    /// What is in the file but not built, a line each.
    pub not_built: Vec<String>,
}

impl Components {
    /// Reads all components; what is wrong goes into `problems`.
    pub fn read(config: &Config, problems: &mut Problems) -> Self {
        let mut found = Self::default();
        let mut reader = Reader { problems, not_built: BTreeSet::new() };
        for (id, body) in &config.receivers {
            match kind(id) {
                "otlp" => {
                    if let Some(read) = reader.body::<OtlpReceiverConfig>(body, OTLP_RECEIVER) {
                        found.receivers.insert(id.clone(), read);
                    }
                }
                _ => reader.other("receivers", id, &NOT_BUILT),
            }
        }
        for (id, body) in &config.processors {
            found.processors.extend(reader.processor(id, body).map(|p| (id.clone(), p)));
        }
        for (id, body) in &config.exporters {
            found.exporters.extend(reader.exporter(id, body).map(|e| (id.clone(), e)));
        }
        for id in config.connectors.keys() {
            reader.other("connectors", id, &NOT_BUILT);
        }
        for (id, body) in &config.extensions {
            match kind(id) {
                "health_check" => {
                    let read = reader.body::<HealthCheckConfig>(
                        body,
                        &["tls", "auth", "response_body", "check_collector_pipeline"],
                    );
                    if config.service.extensions.contains(id) {
                        found.health_check = read;
                    }
                }
                kind if EXTENSIONS_NOT_BUILT.contains(&kind) => {
                    reader.other("extensions", id, &EXTENSIONS_NOT_BUILT)
                }
                _ => reader.other("extensions", id, &NOT_BUILT),
            }
        }
        for id in config.service.extensions.iter().filter(|id| !config.extensions.contains_key(*id)) {
            reader.problems.add("service.extensions", format!("'{id}' is not defined under extensions"));
        }
        if config.service.pipelines.is_empty() {
            reader.problems.add("service.pipelines", "at least one pipeline is needed");
        }
        for id in config.service.pipelines.keys() {
            let pipeline = reader.pipeline(id, config);
            found.pipelines.extend(pipeline);
        }
        found.not_built = reader.not_built.into_iter().collect();
        found
    }
}

/// The type in an id `type/name`.
fn kind(id: &str) -> &str {
    id.split('/').next().unwrap_or_default()
}

const OTLP_RECEIVER: &[&str] = &[
    "protocols.grpc.transport",
    "protocols.grpc.read_buffer_size",
    "protocols.grpc.write_buffer_size",
    "protocols.grpc.keepalive",
    "protocols.grpc.auth",
    "protocols.grpc.middlewares",
    "protocols.grpc.include_metadata",
    "protocols.grpc.max_concurrent_streams",
    "protocols.http.cors",
    "protocols.http.auth",
    "protocols.http.middlewares",
    "protocols.http.include_metadata",
    "protocols.http.response_headers",
    "protocols.http.keep_alives_enabled",
    "protocols.http.compression_algorithms",
    "protocols.http.metrics_url_path",
    "protocols.http.profiles_url_path",
    "protocols.http.read_timeout",
    "protocols.http.write_timeout",
    "protocols.http.idle_timeout",
    "protocols.http.read_header_timeout",
    "protocols.grpc.tls.reload_interval",
    "protocols.http.tls.reload_interval",
    "protocols.grpc.tls.min_version",
    "protocols.http.tls.min_version",
];

const EXPORTER: &[&str] = &[
    "keepalive",
    "balancer_name",
    "wait_for_ready",
    "authority",
    "auth",
    "read_buffer_size",
    "write_buffer_size",
    "max_idle_conns",
    "max_idle_conns_per_host",
    "idle_conn_timeout",
    "proxy_url",
    "encoding",
    "metrics_endpoint",
    "profiles_endpoint",
    "sending_queue.sizer",
    "sending_queue.wait_for_result",
    "sending_queue.block_on_overflow",
    "sending_queue.batch",
    "tls.min_version",
    "tls.reload_interval",
    "middlewares",
];

struct Reader<'a> {
    problems: &'a mut Problems,
    not_built: BTreeSet<String>,
}

impl Reader<'_> {
    fn body<T: Default + Serialize + DeserializeOwned>(
        &mut self,
        body: &Value,
        unneeded: &[&str],
    ) -> Option<T> {
        if body.is_null() {
            return Some(T::default());
        }
        body.read(&Unneeded::new(unneeded), self.problems)
    }

    /// A component that is none of ours: known but not built, or unknown.
    fn other(&mut self, section: &str, id: &str, not_built: &[&str]) {
        if not_built.contains(&kind(id)) {
            self.not_built.insert(format!("{section}.{id}"));
        } else {
            self.problems
                .add(format!("{section}.{id}"), format!("no component type is called '{}'", kind(id)));
        }
    }

    fn checked<T>(&mut self, path: &str, result: Result<T, Vec<String>>) {
        for problem in result.err().unwrap_or_default() {
            let (below, text) = problem.split_once(": ").unwrap_or(("", &problem));
            self.problems.add(format!("{path}.{below}"), text);
        }
    }

    fn processor(&mut self, id: &str, body: &Value) -> Option<Processor> {
        let path = format!("processors.{id}");
        match kind(id) {
            "batch" => {
                self.body(body, &["metadata_keys", "metadata_cardinality_limit"]).map(Processor::Batch)
            }
            "tail_sampling" => {
                let config: TailSamplingConfig = self.body(body, &["tail_storage"])?;
                self.checked(&path, Sampler::new(&config));
                Some(Processor::TailSampling(Box::new(config)))
            }
            "memory_limiter" => {
                let unneeded = [
                    "min_gc_interval_when_soft_limited",
                    "min_gc_interval_when_hard_limited",
                    "max_gc_interval_when_soft_limited",
                    "max_gc_interval_when_hard_limited",
                ];
                let config: MemoryLimiterConfig = self.body(body, &unneeded)?;
                self.checked(&path, config.soft_limit().map_err(|problem| vec![problem]));
                Some(Processor::MemoryLimiter(config))
            }
            "resource" => {
                let config: ResourceConfig = self.body(body, &[])?;
                self.checked(&path, Resource::check(&config));
                Some(Processor::Resource(config))
            }
            _ => {
                self.other("processors", id, &NOT_BUILT);
                None
            }
        }
    }

    fn exporter(&mut self, id: &str, body: &Value) -> Option<Exporter> {
        let path = format!("exporters.{id}");
        match kind(id) {
            "otlp" | "otlp_grpc" => {
                let config: OtlpGrpcConfig = self.body(body, EXPORTER)?;
                self.checked(&path, OtlpGrpc::check(&config).map_err(|problem| vec![problem]));
                Some(Exporter::OtlpGrpc(Box::new(config)))
            }
            "otlphttp" | "otlp_http" => {
                let config: OtlpHttpConfig = self.body(body, EXPORTER)?;
                self.checked(&path, OtlpHttp::new(&config).map_err(|problem| vec![problem]));
                Some(Exporter::OtlpHttp(Box::new(config)))
            }
            "debug" => {
                let unneeded =
                    ["sampling_initial", "sampling_thereafter", "use_internal_logger", "output_paths"];
                self.body::<DebugConfig>(body, &unneeded).map(|_| Exporter::Debug)
            }
            "embedded" => Some(Exporter::Embedded),
            _ => {
                self.other("exporters", id, &NOT_BUILT);
                None
            }
        }
    }

    /// Checks a pipeline's references. `None` if it cannot run because something of it is not built.
    fn pipeline(&mut self, id: &str, config: &Config) -> Option<Pipeline> {
        let path = format!("service.pipelines.{id}");
        let pipeline = &config.service.pipelines[id];
        let signal = match kind(id) {
            "traces" => Some(Signal::Traces),
            "logs" => Some(Signal::Logs),
            "metrics" | "profiles" => None,
            other => {
                self.problems.add(&path, format!("'{other}' is none of traces, logs, metrics, profiles"));
                return None;
            }
        };
        for (list, ids) in [("receivers", &pipeline.receivers), ("exporters", &pipeline.exporters)] {
            if ids.is_empty() {
                self.problems.add(format!("{path}.{list}"), "at least one is needed");
            }
        }
        let mut once = BTreeSet::new();
        for id in pipeline.processors.iter().filter(|id| !once.insert(*id)) {
            self.problems.add(format!("{path}.processors"), format!("'{id}' is listed twice"));
        }
        let sections = [
            ("receivers", &pipeline.receivers, &config.receivers),
            ("processors", &pipeline.processors, &config.processors),
            ("exporters", &pipeline.exporters, &config.exporters),
        ];
        for (list, ids, defined) in sections {
            let connector = |id: &str| list != "processors" && config.connectors.contains_key(id);
            for id in ids.iter().filter(|id| !defined.contains_key(*id) && !connector(id)) {
                self.problems.add(format!("{path}.{list}"), format!("'{id}' is not defined under {list}"));
            }
        }
        let built = |list: &str, ids: &[String], not_built: &BTreeSet<String>| -> Vec<String> {
            let known = |id: &String| {
                !not_built.contains(&format!("{list}.{id}"))
                    && !not_built.contains(&format!("connectors.{id}"))
            };
            ids.iter().filter(|id| known(id)).cloned().collect()
        };
        let receivers = built("receivers", &pipeline.receivers, &self.not_built);
        let processors = built("processors", &pipeline.processors, &self.not_built);
        let exporters = built("exporters", &pipeline.exporters, &self.not_built);
        let whole =
            processors.len() == pipeline.processors.len() && !receivers.is_empty() && !exporters.is_empty();
        match signal {
            Some(signal) if whole => {
                Some(Pipeline { id: id.to_owned(), signal, receivers, processors, exporters })
            }
            _ => {
                self.not_built.insert(path);
                None
            }
        }
    }
}
