//! How the API server is reached: address, authorities, credentials.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};
use service::config::{Secret, Unneeded, Value};

use super::config::KubernetesSdConfig;
use crate::client::http::builder;
use crate::client::{Credentials, Text};
use crate::config::{ProxyConfig, TlsConfig};

/// Where a pod finds its own credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Longest time until a connection is there, and until a token is had.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the API server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Access {
    client: reqwest::Client,
    server: String,
    credentials: Arc<Credentials>,
    namespace: Option<String>,
}

/// What a client is made of.
struct Parts {
    server: String,
    tls: TlsConfig,
    proxy: ProxyConfig,
    credentials: Credentials,
    namespace: Option<String>,
}

impl Access {
    /// As the configuration says: a server, a kubeconfig, or the cluster that the agent runs in.
    pub(super) fn new(config: &KubernetesSdConfig) -> Result<Self> {
        let parts = if !config.api_server.is_empty() {
            configured(config)?
        } else if !config.kubeconfig_file.is_empty() {
            let path = Path::new(&config.kubeconfig_file);
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("kubeconfig_file '{}'", path.display()))?;
            from_kubeconfig(&text, path.parent().unwrap_or(Path::new(".")))
                .with_context(|| format!("kubeconfig_file '{}'", path.display()))?
        } else {
            in_cluster()?
        };
        parts.access()
    }

    /// The namespace of the agent's own pod, or of the kubeconfig's context.
    pub(super) fn own_namespace(&self) -> Result<String> {
        self.namespace.clone().ok_or_else(|| {
            anyhow!(
                "namespaces.own_namespace: the agent runs in no pod: name its namespace in namespaces.names"
            )
        })
    }

    /// Asks for a path of the API; an answer that is no success is an error with the server's own message.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<reqwest::Response, ApiError> {
        let mut request = self.client.get(format!("{}{path}", self.server)).query(query);
        let header = self.credentials.header().await.map_err(ApiError::Other)?;
        if let Some(header) = &header {
            request = request.header(http::header::AUTHORIZATION, header);
        }
        let other = |error: reqwest::Error| ApiError::Other(anyhow::Error::new(error));
        let response = request.send().await.map_err(other)?;
        match response.status().as_u16() {
            200..=299 => Ok(response),
            410 => Err(ApiError::Gone),
            status => {
                if let (401, Some(header)) = (status, &header) {
                    // The next request may come with another.
                    self.credentials.refused(header);
                }
                let text = response.text().await.unwrap_or_default();
                let message = serde_json::from_str::<serde_json::Value>(&text).ok();
                let message = message.and_then(|m| m.get("message")?.as_str().map(str::to_owned));
                let remedy = match status {
                    401 => ": check the credentials",
                    403 => ": allow the agent's service account to get, list and watch pods",
                    _ => "",
                };
                Err(ApiError::Other(anyhow!("{status}: {}{remedy}", message.unwrap_or(text))))
            }
        }
    }
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The resource version is too old: list again.
    #[error("the server has forgotten the version asked for")]
    Gone,
    /// Anything else.
    #[error(transparent)]
    Other(anyhow::Error),
}

impl Parts {
    fn access(self) -> Result<Access> {
        let mut server = self.server.parse().with_context(|| format!("server '{}'", self.server))?;
        let client = builder(&self.tls, &self.proxy, &mut server)?
            .connect_timeout(CONNECT_TIMEOUT)
            // Watches are silent for long, but servers send bookmarks about every minute.
            .read_timeout(Duration::from_secs(330))
            .redirect(Policy::default());
        Ok(Access {
            client: client.build()?,
            server: server.as_str().trim_end_matches('/').to_owned(),
            credentials: Arc::new(self.credentials),
            namespace: self.namespace,
        })
    }
}

fn configured(config: &KubernetesSdConfig) -> Result<Parts> {
    Ok(Parts {
        server: config.api_server.clone(),
        tls: config.tls_config.clone(),
        proxy: config.proxy(),
        credentials: Credentials::new(config.auth(), CONNECT_TIMEOUT)?,
        namespace: None,
    })
}

/// `Authorization: Bearer` with what a file holds.
fn token_file(path: String) -> Credentials {
    Credentials::Token { kind: "Bearer".to_owned(), token: Text::File(path) }
}

fn in_cluster() -> Result<Parts> {
    let variable = |name: &str| {
        std::env::var(name).with_context(|| {
            format!("{name} is not set: the agent runs in no pod, so set api_server or kubeconfig_file")
        })
    };
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let file = |name: &str| format!("{SERVICE_ACCOUNT}/{name}");
    Ok(Parts {
        server: format!("https://{host}:{port}"),
        tls: TlsConfig { ca_file: file("ca.crt"), ..TlsConfig::default() },
        proxy: ProxyConfig::default(),
        credentials: token_file(file("token")),
        namespace: std::fs::read_to_string(file("namespace")).ok().map(|text| text.trim().to_owned()),
    })
}

/// The parts of a kubeconfig that matter here. What else it holds is for other programs.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Kubeconfig {
    #[serde(rename = "current-context")]
    current_context: String,
    contexts: Vec<NamedContext>,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

