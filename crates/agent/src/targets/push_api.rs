//! The `loki_push_api` target: other agents push here as they would to the store.
//!
//! 204 says that every client of this agent has delivered what was pushed (or that a stage dropped it on purpose). What is not
//! delivered in time is answered with 503, so that the sender keeps it and pushes again: nothing rests on this agent's memory.
//! Where the configuration has a spool, 204 says that the push is on this agent's disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{HeaderMap, StatusCode, header};
use model::{Labels, Timestamp, is_label_name};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use service::axum::body::Body;
use service::axum::extract::State;
use service::axum::response::{IntoResponse, Response};
use service::axum::{Router, routing::get, routing::post};
use service::config::Problems;
use service::http::{Limits, read_body};
use service::{CancellationToken, Failure, Listener, Server, ServerConfig};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use wire::decompress::{DecompressError, Encoding, decompress};
use wire::loki::{Dialect, PushStream, read_push};

use super::inlet::{Inlet, TICK};
use super::{Inlets, TargetMetrics};
use crate::entry::{Entry, TENANT_LABEL};
use crate::progress::{Progress, Ticket};
use crate::relabel::TargetLabels;
use crate::spool::{Batch, Spool, SpoolError};

/// The `loki_push_api` section.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PushApiConfig {
    /// The listener; its keys are those of the agent's own `server`.
    pub server: ServerConfig,
    /// Labels of every stream.
    pub labels: BTreeMap<String, String>,
    /// Lines keep the time they carry, rather than that of their receipt.
    pub use_incoming_timestamp: bool,
}

impl PushApiConfig {
    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        self.server.check(&format!("{path}.server"), problems);
        for name in self.labels.keys().filter(|name| !is_label_name(name)) {
            problems.add(format!("{path}.labels"), format!("'{name}' is not a label name"));
        }
    }
}

/// Largest body as sent.
const MAX_BODY: usize = 8 << 20;
/// Largest body after decompression.
const MAX_DECODED: usize = 16 << 20;
/// Requests in work at a time; more are refused with 503.
const REQUESTS: usize = 64;
/// Bodies that are decoded at a time; what they come to may pass the queues' bound.
const DECODING: usize = 2;
/// How long a push waits for its delivery: less than the 10 s that Promtail and most others give a request.
const PATIENCE: Duration = Duration::from_secs(8);

/// A listener that is bound.
pub(crate) struct PushTarget {
    listener: Listener,
    limits: Limits,
    config: PushApiConfig,
    inlets: Inlets,
    patience: Duration,
}

impl PushTarget {
    /// Binds the listener.
    pub(crate) fn bind(config: &PushApiConfig, inlets: Inlets) -> Result<Self> {
        let listener = config.server.listen_http().context("loki_push_api.server")?;
        let limits = Limits { requests: REQUESTS, body: MAX_BODY, ..config.server.limits() };
        Ok(Self { listener, limits, config: config.clone(), inlets, patience: PATIENCE })
    }

    /// Where it listens, with the real port.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.listener.address()
    }

    /// Waits less for delivery.
    #[cfg(test)]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Answers until `stop`, then lets requests in work end.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        let way_in = match self.inlets.spool() {
            Some(spool) => WayIn::Spool(spool, self.inlets.clone()),
            None => WayIn::Pipeline(Mutex::new(self.inlets.open())),
        };
        let shared = Arc::new(Shared {
            way_in,
            decoding: Semaphore::new(DECODING),
            metrics: self.inlets.metrics.clone(),
            labels: self.config.labels.clone(),
            keep_time: self.config.use_incoming_timestamp,
            patience: self.patience,
        });
        let routes = Router::new()
            .route("/ready", get(async || "ready\n"))
            .route("/loki/api/v1/push", post(push))
            .route("/api/prom/push", post(push_legacy))
            .route("/promtail/api/v1/raw", post(raw))
            .with_state(shared.clone());
        let server = Server::new("agent-push").http(self.config.server.mount(routes)).limits(self.limits);
        let mut served = std::pin::pin!(server.serve(self.listener, stop));
        let mut ticks = tokio::time::interval(TICK);
        let ended = loop {
            tokio::select! {
                ended = &mut served => break ended,
                _ = ticks.tick() => shared.way_in.tick(),
            }
        };
        shared.way_in.finish();
        ended
    }
}

