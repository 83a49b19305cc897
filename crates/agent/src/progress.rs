//! How far a file has been acknowledged, whatever order acknowledgements come in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::source::{Source, Unsaved};

/// The acknowledged offset of one file: everything before it has been taken by every client or was
/// dropped on purpose.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
    /// Wakes those who wait for an offset.
    advanced: Notify,
    /// What its lines come from, as stores know it.
    source: Option<(Source, Arc<Unsaved>)>,
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
        Arc::new(Self::at(offset, None))
    }

    /// The same of a source; what is acknowledged is counted in `unsaved`.
    pub fn of_source(offset: u64, source: Source, unsaved: Arc<Unsaved>) -> Arc<Self> {
        Arc::new(Self::at(offset, Some((source, unsaved))))
    }

    fn at(offset: u64, source: Option<(Source, Arc<Unsaved>)>) -> Self {
        let state = State { acknowledged: offset, open: VecDeque::new() };
        Self { state: Mutex::new(state), advanced: Notify::new(), source }
    }

    /// What its lines come from; none where there are no bytes to count.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref().map(|(source, _)| source)
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
        let before = state.acknowledged;
        while let Some((end, _)) = state.open.front().filter(|(_, t)| t.open.load(Ordering::Acquire) == 0) {
            state.acknowledged = *end;
            state.open.pop_front();
        }
        let bytes = state.acknowledged.saturating_sub(before);
        drop(state);
        if let Some((_, unsaved)) = &self.source {
            unsaved.add(bytes);
        }
        self.advanced.notify_waiters();
    }

    /// Resolves when everything before this offset is done.
    pub async fn reached(&self, offset: u64) {
        loop {
            let advanced = self.advanced.notified();
            if self.acknowledged() >= offset {
                return;
            }
            advanced.await;
        }
    }
}

/// How far a source has been acknowledged that counts in names rather than in bytes, such as the journal.
#[derive(Debug)]
pub struct Cursor {
    /// Counts entries.
    progress: Arc<Progress>,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// Of the last entry that is acknowledged.
    acknowledged: Option<String>,
    /// Of entries that are not, with their numbers.
    open: VecDeque<(u64, String)>,
    read: u64,
}

impl Cursor {
    /// A source that is done up to `name`, or not begun.
    pub fn new(name: Option<String>) -> Arc<Self> {
        let names = Names { acknowledged: name, ..Names::default() };
        Arc::new(Self { progress: Progress::new(0), names: Mutex::new(names) })
    }

    /// Opens a ticket for the next entry. It counts one for whoever opened it.
    pub fn open(&self, name: String) -> Arc<Ticket> {
        let mut names = self.names.lock();
        self.settle(&mut names);
        names.read += 1;
        let number = names.read;
        names.open.push_back((number, name));
        self.progress.open(number)
    }

    /// The entry before which everything is done.
    pub fn acknowledged(&self) -> Option<String> {
        let mut names = self.names.lock();
        self.settle(&mut names);
        names.acknowledged.clone()
    }

    /// The last entry that was read.
    pub fn read(&self) -> Option<String> {
        let names = self.names.lock();
        names.open.back().map(|(_, name)| name.clone()).or_else(|| names.acknowledged.clone())
    }

    /// Begins anew: the source does not know the name.
    pub fn forget(&self) {
        let mut names = self.names.lock();
        (names.acknowledged, names.open) = (None, VecDeque::new());
    }

    fn settle(&self, names: &mut Names) {
        let done = self.progress.acknowledged();
        while names.open.front().is_some_and(|(number, _)| *number <= done) {
            names.acknowledged = names.open.pop_front().map(|(_, name)| name);
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
    /// Of what it acknowledges a part.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

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

    #[test]
    fn names_follow_in_order() {
        let cursor = Cursor::new(Some("old".into()));
        assert_eq!(cursor.read().as_deref(), Some("old"));
        let (a, b, c) = (cursor.open("a".into()), cursor.open("b".into()), cursor.open("c".into()));
        b.done(1);
        assert_eq!((cursor.acknowledged().as_deref(), cursor.read().as_deref()), (Some("old"), Some("c")));
        a.done(1);
        assert_eq!(cursor.acknowledged().as_deref(), Some("b"));
        c.done(1);
        assert_eq!((cursor.acknowledged().as_deref(), cursor.read().as_deref()), (Some("c"), Some("c")));
        cursor.forget();
        assert_eq!(cursor.read(), None);
    }

    #[tokio::test]
    async fn an_offset_is_waited_for() {
        let progress = Progress::new(0);
        let ticket = progress.open(1);
        let mut reached = std::pin::pin!(progress.reached(1));
        assert!(futures::poll!(&mut reached).is_pending());
        ticket.done(1);
        reached.await;
        progress.reached(1).await;
    }
}
