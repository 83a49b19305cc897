//! A Docker engine, as far as logs need it: lists, events, and the output of containers, over its socket or over TCP.
//!
//! Few of its answers are needed, and few fields of those, so they are asked for with the client that everything else of the agent uses:
//! what a configuration says of TLS, credentials and proxies means the same here as there. Paths name no version of the API, which
//! every engine answers in its own.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http::{HeaderMap, HeaderName, header};
use model::Timestamp;
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::docker_config::DockerSdConfig;
use crate::client::Credentials;
use crate::client::http::{builder, secret};
use crate::config::{ProxyConfig, TlsConfig};

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Its socket.
    Unix(PathBuf),
    /// `tcp://host:port`: TLS if the configuration has some.
    Tcp(String),
    /// `http://host:port` or `https://host:port`.
    Web(Url),
}

impl FromStr for Host {
    type Err = String;

    fn from_str(host: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("'{host}': {why}"));
        let Some((scheme, rest)) = host.split_once("://") else {
            return wrong("write unix:///var/run/docker.sock, or tcp://host:port");
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => wrong("the path of a socket is absolute: unix:///var/run/docker.sock"),
            "tcp" | "http" | "https" => {
                let rest = rest.trim_end_matches('/');
                let base = format!("{}://{rest}", if scheme == "https" { "https" } else { "http" });
                // A port that is the scheme's own is not told by the URL.
                let own = if scheme == "https" { ":443" } else { ":80" };
                let names_port = |url: &Url| url.port().is_some() || base.ends_with(own);
                match Url::parse(&base) {
                    Ok(url) if names_port(&url) && url.path() == "/" => match scheme {
                        "tcp" => Ok(Self::Tcp(rest.to_owned())),
                        _ => Ok(Self::Web(url)),
                    },
                    _ => wrong(
                        "write tcp://host:port; engines usually listen on port 2375, and with TLS on 2376",
                    ),
                }
            }
            "ssh" => wrong(
                "ssh is not supported: forward the socket (ssh -L /run/remote.sock:/var/run/docker.sock host) and write \
                 unix:///run/remote.sock",
            ),
            "npipe" => wrong("named pipes are Windows': have the engine listen on tcp://host:port"),
            _ => wrong("write unix:///var/run/docker.sock, or tcp://host:port"),
        }
    }
}

/// An engine that is asked. Cheap to clone.
#[derive(Clone)]
pub(super) struct Engine {
    client: reqwest::Client,
    /// Ends without a slash.
    base: String,
    headers: HeaderMap,
    credentials: Arc<Credentials>,
}

impl Engine {
    /// Longest time for an answer that has an end.
    const TIMEOUT: Duration = Duration::from_secs(120);
    /// No such answer is longer.
    const MAX_ANSWER: usize = 64 << 20;

    /// The engine of a section; reads certificates. It is connected to when it is first asked.
    pub(super) fn new(config: &DockerSdConfig) -> Result<Self> {
        let host: Host = config.host.parse().map_err(|problem: String| anyhow!("host {problem}"))?;
        let (socket, mut url) = match host {
            Host::Unix(path) => (Some(path), Url::parse("http://docker")?),
            Host::Tcp(address) => {
                let scheme = if config.tls_config == TlsConfig::default() { "http" } else { "https" };
                (None, Url::parse(&format!("{scheme}://{address}"))?)
            }
            Host::Web(url) => (None, url),
        };
        let (client, credentials) = match &socket {
            // It asks nobody for a password, and nothing lies in between.
            Some(path) => {
                let client = builder(&TlsConfig::default(), &ProxyConfig::default(), &mut url)?;
                (client.unix_socket(path.as_path()), Credentials::None)
            }
            None => (
                builder(&config.tls_config, &config.proxy(), &mut url)?,
                Credentials::new(config.auth(), Self::TIMEOUT)?,
            ),
        };
        let redirects = if config.follow_redirects { Policy::limited(10) } else { Policy::none() };
        // HTTP/1.1: over one connection, output that waits to be read would hold up everything else.
        let client = client
            .http1_only()
            .connect_timeout(Duration::from_secs(10))
            .tcp_keepalive(Duration::from_secs(30))
            .redirect(redirects)
            .build()?;
        let mut headers = HeaderMap::new();
        for (name, value) in config.all_headers()? {
            headers.append(HeaderName::try_from(name.as_str())?, secret(value.reveal())?);
        }
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, base, headers, credentials: Arc::new(credentials) })
    }

    /// Containers that pass a filter, those that have ended too.
    pub(super) async fn containers(&self, filters: &Filters) -> Result<Vec<Container>> {
        let filters = serde_json::to_string(filters)?;
        self.whole("/containers/json", &[("all", "1"), ("filters", &filters)]).await
    }

    /// All networks.
    pub(super) async fn networks(&self) -> Result<Vec<Network>> {
        self.whole("/networks", &[]).await
    }

    /// Where the engine keeps its data.
    pub(super) async fn root(&self) -> Result<PathBuf> {
        let info: Info = self.whole("/info", &[]).await?;
        match info.docker_root_dir.as_os_str().is_empty() {
            true => Err(anyhow!("the engine does not tell its DockerRootDir")),
            false => Ok(info.docker_root_dir),
        }
    }

    /// One container in detail.
    pub(super) async fn inspect(&self, container: &str) -> Result<Details> {
        self.whole(&format!("/containers/{container}/json"), &[]).await
    }

    /// What happens to containers from now on, as far as logs are concerned.
    pub(super) async fn events(&self) -> Result<Events> {
        let actions = ["create", "connect", "start", "die", "destroy", "rename"];
        let filters = serde_json::json!({"type": ["container", "network"], "event": actions}).to_string();
        let response = self.ask("/events", &[("filters", &filters)], None).await?;
        Ok(Events { response, bytes: Vec::new() })
    }

    /// What a container has printed at or after a time, and if `follow`, what it prints from now on.
    pub(super) async fn logs(&self, container: &str, since: Timestamp, follow: bool) -> Result<Response> {
        let since = format!("{}.{:09}", since.nanos() / 1_000_000_000, since.nanos() % 1_000_000_000);
        let follow = if follow { "1" } else { "0" };
        let query =
            [("stdout", "1"), ("stderr", "1"), ("timestamps", "1"), ("follow", follow), ("since", &since)];
        self.ask(&format!("/containers/{container}/logs"), &query, None).await
    }

    async fn whole<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let mut response = self.ask(path, query, Some(Self::TIMEOUT)).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > Self::MAX_ANSWER {
                bail!("{path}: the answer is longer than {} bytes", Self::MAX_ANSWER);
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).with_context(|| format!("{path}: the answer is not understood"))
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)], timeout: Option<Duration>) -> Result<Response> {
        let mut request = self.client.get(format!("{}{path}", self.base)).query(query);
        request = request.headers(self.headers.clone());
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let credentials = self.credentials.header().await?;
        if let Some(header) = &credentials {
            request = request.header(header::AUTHORIZATION, header.clone());
        }
        let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if let Some(header) = credentials.filter(|_| status == http::StatusCode::UNAUTHORIZED) {
            self.credentials.refused(&header);
        }
        let text = response.chunk().await.ok().flatten().unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..text.len().min(300)]).trim().to_owned();
        Err(anyhow::Error::new(Refused { status, text }))
    }
}

