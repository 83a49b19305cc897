//! The compactor: merges small blocks, lets entries expire, removes deleted lines. Queries need none of it to be right.
//!
//! A round looks at each tenant in turn. Every step replaces some blocks by others in one commit, so a compactor may die
//! anywhere, and of two that run at once one gives way.

mod config;
mod merge;
mod metrics;
mod pending;
mod retention;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{BlockId, BlockMeta, CompactError, Compacted, ManifestError, MergeError, Store, Tiers, pick};
use hashbrown::{HashMap, HashSet};
use model::{TenantId, Timestamp};
use service::CancellationToken;

pub use crate::compact::config::CompactorConfig;
pub use crate::compact::merge::Keep;
pub use crate::compact::metrics::CompactorMetrics;
pub use crate::compact::retention::{Retention, Retentions};
use crate::deletes::{Deletes, TenantMask};
use crate::store::signal::LogsSignal;

/// A block is rewritten when one of so many rows is expired …
const EXPIRED_SHARE: u64 = 4;
/// … or when some are for so long.
const OVERDUE: i64 = 24 * 3_600_000_000_000;
/// A block in which nothing was to be done is looked at again, or one that failed is tried again, after this.
const LATER: Duration = Duration::from_secs(3600);
/// Of the time that entries are usually kept the rows of a merged block span one of so many parts: it expires nearly at once.
const SPANS: u32 = 10;

/// Why a tenant's round ended early. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error(transparent)]
    Compact(#[from] CompactError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error(transparent)]
    Flush(#[from] block::FlushError),
    #[error("{0}")]
    Requests(String),
}

impl RoundError {
    /// Another compactor was faster.
    fn is_conflict(&self) -> bool {
        match self {
            Self::Compact(error) => error.is_conflict(),
            Self::Manifest(error) => error.is_conflict(),
            _ => false,
        }
    }
}

/// Looks through all blocks at every interval.
pub struct Compactor {
    pub(crate) store: Arc<Store<LogsSignal>>,
    retentions: Retentions,
    pub(crate) deletes: Arc<Deletes>,
    config: CompactorConfig,
    pub(crate) metrics: CompactorMetrics,
    tenants: HashMap<TenantId, Known>,
}

/// What need not be found out again in every round. Lost at a restart, and then found out again.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Blocks that are left alone for now: nothing of them was expired, or merging them failed.
    rested: HashMap<BlockId, Instant>,
    /// Blocks in which a request has nothing to delete.
    pub(crate) clean: HashSet<(BlockId, String)>,
}

impl Known {
    fn rests(&self, id: BlockId) -> bool {
        self.rested.get(&id).is_some_and(|since| since.elapsed() < LATER)
    }

    fn rest(&mut self, id: BlockId) {
        self.rested.insert(id, Instant::now());
    }

    /// Forgets blocks that are gone.
    fn only(&mut self, blocks: &[BlockMeta]) {
        let live: HashSet<BlockId> = blocks.iter().map(|b| b.id).collect();
        self.rested.retain(|id, _| live.contains(id));
        self.clean.retain(|(id, _)| live.contains(id));
    }
}

impl Compactor {
    /// A compactor of all tenants of a store.
    pub fn new(
        store: Arc<Store<LogsSignal>>,
        retentions: Retentions,
        deletes: Arc<Deletes>,
        config: CompactorConfig,
        metrics: CompactorMetrics,
    ) -> Self {
        Self { store, retentions, deletes, config, metrics, tenants: HashMap::new() }
    }

    /// Makes rounds until `stop` is cancelled. What is under way then is dropped; it leaves nothing but objects for the janitor.
    pub async fn run(mut self, stop: CancellationToken) {
        self.metrics.running(true);
        let metrics = self.metrics.clone();
        let rounds = async {
            loop {
                tokio::time::sleep(self.config.compaction_interval.get()).await;
                self.round().await;
            }
        };
        stop.run_until_cancelled(rounds).await;
        metrics.running(false);
    }

    /// Does what is to be done now, for every tenant.
    pub async fn round(&mut self) {
        let started = Instant::now();
        let mut is_well = true;
        let (mut pending, mut oldest) = (0, None);
        for tenant in self.store.tenants() {
            let mut known = self.tenants.remove(&tenant).unwrap_or_default();
            match self.tenant(&tenant, &mut known).await {
                Ok(requests) => {
                    pending += requests.len();
                    oldest = requests.into_iter().chain(oldest).min();
                }
                Err(error) if error.is_conflict() => {
                    tracing::debug!(%tenant, %error, "another compactor was faster");
                }
                Err(error) => {
                    is_well = false;
                    tracing::warn!(%tenant, %error, "compaction stopped early: the next round goes on");
                }
            }
            known.only(&self.store.snapshot(&tenant).manifest.blocks);
            self.tenants.insert(tenant, known);
        }
        self.metrics.pending(pending, oldest);
        self.metrics.round(is_well, started.elapsed());
    }

