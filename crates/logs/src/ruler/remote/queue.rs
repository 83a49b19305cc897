//! The queue of recorded samples: a log on disk, and for every destination what it has not taken yet.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use disk::{Log, LogError, LogOptions};
use model::TenantId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Size of a segment of the log.
const SEGMENT_BYTES: u64 = 4 << 20;
/// What a batch in memory costs beside its bytes.
const OVERHEAD: u64 = 96;
/// Version of the records.
const FORMAT: u8 = 1;

/// Encoded series of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Batch {
    pub(super) tenant: TenantId,
    /// The time of all samples.
    pub(super) timestamp_ms: i64,
    pub(super) samples: u32,
    /// The fields of a `WriteRequest`.
    pub(super) series: Bytes,
}

impl Batch {
    /// `version u8 | tenant length u8 | tenant | time i64 | samples u32 | series`, little endian.
    fn encode(&self) -> Bytes {
        let tenant = self.tenant.as_str().as_bytes();
        let mut out = Vec::with_capacity(14 + tenant.len() + self.series.len());
        out.put_u8(FORMAT);
        // A tenant id has at most 150 bytes.
        out.put_u8(tenant.len() as u8);
        out.put_slice(tenant);
        out.put_i64_le(self.timestamp_ms);
        out.put_u32_le(self.samples);
        out.put_slice(&self.series);
        out.into()
    }

    fn decode(record: &Bytes) -> Option<Self> {
        let (&[version, length], rest) = record.split_first_chunk()?;
        if version != FORMAT {
            return None;
        }
        let (tenant, rest) = rest.split_at_checked(usize::from(length))?;
        let (time, rest) = rest.split_first_chunk()?;
        let (samples, series) = rest.split_first_chunk()?;
        Some(Self {
            tenant: TenantId::parse(std::str::from_utf8(tenant).ok()?).ok()?,
            timestamp_ms: i64::from_le_bytes(*time),
            samples: u32::from_le_bytes(*samples),
            series: record.slice_ref(series),
        })
    }

    fn cost(&self) -> u64 {
        self.series.len() as u64 + OVERHEAD
    }
}

/// The queue. Methods that write block.
#[derive(Debug)]
pub(super) struct Queue {
    log: Mutex<Log>,
    progress: PathBuf,
    waiting: Mutex<Vec<Waiting>>,
    /// Of every destination, that its queue has grown.
    filled: Vec<Notify>,
    max_bytes: u64,
}

/// What one destination has not taken yet, in order.
#[derive(Debug)]
struct Waiting {
    id: String,
    batches: VecDeque<(u64, Arc<Batch>)>,
    bytes: u64,
    samples: u64,
    /// Where its queue ends.
    end: u64,
}

impl Waiting {
    fn push(&mut self, position: u64, batch: Arc<Batch>) {
        self.bytes += batch.cost();
        self.samples += u64::from(batch.samples);
        self.batches.push_back((position, batch));
        self.end = position + 1;
    }

    /// Takes out the oldest beyond the bound; how many samples those were.
    fn cut(&mut self, max_bytes: u64) -> u64 {
        let mut cut = 0;
        while self.bytes > max_bytes {
            let Some((_, batch)) = self.batches.pop_front() else { break };
            cut += u64::from(batch.samples);
            self.forget(&batch);
        }
        cut
    }

    fn forget(&mut self, batch: &Batch) {
        self.bytes -= batch.cost();
        self.samples -= u64::from(batch.samples);
    }

    /// Everything below is done.
    fn position(&self) -> u64 {
        self.batches.front().map_or(self.end, |(position, _)| *position)
    }
}

