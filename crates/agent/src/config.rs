//! Promtail's configuration file.

mod global;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use service::ServerConfig;
use service::config::{ByteSize, Duration, Logging, Problems, Secret, Unneeded, Value};

pub use self::global::{
    FileWatchConfig, GlobalConfig, LimitsConfig, OptionsConfig, TargetConfig, TracingConfig, WalConfig,
    WalWatchConfig,
};
pub use crate::discovery::{FileSdConfig, KubernetesSdConfig};
use crate::metrics::StageMetrics;
use crate::pipeline::Pipeline;
use crate::relabel::{Relabel, RelabelConfig};
pub use crate::tail::DecompressionConfig;
use crate::tail::Encoding;
use crate::targets::check;
pub use crate::targets::{GelfConfig, JournalConfig, PushApiConfig, SyslogConfig};

/// The whole file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// The agent's own pages and metrics.
    pub server: ServerConfig,
    /// Where lines go; each has a queue of its own.
    pub clients: Vec<ClientConfig>,
    /// Where lines go, in the older form for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientConfig>,
    /// What is remembered of files.
    pub positions: PositionsConfig,
    /// What is read.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// How targets are looked for.
    pub target_config: TargetConfig,
    /// Bounds.
    pub limits_config: LimitsConfig,
    /// How files are watched.
    pub global: GlobalConfig,
    /// Promtail's deprecated options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<OptionsConfig>,
    /// Promtail's own traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<TracingConfig>,
    /// Promtail's log on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_ports(9080, 9095),
            clients: Vec::new(),
            client: None,
            positions: PositionsConfig::default(),
            scrape_configs: Vec::new(),
            target_config: TargetConfig::default(),
            limits_config: LimitsConfig::default(),
            global: GlobalConfig::default(),
            options: None,
            tracing: None,
            wal: None,
        }
    }
}

/// One of `clients`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct ClientConfig {
    /// Full push URL, `http://host:3100/loki/api/v1/push`.
    pub url: String,
    /// Appears in logs and metrics.
    pub name: String,
    /// Sent as `X-Scope-OrgID` where a line has no tenant of its own.
    pub tenant_id: String,
    /// Longest time a line waits for others.
    pub batchwait: Duration,
    /// Bytes of lines and metadata in one request.
    pub batchsize: ByteSize,
    /// Pauses between tries.
    pub backoff_config: BackoffConfig,
    /// Drop lines that the store refuses because there are too many (429), rather than send them again.
    pub drop_rate_limited_batches: bool,
    /// Longest time of one request.
    pub timeout: Duration,
    /// Labels of every stream; a line's own win.
    pub external_labels: BTreeMap<String, String>,
    /// Headers of every request.
    pub headers: BTreeMap<String, Secret>,
    /// User and password.
    pub basic_auth: BasicAuthConfig,
    /// Token.
    pub bearer_token: Secret,
    /// File that holds the token.
    pub bearer_token_file: String,
    /// TLS towards the server.
    pub tls_config: TlsConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            name: String::new(),
            tenant_id: String::new(),
            batchwait: Duration::from_secs(1),
            batchsize: ByteSize::mib(1),
            backoff_config: BackoffConfig::default(),
            drop_rate_limited_batches: false,
            timeout: Duration::from_secs(10),
            external_labels: BTreeMap::new(),
            headers: BTreeMap::new(),
            basic_auth: BasicAuthConfig::default(),
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            tls_config: TlsConfig::default(),
        }
    }
}

/// `backoff_config` of a client.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct BackoffConfig {
    /// First pause.
    pub min_period: Duration,
    /// Longest pause.
    pub max_period: Duration,
    /// After so many tries lines are dropped. Without it, and with 0, they are sent until the store has them: files are the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            min_period: Duration::from_millis(500),
            max_period: Duration::from_secs(300),
            max_retries: None,
        }
    }
}

/// `basic_auth`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct BasicAuthConfig {
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// File that holds the password.
    pub password_file: String,
}

/// `tls_config` of a client.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TlsConfig {
    /// Authorities to trust, PEM.
    pub ca_file: String,
}

/// `positions`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct PositionsConfig {
    /// The file; what identifies files is kept beside it.
    pub filename: String,
    /// How often it is written.
    pub sync_period: Duration,
    /// Start from nothing where the file cannot be read, rather than not at all.
    pub ignore_invalid_yaml: bool,
}

