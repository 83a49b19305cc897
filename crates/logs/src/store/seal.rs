//! Makes a block out of a head: streams in order of their labels, entries in order of time, duplicates gone, metadata columns
//! chosen by counting.

use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::SchemaRef;
use block::{BlockSummary, ColumnEncoding, ColumnHint, ColumnSettings, SealError, SealedBlock};
use hashbrown::HashMap;
use model::{Labels, Timestamp};

use crate::store::entries::{Entries, as_strings};
use crate::store::head::LogsHead;
use crate::store::index::{BlockIndex, GRANULE_ROWS, IndexStream, Part, RestNames};
use crate::store::merge::merge_overlaps;
use crate::store::schema;

/// Metadata names that get a column at most.
const MAX_COLUMNS: usize = 48;
/// A name gets a column if at least one of this many rows has it.
const RARE: u64 = 256;
/// Rows of a batch handed to the writer.
const BATCH_ROWS: usize = 8192;

/// A stream of the block to be.
struct SealStream {
    labels: Labels,
    pieces: Vec<Entries>,
}

/// Seals all rows of a head into one block, or none if there is no row.
pub(crate) fn seal(head: &LogsHead) -> Result<Vec<SealedBlock>, SealError> {
    let mut streams = Vec::new();
    for selection in head.select(&[], i64::MIN, i64::MAX)? {
        let pieces = merge_overlaps(selection.chunks.iter().map(|c| vec![c.entries.clone()]).collect())?;
        streams.push(SealStream { labels: selection.labels, pieces });
    }
    if streams.is_empty() {
        return Ok(Vec::new());
    }
    let (columns, rest) = choose_columns(&streams);
    let index = BlockIndex { columns: columns.clone(), rest, streams: index_streams(&streams) };
    let summary = summary(&index);
    let schema = schema::schema(&columns);
    let parquet = settings(&columns);
    let bytes = index.encode().into();
    let batches = Batches {
        schema: schema.clone(),
        columns,
        streams: streams.into_iter(),
        pieces: Vec::new().into_iter(),
        labels: Labels::default(),
        cut: None,
    };
    Ok(vec![SealedBlock { schema, batches: Box::new(batches), index: bytes, summary, parquet }])
}

/// Frequent names, most frequent first, and the names of all others.
fn choose_columns(streams: &[SealStream]) -> (Vec<Arc<str>>, RestNames) {
    let mut counts: HashMap<Arc<str>, u64> = HashMap::new();
    let mut rows = 0;
    for piece in streams.iter().flat_map(|s| &s.pieces) {
        rows += piece.len() as u64;
        for (name, values) in &piece.metadata.columns {
            *counts.entry(name.clone()).or_default() += (values.len() - values.null_count()) as u64;
        }
        let keys = piece.metadata.rest.as_ref().and_then(|rest| as_strings(rest.keys().as_ref()));
        for name in keys.iter().flat_map(|keys| keys.iter().flatten()) {
            match counts.get_mut(name) {
                Some(count) => *count += 1,
                None => drop(counts.insert(name.into(), 1)),
            }
        }
    }
    counts.retain(|_, count| *count > 0);
    let mut names: Vec<(Arc<str>, u64)> = counts.into_iter().collect();
    names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let (mut columns, mut rest) = (Vec::new(), Vec::new());
    for (name, count) in names {
        let frequent = count * RARE >= rows && columns.len() < MAX_COLUMNS;
        if frequent && !schema::RESERVED.contains(&&*name) { columns.push(name) } else { rest.push(name) }
    }
    (columns, RestNames::new(rest))
}

fn index_streams(streams: &[SealStream]) -> Vec<IndexStream> {
    let mut at = 0u64;
    streams
        .iter()
        .map(|stream| {
            let start = at;
            let mut parts: Vec<Part> = Vec::new();
            for piece in &stream.pieces {
                let offsets = piece.lines.value_offsets();
                for (row, &time) in piece.timestamps.values().iter().enumerate() {
                    let bytes = (offsets[row + 1] - offsets[row]) as u64;
                    match parts.last_mut() {
                        Some(part) if !at.is_multiple_of(GRANULE_ROWS) => {
                            part.last = time;
                            part.bytes += bytes;
                        }
                        _ => parts.push(Part { first: time, last: time, bytes }),
                    }
                    at += 1;
                }
            }
            IndexStream { labels: stream.labels.clone(), rows: start..at, parts }
        })
        .collect()
}

fn summary(index: &BlockIndex) -> BlockSummary {
    let parts = || index.streams.iter().flat_map(|s| &s.parts);
    BlockSummary {
        min_time: Timestamp(index.streams.iter().map(IndexStream::first).min().unwrap_or_default()),
        max_time: Timestamp(index.streams.iter().map(IndexStream::last).max().unwrap_or_default()),
        rows: index.streams.last().map_or(0, |s| s.rows.end),
        bytes: parts().map(|p| p.bytes).sum(),
        detail: serde_json::json!({ "streams": index.streams.len() }),
    }
}

