//! Loki's `limits_config`: what a tenant may send and ask.
//!
//! Names and meanings are Loki's. Defaults are Loki's too, except where a log store that keeps every acknowledged line needs no such
//! limit: rates (0 = unlimited here) and the refusal of old samples (off here). Nothing in here is secret: the limits of a tenant are
//! made by laying what the overrides file says over the printed defaults.

use model::Timestamp;
use model::regex::Regex;
use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Duration, Problems, Unneeded};

use crate::ingest::level::LevelFields;
use crate::ingest::names::SERVICE_LABELS;
use crate::ingest::otlp::OtlpConfig;
use crate::ruler::config::AlertmanagerConfig;

/// What becomes of delete requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletionMode {
    /// Refused.
    Disabled,
    /// Hides the lines from queries.
    FilterOnly,
    /// Hides the lines, and removes them when blocks are rewritten.
    #[default]
    FilterAndDelete,
}

/// How long the entries of some streams are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionStream {
    /// Which streams, such as `{namespace="dev"}`.
    pub selector: String,
    /// Of several rules that fit a stream the highest holds.
    pub priority: i32,
    /// How long their entries are kept.
    pub period: Duration,
}

/// Queries that are refused: those with this text, this hash, or that match this expression.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockedQuery {
    /// The query's text; with `regex` an expression over all of it. Empty for every query.
    pub pattern: String,
    /// Whether `pattern` is a regular expression.
    pub regex: bool,
    /// 32-bit FNV-1 hash of the text, as Loki logs it; 0 for none.
    pub hash: u32,
    /// `metric`, `filter` (lines are filtered) or `limited` (they are not); none for all.
    pub types: Vec<String>,
}

/// Texts with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommaList(String);

impl From<&str> for CommaList {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl CommaList {
    /// The texts, without blanks around them and without empty ones.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').map(str::trim).filter(|text| !text.is_empty())
    }
}

