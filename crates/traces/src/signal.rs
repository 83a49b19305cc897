//! What makes the storage engine store traces: how a request is read, kept in memory, and sealed into a block.

use std::sync::Arc;

use arrow_array::RecordBatch;
use block::{
    BlockEnd, BlockSummary, ColumnEncoding, ColumnHint, ColumnSettings, DecodeError, SealError, SealedBlock,
    Signal,
};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use model::{TenantId, Timestamp};
use wire::otlp::traces::Span;

use crate::head::{Head, Snapshot};
use crate::index::{self, AttributeColumn, Index};
use crate::keys::{Keys, Scope, Type};
use crate::record::Record;
use crate::schema::{self, Layout, Parts};
use crate::shred::Shredder;
use crate::sorted::Sorted;

/// An attribute that at least one in so many spans has gets a column of its own …
const COLUMN_PER_SPANS: u64 = 100;
/// … up to this many columns.
const MAX_COLUMNS: usize = 128;
/// Rows made at a time, at least: whole traces.
const BATCH_ROWS: usize = 8192;
/// Rows whose values are counted to choose between dictionary and plain.
const SAMPLE_ROWS: usize = 16_384;

/// The traces signal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TraceSignal {
    /// Attribute keys and string values are cut to this many bytes.
    pub max_attribute_bytes: usize,
}

impl Signal for TraceSignal {
    const NAME: &'static str = "traces";
    type Rows = Record;
    type Head = Head;
    type Index = BlockIndex;

    fn decode(&self, _: &TenantId, body: &Bytes) -> Result<Record, DecodeError> {
        wire::otlp::Signal::Traces.check(body).map_err(DecodeError::new)?;
        Record::decode(body, self.max_attribute_bytes).map_err(DecodeError::new)
    }

    fn new_head(&self, _: &TenantId) -> Head {
        Head::default()
    }

    fn decode_index(&self, bytes: &Bytes) -> Result<BlockIndex, DecodeError> {
        Index::decode(bytes).map(BlockIndex).map_err(DecodeError::new)
    }
}

/// The decoded index of a block.
#[derive(Debug)]
pub(crate) struct BlockIndex(pub(crate) Index);

impl block::Head for Head {
    type Rows = Record;

    fn insert(&self, rows: Record) {
        self.add(rows);
    }

    fn bytes(&self) -> usize {
        self.size()
    }

    fn rows(&self) -> u64 {
        self.spans()
    }

    fn seal(&self) -> Result<Vec<SealedBlock>, SealError> {
        let Snapshot { sorted, keys } = self.snapshot();
        let Some((min, max)) = self.time_range().filter(|_| sorted.rows() > 0) else {
            return Ok(Vec::new());
        };
        let columns = choose_columns(&keys, sorted.rows() as u64);
        let parquet = settings(&sorted, &columns);
        let traces: Vec<_> = (0..sorted.traces())
            .map(|t| {
                let rows = sorted.trace_rows(t);
                (sorted.row(rows.start).1.trace, rows.len() as u32)
            })
            .collect();
        let bytes = (0..sorted.rows()).map(|at| {
            let (record, row) = sorted.row(at);
            record.raw(row).len() as u64
        });
        let summary = BlockSummary {
            min_time: Timestamp(min),
            max_time: Timestamp(max),
            rows: sorted.rows() as u64,
            bytes: bytes.sum(),
            detail: serde_json::json!({ "traces": traces.len() }),
        };
        let index = index::encode((*keys).clone(), columns.clone(), &traces)
            .map_err(|e| SealError::Other(e.to_string()))?;
        let shredder = Shredder::new(sorted.clone(), Layout { columns, parts: Parts::ALL });
        Ok(vec![SealedBlock {
            schema: shredder.schema().clone(),
            batches: BlockEnd { index, summary }.after(Batches { shredder, sorted, next: 0 }),
            parquet,
        }])
    }
}

/// The rows of a head, batch by batch.
struct Batches {
    shredder: Shredder,
    sorted: Arc<Sorted>,
    next: usize,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, SealError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.next;
        let mut rows = 0;
        while self.next < self.sorted.traces() && rows < BATCH_ROWS {
            rows += self.sorted.trace_rows(self.next).len();
            self.next += 1;
        }
        (rows > 0).then(|| self.shredder.batch(first..self.next).map_err(SealError::from))
    }
}

