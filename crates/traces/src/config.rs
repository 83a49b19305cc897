//! The configuration, under Tempo's own key names.

use std::path::PathBuf;

use blob::{AzureConfig, BlobConfig, GcsConfig, LocalConfig, S3Config};
use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Duration, Logging, Present, Problems, Secret, Unneeded};
use service::{ServerConfig, TlsConfig};

/// Everything that a file can say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Whether requests name their tenant; else all data is of the tenant `single-tenant`.
    pub multitenancy_enabled: bool,
    /// Put before every path of the API.
    pub http_api_prefix: String,
    /// Serve the streaming gRPC API on the HTTP port as well.
    pub stream_over_http_enabled: bool,
    /// HTTP and gRPC of the queries.
    pub server: ServerConfig,
    /// How spans come in.
    pub distributor: Distributor,
    /// When spans go into blocks.
    pub ingester: Ingester,
    /// Bounds of queries.
    pub query_frontend: QueryFrontend,
    /// What becomes of blocks.
    pub compactor: Compactor,
    /// Where spans are kept.
    pub storage: Storage,
    /// Limits.
    pub overrides: Overrides,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            multitenancy_enabled: false,
            http_api_prefix: String::new(),
            stream_over_http_enabled: true,
            server: ServerConfig::on_ports(3200, 9095),
            distributor: Distributor::default(),
            ingester: Ingester::default(),
            query_frontend: QueryFrontend::default(),
            compactor: Compactor::default(),
            storage: Storage::default(),
            overrides: Overrides::default(),
        }
    }
}

/// `distributor`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Distributor {
    /// What listens; without it OTLP over gRPC and HTTP.
    pub receivers: Present<Receivers>,
    /// Attribute keys and string values are cut to this many bytes.
    pub max_attribute_bytes: ByteSize,
}

impl Default for Distributor {
    fn default() -> Self {
        Self { receivers: Present(None), max_attribute_bytes: ByteSize(2048) }
    }
}

/// `distributor.receivers`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Receivers {
    /// OTLP.
    pub otlp: Present<Otlp>,
}

/// `distributor.receivers.otlp`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Otlp {
    /// Its transports.
    pub protocols: Protocols,
}

/// `distributor.receivers.otlp.protocols`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Protocols {
    /// gRPC.
    pub grpc: Present<Grpc>,
    /// HTTP.
    pub http: Present<Http>,
}

/// `distributor.receivers.otlp.protocols.grpc`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Grpc {
    /// Address and port.
    pub endpoint: String,
    /// TLS.
    pub tls: TlsConfig,
    /// Largest message, MiB.
    pub max_recv_msg_size_mib: usize,
}

impl Default for Grpc {
    fn default() -> Self {
        Self { endpoint: "127.0.0.1:4317".to_owned(), tls: TlsConfig::default(), max_recv_msg_size_mib: 4 }
    }
}

/// `distributor.receivers.otlp.protocols.http`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Address and port.
    pub endpoint: String,
    /// TLS.
    pub tls: TlsConfig,
    /// Largest body, bytes, also after decompression.
    pub max_request_body_size: ByteSize,
}

impl Default for Http {
    fn default() -> Self {
        let max_request_body_size = ByteSize::mib(20);
        Self { endpoint: "127.0.0.1:4318".to_owned(), tls: TlsConfig::default(), max_request_body_size }
    }
}

/// `ingester`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ingester {
    /// Spans go into a block when the oldest of them came this long ago.
    pub max_block_duration: Duration,
    /// Spans go into a block when they take this much memory.
    pub max_block_bytes: ByteSize,
}

impl Default for Ingester {
    fn default() -> Self {
        Self { max_block_duration: Duration::from_secs(30 * 60), max_block_bytes: ByteSize::mib(64) }
    }
}

/// `query_frontend`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryFrontend {
    /// Longest TraceQL text.
    pub max_query_expression_size_bytes: usize,
    /// Search.
    pub search: SearchLimits,
    /// Metrics.
    pub metrics: MetricsLimits,
}

