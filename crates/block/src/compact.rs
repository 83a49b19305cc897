//! Compaction: blocks are replaced by others that hold the same rows, or those of them that stay.
//!
//! ```text
//! open ─▶ merge ─▶ put index and data ─▶ commit {added, removed} ─▶ install
//! ```
//! Only the commit changes what the data is. A crash before it leaves objects that nobody names; the janitor takes them. The
//! replaced blocks stay readable for a while, so a query that began before goes on. Of two that replace the same block at the same
//! time one finds it gone and gives up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use model::TenantId;

use crate::store::count;
use crate::{
    BlockError, BlockId, BlockMeta, Change, Manifest, ManifestError, NoteChange, OpenBlock, SealError,
    SealedBlock, Signal, Store, WriteError, write_block,
};

/// Blocks opened at the same time.
const OPENS: usize = 8;

/// A signal whose blocks can be merged.
pub trait Compact: Signal {
    /// Which rows stay: retention, deletes.
    type Keep: Send + Sync + 'static;

    /// Merges blocks, given in order of arrival, into new ones. A query over the new blocks must give what it gave over the old
    /// ones, but for rows that do not stay. Yields no block if no row stays; the next block is asked for when one is written, so
    /// that not all of them lie in memory.
    fn merge(
        &self,
        blocks: Vec<Arc<OpenBlock<Self>>>,
        keep: Arc<Self::Keep>,
    ) -> BoxStream<'static, Result<SealedBlock, MergeError>>
    where
        Self: Sized;
}

/// Why blocks could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A block could not be read.
    #[error(transparent)]
    Read(#[from] BlockError),
    /// The rows could not be put together.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The thread that merges died.
    #[error("the merge was interrupted")]
    Interrupted,
}

/// Why blocks were not replaced. They are as they were, unless the bucket did not answer to the commit.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// They could not be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// A new block could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The manifest could not be changed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The new blocks are so old that a janitor might take them.
    #[error("merging took {0:?}: given up, for a janitor might delete the blocks before they are named")]
    TooSlow(Duration),
}

impl CompactError {
    /// Whether another writer was faster: nothing is wrong, plan anew.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Manifest(error) if error.is_conflict())
    }
}

/// Blocks that were replaced.
#[derive(Debug, Clone)]
pub struct Compacted {
    /// By these.
    pub added: Vec<BlockMeta>,
    /// Rows before; those that were there twice count twice.
    pub rows_before: u64,
    /// Bytes of the objects before.
    pub size_before: u64,
}

impl Compacted {
    /// Rows that are left.
    pub fn rows(&self) -> u64 {
        self.added.iter().map(|b| b.summary.rows).sum()
    }

    /// Bytes of the objects that hold them.
    pub fn size(&self) -> u64 {
        self.added.iter().map(|b| b.size + b.index_size).sum()
    }
}

impl<S: Compact> Store<S> {
    /// Replaces blocks of a tenant, given in the manifest's order, by merged ones. When this returns, new snapshots see the new
    /// blocks and only those.
    ///
    /// Dropping the future is safe at any point. After an error of the bucket the blocks may be replaced all the same:
    /// [`Store::refresh`] tells.
    pub async fn compact(
        &self,
        tenant: &TenantId,
        blocks: &[BlockMeta],
        keep: Arc<S::Keep>,
    ) -> Result<Compacted, CompactError> {
        let started = Instant::now();
        let opens = blocks.iter().map(|meta| self.open_block(tenant, meta)).collect::<Vec<_>>();
        let open = stream::iter(opens).buffered(OPENS).try_collect().await.map_err(MergeError::from)?;
        let level = blocks.iter().map(|b| b.level).max().unwrap_or(0).saturating_add(1);
        let mut merged = self.signal().merge(open, keep);
        let mut added = Vec::new();
        while let Some(sealed) = merged.next().await {
            added.push(write_block(&self.shared.blob, S::NAME, tenant, sealed?, level).await?);
        }
        if started.elapsed() > self.shared.options.orphan_age / 2 {
            return Err(CompactError::TooSlow(started.elapsed()));
        }
        let removed = blocks.iter().map(|b| b.id).collect();
        self.commit(tenant, Change { added: added.clone(), removed, ..Change::default() }).await?;
        count(&self.shared.counters.compacted_blocks, added.len() as u64);
        let rows_before = blocks.iter().map(|b| b.summary.rows).sum();
        let size_before = blocks.iter().map(|b| b.size + b.index_size).sum();
        Ok(Compacted { added, rows_before, size_before })
    }
}

impl<S: Signal> Store<S> {
    /// Takes blocks out of a tenant's data without reading them.
    pub async fn remove(&self, tenant: &TenantId, blocks: Vec<BlockId>) -> Result<(), ManifestError> {
        self.commit(tenant, Change { removed: blocks, ..Change::default() }).await.map(drop)
    }

    /// Changes [`Manifest::notes`] of a tenant, all or none. Durable, and part of every new snapshot, when it returns; the tenant
    /// may be new. After an error of the bucket the change may have been made.
    pub async fn annotate(
        &self,
        tenant: &TenantId,
        notes: Vec<NoteChange>,
    ) -> Result<Arc<Manifest>, ManifestError> {
        self.commit(tenant, Change { notes, ..Change::default() }).await
    }

    async fn commit(&self, tenant: &TenantId, change: Change) -> Result<Arc<Manifest>, ManifestError> {
        let tenant = self.shared.tenant_or_new(tenant, Arc::default);
        let manifest = tenant.manifests.commit(&tenant.manifest(), &change).await?;
        self.shared.install(&tenant, Arc::clone(&manifest));
        for id in &change.removed {
            self.shared.open_blocks.remove(id);
        }
        count(&self.shared.counters.removed_blocks, change.removed.len() as u64);
        Ok(manifest)
    }
}
