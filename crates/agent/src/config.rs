//! Promtail's configuration file.

mod access;
mod global;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use service::ServerConfig;
use service::config::{ByteSize, Duration, Logging, Problems, Secret, Unneeded, Value};

pub(crate) use self::access::is_web;
pub use self::access::{
    AuthConfig, AuthorizationConfig, BasicAuthConfig, OAuth2Config, ProxyConfig, TlsConfig,
};
pub use self::global::{
    FileWatchConfig, GlobalConfig, LimitsConfig, OptionsConfig, SpoolConfig, StartAt, TargetConfig,
    TracingConfig, WalConfig, WalWatchConfig,
};
pub use crate::discovery::{DockerFilter, DockerSdConfig, FileSdConfig, HttpHeader, KubernetesSdConfig};
use crate::metrics::StageMetrics;
use crate::pipeline::Pipeline;
use crate::relabel::{Relabel, RelabelConfig};
pub use crate::tail::DecompressionConfig;
use crate::tail::Encoding;
pub use crate::targets::{GelfConfig, JournalConfig, PushApiConfig, SyslogConfig};
use crate::targets::{check, kinds};

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
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
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
    /// File that holds the token; read again for each request.
    pub bearer_token_file: String,
    /// Credentials of another type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<AuthorizationConfig>,
    /// A token that another server gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Config>,
    /// TLS towards the server.
    pub tls_config: TlsConfig,
    /// Proxy on the way.
    pub proxy_url: Secret,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` hold.
    pub proxy_from_environment: bool,
    /// Hosts that are reached without the proxy.
    pub no_proxy: String,
    /// Headers for the proxy.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    /// Whether a push is sent on to where the server says (307, 308).
    pub follow_redirects: bool,
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
            authorization: None,
            oauth2: None,
            tls_config: TlsConfig::default(),
            proxy_url: Secret::default(),
            proxy_from_environment: false,
            no_proxy: String::new(),
            proxy_connect_header: BTreeMap::new(),
            follow_redirects: true,
        }
    }
}

/// `backoff_config` of a client.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
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

impl ClientConfig {
    /// As whom it comes.
    pub(crate) fn auth(&self) -> AuthConfig<'_> {
        AuthConfig {
            basic: &self.basic_auth,
            token: &self.bearer_token,
            token_file: &self.bearer_token_file,
            authorization: self.authorization.as_ref(),
            oauth2: self.oauth2.as_ref(),
        }
    }

    /// The proxy on the way.
    pub(crate) fn proxy(&self) -> ProxyConfig {
        ProxyConfig {
            url: self.proxy_url.clone(),
            from_environment: self.proxy_from_environment,
            exceptions: self.no_proxy.clone(),
            headers: self.proxy_connect_header.clone(),
        }
    }

    /// Checks what types cannot.
    fn check(&self, path: &str, problems: &mut Problems) {
        if !is_web(&self.url) {
            // It may hold a password.
            let shown = if self.url.contains('@') { "it" } else { &format!("'{}'", self.url) };
            let text = format!("{shown} is not a URL: write http://host:3100/loki/api/v1/push");
            problems.add(format!("{path}.url"), text);
        }
        if self.timeout.is_zero() {
            problems.add(format!("{path}.timeout"), "must be more than 0: no request could be answered");
        }
        for (name, value) in &self.headers {
            if http::HeaderName::try_from(name.as_str()).is_err() {
                problems.add(format!("{path}.headers.{name}"), "is no name of a header");
            }
            if http::HeaderValue::try_from(value.reveal()).is_err() {
                problems.add(format!("{path}.headers.{name}"), "has characters that no header may have");
            }
        }
        for name in self.external_labels.keys().filter(|name| !model::is_label_name(name)) {
            problems.add(format!("{path}.external_labels"), format!("'{name}' is not a label name"));
        }
        self.auth().check(path, problems);
        self.tls_config.check(&format!("{path}.tls_config"), problems);
        self.proxy().check(path, problems);
        if !self.tls_config.server_name.is_empty()
            && (!self.proxy_url.is_empty() || self.proxy_from_environment)
        {
            let text = "goes by no proxy: write that name into url, or leave the proxy out";
            problems.add(format!("{path}.tls_config.server_name"), text);
        }
    }
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

impl service::config::Config for Config {
    fn unneeded() -> Unneeded {
        let mut keys = vec![
            "scrape_configs.*.kubernetes_sd_configs.*.follow_redirects".to_owned(),
            "scrape_configs.*.kubernetes_sd_configs.*.enable_http2".to_owned(),
            "scrape_configs.*.syslog.tls_config.server_name".to_owned(),
            "scrape_configs.*.syslog.tls_config.insecure_skip_verify".to_owned(),
            "scrape_configs.*.syslog.tls_config.min_version".to_owned(),
            "scrape_configs.*.syslog.rfc3164_default_to_current_year".to_owned(),
        ];
        for clients in ["clients.*", "client"] {
            let more = ["enable_http2", "stream_lag_labels"];
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

    /// What is wrong if lines have nowhere to go, but to a store in the same process.
    pub(crate) fn lacks_client(&self) -> Option<String> {
        let lacks = !self.is_unconfigured() && self.all_clients().is_empty();
        lacks.then(|| "clients: name at least one, with the url of the store".to_owned())
    }

    /// What is wrong if a job has no target, which only standard input needs not.
    pub(crate) fn idle_job(&self) -> Option<String> {
        let jobs = self.scrape_configs.iter().enumerate().filter(|_| !self.target_config.stdin);
        let mut idle = jobs.filter(|(_, job)| kinds(job).is_empty() && job.refused.is_null());
        let (i, job) = idle.next()?;
        Some(format!("scrape_configs[{i}]: job '{}' reads nothing: give it a target", job.job_name))
    }

    /// Whether nothing to read was configured.
    pub fn is_unconfigured(&self) -> bool {
        self.scrape_configs.is_empty() && self.clients.is_empty() && self.client.is_none()
    }

    fn check_clients(&self, problems: &mut Problems) {
        for (i, client) in self.clients.iter().enumerate() {
            client.check(&format!("clients[{i}]"), problems);
        }
        // Flags may set some of its keys beside `clients`; of those only labels count.
        match &self.client {
            Some(client) if client.url.is_empty() && !self.clients.is_empty() => {
                let only_labels = ClientConfig {
                    external_labels: client.external_labels.clone(),
                    ..ClientConfig::default()
                };
                if *client != only_labels {
                    problems
                        .warn("client has no url, so nothing goes there: its keys say nothing about clients");
                }
            }
            // Lines may go to a store in the same process.
            Some(client) if client.url.is_empty() && !client.external_labels.is_empty() => {}
            Some(client) => client.check("client", problems),
            None => {}
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
