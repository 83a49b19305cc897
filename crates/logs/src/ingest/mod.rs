//! The distributor: bodies of pushes become checked, normalised rows and go to the store.

pub mod accept;
pub mod level;
pub mod names;
pub mod otlp;
mod otlp_text;
pub mod pairs;
mod rate;
pub mod reasons;
pub mod streams;

use std::sync::Arc;

use block::{AppendError, Store};
use bytes::Bytes;
use hashbrown::HashMap;
use http::StatusCode;
use model::{TenantId, Timestamp};
use parking_lot::{Mutex, RwLock};
use service::Failure;
use wire::decompress::{DecompressError, Encoding, decompress};
use wire::loki::{Dialect, OriginError, PushError, PushRequest, PushStream, origins, read_push};
use wire::otlp::{Format, Signal};

use crate::ingest::accept::{Accepted, Acceptor};
use crate::ingest::otlp::Mapping;
use crate::ingest::pairs::Pairs;
use crate::ingest::rate::TokenBucket;
use crate::ingest::reasons::Rule;
use crate::ingest::streams::Streams;
use crate::limits::Limits;
use crate::metrics::IngestMetrics;
use crate::overrides::Overrides;
use crate::patterns::{Patterns, SampleBudget};
use crate::store::record;
use crate::store::signal::LogsSignal;
use crate::tail::Tails;

/// Takes pushes.
pub struct Ingest {
    store: Arc<Store<LogsSignal>>,
    limits: Overrides,
    tenants: RwLock<HashMap<TenantId, Arc<TenantState>>>,
    metrics: IngestMetrics,
    max_body: usize,
    tails: Arc<Tails>,
    patterns: Option<Arc<Patterns>>,
}

/// What ingest remembers of a tenant, under the limits that hold for it; other limits begin anew.
struct TenantState {
    limits: Arc<Limits>,
    mapping: Mapping,
    streams: Streams,
    rate: Mutex<TokenBucket>,
    blocked_until: Option<Timestamp>,
}

impl TenantState {
    fn new(limits: Arc<Limits>) -> Self {
        let mapping = Mapping::new(&limits.otlp_config);
        let blocked_until = limits.blocked_until();
        Self { limits, mapping, streams: Streams::default(), rate: Mutex::default(), blocked_until }
    }
}

impl Ingest {
    /// An ingest into `store`; a body may have `max_body` bytes after decompression.
    pub fn new(
        store: Arc<Store<LogsSignal>>,
        limits: Overrides,
        metrics: IngestMetrics,
        max_body: usize,
    ) -> Self {
        let tails = Arc::new(Tails::default());
        Self { store, limits, tenants: RwLock::default(), metrics, max_body, tails, patterns: None }
    }

    /// Looks for patterns in what is taken.
    pub fn with_patterns(self, patterns: Option<Arc<Patterns>>) -> Self {
        Self { patterns, ..self }
    }

    /// Those who wait for what is taken.
    pub(crate) fn tails(&self) -> &Arc<Tails> {
        &self.tails
    }

    fn sample_budget(&self) -> Option<Arc<SampleBudget>> {
        self.patterns.as_ref().map(|patterns| patterns.budget().clone())
    }

    /// A push as it came over HTTP. Returns when the good entries are durable and queryable; the failure tells of the others.
    pub async fn push_http(
        self: &Arc<Self>,
        tenant: &TenantId,
        body: Bytes,
        content_type: &str,
        content_encoding: &str,
        dialect: Dialect,
    ) -> Result<(), Failure> {
        let (kind, encoding) = (content_type.to_owned(), content_encoding.to_owned());
        let prepare = move |ingest: &Self, tenant: &TenantId| {
            let request = read_push(body, &kind, &encoding, dialect, ingest.max_body).map_err(|error| {
                let failure = Failure::invalid(error.to_string());
                if error.is_too_large() {
                    failure.with_status(StatusCode::PAYLOAD_TOO_LARGE)
                } else {
                    failure
                }
            })?;
            ingest.accept(tenant, &request)
        };
        self.take(tenant, prepare).await
    }

    /// A decoded push.
    pub async fn push(self: &Arc<Self>, tenant: &TenantId, request: PushRequest) -> Result<(), Failure> {
        self.take(tenant, move |ingest, tenant| ingest.accept(tenant, &request)).await
    }

