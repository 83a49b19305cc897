//! The configuration: Loki's file, of which we obey what has a meaning here.
//!
//! Without a file the service listens on 127.0.0.1:3100, keeps its data in `./data/logs` and has the one tenant `fake`.

use std::path::{Path, PathBuf};

use blob::{BlobConfig, GcsConfig, LocalConfig, S3Config};
use block::StoreOptions;
use serde::{Deserialize, Serialize};
use service::ServerConfig;
use service::config::{ByteSize, Duration, Logging, Problems, Secret, Unneeded};

use crate::bucket::{SchemaConfig, ThanosConfig};
use crate::compact::CompactorConfig;
use crate::limits::Limits;
use crate::patterns::PatternConfig;
use crate::ruler::config::{RulerConfig, RulerStorage};
use crate::runtime_config::RuntimeConfigFile;

/// The root of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Roles, as `-target` has them; the flag wins.
    pub target: String,
    /// Whether requests must name their tenant in `X-Scope-OrgID`. If not, all belong to the tenant `fake`. Absent means what Loki
    /// means, true, in a file; without any file it means false.
    pub auth_enabled: Option<bool>,
    /// Listeners and their bounds.
    pub server: ServerConfig,
    /// Settings shared by parts.
    pub common: CommonConfig,
    /// What tenants may send and ask.
    pub limits_config: Limits,
    /// Where blocks are kept, if not under `common`.
    pub storage_config: StorageConfig,
    /// The head.
    pub ingester: IngesterConfig,
    /// Ingest.
    pub distributor: DistributorConfig,
    /// Queries.
    pub querier: QuerierConfig,
    /// Merging, retention and deletes.
    pub compactor: CompactorConfig,
    /// Rules.
    pub ruler: RulerConfig,
    /// Where rules are, by newer names.
    pub ruler_storage: RulerStorage,
    /// Log patterns.
    pub pattern_ingester: PatternConfig,
    /// Limits of single tenants, from a file that is read again when it changes.
    pub runtime_config: RuntimeConfigFile,
    /// Of Loki's schemas the store that the last one names.
    pub schema_config: SchemaConfig,
}

/// Loki's `common`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommonConfig {
    /// A folder for everything: data goes to `timberline` in it.
    pub path_prefix: String,
    /// Where blocks are kept.
    pub storage: StorageConfig,
}

/// One of the object stores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageConfig {
    /// A local folder.
    pub filesystem: Option<FilesystemConfig>,
    /// Amazon S3 and what speaks its protocol.
    pub s3: Option<S3>,
    /// The older name of `s3`.
    pub aws: Option<S3>,
    /// Google Cloud Storage.
    pub gcs: Option<Gcs>,
    /// Azure Blob Storage.
    pub azure: Option<Azure>,
    /// Use `object_store` instead of the keys above.
    pub use_thanos_objstore: bool,
    /// The stores by the names of their newer form.
    pub object_store: ThanosConfig,
}

/// A local folder. With Loki's own folders named, ours is `timberline` in them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilesystemConfig {
    /// The folder, in `storage_config`.
    pub directory: String,
    /// The folder, in `common.storage`.
    pub chunks_directory: String,
    /// Rules in files, in `common.storage`.
    pub rules_directory: String,
}

/// Loki's S3 keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct S3 {
    /// `s3://key:secret@region/bucket`, as an alternative to the keys below.
    pub s3: String,
    /// The bucket; of several the first.
    pub bucketnames: String,
    /// The endpoint of another store than Amazon's.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// The access key's id; without one the environment's credentials are used.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: Secret,
    /// Use `http://` for an endpoint without a scheme.
    pub insecure: bool,
    /// `https://endpoint/bucket` instead of `https://bucket.endpoint`.
    pub s3forcepathstyle: bool,
}

/// Loki's GCS keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gcs {
    /// The bucket.
    pub bucket_name: String,
}

