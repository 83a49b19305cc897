//! How lines lie in a spool: a record holds lines of one stream, as they came out of relabelling.
//!
//! ```text
//! record    1 | labels | line…
//! labels    count, then name and value of each
//! line      timestamp i64 (little endian, ns) | text | count, then name and value of each piece of structured metadata
//! ```
//! Counts and lengths are varints; a text is its length and its bytes.
//!
//! A line is known by its *number*: the position of its record in the log, and its place in the record. Numbers are never given
//! twice, so they are the bytes of the line's source ([`crate::source`]), one for each line.

use bytes::{Buf as _, Bytes};
use model::{Labels, Timestamp};

use crate::entry::Entry;

const VERSION: u8 = 1;
/// A record that has so many bytes is full.
const FULL_BYTES: usize = 256 << 10;
/// Bits of a number that tell a line from others of its record.
const LINE_BITS: u32 = 20;
/// Most lines of a record.
const MAX_LINES: u64 = 1 << LINE_BITS;

/// The number of the first line of a record.
pub(super) fn first_number(position: u64) -> u64 {
    position << LINE_BITS
}

/// The position of the record that has a line.
pub(super) fn position(number: u64) -> u64 {
    number >> LINE_BITS
}

/// The position behind the record of the last line before `number`.
pub(super) fn position_after(number: u64) -> u64 {
    number.div_ceil(MAX_LINES)
}

/// Lines on their way into a spool.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    records: Records,
    open: Option<Open>,
}

/// Lines as records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    /// Encoded.
    pub(super) records: Vec<Bytes>,
    /// How many lines they have.
    pub(super) lines: u64,
}

#[derive(Debug)]
struct Open {
    labels: Labels,
    bytes: Vec<u8>,
    lines: u64,
}

impl Batch {
    /// Adds a line: time, text, labels and structured metadata of an entry that no stage has seen.
    pub(crate) fn add(&mut self, entry: &Entry) {
        let fits = |open: &Open| {
            open.labels == entry.labels && open.bytes.len() < FULL_BYTES && open.lines < MAX_LINES
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.seal();
        }
        let open = self.open.get_or_insert_with(|| {
            let mut bytes = vec![VERSION];
            let pairs = entry.labels.iter();
            put_pairs(&mut bytes, pairs.clone().count(), pairs);
            Open { labels: entry.labels.clone(), bytes, lines: 0 }
        });
        open.bytes.extend_from_slice(&entry.timestamp.nanos().to_le_bytes());
        put_text(&mut open.bytes, &entry.line);
        let metadata = entry.metadata.iter().map(|(name, value)| (&**name, value.as_str()));
        put_pairs(&mut open.bytes, entry.metadata.len(), metadata);
        open.lines += 1;
    }

    fn seal(&mut self) {
        if let Some(open) = self.open.take() {
            self.records.lines += open.lines;
            self.records.records.push(open.bytes.into());
        }
    }

    /// The records.
    pub(crate) fn finish(mut self) -> Records {
        self.seal();
        self.records
    }
}

/// Bytes that are no record of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a record of version {0}, this agent knows {VERSION}: it was written by a newer one")]
    Version(u8),
    #[error("a record that is not whole")]
    Torn,
}

/// The lines of a record in their order.
#[derive(Debug)]
pub(super) struct Lines {
    labels: Labels,
    rest: Bytes,
}

impl Lines {
    /// Begins to read a record.
    pub(super) fn of(mut record: Bytes) -> Result<Self, RecordError> {
        match record.try_get_u8() {
            Ok(VERSION) => {}
            Ok(version) => return Err(RecordError::Version(version)),
            Err(_) => return Err(RecordError::Torn),
        }
        let pairs = pairs(&mut record).ok_or(RecordError::Torn)?;
        Ok(Self { labels: Labels::from_pairs(pairs), rest: record })
    }

    fn line(&mut self) -> Option<Entry> {
        let timestamp = Timestamp(self.rest.try_get_i64_le().ok()?);
        let line = text(&mut self.rest)?;
        let metadata = pairs(&mut self.rest)?;
        let mut entry = Entry::new(timestamp, line, self.labels.clone());
        entry.metadata = metadata.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Some(entry)
    }
}

