//! What a query sees: the heads and the opened blocks of a tenant at one moment.

use std::sync::Arc;

use block::{BlockError, OpenBlock, Store};
use futures::{StreamExt, TryStreamExt};
use model::TenantId;
use service::Failure;

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
}

impl View {
    /// Opens the blocks that meet `first..=last`.
    pub async fn open(
        store: &Store<LogsSignal>,
        tenant: &TenantId,
        first: i64,
        last: i64,
    ) -> Result<Self, Failure> {
        let snapshot = store.snapshot(tenant);
        let manifest = snapshot.manifest;
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
        Ok(Self { heads: snapshot.heads, blocks })
    }
}

/// A block that cannot be read is our fault, or the bucket's.
pub(crate) fn block_failure(error: BlockError) -> Failure {
    match &error {
        BlockError::Blob(_) => Failure::unavailable(error.to_string(), None),
        _ => Failure::internal(error.to_string()),
    }
}
