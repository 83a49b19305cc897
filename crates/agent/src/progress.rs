//! How far a file has been acknowledged, whatever order acknowledgements come in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// The acknowledged offset of one file: everything before it has been taken by every client or was
/// dropped on purpose.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    acknowledged: u64,
    /// Chunks in order of reading: where each ends, and what of it is still open.
    open: VecDeque<(u64, Arc<Ticket>)>,
}

impl Progress {
    /// A file of which everything before `offset` is done.
    pub fn new(offset: u64) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { acknowledged: offset, open: VecDeque::new() }) })
    }

    /// Opens a ticket for the next chunk, which ends at `end`. It counts one for whoever opened it, so that it
    /// cannot be done before all of its lines are counted.
    pub fn open(self: &Arc<Self>, end: u64) -> Arc<Ticket> {
        let ticket = Arc::new(Ticket { open: AtomicU32::new(1), progress: self.clone() });
        self.state.lock().open.push_back((end, ticket.clone()));
        ticket
    }

    /// Everything before this offset is done.
    pub fn acknowledged(&self) -> u64 {
        self.state.lock().acknowledged
    }

    /// Whether nothing waits for an acknowledgement.
    pub fn is_idle(&self) -> bool {
        self.state.lock().open.is_empty()
    }

    fn advance(&self) {
        let mut state = self.state.lock();
        while let Some((end, _)) = state.open.front().filter(|(_, t)| t.open.load(Ordering::Acquire) == 0) {
            state.acknowledged = *end;
            state.open.pop_front();
        }
    }
}

/// Counts what is open of one chunk of a file.
#[derive(Debug)]
pub struct Ticket {
    open: AtomicU32,
    progress: Arc<Progress>,
}

impl Ticket {
    /// Counts one more line (or one more client that must take it).
    pub fn add(&self, count: u32) {
        self.open.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts `count` lines as taken, or dropped on purpose. The last one moves the file's offset.
    pub fn done(&self, count: u32) {
        if count > 0 && self.open.fetch_sub(count, Ordering::AcqRel) == count {
            self.progress.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_prefix_counts() {
        let progress = Progress::new(5);
        let first = progress.open(10);
        first.add(2);
        first.done(1);
        let second = progress.open(20);
        second.add(1);
        second.done(2);
        assert_eq!(progress.acknowledged(), 5);
        first.done(1);
        assert_eq!(progress.acknowledged(), 5);
        first.done(1);
        assert_eq!((progress.acknowledged(), progress.is_idle()), (20, true));
    }
}
