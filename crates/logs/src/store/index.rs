//! The index object of a block: which streams it holds and where, so that matchers, labels, series, volume and stats read no data.
//!
//! A granule is a fixed number of rows of the file, the same as a data page. For each stream and granule it touches, the index
//! keeps the first and last time and the bytes of the lines; a query reads exactly the pages whose time it needs.

use std::ops::Range;
use std::sync::Arc;

use model::{Labels, Matcher};

use crate::store::codec::{CodecError, Reader, put_i64, put_str, put_u64};

/// Rows per granule and per data page.
pub const GRANULE_ROWS: u64 = 4096;
/// Names of the map that the index lists at most.
const MAX_REST_NAMES: usize = 1000;
const VERSION: u8 = 1;

/// What a block holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIndex {
    /// Metadata names that are columns of their own.
    pub columns: Vec<Arc<str>>,
    /// Metadata names in the map.
    pub rest: RestNames,
    /// The streams in order of their rows.
    pub streams: Vec<IndexStream>,
}

/// Which metadata names the map of a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestNames {
    /// These, possibly none.
    Names(Vec<Arc<str>>),
    /// Too many to list.
    Many,
}

/// A stream of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexStream {
    /// Its labels.
    pub labels: Labels,
    /// Its rows in the file.
    pub rows: Range<u64>,
    /// A part per granule that the rows touch.
    pub parts: Vec<Part>,
}

/// The rows of a stream in one granule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First time.
    pub first: i64,
    /// Last time.
    pub last: i64,
    /// Bytes of the lines.
    pub bytes: u64,
}

/// Entries and bytes of a stream in some range of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amount {
    /// Entries, estimated where the range cuts a granule.
    pub entries: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Granules touched.
    pub parts: u64,
}

impl Amount {
    /// Adds a share of a granule or chunk.
    pub fn add(&mut self, entries: u64, bytes: u64, share: f64) {
        self.entries += (entries as f64 * share).round() as u64;
        self.bytes += (bytes as f64 * share).round() as u64;
        self.parts += 1;
    }

    /// Adds another amount.
    pub fn join(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.parts += other.parts;
    }
}

impl Default for RestNames {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

impl RestNames {
    /// Lists names, unless they are too many.
    pub fn new(mut names: Vec<Arc<str>>) -> Self {
        names.sort();
        names.dedup();
        if names.len() > MAX_REST_NAMES { Self::Many } else { Self::Names(names) }
    }

    /// Whether the map holds anything.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }

    /// Whether the map may hold `name`.
    pub fn may_hold(&self, name: &str) -> bool {
        match self {
            Self::Many => true,
            Self::Names(names) => names.binary_search_by(|n| (**n).cmp(name)).is_ok(),
        }
    }
}

impl IndexStream {
    /// First time of the stream in this block.
    pub fn first(&self) -> i64 {
        self.parts.first().map_or(i64::MAX, |p| p.first)
    }

    /// Last time of the stream in this block.
    pub fn last(&self) -> i64 {
        self.parts.last().map_or(i64::MIN, |p| p.last)
    }

    /// Each part with its rows.
    pub fn parts(&self) -> impl Iterator<Item = (Range<u64>, Part)> + '_ {
        let first_granule = self.rows.start / GRANULE_ROWS;
        self.parts.iter().enumerate().map(move |(i, part)| {
            let granule = first_granule + i as u64;
            let start = self.rows.start.max(granule * GRANULE_ROWS);
            (start..self.rows.end.min((granule + 1) * GRANULE_ROWS), *part)
        })
    }

    /// Rows of the parts that meet `first..=last`; empty if none does.
    pub fn rows_within(&self, first: i64, last: i64) -> Range<u64> {
        let from = self.parts.partition_point(|p| p.last < first) as u64;
        let to = self.parts.partition_point(|p| p.first <= last) as u64;
        if from >= to {
            return self.rows.start..self.rows.start;
        }
        let granule = self.rows.start / GRANULE_ROWS;
        let start = self.rows.start.max((granule + from) * GRANULE_ROWS);
        start..self.rows.end.min((granule + to) * GRANULE_ROWS)
    }

    /// How much lies in `first..=last`.
    pub fn amount(&self, first: i64, last: i64) -> Amount {
        let mut sum = Amount::default();
        for (rows, part) in self.parts().filter(|(_, p)| p.first <= last && p.last >= first) {
            sum.add(rows.end - rows.start, part.bytes, share(part.first, part.last, first, last));
        }
        sum
    }
}

/// The share of `first..=last` that lies in `from..=to`.
pub fn share(first: i64, last: i64, from: i64, to: i64) -> f64 {
    if from <= first && last <= to {
        return 1.0;
    }
    let inside = last.min(to) as f64 - first.max(from) as f64;
    (inside / (last as f64 - first as f64).max(1.0)).clamp(0.0, 1.0)
}

