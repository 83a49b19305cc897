//! The commit thread: the only one that writes the log, fills heads and ends them.
//!
//! It takes whatever waits, lets the signal take out what is stored already, logs the rest with one fsync, inserts it in order of
//! position, then answers. Nothing waits for company: while one commit is synced the next batch gathers. A record whose rows were all
//! taken out is logged too: so its answer waits for the records before it, and comes from a finished write as any other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use disk::Durable;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Shared, count};
use crate::{AppendError, IngestLog, IngestLogError, Record, Signal};

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

type Answer = oneshot::Sender<Result<Durable<Bytes>, AppendError>>;

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
    /// Since when trims fail, and when the last one did.
    untrimmed: Option<(Instant, Instant)>,
}

/// A trim that failed is tried again, with the next append, after this long.
const TRIM_AGAIN: Duration = Duration::from_secs(5);
/// On a disk that is full for so long, making room comes before remembering.
const ROOM_FIRST: Duration = Duration::from_secs(60);

impl<S: Signal> Committer<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>, log: Box<dyn IngestLog>) -> Self {
        Self {
            shared,
            log,
            records: Vec::new(),
            waiting: Vec::new(),
            relieved: Instant::now(),
            untrimmed: None,
        }
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
        for (record, (rows, ..)) in self.records.iter_mut().zip(&mut self.waiting) {
            shared.signal.admit(&record.tenant, &mut record.body, rows);
        }
        let started = Instant::now();
        let committed = self.log.append(&self.records);
        count(&shared.counters.commit_nanos, started.elapsed().as_nanos() as u64);
        shared.signal.settle(committed.is_ok());
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
                    answers.push((answer, record.body));
                }
                for (answer, body) in answers {
                    // Whoever asked may have gone away; the record stays.
                    let _ = answer.send(Ok(durable.map(|()| body)));
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
        if self.untrimmed.is_some_and(|(_, tried)| tried.elapsed() >= TRIM_AGAIN) {
            self.trim();
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
        let below = oldest.unwrap_or(self.log.next());
        if !self.log.can_trim(below) && self.untrimmed.is_none() {
            return;
        }
        match self.give_up(below) {
            Ok(()) => self.untrimmed = None,
            Err(error) => {
                let now = Instant::now();
                self.untrimmed = Some((self.untrimmed.map_or(now, |(since, _)| since), now));
                tracing::warn!(signal = S::NAME, %error, "cannot trim the ingest log");
            }
        }
    }

    /// What the signal must remember of records is stored before they go.
    fn give_up(&mut self, below: u64) -> Result<(), IngestLogError> {
        let Some(checkpoint) = self.shared.signal.checkpoint() else { return self.log.trim(below) };
        let failing = self.untrimmed.map_or(Duration::ZERO, |(since, _)| since.elapsed());
        match self.log.checkpoint(&checkpoint) {
            Ok(_) => self.log.trim(below),
            // A log that kept its segments for want of room might never take anything again. They make the room; only a crash
            // before the next line is done can forget something.
            Err(error) if error.is_full() && failing >= ROOM_FIRST => {
                self.log.trim(below)?;
                self.log.checkpoint(&checkpoint).map(drop)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use blob::Blob;
    use disk::sim::SimFiles;
    use disk::{Files, LogOptions};

    use super::*;
    use crate::tests::kv::{Kv, body, tenant};
    use crate::{DiskIngestLog, StoreOptions};

    #[test]
    fn records_go_after_the_checkpoint_unless_the_disk_stays_full() {
        let files = SimFiles::new();
        let open = |files: &SimFiles| {
            let options = LogOptions { segment_bytes: 50 };
            DiskIngestLog::open_on(Arc::new(files.clone()), "wal", options).unwrap()
        };
        let (mut log, _) = open(&files);
        // These are in blocks, say.
        let old = |key: i64| Record { tenant: tenant("a"), body: body(&[(key, format!("value of {key}"))]) };
        log.append(&(0..5).map(old).collect::<Vec<_>>()).unwrap();
        log.append(&(5..10).map(old).collect::<Vec<_>>()).unwrap();
        let shared =
            Arc::new(Shared::new(Kv::once(), StoreOptions::default(), Blob::memory(), log.writer().clone()));
        let mut committer = Committer::new(Arc::clone(&shared), Box::new(log));
        let append = |committer: &mut Committer<Kv>, key: i64| {
            let rows = vec![(key, format!("value of {key}"))];
            let (answer, mut answered) = oneshot::channel();
            committer.records.push(old(key));
            committer.waiting.push((rows, answer, Reservation::take(&shared, 1).unwrap()));
            committer.commit();
            answered.try_recv().unwrap()
        };
        append(&mut committer, 10).unwrap();
        let segments =
            || files.list(Path::new("wal")).unwrap().iter().filter(|n| n.ends_with(".log")).count();
        let all = segments();
        files.set_space(Some(0));
        committer.trim();
        assert_eq!(segments(), all, "what is nowhere else stays");
        let (_, tried) = committer.untrimmed.unwrap();
        committer.untrimmed = tried.checked_sub(ROOM_FIRST).map(|since| (since, tried));
        committer.trim();
        assert!(segments() < all && committer.untrimmed.is_some());
        files.set_space(None);
        // The next append tries again.
        committer.untrimmed = tried.checked_sub(TRIM_AGAIN).map(|earlier| (earlier, earlier));
        append(&mut committer, 11).unwrap();
        assert_eq!(committer.untrimmed, None);
        drop(committer);
        let (mut log, _) = open(&files);
        assert_eq!(log.take_checkpoint().as_deref(), Some(&b"a 10\na 11\n"[..]));
    }
}
