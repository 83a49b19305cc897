//! The index object of a block: which streams it holds and where, so that matchers, labels, series, volume and stats read no data, and
//! which granules can hold a needle, so that searches read little.
//!
//! A granule is a fixed number of rows of the file. For each stream and granule it touches, the index keeps the first and last time,
//! times in between, and the bytes of the lines; per stream it keeps entries and bytes per minute. A query reads the rows whose time
//! it needs, and of those only granules that can hold what it searches.

mod build;
mod histogram;
mod levels;
mod stream;

use std::sync::Arc;

use block::needle::NeedleIndex;
use bytes::Bytes;
use model::Matcher;
use shred::Table;

pub use build::IndexBuilder;
pub use histogram::{BUCKET, Bucket, Histogram};
pub use levels::Levels;
pub use stream::{IndexStream, Part, Run, share};

use crate::store::codec::{CodecError, Reader, put_str, put_u64};

/// Rows per granule.
pub const GRANULE_ROWS: u64 = 4096;
/// Names of the map that the index lists at most.
const MAX_REST_NAMES: usize = 1000;
/// Since 3 streams tell the levels of their entries.
const VERSION: u8 = 3;
/// The oldest version that is read.
const OLDEST_VERSION: u8 = 2;

/// What a block holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIndex {
    /// The shapes and fields of its lines.
    pub table: Arc<Table>,
    /// Metadata names that are columns of their own.
    pub columns: Vec<Arc<str>>,
    /// Metadata names in the map.
    pub rest: RestNames,
    /// The streams in order of their rows.
    pub streams: Vec<IndexStream>,
    /// Which granules can hold a text.
    pub needles: NeedleIndex,
}

/// Which metadata names the map of a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestNames {
    /// These, possibly none.
    Names(Vec<Arc<str>>),
    /// Too many to list.
    Many,
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

    /// Reads an index object. The needle index stays in its bytes.
    pub fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(CodecError::Version(version));
        }
        let count = reader.count()?;
        let columns = names(&mut reader, count)?;
        let rest = match reader.count()? {
            0 => RestNames::Many,
            count => RestNames::Names(names(&mut reader, count - 1)?),
        };
        let length = reader.count()?;
        let table = match reader.take(length)? {
            [] => Table::default(),
            table => Table::decode(table).map_err(|_| CodecError::Invalid("table of shapes"))?,
        };
        let count = reader.count()?;
        let mut streams = Vec::with_capacity(count.min(1 << 16));
        let mut at = 0u64;
        for _ in 0..count {
            let stream = IndexStream::decode(&mut reader, at, version)?;
            at = stream.rows.end;
            streams.push(stream);
        }
        let length = reader.count()?;
        if length != reader.remaining() {
            return Err(CodecError::Truncated);
        }
        let needles = NeedleIndex::decode(bytes.slice(bytes.len() - length..))
            .map_err(|_| CodecError::Invalid("needle index"))?;
        Ok(Self { table: Arc::new(table), columns, rest, streams, needles })
    }
}

/// Writes the index object: version; columns; map names (count + 1, or 0 for too many); table (bytes, and it); streams; needle
/// index (bytes, and it).
fn encode(
    table: &Table,
    columns: &[Arc<str>],
    rest: &RestNames,
    streams: &[IndexStream],
    needles: &[u8],
) -> Bytes {
    let mut out = vec![VERSION];
    put_names(&mut out, columns, 0);
    match rest {
        RestNames::Many => put_u64(&mut out, 0),
        RestNames::Names(names) => put_names(&mut out, names, 1),
    }
    let table = table.encode();
    put_u64(&mut out, table.len() as u64);
    out.extend(table);
    put_u64(&mut out, streams.len() as u64);
    streams.iter().for_each(|stream| stream.encode(&mut out));
    put_u64(&mut out, needles.len() as u64);
    out.extend_from_slice(needles);
    out.into()
}

fn put_names(out: &mut Vec<u8>, names: &[Arc<str>], bias: u64) {
    put_u64(out, names.len() as u64 + bias);
    names.iter().for_each(|name| put_str(out, name));
}

fn names(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Arc<str>>, CodecError> {
    (0..count).map(|_| reader.str().map(Arc::from)).collect()
}

#[cfg(test)]
mod tests;
