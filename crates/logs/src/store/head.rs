//! The open window of a tenant in memory: compact per stream, readable while rows arrive.
//!
//! Lines are appended to one buffer per stream; at a quarter of a MiB it is closed into Arrow arrays that queries and the
//! flush share without copying. A query copies only the open buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow_array::builder::StringBuilder;
use arrow_array::{Int64Array, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use hashbrown::HashMap;
use logql::Metadata;
use model::{Labels, Matcher};
use parking_lot::RwLock;
use shred::Lines;

use crate::store::entries::{Entries, map_builder};
use crate::store::index::{Amount, share};
use crate::store::merge::merge;
use crate::store::rows::{Rows, StreamRows};

/// Line bytes at which an open chunk is closed.
const CHUNK_BYTES: usize = 256 << 10;
/// Rows at which an open chunk is closed.
const CHUNK_ROWS: usize = 8192;
/// Metadata names of a chunk that get a column; further ones share a map.
const CHUNK_COLUMNS: usize = 64;
/// What an entry costs beside its text: time, offsets, validity.
const ROW_BYTES: usize = 24;
/// What a stream costs beside its rows.
const STREAM_BYTES: usize = 512;

/// All rows of a tenant that are not in a block yet.
#[derive(Debug, Default)]
pub struct LogsHead {
    streams: RwLock<HashMap<Labels, State>>,
    bytes: AtomicUsize,
    rows: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    closed: Vec<Arc<Chunk>>,
    open: OpenChunk,
}

/// Entries of a closed chunk: ascending, without duplicates.
#[derive(Debug)]
pub struct Chunk {
    /// The entries.
    pub entries: Entries,
    /// Bytes of their lines.
    pub line_bytes: usize,
}

/// A stream of a head that matched, with its chunks in order of arrival.
#[derive(Debug, Clone)]
pub struct HeadSelection {
    /// The stream.
    pub labels: Labels,
    /// Its chunks that meet the time range.
    pub chunks: Vec<Arc<Chunk>>,
}

impl LogsHead {
    /// Adds the rows of a push; a query sees all of them or none.
    pub fn insert(&self, rows: Rows) {
        let (mut bytes, mut count) = (0, 0);
        let mut streams = self.streams.write();
        for rows in rows.streams.into_iter().filter(|s| !s.is_empty()) {
            count += rows.len() as u64;
            let state = match streams.get_mut(&rows.labels) {
                Some(state) => state,
                None => {
                    bytes += STREAM_BYTES;
                    streams.entry(rows.labels.clone()).or_default()
                }
            };
            bytes += state.append(&rows);
        }
        drop(streams);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.rows.fetch_add(count, Ordering::Relaxed);
    }

    /// Memory that the rows take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Entries taken, duplicates included.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.streams.read().len()
    }

    /// The streams that satisfy all matchers, with the chunks that meet `first..=last`; sorted by labels.
    pub fn select(
        &self,
        matchers: &[Matcher],
        first: i64,
        last: i64,
    ) -> Result<Vec<HeadSelection>, ArrowError> {
        let streams = self.streams.read();
        let matching = streams.iter().filter(|(labels, _)| matchers.iter().all(|m| m.matches_labels(labels)));
        // What is open is copied under the lock and made into arrays after it.
        let parts: Vec<_> = matching
            .map(|(labels, state)| (labels.clone(), state.closed(first, last), state.open(first, last)))
            .collect();
        drop(streams);
        let mut selected = Vec::with_capacity(parts.len());
        for (labels, mut chunks, open) in parts {
            if let Some(open) = open {
                chunks.push(Arc::new(open.finish()?));
            }
            if !chunks.is_empty() {
                selected.push(HeadSelection { labels, chunks });
            }
        }
        selected.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(selected)
    }
}

impl LogsHead {
    /// How much of each stream that satisfies all matchers lies in `first..=last`, estimated where the range cuts a chunk.
    pub fn amounts(&self, matchers: &[Matcher], first: i64, last: i64) -> Vec<(Labels, Amount)> {
        let streams = self.streams.read();
        let matching = streams.iter().filter(|(labels, _)| matchers.iter().all(|m| m.matches_labels(labels)));
        matching
            .map(|(labels, state)| (labels.clone(), state.amount(first, last)))
            .filter(|(_, a)| a.parts > 0)
            .collect()
    }
}

impl State {
    fn amount(&self, first: i64, last: i64) -> Amount {
        let closed =
            self.closed.iter().map(|c| (c.entries.first(), c.entries.last(), c.entries.len(), c.line_bytes));
        let open = (self.open.min, self.open.max, self.open.timestamps.len(), self.open.lines.len());
        let mut sum = Amount::default();
        for (min, max, rows, bytes) in closed.chain([open]).filter(|c| c.2 > 0 && c.0 <= last && c.1 >= first)
        {
            sum.add(rows as u64, bytes as u64, share(min, max, first, last));
        }
        sum
    }

