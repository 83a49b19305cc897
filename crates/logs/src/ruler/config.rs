//! Loki's `ruler` section: what evaluates rules, and where alerts and recorded series go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Duration, Problems, Unneeded};

use crate::ruler::client::{Authorization, BasicAuth, ClientConfig, TlsConfig};
use model::relabel::{Relabel, RelabelConfig};

/// The section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulerConfig {
    /// Where people find Grafana: links of alerts begin with it.
    pub external_url: String,
    /// The data source that those links open.
    pub datasource_uid: String,
    /// Labels that every alert gets.
    pub external_labels: BTreeMap<String, String>,
    /// Time between evaluations of groups that say nothing of it.
    pub evaluation_interval: Duration,
    /// How often changed rules are looked for, in the bucket and in files.
    pub poll_interval: Duration,
    /// Where rules are.
    pub storage: RuleStorage,
    /// Alertmanagers, separated by commas.
    pub alertmanager_url: String,
    /// Alertmanager's API v2; v1 otherwise.
    pub enable_alertmanager_v2: bool,
    /// Changes labels of alerts on their way to Alertmanager, or drops them.
    pub alert_relabel_configs: Vec<RelabelConfig>,
    /// Alerts that may wait to be sent; the oldest are dropped beyond it.
    pub notification_queue_capacity: usize,
    /// Longest time of a request to an Alertmanager.
    pub notification_timeout: Duration,
    /// How alerts are sent.
    pub alertmanager_client: AlertmanagerClient,
    /// After a longer outage pending alerts begin anew.
    pub for_outage_tolerance: Duration,
    /// After an outage, alerts with at least this `for` stay pending for at least this long.
    pub for_grace_period: Duration,
    /// A firing alert is sent again after this time.
    pub resend_delay: Duration,
    /// Whether rules can be read and written over HTTP.
    pub enable_api: bool,
    /// Tenants whose rules are evaluated, separated by commas; none for all.
    pub enabled_tenants: String,
    /// Tenants whose rules are not evaluated, separated by commas.
    pub disabled_tenants: String,
    /// Leaves the name of the group out of metrics.
    pub disable_rule_group_label: bool,
    /// Recorded samples that wait to be sent.
    pub wal: RulerWal,
    /// Where recorded series go.
    pub remote_write: RemoteWriteConfig,
}

/// `ruler.storage`. Rules written over HTTP are kept in the store's own bucket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleStorage {
    /// `local` for rules in files alone.
    #[serde(rename = "type")]
    pub kind: String,
    /// The files.
    pub local: LocalRulesConfig,
}

/// Loki's `ruler_storage`, of which files are obeyed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulerStorage {
    /// `local` for rules in files alone.
    pub backend: String,
    /// The files.
    pub local: LocalRulesConfig,
}

/// Rules in files `<directory>/<tenant>/<namespace>`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalRulesConfig {
    /// The folder.
    pub directory: String,
}

/// Recorded samples on the local disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulerWal {
    /// The folder; by default `ruler-wal` beside the blocks.
    pub dir: String,
    /// Samples older than this are dropped unsent.
    pub max_age: Duration,
    /// What may wait for one destination; the oldest is dropped beyond it. (Ours.)
    pub max_size: ByteSize,
}

/// How requests to Alertmanager are made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertmanagerClient {
    /// Our certificate, PEM.
    pub tls_cert_path: String,
    /// Its key, PEM.
    pub tls_key_path: String,
    /// Authorities to trust, PEM.
    pub tls_ca_path: String,
    /// Trust any certificate.
    pub tls_insecure_skip_verify: bool,
    /// User; one in the URL wins.
    pub basic_auth_username: String,
    /// Password.
    pub basic_auth_password: service::config::Secret,
    /// Type of the credentials; `Bearer` by default.
    #[serde(rename = "type")]
    pub kind: String,
    /// Credentials of the `Authorization` header.
    pub credentials: service::config::Secret,
    /// A file that holds them.
    pub credentials_file: String,
}

