//! Carries out delete requests: what their queries select is removed from the blocks that hold it.
//!
//! A request is processed when in one snapshot no head and no block holds a line of it: every line that was acknowledged
//! before the request is gone then. What rests in a head is flushed first.

use std::sync::Arc;

use block::{BlockMeta, MergeError, Snapshot};
use model::{TenantId, Timestamp};

use crate::compact::merge::read_rows;
use crate::compact::{Compactor, Keep, Known, RoundError};
use crate::deletes::{DeleteRequest, Masked, Status};
use crate::store::head::LogsHead;
use crate::store::index::GRANULE_ROWS;
use crate::store::signal::LogsSignal;

/// Rows looked through at a time.
const LOOK_ROWS: u64 = 16 * GRANULE_ROWS;

impl Compactor {
    /// Removes the lines of the requests, which `keep` masks, and notes how far each is. Returns when those were made that are not
    /// processed.
    pub(super) async fn delete(
        &self,
        tenant: &TenantId,
        keep: &Arc<Keep>,
        due: &[DeleteRequest],
        known: &mut Known,
    ) -> Result<Vec<i64>, RoundError> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        if self.in_memory(self.store.snapshot(tenant), keep).await?.contains(&true) {
            self.store.flush().await?;
        }
        for meta in &self.store.snapshot(tenant).manifest.blocks {
            if self.holds(tenant, meta, keep, known).await? {
                self.replace(tenant, std::slice::from_ref(meta), keep, known).await?;
            }
        }
        self.note(tenant, keep, due, known).await
    }

    /// Notes how far each request is.
    async fn note(
        &self,
        tenant: &TenantId,
        keep: &Arc<Keep>,
        due: &[DeleteRequest],
        known: &Known,
    ) -> Result<Vec<i64>, RoundError> {
        let mut pending = Vec::new();
        let snapshot = self.store.snapshot(tenant);
        let in_memory = self.in_memory(snapshot.clone(), keep).await?;
        for ((request, masked), in_memory) in due.iter().zip(keep.mask.requests()).zip(in_memory) {
            let blocks: Vec<_> = snapshot.manifest.blocks.iter().filter(|b| meets(b, masked)).collect();
            let is_clean = |b: &&&BlockMeta| known.clean.contains(&(b.id, request.id.clone()));
            let clean = blocks.iter().filter(is_clean).count();
            let status = match () {
                () if clean == blocks.len() && !in_memory => {
                    Status::Processed { at: Timestamp::now().nanos() }
                }
                () if clean == 0 => request.status,
                () => Status::Partly { percent: (clean * 100 / blocks.len()).min(99) as u8 },
            };
            if status != request.status {
                self.deletes.progress(tenant, request, status).await?;
            }
            if status.is_processed() {
                self.metrics.processed(tenant);
                tracing::info!(%tenant, request = request.id, "delete request processed");
            } else {
                pending.push(request.created);
            }
        }
        Ok(pending)
    }

    /// For each request whether a head holds a line of it.
    async fn in_memory(
        &self,
        snapshot: Snapshot<LogsSignal>,
        keep: &Arc<Keep>,
    ) -> Result<Vec<bool>, RoundError> {
        let keep = keep.clone();
        let look = move || {
            let requests = keep.mask.requests().iter();
            let look = requests.map(|r| {
                let mut held = snapshot.heads.iter().map(|head| in_head(head, r));
                held.try_fold(false, |any, held| Ok::<_, RoundError>(any || held?))
            });
            look.collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or(Err(MergeError::Interrupted.into()))
    }

    /// Whether a block holds a line of some request. What is found out of others is remembered.
    async fn holds(
        &self,
        tenant: &TenantId,
        meta: &BlockMeta,
        keep: &Arc<Keep>,
        known: &mut Known,
    ) -> Result<bool, RoundError> {
        for (at, request) in keep.mask.requests().iter().enumerate() {
            let name = (meta.id, request.id.clone());
            if !meets(meta, request) || known.clean.contains(&name) {
                continue;
            }
            if self.finds(tenant, meta, keep, at).await? {
                return Ok(true);
            }
            known.clean.insert(name);
        }
        Ok(false)
    }

    /// Whether a block holds a line of the request at a place of the mask.
    async fn finds(
        &self,
        tenant: &TenantId,
        meta: &BlockMeta,
        keep: &Arc<Keep>,
        at: usize,
    ) -> Result<bool, RoundError> {
        let block = self.store.open_block(tenant, meta).await.map_err(MergeError::from)?;
        let request = &keep.mask.requests()[at];
        for (_, stream) in block.index().select(request.matchers(), request.start, request.end) {
            let mut rows = stream.rows_within(request.start, request.end);
            while !rows.is_empty() {
                let next = rows.end.min(rows.start + LOOK_ROWS);
                let batches = read_rows(&block, &std::iter::once(rows.start..next).collect()).await?;
                rows.start = next;
                let (keep, labels) = (keep.clone(), stream.labels.clone());
                let look = move || {
                    let request = &keep.mask.requests()[at];
                    batches.into_iter().any(|b| !request.rows(&b.into_batch(labels.clone())).is_empty())
                };
                if tokio::task::spawn_blocking(look).await.map_err(|_| MergeError::Interrupted)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Whether rows of the block can lie in the time of the request.
fn meets(meta: &BlockMeta, request: &Masked) -> bool {
    meta.summary.min_time.nanos() <= request.end && meta.summary.max_time.nanos() >= request.start
}

fn in_head(head: &LogsHead, request: &Masked) -> Result<bool, RoundError> {
    let selected = head.select(request.matchers(), request.start, request.end);
    for stream in selected.map_err(|e| MergeError::Seal(e.into()))? {
        for chunk in stream.chunks {
            if !request.rows(&chunk.entries.clone().into_batch(stream.labels.clone())).is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
