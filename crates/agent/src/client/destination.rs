//! Where batches go: a store over HTTP, or the one in the same process.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use service::Failure;
use wire::loki::{PushRequest, decode_push_protobuf};

use super::Credentials;
use super::http::{builder, host_of, redirects, secret};
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
    /// Host and port, for metrics.
    host: String,
    credentials: Credentials,
}

impl Destination {
    /// Host and port for metrics.
    pub fn host(&self) -> String {
        match self {
            Self::Remote(remote) => remote.host.clone(),
            Self::Local(_) => "embedded".to_owned(),
        }
    }

    /// Makes a request ready to be sent, more than once if need be, of the `PushRequest` in the room.
    pub fn prepare(&self, room: &mut Room) -> Result<Prepared, Failure> {
        let invalid = |error: String| Failure::internal(format!("a batch cannot be encoded: {error}"));
        match self {
            Self::Remote(_) => {
                let Room { plain, packed, snappy } = room;
                let enough = snap::raw::max_compress_len(plain.len());
                if packed.len() < enough {
                    packed.resize(enough, 0);
                }
                let bytes = snappy.compress(plain, packed).map_err(|e| invalid(e.to_string()))?;
                Ok(Prepared::Body(Bytes::copy_from_slice(&packed[..bytes])))
            }
            Self::Local(_) => {
                let plain = std::mem::take(&mut room.plain);
                let request = decode_push_protobuf(&plain.into()).map_err(|e| invalid(e.to_string()))?;
                Ok(Prepared::Request(request))
            }
        }
    }

    /// Sends one request once.
    pub async fn push(&self, tenant: &str, request: &Prepared) -> Answer {
        match (self, request) {
            (Self::Remote(remote), Prepared::Body(body)) => remote.push(tenant, body.clone()).await,
            (Self::Local(store), Prepared::Request(request)) => {
                let result = store.push(tenant, request.clone()).await;
                Answer {
                    status: Some(result.as_ref().map_or_else(|f| f.status().as_u16(), |()| 204)),
                    result,
                }
            }
            (Self::Remote(_), Prepared::Request(_)) | (Self::Local(_), Prepared::Body(_)) => {
                let result = Err(Failure::internal("a request was made for another destination"));
                Answer { status: None, result }
            }
        }
    }
}

/// The room that making a request takes. It is used again: fresh memory costs more than what is written to it.
pub struct Room {
    /// A `PushRequest` in protobuf.
    pub plain: Vec<u8>,
    packed: Vec<u8>,
    snappy: snap::raw::Encoder,
}

impl Default for Room {
    fn default() -> Self {
        Self { plain: Vec::new(), packed: Vec::new(), snappy: snap::raw::Encoder::new() }
    }
}

/// A request that can be sent.
pub enum Prepared {
    /// Over HTTP: a snappy block of protobuf.
    Body(Bytes),
    /// In process.
    Request(PushRequest),
}

impl Prepared {
    /// Bytes that go over the wire.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Body(body) => body.len(),
            Self::Request(_) => 0,
        }
    }
}

/// What came of one try.
pub struct Answer {
    /// HTTP's status, if there was an answer.
    pub status: Option<u16>,
    /// Whether the store has the lines now.
    pub result: Result<(), Failure>,
}

impl Remote {
    /// Prepares a client, which reads certificates; connects when it is first used.
    pub fn new(config: &ClientConfig) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            headers.insert(HeaderName::try_from(name.as_str())?, secret(value.reveal())?);
        }
        let mut url: reqwest::Url = config.url.parse()?;
        let host = host_of(&url);
        // HTTP/1.1 as Promtail does: with a batch at a time there is nothing to share a connection with.
        let client = builder(&config.tls_config, &config.proxy(), &mut url)?.http1_only();
        let mut client = client.default_headers(headers).timeout(config.timeout.get());
        if config.follow_redirects {
            client = client.redirect(redirects());
        }
        let credentials = Credentials::new(config.auth(), config.timeout.get())?;
        Ok(Self { client: client.build()?, url, host, credentials })
    }

    async fn push(&self, tenant: &str, body: Bytes) -> Answer {
        let unanswered = |error: anyhow::Error| Answer {
            status: None,
            result: Err(Failure::unavailable(format!("{error:#}"), None)),
        };
        // Those of the URL are made a header by the HTTP client itself.
        if !self.url.username().is_empty() {
            return self.once(tenant, body, None).await;
        }
        let header = match self.credentials.header().await {
            Ok(header) => header,
            Err(error) => return unanswered(error),
        };
        let answer = self.once(tenant, body.clone(), header.clone()).await;
        match header {
            Some(old) if answer.status == Some(401) && self.credentials.refused(&old) => {
                match self.credentials.header().await {
                    Ok(new) => self.once(tenant, body, new).await,
                    Err(error) => unanswered(error),
                }
            }
            _ => answer,
        }
    }

    async fn once(&self, tenant: &str, body: Bytes, authorization: Option<HeaderValue>) -> Answer {
        let mut post =
            self.client.post(self.url.clone()).header(header::CONTENT_TYPE, "application/x-protobuf");
        if !tenant.is_empty() {
            post = post.header("X-Scope-OrgID", tenant);
        }
        if let Some(value) = authorization {
            post = post.header(header::AUTHORIZATION, value);
        }
        let response = match post.body(body).send().await {
            Ok(response) => response,
            Err(error) => {
                let text = format!("{:#}", anyhow::Error::new(error.without_url()));
                return Answer { status: None, result: Err(Failure::unavailable(text, None)) };
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let text = first_line(response).await;
        let result = if status.is_success() { Ok(()) } else { Err(refusal(status, &headers, &text)) };
        Answer { status: Some(status.as_u16()), result }
    }
}

/// What a status means for a batch: 429 and 5xx pass, everything else does not. A redirect that was not followed is no word about the
/// lines: they wait, too.
fn refusal(status: StatusCode, headers: &HeaderMap, text: &str) -> Failure {
    if status.is_redirection() {
        let text = format!("{status}: a push is not sent on from there: set url to where it should go");
        return Failure::unavailable(text, None);
    }
    if status.is_server_error() {
        let after = Failure::from_http(status, headers, "").retry_after();
        return Failure::unavailable(format!("{status}: {text}"), after);
    }
    match Failure::from_http(status, headers, &format!("{status}: {text}")) {
        limited if status == StatusCode::TOO_MANY_REQUESTS => limited,
        refused if refused.is_retryable() => Failure::invalid(refused.message()).with_status(status),
        refused => refused,
    }
}

/// The first line of an answer, of which no more than a little is read: enough for the connection to be used again after most.
async fn first_line(mut response: reqwest::Response) -> String {
    const MAX: usize = 1024;
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        text.extend_from_slice(&chunk[..chunk.len().min(MAX - text.len())]);
        if text.len() >= MAX {
            break;
        }
    }
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_means() {
        let check = |status: u16, retries: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
            let failure = refusal(StatusCode::from_u16(status).unwrap(), &headers, "why");
            assert_eq!(failure.is_retryable(), retries, "{status}");
            assert_eq!(failure.message().contains("why"), status >= 400, "{failure}");
            if matches!(status, 429 | 503) {
                assert_eq!(failure.retry_after(), Some(std::time::Duration::from_secs(7)));
            }
        };
        for status in [300, 302, 429, 500, 502, 503, 504, 599] {
            check(status, true);
        }
        for status in [400, 401, 403, 404, 408, 413, 422] {
            check(status, false);
        }
    }
}