/// The engine answered, and said no.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {text}")]
pub(super) struct Refused {
    status: http::StatusCode,
    text: String,
}

impl Refused {
    /// Whether that is what came of a request.
    pub(super) fn of(error: &anyhow::Error) -> Option<&Self> {
        error.downcast_ref()
    }

    /// Whether what was asked about is not there, or about to be removed.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.status.as_u16(), 404 | 409 | 410)
    }

    /// Whether the engine cannot do what was asked for: some drivers keep no output.
    pub(super) fn is_unsupported(&self) -> bool {
        self.status == http::StatusCode::NOT_IMPLEMENTED || self.text.contains("does not support reading")
    }
}

/// What containers must be, by the engine's names; any of the values.
pub(super) type Filters = BTreeMap<String, Vec<String>>;

/// One of a list of containers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) names: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: HashMap<String, String>,
    /// `created`, `running`, `exited`, …
    pub(super) state: String,
    /// Seconds since the epoch.
    pub(super) created: i64,
    #[serde(deserialize_with = "or_default")]
    pub(super) ports: Vec<Port>,
    #[serde(deserialize_with = "or_default")]
    pub(super) host_config: HostConfig,
    #[serde(deserialize_with = "or_default")]
    pub(super) network_settings: NetworkSettings,
}

impl Container {
    /// Whether it has a process; one that is paused has.
    pub(super) fn runs(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }

    /// Whether it was started at least once.
    pub(super) fn is_started(&self) -> bool {
        self.state != "created"
    }
}

/// A port of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Port {
    pub(super) private_port: u16,
    /// 0 if it is not published.
    pub(super) public_port: u16,
    #[serde(rename = "IP")]
    pub(super) ip: String,
    #[serde(rename = "Type")]
    pub(super) protocol: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HostConfig {
    pub(super) network_mode: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    /// By name.
    #[serde(deserialize_with = "or_default")]
    pub(super) networks: BTreeMap<String, Option<Endpoint>>,
}

/// A container's place in a network.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Endpoint {
    #[serde(rename = "NetworkID")]
    pub(super) network_id: String,
    #[serde(rename = "IPAddress")]
    pub(super) ip_address: String,
}

/// One of a list of networks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Network {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) scope: String,
    pub(super) internal: bool,
    pub(super) ingress: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Info {
    docker_root_dir: PathBuf,
}

/// A container in detail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Details {
    pub(super) log_path: String,
    pub(super) state: State,
    #[serde(deserialize_with = "or_default")]
    pub(super) host_config: DetailedHostConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct State {
    pub(super) running: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct DetailedHostConfig {
    #[serde(deserialize_with = "or_default")]
    pub(super) log_config: LogConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct LogConfig {
    #[serde(rename = "Type")]
    pub(super) driver: String,
}

/// Engines write `null` where there is nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What happens to containers.
pub(super) struct Events {
    response: Response,
    bytes: Vec<u8>,
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// `create`, `connect` to a network, `start`, `die`, `destroy`, …
    pub(super) action: String,
    /// The container's id.
    pub(super) container: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawEvent {
    #[serde(default, rename = "Type")]
    kind: String,
    action: String,
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default, rename = "Attributes", deserialize_with = "or_default")]
    attributes: HashMap<String, String>,
}

impl RawEvent {
    /// None of something else that has the action's name.
    fn of_container(mut self) -> Option<Event> {
        let container = match self.kind.as_str() {
            "network" if self.action == "connect" => self.actor.attributes.remove("container")?,
            "network" => return None,
            _ => self.actor.id,
        };
        Some(Event { action: self.action, container })
    }
}

impl Events {
    /// An event carries all labels of its container.
    const MAX_EVENT: usize = 4 << 20;

    /// The next one; `None` when the engine ends, or says what nobody understands. Safe to be given up.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.bytes) {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let raw: RawEvent = serde_json::from_slice(&line).ok()?;
                match raw.of_container() {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            if self.bytes.len() + chunk.len() > Self::MAX_EVENT {
                return None;
            }
            self.bytes.extend_from_slice(&chunk);
        }
    }
}

#[cfg(test)]
mod tests;
