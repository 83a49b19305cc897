//! Merging blocks of logs: stream by stream, in order of labels and time, a bounded stretch at a time.
//!
//! The rows of a stream that several blocks hold are put into order and freed of duplicates as a query does it, so a query over the
//! merged block gives what it gave before. What is expired or deleted is left out on the way. Rows are read while they are
//! written: of no block more than a stretch lies in memory, however many and large they are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use block::{Compact, MergeError, OpenBlock, RowRanges, SealError, SealedBlock};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use logql::Needs;
use model::Labels;
use shred::Columns;
use tokio::runtime::Handle;

use crate::compact::retention::Retention;
use crate::deletes::TenantMask;
use crate::store::entries::Entries;
use crate::store::index::{GRANULE_ROWS, IndexStream};
use crate::store::merge::merge_overlaps;
use crate::store::plan::{Census, Plan};
use crate::store::schema::{Projection, entries};
use crate::store::seal::seal_pieces;
use crate::store::signal::LogsSignal;

/// Raw bytes of lines that are read at a time.
const STRETCH_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 8 << 20 };
/// Blocks read at the same time.
const READS: usize = 8;
/// Rows that are looked at, about, to choose the columns of a merged block.
const CENSUS_ROWS: u64 = 1 << 18;

/// What of merged rows stays.
#[derive(Debug, Default)]
pub struct Keep {
    /// How long rows are kept.
    pub retention: Arc<Retention>,
    /// The time that retention counts from, nanoseconds.
    pub now: i64,
    /// The rows that are deleted.
    pub mask: TenantMask,
}

type Block = Arc<OpenBlock<LogsSignal>>;

impl Compact for LogsSignal {
    type Keep = Keep;

    fn merge(
        &self,
        blocks: Vec<Block>,
        keep: Arc<Keep>,
    ) -> BoxStream<'static, Result<SealedBlock, MergeError>> {
        let handle = Handle::current();
        let merging = async move {
            let merge = move || seal(blocks, keep, handle);
            tokio::task::spawn_blocking(merge).await.unwrap_or(Err(MergeError::Interrupted))
        };
        stream::once(merging).try_filter_map(async |sealed| Ok(sealed)).boxed()
    }
}

/// A block that reads its rows while it is written; none if no row stays.
fn seal(blocks: Vec<Block>, keep: Arc<Keep>, handle: Handle) -> Result<Option<SealedBlock>, MergeError> {
    let plan = handle.block_on(plan(&blocks))?;
    let stretches = stretches(slices(&blocks, &keep)).into_iter();
    let mut pieces = Pieces { blocks, keep, stretches, read: Vec::new().into_iter(), handle };
    let Some(first) = pieces.next().transpose()? else { return Ok(None) };
    let rows = std::iter::once(Ok(first)).chain(pieces);
    let rows = rows.map(|piece| {
        piece.map_err(|error| match error {
            MergeError::Seal(error) => error,
            error => SealError::Other(error.to_string()),
        })
    });
    Ok(Some(seal_pieces(plan, rows)))
}

/// Looks at granules all over the blocks.
async fn plan(blocks: &[Block]) -> Result<Plan, MergeError> {
    let rows: u64 = blocks.iter().map(|b| b.meta().summary.rows).sum();
    let every = (rows / CENSUS_ROWS).max(1);
    let mut census = Census::new(rows / every);
    for block in blocks {
        let total = block.meta().summary.rows;
        for start in (0..total).step_by((GRANULE_ROWS * every) as usize) {
            let granule = std::iter::once(start..total.min(start + GRANULE_ROWS)).collect();
            read_rows(block, &granule).await?.iter().for_each(|entries| census.add(entries));
        }
    }
    Ok(census.finish())
}

/// A stretch of time of one stream, and where its rows are.
#[derive(Debug)]
struct Slice {
    labels: Labels,
    first: i64,
    last: i64,
    /// Places of blocks and rows in them, in order of arrival.
    parts: Vec<(usize, Range<u64>)>,
    /// Raw bytes of the rows, about.
    bytes: u64,
}

/// The rows that stay, in the order of the block to be; no slice of more than about [`STRETCH_BYTES`].
fn slices(blocks: &[Block], keep: &Keep) -> Vec<Slice> {
    let mut streams: BTreeMap<&Labels, Vec<(usize, &IndexStream)>> = BTreeMap::new();
    for (at, block) in blocks.iter().enumerate() {
        for stream in &block.index().streams {
            streams.entry(&stream.labels).or_default().push((at, stream));
        }
    }
    let mut slices = Vec::with_capacity(streams.len());
    for (labels, sources) in streams {
        let oldest = keep.retention.oldest(labels, keep.now);
        for (first, last, bytes) in cuts(&sources, oldest) {
            let parts = sources.iter().map(|(at, stream)| (*at, stream.rows_within(first, last)));
            let parts: Vec<_> = parts.filter(|(_, rows)| !rows.is_empty()).collect();
            if !parts.is_empty() {
                slices.push(Slice { labels: labels.clone(), first, last, parts, bytes });
            }
        }
    }
    slices
}