fn settings(columns: &[Arc<str>]) -> ColumnSettings {
    let hint =
        |encoding, dictionary| ColumnHint { encoding, dictionary: Some(dictionary), ..ColumnHint::default() };
    let mut hints = vec![
        (schema::TIMESTAMP.to_owned(), hint(Some(ColumnEncoding::DeltaBinaryPacked), false)),
        (
            schema::LINE.to_owned(),
            ColumnHint {
                no_statistics: true,
                page_bytes: Some(4 << 20),
                ..hint(Some(ColumnEncoding::DeltaLengthByteArray), false)
            },
        ),
    ];
    // Ids never repeat: a dictionary of them is thrown away after it was built.
    let ids = columns.iter().filter(|name| matches!(&***name, "trace_id" | "span_id"));
    hints.extend(ids.map(|name| (name.to_string(), hint(None, false))));
    ColumnSettings {
        page_rows: GRANULE_ROWS as usize,
        sorted_by: vec![],
        columns: hints,
        ..ColumnSettings::default()
    }
}

/// Hands the rows out in batches, many small streams or a part of a large one at a time.
struct Batches {
    schema: SchemaRef,
    columns: Vec<Arc<str>>,
    streams: std::vec::IntoIter<SealStream>,
    pieces: std::vec::IntoIter<Entries>,
    labels: Labels,
    /// The rest of a piece that did not fit.
    cut: Option<Entries>,
}

impl Batches {
    fn piece(&mut self) -> Option<Entries> {
        if let Some(piece) = self.cut.take().or_else(|| self.pieces.next()) {
            return Some(piece);
        }
        let stream = self.streams.next()?;
        self.labels = stream.labels;
        self.pieces = stream.pieces.into_iter();
        self.piece()
    }
}

impl Iterator for Batches {
    type Item = Result<arrow_array::RecordBatch, SealError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut taken: Vec<(Labels, Entries)> = Vec::new();
        let mut room = BATCH_ROWS;
        while room > 0 {
            let Some(piece) = self.piece() else { break };
            let count = piece.len().min(room);
            if count < piece.len() {
                self.cut = Some(piece.slice(count..piece.len()));
            }
            room -= count;
            taken.push((self.labels.clone(), piece.slice(0..count)));
        }
        if taken.is_empty() {
            return None;
        }
        Some(schema::batch(&self.schema, &self.columns, &taken).map_err(SealError::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entries::tests::plain;
    use crate::store::rows::{Rows, StreamRows};

    #[test]
    fn a_block_holds_every_row_once_in_order_and_its_index_says_where() {
        let head = LogsHead::default();
        for push in 0..40i64 {
            let mut streams = Vec::new();
            for app in ["b", "a", "c"] {
                let mut rows = StreamRows::new(Labels::from_pairs([("app", app)]));
                for i in 0..150 {
                    // Every second push repeats the one before.
                    let time = (push / 2 * 150 + i) ^ 5;
                    rows.push(time, &format!("line {time} of {app}"));
                    rows.set_metadata("detected_level", if i % 2 == 0 { "info" } else { "warn" });
                    if time == 700 {
                        rows.set_metadata("rare", "x");
                        rows.set_metadata("line", "reserved");
                    }
                }
                streams.push(rows);
            }
            head.insert(Rows { streams });
        }
        let mut sealed = seal(&head).unwrap();
        let block = sealed.remove(0);
        let index = BlockIndex::decode(&block.index).unwrap();
        assert_eq!(index.columns, ["detected_level".into()]);
        assert_eq!(index.rest, RestNames::new(vec!["rare".into(), "line".into()]));
        assert_eq!((block.summary.rows, block.summary.min_time.0), (9000, 0));
        let rows: Vec<_> =
            block.batches.flat_map(|b| plain(&schema::entries(&b.unwrap()).unwrap())).collect();
        assert_eq!(rows.len(), 9000);
        assert_eq!(rows.iter().map(|r| r.1.len() as u64).sum::<u64>(), block.summary.bytes);
        for (stream, app) in index.streams.iter().zip(["a", "b", "c"]) {
            assert_eq!(stream.labels.get("app"), Some(app));
            let rows = &rows[stream.rows.start as usize..stream.rows.end as usize];
            assert!(
                rows.iter().enumerate().all(|(i, r)| r.0 == i as i64 && r.1 == format!("line {i} of {app}"))
            );
            assert_eq!(rows[700].2.len(), 3);
            for (range, part) in stream.parts() {
                let start = (range.start - stream.rows.start) as i64;
                assert_eq!((part.first, part.last), (start, start + (range.end - range.start) as i64 - 1));
            }
        }
    }
}