impl Default for QueryFrontend {
    fn default() -> Self {
        Self {
            max_query_expression_size_bytes: 128 << 10,
            search: SearchLimits::default(),
            metrics: MetricsLimits::default(),
        }
    }
}

/// `query_frontend.search`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchLimits {
    /// Traces found when a request does not say.
    pub default_result_limit: usize,
    /// Most traces a request may ask for; 0 for no limit.
    pub max_result_limit: usize,
    /// Longest range; 0 for no limit.
    pub max_duration: Duration,
    /// Spans of a span set when a request does not say.
    pub default_spans_per_span_set: usize,
    /// Most spans of a span set a request may ask for; 0 for no limit.
    pub max_spans_per_span_set: usize,
}

impl Default for SearchLimits {
    fn default() -> Self {
        Self {
            default_result_limit: 20,
            max_result_limit: 262_144,
            max_duration: Duration::from_secs(168 * 3600),
            default_spans_per_span_set: 3,
            max_spans_per_span_set: 100,
        }
    }
}

/// `query_frontend.metrics`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsLimits {
    /// Longest range; 0 for no limit.
    pub max_duration: Duration,
    /// Most intervals of a range.
    pub max_intervals: u64,
    /// Most exemplars.
    pub max_exemplars: usize,
    /// Most series; 0 for no limit.
    pub max_response_series: usize,
}

impl Default for MetricsLimits {
    fn default() -> Self {
        Self {
            max_duration: Duration::from_secs(24 * 3600),
            max_intervals: 10_000,
            max_exemplars: 100,
            max_response_series: 0,
        }
    }
}

/// `compactor`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Compactor {
    /// Retention stands here.
    pub compaction: Compaction,
}

/// `compactor.compaction`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// Blocks whose last span is older than this are removed; 0 keeps everything.
    pub block_retention: Duration,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { block_retention: Duration::from_secs(14 * 24 * 3600) }
    }
}

/// `storage`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// All of it.
    pub trace: TraceStorage,
}

/// The kind of the object store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A folder.
    #[default]
    Local,
    /// S3.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// `storage.trace`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceStorage {
    /// Which of the stores below.
    pub backend: Backend,
    /// Folder of the blocks.
    pub local: Local,
    /// Folder of the ingest log.
    pub wal: Wal,
    /// S3.
    pub s3: S3,
    /// Google Cloud Storage.
    pub gcs: Gcs,
    /// Azure.
    pub azure: Azure,
}

/// `storage.trace.local`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Local {
    /// The folder.
    pub path: PathBuf,
}

impl Default for Local {
    fn default() -> Self {
        Self { path: "data/traces/blocks".into() }
    }
}

/// `storage.trace.wal`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Wal {
    /// The folder.
    pub path: PathBuf,
}

impl Default for Wal {
    fn default() -> Self {
        Self { path: "data/traces/wal".into() }
    }
}

/// `storage.trace.s3`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct S3 {
    /// Bucket.
    pub bucket: String,
    /// Path in the bucket.
    pub prefix: String,
    /// Host and port.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// Access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: Secret,
    /// Plain HTTP.
    pub insecure: bool,
    /// `endpoint/bucket` instead of `bucket.endpoint`.
    pub forcepathstyle: bool,
}

/// `storage.trace.gcs`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Gcs {
    /// Bucket.
    pub bucket_name: String,
    /// Path in the bucket.
    pub prefix: String,
}

/// `storage.trace.azure`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Azure {
    /// Container.
    pub container_name: String,
    /// Path in the container.
    pub prefix: String,
    /// Account.
    pub storage_account_name: String,
    /// Its key.
    pub storage_account_key: Secret,
}

/// `overrides`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// For all tenants.
    pub defaults: OverrideDefaults,
}

/// `overrides.defaults`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OverrideDefaults {
    /// Limits that hold everywhere.
    pub global: GlobalLimits,
    /// Limits of reading.
    pub read: ReadLimits,
}

