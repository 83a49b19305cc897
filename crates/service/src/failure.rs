//! The one map from what went wrong to what a client is told, over HTTP and over gRPC.
//!
//! | class | HTTP | gRPC |
//! |---|---|---|
//! | [`Kind::Invalid`] | 400, or the 4xx set with [`Failure::with_status`] | InvalidArgument (NotFound for 404, Unimplemented for 405 and 415) |
//! | [`Kind::Unauthenticated`] | 401 | Unauthenticated |
//! | [`Kind::NotFound`] | 404 | NotFound |
//! | [`Kind::Limited`] | 429 + `Retry-After` | ResourceExhausted + RetryInfo |
//! | [`Kind::Unavailable`] | 503 + `Retry-After` | Unavailable + RetryInfo |
//! | [`Kind::Timeout`] | 504 | DeadlineExceeded |
//! | [`Kind::Cancelled`] | 499 | Cancelled |
//! | [`Kind::Internal`] | 500 | Internal |
//!
//! HTTP bodies are the bare text, `text/plain; charset=utf-8`, with `X-Content-Type-Options: nosniff`.

use std::time::{Duration, SystemTime};

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tonic_types::{ErrorDetails, StatusExt};

/// Class of a failure: it decides status codes, and whether a client should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong and stays wrong.
    Invalid,
    /// No or bad credentials, or no tenant.
    Unauthenticated,
    /// The thing asked for does not exist.
    NotFound,
    /// A limit of the tenant was hit: try again later, slower.
    Limited,
    /// We cannot take it now (starting, stopping, overloaded, store away): try again.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// The client hung up.
    Cancelled,
    /// Our fault.
    Internal,
}