/// Loki's Azure keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Azure {
    /// The storage account.
    pub account_name: String,
    /// Its key.
    pub account_key: Secret,
    /// The container.
    pub container_name: String,
    /// The suffix of another cloud's endpoint.
    pub endpoint_suffix: String,
}

/// Loki's `ingester`, as far as a head and an ingest log have such things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngesterConfig {
    /// The ingest log.
    pub wal: WalConfig,
    /// A tenant's head whose oldest row came this long ago is made into a block. (Loki: 2h, for chunks)
    pub max_chunk_age: Duration,
    /// A tenant's head of this size is made into a block. (Ours.)
    pub head_max_size: ByteSize,
    /// Pushes are refused while this much is in no block. (Ours.)
    pub unflushed_max_size: ByteSize,
}

/// The ingest log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WalConfig {
    /// Its folder; by default `wal` beside the blocks.
    pub dir: String,
}

/// Loki's `distributor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DistributorConfig {
    /// Largest body as sent.
    pub max_recv_msg_size: ByteSize,
    /// Largest body after decompression. (Loki: 5000MB)
    pub max_decompressed_size: ByteSize,
}

/// Loki's `querier`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuerierConfig {
    /// Parts of queries evaluated at the same time; 0 for the number of cores. (Loki: 4)
    pub max_concurrent: usize,
    /// Whether `X-Scope-OrgID` may name several tenants, with `|` between them.
    pub multi_tenant_queries_enabled: bool,
    /// After this long a live tail is ended.
    pub tail_max_duration: Duration,
}

impl Default for QuerierConfig {
    fn default() -> Self {
        Self {
            max_concurrent: 0,
            multi_tenant_queries_enabled: false,
            tail_max_duration: Duration::from_secs(3600),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: "all".to_owned(),
            auth_enabled: None,
            server: ServerConfig::on_ports(3100, 9095),
            common: CommonConfig::default(),
            limits_config: Limits::default(),
            storage_config: StorageConfig::default(),
            ingester: IngesterConfig::default(),
            distributor: DistributorConfig::default(),
            querier: QuerierConfig::default(),
            compactor: CompactorConfig::default(),
            ruler: RulerConfig::default(),
            ruler_storage: RulerStorage::default(),
            pattern_ingester: PatternConfig::default(),
            runtime_config: RuntimeConfigFile::default(),
            schema_config: SchemaConfig::default(),
        }
    }
}

impl Default for IngesterConfig {
    fn default() -> Self {
        Self {
            wal: WalConfig::default(),
            max_chunk_age: Duration::from_secs(2 * 3600),
            head_max_size: ByteSize::mib(32),
            unflushed_max_size: ByteSize::mib(96),
        }
    }
}

impl Default for DistributorConfig {
    fn default() -> Self {
        Self { max_recv_msg_size: ByteSize::mib(100), max_decompressed_size: ByteSize::mib(512) }
    }
}

impl service::config::Config for Config {
    fn unneeded() -> Unneeded {
        Unneeded::new(UNNEEDED)
            .with("server", ServerConfig::unneeded())
            .with("limits_config", Limits::unneeded())
            .with("compactor", CompactorConfig::unneeded())
            .with("ruler", RulerConfig::unneeded())
            .with("ruler_storage", crate::ruler::config::storage_unneeded())
            .with("common.storage", StorageConfig::unneeded())
            .with("storage_config", StorageConfig::unneeded())
    }