/// A tenant's own Alertmanagers: `limits_config.ruler_alertmanager_config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertmanagerConfig {
    /// Alertmanagers, separated by commas.
    pub alertmanager_url: String,
    /// Alertmanager's API v2; v1 otherwise.
    pub enable_alertmanager_v2: bool,
    /// Changes labels of alerts, or drops them.
    pub alert_relabel_configs: Vec<RelabelConfig>,
    /// How alerts are sent.
    pub alertmanager_client: AlertmanagerClient,
}

/// `remote_write`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoteWriteConfig {
    /// Whether recorded series are sent.
    pub enabled: bool,
    /// Whether requests name the tenant in `X-Scope-OrgID`.
    pub add_org_id_header: bool,
    /// The one destination, as older configurations have it.
    pub client: Option<ClientConfig>,
    /// Destinations by id.
    pub clients: BTreeMap<String, ClientConfig>,
}

impl Default for RulerConfig {
    fn default() -> Self {
        Self {
            external_url: String::new(),
            datasource_uid: String::new(),
            external_labels: BTreeMap::new(),
            evaluation_interval: Duration::from_secs(60),
            poll_interval: Duration::from_secs(60),
            storage: RuleStorage::default(),
            alertmanager_url: String::new(),
            enable_alertmanager_v2: true,
            alert_relabel_configs: Vec::new(),
            notification_queue_capacity: 10_000,
            notification_timeout: Duration::from_secs(10),
            alertmanager_client: AlertmanagerClient::default(),
            for_outage_tolerance: Duration::from_secs(3600),
            for_grace_period: Duration::from_secs(600),
            resend_delay: Duration::from_secs(60),
            enable_api: true,
            enabled_tenants: String::new(),
            disabled_tenants: String::new(),
            disable_rule_group_label: false,
            wal: RulerWal::default(),
            remote_write: RemoteWriteConfig::default(),
        }
    }
}

impl Default for RulerWal {
    fn default() -> Self {
        Self { dir: String::new(), max_age: Duration::from_secs(4 * 3600), max_size: ByteSize::mib(64) }
    }
}

impl Default for AlertmanagerConfig {
    fn default() -> Self {
        Self {
            alertmanager_url: String::new(),
            enable_alertmanager_v2: true,
            alert_relabel_configs: Vec::new(),
            alertmanager_client: AlertmanagerClient::default(),
        }
    }
}

impl Default for RemoteWriteConfig {
    fn default() -> Self {
        Self { enabled: false, add_org_id_header: true, client: None, clients: BTreeMap::new() }
    }
}

impl AlertmanagerClient {
    /// The same in the form that all clients share.
    pub(crate) fn access(&self) -> (BasicAuth, Authorization, TlsConfig) {
        (
            BasicAuth {
                username: self.basic_auth_username.clone(),
                password: self.basic_auth_password.clone(),
                ..BasicAuth::default()
            },
            Authorization {
                kind: if self.kind.is_empty() { "Bearer".to_owned() } else { self.kind.clone() },
                credentials: self.credentials.clone(),
                credentials_file: self.credentials_file.clone(),
            },
            TlsConfig {
                ca_file: self.tls_ca_path.clone(),
                cert_file: self.tls_cert_path.clone(),
                key_file: self.tls_key_path.clone(),
                insecure_skip_verify: self.tls_insecure_skip_verify,
            },
        )
    }
}

impl RemoteWriteConfig {
    /// All destinations with the ids under which their progress is remembered.
    pub fn destinations(&self) -> Vec<(String, &ClientConfig)> {
        let old = self.client.iter().map(|client| ("default".to_owned(), client));
        old.chain(self.clients.iter().map(|(id, client)| (id.clone(), client))).collect()
    }
}

impl RulerConfig {
    /// The Alertmanagers of tenants that have none of their own.
    pub(crate) fn alertmanager(&self) -> AlertmanagerConfig {
        AlertmanagerConfig {
            alertmanager_url: self.alertmanager_url.clone(),
            enable_alertmanager_v2: self.enable_alertmanager_v2,
            alert_relabel_configs: self.alert_relabel_configs.clone(),
            alertmanager_client: self.alertmanager_client.clone(),
        }
    }

