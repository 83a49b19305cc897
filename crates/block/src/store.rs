//! The store of one signal: append, snapshot, flush.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use blob::Blob;
use bytes::Bytes;
use disk::Durable;
use model::TenantId;
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::commit::{Append, Command, Reservation};
use crate::view::Tenant;
use crate::{
    BlockError, BlockId, BlockMeta, Head, IngestLog, IngestLogError, Manifest, ManifestError, Manifests,
    OpenBlock, Record, Signal, Snapshot, StoreTasks, WriterId, replay,
};

/// The bounds of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// A tenant's head that holds this many bytes is flushed.
    pub head_max_bytes: usize,
    /// A tenant's head whose oldest row came this long ago is flushed.
    pub head_max_age: Duration,
    /// Appends are refused while this many bytes are in no block: the heads of all tenants and what waits to be logged.
    pub max_unflushed_bytes: usize,
    /// Appends that may wait for the commit thread; more wait in their own tasks.
    pub append_queue: usize,
    /// One commit to the log takes at most this many bytes.
    pub commit_max_bytes: usize,
    /// Heads being flushed at the same time.
    pub flush_concurrency: usize,
    /// Memory for the footers and indexes of open blocks, in bytes.
    pub open_blocks_bytes: u64,
    /// How long to wait after a flush failed; doubled with each further failure, up to 32 times as long.
    pub flush_retry: Duration,
    /// How often the janitor looks for objects that nobody names.
    pub janitor_interval: Duration,
    /// Objects that no manifest names are deleted when they are this old. A flush or merge that takes half as long is started over.
    pub orphan_age: Duration,
    /// The objects of blocks that were merged or expired stay for this long, for queries that began before.
    pub removed_grace: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            head_max_bytes: 64 << 20,
            head_max_age: Duration::from_secs(5 * 60),
            max_unflushed_bytes: 512 << 20,
            append_queue: 1024,
            commit_max_bytes: 16 << 20,
            flush_concurrency: 2,
            flush_retry: Duration::from_secs(1),
            open_blocks_bytes: 128 << 20,
            janitor_interval: Duration::from_secs(10 * 60),
            orphan_age: Duration::from_secs(60 * 60),
            removed_grace: Duration::from_secs(60 * 60),
        }
    }
}

/// Why rows were not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Too much is in no block yet.
    #[error("{unflushed} bytes wait to be flushed, the limit is {limit}: retry in {retry_after:?}")]
    Full {
        /// Bytes in no block.
        unflushed: usize,
        /// [`StoreOptions::max_unflushed_bytes`].
        limit: usize,
        /// When trying again is worth it.
        retry_after: Duration,
    },
    /// The log did not take them; whether they are stored is unknown.
    #[error("the ingest log is not available: {0}")]
    Unavailable(Arc<IngestLogError>),
    /// The store has ended or is ending.
    #[error("the store is shutting down")]
    Closed,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bucket is away, or a manifest is damaged.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The bucket is away.
    #[error(transparent)]
    Blob(#[from] blob::BlobError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] IngestLogError),
    /// The thread that replays died.
    #[error("the replay of the ingest log was interrupted")]
    Interrupted,
}

/// Why a flush did not finish. The rows are still in the heads and in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlushError {
    /// A tenant's head could not be written; it is tried again in the background.
    #[error("flush of {tenant} failed: {reason}")]
    Failed {
        /// Whose.
        tenant: TenantId,
        /// Why.
        reason: String,
    },
    /// The store has ended or is ending.
    #[error("the store is shutting down")]
    Closed,
}

/// Figures for metrics. Counters count since the store was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Known tenants.
    pub tenants: usize,
    /// Rows in heads.
    pub head_rows: u64,
    /// Bytes in heads and in the queue.
    pub unflushed_bytes: usize,
    /// Heads waiting for their flush or in it.
    pub frozen_heads: usize,
    /// Blocks of all manifests.
    pub blocks: usize,
    /// Bytes of those blocks.
    pub block_bytes: u64,
    /// Records acknowledged.
    pub appended_records: u64,
    /// Bytes of those records.
    pub appended_bytes: u64,
    /// Appends refused for [`AppendError::Full`].
    pub refused_records: u64,
    /// Commits to the log.
    pub commits: u64,
    /// Commits that failed.
    pub commit_failures: u64,
    /// Nanoseconds spent in commits.
    pub commit_nanos: u64,
    /// Heads made into blocks.
    pub flushes: u64,
    /// Attempts to do so that failed.
    pub flush_failures: u64,
    /// Records brought back from the log at the start.
    pub replayed_records: u64,
    /// Records of the log that were already in blocks.
    pub replay_covered: u64,
    /// Records of the log that could not be decoded.
    pub replay_undecodable: u64,
    /// Objects of no use that were deleted.
    pub deleted_objects: u64,
    /// Blocks made out of others.
    pub compacted_blocks: u64,
    /// Blocks that were merged, rewritten or expired.
    pub removed_blocks: u64,
}

