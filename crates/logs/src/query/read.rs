//! Rows of a block in memory.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take;
use block::RowRanges;
use logql::Metadata;
use service::Failure;
use shred::Table;

use crate::query::plan::Block;
use crate::query::view::block_failure;
use crate::store::entries::Entries;
use crate::store::schema::{Projection, entries};

/// Rows of a block as they were fetched.
pub(crate) struct Fetched {
    table: Arc<Table>,
    ranges: RowRanges,
    rows: block::Fetched,
    /// Whether lines were asked for.
    lines: bool,
    /// The time of all rows, if theirs were not asked for.
    instant: Option<i64>,
}

/// The same, ready to be looked at.
pub(crate) struct BlockRows {
    /// Row and place of the first row of each range.
    starts: Vec<(Range<u64>, usize)>,
    /// With the place of the first row.
    batches: Vec<(usize, Entries)>,
}

impl Fetched {
    /// Fetches rows of a block.
    pub(crate) async fn read(
        block: &Block,
        projection: &Projection,
        ranges: RowRanges,
    ) -> Result<Self, Failure> {
        let columns: Vec<&str> = projection.columns.iter().map(String::as_str).collect();
        let rows = block.fetch(&columns, &ranges).await.map_err(block_failure)?;
        let (table, lines) = (block.index().table.clone(), projection.has_lines());
        Ok(Self { table, ranges, rows, lines, instant: projection.instant })
    }

    /// CPU work.
    pub(crate) fn rows(self) -> Result<BlockRows, Failure> {
        let mut at = 0;
        let starts = self.ranges.iter().map(|range| {
            let start = (range.clone(), at);
            at += (range.end - range.start) as usize;
            start
        });
        let starts = starts.collect();
        let decoded = self.rows.decode().map_err(block_failure)?;
        let mut batches = Vec::with_capacity(decoded.len());
        let mut at = 0;
        for batch in &decoded {
            let entries = entries(batch, &self.table, self.lines, self.instant).map_err(arrow_failure)?;
            let rows = entries.len();
            batches.push((at, entries));
            at += rows;
        }
        Ok(BlockRows { starts, batches })
    }
}

impl BlockRows {
    /// The place of a row among those read. It lies behind all of them if it was not read.
    fn place(&self, row: u64) -> usize {
        let range = self.starts.partition_point(|(range, _)| range.start <= row).checked_sub(1);
        let range = range.and_then(|at| self.starts.get(at)).filter(|(range, _)| row < range.end);
        range.map_or(usize::MAX, |(range, at)| at + (row - range.start) as usize)
    }

    /// The rows of a range, which lies within one of those read, that are in a stretch of time: pieces, each with the row it
    /// begins with.
    pub(crate) fn within(
        &self,
        rows: Range<u64>,
        first: i64,
        last: i64,
    ) -> impl Iterator<Item = (u64, Entries)> + '_ {
        let start = self.place(rows.start);
        let end = start.saturating_add((rows.end - rows.start) as usize);
        let from = self.batches.partition_point(|(at, batch)| at + batch.len() <= start);
        let batches = self.batches[from..].iter().take_while(move |(at, _)| *at < end);
        batches.filter_map(move |(at, batch)| {
            let (from, to) = (start.max(*at) - at, (end - at).min(batch.len()));
            let times = &batch.timestamps.values()[from..to];
            let skipped = times.partition_point(|t| *t < first);
            let to = from + times.partition_point(|t| *t <= last);
            let from = from + skipped;
            (from < to).then(|| (rows.start + (at + from - start) as u64, batch.slice(from..to)))
        })
    }

    /// Picks rows, given as ascending lists. Per list, in their order, the pieces that hold its rows.
    pub(crate) fn pick(&self, lists: &[&[u64]]) -> Result<Vec<Vec<Entries>>, ArrowError> {
        // A column is gathered once, however many lists there are.
        let mut wanted = vec![Wanted::default(); self.batches.len()];
        for (list, rows) in lists.iter().enumerate() {
            for row in *rows {
                let place = self.place(*row);
                let batch = self.batches.partition_point(|(at, batch)| at + batch.len() <= place);
                let (Some((at, _)), Some(Wanted { rows, owners })) =
                    (self.batches.get(batch), wanted.get_mut(batch))
                else {
                    continue;
                };
                rows.push((place - at) as u32);
                match owners.last_mut() {
                    Some((owner, range)) if *owner == list => range.end = rows.len(),
                    _ => owners.push((list, rows.len() - 1..rows.len())),
                }
            }
        }
        let mut picked = vec![Vec::new(); lists.len()];
        for ((_, batch), Wanted { rows, owners }) in self.batches.iter().zip(wanted) {
            if rows.is_empty() {
                continue;
            }
            let all = rows.len() == batch.len() && rows.iter().zip(0..).all(|(row, at)| *row == at);
            let taken = if all { batch.clone() } else { take_rows(batch, rows.into())? };
            for (list, range) in owners {
                picked[list].push(taken.slice(range));
            }
        }
        Ok(picked)
    }
}

/// Rows of one batch that are to be picked.
#[derive(Clone, Default)]
struct Wanted {
    rows: Vec<u32>,
    /// The lists they are of, and which of `rows` are each one's.
    owners: Vec<(usize, Range<usize>)>,
}

fn take_rows(entries: &Entries, rows: UInt32Array) -> Result<Entries, ArrowError> {
    let of = |array: &dyn Array| take(array, &rows, None);
    let columns = entries.metadata.columns.iter();
    let columns = columns.map(|(name, values)| Ok((name.clone(), of(values)?.as_string().clone())));
    let rest = entries.metadata.rest.as_ref().map(|rest| of(rest).map(|rest| rest.as_map().clone()));
    Ok(Entries {
        timestamps: of(&entries.timestamps)?.as_primitive().clone(),
        lines: entries.lines.take(&rows)?,
        metadata: Metadata { columns: columns.collect::<Result<_, ArrowError>>()?, rest: rest.transpose()? },
    })
}

/// Arrays that do not fit together are our fault.
pub(crate) fn arrow_failure(error: ArrowError) -> Failure {
    Failure::internal(format!("cannot put rows together: {error}"))
}