impl BlockIndex {
    /// The streams that satisfy all matchers and meet `first..=last`.
    pub fn select<'a>(
        &'a self,
        matchers: &'a [Matcher],
        first: i64,
        last: i64,
    ) -> impl Iterator<Item = (usize, &'a IndexStream)> + 'a {
        self.streams.iter().enumerate().filter(move |(_, s)| {
            s.first() <= last && s.last() >= first && matchers.iter().all(|m| m.matches_labels(&s.labels))
        })
    }

    /// Writes the index object: version; columns; map names (count + 1, or 0 for too many); streams; per stream labels, rows,
    /// and per part: first (difference to the last time before), last (difference), bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_names(&mut out, &self.columns, 0);
        match &self.rest {
            RestNames::Many => put_u64(&mut out, 0),
            RestNames::Names(names) => put_names(&mut out, names, 1),
        }
        put_u64(&mut out, self.streams.len() as u64);
        for stream in &self.streams {
            put_str(&mut out, &stream.labels.to_string());
            put_u64(&mut out, stream.rows.end - stream.rows.start);
            let mut before = 0i64;
            for part in &stream.parts {
                put_i64(&mut out, part.first.wrapping_sub(before));
                put_i64(&mut out, part.last.wrapping_sub(part.first));
                put_u64(&mut out, part.bytes);
                before = part.last;
            }
        }
        out
    }

    /// Reads an index object.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            VERSION => {}
            other => return Err(CodecError::Version(other)),
        }
        let count = reader.count()?;
        let columns = names(&mut reader, count)?;
        let rest = match reader.count()? {
            0 => RestNames::Many,
            count => RestNames::Names(names(&mut reader, count - 1)?),
        };
        let count = reader.count()?;
        let mut streams = Vec::with_capacity(count);
        let mut at = 0u64;
        for _ in 0..count {
            let stream = decode_stream(&mut reader, at)?;
            at = stream.rows.end;
            streams.push(stream);
        }
        Ok(Self { columns, rest, streams })
    }
}

fn decode_stream(reader: &mut Reader<'_>, start: u64) -> Result<IndexStream, CodecError> {
    let labels = Labels::parse(reader.str()?).map_err(|_| CodecError::Invalid("labels"))?;
    let rows = start..start.checked_add(reader.u64()?).ok_or(CodecError::Overflow)?;
    if rows.is_empty() {
        return Err(CodecError::Invalid("rows"));
    }
    let count = (rows.end - 1) / GRANULE_ROWS - rows.start / GRANULE_ROWS + 1;
    if count > reader.remaining() as u64 {
        return Err(CodecError::Truncated);
    }
    let mut parts = Vec::with_capacity(count as usize);
    let mut before = 0i64;
    for _ in 0..count {
        let first = before.wrapping_add(reader.i64()?);
        let last = first.wrapping_add(reader.i64()?);
        parts.push(Part { first, last, bytes: reader.u64()? });
        before = last;
    }
    Ok(IndexStream { labels, rows, parts })
}

fn put_names(out: &mut Vec<u8>, names: &[Arc<str>], bias: u64) {
    put_u64(out, names.len() as u64 + bias);
    names.iter().for_each(|name| put_str(out, name));
}

fn names(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Arc<str>>, CodecError> {
    (0..count).map(|_| reader.str().map(Arc::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(app: &str, rows: Range<u64>) -> IndexStream {
        let count = (rows.end - 1) / GRANULE_ROWS - rows.start / GRANULE_ROWS + 1;
        let part = |i| Part { first: i as i64 * 100, last: i as i64 * 100 + 50, bytes: 1000 };
        IndexStream {
            labels: Labels::from_pairs([("app", app)]),
            rows,
            parts: (0..count).map(part).collect(),
        }
    }

    fn index() -> BlockIndex {
        let g = GRANULE_ROWS;
        BlockIndex {
            columns: vec!["detected_level".into()],
            rest: RestNames::new(vec!["y".into(), "x".into(), "y".into()]),
            streams: vec![stream("a", 0..10), stream("b", 10..2 * g + 1), stream("c", 2 * g + 1..3 * g)],
        }
    }

    #[test]
    fn comes_back() {
        let index = index();
        assert_eq!(BlockIndex::decode(&index.encode()), Ok(index.clone()));
        let many = BlockIndex { rest: RestNames::Many, ..index };
        assert_eq!(BlockIndex::decode(&many.encode()), Ok(many));
    }

    #[test]
    fn rows_of_a_time_range() {
        let g = GRANULE_ROWS;
        let index = index();
        let b = &index.streams[1];
        assert_eq!(b.rows_within(0, 1000), 10..2 * g + 1);
        assert_eq!(b.rows_within(51, 100), g..2 * g);
        assert_eq!(b.rows_within(200, 200), 2 * g..2 * g + 1);
        assert!(b.rows_within(60, 70).is_empty() && b.rows_within(251, 300).is_empty());
        assert_eq!(b.amount(0, 25), Amount { entries: (g - 10).div_ceil(2), bytes: 500, parts: 1 });
        assert_eq!(b.amount(0, 1000), Amount { entries: 2 * g - 9, bytes: 3000, parts: 3 });
        assert!(index.rest.may_hold("x") && !index.rest.may_hold("z"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            let _ = BlockIndex::decode(&bytes);
        }

        #[test]
        fn cut_indexes_are_refused(cut: proptest::sample::Index) {
            let bytes = index().encode();
            prop_assert!(BlockIndex::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }
}
