//! Reads the rows of windows: one ranged read per block, then order and uniqueness per window.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::ArrowError;
use block::RowRanges;
use futures::{StreamExt, TryStreamExt};
use logql::{EntryBatch, MetadataNeeds, Needs};
use service::Failure;

use crate::query::plan::{Part, Window};
use crate::query::stats::QueryStats;
use crate::query::view::{View, block_failure};
use crate::store::entries::Entries;
use crate::store::merge::merge_overlaps;
use crate::store::schema::{Projection, entries};

/// Blocks read at the same time for one task.
const READ_CONCURRENCY: usize = 4;

/// Windows with all their rows in memory; what is left to do is CPU work.
pub struct Loaded {
    windows: Vec<Window>,
    /// By the place of the block, and whether all columns were read.
    blocks: BTreeMap<(usize, bool), BlockRows>,
}

/// Rows of a block: the ranges asked for, and the rows in their order.
struct BlockRows {
    ranges: RowRanges,
    batches: Vec<Entries>,
}

/// Reads what the windows need out of blocks.
pub async fn load(view: &View, windows: Vec<Window>, needs: &Needs) -> Result<Loaded, Failure> {
    let mut wanted: BTreeMap<(usize, bool), Vec<Range<u64>>> = BTreeMap::new();
    for window in &windows {
        for part in &window.parts {
            if let Part::Block { block, rows } = part {
                wanted.entry((*block, window.overlaps)).or_default().push(rows.clone());
            }
        }
    }
    // To tell entries apart takes all of them.
    let everything = Needs { lines: true, metadata: MetadataNeeds::All, needles: Vec::new() };
    let everything = &everything;
    let reads = wanted.into_iter().map(async |(at, ranges)| {
        let ranges: RowRanges = ranges.into_iter().collect();
        let block = &view.blocks[at.0];
        let projection = Projection::new(block.index(), if at.1 { everything } else { needs });
        let columns: Vec<&str> = projection.columns.iter().map(String::as_str).collect();
        let batches = block.read(&columns, &ranges).await.map_err(block_failure)?;
        let batches = batches.iter().map(entries).collect::<Result<Vec<_>, _>>().map_err(arrow_failure)?;
        Ok::<_, Failure>((at, BlockRows { ranges, batches }))
    });
    let reads: Vec<_> = reads.collect();
    let blocks = futures::stream::iter(reads).buffer_unordered(READ_CONCURRENCY).try_collect().await?;
    Ok(Loaded { windows, blocks })
}

/// Arrays that do not fit together are our fault.
pub(crate) fn arrow_failure(error: ArrowError) -> Failure {
    Failure::internal(format!("cannot put rows together: {error}"))
}

impl Loaded {
    /// The rows of each window as the engine takes them. CPU work.
    pub fn batches(
        self,
        stats: Arc<QueryStats>,
    ) -> impl Iterator<Item = Result<Vec<EntryBatch>, ArrowError>> {
        let blocks = self.blocks;
        self.windows.into_iter().map(move |window| {
            let mut sources: Vec<Vec<Entries>> = Vec::with_capacity(window.parts.len());
            for part in &window.parts {
                let pieces: Vec<Entries> = match part {
                    Part::Memory(chunk) => vec![chunk.entries.within(window.first, window.last)],
                    Part::Block { block, rows } => {
                        let read = blocks.get(&(*block, window.overlaps));
                        let pieces = read.into_iter().flat_map(|read| read.slice(rows));
                        pieces.map(|p| p.within(window.first, window.last)).collect()
                    }
                };
                pieces.iter().for_each(|p| stats.read(p, matches!(part, Part::Memory(_))));
                sources.push(pieces);
            }
            let rows: usize = sources.iter().flatten().map(Entries::len).sum();
            let merged = merge_overlaps(sources)?;
            let left: usize = merged.iter().map(Entries::len).sum();
            QueryStats::add(&stats.duplicates, (rows - left) as u64);
            QueryStats::add(&stats.chunks_read, 1);
            Ok(merged.into_iter().map(|entries| entries.into_batch(window.labels.clone())).collect())
        })
    }
}

impl BlockRows {
    /// The rows of one range, which lies within one of those asked for.
    fn slice(&self, rows: &Range<u64>) -> impl Iterator<Item = Entries> + '_ {
        let mut position = 0;
        for range in self.ranges.iter() {
            if range.contains(&rows.start) {
                position += rows.start - range.start;
                break;
            }
            position += range.end - range.start;
        }
        let (mut start, mut left) = (position as usize, (rows.end - rows.start) as usize);
        self.batches.iter().filter_map(move |batch| {
            let from = start.min(batch.len());
            start -= from;
            let count = left.min(batch.len() - from);
            left -= count;
            (count > 0).then(|| batch.slice(from..from + count))
        })
    }
}