    /// Whether a tenant's rules are evaluated.
    pub(crate) fn serves(&self, tenant: &str) -> bool {
        let names = |list: &str| list.split(',').any(|name| name.trim() == tenant);
        (self.enabled_tenants.trim().is_empty() || names(&self.enabled_tenants))
            && !names(&self.disabled_tenants)
    }

    /// Loki's keys that mean nothing here.
    pub fn unneeded() -> Unneeded {
        let mut all: Vec<&str> = UNNEEDED.to_vec();
        all.extend(["wal.truncate_frequency", "wal.min_age", "remote_write.config_refresh_period"]);
        Unneeded::new(&all)
            .with("remote_write.client", ClientConfig::unneeded())
            .with("remote_write.clients.*", ClientConfig::unneeded())
    }

    /// Checks what types cannot.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        for (key, value) in
            [("evaluation_interval", self.evaluation_interval), ("poll_interval", self.poll_interval)]
        {
            if value.is_zero() {
                problems.add(format!("{path}.{key}"), "must not be 0");
            }
        }
        self.alertmanager().check(path, problems);
        if self.storage.kind == "local" && self.storage.local.directory.is_empty() {
            problems.add(
                format!("{path}.storage.local.directory"),
                "needed by type local: name the folder of the rules",
            );
        }
        if self.remote_write.enabled && self.remote_write.destinations().is_empty() {
            problems.add(format!("{path}.remote_write"), "is enabled without clients: add one with its url");
        }
        for (id, client) in &self.remote_write.clients {
            client.check(&format!("{path}.remote_write.clients.{id}"), problems);
        }
        if let Some(client) = &self.remote_write.client {
            client.check(&format!("{path}.remote_write.client"), problems);
        }
        if self.wal.max_size.get() < 1 << 20 {
            problems.add(format!("{path}.wal.max_size"), "must be at least 1MB");
        }
    }
}

impl AlertmanagerConfig {
    /// The URLs that alerts are posted to.
    pub(crate) fn urls(&self) -> Result<Vec<reqwest::Url>, String> {
        let version = if self.enable_alertmanager_v2 { "v2" } else { "v1" };
        let listed = self.alertmanager_url.split(',').map(str::trim).filter(|url| !url.is_empty());
        listed
            .map(|text| {
                let mut url: reqwest::Url =
                    text.parse().map_err(|e| format!("`{text}` is no URL of an Alertmanager: {e}"))?;
                if !matches!(url.scheme(), "http" | "https") {
                    return Err(format!("`{text}` is no URL of an Alertmanager: write http://host:9093"));
                }
                let base = url.path().trim_end_matches('/').to_owned();
                url.set_path(&format!("{base}/api/{version}/alerts"));
                Ok(url)
            })
            .collect()
    }

    /// Checks what types cannot.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        if let Err(problem) = self.urls() {
            problems.add(format!("{path}.alertmanager_url"), problem);
        }
        check_relabel(&format!("{path}.alert_relabel_configs"), &self.alert_relabel_configs, problems);
    }
}

/// Checks relabelling rules.
pub(crate) fn check_relabel(path: &str, rules: &[RelabelConfig], problems: &mut Problems) {
    for (at, rule) in rules.iter().enumerate() {
        if let Err(problem) = Relabel::compile(rule) {
            problems.add(format!("{path}[{at}]"), problem);
        }
    }
}

const UNNEEDED: &[&str] = &[
    "ruler_client",
    "rule_path",
    "enable_alertmanager_discovery",
    "alertmanager_refresh_interval",
    "alertmanager_client.tls_server_name",
    "alertmanager_client.tls_cipher_suites",
    "alertmanager_client.tls_min_version",
    "enable_sharding",
    "sharding_strategy",
    "sharding_algo",
    "search_pending_for",
    "flush_period",
    "ring",
    "query_stats_enabled",
    "evaluation",
    "wal_cleaner",
    "storage.azure",
    "storage.gcs",
    "storage.s3",
    "storage.bos",
    "storage.swift",
    "storage.cos",
    "storage.alibabacloud",
];

/// Keys of `ruler_storage` that mean nothing here: rules that are not in files are in the store's own bucket.
pub(crate) fn storage_unneeded() -> Unneeded {
    Unneeded::new(&["s3", "gcs", "azure", "swift", "filesystem", "alibaba", "bos", "cos", "storage_prefix"])
}