    /// Prepares a push on a blocking thread, which may be a second of work for a large one, and stores it.
    async fn take(
        self: &Arc<Self>,
        tenant: &TenantId,
        prepare: impl FnOnce(&Self, &TenantId) -> Result<Accepted, Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let (ingest, owner) = (self.clone(), tenant.clone());
        let work = move || {
            let accepted = prepare(&ingest, &owner)?;
            let record = record::encode(&accepted.rows);
            Ok((accepted, record))
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (accepted, record) =
            done.unwrap_or_else(|e| Err(Failure::internal(format!("preparing a push died: {e}"))))?;
        self.store(tenant, accepted, record).await
    }

    /// Applies the rules to a push.
    fn accept(&self, tenant: &TenantId, request: &PushRequest) -> Result<Accepted, Failure> {
        if request.streams.is_empty() {
            return Err(no_stream());
        }
        let state = self.tenant(tenant);
        let now = Timestamp::now();
        let acceptor = Acceptor::new(&state.limits, now).sampled(self.sample_budget());
        let mut acceptor = acceptor.with_sources(&request.sources);
        for stream in request.streams.iter().filter(|s| !s.entries.is_empty()) {
            let taken = self.take_stream(&state, tenant, stream, now, &mut acceptor);
            taken.map_err(|e| Failure::invalid(PushError::Origins(e).to_string()))?;
        }
        Ok(acceptor.finish())
    }

    fn take_stream(
        &self,
        state: &TenantState,
        tenant: &TenantId,
        sent: &PushStream,
        now: Timestamp,
        acceptor: &mut Acceptor<'_>,
    ) -> Result<(), OriginError> {
        let bytes: usize = sent.entries.iter().map(|e| e.line.len()).sum();
        let stream = match state.streams.get(&sent.labels, tenant.as_str(), &state.limits, now) {
            Ok(stream) => stream,
            Err(error) => {
                acceptor.refuse(error.rule, sent.entries.len() as u64, bytes as u64, || error.text);
                return Ok(());
            }
        };
        let at = acceptor.stream(&stream);
        acceptor.reserve(at, sent.entries.len(), bytes);
        let mut metadata = Pairs::default();
        let mut origins = origins(&sent.origins);
        'entries: for entry in &sent.entries {
            if let Some(origin) = origins.next() {
                acceptor.origin(origin?)?;
            }
            metadata.clear();
            for (name, value) in &entry.metadata {
                if let Err(error) = metadata.add_raw(name, value) {
                    acceptor.refuse(Rule::InvalidStructuredMetadata, 1, entry.line.len() as u64, || {
                        error.to_string()
                    });
                    continue 'entries;
                }
            }
            acceptor.entry(&stream, at, entry.timestamp_ns, &entry.line, &metadata);
        }
        Ok(())
    }

    /// An OTLP/HTTP request as it came.
    pub async fn otlp_http(
        self: &Arc<Self>,
        tenant: &TenantId,
        body: Bytes,
        content_type: &str,
        content_encoding: &str,
    ) -> Result<(), Failure> {
        let format = match content_type.trim() {
            "application/x-protobuf" => Format::Protobuf,
            "application/json" => Format::Json,
            other => match Format::from_content_type(other) {
                Some(format) => format,
                None => return Err(Failure::invalid(format!("content type: {other} is not supported"))),
            },
        };
        let encoding = match Encoding::parse(content_encoding) {
            Some(encoding @ (Encoding::Identity | Encoding::Gzip | Encoding::Zstd | Encoding::Lz4)) => {
                encoding
            }
            _ => {
                return Err(Failure::invalid(format!("Content-Encoding {content_encoding:?} not supported")));
            }
        };
        let prepare = move |ingest: &Self, tenant: &TenantId| {
            let body = decompress(body, encoding, ingest.max_body).map_err(|error| match error {
                DecompressError::TooLarge { limit } => Failure::too_large(limit),
                error => Failure::invalid(error.to_string()),
            })?;
            ingest.accept_otlp(tenant, body, format)
        };
        self.take(tenant, prepare).await
    }

    /// An `ExportLogsServiceRequest`.
    pub async fn push_otlp(
        self: &Arc<Self>,
        tenant: &TenantId,
        body: Bytes,
        format: Format,
    ) -> Result<(), Failure> {
        self.take(tenant, move |ingest, tenant| ingest.accept_otlp(tenant, body, format)).await
    }