    fn check(&self, problems: &mut Problems) {
        self.server.check("server", problems);
        self.limits_config.check("limits_config", problems);
        self.compactor.check("compactor", problems);
        self.ruler.check("ruler", problems);
        self.common.storage.check("common.storage", problems);
        self.storage_config.check("storage_config", problems);
        let buckets =
            [&self.common.storage, &self.storage_config].into_iter().filter_map(StorageConfig::blob);
        self.schema_config.check(&buckets.collect::<Vec<_>>(), problems);
        for (key, size) in [
            ("head_max_size", self.ingester.head_max_size),
            ("unflushed_max_size", self.ingester.unflushed_max_size),
        ] {
            if size.get() < 1 << 20 {
                problems.add(format!("ingester.{key}"), "must be at least 1MB");
            }
        }
        if !self.limits_config.retention_period.is_zero() && !self.compactor.retention_enabled {
            problems
                .warn("limits_config.retention_period: has no effect without compactor.retention_enabled");
        }
        if self.ingester.unflushed_max_size < self.ingester.head_max_size {
            problems.add("ingester.unflushed_max_size", "must not be less than ingester.head_max_size");
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
    /// The folder for what is on the local disk: the ingest log, and the blocks unless they are in a bucket.
    pub fn data_dir(&self) -> PathBuf {
        if !self.common.path_prefix.is_empty() {
            return Path::new(&self.common.path_prefix).join("timberline");
        }
        let folders =
            [&self.common.storage, &self.storage_config].into_iter().filter_map(|s| s.filesystem.as_ref());
        let thanos =
            [&self.common.storage, &self.storage_config].into_iter().filter(|s| s.use_thanos_objstore);
        let thanos = thanos.map(|storage| storage.object_store.filesystem.dir.as_str());
        match folders.map(FilesystemConfig::dir).chain(thanos).find(|dir| !dir.is_empty()) {
            Some(dir) => Path::new(dir).join("timberline"),
            None => PathBuf::from("data/logs"),
        }
    }

    /// Folders with rules in files; whether rules come from nowhere else.
    pub fn rule_files(&self) -> (Vec<String>, bool) {
        let (old, new) = (&self.ruler.storage, &self.ruler_storage);
        let only = old.kind == "local" || new.backend == "local";
        let named = [&old.local.directory, &new.local.directory].into_iter();
        let common =
            [&self.common.storage, &self.storage_config].into_iter().filter_map(|s| s.filesystem.as_ref());
        let mut folders: Vec<String> = named.filter(|_| only).cloned().collect();
        if !only {
            folders.extend(common.map(|filesystem| filesystem.rules_directory.clone()));
        }
        folders.retain(|folder| !folder.is_empty());
        (folders, only)
    }

    /// The folder of recorded samples.
    pub fn ruler_wal_dir(&self) -> PathBuf {
        match self.ruler.wal.dir.as_str() {
            "" => self.data_dir().join("ruler-wal"),
            dir => PathBuf::from(dir).join("timberline"),
        }
    }

    /// The folder of the ingest log.
    pub fn wal_dir(&self) -> PathBuf {
        match self.ingester.wal.dir.as_str() {
            "" => self.data_dir().join("wal"),
            dir => PathBuf::from(dir).join("timberline"),
        }
    }

    /// The bucket.
    pub fn blob(&self) -> BlobConfig {
        let local = || BlobConfig::Local(LocalConfig { dir: self.data_dir().join("blocks") });
        if self.schema_config.object_store() == Some("filesystem") {
            return local();
        }
        self.common.storage.blob().or_else(|| self.storage_config.blob()).unwrap_or_else(local)
    }

    /// The bounds of the store.
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions {
            head_max_bytes: self.ingester.head_max_size.as_usize(),
            head_max_age: self.ingester.max_chunk_age.get(),
            max_unflushed_bytes: self.ingester.unflushed_max_size.as_usize(),
            removed_grace: self.compactor.retention_delete_delay.get(),
            ..StoreOptions::default()
        }
    }
}

impl FilesystemConfig {
    fn dir(&self) -> &str {
        if self.directory.is_empty() { &self.chunks_directory } else { &self.directory }
    }
}

impl StorageConfig {
    fn unneeded() -> Unneeded {
        Unneeded::new(STORAGE_UNNEEDED).with("object_store", ThanosConfig::unneeded())
    }