    /// Appends rows and says how many bytes of memory that took.
    fn append(&mut self, rows: &StreamRows) -> usize {
        let mut bytes = rows.len() * ROW_BYTES + rows.lines.len();
        if !self.open.has_room(rows) {
            self.close();
        }
        bytes += self.open.append(rows);
        if self.open.lines.len() >= CHUNK_BYTES || self.open.timestamps.len() >= CHUNK_ROWS {
            self.close();
        }
        bytes
    }

    fn close(&mut self) {
        if self.open.timestamps.is_empty() {
            return;
        }
        let open = std::mem::take(&mut self.open);
        match open.finish() {
            Ok(chunk) => self.closed.push(Arc::new(chunk)),
            // The arrays are made of parts whose lengths agree by construction.
            Err(error) => tracing::error!(%error, "closing a chunk of the head failed"),
        }
    }

    fn closed(&self, first: i64, last: i64) -> Vec<Arc<Chunk>> {
        let meets = |chunk: &Chunk| chunk.entries.first() <= last && chunk.entries.last() >= first;
        self.closed.iter().filter(|c| meets(c)).cloned().collect()
    }

    fn open(&self, first: i64, last: i64) -> Option<OpenChunk> {
        let meets = !self.open.timestamps.is_empty() && self.open.min <= last && self.open.max >= first;
        meets.then(|| self.open.copy())
    }
}

/// A chunk that takes rows.
#[derive(Debug)]
struct OpenChunk {
    timestamps: Vec<i64>,
    line_offsets: Vec<i32>,
    lines: String,
    columns: Vec<OpenColumn>,
    /// Row, name and value of names beyond [`CHUNK_COLUMNS`].
    rest: Vec<(u32, Arc<str>, Box<str>)>,
    min: i64,
    max: i64,
}

#[derive(Debug)]
struct OpenColumn {
    name: Arc<str>,
    /// May be shorter than the rows: the missing values are null.
    values: StringBuilder,
}

impl Default for OpenChunk {
    fn default() -> Self {
        Self {
            timestamps: Vec::new(),
            line_offsets: vec![0],
            lines: String::new(),
            columns: Vec::new(),
            rest: Vec::new(),
            min: i64::MAX,
            max: i64::MIN,
        }
    }
}

impl OpenChunk {
    fn has_room(&self, rows: &StreamRows) -> bool {
        self.lines.len() + rows.lines.len() <= i32::MAX as usize
    }

    /// Appends rows and says how many bytes the metadata took.
    fn append(&mut self, rows: &StreamRows) -> usize {
        let first_row = self.timestamps.len();
        let base = self.lines.len() as i32;
        for &timestamp in &rows.timestamps {
            self.min = self.min.min(timestamp);
            self.max = self.max.max(timestamp);
        }
        self.timestamps.extend_from_slice(&rows.timestamps);
        let length = self.lines.len() + rows.lines.len();
        if length > self.lines.capacity() && length > CHUNK_BYTES / 4 {
            // Busy streams get the room of a chunk rather than twice of it: many of them are open at once.
            self.lines.reserve_exact(length.max(CHUNK_BYTES + CHUNK_BYTES / 8) - self.lines.len());
        }
        self.lines.push_str(&rows.lines);
        self.line_offsets.extend(rows.line_ends.iter().map(|end| base + *end as i32));
        let mut bytes = 0;
        for column in &rows.columns {
            let Some(open) = self.column(&column.name) else {
                for (row, value) in column.iter() {
                    bytes += 48 + value.len();
                    self.rest.push((first_row as u32 + row, column.name.clone(), value.into()));
                }
                continue;
            };
            for (row, value) in column.iter() {
                pad(&mut open.values, first_row + row as usize);
                open.values.append_value(value);
                bytes += 5 + value.len();
            }
        }
        bytes
    }

    fn column(&mut self, name: &Arc<str>) -> Option<&mut OpenColumn> {
        match self.columns.iter().position(|c| c.name == *name) {
            Some(at) => Some(&mut self.columns[at]),
            None if self.columns.len() < CHUNK_COLUMNS => {
                self.columns.push(OpenColumn { name: name.clone(), values: StringBuilder::new() });
                self.columns.last_mut()
            }
            None => None,
        }
    }

