//! Where entries come from: our addition to Loki's push protocol, by which a store knows what it has stored already.
//!
//! Two fields that Loki skips as unknown. `PushRequest` 13, repeated message `Source { bytes id = 1 (16 bytes); uint64 low = 2 }`.
//! `StreamAdapter` 13, bytes: the origins of its entries in their order, packed. An entry is a varint k, the number of its ranges,
//! 0 for no origin; then, if k > 0, a varint with the place of its source in the request, and per range a zigzag varint, its start
//! minus the end of the range before of the same source in this stream (0 at first), and a varint, its length, never 0.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::PushRequest;
use crate::proto::{Fields, ProtoError, Value, Writer};

/// The number of both fields.
pub(super) const FIELD: u32 = 13;
/// More sources of one request are refused.
pub const MAX_SOURCES: usize = 65_536;
/// More ranges of one entry are refused.
pub const MAX_RANGES: usize = 1024;

/// A sequence of bytes that lines are cut from, such as one generation of one file as one job reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// Nobody else's; random or a hash.
    pub id: u128,
    /// Nothing that begins below this position will ever be sent (again), not even after a crash of the sender.
    pub low: u64,
}

/// The raw records, as `[start, end)` in their source, that went into an entry; none is empty.
pub type Ranges = SmallVec<[Range<u64>; 1]>;

/// Why origins are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// A number runs over the end, or has more than 64 bits.
    #[error("origins: {0}")]
    Number(ProtoError),
    /// An entry has too many ranges.
    #[error("origins: an entry has {0} ranges, at most {MAX_RANGES} are allowed")]
    Ranges(u64),
    /// A range is empty or ends beyond 64 bits.
    #[error("origins: a range from {start} of {length} bytes")]
    Range {
        /// Where it begins.
        start: u64,
        /// How long it claims to be.
        length: u64,
    },
    /// An entry names a source that the request does not have.
    #[error("origins: there is no source {source_index}, the request has {sources}")]
    Source {
        /// The place that the entry names.
        source_index: u64,
        /// How many there are.
        sources: usize,
    },
    /// Origins and entries of a stream do not pair.
    #[error("origins: a stream with {entries} entries has the origins of {origins}")]
    Count {
        /// Its entries.
        entries: usize,
        /// Its origins.
        origins: usize,
    },
    /// There are too many sources.
    #[error("origins: the request has more than {MAX_SOURCES} sources")]
    Sources,
    /// The id of a source is not 16 bytes.
    #[error("origins: the id of a source has {0} bytes instead of 16")]
    Id(usize),
}

/// Packs the origins of the entries of one stream.
#[derive(Debug, Default)]
pub struct OriginWriter {
    out: Writer,
    ends: Ends,
}

impl OriginWriter {
    /// The next entry comes from these ranges of the source at this place of the request. Empty ranges are left out; an entry
    /// with no range, or with more than [`MAX_RANGES`], has no origin.
    pub fn push(&mut self, source: u32, ranges: &[Range<u64>]) {
        let count = ranges.iter().filter(|range| !range.is_empty()).count();
        if count == 0 || count > MAX_RANGES {
            return self.push_none();
        }
        self.out.raw_varint(count as u64);
        self.out.raw_varint(u64::from(source));
        let end = self.ends.of(source);
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let step = range.start.wrapping_sub(*end) as i64;
            self.out.raw_varint((step << 1 ^ step >> 63) as u64);
            self.out.raw_varint(range.end - range.start);
            *end = range.end;
        }
    }

    /// The next entry has no origin.
    pub fn push_none(&mut self) {
        self.out.raw_varint(0);
    }

    /// What was packed, for [`super::PushStream::origins`].
    pub fn finish(self) -> Bytes {
        self.out.finish().into()
    }
}

/// Reads the origins of the entries of one stream.
pub fn origins(packed: &[u8]) -> OriginReader<'_> {
    OriginReader { rest: Fields::new(packed), ends: Ends::default() }
}

/// The origins of entries, one after the other: place of the source in the request, which need not exist, and ranges. After an
/// error it ends.
#[derive(Debug)]
pub struct OriginReader<'a> {
    rest: Fields<'a>,
    ends: Ends,
}

impl OriginReader<'_> {
    fn number(&mut self) -> Result<u64, OriginError> {
        self.rest.varint().map_err(OriginError::Number)
    }

    fn entry(&mut self) -> Result<Option<(u32, Ranges)>, OriginError> {
        let count = self.number()?;
        if count == 0 {
            return Ok(None);
        }
        if count > MAX_RANGES as u64 {
            return Err(OriginError::Ranges(count));
        }
        let source_index = self.number()?;
        let source =
            u32::try_from(source_index).map_err(|_| OriginError::Source { source_index, sources: 0 })?;
        let mut last = *self.ends.of(source);
        let mut ranges = Ranges::new();
        for _ in 0..count {
            let step = self.number()?;
            let start = last.wrapping_add(step >> 1 ^ (step & 1).wrapping_neg());
            let length = self.number()?;
            let end = start.checked_add(length).filter(|end| *end > start);
            last = end.ok_or(OriginError::Range { start, length })?;
            ranges.push(start..last);
        }
        *self.ends.of(source) = last;
        Ok(Some((source, ranges)))
    }
}

impl Iterator for OriginReader<'_> {
    type Item = Result<Option<(u32, Ranges)>, OriginError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_done() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.rest = Fields::new(&[]);
        }
        Some(entry)
    }
}

/// Where the last range of each source ended. Most streams have one source.
#[derive(Debug, Default)]
struct Ends {
    first: Option<(u32, u64)>,
    others: HashMap<u32, u64>,
}