/// `overrides.defaults.global`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct GlobalLimits {
    /// A trace larger than this is answered in part; 0 for no limit.
    pub max_bytes_per_trace: ByteSize,
}

impl Default for GlobalLimits {
    fn default() -> Self {
        Self { max_bytes_per_trace: ByteSize(5_000_000) }
    }
}

/// `overrides.defaults.read`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadLimits {
    /// The values of a tag are cut at this size.
    pub max_bytes_per_tag_values_query: ByteSize,
    /// Trace ids in search answers keep their leading zeros.
    pub left_pad_trace_ids: bool,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { max_bytes_per_tag_values_query: ByteSize(1_000_000), left_pad_trace_ids: false }
    }
}

/// Sections and keys of Tempo 2.x and 3.x that have no meaning here, or none yet.
const UNNEEDED: &[&str] = &[
    "target",
    "autocomplete_filtering_enabled",
    "use_otel_tracer",
    "enable_go_runtime_metrics",
    "shutdown_delay",
    "usage_report",
    "memberlist",
    "cache",
    "ingest",
    "internal_server",
    "ingester_client",
    "live_store",
    "live_store_client",
    "partition_ring",
    "block_builder",
    "backend_scheduler",
    "backend_scheduler_client",
    "backend_worker",
    "metrics_generator",
    "metrics_generator_client",
    "querier",
    "distributor.ring",
    "distributor.usage",
    "distributor.forwarders",
    "distributor.extend_writes",
    "distributor.log_received_traces",
    "distributor.log_received_spans",
    "distributor.log_discarded_spans",
    "distributor.metric_received_spans",
    "distributor.override_ring_key",
    "distributor.retry_after_on_resource_exhausted",
    "distributor.max_span_attr_byte",
    "distributor.artificial_delay",
    "distributor.cost_attribution",
    "distributor.kafka_write_path_enabled",
    "distributor.receivers.jaeger",
    "distributor.receivers.zipkin",
    "distributor.receivers.kafka",
    "distributor.receivers.opencensus",
    "distributor.receivers.otlp.protocols.grpc.transport",
    "distributor.receivers.otlp.protocols.grpc.keepalive",
    "distributor.receivers.otlp.protocols.grpc.include_metadata",
    "distributor.receivers.otlp.protocols.grpc.auth",
    "distributor.receivers.otlp.protocols.grpc.max_concurrent_streams",
    "distributor.receivers.otlp.protocols.grpc.read_buffer_size",
    "distributor.receivers.otlp.protocols.grpc.write_buffer_size",
    "distributor.receivers.otlp.protocols.http.cors",
    "distributor.receivers.otlp.protocols.http.include_metadata",
    "distributor.receivers.otlp.protocols.http.auth",
    "distributor.receivers.otlp.protocols.http.response_headers",
    "distributor.receivers.otlp.protocols.http.compression_algorithms",
    "distributor.receivers.otlp.protocols.http.traces_url_path",
    "ingester.lifecycler",
    "ingester.trace_idle_period",
    "ingester.trace_live_period",
    "ingester.flush_check_period",
    "ingester.flush_op_timeout",
    "ingester.flush_all_on_shutdown",
    "ingester.complete_block_timeout",
    "ingester.concurrent_flushes",
    "ingester.override_ring_key",
    "ingester.autocomplete_filtering_enabled",
    "query_frontend.max_outstanding_per_tenant",
    "query_frontend.max_batch_size",
    "query_frontend.max_retries",
    "query_frontend.multi_tenant_queries_enabled",
    "query_frontend.querier_forget_delay",
    "query_frontend.response_consumers",
    "query_frontend.trace_by_id",
    "query_frontend.query_end_cutoff",
    "query_frontend.api_timeout",
    "query_frontend.log_query_request_headers",
    "query_frontend.max_grpc_streaming_packet_size",
    "query_frontend.rf1_after",
    "query_frontend.url_deny_list",
    "query_frontend.weights",
    "query_frontend.mcp_server",
    "query_frontend.search.concurrent_jobs",
    "query_frontend.search.target_bytes_per_job",
    "query_frontend.search.query_backend_after",
    "query_frontend.search.query_ingesters_until",
    "query_frontend.search.ingester_shards",
    "query_frontend.search.most_recent_shards",
    "query_frontend.search.throughput_bytes_slo",
    "query_frontend.search.duration_slo",
    "query_frontend.search.metadata_slo",
    "query_frontend.metrics.concurrent_jobs",
    "query_frontend.metrics.target_bytes_per_job",
    "query_frontend.metrics.query_backend_after",
    "query_frontend.metrics.interval",
    "query_frontend.metrics.exemplars",
    "query_frontend.metrics.throughput_bytes_slo",
    "query_frontend.metrics.duration_slo",
    "query_frontend.metrics.streaming_shards",
    "query_frontend.metrics.max_query_intervals",
    "compactor.disabled",
    "compactor.ring",
    "compactor.override_ring_key",
    "compactor.compaction.compacted_block_retention",
    "compactor.compaction.compaction_window",
    "compactor.compaction.compaction_cycle",
    "compactor.compaction.max_compaction_objects",
    "compactor.compaction.max_block_bytes",
    "compactor.compaction.max_time_per_tenant",
    "compactor.compaction.retention_concurrency",
    "compactor.compaction.v2_in_buffer_bytes",
    "compactor.compaction.v2_out_buffer_bytes",
    "compactor.compaction.v2_prefetch_traces_count",
    "storage.trace.block",
    "storage.trace.pool",
    "storage.trace.search",
    "storage.trace.cache",
    "storage.trace.cache_min_compaction_level",
    "storage.trace.cache_max_block_age",
    "storage.trace.background_cache",
    "storage.trace.memcached",
    "storage.trace.redis",
    "storage.trace.blocklist_poll",
    "storage.trace.blocklist_poll_concurrency",
    "storage.trace.blocklist_poll_fallback",
    "storage.trace.blocklist_poll_tenant_index_builders",
    "storage.trace.blocklist_poll_tenant_concurrency",
    "storage.trace.blocklist_poll_stale_tenant_index",
    "storage.trace.blocklist_poll_jitter_ms",
    "storage.trace.blocklist_poll_tolerate_consecutive_errors",
    "storage.trace.blocklist_poll_tolerate_tenant_failures",
    "storage.trace.empty_tenant_deletion_age",
    "storage.trace.empty_tenant_deletion_enabled",
    "storage.trace.wal.completedfilepath",
    "storage.trace.wal.blocksfilepath",
    "storage.trace.wal.v2_encoding",
    "storage.trace.wal.search_encoding",
    "storage.trace.wal.version",
    "storage.trace.wal.ingestion_time_range_slack",
    "storage.trace.s3.session_token",
    "storage.trace.s3.enable_dual_stack",
    "storage.trace.s3.bucket_lookup_type",
    "storage.trace.s3.part_size",
    "storage.trace.s3.hedge_requests_at",
    "storage.trace.s3.hedge_requests_up_to",
    "storage.trace.s3.signature_v2",
    "storage.trace.s3.list_blocks_concurrency",
    "storage.trace.s3.native_aws_auth_enabled",
    "storage.trace.s3.checksum_type",
    "storage.trace.s3.tags",
    "storage.trace.s3.metadata",
    "storage.trace.s3.storage_class",
    "storage.trace.s3.sse",
    "storage.trace.s3.tls_cert_path",
    "storage.trace.s3.tls_key_path",
    "storage.trace.s3.tls_ca_path",
    "storage.trace.s3.tls_server_name",
    "storage.trace.s3.tls_insecure_skip_verify",
    "storage.trace.s3.tls_cipher_suites",
    "storage.trace.s3.tls_min_version",
    "storage.trace.gcs.chunk_buffer_size",
    "storage.trace.gcs.endpoint",
    "storage.trace.gcs.insecure",
    "storage.trace.gcs.hedge_requests_at",
    "storage.trace.gcs.hedge_requests_up_to",
    "storage.trace.gcs.object_cache_control",
    "storage.trace.gcs.object_metadata",
    "storage.trace.gcs.list_blocks_concurrency",
    "storage.trace.azure.endpoint_suffix",
    "storage.trace.azure.use_managed_identity",
    "storage.trace.azure.use_federated_token",
    "storage.trace.azure.user_assigned_id",
    "storage.trace.azure.max_buffers",
    "storage.trace.azure.buffer_size",
    "storage.trace.azure.hedge_requests_at",
    "storage.trace.azure.hedge_requests_up_to",
    "storage.trace.azure.use_v2_sdk",
    "overrides.per_tenant_override_config",
    "overrides.per_tenant_override_period",
    "overrides.user_configurable_overrides",
    "overrides.defaults.ingestion",
    "overrides.defaults.compaction",
    "overrides.defaults.metrics_generator",
    "overrides.defaults.forwarders",
    "overrides.defaults.storage",
    "overrides.defaults.cost_attribution",
    "overrides.defaults.read.max_search_duration",
    "overrides.defaults.read.max_metrics_duration",
    "overrides.defaults.read.max_blocks_per_tag_values_query",
    "overrides.defaults.read.max_condition_groups_per_tag_query",
    "overrides.defaults.read.unsafe_query_hints",
    "overrides.defaults.read.metrics_spanonly_fetch",
    "overrides.ingestion_rate_strategy",
    "overrides.ingestion_rate_limit_bytes",
    "overrides.ingestion_burst_size_bytes",
    "overrides.ingestion_max_attribute_bytes",
    "overrides.max_traces_per_user",
    "overrides.max_global_traces_per_user",
    "overrides.max_bytes_per_trace",
    "overrides.max_search_bytes_per_trace",
    "overrides.max_bytes_per_tag_values_query",
    "overrides.max_blocks_per_tag_values_query",
    "overrides.max_search_duration",
    "overrides.block_retention",
    "overrides.forwarders",
    "overrides.metrics_generator_processors",
    "overrides.metrics_generator_max_active_series",
    "overrides.metrics_generator_collection_interval",
    "overrides.metrics_generator_disable_collection",
    "overrides.metrics_generator_ring_size",
    "overrides.metrics_generator_forwarder_queue_size",
    "overrides.metrics_generator_forwarder_workers",
];