impl service::config::Config for Kubeconfig {
    fn unneeded() -> Unneeded {
        Unneeded::new(&["apiVersion", "kind", "preferences", "extensions"])
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Value,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: Value,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: Value,
}

/// The text under a key of a section; empty if it is not there.
fn at(section: &Value, key: &str) -> String {
    let found = section.entries().find(|(name, _)| *name == key);
    found.and_then(|(_, value)| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// PEM that stands in a kubeconfig in base64 (`…-data`), or in a file beside it; empty if it is not there.
fn embedded(section: &Value, key: &str, folder: &Path) -> Result<String> {
    let (data, file) = (at(section, &format!("{key}-data")), at(section, key));
    if !data.is_empty() {
        let bytes = STANDARD.decode(data).with_context(|| format!("{key}-data is no base64"))?;
        return String::from_utf8(bytes).with_context(|| format!("{key}-data is no PEM"));
    }
    match file.as_str() {
        "" => Ok(String::new()),
        file => std::fs::read_to_string(folder.join(file)).with_context(|| format!("{key} '{file}'")),
    }
}

fn from_kubeconfig(text: &str, folder: &Path) -> Result<Parts> {
    let config = service::config::from_text::<Kubeconfig>(text)?.config;
    let name = &config.current_context;
    let context = config.contexts.iter().find(|c| c.name == *name);
    let context =
        &context.with_context(|| format!("current-context '{name}' is none of its contexts"))?.context;
    let (cluster, user) = (at(context, "cluster"), at(context, "user"));
    let found = config.clusters.iter().find(|c| c.name == cluster);
    let cluster = &found.with_context(|| format!("cluster '{cluster}' is none of its clusters"))?.cluster;
    let mut parts = Parts {
        server: at(cluster, "server"),
        tls: TlsConfig {
            ca: embedded(cluster, "certificate-authority", folder)?,
            insecure_skip_verify: at(cluster, "insecure-skip-tls-verify") == "true",
            server_name: at(cluster, "tls-server-name"),
            ..TlsConfig::default()
        },
        proxy: ProxyConfig { url: Secret::new(at(cluster, "proxy-url")), ..ProxyConfig::default() },
        credentials: Credentials::None,
        namespace: Some(at(context, "namespace")).filter(|n| !n.is_empty()).or(Some("default".to_owned())),
    };
    let Some(user) = config.users.iter().find(|u| u.name == user).map(|u| &u.user) else { return Ok(parts) };
    if let Some((key, _)) = user.entries().find(|(key, _)| matches!(*key, "exec" | "auth-provider")) {
        bail!("users.{key} would run a program: put a token or a client certificate in its place");
    }
    parts.tls.cert = embedded(user, "client-certificate", folder)?;
    parts.tls.key = Secret::new(embedded(user, "client-key", folder)?);
    let (token, file, name) = (at(user, "token"), at(user, "tokenFile"), at(user, "username"));
    parts.credentials = if !token.is_empty() {
        Credentials::Token { kind: "Bearer".to_owned(), token: Text::Given(Secret::new(token)) }
    } else if !file.is_empty() {
        token_file(folder.join(file).to_string_lossy().into_owned())
    } else if !name.is_empty() {
        let password = Text::Given(Secret::new(at(user, "password")));
        Credentials::Basic { user: Text::Given(Secret::new(name)), password }
    } else {
        Credentials::None
    };
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
preferences: {}
current-context: here
clusters:
- name: c1
  cluster: {server: 'https://10.0.0.1:6443/', certificate-authority-data: Y2E=, extensions: [{name: x}]}
contexts:
- name: here
  context: {cluster: c1, user: u1, namespace: logs}
- name: there
  context: {cluster: c2, user: u1}
users:
- name: u1
  user: {token: secret}
"#;

    #[test]
    fn a_kubeconfig_is_read() {
        let parts = from_kubeconfig(KUBECONFIG, Path::new(".")).unwrap();
        assert_eq!(parts.server, "https://10.0.0.1:6443/");
        assert_eq!(parts.tls.ca, "ca");
        assert_eq!(parts.namespace.as_deref(), Some("logs"));
        let token = |c: &Credentials| matches!(c, Credentials::Token { token: Text::Given(t), .. } if t.reveal() == "secret");
        assert!(token(&parts.credentials));
    }

    #[test]
    fn what_is_wrong_with_a_kubeconfig() {
        let check = |from: &str, to: &str, want: &str| {
            let error = from_kubeconfig(&KUBECONFIG.replace(from, to), Path::new(".")).err().unwrap();
            assert!(format!("{error:#}").contains(want), "{error:#}");
        };
        check("current-context: here", "current-context: nowhere", "'nowhere' is none of its contexts");
        check("current-context: here", "current-context: there", "'c2' is none of its clusters");
        check("Y2E=", "???", "certificate-authority-data is no base64");
        check("{token: secret}", "{exec: {command: x}}", "users.exec would run a program");
    }

    #[test]
    fn outside_of_a_cluster_the_remedy_is_named() {
        if std::env::var("KUBERNETES_SERVICE_HOST").is_ok() {
            return;
        }
        let error = Access::new(&KubernetesSdConfig::default()).err().unwrap();
        assert!(format!("{error:#}").contains("set api_server or kubeconfig_file"), "{error:#}");
    }
}