    fn check(&self, path: &str, problems: &mut Problems) {
        self.object_store.check(&format!("{path}.object_store"), problems);
        for (key, s3) in [("s3", &self.s3), ("aws", &self.aws)] {
            let Some(s3) = s3 else { continue };
            if let Err(problem) = s3.blob() {
                problems.add(format!("{path}.{key}"), problem);
            }
        }
    }

    /// The bucket that is configured here, if one is.
    fn blob(&self) -> Option<BlobConfig> {
        if self.use_thanos_objstore {
            return self.object_store.blob();
        }
        if let Some(s3) = self.s3.as_ref().or(self.aws.as_ref()) {
            return s3.blob().ok();
        }
        if let Some(gcs) = &self.gcs {
            return Some(BlobConfig::Gcs(GcsConfig {
                bucket: gcs.bucket_name.clone(),
                ..GcsConfig::default()
            }));
        }
        let azure = self.azure.as_ref()?;
        let key = azure.account_key.reveal();
        Some(BlobConfig::Azure(blob::AzureConfig {
            account: azure.account_name.clone(),
            container: azure.container_name.clone(),
            access_key: (!key.is_empty()).then(|| key.to_owned()),
            endpoint: (!azure.endpoint_suffix.is_empty())
                .then(|| format!("https://{}.{}", azure.account_name, azure.endpoint_suffix)),
            ..blob::AzureConfig::default()
        }))
    }
}

impl S3 {
    /// The bucket, or what is missing.
    fn blob(&self) -> Result<BlobConfig, String> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut config = S3Config {
            bucket: self.bucketnames.split(',').next().unwrap_or_default().trim().to_owned(),
            region: some(&self.region),
            endpoint: some(&self.endpoint),
            access_key_id: some(&self.access_key_id),
            secret_access_key: some(self.secret_access_key.reveal()),
            virtual_hosted_style: !self.s3forcepathstyle && self.endpoint.is_empty(),
            ..S3Config::default()
        };
        if let Some(rest) = self.s3.strip_prefix("s3://") {
            let (credentials, place) = rest.rsplit_once('@').unwrap_or(("", rest));
            let (host, bucket) =
                place.split_once('/').ok_or_else(|| format!("`{}` names no bucket", self.s3))?;
            if let Some((id, secret)) = credentials.split_once(':') {
                config.access_key_id = some(id);
                config.secret_access_key = some(secret);
            }
            if host.contains('.') || host.contains(':') {
                config.endpoint = some(host);
            } else {
                config.region = some(host);
            }
            config.bucket = bucket.to_owned();
        }
        if config.bucket.is_empty() {
            return Err("names no bucket: set `bucketnames`".to_owned());
        }
        if let Some(endpoint) = config.endpoint.as_mut().filter(|e| !e.contains("://")) {
            let scheme = if self.insecure { "http" } else { "https" };
            *endpoint = format!("{scheme}://{endpoint}");
        }
        config.allow_http = config.endpoint.as_ref().is_some_and(|e| e.starts_with("http://"));
        Ok(BlobConfig::S3(config))
    }
}

