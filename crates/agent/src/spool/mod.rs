//! Lines that were received lie on disk until every client has delivered them: what files are to lines that are read.
//!
//! Each job that listens has a [`Spool`]: a log in a folder of its own. What comes in is relabelled and appended ([`Batch`]); only
//! then its sender is told that it was taken. Each client reads the log for itself ([`SpoolReader`]) as it reads files: through
//! stages of its own, from a position of its own that moves when its store has the lines. So a store that is away holds up nobody
//! else, and stages that keep lines back (`multiline`, `limit`) need to keep nothing over a restart: lines that they held
//! are read again. Relabelling comes before the log since it is the same for every client and keeps no state; what a rule drops
//! takes no room.
//!
//! [`Spools`] holds those of all jobs, within one bound of bytes.

mod clients;
mod log;
mod reader;
mod record;
mod room;
mod spools;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use disk::{Files, LogReader};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use service::CancellationToken;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot, watch};

use crate::progress::Progress;
use crate::source::Unsaved;
use crate::targets::{SpoolClientLabels, TargetMetrics};
use clients::Clients;
pub(crate) use clients::SpoolClient;
use log::SpoolLog;
pub(crate) use reader::SpoolReader;
pub(crate) use record::{Batch, Records};
use room::Room;
pub(crate) use spools::Spools;

/// What one job has received.
pub(crate) struct Spool {
    job: String,
    dir: PathBuf,
    files: Arc<dyn Files>,
    segment_bytes: u64,
    room: Arc<Room>,
    /// Held while the disk is written. None until the folder can be used.
    log: Mutex<Option<SpoolLog>>,
    clients: Mutex<Option<Clients>>,
    /// Those of the configuration, once it is in force.
    wanted: Mutex<Option<Vec<SpoolClient>>>,
    pending: Mutex<Vec<Pending>>,
    /// Wakes the task that writes.
    wake: Notify,
    /// Everything below this position can be read.
    ends: watch::Sender<u64>,
    alarms: Alarms,
    metrics: TargetMetrics,
    lines: Counter,
    bytes: Gauge,
}

/// Records that wait for the next fsync.
struct Pending {
    records: Records,
    size: u64,
    answer: oneshot::Sender<Result<(), String>>,
    _memory: OwnedSemaphorePermit,
}

/// Why a spool did not take lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpoolError {
    /// They never will fit.
    #[error(
        "{size} bytes are more than a spool of {max} takes at once: send less, or raise target_config.spool.max_bytes"
    )]
    TooLarge {
        /// Theirs.
        size: u64,
        /// The spool's.
        max: u64,
    },
    /// There was no room in time.
    #[error("the agent's spool is full: its clients do not deliver")]
    Full,
    /// The disk was too slow.
    #[error("the agent's disk is too slow")]
    Late,
    /// The disk did not take them.
    #[error("the agent's spool cannot be written: {0}")]
    Failed(String),
}

impl Spool {
    fn new(job: &str, dir: PathBuf, files: Arc<dyn Files>, room: Arc<Room>, metrics: TargetMetrics) -> Self {
        let (lines, bytes) = (metrics.spool_lines(job), metrics.spool_bytes(job));
        Self {
            job: job.to_owned(),
            dir,
            files,
            segment_bytes: (room.max() / 16).clamp(64 << 10, 8 << 20),
            room,
            log: Mutex::new(None),
            clients: Mutex::new(None),
            wanted: Mutex::new(None),
            pending: Mutex::default(),
            wake: Notify::new(),
            ends: watch::Sender::new(0),
            alarms: Alarms::default(),
            metrics,
            lines,
            bytes,
        }
    }

