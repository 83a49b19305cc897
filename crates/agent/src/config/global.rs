//! What of Promtail's file is about the agent as a whole: limits, watching of files, and keys that are there for old files'
//! sake. And the flags that set keys of the file.

use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Duration, Problems};

use super::Config;
use crate::positions::IdentifiedBy;

/// `target_config`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct TargetConfig {
    /// How often globs are looked at again.
    pub sync_period: Duration,
    /// Reads standard input rather than the targets, through the stages of the first job, and ends; as `-stdin` does.
    pub stdin: bool,
    /// Keeps on disk what listeners take in until every client has delivered it. Not one of Promtail's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolConfig>,
    /// Where files begin that are there when the agent first reads for their job. Not one of Promtail's keys.
    pub start_at: StartAt,
    /// Files that were not written to for so long are read once they are written to again; 0 is no limit. Not one of Promtail's keys.
    pub ignore_older: Duration,
    /// What a file is known by. Not one of Promtail's keys.
    pub identity: IdentifiedBy,
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(10),
            stdin: false,
            spool: None,
            start_at: StartAt::default(),
            ignore_older: Duration::default(),
            identity: IdentifiedBy::default(),
        }
    }
}

/// `target_config.start_at`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// At their beginnings.
    #[default]
    Beginning,
    /// At their ends.
    End,
}

/// `target_config.spool`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct SpoolConfig {
    /// The folder; each job that listens has one of its own in it.
    pub dir: String,
    /// Bytes on disk of all jobs together.
    pub max_bytes: ByteSize,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { dir: "./data/agent/spool".to_owned(), max_bytes: ByteSize::mib(1024) }
    }
}

impl SpoolConfig {
    /// Twice what listeners may have in memory, which is written at once.
    const MIN_BYTES: ByteSize = ByteSize::mib(8);
}

impl Config {
    /// How what listeners take in is kept on disk, if it is: `target_config.spool`, or Promtail's `wal`, which wants the same.
    pub fn spool(&self) -> Option<SpoolConfig> {
        let wal = self.wal.as_ref().filter(|wal| wal.enabled);
        let of_wal = |wal: &WalConfig| match wal.dir.as_str() {
            "" => SpoolConfig::default(),
            dir => SpoolConfig { dir: dir.to_owned(), ..SpoolConfig::default() },
        };
        self.target_config.spool.clone().or_else(|| wal.map(of_wal))
    }
}

/// `limits_config`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct LimitsConfig {
    /// Lines a second that go to the clients, over all targets.
    pub readline_rate: f64,
    /// Lines that may go at once.
    pub readline_burst: u32,
    /// Whether that rate holds.
    pub readline_rate_enabled: bool,
    /// Lines beyond the rate are dropped; otherwise reading waits.
    pub readline_rate_drop: bool,
    /// Streams with lines in the last five minutes; lines of more streams are dropped. 0 is no limit.
    pub max_streams: usize,
    /// Longer lines are dropped after the stages, or cut; 0 is no limit. Reading cuts lines at this, and at 1 MiB at least.
    pub max_line_size: ByteSize,
    /// Longer lines are cut.
    pub max_line_size_truncate: bool,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            readline_rate: 10_000.0,
            readline_burst: 10_000,
            readline_rate_enabled: false,
            readline_rate_drop: true,
            max_streams: 0,
            max_line_size: ByteSize::default(),
            max_line_size_truncate: false,
        }
    }
}

/// `global`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct GlobalConfig {
    /// How files are watched.
    pub file_watch_config: FileWatchConfig,
}

/// `global.file_watch_config`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct FileWatchConfig {
    /// Pause between two looks at a file that grows.
    pub min_poll_frequency: Duration,
    /// Longest pause between two looks at a file that does not.
    pub max_poll_frequency: Duration,
}

impl Default for FileWatchConfig {
    fn default() -> Self {
        Self {
            min_poll_frequency: Duration::from_millis(250),
            max_poll_frequency: Duration::from_millis(250),
        }
    }
}

