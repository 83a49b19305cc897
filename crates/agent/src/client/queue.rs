//! A bounded queue between the reading thread and a client's task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use service::CancellationToken;
use tokio::sync::Notify;

use crate::entry::Entry;

/// Entries that wait for a client, bounded by their bytes.
pub struct Queue {
    max_bytes: usize,
    state: Mutex<State>,
    /// Wakes the thread that waits for room.
    freed: Condvar,
    /// Wakes tasks that wait for room.
    freed_async: Notify,
    /// Wakes the client's task.
    filled: Notify,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Somebody waits for what was queued to be delivered.
    is_urgent: bool,
}

impl Queue {
    /// An empty queue. One chunk of a file may pass the bound, no more.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            state: Mutex::default(),
            freed: Condvar::new(),
            freed_async: Notify::new(),
            filled: Notify::new(),
        }
    }

    /// Adds an entry.
    pub fn push(&self, entry: Arc<Entry>) {
        let mut state = self.state.lock();
        state.bytes += weight(&entry);
        state.entries.push_back(entry);
        drop(state);
        self.filled.notify_one();
    }

    /// Takes the oldest entry.
    pub fn pop(&self) -> Option<Arc<Entry>> {
        let mut state = self.state.lock();
        let entry = state.entries.pop_front()?;
        let was_full = state.bytes >= self.max_bytes;
        state.bytes -= weight(&entry);
        if was_full && state.bytes < self.max_bytes {
            self.freed.notify_all();
            self.freed_async.notify_waiters();
        }
        Some(entry)
    }

    /// Asks for what is queued to be sent without waiting for more.
    pub fn urge(&self) {
        self.state.lock().is_urgent = true;
        self.filled.notify_one();
    }

    /// Whether that was asked since the last call.
    pub fn take_urgency(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_urgent)
    }

    /// Resolves when an entry may be there, or when there is a hurry.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Waits on this thread for room; `false` if `stop` came first.
    pub fn wait_for_room(&self, stop: &CancellationToken) -> bool {
        let mut state = self.state.lock();
        while state.bytes >= self.max_bytes {
            if stop.is_cancelled() {
                return false;
            }
            self.freed.wait_for(&mut state, Duration::from_millis(100));
        }
        true
    }

    /// Resolves when there is room.
    pub async fn room(&self) {
        loop {
            let freed = self.freed_async.notified();
            if self.state.lock().bytes < self.max_bytes {
                return;
            }
            freed.await;
        }
    }
}

/// What an entry holds in memory, about.
fn weight(entry: &Entry) -> usize {
    const FIXED: usize = 160;
    FIXED + entry.line.len() + entry.metadata.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
}
