//! Batches: entries of one tenant, by stream, until they are large or old enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use model::Labels;
use wire::Str;
use wire::loki::{PushEntry, PushRequest, PushStream};

use crate::entry::Entry;
use crate::progress::Ticket;

/// Entries of one tenant that go into one request.
#[derive(Default)]
pub struct Batch {
    streams: Vec<PushStream>,
    places: HashMap<Labels, usize>,
    tickets: Vec<(Arc<Ticket>, u32)>,
    bytes: usize,
    entries: u64,
}

impl Batch {
    /// Adds an entry; `external` are labels that its own win over.
    pub fn add(&mut self, entry: &Entry, external: &BTreeMap<String, String>) {
        let place = match self.places.get(&entry.labels) {
            Some(place) => *place,
            None => {
                let mut labels = entry.labels.to_builder();
                for (name, value) in external.iter().filter(|(name, _)| entry.labels.get(name).is_none()) {
                    labels.set(name, value);
                }
                self.streams.push(PushStream { labels: labels.build().to_string(), entries: Vec::new() });
                self.places.insert(entry.labels.clone(), self.streams.len() - 1);
                self.streams.len() - 1
            }
        };
        let text = |s: &str| Str::from_utf8_lossy(Bytes::copy_from_slice(s.as_bytes()));
        self.streams[place].entries.push(PushEntry {
            timestamp_ns: entry.timestamp.nanos(),
            line: text(&entry.line),
            metadata: entry.metadata.iter().map(|(n, v)| (text(n), text(v))).collect(),
        });
        self.bytes += weight(entry);
        self.entries += 1;
        for (ticket, lines) in entry.tickets.iter() {
            match self.tickets.last_mut() {
                Some((last, count)) if Arc::ptr_eq(last, ticket) => *count += lines,
                _ => self.tickets.push((ticket.clone(), lines)),
            }
        }
    }

    /// Bytes of lines and metadata.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lines.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The request; the batch keeps the tickets.
    pub fn take_request(&mut self) -> PushRequest {
        self.places.clear();
        PushRequest { streams: std::mem::take(&mut self.streams) }
    }

    /// Tells the files that their lines are done.
    pub fn acknowledge(self) {
        for (ticket, count) in &self.tickets {
            ticket.done(*count);
        }
    }
}

/// What an entry counts against `batchsize`.
pub(super) fn weight(entry: &Entry) -> usize {
    entry.line.len() + entry.metadata.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Tickets;
    use crate::progress::Progress;
    use model::Timestamp;

    #[test]
    fn groups_by_stream_and_acknowledges() {
        let progress = Progress::new(0);
        let ticket = progress.open(10);
        let mut batch = Batch::default();
        let external =
            BTreeMap::from([("host".to_owned(), "h1".to_owned()), ("app".to_owned(), "x".to_owned())]);
        for (app, line) in [("a", "one"), ("b", "two"), ("a", "three")] {
            let labels = Labels::from_pairs([("app", app)]);
            let mut entry = Entry::new(Timestamp(1), line.to_owned(), labels);
            entry.tickets = Tickets::open(&ticket);
            batch.add(&entry, &external);
        }
        ticket.done(1);
        let request = batch.take_request();
        let shown: Vec<_> = request.streams.iter().map(|s| (s.labels.as_str(), s.entries.len())).collect();
        assert_eq!(shown, [("{app=\"a\", host=\"h1\"}", 2), ("{app=\"b\", host=\"h1\"}", 1)]);
        assert_eq!((batch.bytes(), batch.entries(), progress.acknowledged()), (11, 3, 0));
        batch.acknowledge();
        assert_eq!(progress.acknowledged(), 10);
    }
}
