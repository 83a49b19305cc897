//! HTTP clients towards Prometheus and Alertmanager, configured as Prometheus configures them.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use service::config::{Duration, Problems, Secret, Unneeded};

use crate::ruler::config::check_relabel;
use model::relabel::RelabelConfig;

/// A destination of remote write: `remote_write.clients.*`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientConfig {
    /// Where samples are posted: `http://prometheus:9090/api/v1/write`.
    pub url: String,
    /// Its name in metrics.
    pub name: String,
    /// Longest time of a request.
    pub remote_timeout: Duration,
    /// Further headers of requests.
    pub headers: BTreeMap<String, Secret>,
    /// Changes labels of series on their way, or drops them.
    pub write_relabel_configs: Vec<RelabelConfig>,
    /// User and password.
    pub basic_auth: BasicAuth,
    /// The `Authorization` header.
    pub authorization: Authorization,
    /// Token.
    pub bearer_token: Secret,
    /// A file that holds the token.
    pub bearer_token_file: String,
    /// TLS towards the server.
    pub tls_config: TlsConfig,
    /// Goes through this proxy.
    pub proxy_url: String,
    /// Goes through the proxy that the environment names.
    pub proxy_from_environment: bool,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Sizes and pauses.
    pub queue_config: QueueConfig,
}

/// `queue_config`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueConfig {
    /// Samples of a request.
    pub max_samples_per_send: usize,
    /// First pause before a request is tried again.
    pub min_backoff: Duration,
    /// Longest pause.
    pub max_backoff: Duration,
    /// Tries again after 429, which Prometheus does only when told to. (Prometheus: false)
    pub retry_on_http_429: bool,
    /// Samples older than this are dropped unsent; 0 for `wal.max_age`.
    pub sample_age_limit: Duration,
}

/// `basic_auth`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BasicAuth {
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// A file that holds the password.
    pub password_file: String,
}

/// `authorization`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authorization {
    /// `Bearer`, or what the server wants.
    #[serde(rename = "type")]
    pub kind: String,
    /// What follows the type.
    pub credentials: Secret,
    /// A file that holds it.
    pub credentials_file: String,
}

/// `tls_config` of a client.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// Authorities to trust, PEM.
    pub ca_file: String,
    /// Our certificate, PEM.
    pub cert_file: String,
    /// Its key, PEM.
    pub key_file: String,
    /// Trust any certificate.
    pub insecure_skip_verify: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            name: String::new(),
            remote_timeout: Duration::from_secs(30),
            headers: BTreeMap::new(),
            write_relabel_configs: Vec::new(),
            basic_auth: BasicAuth::default(),
            authorization: Authorization::default(),
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            tls_config: TlsConfig::default(),
            proxy_url: String::new(),
            proxy_from_environment: false,
            follow_redirects: true,
            queue_config: QueueConfig::default(),
        }
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_samples_per_send: 2000,
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: true,
            sample_age_limit: Duration::default(),
        }
    }
}

impl Default for Authorization {
    fn default() -> Self {
        Self { kind: "Bearer".to_owned(), credentials: Secret::default(), credentials_file: String::new() }
    }
}

impl ClientConfig {
    /// Keys of Prometheus that have no meaning here.
    pub fn unneeded() -> Unneeded {
        Unneeded::new(&[
            "send_exemplars",
            "send_native_histograms",
            "protobuf_message",
            "round_robin_dns",
            "enable_http2",
            "no_proxy",
            "proxy_connect_header",
            "metadata_config",
            "tls_config.server_name",
            "tls_config.min_version",
            "tls_config.max_version",
            "queue_config.capacity",
            "queue_config.max_shards",
            "queue_config.min_shards",
            "queue_config.batch_send_deadline",
        ])
    }