/// The counters behind [`StoreStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appended_records: AtomicU64,
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) refused_records: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) commit_failures: AtomicU64,
    pub(crate) commit_nanos: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_failures: AtomicU64,
    pub(crate) replayed_records: AtomicU64,
    pub(crate) replay_covered: AtomicU64,
    pub(crate) replay_undecodable: AtomicU64,
    pub(crate) deleted_objects: AtomicU64,
    pub(crate) compacted_blocks: AtomicU64,
    pub(crate) removed_blocks: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// A span as timestamps count it.
pub(crate) fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[derive(Clone)]
pub(crate) struct Weigh;

impl<S: Signal> quick_cache::Weighter<BlockId, Arc<OpenBlock<S>>> for Weigh {
    fn weight(&self, _: &BlockId, block: &Arc<OpenBlock<S>>) -> u64 {
        block.weight()
    }
}

/// What the store, the commit thread, the flushes and the janitor share.
pub(crate) struct Shared<S: Signal> {
    pub(crate) signal: S,
    pub(crate) options: StoreOptions,
    pub(crate) blob: Blob,
    /// The identity of the log.
    pub(crate) writer: WriterId,
    tenants: RwLock<BTreeMap<TenantId, Arc<Tenant<S>>>>,
    /// Bytes of heads and of appends under way.
    pub(crate) unflushed: AtomicUsize,
    pub(crate) counters: Counters,
    pub(crate) open_blocks: Cache<BlockId, Arc<OpenBlock<S>>, Weigh>,
    /// The last flush failed.
    pub(crate) flush_failing: AtomicBool,
    /// A head was frozen.
    pub(crate) flush_wanted: Notify,
    /// Changes whenever a flush ends, well or not.
    pub(crate) flush_ended: watch::Sender<u64>,
    /// The tasks have ended or are ending.
    pub(crate) closed: CancellationToken,
}

impl<S: Signal> Shared<S> {
    pub(crate) fn new(signal: S, options: StoreOptions, blob: Blob, writer: WriterId) -> Self {
        // For so few it is one piece: a share of it might be too small for a merged block.
        let open_blocks = Cache::with_weighter(32, options.open_blocks_bytes, Weigh);
        Self {
            signal,
            options,
            blob,
            writer,
            tenants: RwLock::default(),
            unflushed: AtomicUsize::new(0),
            counters: Counters::default(),
            open_blocks,
            flush_failing: AtomicBool::new(false),
            flush_wanted: Notify::new(),
            flush_ended: watch::Sender::new(0),
            closed: CancellationToken::new(),
        }
    }

    pub(crate) fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant<S>>> {
        self.tenants.read().get(id).cloned()
    }

    pub(crate) fn all_tenants(&self) -> Vec<Arc<Tenant<S>>> {
        self.tenants.read().values().cloned().collect()
    }

    /// A tenant, made with `manifest` if it is not known.
    pub(crate) fn tenant_or_new(
        &self,
        id: &TenantId,
        manifest: impl FnOnce() -> Arc<Manifest>,
    ) -> Arc<Tenant<S>> {
        if let Some(tenant) = self.tenant(id) {
            return tenant;
        }
        let mut tenants = self.tenants.write();
        let make = || {
            let manifests = Manifests::new(self.blob.clone(), S::NAME, id);
            let manifests = manifests.with_grace(self.options.removed_grace);
            Arc::new(Tenant::new(id, manifests, manifest()))
        };
        Arc::clone(tenants.entry(id.clone()).or_insert_with(make))
    }

