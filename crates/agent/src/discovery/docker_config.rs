//! The `docker_sd_configs` section.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use service::config::{Duration, Problems, Secret};

use super::engine::{Filters, Host};
use crate::config::{AuthConfig, AuthorizationConfig, BasicAuthConfig, OAuth2Config, ProxyConfig, TlsConfig};

/// One of `docker_sd_configs`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct DockerSdConfig {
    /// `unix:///var/run/docker.sock`, `tcp://…`, `http://…` or `https://…`.
    pub host: String,
    /// The port in `__address__` of a container that exposes none.
    pub port: u16,
    /// `__address__` of containers in the host's network.
    pub host_networking_host: String,
    /// Only the first network of a container is a target, rather than all.
    pub match_first_network: bool,
    /// How often containers are listed.
    pub refresh_interval: Duration,
    /// Passed on to the engine.
    pub filters: Vec<DockerFilter>,
    /// User and password.
    pub basic_auth: BasicAuthConfig,
    /// Type and credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<AuthorizationConfig>,
    /// Token.
    pub bearer_token: Secret,
    /// File that holds it; read again for each request.
    pub bearer_token_file: String,
    /// A token that another server gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Config>,
    /// TLS towards the engine; with it, `tcp://` means TLS.
    pub tls_config: TlsConfig,
    /// Headers of every request.
    pub headers: BTreeMap<String, Secret>,
    /// The same as Prometheus writes them.
    pub http_headers: BTreeMap<String, HttpHeader>,
    /// Proxy on the way to the engine.
    pub proxy_url: Secret,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` hold.
    pub proxy_from_environment: bool,
    /// Hosts that are reached without the proxy.
    pub no_proxy: String,
    /// Headers for the proxy.
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Accepted without effect: HTTP/1.1 is spoken.
    pub enable_http2: bool,
}

impl Default for DockerSdConfig {
    fn default() -> Self {
        Self {
            host: "unix:///var/run/docker.sock".to_owned(),
            port: 80,
            host_networking_host: "localhost".to_owned(),
            match_first_network: true,
            refresh_interval: Duration::from_secs(60),
            filters: Vec::new(),
            basic_auth: BasicAuthConfig::default(),
            authorization: None,
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            oauth2: None,
            tls_config: TlsConfig::default(),
            headers: BTreeMap::new(),
            http_headers: BTreeMap::new(),
            proxy_url: Secret::default(),
            proxy_from_environment: false,
            no_proxy: String::new(),
            proxy_connect_header: BTreeMap::new(),
            follow_redirects: true,
            enable_http2: true,
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

/// One of `http_headers`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct HttpHeader {
    /// Values.
    pub values: Vec<String>,
    /// Values that are not shown.
    pub secrets: Vec<Secret>,
    /// Files that hold values.
    pub files: Vec<String>,
}

impl DockerSdConfig {
    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        if let Err(problem) = self.host.parse::<Host>() {
            problems.add(format!("{path}.host"), problem);
        }
        self.auth().check(path, problems);
        self.tls_config.check(&format!("{path}.tls_config"), problems);
        self.proxy().check(path, problems);
    }

    /// The filters by name.
    pub(super) fn by_filter(&self) -> Filters {
        let mut filters = Filters::new();
        for DockerFilter { name, values } in &self.filters {
            filters.entry(name.clone()).or_default().extend(values.iter().cloned());
        }
        filters
    }

    pub(super) fn auth(&self) -> AuthConfig<'_> {
        AuthConfig {
            basic: &self.basic_auth,
            token: &self.bearer_token,
            token_file: &self.bearer_token_file,
            authorization: self.authorization.as_ref(),
            oauth2: self.oauth2.as_ref(),
        }
    }

    pub(super) fn proxy(&self) -> ProxyConfig {
        ProxyConfig {
            url: self.proxy_url.clone(),
            from_environment: self.proxy_from_environment,
            exceptions: self.no_proxy.clone(),
            headers: self.proxy_connect_header.clone(),
        }
    }

    /// All headers that requests have; reads files.
    pub(super) fn all_headers(&self) -> Result<Vec<(String, Secret)>> {
        let mut all: Vec<(String, Secret)> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        for (name, header) in &self.http_headers {
            all.extend(header.values.iter().map(|value| (name.clone(), Secret::new(value.clone()))));
            all.extend(header.secrets.iter().map(|value| (name.clone(), value.clone())));
            for file in &header.files {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("http_headers.{name}.files '{file}'"))?;
                all.push((name.clone(), Secret::new(text.trim())));
            }
        }
        Ok(all)
    }
}