    fn accept_otlp(&self, tenant: &TenantId, body: Bytes, format: Format) -> Result<Accepted, Failure> {
        let (body, counts) =
            Signal::Logs.decode(body, format).map_err(|e| Failure::invalid(e.to_string()))?;
        if counts.items == 0 {
            return Err(no_stream());
        }
        let state = self.tenant(tenant);
        let now = Timestamp::now();
        let mut acceptor = Acceptor::new(&state.limits, now).sampled(self.sample_budget());
        state
            .mapping
            .map(&body, &state.streams, tenant.as_str(), &state.limits, now, &mut acceptor)
            .map_err(|e| Failure::invalid(e.to_string()))?;
        Ok(acceptor.finish())
    }

    async fn store(&self, tenant: &TenantId, accepted: Accepted, record: Bytes) -> Result<(), Failure> {
        let Accepted { rows, mut reasons, bytes, samples } = accepted;
        let lines = rows.len() as u64;
        let state = self.tenant(tenant);
        let now = Timestamp::now();
        if let Some(until) = state.blocked_until.filter(|until| now < *until) {
            self.metrics.discarded(tenant, "blocked_ingestion", lines, bytes);
            return blocked(tenant, until, state.limits.block_ingestion_status_code);
        }
        let rate = state.limits.ingestion_rate_mb * f64::from(1 << 20);
        let burst = state.limits.ingestion_burst_size_mb * f64::from(1 << 20);
        let fits = || state.rate.lock().take(bytes as f64, rate, burst, now);
        if rate > 0.0 && !fits() {
            reasons.add(Rule::RateLimited, lines, bytes, || {
                format!(
                    "ingestion rate limit exceeded for user {tenant} (limit: {rate:.0} bytes/sec) while attempting to ingest '{lines}' \
                     lines totaling '{bytes}' bytes: reduce the volume or raise limits_config.ingestion_rate_mb"
                )
            });
        } else if lines > 0 {
            let streams: Option<Vec<_>> =
                self.tails.any().then(|| rows.streams.iter().map(|s| s.labels.clone()).collect());
            let stored = self.store.append(tenant, record.clone(), rows).await.map_err(append_failure)?;
            self.metrics.received(tenant, lines, bytes);
            if self.tails.any() {
                self.tails.publish(tenant, &stored, streams.as_deref());
            }
            // Of a push that was here before, in part at least, nobody knows which of the samples are new.
            let is_new = stored.as_ptr() == record.as_ptr();
            if let Some(patterns) = self.patterns.as_ref().filter(|_| is_new) {
                patterns.observe(tenant, &state.limits, &samples, now);
            }
        }
        for refused in reasons.iter() {
            self.metrics.discarded(tenant, refused.rule.name(), refused.entries, refused.bytes);
        }
        reasons.failure().map_or(Ok(()), Err)
    }

    fn tenant(&self, tenant: &TenantId) -> Arc<TenantState> {
        let limits = self.limits.of(tenant);
        let known = |state: &&Arc<TenantState>| Arc::ptr_eq(&state.limits, &limits);
        if let Some(state) = self.tenants.read().get(tenant).filter(known) {
            return state.clone();
        }
        let mut tenants = self.tenants.write();
        if let Some(state) = tenants.get(tenant).filter(known) {
            return state.clone();
        }
        let state = Arc::new(TenantState::new(limits.clone()));
        tenants.insert(tenant.clone(), state.clone());
        state
    }
}

/// The answer to a tenant whose pushes are refused.
fn blocked(tenant: &TenantId, until: Timestamp, status: u16) -> Result<(), Failure> {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::OK) => Ok(()),
        status => {
            let status = status.unwrap_or(StatusCode::BAD_REQUEST);
            let text = format!(
                "ingestion blocked for user {tenant} until '{until}' with status code '{}'",
                status.as_u16()
            );
            Err(Failure::invalid(text).with_status(status))
        }
    }
}

fn no_stream() -> Failure {
    Failure::invalid("error at least one valid stream is required for ingestion")
        .with_status(StatusCode::UNPROCESSABLE_ENTITY)
}

fn append_failure(error: AppendError) -> Failure {
    match &error {
        AppendError::Full { retry_after, .. } => Failure::limited(error.to_string(), Some(*retry_after)),
        AppendError::Unavailable(_) => Failure::unavailable(error.to_string(), None),
        AppendError::Closed => Failure::unavailable(error.to_string(), None),
    }
}