    /// Where it lies.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Opens the folder; nothing to do if it is open.
    fn open(&self) -> Result<()> {
        let mut open = self.log.lock();
        if open.is_some() {
            return Ok(());
        }
        let context = || format!("{}: cannot be used as a spool", self.dir.display());
        self.files.create_dir_all(&self.dir).with_context(context)?;
        let mut log =
            SpoolLog::open(self.files.clone(), &self.dir, self.segment_bytes).with_context(context)?;
        let mut clients = Clients::load(&*self.files, &self.dir).with_context(context)?;
        // Held until the clients are there for whoever wants others.
        let wanted = self.wanted.lock();
        if let Some(wanted) = &*wanted {
            clients.keep(wanted);
        }
        let reached = clients.offsets().map(|(_, offset)| record::position_after(offset)).max();
        log.skip_to(reached.unwrap_or(0));
        self.ends.send_replace(log.next());
        self.room.replace(0, log.bytes());
        self.bytes.set(log.bytes() as i64);
        (*self.clients.lock(), *open) = (Some(clients), Some(log));
        Ok(())
    }

    /// Stores records durably, or says why not; until `deadline` it waits for room. What is given up after it may be stored all the
    /// same. `held` is let go when there is room.
    pub(crate) async fn append(
        &self,
        records: &Records,
        deadline: Option<tokio::time::Instant>,
        held: impl Send,
    ) -> Result<(), SpoolError> {
        if records.lines == 0 {
            return Ok(());
        }
        let size = records.records.iter().map(|record| record.len() as u64 + room::RECORD_COST).sum();
        if size > self.room.max() {
            return Err(SpoolError::TooLarge { size, max: self.room.max() });
        }
        let reserve = async {
            let memory = self.room.memory(size).await;
            while !self.room.reserve(size) {
                self.alarms.full(self);
                self.wake.notify_one();
                self.room.freed().await;
            }
            memory
        };
        let memory = within(deadline, reserve).await.ok_or(SpoolError::Full)?;
        drop(held);
        let (answer, answered) = oneshot::channel();
        self.pending.lock().push(Pending { records: records.clone(), size, answer, _memory: memory });
        self.wake.notify_one();
        match within(deadline, answered).await {
            None => Err(SpoolError::Late),
            Some(Ok(stored)) => stored.map_err(SpoolError::Failed),
            Some(Err(_)) => Err(SpoolError::Failed("the agent is stopping".to_owned())),
        }
    }

    /// The place of a client that is about to read; `None` while the folder cannot be used.
    fn read_as(&self, client: &str) -> Option<(Arc<Progress>, LogReader)> {
        let progress = self.clients.lock().as_mut()?.open(client);
        let position = record::position(progress.acknowledged());
        Some((progress, LogReader::new(self.files.clone(), self.dir.clone(), position)))
    }

    /// Takes out records that were refused. Waits for the disk.
    fn pass_over_holes(&self, records: &mut Vec<(u64, Bytes)>) {
        if let Some(log) = &*self.log.lock() {
            records.retain(|(position, _)| !log.holes().iter().any(|hole| hole.contains(position)));
        }
    }

    /// Forgets all clients but these, and says so if they leave something behind. To be called before they read: what is new
    /// among them takes over from what is gone.
    fn keep_clients(&self, wanted: &[SpoolClient]) {
        let gone = {
            let mut known = self.wanted.lock();
            *known = Some(wanted.to_vec());
            self.clients.lock().as_mut().map(|clients| clients.keep(wanted)).unwrap_or_default()
        };
        for (client, offset) in gone {
            self.metrics.forget_spool_lag(&self.client_labels(&client));
            let position = record::position(offset);
            let bytes = self.log.lock().as_ref().map_or(0, |log| log.bytes_from(position));
            // The one that has no name was the only one, and has one now.
            if bytes > 0 && !client.is_empty() {
                tracing::warn!(
                    job = self.job,
                    client,
                    bytes,
                    "a client is gone that had not sent all of a spool"
                );
            }
        }
    }

    fn client_labels(&self, client: &str) -> SpoolClientLabels {
        SpoolClientLabels { job: self.job.clone(), client: client.to_owned() }
    }