/// The span attributes that get columns of their own: the most frequent ones.
fn choose_columns(keys: &Keys, rows: u64) -> Vec<AttributeColumn> {
    let mut found: Vec<_> = keys
        .iter()
        .filter(|(scope, ..)| *scope == Scope::Span)
        .flat_map(|(_, name, usages)| usages.iter().map(move |u| (u.count, name, u.of)))
        .filter(|(count, _, of)| *of != Type::Other && count * COLUMN_PER_SPANS >= rows)
        .collect();
    found.sort_by(|a, b| (b.0, a.1, a.2).cmp(&(a.0, b.1, b.2)));
    found.truncate(MAX_COLUMNS);
    let mut taken = HashSet::new();
    found
        .into_iter()
        .map(|(_, name, of)| {
            let mut column = format!("span.{name}");
            if taken.contains(&column) {
                column += match of {
                    Type::Str => "#string",
                    Type::Int => "#int",
                    Type::Float => "#float",
                    Type::Bool => "#bool",
                    Type::Array | Type::Other => "#array",
                };
            }
            while !taken.insert(column.clone()) {
                column.push('#');
            }
            AttributeColumn { name: name.to_owned(), of, column }
        })
        .collect()
}

/// Encodings, chosen by what the values look like.
fn settings(sorted: &Sorted, columns: &[AttributeColumn]) -> ColumnSettings {
    let plain =
        |encoding| ColumnHint { dictionary: Some(false), encoding: Some(encoding), ..Default::default() };
    let random = ColumnHint { no_statistics: true, ..plain(ColumnEncoding::Plain) };
    let mut hints = vec![
        (schema::SPAN_ID.to_owned(), random),
        (schema::PARENT_SPAN_ID.to_owned(), random),
        (schema::START.to_owned(), plain(ColumnEncoding::ByteStreamSplit)),
        (schema::DURATION.to_owned(), plain(ColumnEncoding::ByteStreamSplit)),
        (schema::NESTED_LEFT.to_owned(), plain(ColumnEncoding::ByteStreamSplit)),
        (schema::NESTED_RIGHT.to_owned(), plain(ColumnEncoding::ByteStreamSplit)),
        (schema::NESTED_PARENT.to_owned(), plain(ColumnEncoding::ByteStreamSplit)),
        (format!("{}.list.item.time_since_start", schema::EVENTS), plain(ColumnEncoding::ByteStreamSplit)),
    ];
    let varied = varied_attributes(sorted);
    for column in columns {
        if varied.contains(&(column.name.as_str().into(), column.of)) {
            let encoding = match column.of {
                Type::Int | Type::Float => ColumnEncoding::ByteStreamSplit,
                Type::Str | Type::Array => ColumnEncoding::DeltaLengthByteArray,
                Type::Bool | Type::Other => continue,
            };
            hints.push((column.column.clone(), plain(encoding)));
        }
    }
    ColumnSettings {
        sorted_by: vec![schema::TRACE_ID.to_owned(), schema::START.to_owned()],
        columns: hints,
        ..Default::default()
    }
}

/// Attributes whose values hardly repeat, by a sample.
fn varied_attributes(sorted: &Sorted) -> HashSet<(Box<str>, Type)> {
    let mut seen: HashMap<(Box<str>, Type), (usize, HashSet<u64>)> = HashMap::new();
    for at in 0..sorted.rows().min(SAMPLE_ROWS) {
        let (record, row) = sorted.row(at);
        let Ok(span) = Span::parse(record.raw(row)) else { continue };
        for attribute in span.attributes().iter() {
            let of = crate::record::scalar(&attribute.value).of();
            let (count, values) = seen.entry((attribute.key.into(), of)).or_default();
            *count += 1;
            let value = &attribute.raw[attribute.key.len()..];
            values.insert(xxhash_rust::xxh3::xxh3_64(value));
        }
    }
    let varied = |(count, values): &(usize, HashSet<u64>)| *count >= 16 && values.len() * 2 > *count;
    seen.into_iter().filter(|(_, v)| varied(v)).map(|(key, _)| key).collect()
}