/// Loki's keys that mean nothing here.
const UNNEEDED: &[&str] = &[
    "ballast_bytes",
    "shutdown_delay",
    "metrics_namespace",
    "http_prefix",
    "ui",
    "query_scheduler",
    "frontend",
    "frontend_worker",
    "query_range",
    "query_engine",
    "ingester_client",
    "ingester_rf1",
    "block_builder",
    "block_scheduler",
    "index_gateway",
    "bloom_build",
    "bloom_compactor",
    "bloom_gateway",
    "chunk_store_config",
    "compactor_grpc_client",
    "compactor_client",
    "limits_fields",
    "table_manager",
    "memberlist",
    "memberlist_kv",
    "kafka_config",
    "dataobj",
    "dataobj_explorer",
    "overrides_exporter",
    "operational_config",
    "tenant_limits",
    "tracing",
    "analytics",
    "profiling",
    "worker",
    "metastore",
    "metastore_client",
    "ingest_limits",
    "ingest_limits_frontend",
    "ingest_limits_frontend_client",
    "common.compactor_address",
    "common.compactor_grpc_address",
    "common.instance_addr",
    "common.instance_enable_ipv6",
    "common.instance_interface_names",
    "common.replication_factor",
    "common.persist_tokens",
    "common.ring",
    "common.storage.hedging",
    "common.storage.congestion_control",
    "storage_config.alibabacloud",
    "storage_config.aws_storage_config",
    "storage_config.bigtable",
    "storage_config.bloom_shipper",
    "storage_config.boltdb",
    "storage_config.boltdb_shipper",
    "storage_config.cassandra",
    "storage_config.congestion_control",
    "storage_config.disable_broad_index_queries",
    "storage_config.grpc_store",
    "storage_config.hedging",
    "storage_config.index_cache_validity",
    "storage_config.index_queries_cache_config",
    "storage_config.max_chunk_batch_size",
    "storage_config.max_parallel_get_chunk",
    "storage_config.named_stores",
    "storage_config.object_prefix",
    "storage_config.tsdb_shipper",
    "distributor.ring",
    "distributor.ha_tracker",
    "distributor.push_worker_count",
    "distributor.rate_store",
    "distributor.write_failures_logging",
    "distributor.otlp_config",
    "distributor.tenant_topic",
    "distributor.kafka_writes_enabled",
    "distributor.ingester_writes_enabled",
    "distributor.ingest_limits_enabled",
    "distributor.ingest_limits_dry_run_enabled",
    "distributor.default_policy_stream_mappings",
    "ingester.lifecycler",
    "ingester.concurrent_flushes",
    "ingester.flush_check_period",
    "ingester.flush_op_backoff",
    "ingester.flush_op_timeout",
    "ingester.chunk_retain_period",
    "ingester.chunk_idle_period",
    "ingester.chunk_block_size",
    "ingester.chunk_target_size",
    "ingester.chunk_encoding",
    "ingester.max_transfer_retries",
    "ingester.autoforget_unhealthy",
    "ingester.sync_period",
    "ingester.sync_min_utilization",
    "ingester.max_returned_stream_errors",
    "ingester.query_store_max_look_back_period",
    "ingester.index_shards",
    "ingester.max_dropped_streams",
    "ingester.owned_streams_check_interval",
    "ingester.shutdown_marker_path",
    "ingester.kafka_ingestion",
    "ingester.wal.enabled",
    "ingester.wal.checkpoint_duration",
    "ingester.wal.flush_on_shutdown",
    "ingester.wal.replay_memory_ceiling",
    "querier.extra_query_delay",
    "querier.query_ingesters_within",
    "querier.engine",
    "querier.engine_v2",
    "querier.max_look_back_period",
    "querier.per_request_limits_enabled",
    "querier.query_ingester_only",
    "querier.query_partition_ingesters",
    "querier.query_store_only",
    "pattern_ingester.lifecycler",
    "pattern_ingester.client_config",
    "pattern_ingester.concurrent_flushes",
    "pattern_ingester.flush_check_period",
    "pattern_ingester.max_eviction_ratio",
    "pattern_ingester.metric_aggregation",
    "pattern_ingester.pattern_persistence",
    "pattern_ingester.tee_config",
    "pattern_ingester.connection_timeout",
    "pattern_ingester.max_allowed_line_length",
    "pattern_ingester.max_chunk_age",
    "pattern_ingester.chunk_samples",
    "pattern_ingester.volume_threshold",
    "schema_config.configs.*.from",
    "schema_config.configs.*.store",
    "schema_config.configs.*.schema",
    "schema_config.configs.*.index",
    "schema_config.configs.*.chunks",
    "schema_config.configs.*.row_shards",
];