impl Default for PositionsConfig {
    fn default() -> Self {
        Self {
            filename: "./data/agent/positions.yaml".to_owned(),
            sync_period: Duration::from_secs(10),
            ignore_invalid_yaml: false,
        }
    }
}

/// One of `scrape_configs`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ScrapeConfig {
    /// Unique name.
    pub job_name: String,
    /// What is done to each line.
    pub pipeline_stages: Value,
    /// What is done to each target's labels.
    pub relabel_configs: Vec<RelabelConfig>,
    /// How the text of files is written, by its name as IANA lists it; UTF-8 if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encoding: String,
    /// What is done with compressed files.
    pub decompression: DecompressionConfig,
    /// Files.
    pub static_configs: Vec<StaticConfig>,
    /// Files that other files name.
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Files of pods.
    pub kubernetes_sd_configs: Vec<KubernetesSdConfig>,
    /// Containers.
    pub docker_sd_configs: Vec<DockerSdConfig>,
    /// systemd's journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalConfig>,
    /// A listener for syslog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syslog: Option<SyslogConfig>,
    /// A listener for pushes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loki_push_api: Option<PushApiConfig>,
    /// A listener for GELF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gelf: Option<GelfConfig>,
    /// Targets of Promtail that are refused, with what to do instead.
    #[serde(
        rename = "kafka",
        alias = "gcplog",
        alias = "cloudflare",
        alias = "azure_event_hubs",
        alias = "heroku_drain",
        alias = "windows_events",
        alias = "dns_sd_configs",
        alias = "consul_sd_configs",
        alias = "consulagent_sd_configs",
        alias = "ec2_sd_configs",
        alias = "gce_sd_configs",
        alias = "azure_sd_configs",
        alias = "openstack_sd_configs",
        alias = "dockerswarm_sd_configs",
        alias = "triton_sd_configs",
        alias = "marathon_sd_configs",
        alias = "nerve_sd_configs",
        alias = "serverset_sd_configs",
        alias = "uyuni_sd_configs",
        skip_serializing_if = "Value::is_null"
    )]
    pub refused: Value,
}

/// One of `static_configs`, and of the groups in files that `file_sd_configs` names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct StaticConfig {
    /// Addresses, each a target of its own for relabelling; `localhost` if there is none. Files are on this host all the same.
    pub targets: Vec<String>,
    /// `__path__`, `__path_exclude__`, and the labels of the streams.
    pub labels: BTreeMap<String, String>,
}

/// One of `docker_sd_configs`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct DockerSdConfig {
    /// `unix:///var/run/docker.sock`, `tcp://…` or `http://…`.
    pub host: String,
    /// How often containers are listed.
    pub refresh_interval: Duration,
    /// Passed on to the engine.
    pub filters: Vec<DockerFilter>,
}

impl Default for DockerSdConfig {
    fn default() -> Self {
        Self {
            host: "unix:///var/run/docker.sock".to_owned(),
            refresh_interval: Duration::from_secs(60),
            filters: Vec::new(),
        }
    }
}

/// One of `filters`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DockerFilter {
    /// Such as `label`.
    pub name: String,
    /// Any of them.
    pub values: Vec<String>,
}

