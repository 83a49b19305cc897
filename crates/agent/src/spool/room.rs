//! The bytes that all spools may have, on disk and in memory.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// One account for all spools.
#[derive(Debug)]
pub(super) struct Room {
    max: u64,
    used: Mutex<u64>,
    freed: Notify,
    memory: Arc<Semaphore>,
}

/// What a record takes besides its bytes.
pub(super) const RECORD_COST: u64 = 16;
/// Bytes in memory that wait for the disk. One push may pass the bound.
const MEMORY: u32 = 16 << 20;

impl Room {
    /// Of so many bytes on disk.
    pub(super) fn new(max: u64) -> Self {
        let memory = Arc::new(Semaphore::new(MEMORY as usize));
        Self { max, used: Mutex::new(0), freed: Notify::new(), memory }
    }

    /// All there is.
    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Takes bytes if they fit. Files have heads, which alone shall not keep the largest push out.
    pub(super) fn reserve(&self, bytes: u64) -> bool {
        const HEADS: u64 = 16 << 10;
        let mut used = self.used.lock();
        let fits = *used + bytes <= self.max + HEADS;
        if fits {
            *used += bytes;
        }
        fits
    }

    /// So many bytes are so many now.
    pub(super) fn replace(&self, before: u64, after: u64) {
        let mut used = self.used.lock();
        *used = (*used + after).saturating_sub(before);
        if after < before {
            self.freed.notify_waiters();
        }
    }

    /// Whether it is time to look for room.
    pub(super) fn is_short(&self) -> bool {
        *self.used.lock() > self.max / 4 * 3
    }

    /// Resolves when something was given back, or might have been.
    pub(super) async fn freed(&self) {
        const AT_LEAST: std::time::Duration = std::time::Duration::from_millis(200);
        // Nobody is told of what was given back before waiting began.
        let _ = tokio::time::timeout(AT_LEAST, self.freed.notified()).await;
    }

    /// Waits for memory.
    pub(super) async fn memory(&self, bytes: u64) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes).unwrap_or(MEMORY).min(MEMORY);
        let permit = self.memory.clone().acquire_many_owned(bytes).await;
        permit.expect("it is never closed")
    }
}
