//! The commit thread: the only one that writes the log, fills heads and ends them.
//!
//! It takes whatever waits, logs it with one fsync, inserts it in order of position, then answers. Nothing waits for company: while
//! one commit is synced the next batch gathers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use disk::Durable;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Shared, count};
use crate::{AppendError, IngestLog, Record, Signal};

/// Bytes of an append under way, counted as unflushed until its rows are (as bytes of the head) or it failed.
pub(crate) struct Reservation<S: Signal> {
    shared: Arc<Shared<S>>,
    bytes: usize,
}

impl<S: Signal> Reservation<S> {
    /// `None` when there is no room.
    pub(crate) fn take(shared: &Arc<Shared<S>>, bytes: usize) -> Option<Self> {
        let before = shared.unflushed.fetch_add(bytes, Ordering::AcqRel);
        let reservation = Self { shared: Arc::clone(shared), bytes };
        (before.saturating_add(bytes) <= shared.options.max_unflushed_bytes).then_some(reservation)
    }
}

impl<S: Signal> Drop for Reservation<S> {
    fn drop(&mut self) {
        self.shared.unflushed.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

type Answer = oneshot::Sender<Result<Durable<()>, AppendError>>;

pub(crate) struct Append<S: Signal> {
    pub(crate) record: Record,
    pub(crate) rows: S::Rows,
    pub(crate) answer: Answer,
    pub(crate) reserved: Reservation<S>,
}

/// What the commit thread is asked for, in order.
pub(crate) enum Command<S: Signal> {
    Append(Append<S>),
    /// End the heads of all tenants, or those whose first row came so long ago.
    Freeze {
        older: Option<Duration>,
        answer: Option<oneshot::Sender<()>>,
    },
    /// An append was refused: make room.
    Relieve,
    /// Give up what is in blocks.
    Trim,
    /// Take no more, answer what waits, end.
    Close,
}

/// The state of the commit thread.
pub(crate) struct Committer<S: Signal> {
    shared: Arc<Shared<S>>,
    log: Box<dyn IngestLog>,
    records: Vec<Record>,
    waiting: Vec<(S::Rows, Answer, Reservation<S>)>,
    relieved: Instant,
}

impl<S: Signal> Committer<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>, log: Box<dyn IngestLog>) -> Self {
        Self { shared, log, records: Vec::new(), waiting: Vec::new(), relieved: Instant::now() }
    }

    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Command<S>>) {
        while let Some(command) = queue.blocking_recv() {
            let mut next = Some(command);
            let mut bytes = 0;
            // Appends gather until the queue is empty or something else is asked for.
            let other = loop {
                match next.take() {
                    Some(Command::Append(append)) => {
                        bytes += append.record.body.len();
                        self.records.push(append.record);
                        self.waiting.push((append.rows, append.answer, append.reserved));
                    }
                    other => break other,
                }
                if bytes < self.shared.options.commit_max_bytes {
                    next = queue.try_recv().ok();
                }
            };
            self.commit();
            match other {
                None | Some(Command::Append(_)) => {}
                Some(Command::Freeze { older, answer }) => self.freeze(older, answer),
                Some(Command::Relieve) => self.relieve(),
                Some(Command::Trim) => self.trim(),
                Some(Command::Close) => queue.close(),
            }
        }
    }

    fn commit(&mut self) {
        if self.records.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let started = Instant::now();
        let committed = self.log.append(&self.records);
        count(&shared.counters.commit_nanos, started.elapsed().as_nanos() as u64);
        match committed {
            Ok(positions) => {
                count(&shared.counters.commits, 1);
                count(&shared.counters.appended_records, self.records.len() as u64);
                let bytes = self.records.iter().map(|r| r.body.len() as u64).sum();
                count(&shared.counters.appended_bytes, bytes);
                let durable = positions.clone().map(drop);
                let mut answers = Vec::with_capacity(self.waiting.len());
                for ((position, record), (rows, answer, reserved)) in
                    positions.into_inner().zip(self.records.drain(..)).zip(self.waiting.drain(..))
                {
                    let tenant = shared.tenant_or_new(&record.tenant, Arc::default);
                    shared.insert(&tenant, position, rows);
                    drop(reserved);
                    answers.push(answer);
                }
                for answer in answers {
                    // Whoever asked may have gone away; the record stays.
                    let _ = answer.send(Ok(durable));
                }
                self.relieve();
            }
            Err(error) => {
                count(&shared.counters.commit_failures, 1);
                tracing::error!(signal = S::NAME, %error, records = self.records.len(), "the ingest log took nothing");
                let error = Arc::new(error);
                self.records.clear();
                for (_, answer, _) in self.waiting.drain(..) {
                    let _ = answer.send(Err(AppendError::Unavailable(Arc::clone(&error))));
                }
            }
        }
    }

    /// Many small heads can fill the memory with none of them full: then the largest go.
    fn relieve(&mut self) {
        const PAUSE: Duration = Duration::from_millis(100);
        let high = self.shared.options.max_unflushed_bytes / 2;
        if self.shared.unflushed.load(Ordering::Acquire) < high || self.relieved.elapsed() < PAUSE {
            return;
        }
        self.relieved = Instant::now();
        let tenants = self.shared.all_tenants();
        let mut flushing: usize = tenants.iter().flat_map(|t| t.frozen()).map(|slot| slot.counted()).sum();
        let mut heads: Vec<_> = tenants.iter().filter_map(|t| Some((t.active()?.counted(), t))).collect();
        heads.sort_unstable_by_key(|(size, _)| std::cmp::Reverse(*size));
        for (size, tenant) in heads {
            if flushing >= high / 2 {
                break;
            }
            self.shared.freeze(tenant);
            flushing += size;
        }
    }

    fn freeze(&mut self, older: Option<Duration>, answer: Option<oneshot::Sender<()>>) {
        for tenant in self.shared.all_tenants() {
            let due = |born: Instant| older.is_none_or(|age| born.elapsed() >= age);
            if tenant.active().is_some_and(|slot| due(slot.born)) {
                self.shared.freeze(&tenant);
            }
        }
        if let Some(answer) = answer {
            let _ = answer.send(());
        }
    }

    fn trim(&mut self) {
        let oldest = self.shared.all_tenants().iter().filter_map(|t| t.oldest_position()).min();
        if let Err(error) = self.log.trim(oldest.unwrap_or(self.log.next())) {
            tracing::warn!(signal = S::NAME, %error, "cannot trim the ingest log");
        }
    }
}