/// `options`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct OptionsConfig {
    /// Deprecated in Promtail, without effect.
    pub stream_lag_labels: String,
}

/// `tracing`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TracingConfig {
    /// Without effect.
    pub enabled: bool,
}

/// `wal`: Promtail's name for a [`SpoolConfig`].
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct WalConfig {
    /// Whether there is a spool.
    pub enabled: bool,
    /// Its folder.
    pub dir: String,
    /// Without effect: lines are kept until they are delivered.
    #[serde(rename = "cleanSegmentsOlderThan")]
    pub clean_segments_older_than: Duration,
    /// Without effect: nothing is polled.
    #[serde(rename = "watchConfig")]
    pub watch_config: WalWatchConfig,
}

/// `wal.watchConfig`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct WalWatchConfig {
    /// Shortest pause.
    #[serde(rename = "minReadFrequency")]
    pub min_read_frequency: Duration,
    /// Longest pause.
    #[serde(rename = "maxReadFrequency")]
    pub max_read_frequency: Duration,
    /// Time to end in.
    #[serde(rename = "drainTimeout")]
    pub drain_timeout: Duration,
}

/// Checks what types cannot, and says why keys have no effect.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    let limits = &config.limits_config;
    if limits.readline_rate_enabled && !(limits.readline_rate > 0.0 && limits.readline_rate.is_finite()) {
        problems.add("limits_config.readline_rate", "must be more than 0");
    }
    if limits.readline_rate_enabled && limits.readline_burst == 0 {
        problems.add("limits_config.readline_burst", "must be more than 0: no line could pass");
    }
    if config.target_config.sync_period.is_zero() {
        problems.add("target_config.sync_period", "must not be 0");
    }
    if config.positions.sync_period.is_zero() {
        problems.add("positions.sync_period", "must not be 0");
    }
    let watch = &config.global.file_watch_config;
    if watch.min_poll_frequency.is_zero() || watch.max_poll_frequency < watch.min_poll_frequency {
        problems.add(
            "global.file_watch_config",
            "min_poll_frequency must be more than 0 and at most max_poll_frequency",
        );
    }
    if config.options.as_ref().is_some_and(|options| !options.stream_lag_labels.is_empty()) {
        problems.warn("options.stream_lag_labels is deprecated, and has no effect: remove it");
    }
    check_spool(config, problems);
    if config.tracing.as_ref().is_some_and(|tracing| tracing.enabled) {
        problems.warn(
            "tracing has no effect: the agent exports its own traces where OTEL_EXPORTER_OTLP_ENDPOINT is set",
        );
    }
}

fn check_spool(config: &Config, problems: &mut Problems) {
    if let Some(spool) = &config.target_config.spool {
        if spool.dir.is_empty() {
            problems.add("target_config.spool.dir", "must not be empty: write ./data/agent/spool, say");
        }
        if spool.max_bytes < SpoolConfig::MIN_BYTES {
            let text = format!("{} is less than {}", spool.max_bytes, SpoolConfig::MIN_BYTES);
            problems.add("target_config.spool.max_bytes", text);
        }
    }
    let Some(wal) = config.wal.as_ref().filter(|wal| wal.enabled) else { return };
    match &config.target_config.spool {
        Some(spool) if !wal.dir.is_empty() && wal.dir != spool.dir => {
            let text = format!(
                "'{}' is another folder than '{}' of target_config.spool.dir, which is the same: leave one of them out",
                wal.dir, spool.dir
            );
            problems.add("wal.dir", text);
        }
        _ => problems.warn(
            "wal is taken as target_config.spool: it keeps what listeners take in (files are their own queue); \
             cleanSegmentsOlderThan and watchConfig have no effect",
        ),
    }
}

