//! What waits to be written to a client, within a bound: a client that reads too slowly loses entries and is told which.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use logql::{LabelSet, ResultStream};

use crate::api::json::{push_labels, push_list, push_str, push_streams};
use crate::tail::Line;

/// Entries of a frame.
const FRAME_LINES: usize = 100;
/// Entries that wait.
const MAX_LINES: usize = 20_000;
/// Bytes that wait, roughly.
const MAX_BYTES: usize = 16 << 20;
/// Lost entries that are told.
const MAX_DROPPED: usize = 1000;

/// Entries on their way to one client, in order of their times as far as they wait together.
#[derive(Debug)]
pub(crate) struct Outbox {
    delay: Duration,
    /// By time and arrival.
    waiting: BTreeMap<(i64, u64), Waiting>,
    sequence: u64,
    bytes: usize,
    dropped: VecDeque<(i64, LabelSet)>,
}

#[derive(Debug)]
struct Waiting {
    line: Line,
    /// Not to be written before.
    due: Instant,
}

/// A text frame.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    streams: Vec<ResultStream>,
    dropped: Vec<(i64, LabelSet)>,
}

impl Outbox {
    /// An empty one, which holds every entry back for `delay`.
    pub(crate) fn new(delay: Duration) -> Self {
        Self { delay, waiting: BTreeMap::new(), sequence: 0, bytes: 0, dropped: VecDeque::new() }
    }

    /// Takes an entry, or notes that it is lost.
    pub(crate) fn put(&mut self, line: Line, now: Instant) {
        let size = size(&line);
        if self.waiting.len() >= MAX_LINES || self.bytes + size > MAX_BYTES {
            return self.lose(line.entry.timestamp, line.labels);
        }
        self.bytes += size;
        self.sequence += 1;
        let due = now + self.delay;
        self.waiting.insert((line.entry.timestamp, self.sequence), Waiting { line, due });
    }

    /// Notes a lost entry.
    pub(crate) fn lose(&mut self, timestamp: i64, labels: LabelSet) {
        if self.dropped.len() == MAX_DROPPED {
            self.dropped.pop_front();
        }
        self.dropped.push_back((timestamp, labels));
    }

    /// What can be written now.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Frame> {
        let mut frame = Frame::default();
        let mut lines = 0;
        while lines < FRAME_LINES
            && let Some(first) = self.waiting.first_entry().filter(|first| first.get().due <= now)
        {
            let Line { labels, entry } = {
                let line = first.remove().line;
                self.bytes -= size(&line);
                line
            };
            lines += 1;
            match frame.streams.last_mut().filter(|stream| stream.labels == labels) {
                Some(stream) => stream.entries.push(entry),
                None => frame.streams.push(ResultStream { labels, entries: vec![entry] }),
            }
        }
        frame.dropped = std::mem::take(&mut self.dropped).into();
        (lines > 0 || !frame.dropped.is_empty()).then_some(frame)
    }

    /// When something will be due, if anything waits.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if !self.dropped.is_empty() {
            return Some(now);
        }
        self.waiting.first_key_value().map(|(_, first)| first.due)
    }
}

fn size(line: &Line) -> usize {
    let pairs = |set: &LabelSet| set.iter().map(|(name, value)| name.len() + value.len() + 16).sum::<usize>();
    128 + line.entry.line.len()
        + pairs(&line.labels)
        + pairs(&line.entry.metadata)
        + pairs(&line.entry.parsed)
}

impl Frame {
    /// The frame as clients read it; with `flags` every value has a third member.
    pub(crate) fn json(&self, flags: &[String]) -> String {
        let mut out = b"{\"streams\":".to_vec();
        push_streams(&mut out, &self.streams, !flags.is_empty());
        if !self.dropped.is_empty() {
            out.extend_from_slice(b",\"dropped_entries\":");
            push_list(&mut out, &self.dropped, |out, (timestamp, labels)| {
                out.extend_from_slice(b"{\"timestamp\":\"");
                out.extend_from_slice(timestamp.to_string().as_bytes());
                out.extend_from_slice(b"\",\"labels\":");
                push_labels(out, labels.iter());
                out.push(b'}');
            });
        }
        if !flags.is_empty() {
            out.extend_from_slice(b",\"encodingFlags\":");
            push_list(&mut out, flags, |out, flag| push_str(out, flag));
        }
        out.push(b'}');
        // All parts were text.
        String::from_utf8(out).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logql::ResultEntry;

    fn line(app: &str, timestamp: i64, text: &str) -> Line {
        let none = LabelSet::default();
        let entry = ResultEntry { timestamp, line: text.into(), metadata: none.clone(), parsed: none };
        Line { labels: LabelSet::from_pairs([("app", app)]), entry }
    }

    #[test]
    fn frames_in_order_of_time() {
        let mut out = Outbox::new(Duration::ZERO);
        let now = Instant::now();
        assert!(out.take(now).is_none() && out.due(now).is_none());
        for (app, time) in [("a", 3), ("b", 1), ("b", 2), ("a", 4)] {
            out.put(line(app, time, "x"), now);
        }
        assert_eq!(
            out.take(now).unwrap().json(&[]),
            r#"{"streams":[{"stream":{"app":"b"},"values":[["1","x"],["2","x"]]},{"stream":{"app":"a"},"values":[["3","x"],["4","x"]]}]}"#
        );
        out.put(line("a", 1, "y"), now);
        out.lose(7, LabelSet::from_pairs([("app", "c")]));
        assert_eq!(
            out.take(now).unwrap().json(&["categorize-labels".into()]),
            r#"{"streams":[{"stream":{"app":"a"},"values":[["1","y",{}]]}],"dropped_entries":[{"timestamp":"7","labels":{"app":"c"}}],"encodingFlags":["categorize-labels"]}"#
        );
        assert_eq!(out.bytes, 0);
    }

    #[test]
    fn entries_wait_for_late_ones() {
        let delay = Duration::from_secs(2);
        let mut out = Outbox::new(delay);
        let now = Instant::now();
        out.put(line("a", 9, "late"), now);
        out.put(line("a", 5, "early"), now);
        assert!(out.take(now).is_none());
        assert_eq!(out.due(now), Some(now + delay));
        let frame = out.take(now + delay).unwrap();
        assert_eq!(frame.streams[0].entries.iter().map(|e| e.timestamp).collect::<Vec<_>>(), [5, 9]);
    }

    #[test]
    fn a_slow_reader_loses_entries() {
        let mut out = Outbox::new(Duration::ZERO);
        let now = Instant::now();
        for n in 0..MAX_LINES as i64 + 1500 {
            out.put(line("a", n, "x"), now);
        }
        let frame = out.take(now).unwrap();
        assert_eq!((frame.streams[0].entries.len(), frame.dropped.len()), (FRAME_LINES, MAX_DROPPED));
        assert_eq!(frame.dropped[MAX_DROPPED - 1].0, MAX_LINES as i64 + 1499);
        assert!(out.take(now).unwrap().dropped.is_empty());
    }
}