/// A failed request: class, text for the client, and when to try again. Displays as the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    kind: Kind,
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(kind: Kind, status: StatusCode, message: impl Into<String>) -> Failure {
        Failure { kind, status, message: message.into(), retry_after: None }
    }

    /// 400: the request is wrong.
    pub fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Invalid, StatusCode::BAD_REQUEST, message)
    }

    /// 401.
    pub fn unauthenticated(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Unauthenticated, StatusCode::UNAUTHORIZED, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(Kind::NotFound, StatusCode::NOT_FOUND, message)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn too_large(limit: usize) -> Failure {
        Failure::invalid(format!("request body is larger than the limit of {limit} bytes"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// 429; set `retry_after` where a time is known.
    pub fn limited(message: impl Into<String>, retry_after: Option<Duration>) -> Failure {
        Failure { retry_after, ..Failure::new(Kind::Limited, StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// 503; set `retry_after` where a time is known.
    pub fn unavailable(message: impl Into<String>, retry_after: Option<Duration>) -> Failure {
        Failure { retry_after, ..Failure::new(Kind::Unavailable, StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// 504. Clients retry on the words "timed out" and "timeout": whichever `message` lacks is added.
    pub fn timeout(message: impl Into<String>) -> Failure {
        let mut message = message.into();
        if !message.contains("timed out") {
            message.push_str(": request timed out");
        }
        if !message.contains("timeout") {
            message.push_str(" (timeout)");
        }
        Failure::new(Kind::Timeout, StatusCode::GATEWAY_TIMEOUT, message)
    }

    /// 499: the client went away.
    pub fn cancelled() -> Failure {
        let status = StatusCode::from_u16(499).expect("499 is in range");
        Failure::new(Kind::Cancelled, status, "the client closed the request")
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Failure {
        Failure::new(Kind::Internal, StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Answers with this status instead of the class's own (404, 405, 413, 415, 422 of an invalid request).
    pub fn with_status(mut self, status: StatusCode) -> Failure {
        self.status = status;
        self
    }

    /// Class.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Text for the client.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When the client should try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same request can succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Limited | Kind::Unavailable | Kind::Timeout)
    }

    /// gRPC code of the class.
    pub fn code(&self) -> tonic::Code {
        match self.kind {
            Kind::Invalid => match self.status {
                StatusCode::NOT_FOUND => tonic::Code::NotFound,
                StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    tonic::Code::Unimplemented
                }
                _ => tonic::Code::InvalidArgument,
            },
            Kind::Unauthenticated => tonic::Code::Unauthenticated,
            Kind::NotFound => tonic::Code::NotFound,
            Kind::Limited => tonic::Code::ResourceExhausted,
            Kind::Unavailable => tonic::Code::Unavailable,
            Kind::Timeout => tonic::Code::DeadlineExceeded,
            Kind::Cancelled => tonic::Code::Cancelled,
            Kind::Internal => tonic::Code::Internal,
        }
    }

    /// Status and headers without a body, for endpoints whose error bodies are not text (OTLP/HTTP answers
    /// `google.rpc.Status` in the request's encoding).
    pub fn parts(&self) -> (StatusCode, HeaderMap) {
        let mut headers = HeaderMap::new();
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        (self.status, headers)
    }

    /// The HTTP answer with one newline after the text, as push endpoints give it.
    pub fn into_line_response(mut self) -> Response {
        self.message.push('\n');
        self.into_response()
    }

    /// Reads a peer's HTTP answer: `retry_after` is what its `Retry-After` header says, in seconds or as a date.
    pub fn from_http(status: StatusCode, headers: &HeaderMap, body: &str) -> Failure {
        let after = headers.get(header::RETRY_AFTER).and_then(|value| wait(value.to_str().ok()?.trim()));
        let message = body.trim();
        match status.as_u16() {
            401 => Failure::unauthenticated(message),
            404 => Failure::not_found(message),
            408 | 504 => Failure::timeout(message),
            429 => Failure::limited(message, after),
            502 | 503 => Failure::unavailable(message, after),
            400..=498 => Failure::invalid(message).with_status(status),
            _ => Failure::internal(message),
        }
    }
}

/// How long `Retry-After` says, from now on.
fn wait(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Seconds, rounded up, at least one: a client that comes back too early is refused again.
fn whole_seconds(after: Duration) -> u64 {
    after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1)
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
        const NOSNIFF: (HeaderName, HeaderValue) =
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let (status, headers) = self.parts();
        (status, headers, [(header::CONTENT_TYPE, TEXT), NOSNIFF], self.message).into_response()
    }
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> tonic::Status {
        let code = failure.code();
        match failure.retry_after {
            None => tonic::Status::new(code, failure.message),
            Some(after) => {
                let details = ErrorDetails::with_retry_info(Some(after));
                tonic::Status::with_error_details(code, failure.message, details)
            }
        }
    }
}

/// How a downstream peer's status travels back to our own caller: retryable codes of OTLP become
/// [`Kind::Unavailable`], the rest keeps its class.
impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Failure {
        use tonic::Code::*;
        let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let message = status.message();
        match status.code() {
            Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss => {
                Failure::unavailable(message, after)
            }
            ResourceExhausted => Failure::limited(message, after),
            InvalidArgument => Failure::invalid(message),
            Unauthenticated => Failure::unauthenticated(message),
            PermissionDenied => Failure::invalid(message).with_status(StatusCode::FORBIDDEN),
            NotFound => Failure::not_found(message),
            Unimplemented => Failure::invalid(message).with_status(StatusCode::NOT_FOUND),
            _ => Failure::internal(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn classes_map_to_http_and_grpc() {
        let second = Some(Duration::from_millis(1_500));
        let cases = [
            (Failure::invalid("bad"), 400, "InvalidArgument", None),
            (
                Failure::invalid("bad").with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE),
                415,
                "Unimplemented",
                None,
            ),
            (Failure::too_large(10), 413, "InvalidArgument", None),
            (Failure::unauthenticated("no org id"), 401, "Unauthenticated", None),
            (Failure::not_found("nothing"), 404, "NotFound", None),
            (Failure::limited("slow down", second), 429, "ResourceExhausted", Some("2")),
            (Failure::limited("slow down", None), 429, "ResourceExhausted", None),
            (Failure::unavailable("starting", second), 503, "Unavailable", Some("2")),
            (Failure::timeout("query"), 504, "DeadlineExceeded", None),
            (Failure::cancelled(), 499, "Cancelled", None),
            (Failure::internal("oops"), 500, "Internal", None),
        ];
        for (failure, status, code, retry) in cases {
            assert_eq!(format!("{:?}", failure.code()), code);
            let grpc = tonic::Status::from(failure.clone());
            assert_eq!((grpc.code(), grpc.message()), (failure.code(), failure.message()));
            let delay = grpc.get_details_retry_info().and_then(|info| info.retry_delay);
            assert_eq!(delay, failure.retry_after());

            let response = failure.clone().into_response();
            assert_eq!(response.status().as_u16(), status);
            let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
            assert_eq!(header("retry-after").as_deref(), retry);
            assert_eq!(header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
            assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"));
            let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
            assert_eq!(body, failure.message());
            let line = failure.clone().into_line_response();
            let body = axum::body::to_bytes(line.into_body(), 1000).await.unwrap();
            assert_eq!(body, format!("{}\n", failure.message()));
        }
    }

    #[test]
    fn timeouts_hold_both_words_that_clients_look_for() {
        for text in ["query", "query timed out", "timeout", "request timed out (timeout)"] {
            let failure = Failure::timeout(text);
            assert!(
                failure.message().contains("timed out") && failure.message().contains("timeout"),
                "{failure}"
            );
        }
    }

    #[test]
    fn peers_answers_come_back_in_their_class() {
        let status = |code| Failure::from(tonic::Status::new(code, "text"));
        assert_eq!(status(tonic::Code::Aborted).kind(), Kind::Unavailable);
        assert_eq!(status(tonic::Code::DataLoss).kind(), Kind::Unavailable);
        assert_eq!(status(tonic::Code::PermissionDenied).status(), 403);
        assert_eq!(status(tonic::Code::Unknown).kind(), Kind::Internal);
        let there = Failure::limited("slow", Some(Duration::from_secs(3)));
        assert_eq!(Failure::from(tonic::Status::from(there.clone())), there);

        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("3"));
        let http =
            |status: u16| Failure::from_http(StatusCode::from_u16(status).unwrap(), &headers, "text\n");
        assert_eq!(http(429), Failure::limited("text", Some(Duration::from_secs(3))));
        assert_eq!(http(502).kind(), Kind::Unavailable);
        assert_eq!(http(422).status(), 422);
        assert_eq!(http(500).kind(), Kind::Internal);
        assert!(http(504).is_retryable() && !http(400).is_retryable());

        let wait = |text: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            Failure::from_http(StatusCode::TOO_MANY_REQUESTS, &headers, "").retry_after()
        };
        let soon = wait(&httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60))).unwrap();
        assert!(soon <= Duration::from_secs(60) && soon > Duration::from_secs(50), "{soon:?}");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("Sunday, 06-Nov-94 08:49:37 GMT"), Some(Duration::ZERO));
        for wrong in ["", "-1", "1.5", "soon", "Sun, 06 Nov"] {
            assert_eq!(wait(wrong), None, "{wrong}");
        }
    }
}