impl service::config::Config for Config {
    fn unneeded() -> Unneeded {
        let mut keys = vec![
            "scrape_configs.*.docker_sd_configs.*.port".to_owned(),
            "scrape_configs.*.docker_sd_configs.*.host_networking_host".to_owned(),
            "scrape_configs.*.docker_sd_configs.*.match_first_network".to_owned(),
            "scrape_configs.*.syslog.tls_config.server_name".to_owned(),
            "scrape_configs.*.syslog.tls_config.insecure_skip_verify".to_owned(),
            "scrape_configs.*.syslog.tls_config.min_version".to_owned(),
            "scrape_configs.*.syslog.rfc3164_default_to_current_year".to_owned(),
        ];
        for clients in ["clients.*", "client"] {
            let more = [
                "proxy_url",
                "proxy_from_environment",
                "no_proxy",
                "proxy_connect_header",
                "follow_redirects",
                "enable_http2",
                "stream_lag_labels",
                "authorization",
                "oauth2",
                "tls_config.cert_file",
                "tls_config.key_file",
                "tls_config.server_name",
                "tls_config.insecure_skip_verify",
                "tls_config.min_version",
            ];
            keys.extend(more.map(|key| format!("{clients}.{key}")));
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Unneeded::new(&keys)
            .with("server", ServerConfig::unneeded())
            .with("scrape_configs.*.loki_push_api.server", ServerConfig::unneeded())
    }

    fn check(&self, problems: &mut Problems) {
        self.server.check_agent("server", problems);
        self.check_clients(problems);
        global::check(self, problems);
        let mut names = std::collections::BTreeSet::new();
        let stages = StageMetrics::default();
        for (i, job) in self.scrape_configs.iter().enumerate() {
            let path = format!("scrape_configs[{i}]");
            if job.job_name.is_empty() || !names.insert(&job.job_name) {
                problems
                    .add(format!("{path}.job_name"), format!("'{}' is empty or used twice", job.job_name));
            }
            check(job, &path, problems);
            if Encoding::named(&job.encoding).is_none() {
                let text = format!("'{}' is no encoding that IANA lists", job.encoding);
                problems.add(format!("{path}.encoding"), text);
            }
            for (j, rule) in job.relabel_configs.iter().enumerate() {
                if let Err(problem) = Relabel::compile(rule) {
                    problems.add(format!("{path}.relabel_configs[{j}]"), problem);
                }
            }
            Pipeline::compile(&job.pipeline_stages, &stages, problems);
        }
    }

    fn logging(&self) -> Logging {
        self.server.logging()
    }

    fn grace(&self) -> std::time::Duration {
        self.server.graceful_shutdown_timeout.get()
    }

    fn flag_path(flag: &str) -> String {
        global::flag_path(flag)
    }

    fn flag_value(flag: &str, value: &str) -> String {
        global::flag_value(flag, value)
    }
}

impl Config {
    /// What runs when nothing is configured: containers of this host, to the log store on this host.
    pub const UNCONFIGURED: &str = r#"
clients: [{url: 'http://127.0.0.1:3100/loki/api/v1/push'}]
scrape_configs:
  - job_name: docker
    docker_sd_configs: [{host: 'unix:///var/run/docker.sock', refresh_interval: 5s}]
    relabel_configs:
      - {source_labels: [__meta_docker_container_name], regex: '/(.*)', target_label: container}
      - {source_labels: [__meta_docker_container_label_com_docker_compose_service], target_label: service}
      - {source_labels: [__meta_docker_container_log_stream], target_label: stream}
      - {target_label: job, replacement: docker}
"#;

    /// All clients, the older single form included, with the labels that `-client.external-labels` gives to each, and named by
    /// a hash of their configuration where nothing else names them.
    pub fn all_clients(&self) -> Vec<ClientConfig> {
        let for_all = self.client.as_ref().map(|client| &client.external_labels);
        let single = self.client.iter().filter(|client| !client.url.is_empty());
        let settled = |client: &ClientConfig| {
            let mut client = client.clone();
            if client.name.is_empty() {
                let text = serde_json::to_string(&client).unwrap_or_default();
                client.name = format!("{:06x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()) & 0xff_ffff);
            }
            for (name, value) in for_all.into_iter().flatten() {
                client.external_labels.entry(name.clone()).or_insert_with(|| value.clone());
            }
            client
        };
        self.clients.iter().chain(single).map(settled).collect()
    }

    /// Whether nothing to read was configured.
    pub fn is_unconfigured(&self) -> bool {
        self.scrape_configs.is_empty() && self.clients.is_empty() && self.client.is_none()
    }

    fn check_clients(&self, problems: &mut Problems) {
        for (i, client) in self.clients.iter().enumerate() {
            if client.url.parse::<reqwest::Url>().is_err() {
                let text = format!("'{}' is not a URL: write http://host:3100/loki/api/v1/push", client.url);
                problems.add(format!("clients[{i}].url"), text);
            }
        }
        if let Some(client) = self.client.as_ref().filter(|client| {
            let only_labels = client.url.is_empty() && !client.external_labels.is_empty();
            !only_labels && client.url.parse::<reqwest::Url>().is_err()
        }) {
            let text = format!("'{}' is not a URL: write http://host:3100/loki/api/v1/push", client.url);
            problems.add("client.url", text);
        }
        let mut names = std::collections::BTreeSet::new();
        for (i, client) in self.all_clients().into_iter().enumerate() {
            if !names.insert(client.name.clone()) {
                let text = format!("'{}' is used twice: give each client a name of its own", client.name);
                problems.add(format!("clients[{i}].name"), text);
            }
        }
        if !self.is_unconfigured() && names.is_empty() {
            problems.warn("clients: none is named, so lines can only go to a store in the same process");
        }
    }
}
