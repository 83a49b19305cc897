//! Rows of a block in memory.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take;
use block::RowRanges;
use logql::{EntryBatch, Metadata};
use service::Failure;
use shred::Table;

use crate::query::plan::Block;
use crate::query::view::block_failure;
use crate::store::entries::Entries;
use crate::store::schema::{Projection, entries};

/// Rows of a block as they were read.
pub(crate) struct Fetched {
    table: Arc<Table>,
    ranges: RowRanges,
    batches: Vec<RecordBatch>,
}

/// The same, ready to be looked at.
pub(crate) struct BlockRows {
    /// Row and place of the first row of each range.
    starts: Vec<(Range<u64>, usize)>,
    /// With the place of the first row.
    batches: Vec<(usize, Entries)>,
}

impl Fetched {
    /// Reads rows of a block.
    pub(crate) async fn read(
        block: &Block,
        projection: &Projection,
        ranges: RowRanges,
    ) -> Result<Self, Failure> {
        let columns: Vec<&str> = projection.columns.iter().map(String::as_str).collect();
        let batches = block.read(&columns, &ranges).await.map_err(block_failure)?;
        Ok(Self { table: block.index().table.clone(), ranges, batches })
    }

    /// CPU work.
    pub(crate) fn rows(self) -> Result<BlockRows, ArrowError> {
        let mut at = 0;
        let starts = self.ranges.iter().map(|range| {
            let start = (range.clone(), at);
            at += (range.end - range.start) as usize;
            start
        });
        let starts = starts.collect();
        let mut batches = Vec::with_capacity(self.batches.len());
        let mut at = 0;
        for batch in &self.batches {
            let entries = entries(batch, &self.table)?;
            let rows = entries.len();
            batches.push((at, entries));
            at += rows;
        }
        Ok(BlockRows { starts, batches })
    }
}

impl BlockRows {
    /// The rows of a range, which lies within one of those read: pieces, each with the row it begins with.
    pub(crate) fn slice(&self, rows: Range<u64>) -> impl Iterator<Item = (u64, Entries)> + '_ {
        let range = self.starts.partition_point(|(range, _)| range.start <= rows.start).checked_sub(1);
        let start = range
            .and_then(|at| self.starts.get(at))
            .map(|(range, at)| at + (rows.start - range.start) as usize);
        let first = rows.start;
        let (start, count) = (start.unwrap_or(usize::MAX), (rows.end - rows.start) as usize);
        let from = self.batches.partition_point(|(at, batch)| at + batch.len() <= start);
        let batches =
            self.batches[from..].iter().take_while(move |(at, _)| *at < start.saturating_add(count));
        batches.map(move |(at, batch)| {
            let from = start.max(*at) - at;
            let to = (start + count - at).min(batch.len());
            (first + (at + from - start) as u64, batch.slice(from..to))
        })
    }
}

impl BlockRows {
    /// The same, of those in a stretch of time.
    pub(crate) fn within(
        &self,
        rows: Range<u64>,
        first: i64,
        last: i64,
    ) -> impl Iterator<Item = (u64, Entries)> + '_ {
        self.slice(rows).filter_map(move |(row, entries)| {
            let times = entries.timestamps.values();
            let from = times.partition_point(|t| *t < first);
            let to = times.partition_point(|t| *t <= last).max(from);
            (from < to).then(|| (row + from as u64, entries.slice(from..to)))
        })
    }
}

/// Chosen rows of a batch.
pub(crate) fn chosen(batch: EntryBatch, rows: Vec<u32>) -> Result<EntryBatch, ArrowError> {
    if rows.len() == batch.len() {
        return Ok(batch);
    }
    let rows = UInt32Array::from(rows);
    let of = |array: &dyn Array| take(array, &rows, None);
    let columns = batch.metadata.columns.iter();
    let columns = columns.map(|(name, values)| Ok((name.clone(), of(values)?.as_string().clone())));
    let rest = batch.metadata.rest.as_ref().map(|rest| of(rest).map(|rest| rest.as_map().clone()));
    Ok(EntryBatch {
        timestamps: of(&batch.timestamps)?.as_primitive().clone(),
        lines: batch.lines.take(&rows)?,
        metadata: Metadata { columns: columns.collect::<Result<_, ArrowError>>()?, rest: rest.transpose()? },
        labels: batch.labels,
    })
}

/// Arrays that do not fit together are our fault.
pub(crate) fn arrow_failure(error: ArrowError) -> Failure {
    Failure::internal(format!("cannot put rows together: {error}"))
}