    /// Puts the rows of a logged record into the tenant's head, and ends the head when it is full.
    pub(crate) fn insert(&self, tenant: &Tenant<S>, position: u64, rows: S::Rows) {
        let (growth, size) = tenant.insert(position, rows, || self.signal.new_head(&tenant.id));
        self.unflushed.fetch_add(growth, Ordering::AcqRel);
        if size >= self.options.head_max_bytes {
            self.freeze(tenant);
        }
    }

    /// Ends the tenant's head and asks for its flush. By the commit thread (or the replay) only.
    pub(crate) fn freeze(&self, tenant: &Tenant<S>) {
        if tenant.freeze() {
            self.flush_wanted.notify_one();
        }
    }

    /// Makes a manifest version current and gives up the heads that it covers.
    pub(crate) fn install(&self, tenant: &Tenant<S>, manifest: Arc<Manifest>) {
        let freed = tenant.install(manifest, &self.writer);
        self.unflushed.fetch_sub(freed, Ordering::AcqRel);
    }
}

/// The data of one signal: what is in blocks, what is in memory, and the log behind it.
pub struct Store<S: Signal> {
    pub(crate) shared: Arc<Shared<S>>,
    commands: mpsc::Sender<Command<S>>,
}

impl<S: Signal> Store<S> {
    /// Opens the store: loads every tenant's manifest, replays the log into heads.
    ///
    /// It takes appends at once, but answers them, and flushes, only while [`StoreTasks::run`] runs.
    pub async fn open<L, R>(
        signal: S,
        options: StoreOptions,
        blob: Blob,
        mut log: L,
        recovered: R,
    ) -> Result<(Arc<Self>, StoreTasks<S>), OpenError>
    where
        L: IngestLog,
        R: IntoIterator<Item = Result<(u64, Record), IngestLogError>> + Send + 'static,
    {
        let shared = Arc::new(Shared::new(signal, options, blob, log.writer().clone()));
        let covered = replay::load_tenants(&shared).await?;
        log.skip_to(covered);
        let replaying = Arc::clone(&shared);
        let checkpoint = log.take_checkpoint();
        let replay = move || replay::replay(&replaying, checkpoint.as_ref(), recovered);
        let replayed = tokio::task::spawn_blocking(replay);
        replayed.await.map_err(|_| OpenError::Interrupted)??;
        let (commands, queue) = mpsc::channel(shared.options.append_queue.max(1));
        let store = Arc::new(Self { shared: Arc::clone(&shared), commands: commands.clone() });
        Ok((store, StoreTasks::new(shared, commands, queue, Box::new(log))))
    }

    /// The signal.
    pub fn signal(&self) -> &S {
        &self.shared.signal
    }

    /// Stores one record: returns when it is durable in the log and its rows are in the head, where the next query sees them.
    /// What it returns is the record as it was logged, without the rows that the signal found to be stored before
    /// ([`Signal::admit`]); `body` itself if there were none.
    ///
    /// After [`AppendError::Unavailable`], and when the future is dropped, the record may or may not be stored.
    pub async fn append(
        &self,
        tenant: &TenantId,
        body: Bytes,
        rows: S::Rows,
    ) -> Result<Durable<Bytes>, AppendError> {
        let shared = &self.shared;
        if shared.closed.is_cancelled() {
            return Err(AppendError::Closed);
        }
        let Some(reserved) = Reservation::take(shared, body.len()) else {
            count(&shared.counters.refused_records, 1);
            // A full queue means that the commit thread is at work and will look by itself.
            let _ = self.commands.try_send(Command::Relieve);
            let failing = shared.flush_failing.load(Ordering::Relaxed);
            return Err(AppendError::Full {
                unflushed: shared.unflushed.load(Ordering::Acquire),
                limit: shared.options.max_unflushed_bytes,
                retry_after: Duration::from_secs(if failing { 5 } else { 1 }),
            });
        };
        let (answer, answered) = oneshot::channel();
        let record = Record { tenant: tenant.clone(), body };
        let append = Append { record, rows, answer, reserved };
        self.commands.send(Command::Append(append)).await.map_err(|_| AppendError::Closed)?;
        answered.await.map_err(|_| AppendError::Closed)?
    }

    /// A tenant's data now. Empty for a tenant that is not known.
    pub fn snapshot(&self, tenant: &TenantId) -> Snapshot<S> {
        self.shared.tenant(tenant).map(|t| t.snapshot()).unwrap_or_default()
    }

