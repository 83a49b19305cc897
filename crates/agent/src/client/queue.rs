//! A bounded queue between those who read and a client's task: batches that are filled, and batches that wait to be sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::batch::{Batch, ENTRY_BYTES, Sealed, weight};
use crate::config::ClientConfig;
use crate::entry::Entry;
use crate::metrics::{AgentMetrics, LossLabels};

/// How a queue makes batches.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Bytes that may wait, those included that are being sent.
    pub max_bytes: usize,
    /// Bytes of a batch.
    pub batch_bytes: usize,
    /// How long an entry waits for others.
    pub batch_wait: Duration,
    /// Whose the lines are that have no tenant of their own.
    pub tenant: String,
    /// Labels of all lines; a line's own win.
    pub external: Vec<(String, String)>,
    /// Host and port, for metrics.
    pub host: String,
}

impl QueueOptions {
    /// What a client's configuration asks for. The queue holds what is needed to fill one batch while another is on its way.
    pub fn of(config: &ClientConfig, host: String) -> Self {
        let batch_bytes = config.batchsize.as_usize();
        Self {
            max_bytes: batch_bytes.saturating_mul(3).clamp(1 << 20, 64 << 20),
            batch_bytes,
            batch_wait: config.batchwait.get(),
            tenant: config.tenant_id.clone(),
            external: config.external_labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect(),
            host,
        }
    }

    /// What tells this client's sources from another's into the same store.
    fn key(&self) -> Vec<u8> {
        let labels = model::Labels::from_pairs(self.external.iter().map(|(n, v)| (n, v)));
        format!("{labels}\0{}", self.tenant).into_bytes()
    }
}

/// Batches of one client, bounded by their bytes.
pub struct Queue {
    options: QueueOptions,
    key: Vec<u8>,
    metrics: AgentMetrics,
    state: Mutex<State>,
    /// Wakes those who wait for room.
    freed: Notify,
    /// Wakes the client's task.
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// One of each tenant (one more for what was received, rather than read), with the time when it is due.
    open: Vec<(Instant, Batch)>,
    sealed: VecDeque<Sealed>,
    /// Of batches that are being sent, when they were begun.
    sent: Vec<Instant>,
    /// Of all batches that are not released.
    bytes: usize,
    /// Buffers of batches that were.
    spare: Vec<Vec<u8>>,
}

impl State {
    /// A batch is not being sent any more.
    fn ended(&mut self, batch: &Sealed) {
        if let Some(place) = self.sent.iter().position(|since| *since == batch.since()) {
            self.sent.swap_remove(place);
        }
    }
}

/// What there is to send.
pub(super) enum Next {
    /// This.
    Batch(Sealed),
    /// Nothing until then, or until something is queued.
    Wait(Option<Instant>),
}

impl Queue {
    /// An empty queue. One chunk of a file may pass the bound, no more.
    pub fn new(options: QueueOptions, metrics: AgentMetrics) -> Self {
        Self {
            key: options.key(),
            options,
            metrics,
            state: Mutex::default(),
            freed: Notify::new(),
            filled: Notify::new(),
        }
    }

    /// Adds an entry to the batch of its tenant.
    pub fn push(&self, entry: &Entry) {
        let QueueOptions { batch_bytes, batch_wait, external, .. } = &self.options;
        let tenant = if entry.tenant.is_empty() { &self.options.tenant } else { &entry.tenant };
        if entry.labels.is_empty() && external.is_empty() {
            return self.drop_unlabelled(tenant, entry);
        }
        let bytes = weight(entry);
        let mut state = self.state.lock();
        let mut wakes = false;
        let is_received = entry.tickets.iter().next().is_none();
        let fits = |batch: &Batch| same(batch.tenant(), tenant) && batch.is_received() == is_received;
        let place = match state.open.iter().position(|(_, batch)| fits(batch)) {
            Some(place) if state.open[place].1.bytes() + bytes > *batch_bytes => {
                let (_, full) = state.open.swap_remove(place);
                state.sealed.push_back(full.seal());
                None
            }
            place => place,
        };
        let place = place.unwrap_or_else(|| {
            wakes = true;
            let spare = std::mem::take(&mut state.spare);
            state.open.push((Instant::now() + *batch_wait, Batch::new(tenant.clone(), spare)));
            state.open.len() - 1
        });
        state.bytes += bytes + ENTRY_BYTES;
        let is_known_again = state.open[place].1.add(entry, external, &self.key);
        drop(state);
        if !is_known_again && entry.tickets.origin().is_some() {
            self.metrics.unidentified.inc();
        }
        if wakes {
            self.filled.notify_one();
        }
    }

