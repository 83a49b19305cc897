//! Delete requests: accepted durably, applied to queries at once, to blocks when they can no longer be cancelled.
//!
//! They are notes in the tenant's manifest, so a query that has a snapshot has the requests that belong to it: a request is
//! processed in a version whose blocks are free of its lines, and no reader can see one without the other.

mod filter;
mod mask;
mod request;

use std::sync::Arc;
use std::time::Duration;

use block::{Manifest, ManifestError, NoteChange, Store};
use hashbrown::HashMap;
use model::{TenantId, Timestamp};
use parking_lot::RwLock;
use service::Failure;
use xxhash_rust::xxh3::xxh3_64;

use crate::compact::{CompactorConfig, CompactorMetrics};
pub(crate) use crate::deletes::mask::Masked;
pub use crate::deletes::mask::TenantMask;
pub use crate::deletes::request::{DeleteRequest, Status};
use crate::limits::DeletionMode;
use crate::overrides::Overrides;
use crate::store::signal::LogsSignal;

/// What the keys of notes begin with that are requests.
const PREFIX: &str = "delete/";
/// Requests of a tenant that are not processed, at most.
const MAX_PENDING: usize = 1000;
/// Bytes of the query of a request, at most: it is in every version of the manifest.
const MAX_QUERY: usize = 4096;
/// Processed requests that are still told of, at most.
const MAX_PROCESSED: usize = 200;
/// How long processed requests are told of.
const TOLD: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often a change is tried against other writers.
const ATTEMPTS: usize = 5;

/// The delete requests of all tenants.
pub struct Deletes {
    store: Arc<Store<LogsSignal>>,
    limits: Overrides,
    enabled: bool,
    cancel_period: Duration,
    max_interval: Duration,
    metrics: CompactorMetrics,
    /// The mask of a tenant by the version of its manifest.
    masks: RwLock<HashMap<TenantId, (u64, Arc<TenantMask>)>>,
}

impl Deletes {
    /// Requests are taken and applied only if retention is enabled, as in Loki.
    pub fn new(
        store: Arc<Store<LogsSignal>>,
        limits: Overrides,
        config: &CompactorConfig,
        metrics: CompactorMetrics,
    ) -> Self {
        Self {
            store,
            limits,
            enabled: config.retention_enabled,
            cancel_period: config.delete_request_cancel_period.get(),
            max_interval: config.delete_max_interval.get(),
            metrics,
            masks: RwLock::default(),
        }
    }

    /// Longest `max_interval` that a request may give; 0 for any.
    pub fn max_interval(&self) -> Duration {
        self.max_interval
    }

    /// Whether requests are taken at all.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// What is hidden of the rows of a snapshot, whose manifest is given.
    pub fn mask(&self, tenant: &TenantId, manifest: &Manifest) -> Result<Arc<TenantMask>, Failure> {
        if manifest.notes.is_empty() || self.mode(tenant) == DeletionMode::Disabled {
            return Ok(Arc::default());
        }
        if let Some((version, mask)) = self.masks.read().get(tenant)
            && *version == manifest.version
        {
            return Ok(mask.clone());
        }
        let pending =
            requests(manifest)?.into_iter().filter(|r| !r.status.is_processed()).collect::<Vec<_>>();
        let mask = Arc::new(TenantMask::new(&pending).map_err(|e| unreadable(&e))?);
        self.masks.write().insert(tenant.clone(), (manifest.version, mask.clone()));
        Ok(mask)
    }