impl Iterator for Lines {
    type Item = Result<Entry, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let line = self.line();
        if line.is_none() {
            self.rest.clear();
        }
        Some(line.ok_or(RecordError::Torn))
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_pairs<'a>(out: &mut Vec<u8>, count: usize, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    put_varint(out, count);
    for (name, value) in pairs {
        put_text(out, name);
        put_text(out, value);
    }
}

fn varint(bytes: &mut Bytes) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(value).ok();
        }
    }
    None
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let length = varint(bytes)?;
    if length > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(length).into()).ok()
}

fn pairs(bytes: &mut Bytes) -> Option<Vec<(String, String)>> {
    // The count is not to be trusted with an allocation.
    let count = varint(bytes)?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((text(bytes)?, text(bytes)?));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Shown = (i64, String, String, Vec<(String, String)>);

    fn entry(labels: &[(String, String)], time: i64, line: &str, metadata: &[(String, String)]) -> Entry {
        let labels = Labels::from_pairs(labels.iter().map(|(n, v)| (n, v)));
        let mut entry = Entry::new(Timestamp(time), line.to_owned(), labels);
        entry.metadata = metadata.iter().map(|(n, v)| (n.as_str().into(), v.clone())).collect();
        entry
    }

    fn shown(entry: &Entry) -> Shown {
        let metadata = entry.metadata.iter().map(|(n, v)| ((**n).to_owned(), v.clone())).collect();
        (entry.timestamp.nanos(), entry.line.clone(), entry.labels.to_string(), metadata)
    }

    fn read(records: &[Bytes]) -> Vec<Shown> {
        let lines = records.iter().flat_map(|record| Lines::of(record.clone()).unwrap());
        lines.map(|line| shown(&line.unwrap())).collect()
    }

    #[test]
    fn a_stream_shares_a_record_until_it_is_full() {
        let labels = [("job".to_owned(), "a".to_owned())];
        let mut batch = Batch::default();
        for number in 0..3 {
            batch.add(&entry(&labels, number, "x", &[]));
        }
        batch.add(&entry(&[], 3, &"y".repeat(FULL_BYTES), &[]));
        batch.add(&entry(&[], 4, "z", &[]));
        let Records { records, lines } = batch.finish();
        assert_eq!((records.len(), lines), (3, 5));
        assert_eq!(read(&records).iter().map(|line| line.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(Batch::default().finish(), Records::default());
    }

    #[test]
    fn numbers_tell_lines_apart() {
        assert_eq!(position(first_number(7) + MAX_LINES - 1), 7);
        assert_eq!(first_number(8), first_number(7) + MAX_LINES);
    }

    #[test]
    fn what_is_no_record() {
        assert_eq!(Lines::of(Bytes::new()).unwrap_err(), RecordError::Torn);
        assert_eq!(Lines::of(Bytes::from_static(&[9])).unwrap_err(), RecordError::Version(9));
        // Counts and lengths that nothing follows.
        for bytes in
            [&[1, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1, 1, 0xff, 0x7f], &[1, 0x80, 0x80, 0x80, 0x80, 0x80]]
        {
            assert_eq!(Lines::of(Bytes::copy_from_slice(bytes)).unwrap_err(), RecordError::Torn);
        }
    }

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        proptest::collection::vec(("[a-z_]{1,8}", ".{0,20}"), 0..4)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            lines in proptest::collection::vec((pairs(), any::<i64>(), ".{0,200}", pairs()), 0..20),
        ) {
            let entries: Vec<_> =
                lines.iter().map(|(labels, time, line, metadata)| entry(labels, *time, line, metadata)).collect();
            let mut batch = Batch::default();
            entries.iter().for_each(|entry| batch.add(entry));
            let want: Vec<_> = entries.iter().map(shown).collect();
            prop_assert_eq!(read(&batch.finish().records), want);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..100) {
            for begin in [&[][..], &[1], &[1, 0], &[1, 1, 1, b'a', 1, b'b']] {
                let record = Bytes::from([begin, &bytes].concat());
                if let Ok(lines) = Lines::of(record) {
                    lines.for_each(drop);
                }
            }
            let mut batch = Batch::default();
            batch.add(&entry(&[("a".into(), "b".into())], 1, "some line", &[("c".into(), "d".into())]));
            let whole = &batch.finish().records[0];
            let part = whole.slice(..cut.min(whole.len()));
            let whole_lines = Lines::of(part.clone()).map(|lines| lines.filter(Result::is_ok).count());
            prop_assert!(part.len() == whole.len() || whole_lines.unwrap_or(0) == 0);
        }
    }
}
