//! Flushing: frozen heads become blocks, in order, a few tenants at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::commit::Command;
use crate::store::{Shared, count};
use crate::view::{Slot, Tenant};
use crate::{Change, Head, ManifestError, SealError, Signal, WriteError, write_block};

#[derive(Debug, thiserror::Error)]
enum FlushFailure {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the thread that sealed the head died")]
    Interrupted,
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(
        "writing the blocks took {0:?}: started over, for a janitor might delete them before they are named"
    )]
    TooSlow(Duration),
}

/// Flushes heads as they are frozen, and freezes those that are old. Never ends.
pub(crate) async fn run<S: Signal>(shared: &Arc<Shared<S>>, commands: &mpsc::Sender<Command<S>>) {
    let age = shared.options.head_max_age;
    let mut ticks = tokio::time::interval((age / 4).clamp(Duration::from_millis(10), Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut running = FuturesUnordered::new();
    loop {
        let mut retry: Option<Instant> = None;
        let mut frozen: Vec<_> = shared
            .all_tenants()
            .into_iter()
            .filter_map(|t| t.oldest_frozen().map(|slot| (t, slot)))
            .collect();
        frozen.sort_by_key(|(_, slot)| slot.born);
        for (tenant, slot) in frozen {
            if running.len() >= shared.options.flush_concurrency.max(1) {
                break;
            }
            let mut flush = tenant.flush.lock();
            match flush.not_before.filter(|t| *t > Instant::now()) {
                _ if flush.running => {}
                Some(later) => retry = Some(retry.map_or(later, |earlier| earlier.min(later))),
                None => {
                    flush.running = true;
                    drop(flush);
                    running.push(flush_and_note(shared, tenant, slot));
                }
            }
        }
        tokio::select! {
            Some(()) = running.next(), if !running.is_empty() => {
                // When the queue is full there will be another chance.
                let _ = commands.try_send(Command::Trim);
            }
            () = shared.flush_wanted.notified() => {}
            () = sleep_until(retry) => {}
            _ = ticks.tick() => {
                let old = |t: &Arc<Tenant<S>>| t.active().is_some_and(|slot| slot.born.elapsed() >= age);
                if shared.all_tenants().iter().any(old) {
                    let _ = commands.try_send(Command::Freeze { older: Some(age), answer: None });
                }
            }
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

async fn flush_and_note<S: Signal>(shared: &Arc<Shared<S>>, tenant: Arc<Tenant<S>>, slot: Arc<Slot<S>>) {
    let started = Instant::now();
    let result = flush(shared, &tenant, &slot).await;
    shared.flush_failing.store(result.is_err(), Ordering::Relaxed);
    let mut flush = tenant.flush.lock();
    flush.running = false;
    match result {
        Ok(blocks) => {
            flush.streak = 0;
            flush.not_before = None;
            count(&shared.counters.flushes, 1);
            tracing::info!(
                signal = S::NAME, tenant = %tenant.id, rows = slot.head.rows(), blocks,
                elapsed = ?started.elapsed(), "head flushed"
            );
        }
        Err(error) => {
            let pause = shared.options.flush_retry * 2u32.pow(flush.streak.min(5));
            flush.streak = flush.streak.saturating_add(1);
            flush.failures += 1;
            flush.not_before = Some(Instant::now() + pause);
            flush.last_error = error.to_string();
            count(&shared.counters.flush_failures, 1);
            let unflushed = shared.unflushed.load(Ordering::Acquire);
            tracing::warn!(
                signal = S::NAME, tenant = %tenant.id, %error, unflushed, retry_in = ?pause,
                "flush failed: the rows stay in memory and in the log"
            );
        }
    }
    drop(flush);
    shared.flush_ended.send_modify(|n| *n += 1);
}

/// Seals, writes, commits, installs. Every attempt makes new blocks: those of an attempt that failed are
/// named by nobody, and the janitor takes them.
async fn flush<S: Signal>(
    shared: &Arc<Shared<S>>,
    tenant: &Tenant<S>,
    slot: &Slot<S>,
) -> Result<usize, FlushFailure> {
    let started = Instant::now();
    let head = Arc::clone(&slot.head);
    let sealing = tokio::task::spawn_blocking(move || head.seal());
    let sealed = sealing.await.map_err(|_| FlushFailure::Interrupted)??;
    let mut added = Vec::with_capacity(sealed.len());
    for block in sealed {
        added.push(write_block(&shared.blob, S::NAME, &tenant.id, block, 0).await?);
    }
    if started.elapsed() > shared.options.orphan_age / 2 {
        return Err(FlushFailure::TooSlow(started.elapsed()));
    }
    let blocks = added.len();
    let covered = Some((shared.writer.clone(), slot.end()));
    let change = Change { added, covered, ..Change::default() };
    let manifest = tenant.manifests.commit(&tenant.manifest(), &change).await?;
    shared.install(tenant, manifest);
    Ok(blocks)
}
