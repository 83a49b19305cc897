//! As whom a client comes: the `Authorization` header, made anew for each request, since tokens in files are renewed and tokens of
//! OAuth 2 run out.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use parking_lot::Mutex;
use service::config::Secret;

use super::http::{builder, redirects, secret};
use crate::config::{AuthConfig, OAuth2Config};

/// What a request says about who sends it.
pub(crate) enum Credentials {
    /// Nothing.
    None,
    /// User and password.
    Basic { user: Text, password: Text },
    /// A word, and what follows it.
    Token { kind: String, token: Text },
    /// A token that another server gives.
    OAuth2(Box<OAuth2>),
}

/// A text, or the file that holds it.
pub(crate) enum Text {
    Given(Secret),
    File(String),
}

impl Text {
    fn new(text: &Secret, file: &str) -> Self {
        if file.is_empty() { Self::Given(text.clone()) } else { Self::File(file.to_owned()) }
    }

    async fn read(&self) -> Result<Secret> {
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await.with_context(|| format!("'{path}'"))?;
                Ok(Secret::new(text.trim()))
            }
        }
    }
}

impl Credentials {
    /// Those of a section. Files are read when they are needed.
    pub(crate) fn new(config: AuthConfig<'_>, timeout: Duration) -> Result<Self> {
        let basic = config.basic;
        if !basic.username.is_empty() || !basic.username_file.is_empty() {
            return Ok(Self::Basic {
                user: Text::new(&Secret::new(basic.username.clone()), &basic.username_file),
                password: Text::new(&basic.password, &basic.password_file),
            });
        }
        if let Some(oauth2) = config.oauth2 {
            return Ok(Self::OAuth2(Box::new(OAuth2::new(oauth2, timeout).context("oauth2")?)));
        }
        let (kind, text, file) = match config.authorization {
            Some(given) => (given.kind.trim(), &given.credentials, given.credentials_file.as_str()),
            None => ("Bearer", config.token, config.token_file),
        };
        if text.is_empty() && file.is_empty() {
            return Ok(Self::None);
        }
        let kind = if kind.is_empty() { "Bearer" } else { kind }.to_owned();
        Ok(Self::Token { kind, token: Text::new(text, file) })
    }

    /// The header's value.
    pub(crate) async fn header(&self) -> Result<Option<HeaderValue>> {
        match self {
            Self::None => Ok(None),
            Self::Basic { user, password } => {
                let (user, password) = (user.read().await?, password.read().await?);
                Ok(Some(basic(user.reveal(), password.reveal())?))
            }
            Self::Token { kind, token } => {
                Ok(Some(secret(&format!("{kind} {}", token.read().await?.reveal()))?))
            }
            Self::OAuth2(oauth2) => Ok(Some(oauth2.header().await.context("oauth2")?)),
        }
    }

    /// The server did not take the header: whether there may be another one.
    pub(crate) fn refused(&self, header: &HeaderValue) -> bool {
        match self {
            Self::OAuth2(oauth2) => {
                oauth2.forget(header);
                true
            }
            Self::None | Self::Basic { .. } | Self::Token { .. } => false,
        }
    }
}

fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// Tokens of the client credentials grant (RFC 6749, 4.4).
pub(crate) struct OAuth2 {
    client: reqwest::Client,
    url: reqwest::Url,
    id: String,
    secret: Text,
    form: Vec<(String, Secret)>,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    until: Option<Instant>,
}

#[derive(serde::Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: String,
    /// Seconds; some servers write them as text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

/// A token is renewed so long before it runs out: it must still be good when the request arrives.
const EARLY: Duration = Duration::from_secs(10);

/// No answer with a token is longer.
const MAX_ANSWER: usize = 1 << 20;

impl OAuth2 {
    fn new(config: &OAuth2Config, timeout: Duration) -> Result<Self> {
        let mut url = config.token_url.parse().context("token_url")?;
        let client = builder(&config.tls_config, &config.proxy(), &mut url)?;
        let client = client.timeout(timeout).redirect(redirects());
        let mut form = vec![("grant_type".to_owned(), Secret::new("client_credentials"))];
        if !config.scopes.is_empty() {
            form.push(("scope".to_owned(), Secret::new(config.scopes.join(" "))));
        }
        form.extend(config.endpoint_params.iter().map(|(name, value)| (name.clone(), value.clone())));
        Ok(Self {
            client: client.build()?,
            url,
            id: config.client_id.clone(),
            secret: Text::new(&config.client_secret, &config.client_secret_file),
            form,
            token: Mutex::default(),
        })
    }

    async fn header(&self) -> Result<HeaderValue> {
        let known = self.token.lock().clone();
        if let Some(token) = known.filter(|token| token.until.is_none_or(|until| Instant::now() < until)) {
            return Ok(token.header);
        }
        let token = self.ask().await?;
        let header = token.header.clone();
        *self.token.lock() = Some(token);
        Ok(header)
    }

    /// The next request gets another token than this.
    fn forget(&self, header: &HeaderValue) {
        let mut token = self.token.lock();
        if token.as_ref().is_some_and(|token| token.header == header) {
            *token = None;
        }
    }

    /// Asks for a token: by a header as the RFC has it, and if that is refused, by the form, as some servers want it.
    async fn ask(&self) -> Result<Token> {
        let secret = self.secret.read().await?;
        let mut form: Vec<(&str, &str)> = self.form.iter().map(|(n, v)| (n.as_str(), v.reveal())).collect();
        let by_header = self.client.post(self.url.clone()).form(&form);
        let pair = basic(&escaped(&self.id), &escaped(secret.reveal()))?;
        let by_header = by_header.header(http::header::AUTHORIZATION, pair);
        let (mut status, mut text) = answer(by_header).await?;
        if status.is_client_error() {
            form.extend([("client_id", self.id.as_str()), ("client_secret", secret.reveal())]);
            (status, text) = answer(self.client.post(self.url.clone()).form(&form)).await?;
        }
        if !status.is_success() {
            // What the answer says besides may repeat what was asked.
            let error = serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default();
            let error = error.get("error").and_then(|error| error.as_str()).unwrap_or_default();
            return Err(anyhow!("no token: {status} {error:.100}")
                .context(self.url.host_str().unwrap_or("").to_owned()));
        }
        // The parser's error would show the answer.
        let granted: Granted =
            serde_json::from_str(&text).map_err(|_| anyhow!("the answer holds no access_token"))?;
        let kind = match granted.token_type.to_lowercase().as_str() {
            "" | "bearer" => "Bearer",
            _ => granted.token_type.as_str(),
        };
        let seconds = match &granted.expires_in {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        let seconds = seconds.filter(|seconds| *seconds > 0.0 && *seconds < 1e9);
        let until = seconds.map(|s| Instant::now() + Duration::from_secs_f64(s).saturating_sub(EARLY));
        Ok(Token { header: super::http::secret(&format!("{kind} {}", granted.access_token))?, until })
    }
}

/// As forms write it, which the RFC asks for in the header too.
fn escaped(text: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse("form:") else { return String::new() };
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

async fn answer(request: reqwest::RequestBuilder) -> Result<(http::StatusCode, String)> {
    let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
    let (status, mut text) = (response.status(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if text.len() + chunk.len() > MAX_ANSWER {
            return Err(anyhow!("the answer is longer than {MAX_ANSWER} bytes"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}