/// Limits of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// MiB per second of lines and metadata of a tenant; 0 for no limit (Loki: 4).
    pub ingestion_rate_mb: f64,
    /// MiB that may come at once.
    pub ingestion_burst_size_mb: f64,
    /// Bytes per second of one stream; 0 for no limit (Loki: 3MB).
    pub per_stream_rate_limit: ByteSize,
    /// Bytes of one stream that may come at once.
    pub per_stream_rate_limit_burst: ByteSize,
    /// Streams of a tenant that are active at a time; 0 for no limit.
    pub max_global_streams_per_user: usize,
    /// The same, by another name; the lower one holds.
    pub max_streams_per_user: usize,
    /// Longest line; 0 for no limit.
    pub max_line_size: ByteSize,
    /// Cut longer lines instead of refusing them.
    pub max_line_size_truncate: bool,
    /// Put behind a line that was cut; counts towards its size.
    pub max_line_size_truncate_identifier: String,
    /// Most labels of a stream, `service_name` not counted.
    pub max_label_names_per_series: usize,
    /// Longest label name in bytes.
    pub max_label_name_length: usize,
    /// Longest label value in bytes.
    pub max_label_value_length: usize,
    /// Whether structured metadata is taken.
    pub allow_structured_metadata: bool,
    /// Most bytes of metadata names and values of an entry.
    pub max_structured_metadata_size: ByteSize,
    /// Most metadata of an entry.
    pub max_structured_metadata_entries_count: usize,
    /// Whether entries older than `reject_old_samples_max_age` are refused (Loki: true).
    pub reject_old_samples: bool,
    /// See `reject_old_samples`.
    pub reject_old_samples_max_age: Duration,
    /// How far in the future an entry may lie.
    pub creation_grace_period: Duration,
    /// Adds 1 ns to an entry at the time of the one before it in the same push.
    pub increment_duplicate_timestamp: bool,
    /// Labels that a stream without `service_name` takes it from; none to leave streams alone.
    pub discover_service_name: Vec<String>,
    /// Whether entries get `detected_level`.
    pub discover_log_levels: bool,
    /// Names of labels, metadata and members of lines that tell an entry's level, the most telling first.
    pub log_level_fields: LevelFields,
    /// How deep the members of a JSON line are searched for a level; 0 for no limit.
    pub log_level_from_json_max_depth: usize,
    /// Labels that every stream must have.
    pub enforced_labels: Vec<String>,
    /// How OTLP attributes are mapped.
    pub otlp_config: OtlpConfig,
    /// Pushes are refused until this time, as RFC 3339; empty to take them.
    pub block_ingestion_until: String,
    /// The status of that refusal; with 200 the data is dropped in silence.
    pub block_ingestion_status_code: u16,
    /// JSON members whose text patterns are found in.
    pub pattern_ingester_tokenizable_json_fields_default: CommaList,
    /// Members beside those.
    pub pattern_ingester_tokenizable_json_fields_append: CommaList,
    /// Members that are not, though they stand in the other lists.
    pub pattern_ingester_tokenizable_json_fields_delete: CommaList,

    /// Most entries of an answer; 0 for no limit.
    pub max_entries_limit_per_query: usize,
    /// Longest range of a query; 0 for no limit.
    pub max_query_length: Duration,
    /// How far back queries see; 0 for everything.
    pub max_query_lookback: Duration,
    /// Longest range of a range vector; 0 for no limit.
    pub max_query_range: Duration,
    /// Most series of an answer.
    pub max_query_series: usize,
    /// Most matchers of a query's selectors.
    pub max_streams_matchers_per_query: usize,
    /// Most tails of the tenant at a time; 0 for no limit.
    pub max_concurrent_tail_requests: usize,
    /// Longest time of a query.
    pub query_timeout: Duration,
    /// Most bytes of lines that a query may read; 0 for no limit.
    pub max_query_bytes_read: ByteSize,
    /// Labels that every selector must name.
    pub required_labels: Vec<String>,
    /// How many labels every selector must name.
    pub minimum_labels_number: usize,
    /// Queries that are refused.
    pub blocked_queries: Vec<BlockedQuery>,
    /// Whether the volume endpoints answer.
    pub volume_enabled: bool,
    /// Most series of a volume answer.
    pub volume_max_series: usize,
    /// How long entries are kept; 0 for ever. Applied by the compactor.
    pub retention_period: Duration,
    /// How long entries of some streams are kept instead.
    pub retention_stream: Vec<RetentionStream>,
    /// What becomes of delete requests.
    pub deletion_mode: DeletionMode,
    /// Most rules of a group; 0 for no limit.
    pub ruler_max_rules_per_rule_group: usize,
    /// Most groups of rules; 0 for no limit.
    pub ruler_max_rule_groups_per_tenant: usize,
    /// How far behind now rules look whose group does not say so.
    pub ruler_evaluation_delay_duration: Duration,
    /// Keeps what rules record from being sent.
    pub ruler_remote_write_disabled: bool,
    /// Alertmanagers instead of the ruler's own.
    pub ruler_alertmanager_config: Option<AlertmanagerConfig>,

    /// Files with limits of single tenants, comma separated; `runtime_config.file` is the same by a newer name.
    pub per_tenant_override_config: String,
    /// How often those are looked at.
    pub per_tenant_override_period: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let day = 24 * 3600;
        Self {
            ingestion_rate_mb: 0.0,
            ingestion_burst_size_mb: 6.0,
            per_stream_rate_limit: ByteSize(0),
            per_stream_rate_limit_burst: ByteSize::mib(15),
            max_global_streams_per_user: 5000,
            max_streams_per_user: 0,
            max_line_size: ByteSize::kib(256),
            max_line_size_truncate: false,
            max_line_size_truncate_identifier: String::new(),
            max_label_names_per_series: 15,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            allow_structured_metadata: true,
            max_structured_metadata_size: ByteSize::kib(64),
            max_structured_metadata_entries_count: 128,
            reject_old_samples: false,
            reject_old_samples_max_age: Duration::from_secs(7 * day),
            creation_grace_period: Duration::from_secs(600),
            increment_duplicate_timestamp: false,
            discover_service_name: SERVICE_LABELS.iter().map(|name| (*name).to_owned()).collect(),
            discover_log_levels: true,
            log_level_fields: LevelFields::default(),
            log_level_from_json_max_depth: 2,
            enforced_labels: Vec::new(),
            otlp_config: OtlpConfig::default(),
            block_ingestion_until: String::new(),
            block_ingestion_status_code: 260,
            pattern_ingester_tokenizable_json_fields_default: CommaList::from(
                "log,message,msg,msg_,_msg,content",
            ),
            pattern_ingester_tokenizable_json_fields_append: CommaList::default(),
            pattern_ingester_tokenizable_json_fields_delete: CommaList::default(),
            max_entries_limit_per_query: 5000,
            max_query_length: Duration::from_secs(721 * 3600),
            max_query_lookback: Duration::default(),
            max_query_range: Duration::default(),
            max_query_series: 500,
            max_streams_matchers_per_query: 1000,
            max_concurrent_tail_requests: 10,
            query_timeout: Duration::from_secs(60),
            max_query_bytes_read: ByteSize(0),
            required_labels: Vec::new(),
            minimum_labels_number: 0,
            blocked_queries: Vec::new(),
            volume_enabled: true,
            volume_max_series: 1000,
            retention_period: Duration::default(),
            retention_stream: Vec::new(),
            deletion_mode: DeletionMode::default(),
            ruler_max_rules_per_rule_group: 0,
            ruler_max_rule_groups_per_tenant: 0,
            ruler_evaluation_delay_duration: Duration::default(),
            ruler_remote_write_disabled: false,
            ruler_alertmanager_config: None,
            per_tenant_override_config: String::new(),
            per_tenant_override_period: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Keys of Loki's that have no meaning here.
    pub fn unneeded() -> Unneeded {
        Unneeded::new(&[
            "ingestion_rate_strategy",
            "unordered_writes",
            "max_chunks_per_query",
            "max_query_parallelism",
            "tsdb_max_query_parallelism",
            "tsdb_max_bytes_per_shard",
            "tsdb_sharding_strategy",
            "tsdb_precompute_chunks",
            "cardinality_limit",
            "max_cache_freshness_per_query",
            "max_metadata_cache_freshness",
            "max_stats_cache_freshness",
            "max_queriers_per_tenant",
            "max_query_capacity",
            "query_ready_index_num_days",
            "split_queries_by_interval",
            "split_metadata_queries_by_interval",
            "split_recent_metadata_queries_by_interval",
            "recent_metadata_query_window",
            "split_instant_metric_queries_by_interval",
            "split_ingester_queries_by_interval",
            "min_sharding_lookback",
            "max_querier_bytes_read",
            "ruler_alertmanager_config.enable_alertmanager_discovery",
            "ruler_alertmanager_config.alertmanager_refresh_interval",
            "ruler_alertmanager_config.notification_queue_capacity",
            "ruler_alertmanager_config.notification_timeout",
            "ruler_alertmanager_config.alertmanager_client.tls_server_name",
            "ruler_alertmanager_config.alertmanager_client.tls_cipher_suites",
            "ruler_alertmanager_config.alertmanager_client.tls_min_version",
            "ruler_enable_wal_replay",
            "ruler_remote_evaluation_max_response_size",
            "ruler_remote_evaluation_timeout",
            "ruler_remote_write_config",
            "ruler_remote_write_headers",
            "ruler_remote_write_queue_batch_send_deadline",
            "ruler_remote_write_queue_capacity",
            "ruler_remote_write_queue_max_backoff",
            "ruler_remote_write_queue_max_samples_per_send",
            "ruler_remote_write_queue_max_shards",
            "ruler_remote_write_queue_min_backoff",
            "ruler_remote_write_queue_min_shards",
            "ruler_remote_write_queue_retry_on_ratelimit",
            "ruler_remote_write_relabel_configs",
            "ruler_remote_write_sigv4_config",
            "ruler_remote_write_timeout",
            "ruler_remote_write_url",
            "ruler_tenant_shard_size",
            "allow_deletes",
            "shard_streams",
            "policy_stream_mapping",
            "policy_override_limits",
            "policy_enforced_labels",
            "block_ingestion_policy_until",
            "block_scope_ingestion_until",
            "index_gateway_shard_size",
            "bloom_gateway_enable_filtering",
            "bloom_creation_enabled",
            "bloom_planning_strategy",
            "bloom_build_max_builders",
            "bloom_build_task_max_retries",
            "bloom_builder_response_timeout",
            "bloom_prefetch_blocks",
            "bloom_max_block_size",
            "bloom_max_bloom_size",
            "bloom_ngram_length",
            "bloom_ngram_skip",
            "bloom_false_positive_rate",
            "bloom_block_encoding",
            "bloom_split_series_keyspace_by",
            "bloom_build_task_target_series_chunk_size",
            "volume_max_series_per_query",
            "pattern_persistence_enabled",
            "pattern_rate_threshold",
            "persistence_granularity",
            "metric_aggregation_enabled",
            "max_metadata_entries",
            "s3_sse_type",
            "s3_sse_kms_key_id",
            "s3_sse_kms_encryption_context",
            "ingestion_partitions_tenant_shard_size",
            "enable_multi_variant_queries",
            "simulated_push_latency",
            "debug_engine_tasks",
            "debug_engine_streams",
            "discover_generic_fields",
            "query_timeout_per_tenant",
            "shard_aggregations",
            "reject_old_samples_policy",
            "log_push_request",
            "log_push_request_streams",
            "log_hash_of_label_set",
            "log_duplicate_metrics",
            "log_duplicate_stream_info",
            "limited_log_push_errors",
        ])
    }

    /// Checks what types cannot.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        for (key, value) in [
            ("ingestion_rate_mb", self.ingestion_rate_mb),
            ("ingestion_burst_size_mb", self.ingestion_burst_size_mb),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                problems.add(format!("{path}.{key}"), format!("must be a number of MiB, not {value}"));
            }
        }
        if !self.block_ingestion_until.is_empty() && self.blocked_until().is_none() {
            let text =
                format!("`{}` is no time: write it like 2026-01-31T12:00:00Z", self.block_ingestion_until);
            problems.add(format!("{path}.block_ingestion_until"), text);
        }
        if http::StatusCode::from_u16(self.block_ingestion_status_code).is_err() {
            problems.add(format!("{path}.block_ingestion_status_code"), "must be a status from 100 to 999");
        }
        for (i, blocked) in self.blocked_queries.iter().enumerate() {
            if blocked.regex
                && let Err(error) = Regex::anchored(&blocked.pattern)
            {
                problems.add(format!("{path}.blocked_queries[{i}].pattern"), error.to_string());
            }
        }
        for (i, rule) in self.retention_stream.iter().enumerate() {
            let selector = logql::parse(&rule.selector);
            if !matches!(&selector, Ok(logql::Expr::Log(log)) if log.stages.is_empty()) {
                let text = format!("`{}` is no selector: write it like {{namespace=\"dev\"}}", rule.selector);
                problems.add(format!("{path}.retention_stream[{i}].selector"), text);
            }
        }
        if self.query_timeout.is_zero() {
            problems.add(format!("{path}.query_timeout"), "must not be 0: no query could end in time");
        }
        self.otlp_config.check(&format!("{path}.otlp_config"), problems);
        if let Some(config) = &self.ruler_alertmanager_config {
            config.check(&format!("{path}.ruler_alertmanager_config"), problems);
        }
    }

    /// Until when pushes are refused.
    pub fn blocked_until(&self) -> Option<Timestamp> {
        let until: jiff::Timestamp = self.block_ingestion_until.parse().ok()?;
        i64::try_from(until.as_nanosecond()).ok().map(Timestamp)
    }

    /// JSON members whose text patterns are found in.
    pub fn pattern_fields(&self) -> Vec<String> {
        let own = &self.pattern_ingester_tokenizable_json_fields_default;
        let more = &self.pattern_ingester_tokenizable_json_fields_append;
        let fewer = &self.pattern_ingester_tokenizable_json_fields_delete;
        own.iter()
            .chain(more.iter())
            .filter(|field| !fewer.iter().any(|f| f == *field))
            .map(str::to_owned)
            .collect()
    }

    /// The most active streams, if there is a limit.
    pub fn max_streams(&self) -> Option<usize> {
        [self.max_global_streams_per_user, self.max_streams_per_user].into_iter().filter(|n| *n > 0).min()
    }
}