/// Cuts the time from `first` on where [`STRETCH_BYTES`] are reached.
fn cuts(sources: &[(usize, &IndexStream)], first: i64) -> Vec<(i64, i64, u64)> {
    let parts = sources.iter().flat_map(|(_, stream)| &stream.parts).filter(|part| part.last >= first);
    let mut parts: Vec<(i64, u64)> = parts.map(|part| (part.first, part.bytes)).collect();
    parts.sort_unstable();
    let (mut cuts, mut start, mut held) = (Vec::new(), first, 0);
    for (time, bytes) in parts {
        if held >= STRETCH_BYTES && time > start {
            cuts.push((start, time - 1, held));
            (start, held) = (time, 0);
        }
        held += bytes;
    }
    cuts.push((start, i64::MAX, held));
    cuts
}

/// Slices that are read together.
fn stretches(slices: Vec<Slice>) -> Vec<Vec<Slice>> {
    let mut stretches: Vec<Vec<Slice>> = Vec::new();
    let mut held = u64::MAX;
    for slice in slices {
        if held >= STRETCH_BYTES {
            stretches.push(Vec::new());
            held = 0;
        }
        held += slice.bytes;
        if let Some(stretch) = stretches.last_mut() {
            stretch.push(slice);
        }
    }
    stretches
}

/// The merged rows, piece by piece; several pieces of a stream follow each other. For a blocking thread.
struct Pieces {
    blocks: Vec<Block>,
    keep: Arc<Keep>,
    stretches: std::vec::IntoIter<Vec<Slice>>,
    /// What is left of the stretch that was read last.
    read: std::vec::IntoIter<(Labels, Entries)>,
    handle: Handle,
}

impl Iterator for Pieces {
    type Item = Result<(Labels, Entries), MergeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.read.next() {
                return Some(Ok(piece));
            }
            let stretch = self.stretches.next()?;
            match self.read(stretch) {
                Ok(pieces) => self.read = pieces.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Pieces {
    fn read(&self, stretch: Vec<Slice>) -> Result<Vec<(Labels, Entries)>, MergeError> {
        let blocks = self.handle.block_on(read(&self.blocks, &stretch))?;
        let mut pieces = Vec::new();
        for slice in stretch {
            let mut sources = Vec::with_capacity(slice.parts.len());
            for (at, rows) in &slice.parts {
                let read = blocks.get(at).into_iter().flat_map(|read| read.slice(rows));
                sources.push(read.map(|piece| piece.within(slice.first, slice.last)).collect::<Vec<_>>());
            }
            for entries in merge_overlaps(sources).map_err(SealError::from)? {
                let left = self.keep.mask.apply(entries.into_batch(slice.labels.clone()));
                let left = left.map_err(|e| SealError::Other(e.to_string()))?;
                if !left.timestamps.is_empty() {
                    let entries =
                        Entries { timestamps: left.timestamps, lines: left.lines, metadata: left.metadata };
                    pieces.push((left.labels, entries));
                }
            }
        }
        Ok(pieces)
    }
}

/// Rows of a block: the ranges that were read, and the rows in their order.
struct Read {
    ranges: RowRanges,
    batches: Vec<Entries>,
}

async fn read(blocks: &[Block], stretch: &[Slice]) -> Result<BTreeMap<usize, Read>, MergeError> {
    let mut wanted: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
    for (at, rows) in stretch.iter().flat_map(|slice| &slice.parts) {
        wanted.entry(*at).or_default().push(rows.clone());
    }
    let reads = wanted.into_iter().map(async |(at, ranges)| {
        let ranges: RowRanges = ranges.into_iter().collect();
        let batches = read_rows(&blocks[at], &ranges).await?;
        Ok::<_, MergeError>((at, Read { ranges, batches }))
    });
    let reads: Vec<_> = reads.collect();
    stream::iter(reads).buffer_unordered(READS).try_collect().await
}

/// Rows of a block with everything in them.
pub(crate) async fn read_rows(block: &Block, rows: &RowRanges) -> Result<Vec<Entries>, MergeError> {
    let index = block.index();
    let projection = Projection::new(index, &Needs::all(), &Columns::All);
    let columns: Vec<&str> = projection.columns.iter().map(String::as_str).collect();
    let fetched = block.fetch(&columns, rows).await?;
    // Whoever merges waits on a thread of its own.
    let batches = tokio::task::spawn_blocking(move || fetched.decode()).await;
    let batches = batches.map_err(|_| MergeError::Interrupted)??;
    let read = batches.iter().map(|batch| entries(batch, &index.table, true, None));
    Ok(read.collect::<Result<_, _>>().map_err(SealError::from)?)
}

impl Read {
    /// The rows of a range that was read.
    fn slice(&self, rows: &Range<u64>) -> impl Iterator<Item = Entries> + '_ {
        let before = self.ranges.within(0..rows.start).rows();
        let (mut skip, mut left) = (before as usize, (rows.end - rows.start) as usize);
        self.batches.iter().filter_map(move |batch| {
            let from = skip.min(batch.len());
            skip -= from;
            let count = left.min(batch.len() - from);
            left -= count;
            (count > 0).then(|| batch.slice(from..from + count))
        })
    }
}