/// Loki's storage keys that mean nothing here.
const STORAGE_UNNEEDED: &[&str] = &[
    "bos",
    "cos",
    "swift",
    "alibabacloud",
    "s3.sse",
    "s3.sse_encryption",
    "s3.signature_version",
    "s3.storage_class",
    "s3.session_token",
    "s3.http_config",
    "s3.backoff_config",
    "s3.disable_dualstack",
    "s3.sts_endpoint",
    "s3.part_size",
    "s3.send_content_md5",
    "s3.native_aws_auth_enabled",
    "s3.list_objects_version",
    "s3.dualstack_enabled",
    "s3.bucket_lookup_type",
    "s3.trace",
    "s3.max_retries",
    "aws.sse",
    "aws.sse_encryption",
    "aws.signature_version",
    "aws.storage_class",
    "aws.session_token",
    "aws.http_config",
    "aws.backoff_config",
    "aws.disable_dualstack",
    "aws.sts_endpoint",
    "aws.dynamodb",
    "gcs.service_account",
    "gcs.chunk_buffer_size",
    "gcs.request_timeout",
    "gcs.enable_opencensus",
    "gcs.enable_http2",
    "gcs.enable_retries",
    "gcs.hedging",
    "gcs.max_retries",
    "gcs.http",
    "azure.environment",
    "azure.connection_string",
    "azure.use_managed_identity",
    "azure.use_federated_token",
    "azure.user_assigned_id",
    "azure.use_service_principal",
    "azure.client_id",
    "azure.client_secret",
    "azure.tenant_id",
    "azure.chunk_delimiter",
    "azure.download_buffer_size",
    "azure.upload_buffer_size",
    "azure.upload_buffer_count",
    "azure.request_timeout",
    "azure.max_retries",
    "azure.min_retry_delay",
    "azure.max_retry_delay",
    "azure.hedging",
    "azure.http",
    "azure.sas_token",
];

#[cfg(test)]
mod tests {
    use super::*;
    use service::config::from_text;

    #[test]
    fn data_goes_where_the_file_says() {
        let check = |yaml: &str, data: &str, wal: &str| {
            let config = from_text::<Config>(yaml).unwrap().config;
            assert_eq!((config.data_dir(), config.wal_dir()), (data.into(), wal.into()), "{yaml}");
        };
        check("", "data/logs", "data/logs/wal");
        check("common: {path_prefix: /loki}", "/loki/timberline", "/loki/timberline/wal");
        check("storage_config: {filesystem: {directory: /c}}", "/c/timberline", "/c/timberline/wal");
        check("ingester: {wal: {dir: /w}}", "data/logs", "/w/timberline");
    }

    #[test]
    fn buckets() {
        let yaml = "common: {storage: {s3: {s3: 's3://id:key@minio:9000/logs', insecure: true, s3forcepathstyle: true}}}";
        let BlobConfig::S3(s3) = from_text::<Config>(yaml).unwrap().config.blob() else { panic!() };
        assert_eq!((s3.bucket.as_str(), s3.endpoint.as_deref()), ("logs", Some("http://minio:9000")));
        assert!(s3.allow_http && !s3.virtual_hosted_style);
        assert!(from_text::<Config>("storage_config: {aws: {region: x}}").is_err());
    }

    #[test]
    fn files_of_users_load() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
        for name in ["loki-2.9-boltdb.yaml", "loki-3-otlp.yaml"] {
            let Ok(text) = std::fs::read_to_string(shared.join(name)) else {
                eprintln!("{name} is not here: skipped");
                continue;
            };
            let loaded = from_text::<Config>(&text).unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert_eq!(loaded.config.data_dir(), Path::new("/loki/timberline"));
            assert!(!loaded.unneeded.is_empty());
        }
        assert!(from_text::<Config>("limits_config: {no_such_limit: 1}").is_err());
    }
}