    /// Checks what types cannot.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        match self.url.parse::<reqwest::Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {}
            _ => problems.add(
                format!("{path}.url"),
                format!("`{}` is no URL: write http://host:9090/api/v1/write", self.url),
            ),
        }
        if self.queue_config.max_samples_per_send == 0 {
            problems.add(format!("{path}.queue_config.max_samples_per_send"), "must not be 0");
        }
        check_relabel(&format!("{path}.write_relabel_configs"), &self.write_relabel_configs, problems);
    }

    /// The client. Reads certificates.
    pub(crate) fn build(&self) -> anyhow::Result<Client> {
        // One that is no URL is found by `check`.
        let url: Option<reqwest::Url> = self.url.parse().ok();
        let mut builder = builder(&self.tls_config, url.as_slice())?.timeout(self.remote_timeout.get());
        if !self.proxy_url.is_empty() {
            builder = builder.proxy(reqwest::Proxy::all(&self.proxy_url).context("proxy_url")?);
        } else if !self.proxy_from_environment {
            builder = builder.no_proxy();
        }
        if !self.follow_redirects {
            builder = builder.redirect(reqwest::redirect::Policy::none());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.insert(HeaderName::try_from(name.as_str())?, secret(value.reveal())?);
        }
        let mut authorization = self.authorization.clone();
        if !self.bearer_token.is_empty() || !self.bearer_token_file.is_empty() {
            authorization = Authorization {
                credentials: self.bearer_token.clone(),
                credentials_file: self.bearer_token_file.clone(),
                ..Authorization::default()
            };
        }
        let access = Access::new(&self.basic_auth, &authorization)?;
        Ok(Client { http: builder.default_headers(headers).build()?, access })
    }
}

/// A client to one kind of server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    access: Access,
}

/// Why a request was not taken.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The status; none if there was no answer.
    pub(crate) status: Option<StatusCode>,
    /// When to come back.
    pub(crate) retry_after: Option<StdDuration>,
    /// For people.
    pub(crate) message: String,
}

/// The `Authorization` header, or where it comes from: files are read for every request, since tokens in them are renewed.
#[derive(Debug, Clone)]
enum Access {
    None,
    Fixed(HeaderValue),
    Token { kind: String, file: String },
    Password { username: String, file: String },
}

impl Client {
    /// A client of its own timeout, for these URLs.
    pub(crate) fn new(
        basic: &BasicAuth,
        authorization: &Authorization,
        tls: &TlsConfig,
        urls: &[reqwest::Url],
        timeout: StdDuration,
    ) -> anyhow::Result<Self> {
        let http = builder(tls, urls)?.no_proxy().timeout(timeout).build()?;
        Ok(Self { http, access: Access::new(basic, authorization)? })
    }

    /// Posts a body; an answer of 2xx is good.
    pub(crate) async fn post(
        &self,
        url: &reqwest::Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<(), Refused> {
        let unanswered = |message: String| Refused { status: None, retry_after: None, message };
        let mut request = self.http.post(url.clone()).headers(headers).body(body);
        // Credentials in the URL are made a header by the client itself.
        if url.username().is_empty()
            && let Some(value) = self.access.header().await.map_err(|e| unanswered(format!("{e:#}")))?
        {
            request = request.header(header::AUTHORIZATION, value);
        }
        let mut response = request
            .send()
            .await
            .map_err(|e| unanswered(format!("{:#}", anyhow::Error::new(e.without_url()))))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after = retry_after.and_then(|v| v.parse().ok()).map(StdDuration::from_secs);
        // Enough of the answer to tell the reason.
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            text.extend_from_slice(&chunk);
            if text.len() > 4096 {
                break;
            }
        }
        let text = String::from_utf8_lossy(&text);
        let line: String = text.lines().next().unwrap_or_default().chars().take(512).collect();
        Err(Refused { status: Some(status), retry_after, message: format!("{status}: {line}") })
    }
}

impl Access {
    fn new(basic: &BasicAuth, authorization: &Authorization) -> anyhow::Result<Self> {
        if !basic.username.is_empty() {
            if !basic.password_file.is_empty() {
                let (username, file) = (basic.username.clone(), basic.password_file.clone());
                return Ok(Self::Password { username, file });
            }
            return Ok(Self::Fixed(basic_header(&basic.username, basic.password.reveal())?));
        }
        if !authorization.credentials_file.is_empty() {
            let (kind, file) = (authorization.kind.clone(), authorization.credentials_file.clone());
            return Ok(Self::Token { kind, file });
        }
        if authorization.credentials.is_empty() {
            return Ok(Self::None);
        }
        let value = format!("{} {}", authorization.kind, authorization.credentials.reveal());
        Ok(Self::Fixed(secret(&value)?))
    }