    /// The known tenants, sorted.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.shared.tenants.read().keys().cloned().collect()
    }

    /// Makes blocks of everything acknowledged before the call. For an operator's request and for shutdown, before the tasks
    /// are cancelled. Ends with an error at the first failure of a tenant's flush.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let mut ended = self.shared.flush_ended.subscribe();
        let (answer, answered) = oneshot::channel();
        self.commands
            .send(Command::Freeze { older: None, answer: Some(answer) })
            .await
            .map_err(|_| FlushError::Closed)?;
        answered.await.map_err(|_| FlushError::Closed)?;
        let mut waiting = Vec::new();
        for tenant in self.shared.all_tenants() {
            if let Some(last) = tenant.frozen().last() {
                let mut flush = tenant.flush.lock();
                flush.not_before = None;
                let failures = flush.failures;
                drop(flush);
                waiting.push((tenant, last.end(), failures));
            }
        }
        self.shared.flush_wanted.notify_one();
        loop {
            waiting.retain(|(tenant, end, _)| tenant.manifest().covered_by(&self.shared.writer) < *end);
            if waiting.is_empty() {
                return Ok(());
            }
            for (tenant, _, failures) in &waiting {
                let flush = tenant.flush.lock();
                if flush.failures > *failures {
                    return Err(FlushError::Failed {
                        tenant: tenant.id.clone(),
                        reason: flush.last_error.clone(),
                    });
                }
            }
            tokio::select! {
                _ = ended.changed() => {}
                () = self.shared.closed.cancelled() => return Err(FlushError::Closed),
            }
        }
    }

    /// Opens a block, or finds it open in the cache.
    pub async fn open_block(
        &self,
        tenant: &TenantId,
        meta: &BlockMeta,
    ) -> Result<Arc<OpenBlock<S>>, BlockError> {
        let open = async { OpenBlock::open(Arc::clone(&self.shared), tenant, meta).await.map(Arc::new) };
        self.shared.open_blocks.get_or_insert_async(&meta.id, open).await
    }

    /// Looks for manifest versions that other processes made, also of a tenant that is not known yet.
    pub async fn refresh(&self, tenant: &TenantId) -> Result<(), ManifestError> {
        let Some(known) = self.shared.tenant(tenant) else {
            let found = Manifests::new(self.shared.blob.clone(), S::NAME, tenant).load().await?;
            if found.version > 0 {
                // The commit thread may have made the tenant meanwhile, without a manifest.
                let made = self.shared.tenant_or_new(tenant, Arc::default);
                self.shared.install(&made, found);
            }
            return Ok(());
        };
        let manifest = known.manifests.refresh(&known.manifest()).await?;
        self.shared.install(&known, manifest);
        Ok(())
    }

    /// Figures for metrics.
    pub fn stats(&self) -> StoreStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        let tenants = self.shared.all_tenants();
        let mut stats = StoreStats {
            tenants: tenants.len(),
            unflushed_bytes: self.shared.unflushed.load(Ordering::Acquire),
            appended_records: read(&counters.appended_records),
            appended_bytes: read(&counters.appended_bytes),
            refused_records: read(&counters.refused_records),
            commits: read(&counters.commits),
            commit_failures: read(&counters.commit_failures),
            commit_nanos: read(&counters.commit_nanos),
            flushes: read(&counters.flushes),
            flush_failures: read(&counters.flush_failures),
            replayed_records: read(&counters.replayed_records),
            replay_covered: read(&counters.replay_covered),
            replay_undecodable: read(&counters.replay_undecodable),
            deleted_objects: read(&counters.deleted_objects),
            compacted_blocks: read(&counters.compacted_blocks),
            removed_blocks: read(&counters.removed_blocks),
            ..StoreStats::default()
        };
        for tenant in tenants {
            let snapshot = tenant.snapshot();
            stats.frozen_heads += tenant.frozen().len();
            stats.head_rows += snapshot.heads.iter().map(|h| h.rows()).sum::<u64>();
            stats.blocks += snapshot.manifest.blocks.len();
            stats.block_bytes += snapshot.manifest.blocks.iter().map(|b| b.size + b.index_size).sum::<u64>();
        }
        stats
    }
}
