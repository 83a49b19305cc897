//! Makes the index object of a block while its rows are written.

use std::sync::Arc;

use block::needle::{FixedId, NeedleBuilder};
use bytes::Bytes;
use model::Labels;
use shred::Table;

use crate::store::index::histogram::Histogram;
use crate::store::index::levels::LevelNotes;
use crate::store::index::stream::{IndexStream, Part};
use crate::store::index::{GRANULE_ROWS, RestNames, encode};

/// Takes the streams of a block in order of their rows: [`stream`](Self::stream), then its rows, and of the rows of each granule
/// everything that a needle may be searched in.
///
/// Texts and values belong to the granule of the row that was added last, so they are given before the first row of the next
/// granule: [`room`](Self::room) says how many rows may be added until then. A text that many rows of a granule share need be given
/// once; order does not matter.
///
/// What must be given of a line: the line itself if it is kept as it is or was taken apart inside of a token (see
/// [`block::needle::is_token_byte`]: that is, if a literal of its shape touches a gap with such a byte); else the literals of its
/// shape and the values of its gaps, numbers by [`numbers`](Self::numbers). And all values of structured metadata.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    streams: Vec<IndexStream>,
    labels: Option<Labels>,
    /// Where the rows of the open stream begin.
    start: u64,
    times: Vec<i64>,
    bytes: Vec<u32>,
    levels: LevelNotes,
    parts: Vec<Part>,
    needles: NeedleBuilder,
}

impl IndexBuilder {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a field or metadata column of many different values that all have `length` bytes as text. `None` if there are too
    /// many of them: give their values as text.
    pub fn fixed(&mut self, length: usize) -> Option<FixedId> {
        self.needles.fixed(length)
    }

    /// Begins the next stream.
    pub fn stream(&mut self, labels: Labels) {
        self.end_stream();
        self.labels = Some(labels);
    }

    /// Adds a row of the stream; ascending in time.
    pub fn row(&mut self, time: i64, line_bytes: usize) {
        if self.room() == GRANULE_ROWS as usize && self.rows() > 0 {
            self.needles.end_granule();
        }
        let bytes = line_bytes as u64;
        let begins = self.rows().is_multiple_of(GRANULE_ROWS);
        match self.parts.last_mut() {
            Some(part) if !begins => {
                part.last = time;
                part.bytes += bytes;
            }
            _ => self.parts.push(Part { first: time, last: time, bytes }),
        }
        self.times.push(time);
        self.bytes.push(line_bytes.try_into().unwrap_or(u32::MAX));
    }

    /// The level of the row that was added last; empty for none. Where it is not said of all rows of a stream, they are unknown.
    pub fn level(&mut self, level: &str) {
        self.levels.add(level);
    }

    /// Rows added so far.
    pub fn rows(&self) -> u64 {
        self.start + self.times.len() as u64
    }

    /// How many rows may be added before texts and values count for another granule; all of a granule's rows if it is full.
    pub fn room(&self) -> usize {
        (GRANULE_ROWS - self.rows() % GRANULE_ROWS) as usize
    }

    /// A text of a row: of the line or of metadata.
    pub fn text(&mut self, text: &str) {
        self.needles.text(text.as_bytes());
    }

    /// A value of a column of fixed length, as text. One of another length is taken as text.
    pub fn value(&mut self, column: FixedId, value: &str) {
        self.needles.value(column, value.as_bytes());
    }

    /// A value of a column of fixed length, as bytes that are written in lower-case hexadecimal digits.
    pub fn hex(&mut self, column: FixedId, bytes: &[u8]) {
        self.needles.hex(column, bytes);
    }

    /// The granule's rows have integers or decimals of at most so many bytes as text.
    pub fn numbers(&mut self, longest: usize) {
        self.needles.numbers(longest);
    }

    /// The streams that have ended and their places, for summaries. After [`finish`](Self::finish) in the index.
    pub fn streams(&mut self) -> &[IndexStream] {
        self.end_stream();
        &self.streams
    }

    /// The index object.
    pub fn finish(mut self, table: &Table, columns: &[Arc<str>], rest: &RestNames) -> Bytes {
        self.end_stream();
        if self.rows() > 0 {
            self.needles.end_granule();
        }
        encode(table, columns, rest, &self.streams, &self.needles.finish())
    }

    fn end_stream(&mut self) {
        let Some(labels) = self.labels.take() else { return };
        let (times, bytes) = (std::mem::take(&mut self.times), std::mem::take(&mut self.bytes));
        let (parts, levels) = (std::mem::take(&mut self.parts), std::mem::take(&mut self.levels));
        if times.is_empty() {
            return;
        }
        let histogram = Histogram::new(&times, &bytes);
        let levels = levels.finish(&times, &bytes, &histogram);
        let stream = IndexStream::new(labels, self.start, &times, parts, histogram, levels);
        self.start = stream.rows.end;
        self.streams.push(stream);
    }
}
