//! One task of a query: reads some windows, evaluates them, and reads more of what survives.
//!
//! ```text
//! reserve memory ─▶ read few columns (whole windows: all) ─▶ screen ─▶ read the rest of the rows that are left ─▶ push
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use block::RowRanges;
use futures::{StreamExt, TryStreamExt};
use logql::{EntryBatch, EvalError, MetadataNeeds, Needs};
use service::Failure;
use shred::{Columns, Table};

use crate::query::cost::Cost;
use crate::query::gate::{Cancelled, Gate, Reserved, within_bytes};
use crate::query::plan::{Part, Plan};
use crate::query::read::{BlockRows, Fetched, arrow_failure};
use crate::query::run::{QueryContext, eval_failure};
use crate::query::stats::QueryStats;
use crate::query::untangle::split;
use crate::query::window::Window;
use crate::store::entries::Entries;
use crate::store::merge::merge_overlaps;
use crate::store::schema::Projection;

/// Blocks read at the same time for one task.
const READ_CONCURRENCY: usize = 4;
/// A task reserves this much memory at least, for what survives the screening.
const LEAST_MEMORY: u64 = 4 << 20;
/// Survivors closer than this are read in one go, with what is between them.
const CLOSE: u64 = 24;

/// Takes entries: a part of a query.
pub(crate) trait Consumer: Send + Sized + 'static {
    /// Which columns of lines [`push`](Self::push) reads.
    fn columns(&self, table: &Table) -> Columns;
    /// Which columns of lines [`screen`](Self::screen) reads; `None` if it would drop nothing.
    fn screen_columns(&self, table: &Table) -> Option<Columns>;
    /// Which metadata [`screen`](Self::screen) reads.
    fn screen_metadata(&self) -> MetadataNeeds;
    /// The rows that must be pushed.
    fn screen(&mut self, batch: &EntryBatch) -> Result<Vec<u32>, EvalError>;
    /// Takes a batch.
    fn push(&mut self, batch: &EntryBatch) -> Result<(), EvalError>;
}

/// Everything a task needs to run on its own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TaskContext {
    plan: Arc<Plan>,
    needs: Arc<Needs>,
    query: QueryContext,
    gate: Gate,
    cancelled: Cancelled,
    /// By number of the block; found out when it is read first, for it takes a look at every shape.
    columns: Arc<[OnceLock<BlockColumns>]>,
    /// By number of the block: the instant that stands for all of its times, if the query makes no difference between them.
    instants: Arc<[Option<i64>]>,
}

/// What a query reads of a block.
struct BlockColumns {
    screen: Option<Projection>,
    full: Projection,
    /// Bytes of memory that a row takes with its full columns, about.
    row_memory: u64,
}

/// How the rows of a block are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// With the columns of the screen.
    Screened,
    /// With all columns that the query reads.
    Full,
    /// With all columns there are.
    Whole,
}

/// Windows with their rows in memory; what is left to do is CPU work.
pub(crate) struct Loaded {
    windows: Vec<Window>,
    fetched: BTreeMap<(usize, Way), Fetched>,
    ways: BTreeMap<usize, Way>,
    reserved: Reserved,
}

/// Rows of a window in a block that must be read in full.
struct Survivors {
    window: usize,
    block: usize,
    rows: Vec<u64>,
}

impl TaskContext {
    /// The tasks of a query, until it is cancelled.
    pub(crate) fn new(
        plan: Arc<Plan>,
        needs: Needs,
        query: QueryContext,
        gate: Gate,
        cancelled: Cancelled,
    ) -> Self {
        let columns = plan.blocks.iter().map(|_| OnceLock::new()).collect();
        let instants = plan.blocks.iter().map(|_| None).collect();
        Self { plan, needs: Arc::new(needs), query, gate, cancelled, columns, instants }
    }

    /// The same for windows of which some are timeless: the times of blocks that no other window reads are not read.
    pub(crate) fn timeless(self, windows: &[Window], instant: i64) -> Self {
        let mut instants = vec![Some(instant); self.plan.blocks.len()];
        for window in windows.iter().filter(|window| !window.timeless) {
            for part in &window.parts {
                if let Part::Block { block, .. } = part {
                    instants[*block] = None;
                }
            }
        }
        Self { instants: instants.into(), ..self }
    }