    /// The requests of a tenant, oldest first.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<DeleteRequest>, Failure> {
        self.store.refresh(tenant).await.map_err(unavailable)?;
        requests(&self.store.snapshot(tenant).manifest)
    }

    /// Takes a request: durable, and its lines hidden, when this returns its name. Times are inclusive.
    pub async fn create(
        &self,
        tenant: &TenantId,
        query: &str,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<String, Failure> {
        if query.len() > MAX_QUERY {
            let text =
                format!("query of a delete request is {} bytes long, the limit is {MAX_QUERY}", query.len());
            return Err(Failure::invalid(text));
        }
        for _ in 0..ATTEMPTS {
            let all = self.list(tenant).await?;
            if all.iter().filter(|r| !r.status.is_processed()).count() >= MAX_PENDING {
                let text =
                    format!("{MAX_PENDING} delete requests are pending: wait until some are processed");
                return Err(Failure::limited(text, None));
            }
            let created = Timestamp::now().nanos();
            let name = format!("{tenant} {query} {} {} {created}", start.nanos(), end.nanos());
            let request = DeleteRequest {
                id: format!("{:08x}", xxh3_64(name.as_bytes()) as u32),
                created,
                start: start.nanos(),
                end: end.nanos(),
                query: query.to_owned(),
                status: Status::Received,
            };
            // What cannot be applied must not be taken: no query could be answered any more.
            Masked::new(&request).map_err(Failure::invalid)?;
            // A name that is taken is a conflict too: the next attempt has another.
            match self.change(tenant, None, Some(&request)).await {
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(unavailable(error)),
                Ok(()) => {
                    self.metrics.received(tenant);
                    return Ok(request.id);
                }
            }
        }
        Err(contended())
    }

    /// Takes a request back. One that has begun to be processed, or cannot be cancelled any more, only with `force`; what is gone
    /// stays gone.
    pub async fn cancel(&self, tenant: &TenantId, id: &str, force: bool) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            let all = self.list(tenant).await?;
            let Some(request) = all.iter().find(|r| r.id == id) else {
                return Err(Failure::not_found("could not find delete request with given id"));
            };
            match request.status {
                Status::Processed { .. } => {
                    return Err(Failure::invalid(
                        "deletion of request which is already processed is not allowed",
                    ));
                }
                Status::Partly { .. } if !force => {
                    return Err(Failure::invalid(
                        "unable to cancel partially completed delete request. To force, use the ?force query parameter",
                    ));
                }
                _ if !force && self.is_settled(request, Timestamp::now()) => {
                    return Err(Failure::invalid(format!(
                        "deletion of request past the deadline of {} since its creation is not allowed",
                        service::config::Duration(self.cancel_period)
                    )));
                }
                _ => {}
            }
            match self.change(tenant, Some(request), None).await {
                Err(error) if error.is_conflict() => {}
                other => return other.map_err(unavailable),
            }
        }
        Err(contended())
    }

    /// The requests whose lines are to be removed from blocks now.
    pub(crate) fn due(&self, tenant: &TenantId, manifest: &Manifest) -> Result<Vec<DeleteRequest>, Failure> {
        if self.mode(tenant) != DeletionMode::FilterAndDelete {
            return Ok(Vec::new());
        }
        let mut due = requests(manifest)?;
        due.retain(|r| !r.status.is_processed() && self.is_settled(r, Timestamp::now()));
        Ok(due)
    }

    /// Notes how far a request is. It may have been cancelled: then nothing changes.
    pub(crate) async fn progress(
        &self,
        tenant: &TenantId,
        request: &DeleteRequest,
        status: Status,
    ) -> Result<(), ManifestError> {
        let next = DeleteRequest { status, ..request.clone() };
        match self.change(tenant, Some(request), Some(&next)).await {
            Err(ManifestError::Changed(_)) => Ok(()),
            other => other,
        }
    }

    /// Drops what is known of requests that were processed long ago.
    pub(crate) async fn forget(&self, tenant: &TenantId) -> Result<(), ManifestError> {
        let Ok(all) = requests(&self.store.snapshot(tenant).manifest) else { return Ok(()) };
        let long_ago = Timestamp::now().plus(-(TOLD.as_nanos() as i64)).nanos();
        let processed = all.iter().rev().filter(|r| r.status.is_processed()).enumerate();
        let old = |(n, r): &(usize, &DeleteRequest)| {
            *n >= MAX_PROCESSED || matches!(r.status, Status::Processed { at } if at < long_ago)
        };
        let gone: Vec<_> = processed.filter(old).map(|(_, r)| note(Some(r), None)).collect();
        if !gone.is_empty() {
            self.store.annotate(tenant, gone).await?;
        }
        Ok(())
    }

    fn mode(&self, tenant: &TenantId) -> DeletionMode {
        if self.enabled { self.limits.of(tenant).deletion_mode } else { DeletionMode::Disabled }
    }

    /// Whether it can no longer be cancelled.
    fn is_settled(&self, request: &DeleteRequest, now: Timestamp) -> bool {
        let age = now.nanos().saturating_sub(request.created);
        u128::try_from(age).is_ok_and(|age| age >= self.cancel_period.as_nanos())
    }

    async fn change(
        &self,
        tenant: &TenantId,
        from: Option<&DeleteRequest>,
        to: Option<&DeleteRequest>,
    ) -> Result<(), ManifestError> {
        self.store.annotate(tenant, vec![note(from, to)]).await.map(drop)
    }
}

fn note(from: Option<&DeleteRequest>, to: Option<&DeleteRequest>) -> NoteChange {
    let id = from.or(to).map_or("", |r| r.id.as_str());
    let value = |r: &DeleteRequest| serde_json::to_value(r).expect("numbers and texts are JSON");
    NoteChange { key: format!("{PREFIX}{id}"), from: from.map(value), to: to.map(value) }
}

fn requests(manifest: &Manifest) -> Result<Vec<DeleteRequest>, Failure> {
    let notes = manifest.notes.iter().filter(|(key, _)| key.starts_with(PREFIX));
    let read = notes.map(|(_, value)| serde_json::from_value(value.clone()));
    let mut requests: Vec<DeleteRequest> =
        read.collect::<Result<_, _>>().map_err(|e| unreadable(&e.to_string()))?;
    requests.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(requests)
}

/// Better no answer than one with lines that were to be deleted.
fn unreadable(reason: &str) -> Failure {
    Failure::internal(format!("a delete request cannot be read, so what it hides is unknown: {reason}"))
}

fn unavailable(error: ManifestError) -> Failure {
    Failure::unavailable(error.to_string(), None)
}

fn contended() -> Failure {
    Failure::unavailable("delete requests change too often: try again", None)
}
