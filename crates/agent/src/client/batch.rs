//! Batches: entries of one tenant, by stream, until they are large or old enough.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;
use model::Labels;
use wire::loki::{OriginWriter, Source};

use super::encode;
use crate::entry::Entry;
use crate::progress::{Progress, Ticket};

/// Entries of one tenant that go into one request. They are encoded when they are added.
pub struct Batch {
    tenant: String,
    streams: Vec<Stream>,
    places: HashMap<Labels, usize>,
    /// Most entries are of the stream of the entry before.
    latest: Option<(Labels, usize)>,
    /// What entries come from, and the ids of it.
    sources: Vec<(Arc<Progress>, u128)>,
    tickets: Vec<(Arc<Ticket>, u32)>,
    bytes: usize,
    entries: u64,
    /// When its first entry came, or is to come.
    since: Instant,
    /// Empty buffers for streams to come.
    spare: Vec<Vec<u8>>,
}

/// One stream of a batch.
struct Stream {
    labels: String,
    /// Encoded.
    buffer: Vec<u8>,
    origins: OriginWriter,
    has_origins: bool,
    entries: u64,
    bytes: usize,
}

impl Batch {
    /// An empty one, which uses buffers of batches before it again.
    pub fn new(tenant: String, spare: Vec<Vec<u8>>) -> Self {
        Self {
            tenant,
            streams: Vec::new(),
            places: HashMap::new(),
            latest: None,
            sources: Vec::new(),
            tickets: Vec::new(),
            bytes: 0,
            entries: 0,
            since: Instant::now(),
            spare,
        }
    }

    /// Adds an entry; its own labels win over `external` ones. `client` is what stores tell the sources of clients apart by. Whether
    /// the store will know the entry again.
    pub fn add(&mut self, entry: &Entry, external: &[(String, String)], client: &[u8]) -> bool {
        let place = self.place(&entry.labels, external);
        let origin = entry.tickets.origin();
        let origin =
            origin.filter(|(progress, _)| progress.source().is_some_and(|source| source.is_durable()));
        let origin = origin.map(|(progress, ranges)| (self.source(progress, client), ranges));
        let stream = &mut self.streams[place];
        encode::entry(&mut stream.buffer, entry);
        match origin {
            Some((source, ranges)) => stream.origins.push(source, ranges),
            None => stream.origins.push_none(),
        }
        stream.has_origins |= origin.is_some();
        let bytes = weight(entry);
        (stream.entries, stream.bytes) = (stream.entries + 1, stream.bytes + bytes);
        (self.entries, self.bytes) = (self.entries + 1, self.bytes + bytes);
        for (ticket, lines) in entry.tickets.iter() {
            match self.tickets.last_mut() {
                Some((last, count)) if Arc::ptr_eq(last, ticket) => *count += lines,
                _ => self.tickets.push((ticket.clone(), lines)),
            }
        }
        origin.is_some()
    }

    fn place(&mut self, labels: &Labels, external: &[(String, String)]) -> usize {
        if let Some((_, place)) = self.latest.as_ref().filter(|(latest, _)| latest == labels) {
            return *place;
        }
        let place = match self.places.get(labels) {
            Some(place) => *place,
            None => {
                let mut all = labels.to_builder();
                for (name, value) in external.iter().filter(|(name, _)| labels.get(name).is_none()) {
                    all.set(name, value);
                }
                self.streams.push(Stream::new(all.build().to_string(), self.spare.pop().unwrap_or_default()));
                self.places.insert(labels.clone(), self.streams.len() - 1);
                self.streams.len() - 1
            }
        };
        self.latest = Some((labels.clone(), place));
        place
    }

    /// The place of a source in the request.
    fn source(&mut self, progress: &Arc<Progress>, client: &[u8]) -> u32 {
        let known = self.sources.iter().rposition(|(known, _)| Arc::ptr_eq(known, progress));
        let place = known.unwrap_or_else(|| {
            let id = progress.source().map_or(0, |source| source.id_on_wire(client));
            self.sources.push((progress.clone(), id));
            self.sources.len() - 1
        });
        place as u32
    }

    /// There will be no more entries.
    pub fn seal(self) -> Sealed {
        let streams = self.streams.into_iter().map(|stream| SealedStream {
            labels: stream.labels,
            buffer: stream.buffer,
            origins: if stream.has_origins { stream.origins.finish() } else { Bytes::new() },
            entries: stream.entries,
            bytes: stream.bytes,
        });
        let (streams, sources) = (streams.collect(), self.sources);
        let weight = self.bytes + ENTRY_BYTES * self.entries as usize;
        Sealed { tenant: self.tenant, streams, sources, tickets: self.tickets, weight, since: self.since }
    }

    /// Whose it is.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Bytes of lines and metadata.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When its first entry came.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Lines.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether its lines were received, so that they can be had nowhere else, rather than read.
    pub fn is_received(&self) -> bool {
        self.tickets.is_empty()
    }
}

impl Stream {
    fn new(labels: String, buffer: Vec<u8>) -> Self {
        Self { labels, buffer, origins: OriginWriter::default(), has_origins: false, entries: 0, bytes: 0 }
    }
}

/// A batch that is ready to be sent.
pub struct Sealed {
    tenant: String,
    streams: Vec<SealedStream>,
    sources: Vec<(Arc<Progress>, u128)>,
    tickets: Vec<(Arc<Ticket>, u32)>,
    weight: usize,
    since: Instant,
}

