//! How far a file has been acknowledged, whatever order acknowledgements come in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::positions::Mark;
use crate::source::{Source, Unsaved};

/// The acknowledged offset of one file: everything before it has been taken by every client or was
/// dropped on purpose.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
    /// Wakes those who wait for an offset.
    advanced: Notify,
    /// Bytes of the file when it was last looked at.
    size: AtomicU64,
    /// What its lines come from, as stores know it.
    source: Option<Counted>,
}

/// A source, and what tells that positions should be saved.
#[derive(Debug)]
struct Counted {
    source: Source,
    unsaved: Arc<Unsaved>,
    /// What a chunk counts, where its length says nothing.
    weight: Option<u64>,
}

#[derive(Debug)]
struct State {
    acknowledged: u64,
    /// Of the last chunk that was acknowledged and has one.
    mark: Option<Mark>,
    /// In order of reading.
    open: VecDeque<Open>,
}

/// A chunk that is not acknowledged.
#[derive(Debug)]
struct Open {
    end: u64,
    mark: Option<Mark>,
    ticket: Arc<Ticket>,
}

impl Progress {
    /// A file of which everything before `offset` is done.
    pub fn new(offset: u64) -> Arc<Self> {
        Arc::new(Self::at(offset, None))
    }

    /// The same of a source; what is acknowledged is counted in `unsaved`.
    pub fn of_source(offset: u64, source: Source, unsaved: Arc<Unsaved>) -> Arc<Self> {
        Arc::new(Self::at(offset, Some(Counted { source, unsaved, weight: None })))
    }

    /// The same where positions have gaps between them, and a chunk is a line. Of each line a store remembers a range until the
    /// position that is saved has passed it, so many lines are saved as soon as many bytes.
    pub fn of_lines(offset: u64, source: Source, unsaved: Arc<Unsaved>) -> Arc<Self> {
        const WEIGHT: u64 = 1 << 10;
        Arc::new(Self::at(offset, Some(Counted { source, unsaved, weight: Some(WEIGHT) })))
    }

    fn at(offset: u64, source: Option<Counted>) -> Self {
        let state = State { acknowledged: offset, mark: None, open: VecDeque::new() };
        Self { state: Mutex::new(state), advanced: Notify::new(), size: AtomicU64::new(0), source }
    }

    /// What its lines come from; none where there are no bytes to count.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref().map(|counted| &counted.source)
    }

    /// Opens a ticket for the next chunk, which ends at `end`. It counts one for whoever opened it, so that it
    /// cannot be done before all of its lines are counted.
    pub fn open(self: &Arc<Self>, end: u64) -> Arc<Ticket> {
        self.open_marked(end, None)
    }

    /// The same of a file that has this mark no later than there.
    pub(crate) fn open_marked(self: &Arc<Self>, end: u64, mark: Option<Mark>) -> Arc<Ticket> {
        let ticket = Arc::new(Ticket { open: AtomicU32::new(1), progress: self.clone() });
        self.state.lock().open.push_back(Open { end, mark, ticket: ticket.clone() });
        ticket
    }

    /// What tells that the file is still the one of which so much is acknowledged; none before anything is.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.state.lock().mark
    }

    /// The file was looked at, and had so many bytes.
    pub(crate) fn saw(&self, size: u64) {
        self.size.store(size, Ordering::Relaxed);
    }

    /// Bytes of the file when it was last looked at.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Everything before this offset is done.
    pub fn acknowledged(&self) -> u64 {
        self.state.lock().acknowledged
    }

    /// Everything before this offset was read.
    pub fn read(&self) -> u64 {
        let state = self.state.lock();
        state.open.back().map_or(state.acknowledged, |open| open.end)
    }

    /// Whether nothing waits for an acknowledgement.
    pub fn is_idle(&self) -> bool {
        self.state.lock().open.is_empty()
    }

    fn advance(&self) {
        let mut state = self.state.lock();
        let (before, open) = (state.acknowledged, state.open.len());
        let is_done = |open: &mut Open| open.ticket.open.load(Ordering::Acquire) == 0;
        while let Some(done) = state.open.pop_front_if(is_done) {
            state.acknowledged = done.end;
            state.mark = done.mark.or(state.mark);
        }
        let bytes = state.acknowledged.saturating_sub(before);
        let chunks = (open - state.open.len()) as u64;
        drop(state);
        if let Some(Counted { unsaved, weight, .. }) = &self.source {
            unsaved.add(weight.map_or(bytes, |weight| weight * chunks));
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
    fn marks_are_acknowledged_with_their_chunks() {
        let progress = Progress::new(0);
        let marks = [1, 2].map(|at| Some(Mark::of(at, b"text")));
        let tickets =
            [(1, marks[0]), (2, marks[1]), (3, None)].map(|(end, mark)| progress.open_marked(end, mark));
        for (at, want) in [(1, None), (0, marks[1]), (2, marks[1])] {
            tickets[at].done(1);
            assert_eq!(progress.mark(), want);
        }
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
