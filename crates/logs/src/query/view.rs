//! What a query sees: the heads and the opened blocks of a tenant at one moment, and what of them is hidden.

use std::sync::Arc;

use block::{BlockError, OpenBlock, Store};
use futures::{StreamExt, TryStreamExt};
use model::{Labels, TenantId, Timestamp};
use service::Failure;

use crate::compact::Retention;
use crate::deletes::TenantMask;
use crate::query::run::Hiding;
use crate::store::head::LogsHead;
use crate::store::signal::LogsSignal;

/// Blocks opened at the same time for one query.
const OPEN_CONCURRENCY: usize = 8;

/// Heads and blocks of a tenant that may hold rows of a time range. A row is in exactly one of them.
pub struct View {
    /// Oldest first.
    pub heads: Vec<Arc<LogsHead>>,
    /// In the order in which they were written.
    pub blocks: Vec<Arc<OpenBlock<LogsSignal>>>,
    /// The lines that are to be deleted.
    pub mask: Arc<TenantMask>,
    retention: Arc<Retention>,
    now: i64,
}

impl View {
    /// Opens the blocks that meet `first..=last`.
    pub(crate) async fn open(
        store: &Store<LogsSignal>,
        hiding: &Hiding,
        tenant: &TenantId,
        first: i64,
        last: i64,
    ) -> Result<Self, Failure> {
        let snapshot = store.snapshot(tenant);
        let manifest = snapshot.manifest;
        let mask = hiding.mask(tenant, &manifest)?;
        let meets = manifest
            .blocks
            .iter()
            .filter(|meta| meta.summary.min_time.nanos() <= last && meta.summary.max_time.nanos() >= first);
        let open = meets.map(|meta| store.open_block(tenant, meta)).collect::<Vec<_>>();
        let blocks = futures::stream::iter(open)
            .buffered(OPEN_CONCURRENCY)
            .try_collect()
            .await
            .map_err(block_failure)?;
        let (retention, now) = (hiding.retention(tenant), Timestamp::now().nanos());
        Ok(Self { heads: snapshot.heads, blocks, mask, retention, now })
    }

    /// The first instant of a stream that is not expired.
    pub fn oldest(&self, labels: &Labels) -> i64 {
        self.retention.oldest(labels, self.now)
    }
}

/// A block that cannot be read is our fault, or the bucket's.
pub(crate) fn block_failure(error: BlockError) -> Failure {
    match &error {
        BlockError::Blob(_) => Failure::unavailable(error.to_string(), None),
        _ => Failure::internal(error.to_string()),
    }
}