impl service::config::Config for Config {
    fn unneeded() -> Unneeded {
        Unneeded::new(UNNEEDED).with("server", ServerConfig::unneeded())
    }

    fn check(&self, problems: &mut Problems) {
        self.server.check("server", problems);
        if self.distributor.max_attribute_bytes.get() == 0 {
            problems.add("distributor.max_attribute_bytes", "must not be 0");
        }
        if self.ingester.max_block_duration.is_zero() {
            problems.add("ingester.max_block_duration", "must not be 0");
        }
        if self.ingester.max_block_bytes.get() < 1 << 20 {
            problems.add("ingester.max_block_bytes", "must be at least 1MB");
        }
        let storage = &self.storage.trace;
        let needed = match storage.backend {
            Backend::Local => (storage.local.path.as_os_str().is_empty(), "storage.trace.local.path"),
            Backend::S3 => (storage.s3.bucket.is_empty(), "storage.trace.s3.bucket"),
            Backend::Gcs => (storage.gcs.bucket_name.is_empty(), "storage.trace.gcs.bucket_name"),
            Backend::Azure => (storage.azure.container_name.is_empty(), "storage.trace.azure.container_name"),
        };
        if needed.0 {
            problems.add(needed.1, "is required by storage.trace.backend");
        }
        if storage.wal.path.as_os_str().is_empty() {
            problems.add("storage.trace.wal.path", "must not be empty");
        }
    }