/// One of its streams.
pub struct SealedStream {
    labels: String,
    buffer: Vec<u8>,
    origins: Bytes,
    /// Lines.
    pub entries: u64,
    /// Bytes of lines and metadata.
    pub bytes: usize,
}

impl Sealed {
    /// Whose it is.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Its streams.
    pub fn streams(&self) -> &[SealedStream] {
        &self.streams
    }

    /// Whether its lines were received, so that they can be had nowhere else, rather than read.
    pub fn is_received(&self) -> bool {
        self.tickets.is_empty()
    }

    /// What it counts against the queue.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// When its first entry came.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Writes a `PushRequest` of some of the streams, not compressed, in place of what `out` holds.
    pub fn request(&self, streams: &[SealedStream], out: &mut Vec<u8>) {
        let size =
            |stream: &SealedStream| stream.labels.len() + stream.buffer.len() + stream.origins.len() + 32;
        out.clear();
        out.reserve_exact(streams.iter().map(size).sum::<usize>() + 40 * self.sources.len());
        for stream in streams {
            encode::stream(out, &stream.labels, &stream.buffer, &stream.origins);
        }
        for (progress, id) in &self.sources {
            let low = progress.source().map_or(0, |source| source.low());
            encode::source(out, &Source { id: *id, low });
        }
    }

    /// Its buffers, emptied, to be used again.
    pub fn into_buffers(self) -> impl Iterator<Item = Vec<u8>> {
        self.streams.into_iter().map(|stream| {
            let mut buffer = stream.buffer;
            buffer.clear();
            buffer
        })
    }

    /// Tells the files that their lines are done.
    pub fn acknowledge(&self) {
        for (ticket, count) in &self.tickets {
            ticket.done(*count);
        }
    }

    /// What has to be acknowledged, for tests that do it one by one.
    #[cfg(test)]
    pub(crate) fn tickets(&self) -> &[(Arc<Ticket>, u32)] {
        &self.tickets
    }
}

/// What an entry takes in the queue besides: of empty lines, too, there is only so much room for so many.
pub(super) const ENTRY_BYTES: usize = 16;

/// What an entry counts against `batchsize`.
pub(super) fn weight(entry: &Entry) -> usize {
    entry.line.len() + entry.metadata.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "ranges are what is compared")]
mod tests {
    use super::*;
    use crate::entry::Tickets;
    use crate::source::{Ranges, Source as Origin};
    use model::Timestamp;
    use wire::loki::{decode_push_protobuf, origins};

    fn decoded(batch: &Sealed, streams: &[SealedStream]) -> wire::loki::PushRequest {
        let mut request = Vec::new();
        batch.request(streams, &mut request);
        decode_push_protobuf(&request.into()).unwrap()
    }

    #[test]
    fn groups_by_stream_and_acknowledges() {
        let progress = Progress::of_source(0, Origin::known(7, Some(3)), Arc::default());
        let ticket = progress.open(30);
        let mut batch = Batch::new("t".into(), Vec::new());
        let external = [("host".to_owned(), "h1".to_owned()), ("app".to_owned(), "x".to_owned())];
        for (i, (app, line)) in [("a", "one"), ("b", "two"), ("a", "three")].into_iter().enumerate() {
            let mut entry = Entry::new(Timestamp(1), line.to_owned(), Labels::from_pairs([("app", app)]));
            let start = 10 * i as u64;
            entry.tickets = Tickets::of_bytes(&ticket, Ranges::one(start, start + 10));
            assert!(batch.add(&entry, &external, b"client"));
        }
        ticket.done(1);
        assert_eq!((batch.bytes(), batch.entries(), progress.acknowledged()), (11, 3, 0));
        let batch = batch.seal();
        let request = decoded(&batch, batch.streams());
        let shown: Vec<_> = request.streams.iter().map(|s| (s.labels.as_str(), s.entries.len())).collect();
        assert_eq!(shown, [("{app=\"a\", host=\"h1\"}", 2), ("{app=\"b\", host=\"h1\"}", 1)]);
        let ranges = |place: usize| -> Vec<_> {
            origins(&request.streams[place].origins).map(|o| o.unwrap().unwrap().1.to_vec()).collect()
        };
        assert_eq!(ranges(0), [[0..10], [20..30]]);
        assert_eq!(ranges(1), [[10..20]]);
        assert_eq!(request.sources, [Source { id: Origin::known(7, None).id_on_wire(b"client"), low: 3 }]);
        let second = decoded(&batch, &batch.streams()[1..]);
        assert_eq!(second.streams, request.streams[1..]);
        batch.acknowledge();
        assert_eq!(progress.acknowledged(), 30);
    }

    #[test]
    fn what_is_not_bound_on_disk_has_no_origin() {
        let progress = Progress::of_source(0, Origin::new(), Arc::default());
        let mut entry = Entry::new(Timestamp(1), "line".into(), Labels::from_pairs([("a", "b")]));
        entry.tickets = Tickets::of_bytes(&progress.open(5), Ranges::one(0, 5));
        let mut batch = Batch::new(String::new(), Vec::new());
        assert!(!batch.add(&entry, &[], b""));
        let batch = batch.seal();
        let request = decoded(&batch, batch.streams());
        assert!(request.sources.is_empty() && request.streams[0].origins.is_empty());
    }
}