    /// Writes what waits, with one fsync for all that waits by then.
    fn commit(&self) {
        if let Err(error) = self.open() {
            self.alarms.failing(self, &format!("{error:#}"));
        }
        let mut open = self.log.lock();
        loop {
            let pending = std::mem::take(&mut *self.pending.lock());
            if pending.is_empty() {
                return;
            }
            let records: Vec<Bytes> =
                pending.iter().flat_map(|p| p.records.records.iter().cloned()).collect();
            let reserved = pending.iter().map(|p| p.size).sum::<u64>();
            let result = match &mut *open {
                None => Err(format!("{} cannot be opened", self.dir.display())),
                Some(log) => {
                    let before = log.bytes();
                    let result = log.append(&records).map_err(|error| error.to_string());
                    self.room.replace(before, log.bytes());
                    self.bytes.set(log.bytes() as i64);
                    if result.is_ok() {
                        self.ends.send_replace(log.next());
                        self.lines.inc_by(pending.iter().map(|p| p.records.lines).sum());
                    }
                    result
                }
            };
            self.room.replace(reserved, 0);
            if let Err(error) = &result {
                self.alarms.failing(self, error);
            }
            for waiting in pending {
                // Whoever waited may have given up.
                let _ = waiting.answer.send(result.clone());
            }
        }
    }

    /// Saves how far clients are, and gives back the room of what all of them have.
    fn settle(&self) {
        let mut open = self.log.lock();
        let mut clients = self.clients.lock();
        let (Some(log), Some(clients)) = (&mut *open, &mut *clients) else { return };
        if let Err(error) = clients.save(&*self.files, &self.dir) {
            self.alarms.failing(self, &error.to_string());
        }
        // What all have is needed by nobody, whether that is saved or not.
        let before = log.bytes();
        if let Some(lowest) = clients.lowest()
            && let Err(error) = log.trim(record::position(lowest))
        {
            self.alarms.failing(self, &error.to_string());
        }
        self.room.replace(before, log.bytes());
        self.bytes.set(log.bytes() as i64);
        for (client, offset) in clients.offsets() {
            let lag = log.bytes_from(record::position(offset));
            self.metrics.set_spool_lag(&self.client_labels(client), lag);
        }
    }

    fn unsaved(&self) -> Option<Arc<Unsaved>> {
        self.clients.lock().as_ref().map(Clients::unsaved)
    }

    /// Writes, saves and gives room back until `stop`; then what waits is written, and all is saved. `period` is how often positions
    /// are saved at least.
    async fn run(self: Arc<Self>, period: Duration, stop: CancellationToken) -> Result<()> {
        let mut settled = Instant::now();
        loop {
            let unsaved = self.unsaved();
            let many = async {
                match &unsaved {
                    Some(unsaved) => unsaved.due().await,
                    None => std::future::pending().await,
                }
            };
            let pause = if self.room.is_short() { SHORT } else { period };
            let is_due = tokio::select! {
                () = self.wake.notified() => settled.elapsed() >= pause,
                () = many => true,
                () = tokio::time::sleep_until((settled + pause).into()) => true,
                () = stop.cancelled() => true,
            };
            let is_last = stop.is_cancelled();
            let is_due = is_due || is_last;
            let spool = self.clone();
            let work = move || {
                spool.commit();
                if is_due {
                    spool.settle();
                }
            };
            tokio::task::spawn_blocking(work).await?;
            if is_due {
                settled = Instant::now();
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// How often room is given back while there is too little.
const SHORT: Duration = Duration::from_millis(100);

async fn within<T>(deadline: Option<tokio::time::Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

/// Says once a minute what is wrong.
#[derive(Default)]
struct Alarms {
    full: Mutex<Option<Instant>>,
    failing: Mutex<Option<Instant>>,
}

impl Alarms {
    fn is_due(last: &Mutex<Option<Instant>>) -> bool {
        let mut last = last.lock();
        let is_due = last.is_none_or(|at| at.elapsed() >= Duration::from_secs(60));
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }

    fn full(&self, spool: &Spool) {
        if Self::is_due(&self.full) {
            tracing::error!(
                job = spool.job,
                max_bytes = spool.room.max(),
                "the spool is full: senders have to wait, and datagrams are lost, until the clients deliver"
            );
        }
    }

    fn failing(&self, spool: &Spool, error: &str) {
        if Self::is_due(&self.failing) {
            tracing::error!(
                job = spool.job,
                folder = %spool.dir.display(),
                error,
                "the spool cannot be written: senders have to wait, and datagrams are lost"
            );
        }
    }
}