impl Queue {
    /// Opens the log in `dir`; destinations go on where they were, new ones with all that is there.
    pub(super) fn open(dir: &Path, destinations: Vec<String>, max_bytes: u64) -> Result<Self, LogError> {
        let (log, recovery) = Log::open(dir, LogOptions { segment_bytes: SEGMENT_BYTES })?;
        let progress = dir.join("progress.json");
        let io = |source| LogError::Io { what: "read", path: progress.clone(), source };
        let text = disk::atomic::read(&progress).map_err(io)?.unwrap_or_default();
        // Without it batches are only sent again.
        let done: BTreeMap<String, u64> = serde_json::from_slice(&text).unwrap_or_default();
        let mut waiting: Vec<Waiting> = destinations
            .into_iter()
            .map(|id| Waiting { id, batches: VecDeque::new(), bytes: 0, samples: 0, end: log.next() })
            .collect();
        for record in recovery {
            let (position, record) = record?;
            let Some(batch) = Batch::decode(&record) else {
                tracing::warn!(position, "a record of the queue of recorded samples cannot be read");
                continue;
            };
            let batch = Arc::new(batch);
            for queue in &mut waiting {
                if position >= done.get(&queue.id).copied().unwrap_or(0) {
                    queue.push(position, batch.clone());
                    queue.cut(max_bytes);
                }
            }
        }
        for queue in &mut waiting {
            queue.end = log.next();
        }
        let filled = waiting.iter().map(|_| Notify::new()).collect();
        Ok(Self { log: Mutex::new(log), progress, waiting: Mutex::new(waiting), filled, max_bytes })
    }

    /// Stores batches and queues them; returns which destinations lost how many samples to make room.
    pub(super) fn append(&self, batches: Vec<Batch>) -> Result<Vec<(usize, u64)>, LogError> {
        let records: Vec<Bytes> = batches.iter().map(Batch::encode).collect();
        let mut log = self.log.lock();
        let positions = log.append(&records)?.into_inner();
        let mut dropped = Vec::new();
        let mut waiting = self.waiting.lock();
        for (position, batch) in positions.zip(batches) {
            let batch = Arc::new(batch);
            waiting.iter_mut().for_each(|queue| queue.push(position, batch.clone()));
        }
        for (at, queue) in waiting.iter_mut().enumerate() {
            let cut = queue.cut(self.max_bytes);
            if cut > 0 {
                dropped.push((at, cut));
            }
        }
        self.filled.iter().for_each(Notify::notify_one);
        Ok(dropped)
    }

    /// Writes down how far everyone is, and gives back the disk space of what all have taken.
    pub(super) fn save_progress(&self) -> Result<(), LogError> {
        let done: BTreeMap<String, u64> =
            self.waiting.lock().iter().map(|queue| (queue.id.clone(), queue.position())).collect();
        let text = serde_json::to_vec(&done).unwrap_or_default();
        let failed = |what| move |source| LogError::Io { what, path: self.progress.clone(), source };
        if disk::atomic::read(&self.progress).map_err(failed("read"))?.as_deref() == Some(&text) {
            return Ok(());
        }
        disk::atomic::write(&self.progress, &text).map_err(failed("write"))?;
        match done.values().min() {
            Some(below) => self.log.lock().trim(*below),
            None => Ok(()),
        }
    }

    /// The oldest batches of one tenant that wait for a destination, together at most `samples`, but one at least.
    pub(super) fn front(&self, destination: usize, samples: usize) -> Vec<(u64, Arc<Batch>)> {
        let waiting = self.waiting.lock();
        let queue = &waiting[destination];
        let Some((_, first)) = queue.batches.front() else { return Vec::new() };
        let mut left = samples;
        let mut taken = Vec::new();
        for (position, batch) in queue.batches.iter().filter(|(_, batch)| batch.tenant == first.tenant) {
            let size = batch.samples as usize;
            if !taken.is_empty() && size > left {
                break;
            }
            left = left.saturating_sub(size);
            taken.push((*position, batch.clone()));
        }
        taken
    }

    /// A destination has taken these, or never will.
    pub(super) fn done(&self, destination: usize, batches: &[(u64, Arc<Batch>)]) {
        let mut waiting = self.waiting.lock();
        let queue = &mut waiting[destination];
        for (position, batch) in batches {
            if let Ok(at) = queue.batches.binary_search_by_key(position, |(position, _)| *position) {
                queue.batches.remove(at);
                queue.forget(batch);
            }
        }
    }

    /// How many samples wait for a destination.
    pub(super) fn samples(&self, destination: usize) -> u64 {
        self.waiting.lock()[destination].samples
    }

    /// Waits until a destination's queue has grown.
    pub(super) async fn filled(&self, destination: usize) {
        self.filled[destination].notified().await;
    }
}
