//! The HTTP and gRPC server: one accept loop with limits, deadlines and a graceful end, for HTTP/1, HTTP/2 and h2c.
//!
//! A client that goes away drops its request's handler at the next await. What lives longer than a request belongs into a
//! task of the process.

mod request;

use std::{error::Error as StdError, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Failure, Listener, Metrics};
use request::{Activity, Requests};

/// Bounds of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; more wait in the system's backlog.
    pub connections: usize,
    /// Requests in work; more are refused with 503 (`/ready`, `/healthz` and `/metrics` are always answered).
    pub requests: usize,
    /// Largest HTTP body as sent, in bytes (gRPC messages have tonic's own limit); larger is 413.
    pub body: usize,
    /// From accept, or from the end of an answer, to the last byte of the next request's headers.
    pub header_timeout: Duration,
    /// Longest pause while a body is being sent to us.
    pub body_timeout: Duration,
    /// Longest time for an HTTP answer to begin; 504 after it. `None` leaves it to the handlers.
    pub request_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            requests: 10_000,
            body: 100 << 20,
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            request_timeout: None,
        }
    }
}

/// A server about to run: what it answers with, and its bounds.
#[derive(Clone, Debug)]
pub struct Server {
    name: String,
    http: Router,
    grpc: Option<Router>,
    limits: Limits,
    metrics: Option<Metrics>,
}

impl Server {
    /// A server with the given name (in logs) that answers 404 to everything.
    pub fn new(name: impl Into<String>) -> Server {
        Server {
            name: name.into(),
            http: Router::new(),
            grpc: None,
            limits: Limits::default(),
            metrics: None,
        }
    }

    /// Answers HTTP with `router`.
    pub fn http(mut self, router: Router) -> Server {
        self.http = router;
        self
    }

    /// Answers `application/grpc` requests with `services`, on the same port as HTTP.
    pub fn grpc(mut self, services: tonic::service::Routes) -> Server {
        self.grpc = Some(services.prepare().into_axum_router());
        self
    }

    /// Sets the bounds.
    pub fn limits(mut self, limits: Limits) -> Server {
        self.limits = limits;
        self
    }

    /// Records `request_duration_seconds{route,method,status_code}` under the handle's prefix (`loki`, `tempo`); several
    /// servers may share a prefix.
    pub fn metrics(mut self, metrics: &Metrics) -> Server {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Accepts until `drain` is cancelled, then closes the listener, lets requests in work end, and returns; connections without
    /// any have a second. Dropping the future cuts all connections.
    pub async fn serve(self, listener: Listener, drain: CancellationToken) -> anyhow::Result<()> {
        let Server { name, http, grpc, limits, metrics } = self;
        tracing::info!(server = name, address = %listener.address(), tls = listener.tls.is_some(), "listening");
        let service = Requests::new(http, grpc, limits, metrics, drain.clone());
        let Listener { socket, tls, .. } = listener;
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let permits = Arc::new(Semaphore::new(limits.connections));
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&socket, &permits) => accepted,
            };
            let (stream, permit) = match stream {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: pausing lets connections end.
                    tracing::warn!(server = name, %error, "cannot accept connections");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            let (service, drain, tls) = (service.clone(), drain.clone(), tls.clone());
            connections.spawn(async move {
                let _permit = permit;
                match tls {
                    None => connection(stream, service, limits, drain).await,
                    Some(tls) => {
                        let timed = tokio::time::timeout(limits.header_timeout, tls.accept(stream));
                        match patient(timed, &drain).await {
                            Some(Ok(Ok(stream))) => connection(stream, service, limits, drain).await,
                            Some(Ok(Err(error))) => tracing::debug!(%error, "TLS handshake failed"),
                            Some(Err(_)) | None => tracing::debug!("TLS handshake took too long"),
                        }
                    }
                }
            });
        }
        drop(socket);
        tracing::debug!(server = name, connections = connections.len(), "draining");
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

/// The next connection, when there is room for it.
async fn accept(
    socket: &tokio::net::TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole: waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                return Ok((stream, permit));
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_the_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// So long a connection has for a request when the server drains.
const PATIENCE: Duration = Duration::from_secs(1);

/// What comes of `work`; `None` when the server drains, and that has taken too long.
async fn patient<T>(work: impl Future<Output = T>, drain: &CancellationToken) -> Option<T> {
    let drained = async {
        drain.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = drained => None,
    }
}

/// Runs hyper's tasks (one per HTTP/2 stream) under the connection that they belong to.
#[derive(Clone)]
struct Streams(TaskTracker);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

async fn connection<S>(stream: S, requests: Requests, limits: Limits, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let streams = Streams(TaskTracker::new());
    let mut builder = Builder::new(streams.clone());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1_000)
        .max_header_list_size(64 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(limits.header_timeout)
        .keep_alive_timeout(Duration::from_secs(20));
    let service = TowerToHyperService::new(requests.on_connection(activity.clone()));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut silence = std::pin::pin!(tokio::time::sleep(limits.header_timeout));
    let mut idle = std::pin::pin!(tokio::time::sleep(PATIENCE));
    let (mut draining, mut silent, mut was_idle) = (false, true, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "connection ended");
                }
                break;
            }
            () = drain.cancelled(), if !draining => {
                (draining, was_idle) = (true, activity.is_idle());
                idle.as_mut().reset(tokio::time::Instant::now() + PATIENCE);
                connection.as_mut().graceful_shutdown();
            }
            // Half a request would hold the end up until its rest is overdue.
            () = idle.as_mut(), if draining => {
                if was_idle && activity.is_idle() {
                    break;
                }
                was_idle = activity.is_idle();
                idle.as_mut().reset(tokio::time::Instant::now() + PATIENCE);
            }
            // hyper's own header timeout begins after it knows the protocol, which a silent client never tells.
            () = silence.as_mut(), if silent => {
                silent = false;
                if !activity.has_started() {
                    break;
                }
            }
        }
    }
    streams.0.close();
    streams.0.wait().await;
}

/// Extension of every request: cancelled when the server begins to drain. Handlers that live long (tail over WebSocket)
/// end when it is.
#[derive(Clone, Debug)]
pub struct Draining(pub CancellationToken);

/// Reads a whole body of at most `max` bytes: 413 beyond, 408 when the client stalls, 400 when it breaks off.
pub async fn read_body(body: Body, max: usize) -> Result<Bytes, Failure> {
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(body_failure(error.as_ref(), max)),
    }
}

fn body_failure(error: &(dyn StdError + 'static), max: usize) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Failure::too_large(max);
        }
        if error.is::<tower_http::timeout::TimeoutError>() {
            return Failure::invalid("the request's body did not arrive in time")
                .with_status(http::StatusCode::REQUEST_TIMEOUT);
        }
        cause = error.source();
    }
    Failure::invalid(format!("the request's body broke off: {error}"))
}

#[cfg(test)]
mod tests;