    fn columns<C: Consumer>(&self, block: usize, consumer: &C) -> &BlockColumns {
        self.columns[block].get_or_init(|| {
            let (block, instant) = (&self.plan.blocks[block], self.instants[block]);
            let index = block.index();
            let timed = |projection: Projection| match instant {
                Some(instant) => projection.at(instant),
                None => projection,
            };
            let screen = consumer.screen_columns(&index.table).map(|lines| {
                let needs = Needs { metadata: consumer.screen_metadata(), ..Needs::all() };
                timed(Projection::new(index, &needs, &lines))
            });
            let lines = if self.needs.lines { consumer.columns(&index.table) } else { Columns::Nothing };
            let full = timed(Projection::new(index, &self.needs, &lines));
            let rows = block.all_rows();
            let row_memory = Cost::new(block, &full.columns, &rows).memory / rows.rows().max(1) + 1;
            BlockColumns { screen, full, row_memory }
        })
    }

    /// Reads the times of windows in which sources meet, and takes them apart.
    async fn untangle(&self, windows: Vec<Window>) -> Result<Vec<Window>, Failure> {
        let meets = |window: &Window| window.overlaps && window.mask.is_none();
        let mut wanted: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
        for part in windows.iter().filter(|w| meets(w)).flat_map(|w| &w.parts) {
            if let Part::Block { block, rows, .. } = part {
                wanted.entry(*block).or_default().extend(rows.iter());
            }
        }
        if wanted.is_empty() {
            return Ok(windows);
        }
        let projection = Projection::times();
        let wanted =
            wanted.into_iter().map(|(block, ranges)| (block, ranges.into_iter().collect::<RowRanges>()));
        let wanted: Vec<_> = wanted.collect();
        let mut cost = Cost::default();
        for (block, ranges) in &wanted {
            cost.join(Cost::new(&self.plan.blocks[*block], &projection.columns, ranges));
        }
        let reserved = self.gate.reserve(cost.memory, &self.query.stats).await?;
        self.query.stats.fetched(cost);
        let projection = &projection;
        let reads = wanted.into_iter().map(|(block, ranges)| async move {
            Ok::<_, Failure>((block, Fetched::read(&self.plan.blocks[block], projection, ranges).await?))
        });
        let reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READ_CONCURRENCY);
        let fetched: Vec<(usize, Fetched)> = reads.try_collect().await?;
        let work = move || {
            let _reserved = reserved;
            let mut rows = BTreeMap::new();
            for (block, fetched) in fetched {
                rows.insert(block, fetched.rows()?);
            }
            let mut apart = Vec::with_capacity(windows.len());
            for window in windows {
                if meets(&window) { apart.extend(split(window, &rows)?) } else { apart.push(window) }
            }
            Ok(apart)
        };
        self.on_processor(work).await
    }

    /// Reads windows, as much of them as `consumer` needs to see first.
    pub(crate) async fn load<C: Consumer>(
        &self,
        windows: Vec<Window>,
        consumer: &C,
    ) -> Result<Loaded, Failure> {
        let windows = self.untangle(windows).await?;
        let mut ways: BTreeMap<usize, Way> = BTreeMap::new();
        let mut wanted: BTreeMap<(usize, Way), Vec<Range<u64>>> = BTreeMap::new();
        for window in &windows {
            for part in &window.parts {
                let Part::Block { block, rows, .. } = part else { continue };
                let way = ways.entry(*block).or_insert_with(|| {
                    let screened = self.columns(*block, consumer).screen.is_some();
                    if screened { Way::Screened } else { Way::Full }
                });
                let way = if window.is_whole() { Way::Whole } else { *way };
                wanted.entry((*block, way)).or_default().extend(rows.iter());
            }
        }
        let reads = wanted.into_iter().map(|((block, way), ranges)| {
            let ranges: RowRanges = ranges.into_iter().collect();
            (block, way, self.projection(block, way, consumer), ranges)
        });
        let reads: Vec<_> = reads.collect();
        let mut cost = Cost::default();
        for (block, _, projection, ranges) in &reads {
            cost.join(Cost::new(&self.plan.blocks[*block], &projection.columns, ranges));
        }
        let reserved = self.gate.reserve(cost.memory.max(LEAST_MEMORY), &self.query.stats).await?;
        self.query.stats.fetched(cost);
        let reads = reads.into_iter().map(|(block, way, projection, ranges)| async move {
            let fetched = Fetched::read(&self.plan.blocks[block], &projection, ranges).await?;
            Ok::<_, Failure>(((block, way), fetched))
        });
        let reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READ_CONCURRENCY);
        Ok(Loaded { windows, fetched: reads.try_collect().await?, ways, reserved })
    }

    fn projection<C: Consumer>(&self, block: usize, way: Way, consumer: &C) -> Projection {
        let columns = self.columns(block, consumer);
        match way {
            Way::Whole => Projection::new(self.plan.blocks[block].index(), &Needs::all(), &Columns::All),
            Way::Screened => columns.screen.as_ref().unwrap_or(&columns.full).clone(),
            Way::Full => columns.full.clone(),
        }
    }

    /// Evaluates windows that were loaded.
    pub(crate) async fn evaluate<C: Consumer>(&self, loaded: Loaded, consumer: C) -> Result<C, Failure> {
        QueryStats::add(&self.query.stats.tasks, 1);
        let Loaded { windows, fetched, ways, reserved } = loaded;
        let (stats, cancelled) = (self.query.stats.clone(), self.cancelled.clone());
        let work = move || {
            let mut rows = BTreeMap::new();
            for (key, fetched) in fetched {
                rows.insert(key, fetched.rows()?);
            }
            let mut screening = Screening { rows, ways, stats, cancelled, consumer, survivors: Vec::new() };
            for (number, window) in windows.iter().enumerate() {
                screening.window(number, window)?;
            }
            Ok((screening.consumer, screening.survivors, windows, reserved))
        };
        let (mut consumer, survivors, windows, reserved) = self.on_processor(work).await?;
        self.check_bytes()?;
        let windows = Arc::new(windows);
        let mut survivors = survivors.into_iter().peekable();
        while let Some(group) = self.next_group(&mut survivors, &reserved, &consumer) {
            consumer = self.push_survivors(group, windows.clone(), consumer).await?;
        }
        Ok(consumer)
    }

    /// As many survivors as fit into the reserved memory, at least one window's.
    fn next_group<C: Consumer>(
        &self,
        survivors: &mut std::iter::Peekable<impl Iterator<Item = Survivors>>,
        reserved: &Reserved,
        consumer: &C,
    ) -> Option<Vec<Survivors>> {
        let (mut group, mut memory) = (Vec::new(), 0);
        while let Some(next) = survivors.peek() {
            let rows: u64 = close(&next.rows).iter().map(|range| range.end - range.start).sum();
            memory += rows * self.columns(next.block, consumer).row_memory;
            if memory > reserved.bytes && !group.is_empty() {
                break;
            }
            group.extend(survivors.next());
        }
        (!group.is_empty()).then_some(group)
    }

    /// Reads survivors in full and hands them over.
    async fn push_survivors<C: Consumer>(
        &self,
        group: Vec<Survivors>,
        windows: Arc<Vec<Window>>,
        mut consumer: C,
    ) -> Result<C, Failure> {
        self.cancelled.check()?;
        let mut wanted: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
        for survivors in &group {
            wanted.entry(survivors.block).or_default().extend(close(&survivors.rows));
        }
        let mut cost = Cost::default();
        let mut reads = Vec::new();
        for (block, ranges) in wanted {
            let ranges: RowRanges = ranges.into_iter().collect();
            let projection = self.projection(block, Way::Full, &consumer);
            cost.join(Cost::new(&self.plan.blocks[block], &projection.columns, &ranges));
            reads.push(async move {
                let fetched = Fetched::read(&self.plan.blocks[block], &projection, ranges).await?;
                Ok::<_, Failure>((block, fetched))
            });
        }
        self.query.stats.fetched(cost);
        let reads = futures::stream::iter(reads).buffer_unordered(READ_CONCURRENCY);
        let fetched: Vec<(usize, Fetched)> = reads.try_collect().await?;
        let cancelled = self.cancelled.clone();
        let work = move || {
            let mut rows: BTreeMap<usize, BlockRows> = BTreeMap::new();
            for (block, fetched) in fetched {
                rows.insert(block, fetched.rows()?);
            }
            let mut pieces: BTreeMap<usize, std::vec::IntoIter<Vec<Entries>>> = BTreeMap::new();
            for (block, rows) in rows {
                let lists = group.iter().filter(|s| s.block == block).map(|s| s.rows.as_slice());
                let picked = rows.pick(&lists.collect::<Vec<_>>()).map_err(arrow_failure)?;
                pieces.insert(block, picked.into_iter());
            }
            for survivors in &group {
                cancelled.check()?;
                let window = &windows[survivors.window];
                let pieces = pieces.get_mut(&survivors.block).and_then(Iterator::next);
                for entries in pieces.into_iter().flatten() {
                    let batch = hide(window, entries.into_batch(window.labels.clone()))?;
                    consumer.push(&batch).map_err(eval_failure)?;
                }
            }
            Ok(consumer)
        };
        self.on_processor(work).await
    }

    /// Runs CPU work when there is a processor for it.
    async fn on_processor<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = self.gate.processor(&self.query.stats).await?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.unwrap_or_else(|e| Err(Failure::internal(format!("a query task died: {e}"))))
    }

    fn check_bytes(&self) -> Result<(), Failure> {
        within_bytes(self.query.stats.bytes(), self.query.max_bytes)
    }
}

