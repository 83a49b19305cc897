//! What happens around every request: bounds on its body and time, panics caught, a span, a duration.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::{compression::CompressionLayer, timeout::TimeoutBody};
use tracing::{Instrument, field::Empty};

use super::{Draining, Limits};
use crate::{
    Failure, Metrics,
    metrics::{RequestLabels, RequestSeconds},
};

/// The service behind every connection: chooses HTTP or gRPC.
#[derive(Clone)]
pub(super) struct Requests {
    http: Router,
    grpc: Option<Router>,
    activity: Arc<Activity>,
}

/// What one connection is about.
#[derive(Debug, Default)]
pub(super) struct Activity {
    started: AtomicBool,
    in_work: AtomicUsize,
}

impl Activity {
    /// Whether there was a request.
    pub(super) fn has_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Whether there is no request that is not answered to the end.
    pub(super) fn is_idle(&self) -> bool {
        self.in_work.load(Ordering::Relaxed) == 0
    }
}

/// A request, until its answer's last byte was taken or nobody wants it any more.
struct InWork(Arc<Activity>);

impl InWork {
    fn begin(activity: Arc<Activity>) -> InWork {
        activity.started.store(true, Ordering::Relaxed);
        activity.in_work.fetch_add(1, Ordering::Relaxed);
        InWork(activity)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.in_work.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Around {
    grpc: bool,
    limits: Limits,
    permits: Arc<Semaphore>,
    durations: Option<RequestSeconds>,
    drain: CancellationToken,
}

impl Requests {
    pub(super) fn new(
        http: Router,
        grpc: Option<Router>,
        limits: Limits,
        metrics: Option<Metrics>,
        drain: CancellationToken,
    ) -> Requests {
        let permits = Arc::new(Semaphore::new(limits.requests));
        let durations = metrics.map(|metrics| metrics.request_seconds());
        let around = |router: Router, grpc: bool| {
            let around = Around {
                grpc,
                limits,
                permits: permits.clone(),
                durations: durations.clone(),
                drain: drain.clone(),
            };
            // Our own bound replaces axum's 2 MiB.
            let router = router.layer(DefaultBodyLimit::disable());
            let router = if grpc { router } else { router.layer(CompressionLayer::new()) };
            router.layer(middleware::from_fn_with_state(Arc::new(around), handle))
        };
        Requests {
            http: around(http, false),
            grpc: grpc.map(|router| around(router, true)),
            activity: Arc::default(),
        }
    }

    /// For one connection.
    pub(super) fn on_connection(self, activity: Arc<Activity>) -> Requests {
        Requests { activity, ..self }
    }
}

impl tower::Service<http::Request<hyper::body::Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let in_work = InWork::begin(self.activity.clone());
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let router = match &self.grpc {
            Some(grpc) if content_type.is_some_and(|t| t.starts_with(b"application/grpc")) => grpc,
            _ => &self.http,
        };
        let answer = router.clone().oneshot(request.map(Body::new));
        Box::pin(async move {
            // The body has it, and is dropped when it is sent.
            let held = move |error| {
                let _in_work = &in_work;
                error
            };
            Ok(answer.await?.map(|body| Body::new(body.map_err(held))))
        })
    }
}

async fn handle(State(around): State<Arc<Around>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    // There may be a prefix.
    let ends = |name: &&str| matched.as_ref().is_some_and(|route| route.as_str().ends_with(name));
    let is_probe = ["/ready", "/healthz", "/metrics"].iter().any(ends);
    let route = matched.as_ref().map_or("other", MatchedPath::as_str);
    let method = known(request.method());
    request.extensions_mut().insert(Draining(around.drain.clone()));

    let span = match is_probe {
        true => tracing::Span::none(),
        false => tracing::info_span!(
            "request",
            otel.name = format!("{method} {route}"),
            otel.kind = "server",
            http.request.method = method,
            http.route = route,
            http.response.status_code = Empty,
            otel.status_code = Empty,
        ),
    };
    telemetry::propagation::set_parent(&span, request.headers());

    let work =
        AssertUnwindSafe(around.bounded(request, next, is_probe)).catch_unwind().instrument(span.clone());
    let mut response = work.await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        span.in_scope(|| tracing::error!(panic = text, route, "a request's handler panicked"));
        around.answer(Failure::internal("internal error: the request's handler panicked"))
    });
    if response.status() == StatusCode::NOT_FOUND && matched.is_none() && !around.grpc {
        // Routers answer unknown paths with an empty body; whoever set one keeps it.
        if !response.headers().contains_key(header::CONTENT_TYPE) {
            response = Failure::not_found("404 page not found").into_line_response();
        }
    }

    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
    let took = begun.elapsed();
    // Refusals (503, 504) are the client's to see; under overload a line for each would be one more load.
    if status == 500 {
        span.in_scope(|| tracing::warn!(status, took = ?took, "request failed"));
    } else {
        span.in_scope(|| tracing::debug!(status, took = ?took, "request answered"));
    }
    if let Some(durations) = &around.durations {
        let (method, status_code) = match around.grpc {
            true => ("gRPC", grpc_status(&response)),
            false => (method, status.to_string()),
        };
        let labels = RequestLabels { method, route: route_label(route), status_code };
        durations.get_or_create(&labels).observe(took.as_secs_f64());
    }
    response
}

impl Around {
    async fn bounded(&self, request: Request, next: Next, is_probe: bool) -> Response {
        let _permit = match self.permits.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) if is_probe => None,
            Err(_) => {
                let text = format!("more than {} requests in work: try again later", self.limits.requests);
                return self.answer(Failure::unavailable(text, Some(Duration::from_secs(1))));
            }
        };
        if self.grpc {
            return next.run(request).await;
        }
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        if length > self.limits.body as u64 {
            return Failure::too_large(self.limits.body).into_response();
        }
        let limits = self.limits;
        let request = request.map(|body| {
            let timed = Box::pin(TimeoutBody::new(limits.body_timeout, body));
            Body::new(Limited::new(timed, limits.body))
        });
        match limits.request_timeout {
            None => next.run(request).await,
            Some(timeout) => match tokio::time::timeout(timeout, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Failure::timeout(format!("no answer within {timeout:?}")).into_response(),
            },
        }
    }

    fn answer(&self, failure: Failure) -> Response {
        match self.grpc {
            true => tonic::Status::from(failure).into_http::<Body>(),
            false => failure.into_response(),
        }
    }
}

/// Methods as metric labels and span names: a client must not be able to invent series.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// `loki_api_v1_label_name_values`, as Loki and Tempo name routes.
fn route_label(route: &str) -> String {
    let words = route.split(['/', '{', '}', '*']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

/// Only answers without a message carry their status in the headers; the others have begun well.
fn grpc_status(response: &Response) -> String {
    let code = response.headers().get("grpc-status").and_then(|v| v.to_str().ok()).unwrap_or("0");
    code.to_owned()
}