#[cfg(test)]
mod tests {
    use service::config::from_text;

    use crate::Config;

    #[test]
    fn sections_of_loki_load() {
        let yaml = "
ruler:
  external_url: http://grafana
  alertmanager_url: http://a:9093, https://u:p@b/prefix/
  alertmanager_client: {basic_auth_username: u, basic_auth_password: p, tls_server_name: x}
  alert_relabel_configs: [{regex: replica, action: labeldrop}]
  evaluation_interval: 30s
  enable_sharding: true
  ring: {kvstore: {store: inmemory}}
  rule_path: /tmp/rules
  storage: {type: local, local: {directory: /etc/rules}, s3: {bucketnames: x}}
  wal: {dir: /w, truncate_frequency: 1h, max_age: 2h}
  evaluation: {mode: local, max_jitter: 1s}
  remote_write:
    enabled: true
    config_refresh_period: 10s
    add_org_id_header: false
    client: {url: 'http://old/api/v1/write'}
    clients:
      new:
        url: http://new/api/v1/write
        remote_timeout: 5s
        headers: {X-A: b}
        basic_auth: {username: u, password_file: /p}
        tls_config: {ca_file: /ca, server_name: x}
        queue_config: {max_shards: 5, capacity: 10, max_samples_per_send: 7}
        write_relabel_configs: [{source_labels: [__name__], regex: a, action: drop}]
limits_config:
  ruler_max_rules_per_rule_group: 3
  ruler_alertmanager_config: {alertmanager_url: 'http://own:9093'}
";
        let loaded = from_text::<Config>(yaml).unwrap_or_else(|problems| panic!("{problems}"));
        let (config, ruler) = (&loaded.config, &loaded.config.ruler);
        let urls: Vec<_> = ruler.alertmanager().urls().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["http://a:9093/api/v2/alerts", "https://u:p@b/prefix/api/v2/alerts"]);
        let ids: Vec<_> = ruler.remote_write.destinations().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["default", "new"]);
        assert_eq!(ruler.remote_write.clients["new"].queue_config.max_samples_per_send, 7);
        assert_eq!(config.rule_files(), (vec!["/etc/rules".to_owned()], true));
        assert_eq!(config.ruler_wal_dir(), std::path::Path::new("/w/timberline"));
        for key in ["ruler.ring", "ruler.storage.s3", "ruler.remote_write.clients.new.queue_config.capacity"]
        {
            assert!(loaded.unneeded.iter().any(|unneeded| unneeded == key), "{key} in {:?}", loaded.unneeded);
        }
    }

    #[test]
    fn files_beside_rules_in_the_bucket() {
        let check = |yaml: &str, folders: &[&str], only: bool| {
            let config = from_text::<Config>(yaml).unwrap_or_else(|problems| panic!("{problems}")).config;
            assert_eq!(
                config.rule_files(),
                (folders.iter().map(|f| (*f).to_owned()).collect(), only),
                "{yaml}"
            );
        };
        check("", &[], false);
        check("common: {storage: {filesystem: {chunks_directory: /c, rules_directory: /r}}}", &["/r"], false);
        check("ruler_storage: {backend: local, local: {directory: /r}}", &["/r"], true);
    }

    #[test]
    fn faults() {
        let check = |yaml: &str, part: &str| {
            let problems = from_text::<Config>(yaml).err().map(|problems| problems.to_string());
            assert!(problems.as_ref().is_some_and(|text| text.contains(part)), "{yaml}: {problems:?}");
        };
        check("ruler: {alertmanager_url: 'a:9093'}", "ruler.alertmanager_url");
        check("ruler: {remote_write: {enabled: true}}", "without clients");
        check("ruler: {remote_write: {clients: {a: {url: x}}}}", "ruler.remote_write.clients.a.url");
        check("ruler: {storage: {type: local}}", "ruler.storage.local.directory");
        check("ruler: {alert_relabel_configs: [{action: hashmod}]}", "ruler.alert_relabel_configs[0]");
        check("ruler: {poll_interval: 0}", "ruler.poll_interval");
        check("ruler: {no_such: 0}", "no_such");
    }
}