/// The first look at windows.
struct Screening<C> {
    rows: BTreeMap<(usize, Way), BlockRows>,
    ways: BTreeMap<usize, Way>,
    stats: Arc<QueryStats>,
    cancelled: Cancelled,
    consumer: C,
    survivors: Vec<Survivors>,
}

impl<C: Consumer> Screening<C> {
    fn window(&mut self, number: usize, window: &Window) -> Result<(), Failure> {
        self.cancelled.check()?;
        QueryStats::add(&self.stats.chunks_read, 1);
        if window.overlaps {
            return self.merged(window);
        }
        for part in &window.parts {
            match part {
                Part::Memory(chunk) => {
                    let entries = chunk.entries.within(window.first, window.last);
                    self.stats.head(&entries);
                    self.push(window, entries)?;
                }
                Part::Block { block, rows, bytes } => {
                    let way = if window.is_whole() { Way::Whole } else { self.ways[block] };
                    let bytes_per_row = *bytes as f64 / rows.rows().max(1) as f64;
                    let mut survivors = Survivors { window: number, block: *block, rows: Vec::new() };
                    for (first, entries) in self.slices(*block, way, rows, window) {
                        self.cancelled.check()?;
                        self.stats.block(&entries, (bytes_per_row * entries.len() as f64) as u64);
                        if way == Way::Screened {
                            let batch = entries.into_batch(window.labels.clone());
                            let left = self.consumer.screen(&batch).map_err(eval_failure)?;
                            survivors.rows.extend(left.into_iter().map(|row| first + u64::from(row)));
                        } else {
                            self.push(window, entries)?;
                        }
                    }
                    if !survivors.rows.is_empty() {
                        self.survivors.push(survivors);
                    }
                }
            }
        }
        Ok(())
    }