    async fn header(&self) -> anyhow::Result<Option<HeaderValue>> {
        let read = async |file: &String| {
            let text = tokio::fs::read_to_string(file).await.with_context(|| file.clone())?;
            anyhow::Ok(text.trim().to_owned())
        };
        Ok(match self {
            Self::None => None,
            Self::Fixed(value) => Some(value.clone()),
            Self::Token { kind, file } => Some(secret(&format!("{kind} {}", read(file).await?))?),
            Self::Password { username, file } => Some(basic_header(username, &read(file).await?)?),
        })
    }
}

fn builder(tls: &TlsConfig, urls: &[reqwest::Url]) -> anyhow::Result<reqwest::ClientBuilder> {
    let read = |path: &String| std::fs::read(path).with_context(|| path.clone());
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("timberline-logs/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(StdDuration::from_secs(10))
        .tls_danger_accept_invalid_certs(tls.insecure_skip_verify);
    if !tls.ca_file.is_empty() {
        for certificate in reqwest::Certificate::from_pem_bundle(&read(&tls.ca_file)?)? {
            builder = builder.add_root_certificate(certificate);
        }
    } else if !tls.insecure_skip_verify {
        builder = service::trust::by_system(builder, urls)?;
    }
    if !tls.cert_file.is_empty() {
        let mut pem = read(&tls.cert_file)?;
        pem.push(b'\n');
        pem.extend(read(&tls.key_file)?);
        builder = builder.identity(reqwest::Identity::from_pem(&pem)?);
    }
    Ok(builder)
}

fn basic_header(username: &str, password: &str) -> anyhow::Result<HeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn secret(value: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(value)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `Authorization` header that a server sees, told in its refusal.
    async fn seen(config: &ClientConfig, userinfo: &str) -> String {
        let answer = async |headers: HeaderMap| {
            let value = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap_or("")).to_owned();
            (StatusCode::BAD_REQUEST, format!("{}|{}", value("authorization"), value("x-a")))
        };
        let router = axum::Router::new().fallback(axum::routing::post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{userinfo}{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = config.build().unwrap();
        let refused = client.post(&url.parse().unwrap(), HeaderMap::new(), Vec::new()).await.unwrap_err();
        server.abort();
        assert_eq!(refused.status, Some(StatusCode::BAD_REQUEST));
        refused.message.trim_start_matches("400 Bad Request: ").to_owned()
    }

    #[tokio::test]
    async fn credentials() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "s3cret\n").unwrap();
        let file = file.display().to_string();
        let plain = ClientConfig::default();
        assert_eq!(seen(&plain, "").await, "|");
        assert_eq!(seen(&plain, "u:s3cret@").await, "Basic dTpzM2NyZXQ=|");
        let basic =
            BasicAuth { username: "u".to_owned(), password: Secret::new("s3cret"), ..BasicAuth::default() };
        let headers = BTreeMap::from([("X-A".to_owned(), Secret::new("b"))]);
        let config = ClientConfig { basic_auth: basic, headers, ..plain.clone() };
        assert_eq!(seen(&config, "").await, "Basic dTpzM2NyZXQ=|b");
        let basic =
            BasicAuth { username: "u".to_owned(), password_file: file.clone(), ..BasicAuth::default() };
        assert_eq!(
            seen(&ClientConfig { basic_auth: basic, ..plain.clone() }, "").await,
            "Basic dTpzM2NyZXQ=|"
        );
        let config = ClientConfig { bearer_token_file: file.clone(), ..plain.clone() };
        assert_eq!(seen(&config, "").await, "Bearer s3cret|");
        let authorization = Authorization {
            kind: "Token".to_owned(),
            credentials: Secret::new("t"),
            ..Authorization::default()
        };
        assert_eq!(seen(&ClientConfig { authorization, ..plain }, "").await, "Token t|");
    }
}
