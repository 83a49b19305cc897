//! The bounds of queries: memory and processors of all of them together, bytes of each, and the end of those that nobody waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use model::size;
use service::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::query::stats::QueryStats;

/// Memory is counted in pieces of this size.
const UNIT: u64 = 16 << 10;

/// What all queries of a process share.
#[derive(Debug, Clone)]
pub struct Gate {
    processors: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// Pieces of memory in all.
    units: u32,
}

/// A share of the memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    _permit: OwnedSemaphorePermit,
    /// Its bytes.
    pub(crate) bytes: u64,
}

impl Gate {
    /// So many tasks computing at a time, and so many bytes of rows in memory.
    pub fn new(parallel: usize, memory_bytes: u64) -> Self {
        let units = u32::try_from(memory_bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self {
            processors: Arc::new(Semaphore::new(parallel.max(1))),
            memory: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }

    /// Waits for memory. Who holds a share never waits for another one before giving it back, so all get theirs in the end; who needs
    /// more than there is gets all of it.
    pub(crate) async fn reserve(&self, bytes: u64, stats: &QueryStats) -> Result<Reserved, Failure> {
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX).min(self.units);
        let waited = Instant::now();
        let permit = self.memory.clone().acquire_many_owned(units).await.map_err(|_| stopping())?;
        QueryStats::add(&stats.queue_nanos, waited.elapsed().as_nanos() as u64);
        Ok(Reserved { _permit: permit, bytes: u64::from(units) * UNIT })
    }

    /// Waits for a processor.
    pub(crate) async fn processor(&self, stats: &QueryStats) -> Result<OwnedSemaphorePermit, Failure> {
        let waited = Instant::now();
        let permit = self.processors.clone().acquire_owned().await.map_err(|_| stopping())?;
        QueryStats::add(&stats.queue_nanos, waited.elapsed().as_nanos() as u64);
        Ok(permit)
    }

    /// Bytes of memory that no query holds.
    pub fn free_bytes(&self) -> u64 {
        self.memory.available_permits() as u64 * UNIT
    }

    /// Bytes of memory in all.
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }
}

fn stopping() -> Failure {
    Failure::unavailable("the querier is stopping", None)
}

/// Tells tasks on blocking threads that nobody waits for them any more.
pub(crate) struct Cancel(Arc<AtomicBool>);

/// What tasks look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancelled(Arc<AtomicBool>);

impl Cancel {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn flag(&self) -> Cancelled {
        Cancelled(self.0.clone())
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Cancelled {
    /// An error if nobody waits any more.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::cancelled()) } else { Ok(()) }
    }
}

/// Refuses a query that reads more bytes of lines and metadata than it may; 0 for any.
pub(crate) fn within_bytes(bytes: u64, limit: u64) -> Result<(), Failure> {
    if limit == 0 || bytes <= limit {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "the query would read too many bytes (query: {}, limit: {}): narrow the selector or the time range, or raise \
         limits_config.max_query_bytes_read",
        size::format_humanized(bytes),
        size::format_humanized(limit)
    )))
}