/// Where lines go.
enum WayIn {
    /// At once, to every client.
    Pipeline(Mutex<Inlet>),
    /// To disk, from where clients read them.
    Spool(Arc<Spool>, Inlets),
}

impl WayIn {
    fn tick(&self) {
        if let Self::Pipeline(inlet) = self {
            inlet.lock().tick();
        }
    }

    fn finish(&self) {
        if let Self::Pipeline(inlet) = self {
            inlet.lock().finish();
        }
    }
}

/// The lines of one push on their way.
enum Intake<'a> {
    Pipeline(&'a mut Inlet, &'a Arc<Ticket>),
    Spool(&'a Inlets, Batch),
}

impl Intake<'_> {
    fn labels(&self, labels: TargetLabels) -> Option<Labels> {
        match self {
            Self::Pipeline(inlet, _) => inlet.labels(labels),
            Self::Spool(inlets, _) => inlets.labels(labels),
        }
    }

    fn take(&mut self, entry: Entry) {
        match self {
            Self::Pipeline(inlet, ticket) => inlet.enter(entry, Some(ticket)),
            Self::Spool(_, batch) => batch.add(&entry),
        }
    }
}

struct Shared {
    way_in: WayIn,
    decoding: Semaphore,
    metrics: TargetMetrics,
    labels: BTreeMap<String, String>,
    keep_time: bool,
    patience: Duration,
}

async fn push(shared: State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    answer(shared.push(&headers, body, Dialect::V1).await)
}

async fn push_legacy(shared: State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    answer(shared.push(&headers, body, Dialect::Legacy).await)
}

async fn raw(shared: State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    answer(shared.raw(&headers, body).await)
}

fn answer(result: Result<(), Failure>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => failure.into_line_response(),
    }
}

fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Shared {
    /// A push of streams. A stream whose labels cannot be read is refused with 400 after the others were taken.
    async fn push(&self, headers: &HeaderMap, body: Body, dialect: Dialect) -> Result<(), Failure> {
        let body = read_body(body, MAX_BODY).await?;
        let (kind, encoding) = (text(headers, header::CONTENT_TYPE), text(headers, header::CONTENT_ENCODING));
        let tenant = text(headers, "X-Scope-OrgID");
        let mut faulty = None;
        self.deliver(|intake| {
            let request = read_push(body, kind, encoding, dialect, MAX_DECODED);
            let request = request.map_err(|error| match error.is_too_large() {
                true => Failure::too_large(MAX_DECODED),
                false => Failure::invalid(error.to_string()),
            })?;
            for stream in request.streams {
                match Labels::parse(&stream.labels) {
                    Ok(labels) => self.stream(intake, &labels, stream, tenant),
                    Err(error) => faulty = Some(Failure::invalid(format!("{}: {error}", stream.labels))),
                }
            }
            Ok(())
        })
        .await?;
        faulty.map_or(Ok(()), Err)
    }

    /// Lines of plain text.
    async fn raw(&self, headers: &HeaderMap, body: Body) -> Result<(), Failure> {
        let body = read_body(body, MAX_BODY).await?;
        let encoding = text(headers, header::CONTENT_ENCODING);
        let unknown = || {
            Failure::invalid(format!("Content-Encoding {encoding:?} not supported"))
                .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        };
        let encoding = Encoding::parse(encoding).ok_or_else(unknown)?;
        let tenant = text(headers, "X-Scope-OrgID");
        self.deliver(|intake| {
            let body = decompress(body, encoding, MAX_DECODED).map_err(|error| match error {
                DecompressError::TooLarge { limit } => Failure::too_large(limit),
                error => Failure::invalid(error.to_string()),
            })?;
            let Some(labels) = self.labels(intake, &Labels::default(), tenant) else { return Ok(()) };
            for line in body.split(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if !line.is_empty() {
                    let line = String::from_utf8_lossy(line).into_owned();
                    self.metrics.push_entries.inc();
                    intake.take(Entry::new(Timestamp::now(), line, labels.clone()));
                }
            }
            Ok(())
        })
        .await
    }

    /// Hands on the lines of a stream, unless a rule drops it.
    fn stream(&self, intake: &mut Intake<'_>, labels: &Labels, stream: PushStream, tenant: &str) {
        let Some(labels) = self.labels(intake, labels, tenant) else { return };
        for pushed in stream.entries {
            let time = if self.keep_time { Timestamp(pushed.timestamp_ns) } else { Timestamp::now() };
            let mut entry = Entry::new(time, pushed.line.as_str().to_owned(), labels.clone());
            entry.metadata = pushed
                .metadata
                .iter()
                .map(|(name, value)| (name.as_str().into(), value.as_str().to_owned()))
                .collect();
            self.metrics.push_entries.inc();
            intake.take(entry);
        }
    }

    /// The labels of a stream with those of the configuration, relabelled. The tenant of the request is kept, unless a rule names
    /// another.
    fn labels(&self, intake: &Intake<'_>, stream: &Labels, tenant: &str) -> Option<Labels> {
        let mut labels: TargetLabels =
            stream.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        labels.extend(self.labels.clone());
        if !tenant.is_empty() {
            labels.insert(TENANT_LABEL.to_owned(), tenant.to_owned());
        }
        intake.labels(labels)
    }

    /// Has `work` hand on lines when there is room for them, and waits until all are delivered, or on disk.
    async fn deliver(
        &self,
        work: impl FnOnce(&mut Intake<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + self.patience;
        match &self.way_in {
            WayIn::Pipeline(inlet) => self.through(inlet, work, deadline).await,
            WayIn::Spool(spool, inlets) => self.spooled(spool, inlets, work, deadline).await,
        }
    }

    async fn through(
        &self,
        inlet: &Mutex<Inlet>,
        work: impl FnOnce(&mut Intake<'_>) -> Result<(), Failure>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let progress = Progress::new(0);
        {
            let enter = async {
                let permit = self.decoding.acquire().await;
                let room = inlet.lock().room();
                room.await;
                permit
            };
            let permit = timeout_at(deadline, enter).await;
            let _permit =
                permit.map_err(|_| self.late("the agent's clients do not deliver: there is no room"))?;
            let ticket = progress.open(1);
            let mut inlet = inlet.lock();
            let worked = work(&mut Intake::Pipeline(&mut inlet, &ticket));
            inlet.urge();
            ticket.done(1);
            worked?;
        }
        let delivered = timeout_at(deadline, progress.reached(1)).await;
        delivered.map_err(|_| self.late("the agent's clients have not delivered it yet"))
    }

    async fn spooled(
        &self,
        spool: &Spool,
        inlets: &Inlets,
        work: impl FnOnce(&mut Intake<'_>) -> Result<(), Failure>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let permit = timeout_at(deadline, self.decoding.acquire()).await;
        let permit = permit.map_err(|_| self.late("the agent's disk is too slow"))?;
        let mut intake = Intake::Spool(inlets, Batch::default());
        work(&mut intake)?;
        let Intake::Spool(_, batch) = intake else { return Ok(()) };
        spool.append(&batch.finish(), Some(deadline), permit).await.map_err(|error| match error {
            SpoolError::TooLarge { .. } => {
                Failure::invalid(error.to_string()).with_status(StatusCode::PAYLOAD_TOO_LARGE)
            }
            error => self.late(&error.to_string()),
        })
    }

    fn late(&self, what: &str) -> Failure {
        self.metrics.push_unacknowledged.inc();
        Failure::unavailable(format!("{what}: push again"), Some(Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests;