    /// Returns when the requests were made that are still to be processed.
    async fn tenant(&self, tenant: &TenantId, known: &mut Known) -> Result<Vec<i64>, RoundError> {
        // Another process may have changed things, or an answer of ours was lost.
        self.store.refresh(tenant).await?;
        let manifest = self.store.snapshot(tenant).manifest;
        let due =
            self.deletes.due(tenant, &manifest).map_err(|e| RoundError::Requests(e.message().to_owned()))?;
        let keep = Arc::new(Keep {
            retention: self.retentions.of(tenant),
            now: Timestamp::now().nanos(),
            mask: TenantMask::new(&due).map_err(RoundError::Requests)?,
        });
        let expired = self.expire(tenant, &keep, known).await;
        if keep.retention.shortest().is_some() {
            self.metrics.retention(expired.is_ok());
        }
        expired?;
        let pending = self.delete(tenant, &keep, &due, known).await?;
        self.deletes.forget(tenant).await?;
        self.merge(tenant, &keep, known).await?;
        Ok(pending)
    }

    /// Removes blocks in which everything is expired, without reading them where the manifest or the index tells; rewrites those
    /// in which much is.
    async fn expire(&self, tenant: &TenantId, keep: &Arc<Keep>, known: &mut Known) -> Result<(), RoundError> {
        let Some(shortest) = keep.retention.shortest() else { return Ok(()) };
        let strictest = keep.now.saturating_sub(i64::try_from(shortest.as_nanos()).unwrap_or(i64::MAX));
        let lenient = keep.retention.oldest_of_all(keep.now);
        let manifest = self.store.snapshot(tenant).manifest;
        let (mut gone, mut rewritten) = (Vec::new(), Vec::new());
        for meta in &manifest.blocks {
            if meta.summary.max_time.nanos() < lenient {
                gone.push(meta.id);
            } else if meta.summary.min_time.nanos() < strictest && !known.rests(meta.id) {
                match self.expired(tenant, meta, keep).await? {
                    Expired::All => gone.push(meta.id),
                    Expired::Much => rewritten.push(meta),
                    Expired::Little => known.rest(meta.id),
                }
            }
        }
        if !gone.is_empty() {
            let count = gone.len();
            self.store.remove(tenant, gone).await?;
            self.metrics.expired(count);
            tracing::info!(%tenant, blocks = count, "expired blocks removed");
        }
        for meta in rewritten {
            self.replace(tenant, std::slice::from_ref(meta), keep, known).await?;
        }
        Ok(())
    }

    /// How much of a block is expired, by its index.
    async fn expired(&self, tenant: &TenantId, meta: &BlockMeta, keep: &Keep) -> Result<Expired, RoundError> {
        let block = self.store.open_block(tenant, meta).await.map_err(MergeError::from)?;
        let (mut expired, mut overdue, mut all) = (0, 0, true);
        for stream in &block.index().streams {
            let oldest = keep.retention.oldest(&stream.labels, keep.now);
            all &= stream.last() < oldest;
            if stream.first() < oldest {
                expired += stream.amount(i64::MIN, oldest - 1).entries;
                overdue = overdue.max(oldest.saturating_sub(stream.first()));
            }
        }
        let is_much = expired * EXPIRED_SHARE >= meta.summary.rows || overdue >= OVERDUE;
        Ok(match expired {
            _ if all => Expired::All,
            1.. if is_much => Expired::Much,
            _ => Expired::Little,
        })
    }

    /// Merges small blocks until there is nothing to merge.
    async fn merge(&self, tenant: &TenantId, keep: &Arc<Keep>, known: &mut Known) -> Result<(), RoundError> {
        let tiers = Tiers {
            target_bytes: self.config.target_size.get(),
            max_raw_bytes: self.config.max_merge_size.get(),
            max_span: keep.retention.usual().map(|period| period / SPANS),
            ..Tiers::default()
        };
        let mut failed = HashSet::new();
        loop {
            let manifest = self.store.snapshot(tenant).manifest;
            let Some(range) = pick(&manifest.blocks, &tiers, |b| failed.contains(&b.id)) else {
                return Ok(());
            };
            let blocks = &manifest.blocks[range];
            match self.replace(tenant, blocks, keep, known).await {
                Ok(_) => {}
                Err(error) if error.is_conflict() => return Err(error),
                // One damaged block must not stop the merging of all others.
                Err(error) => {
                    tracing::warn!(%tenant, %error, blocks = blocks.len(), "blocks cannot be merged: left as they are");
                    failed.extend(blocks.iter().map(|b| b.id));
                }
            }
        }
    }

    /// Replaces blocks by what stays of them.
    pub(crate) async fn replace(
        &self,
        tenant: &TenantId,
        blocks: &[BlockMeta],
        keep: &Arc<Keep>,
        known: &mut Known,
    ) -> Result<Compacted, RoundError> {
        let started = Instant::now();
        let done = self.store.compact(tenant, blocks, keep.clone()).await?;
        for id in done.added.iter().map(|b| b.id) {
            known.clean.extend(keep.mask.requests().iter().map(|r| (id, r.id.clone())));
        }
        self.metrics.merged(blocks.len(), &done);
        tracing::info!(
            %tenant, blocks = blocks.len(), into = done.added.len(), rows = done.rows(), bytes = done.size(),
            dropped = done.rows_before.saturating_sub(done.rows()), elapsed = ?started.elapsed(), "blocks merged"
        );
        Ok(done)
    }
}

enum Expired {
    All,
    Much,
    Little,
}
