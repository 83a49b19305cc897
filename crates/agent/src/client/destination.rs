//! Where batches go: a store over HTTP, or the one in the same process.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use service::Failure;
use wire::loki::{PushRequest, encode_push};

use crate::config::ClientConfig;

/// The log store of the same process.
pub trait LocalStore: Send + Sync {
    /// Stores a push for a tenant (empty: the store's own default).
    fn push(&self, tenant: &str, request: PushRequest) -> BoxFuture<'_, Result<(), Failure>>;
}

/// One or the other.
pub enum Destination {
    /// Over HTTP.
    Remote(Box<Remote>),
    /// In process.
    Local(Arc<dyn LocalStore>),
}

/// A store over HTTP.
pub struct Remote {
    client: reqwest::Client,
    url: reqwest::Url,
}

impl Destination {
    /// Host and port for metrics.
    pub fn host(&self) -> String {
        match self {
            Self::Remote(remote) => {
                let host = remote.url.host_str().unwrap_or_default();
                remote.url.port_or_known_default().map_or(host.to_owned(), |port| format!("{host}:{port}"))
            }
            Self::Local(_) => "embedded".to_owned(),
        }
    }

    /// Sends one request once; how many bytes went out.
    pub async fn push(&self, tenant: &str, request: &PushRequest) -> Result<usize, Failure> {
        match self {
            Self::Remote(remote) => remote.push(tenant, request).await,
            Self::Local(store) => store.push(tenant, request.clone()).await.map(|()| 0),
        }
    }
}

impl Remote {
    /// Prepares a client; connects when it is first used.
    pub fn new(config: &ClientConfig) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            headers.insert(HeaderName::try_from(name.as_str())?, secret(value.reveal())?);
        }
        if let Some(value) = authorization(config)? {
            headers.insert(header::AUTHORIZATION, secret(&value)?);
        }
        let mut client = reqwest::Client::builder()
            .timeout(config.timeout.get())
            .user_agent(concat!("timberline-agent/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers);
        if !config.tls_config.ca_file.is_empty() {
            let pem = std::fs::read(&config.tls_config.ca_file)?;
            client = client.add_root_certificate(reqwest::Certificate::from_pem(&pem)?);
        }
        Ok(Self { client: client.build()?, url: config.url.parse()? })
    }

    async fn push(&self, tenant: &str, request: &PushRequest) -> Result<usize, Failure> {
        let body = encode_push(&request.streams);
        let bytes = body.len();
        let mut post =
            self.client.post(self.url.clone()).header(header::CONTENT_TYPE, "application/x-protobuf");
        if !tenant.is_empty() {
            post = post.header("X-Scope-OrgID", tenant);
        }
        let unreachable = |e: reqwest::Error| {
            Failure::unavailable(format!("{:#}", anyhow::Error::new(e.without_url())), None)
        };
        let response = post.body(body).send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok(bytes);
        }
        let text = response.text().await.unwrap_or_default();
        let first_line = text.lines().next().unwrap_or_default();
        Err(match status.is_server_error() {
            true => Failure::unavailable(
                format!("{status}: {first_line}"),
                Failure::from_http(status, &headers, "").retry_after(),
            ),
            false => Failure::from_http(status, &headers, first_line),
        })
    }
}

fn secret(value: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(value)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The `Authorization` header that the configuration asks for.
fn authorization(config: &ClientConfig) -> anyhow::Result<Option<String>> {
    use base64::Engine as _;
    let from_file = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    let auth = &config.basic_auth;
    if !auth.username.is_empty() {
        let password = match auth.password_file.as_str() {
            "" => auth.password.reveal().to_owned(),
            path => from_file(path)?,
        };
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", auth.username));
        return Ok(Some(format!("Basic {pair}")));
    }
    let token = match config.bearer_token_file.as_str() {
        "" => config.bearer_token.reveal().to_owned(),
        path => from_file(path)?,
    };
    Ok((!token.is_empty()).then(|| format!("Bearer {token}")))
}