    /// Rows of a block that lie in a window, each piece with its first row.
    fn slices(&self, block: usize, way: Way, rows: &RowRanges, window: &Window) -> Vec<(u64, Entries)> {
        let Some(read) = self.rows.get(&(block, way)) else { return Vec::new() };
        rows.iter().flat_map(|range| read.within(range, window.first, window.last)).collect()
    }

    /// A window whose sources meet: everything in order, each entry once.
    fn merged(&mut self, window: &Window) -> Result<(), Failure> {
        let mut sources: Vec<Vec<Entries>> = Vec::with_capacity(window.parts.len());
        for part in &window.parts {
            match part {
                Part::Memory(chunk) => {
                    let entries = chunk.entries.within(window.first, window.last);
                    self.stats.head(&entries);
                    sources.push(vec![entries]);
                }
                Part::Block { block, rows, .. } => {
                    let pieces =
                        self.slices(*block, Way::Whole, rows, window).into_iter().map(|(_, entries)| entries);
                    let pieces: Vec<Entries> = pieces.collect();
                    pieces.iter().for_each(|p| self.stats.block(p, p.line_bytes() as u64));
                    sources.push(pieces);
                }
            }
        }
        let rows: usize = sources.iter().flatten().map(Entries::len).sum();
        let merged = merge_overlaps(sources).map_err(arrow_failure)?;
        let left: usize = merged.iter().map(Entries::len).sum();
        QueryStats::add(&self.stats.duplicates, (rows - left) as u64);
        merged.into_iter().try_for_each(|entries| self.push(window, entries))
    }

    fn push(&mut self, window: &Window, entries: Entries) -> Result<(), Failure> {
        self.cancelled.check()?;
        let batch = hide(window, entries.into_batch(window.labels.clone()))?;
        self.consumer.push(&batch).map_err(eval_failure)
    }
}

/// Leaves out what is to be deleted.
fn hide(window: &Window, batch: EntryBatch) -> Result<EntryBatch, Failure> {
    match &window.mask {
        None => Ok(batch),
        Some(mask) => mask.apply(batch).map_err(eval_failure),
    }
}

/// Ascending rows as ranges, joined where they are close.
fn close(rows: &[u64]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for &row in rows {
        match ranges.last_mut() {
            Some(range) if row < range.end + CLOSE => range.end = row + 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}