impl Ends {
    fn of(&mut self, source: u32) -> &mut u64 {
        let (first, end) = self.first.get_or_insert((source, 0));
        match *first == source {
            true => end,
            false => self.others.entry(source).or_default(),
        }
    }
}

/// Checks that every stream has no origins or those of all its entries, from sources of the request.
pub(super) fn check(request: &PushRequest) -> Result<(), OriginError> {
    let sources = request.sources.len();
    for stream in request.streams.iter().filter(|stream| !stream.origins.is_empty()) {
        let mut count = 0;
        for origin in origins(&stream.origins) {
            count += 1;
            match origin? {
                Some((source, _)) if source as usize >= sources => {
                    return Err(OriginError::Source { source_index: source.into(), sources });
                }
                _ => {}
            }
        }
        if count != stream.entries.len() {
            return Err(OriginError::Count { entries: stream.entries.len(), origins: count });
        }
    }
    Ok(())
}

pub(super) fn read_source(raw: &[u8]) -> Result<Source, super::PushError> {
    let mut source = Source { id: 0, low: 0 };
    let mut id: &[u8] = &[];
    for field in Fields::new(raw) {
        match field? {
            (1, Value::Len(bytes)) => id = bytes,
            (2, Value::Varint(low)) => source.low = low,
            (number @ (1 | 2), _) => return Err(ProtoError::Mismatch(number).into()),
            _ => {}
        }
    }
    source.id = u128::from_be_bytes(id.try_into().map_err(|_| OriginError::Id(id.len()))?);
    Ok(source)
}

pub(super) fn write_source(out: &mut Writer, source: &Source) {
    out.message(FIELD, |out| {
        out.bytes(1, &source.id.to_be_bytes());
        if source.low != 0 {
            out.varint(2, source.low);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loki::{PushEntry, PushStream};
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Entry = Option<(u32, Vec<Range<u64>>)>;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let near = (0u64..1000, 1u64..100).prop_map(|(start, length)| start..start + length);
        let far = any::<(u64, u64)>().prop_filter_map("empty", |(a, b)| (a != b).then(|| a.min(b)..a.max(b)));
        let range = prop_oneof![near, far];
        vec(proptest::option::of((prop_oneof![0u32..3, any::<u32>()], vec(range, 1..4))), 0..20)
    }

    fn pack(entries: &[Entry]) -> Bytes {
        let mut writer = OriginWriter::default();
        for entry in entries {
            match entry {
                Some((source, ranges)) => writer.push(*source, ranges),
                None => writer.push_none(),
            }
        }
        writer.finish()
    }

    proptest! {
        #[test]
        fn come_back(entries in entries()) {
            let read: Result<Vec<_>, _> = origins(&pack(&entries)).collect();
            let read: Vec<Entry> =
                read.unwrap().into_iter().map(|e| e.map(|(source, ranges)| (source, ranges.into_vec()))).collect();
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut reader = origins(&bytes);
            let mut ranges = 0;
            while let Some(entry) = reader.next() {
                match entry {
                    Ok(origin) => ranges += origin.map_or(0, |(_, ranges)| ranges.len()),
                    Err(_) => prop_assert!(reader.next().is_none()),
                }
            }
            prop_assert!(ranges <= bytes.len() / 2);
        }
    }

    #[test]
    fn neighbours_take_few_bytes() {
        let mut writer = OriginWriter::default();
        (0..1000u64).for_each(|i| writer.push(0, std::slice::from_ref(&(i * 100..(i + 1) * 100))));
        assert_eq!(writer.finish().len(), 4 * 1000);
    }

    #[test]
    fn what_is_no_origin_is_written_as_none() {
        let mut writer = OriginWriter::default();
        writer.push(0, &[]);
        writer.push(0, std::slice::from_ref(&(7..7)));
        let many: Vec<_> = (0..MAX_RANGES as u64 + 1).map(|i| 2 * i..2 * i + 1).collect();
        writer.push(0, &many);
        writer.push(0, &many[1..]);
        let read: Vec<_> = origins(&writer.finish()).map(|e| e.unwrap().map(|(_, r)| r.len())).collect();
        assert_eq!(read, [None, None, None, Some(MAX_RANGES)]);
    }

    #[test]
    fn bad_origins() {
        fn check_bytes(packed: &[u8], expect: OriginError) {
            let request = PushRequest {
                streams: vec![PushStream {
                    entries: vec![PushEntry::default(); 2],
                    origins: Bytes::copy_from_slice(packed),
                    ..PushStream::default()
                }],
                sources: vec![Source { id: 1, low: 0 }],
            };
            assert_eq!(check(&request), Err(expect), "{packed:x?}");
        }
        check_bytes(&[0], OriginError::Count { entries: 2, origins: 1 });
        check_bytes(&[0, 0, 0], OriginError::Count { entries: 2, origins: 3 });
        check_bytes(&[1], OriginError::Number(ProtoError::Truncated));
        check_bytes(&[1, 1, 0, 1, 0], OriginError::Source { source_index: 1, sources: 1 });
        check_bytes(&[1, 0, 4, 0, 0], OriginError::Range { start: 2, length: 0 });
        check_bytes(&[1, 0, 1, 1, 0], OriginError::Range { start: u64::MAX, length: 1 });
        check_bytes(&[0x81, 8, 0], OriginError::Ranges(1025));
        check_bytes(
            &[1, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 1],
            OriginError::Source { source_index: 1 << 32, sources: 0 },
        );
    }
}