    fn logging(&self) -> Logging {
        self.server.logging()
    }

    fn grace(&self) -> std::time::Duration {
        self.server.graceful_shutdown_timeout.get()
    }
}

impl Config {
    /// Keeps everything under one folder.
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        self.storage.trace.local.path = folder.join("blocks");
        self.storage.trace.wal.path = folder.join("wal");
        self
    }

    /// What listens for OTLP.
    pub fn protocols(&self) -> Protocols {
        match &self.distributor.receivers.0 {
            None => Protocols { grpc: Present(Some(Grpc::default())), http: Present(Some(Http::default())) },
            Some(receivers) => receivers.otlp.0.clone().unwrap_or_default().protocols,
        }
    }

    /// The object store.
    pub fn blob(&self) -> BlobConfig {
        let storage = &self.storage.trace;
        let given = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        match storage.backend {
            Backend::Local => BlobConfig::Local(LocalConfig { dir: storage.local.path.clone() }),
            Backend::S3 => {
                let s3 = &storage.s3;
                let scheme = if s3.insecure { "http" } else { "https" };
                let url = |host: String| if host.contains("://") { host } else { format!("{scheme}://{host}") };
                BlobConfig::S3(S3Config {
                    bucket: s3.bucket.clone(),
                    prefix: s3.prefix.clone(),
                    region: given(&s3.region),
                    endpoint: given(&s3.endpoint).map(url),
                    access_key_id: given(&s3.access_key),
                    secret_access_key: given(s3.secret_key.reveal()),
                    allow_http: s3.insecure,
                    virtual_hosted_style: !s3.forcepathstyle && s3.endpoint.contains("amazonaws.com"),
                })
            }
            Backend::Gcs => BlobConfig::Gcs(GcsConfig {
                bucket: storage.gcs.bucket_name.clone(),
                prefix: storage.gcs.prefix.clone(),
                service_account_path: None,
            }),
            Backend::Azure => BlobConfig::Azure(AzureConfig {
                account: storage.azure.storage_account_name.clone(),
                container: storage.azure.container_name.clone(),
                prefix: storage.azure.prefix.clone(),
                access_key: given(storage.azure.storage_account_key.reveal()),
                ..AzureConfig::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<service::config::Loaded<Config>, Problems> {
        service::config::from_text(text)
    }

    #[test]
    fn receivers() {
        let both = load("{}").unwrap().config.protocols();
        assert_eq!(both.grpc.0.unwrap().endpoint, "127.0.0.1:4317");
        assert_eq!(both.http.0.unwrap().endpoint, "127.0.0.1:4318");
        let text = "distributor: {receivers: {otlp: {protocols: {grpc: {endpoint: '0.0.0.0:4319'}}}}}";
        let one = load(text).unwrap().config.protocols();
        assert_eq!(one.grpc.0.unwrap().endpoint, "0.0.0.0:4319");
        assert!(one.http.0.is_none());
        let bare = load("distributor: {receivers: {otlp: {protocols: {http: }}}}").unwrap().config.protocols();
        assert!(bare.http.0.is_some() && bare.grpc.0.is_none());
    }

    #[test]
    fn known_but_unneeded_keys_are_named_and_unknown_ones_refused() {
        let loaded = load("usage_report: {reporting_enabled: false}\nmemberlist: {bind_port: 1}").unwrap();
        assert_eq!(loaded.unneeded, ["memberlist", "usage_report"]);
        assert!(load("storage: {trace: {lokal: {path: x}}}").is_err());
        assert!(load("compactor: {compaction: {block_retention: soon}}").is_err());
        assert!(load("storage: {trace: {backend: s3}}").is_err());
    }

    #[test]
    fn configurations_found_in_the_wild_load() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures");
        let Ok(files) = std::fs::read_dir(folder) else {
            eprintln!("no fixtures at {folder}: nothing checked");
            return;
        };
        let names = files.map(|f| f.unwrap().path());
        for path in names.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("tempo-")) {
            let loaded = load(&std::fs::read_to_string(&path).unwrap());
            let config = loaded.unwrap_or_else(|problems| panic!("{}: {problems}", path.display())).config;
            assert_eq!(config.protocols().grpc.0.unwrap().endpoint, "0.0.0.0:4319");
            assert_eq!(config.storage.trace.wal.path, PathBuf::from("/var/lib/tempo/wal"));
        }
    }
}