    fn copy(&self) -> Self {
        let column = |c: &OpenColumn| {
            let mut values = StringBuilder::new();
            // Appending the values is as quick as any copy and needs no access to the builder's parts.
            let array = c.values.finish_cloned();
            array.iter().for_each(|v| values.append_option(v));
            OpenColumn { name: c.name.clone(), values }
        };
        Self {
            timestamps: self.timestamps.clone(),
            line_offsets: self.line_offsets.clone(),
            lines: self.lines.clone(),
            columns: self.columns.iter().map(column).collect(),
            rest: self.rest.clone(),
            min: self.min,
            max: self.max,
        }
    }

    fn finish(mut self) -> Result<Chunk, ArrowError> {
        let rows = self.timestamps.len();
        self.lines.shrink_to_fit();
        self.timestamps.shrink_to_fit();
        self.line_offsets.shrink_to_fit();
        let line_bytes = self.lines.len();
        let lines = StringArray::try_new(
            OffsetBuffer::new(ScalarBuffer::from(self.line_offsets)),
            Buffer::from_vec(self.lines.into_bytes()),
            None,
        )?;
        let columns = self.columns.into_iter().map(|mut column| {
            pad(&mut column.values, rows);
            let mut values = column.values.finish();
            arrow_array::Array::shrink_to_fit(&mut values);
            (column.name, values)
        });
        let columns = columns.collect();
        let rest = if self.rest.is_empty() { None } else { Some(rest_map(self.rest, rows)?) };
        let timestamps = Int64Array::from(self.timestamps);
        let lines = Lines::Text(lines);
        let entries = merge(vec![Entries { timestamps, lines, metadata: Metadata { columns, rest } }])?;
        Ok(Chunk { entries, line_bytes })
    }
}

fn rest_map(
    mut rest: Vec<(u32, Arc<str>, Box<str>)>,
    rows: usize,
) -> Result<arrow_array::MapArray, ArrowError> {
    rest.sort_by_key(|(row, ..)| *row);
    let mut map = map_builder();
    let mut rest = rest.iter().peekable();
    for row in 0..rows as u32 {
        while let Some((_, name, value)) = rest.next_if(|(at, ..)| *at == row) {
            map.keys().append_value(name);
            map.values().append_value(value);
        }
        map.append(true)?;
    }
    Ok(map.finish())
}

fn pad(values: &mut StringBuilder, rows: usize) {
    use arrow_array::builder::ArrayBuilder;
    while values.len() < rows {
        values.append_null();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entries::tests::{Row, plain};
    use crate::store::merge::merge_overlaps;
    use model::MatchOp;

    fn push(head: &LogsHead, app: &str, rows: &[Row<'_>]) {
        let mut stream = StreamRows::new(Labels::from_pairs([("app", app)]));
        for (timestamp, line, metadata) in rows {
            stream.push(*timestamp, line);
            metadata.iter().for_each(|(name, value)| stream.set_metadata(name, value));
        }
        head.insert(Rows { streams: vec![stream], ..Rows::default() });
    }

    fn all(head: &LogsHead, app: &str, first: i64, last: i64) -> Vec<String> {
        let matcher = Matcher::new("app", MatchOp::Equal, app).unwrap();
        let selected = head.select(&[matcher], first, last).unwrap();
        let pieces =
            selected.iter().flat_map(|s| &s.chunks).map(|c| vec![c.entries.within(first, last)]).collect();
        let merged = merge_overlaps(pieces).unwrap();
        merged.iter().flat_map(plain).map(|(t, l, m)| format!("{t} {l} {m:?}")).collect()
    }

    #[test]
    fn rows_come_back_in_order_and_once() {
        let head = LogsHead::default();
        push(&head, "a", &[(5, "five", &[("k", "v")]), (1, "one", &[])]);
        push(&head, "a", &[(5, "five", &[("k", "v")]), (3, "three", &[("l", "w")])]);
        push(&head, "b", &[(2, "two", &[])]);
        assert_eq!(all(&head, "a", 0, 9), ["1 one []", r#"3 three [("l", "w")]"#, r#"5 five [("k", "v")]"#]);
        assert_eq!(all(&head, "a", 2, 4), [r#"3 three [("l", "w")]"#]);
        assert_eq!(all(&head, "b", 0, 9), ["2 two []"]);
        assert_eq!((head.rows(), head.streams()), (5, 2));
    }

    #[test]
    fn chunks_close_and_names_without_end_share_a_map() {
        let head = LogsHead::default();
        let long = "x".repeat(1000);
        for i in 0..600 {
            let name = format!("n{}", i % 100);
            push(&head, "a", &[(i, &long, &[(&name, "v")])]);
        }
        let rows = all(&head, "a", 0, 1000);
        assert_eq!(rows.len(), 600);
        assert!(rows[99].ends_with(r#"[("n99", "v")]"#), "{}", &rows[99][1000..]);
        assert!(head.streams.read().values().all(|s| s.closed.len() >= 2));
        assert!(head.bytes() > 600_000);
    }
}