    /// A store refuses streams without labels, and with them all others of a batch.
    fn drop_unlabelled(&self, tenant: &str, entry: &Entry) {
        let labels = LossLabels {
            host: self.options.host.clone(),
            tenant: tenant.to_owned(),
            reason: "no_labels".to_owned(),
        };
        self.metrics.dropped_entries.get_or_create(&labels).inc();
        self.metrics.dropped_bytes.get_or_create(&labels).inc_by(weight(entry) as u64);
        entry.tickets.done();
    }

    /// The next batch of a tenant that is not busy: one that is full, or due, or any with `flush`.
    pub(super) fn next(&self, is_busy: impl Fn(&str) -> bool, flush: bool) -> Next {
        let mut state = self.state.lock();
        if let Some(place) = state.sealed.iter().position(|batch| !is_busy(batch.tenant()))
            && let Some(batch) = state.sealed.remove(place)
        {
            state.sent.push(batch.since());
            return Next::Batch(batch);
        }
        let idle = state.open.iter().enumerate().filter(|(_, (_, batch))| !is_busy(batch.tenant()));
        match idle.map(|(place, (due, _))| (*due, place)).min() {
            Some((due, place)) if flush || due <= Instant::now() => {
                let batch = state.open.swap_remove(place).1.seal();
                state.sent.push(batch.since());
                Next::Batch(batch)
            }
            Some((due, _)) => Next::Wait(Some(due)),
            None => Next::Wait(None),
        }
    }

    /// A batch is done with: its room is free.
    pub(super) fn release(&self, batch: Sealed) {
        let mut state = self.state.lock();
        state.bytes -= batch.weight();
        state.ended(&batch);
        if state.bytes < self.options.max_bytes {
            self.freed.notify_waiters();
        }
        // No more than one batch takes, lest the memory for bursts stays for ever.
        let mut room = self.options.batch_bytes;
        state.spare.clear();
        state.spare.extend(batch.into_buffers().take_while(|buffer| {
            let fits = buffer.capacity() <= room;
            room -= buffer.capacity().min(room);
            fits
        }));
    }

    /// A batch was not sent, and its client ends.
    pub(super) fn put_back(&self, batch: Sealed) {
        let mut state = self.state.lock();
        state.ended(&batch);
        state.sealed.push_front(batch);
    }

    /// Takes what can be had nowhere else: batches of lines that were received. What was read is read again.
    pub(crate) fn take_received(&self) -> Vec<Sealed> {
        let mut state = self.state.lock();
        let open = std::mem::take(&mut state.open).into_iter().map(|(_, batch)| batch.seal());
        let all: Vec<Sealed> = std::mem::take(&mut state.sealed).into_iter().chain(open).collect();
        state.bytes = 0;
        all.into_iter().filter(Sealed::is_received).collect()
    }

    /// Takes over batches of a client that has ended.
    pub(crate) fn inherit(&self, batches: Vec<Sealed>) {
        let mut state = self.state.lock();
        state.bytes += batches.iter().map(Sealed::weight).sum::<usize>();
        state.sealed.extend(batches);
        drop(state);
        self.filled.notify_one();
    }

    /// Asks for what is queued to be sent without waiting for more.
    pub fn urge(&self) {
        let now = Instant::now();
        self.state.lock().open.iter_mut().for_each(|(due, _)| *due = now);
        self.filled.notify_one();
    }

    /// How long the oldest entry has waited that the store does not have.
    pub(crate) fn oldest(&self) -> Duration {
        let state = self.state.lock();
        let open = state.open.iter().map(|(_, batch)| batch.since());
        let sealed = state.sealed.iter().map(Sealed::since);
        let first = open.chain(sealed).chain(state.sent.iter().copied()).min();
        first.map(|first| first.elapsed()).unwrap_or_default()
    }

    /// Whether nothing waits or is being sent.
    pub fn is_empty(&self) -> bool {
        self.state.lock().bytes == 0
    }

    /// Whether there is room.
    pub fn has_room(&self) -> bool {
        self.state.lock().bytes < self.options.max_bytes
    }

    /// Resolves when a batch was begun or filled, or when there is a hurry.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Resolves when there is room.
    pub async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }
}

/// Whether two texts are equal. Mostly both are empty, of which the C library, where it compares by masks, takes long to be sure: it
/// reads from where nothing is.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && (one.is_empty() || one == other)
}

/// Entries as a store would see them, for tests that stand at the end of a queue.
#[cfg(test)]
impl Queue {
    /// A queue of so many bytes that sends every entry by itself.
    pub(crate) fn of_single_entries(max_bytes: usize) -> Self {
        let config = ClientConfig::default();
        let options = QueueOptions { max_bytes, batch_bytes: 0, ..QueueOptions::of(&config, String::new()) };
        Self::new(options, AgentMetrics::default())
    }

