//! How a server is reached over HTTP: credentials, TLS, proxies, redirects, under the names that Prometheus and with it Promtail give
//! them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use service::config::{Problems, Secret};

/// `basic_auth`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct BasicAuthConfig {
    /// User.
    pub username: String,
    /// File that holds the user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username_file: String,
    /// Password.
    pub password: Secret,
    /// File that holds the password; read again for each request.
    pub password_file: String,
}

/// `authorization`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct AuthorizationConfig {
    /// What stands before the credentials.
    #[serde(rename = "type")]
    pub kind: String,
    /// Credentials.
    pub credentials: Secret,
    /// File that holds them; read again for each request.
    pub credentials_file: String,
}

impl Default for AuthorizationConfig {
    fn default() -> Self {
        Self { kind: "Bearer".to_owned(), credentials: Secret::default(), credentials_file: String::new() }
    }
}

/// `oauth2`: a token of the client credentials grant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct OAuth2Config {
    /// Who asks for the token.
    pub client_id: String,
    /// With which secret.
    pub client_secret: Secret,
    /// File that holds the secret; read again for each token.
    pub client_secret_file: String,
    /// What the token shall be good for.
    pub scopes: Vec<String>,
    /// Where it is had.
    pub token_url: String,
    /// More parameters of the request for it.
    pub endpoint_params: BTreeMap<String, Secret>,
    /// TLS towards `token_url`.
    pub tls_config: TlsConfig,
    /// Proxy on the way to it.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub proxy_url: Secret,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` hold.
    #[serde(skip_serializing_if = "is_false")]
    pub proxy_from_environment: bool,
    /// Hosts that are reached without the proxy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    /// Headers for the proxy.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

/// `tls_config` of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct TlsConfig {
    /// Authorities to trust instead of the system's, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// File with them.
    pub ca_file: String,
    /// The client's certificate, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert: String,
    /// File with it.
    pub cert_file: String,
    /// Its key, PEM.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub key: Secret,
    /// File with it.
    pub key_file: String,
    /// The name that the server's certificate must have, where it is not the URL's.
    pub server_name: String,
    /// Trusts any certificate.
    pub insecure_skip_verify: bool,
    /// `TLS12` or `TLS13`; what is older is not spoken.
    pub min_version: String,
    /// `TLS12` or `TLS13`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub max_version: String,
}

/// The proxy between a client and its server, as the sections that have one are asked for it.
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {
    /// Its URL.
    pub url: Secret,
    /// Whether the environment names it.
    pub from_environment: bool,
    /// Hosts that are reached without it.
    pub exceptions: String,
    /// Headers of `CONNECT`.
    pub headers: BTreeMap<String, Vec<Secret>>,
}

/// The credentials of one section.
#[derive(Debug, Clone, Copy)]
pub struct AuthConfig<'a> {
    /// User and password.
    pub basic: &'a BasicAuthConfig,
    /// Token.
    pub token: &'a Secret,
    /// File with it.
    pub token_file: &'a str,
    /// Type and credentials.
    pub authorization: Option<&'a AuthorizationConfig>,
    /// A token that another server gives.
    pub oauth2: Option<&'a OAuth2Config>,
}

impl AuthConfig<'_> {
    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        let (basic, token) = (self.basic, !self.token.is_empty() || !self.token_file.is_empty());
        let ways = [
            *basic != BasicAuthConfig::default(),
            token,
            self.authorization.is_some(),
            self.oauth2.is_some(),
        ];
        if ways.iter().filter(|given| **given).count() > 1 {
            let text = "one of basic_auth, bearer_token, authorization and oauth2 can be given, not more";
            problems.add(path, text);
        }
        let secrets = [
            (".basic_auth.username", basic.username.as_str(), basic.username_file.as_str()),
            (".basic_auth.password", basic.password.reveal(), basic.password_file.as_str()),
            (".bearer_token", self.token.reveal(), self.token_file),
        ];
        let more = [
            self.authorization
                .map(|a| (".authorization.credentials", a.credentials.reveal(), a.credentials_file.as_str())),
            self.oauth2
                .map(|o| (".oauth2.client_secret", o.client_secret.reveal(), o.client_secret_file.as_str())),
        ];
        for (key, text, file) in secrets.into_iter().chain(more.into_iter().flatten()) {
            if !text.is_empty() && !file.is_empty() {
                problems.add(format!("{path}{key}_file"), "its text is given too: leave one out");
            }
        }
        if self.authorization.is_some_and(|given| given.kind.trim().eq_ignore_ascii_case("basic")) {
            problems.add(format!("{path}.authorization.type"), "'Basic' is what basic_auth is for");
        }
        let Some(oauth2) = self.oauth2 else { return };
        let at = format!("{path}.oauth2");
        if oauth2.client_id.is_empty() {
            problems.add(format!("{at}.client_id"), "is needed");
        }
        if !is_web(&oauth2.token_url) {
            problems.add(format!("{at}.token_url"), "is no URL: write https://host/token");
        }
        oauth2.tls_config.check(&format!("{at}.tls_config"), problems);
        oauth2.proxy().check(&at, problems);
    }
}

impl OAuth2Config {
    /// The proxy on the way to `token_url`.
    pub(crate) fn proxy(&self) -> ProxyConfig {
        ProxyConfig {
            url: self.proxy_url.clone(),
            from_environment: self.proxy_from_environment,
            exceptions: self.no_proxy.clone(),
            headers: self.proxy_connect_header.clone(),
        }
    }
}

impl TlsConfig {
    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        let given = |text: &str, file: &str| !text.is_empty() || !file.is_empty();
        if given(&self.cert, &self.cert_file) != given(self.key.reveal(), &self.key_file) {
            problems.add(path, "a client's certificate needs both cert_file and key_file");
        }
        let both = [
            ("ca_file", &self.ca, &self.ca_file),
            ("cert_file", &self.cert, &self.cert_file),
            ("key_file", &self.key.reveal().to_owned(), &self.key_file),
        ];
        for (key, _, _) in both.iter().filter(|(_, text, file)| !text.is_empty() && !file.is_empty()) {
            problems.add(format!("{path}.{key}"), "its text is given too: leave one out");
        }
        for (key, version) in [("min_version", &self.min_version), ("max_version", &self.max_version)] {
            match version.as_str() {
                "" | "TLS12" | "TLS13" => {}
                // What is asked for is spoken, and more than that.
                "TLS10" | "TLS11" if key == "min_version" => {}
                other => {
                    problems.add(format!("{path}.{key}"), format!("'{other}' is not spoken: TLS12 or TLS13"));
                }
            }
        }
    }
}

impl ProxyConfig {
    /// Checks what types cannot; `path` is the section that the keys stand in.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        let (url, has_url) = (self.url.reveal(), !self.url.is_empty());
        if has_url && !is_web(url) {
            problems.add(format!("{path}.proxy_url"), "is no URL: write http://host:port");
        }
        if has_url && self.from_environment {
            problems.add(format!("{path}.proxy_from_environment"), "proxy_url is given too: leave one out");
        }
        if !self.exceptions.is_empty() && !has_url {
            problems.add(format!("{path}.no_proxy"), "needs a proxy_url");
        }
        if !self.headers.is_empty() && !has_url && !self.from_environment {
            problems.add(format!("{path}.proxy_connect_header"), "needs a proxy_url");
        }
    }
}

/// Whether this is a URL of a web server: `host:3100/path` is one too, of a scheme that nobody has.
pub(crate) fn is_web(url: &str) -> bool {
    let parsed = url.parse::<reqwest::Url>();
    parsed.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn is_false(value: &bool) -> bool {
    !value
}
