//! The configuration, under Tempo's own key names.

use std::path::PathBuf;

use blob::{AzureConfig, BlobConfig, GcsConfig, LocalConfig, S3Config};
use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Duration, Logging, Present, Problems, Secret, Unneeded};
use service::{ServerConfig, TlsConfig};

use crate::unneeded::UNNEEDED;

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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// Blocks whose last span is older than this are removed; 0 keeps everything.
    pub block_retention: Duration,
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
        if !self.compactor.compaction.block_retention.is_zero() {
            problems.warn("compactor.compaction.block_retention: not built yet, nothing is deleted");
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
                let url =
                    |host: String| if host.contains("://") { host } else { format!("{scheme}://{host}") };
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
        let bare =
            load("distributor: {receivers: {otlp: {protocols: {http: }}}}").unwrap().config.protocols();
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