    /// The next entry, which is out of the queue with that; its tickets stay open.
    pub(crate) fn pop(&self) -> Option<std::sync::Arc<Entry>> {
        let Next::Batch(batch) = self.next(|_| false, true) else { return None };
        let mut request = Vec::new();
        batch.request(batch.streams(), &mut request);
        let request = wire::loki::decode_push_protobuf(&request.into()).unwrap();
        let [stream] = &request.streams[..] else { panic!("one entry has one stream") };
        let [pushed] = &stream.entries[..] else { panic!("{} entries", stream.entries.len()) };
        let labels = model::Labels::parse(&stream.labels).unwrap();
        let time = model::Timestamp(pushed.timestamp_ns);
        let mut entry = Entry::new(time, pushed.line.as_str().to_owned(), labels);
        entry.tenant = batch.tenant().to_owned();
        entry.metadata =
            pushed.metadata.iter().map(|(n, v)| (n.as_str().into(), v.as_str().to_owned())).collect();
        let mut ranges = crate::source::Ranges::None;
        if let Some(Ok(Some((_, known)))) = wire::loki::origins(&stream.origins).next() {
            known.iter().for_each(|range| ranges.join(&crate::source::Ranges::one(range.start, range.end)));
        }
        for (ticket, lines) in batch.tickets() {
            // Opening counts one more, which the batch has counted already.
            entry.tickets.join(crate::entry::Tickets::of_bytes(ticket, std::mem::take(&mut ranges)));
            ticket.done(*lines);
        }
        self.release(batch);
        Some(std::sync::Arc::new(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Labels, Timestamp};

    fn entry(tenant: &str, line: &str) -> Entry {
        let mut entry = Entry::new(Timestamp(1), line.to_owned(), Labels::from_pairs([("a", "b")]));
        entry.tenant = tenant.to_owned();
        entry
    }

    fn queue(batch_bytes: usize, max_bytes: usize) -> Queue {
        let config = ClientConfig::default();
        let options = QueueOptions {
            max_bytes,
            batch_bytes,
            batch_wait: Duration::from_secs(3600),
            ..QueueOptions::of(&config, String::new())
        };
        Queue::new(options, AgentMetrics::default())
    }

    fn next(queue: &Queue, busy: &str, flush: bool) -> Option<(String, usize, Sealed)> {
        match queue.next(|tenant| tenant == busy, flush) {
            Next::Batch(batch) => Some((batch.tenant().to_owned(), batch.weight(), batch)),
            Next::Wait(_) => None,
        }
    }

    #[test]
    fn an_entry_that_would_exceed_a_batch_begins_the_next() {
        let queue = queue(10, 100);
        for line in ["123456", "1234", "1", "a line of more than a batch", "2"] {
            queue.push(&entry("t", line));
        }
        let mut weights = Vec::new();
        while let Some((_, weight, batch)) = next(&queue, "none", false) {
            weights.push(weight);
            queue.release(batch);
        }
        let room = |bytes: usize, entries: usize| bytes + entries * ENTRY_BYTES;
        assert_eq!(weights, [room(10, 2), room(1, 1), room(27, 1)], "what is not due waits");
        queue.urge();
        let (_, weight, batch) = next(&queue, "none", false).unwrap();
        queue.release(batch);
        assert_eq!((weight, queue.is_empty(), queue.oldest()), (room(1, 1), true, Duration::ZERO));
    }

    #[test]
    fn tenants_do_not_wait_for_each_other_and_room_comes_back() {
        let queue = queue(10, 12 + 2 * ENTRY_BYTES);
        for (tenant, line) in [("a", "1234567890"), ("b", "12"), ("a", "x")] {
            queue.push(&entry(tenant, line));
        }
        assert!(!queue.has_room() && queue.oldest() > Duration::ZERO);
        let (first, _, full) = next(&queue, "none", false).unwrap();
        assert_eq!(first, "a");
        assert_eq!(next(&queue, "a", true).unwrap().0, "b");
        assert!(next(&queue, "a", true).is_none());
        queue.release(full);
        assert!(queue.has_room());
        assert_eq!(next(&queue, "none", true).unwrap().0, "a");
    }

    #[test]
    fn what_has_no_labels_ends_here() {
        let queue = queue(10, 100);
        let progress = crate::progress::Progress::new(0);
        let ticket = progress.open(5);
        let mut bare = Entry::new(Timestamp(1), "x".into(), Labels::default());
        bare.tickets = crate::entry::Tickets::open(&ticket);
        queue.push(&bare);
        ticket.done(1);
        assert_eq!((progress.acknowledged(), queue.is_empty()), (5, true));
    }
}