/// The key that one of Promtail's flags sets.
pub(super) fn flag_path(flag: &str) -> String {
    match flag {
        "log.level" => "server.log_level",
        "log.format" => "server.log_format",
        "client.batch-size-bytes" => "client.batchsize",
        "client.batch-wait" => "client.batchwait",
        "client.min-backoff" => "client.backoff_config.min_period",
        "client.max-backoff" => "client.backoff_config.max_period",
        "client.max-retries" => "client.backoff_config.max_retries",
        "client.stream-lag-labels" => "options.stream_lag_labels",
        "positions.file" => "positions.filename",
        "target.sync-period" => "target_config.sync_period",
        "limit.readline-rate" => "limits_config.readline_rate",
        "limit.readline-burst" => "limits_config.readline_burst",
        "limit.readline-rate-enabled" => "limits_config.readline_rate_enabled",
        "limit.readline-rate-drop" => "limits_config.readline_rate_drop",
        "server.http-read-timeout" => "server.http_server_read_timeout",
        "server.http-write-timeout" => "server.http_server_write_timeout",
        "server.http-idle-timeout" => "server.http_server_idle_timeout",
        "server.grpc-max-recv-msg-size-bytes" => "server.grpc_server_max_recv_msg_size",
        "server.grpc-max-send-msg-size-bytes" => "server.grpc_server_max_send_msg_size",
        "server.grpc-max-concurrent-streams" => "server.grpc_server_max_concurrent_streams",
        "server.http-read-header-timeout" => "server.http_server_read_header_timeout",
        "server.path-prefix" => "server.http_path_prefix",
        "server.http-conn-limit" => "server.http_listen_conn_limit",
        "server.grpc-conn-limit" => "server.grpc_listen_conn_limit",
        "server.http-tls-cert-path" => "server.http_tls_config.cert_file",
        "server.http-tls-key-path" => "server.http_tls_config.key_file",
        "server.http-tls-ca-path" => "server.http_tls_config.client_ca_file",
        "server.http-tls-client-auth" => "server.http_tls_config.client_auth_type",
        "server.grpc-tls-cert-path" => "server.grpc_tls_config.cert_file",
        "server.grpc-tls-key-path" => "server.grpc_tls_config.key_file",
        "server.grpc-tls-ca-path" => "server.grpc_tls_config.client_ca_file",
        "server.grpc-tls-client-auth" => "server.grpc_tls_config.client_auth_type",
        "server.grpc.keepalive.max-connection-age" => "server.grpc_server_max_connection_age",
        "server.grpc.keepalive.max-connection-age-grace" => "server.grpc_server_max_connection_age_grace",
        "server.grpc.keepalive.max-connection-idle" => "server.grpc_server_max_connection_idle",
        "server.grpc.keepalive.min-time-between-pings" => "server.grpc_server_min_time_between_pings",
        "server.grpc.keepalive.ping-without-stream-allowed" => {
            "server.grpc_server_ping_without_stream_allowed"
        }
        "server.grpc.keepalive.time" => "server.grpc_server_keepalive_time",
        "server.grpc.keepalive.timeout" => "server.grpc_server_keepalive_timeout",
        "wal.cleaned-segments-older-than" => "wal.cleanSegmentsOlderThan",
        "file-watch-config.min-poll-frequency" => "global.file_watch_config.min_poll_frequency",
        "file-watch-config.max-poll-frequency" => "global.file_watch_config.max_poll_frequency",
        other => return other.replace('-', "_"),
    }
    .to_owned()
}

/// A flag's value as YAML: `a=b,c=d` of labels is a map, and what is a text may look like anything else.
pub(super) fn flag_value(flag: &str, value: &str) -> String {
    const TEXTS: [&str; 7] = [
        "client.tenant-id",
        "client.url",
        "log.level",
        "positions.file",
        "server.grpc-listen-address",
        "server.http-listen-address",
        "server.path-prefix",
    ];
    if TEXTS.contains(&flag) {
        return serde_json::Value::from(value).to_string();
    }
    if flag != "client.external-labels" {
        return value.to_owned();
    }
    let pairs = value.split(',').filter(|pair| !pair.is_empty());
    let labels = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.trim().to_owned(), serde_json::Value::from(value.trim()))
    });
    // JSON is YAML.
    serde_json::Value::Object(labels.collect()).to_string()
}
