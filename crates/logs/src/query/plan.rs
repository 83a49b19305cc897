//! Which streams a query reads, and where their rows are: in granules that can hold what it looks for, and in heads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::ArrowError;
use block::{OpenBlock, RowRanges};
use logql::Needs;
use model::{Labels, Matcher, TenantId};
use shred::Table;

use crate::deletes::TenantMask;
use crate::query::prune::Pruner;
use crate::query::stats::QueryStats;
use crate::query::view::View;
use crate::store::head::Chunk;
use crate::store::index::{IndexStream, Part as IndexPart, Run};
use crate::store::signal::LogsSignal;
use crate::tenancy;

/// A block as queries see it.
pub type Block = OpenBlock<LogsSignal>;

/// The streams of a query and the blocks that hold them.
#[derive(Default)]
pub struct Plan {
    /// Blocks by number.
    pub blocks: Vec<Arc<Block>>,
    /// In order of their labels.
    pub streams: Vec<StreamPlan>,
}

/// A stream, and where its rows may be.
pub struct StreamPlan {
    /// Its labels.
    pub labels: Labels,
    /// First instant that is asked for.
    pub first: i64,
    /// Last instant that is asked for.
    pub last: i64,
    /// In order of arrival.
    pub sources: Vec<Source>,
    /// Pairs of sources, by their places, that share no instant though they meet in time; the smaller place first.
    pub apart: BTreeSet<(usize, usize)>,
    /// What is hidden of it, if anything is.
    pub mask: Option<Arc<TenantMask>>,
}

/// A stream's rows in one block or chunk.
#[derive(Clone)]
pub enum Source {
    /// In a block.
    Block(BlockSource),
    /// In a head.
    Memory(Arc<Chunk>),
}

/// A stream's rows in a block.
#[derive(Clone)]
pub struct BlockSource {
    /// Number of the block.
    pub number: usize,
    /// The block.
    pub block: Arc<Block>,
    /// Place of the stream in the index.
    stream: usize,
    /// Which granules of the block can hold entries that pass; all if `None`, and those beyond the list.
    kept: Option<Arc<[bool]>>,
}

/// A place with rows of a window, and maybe with others around them.
#[derive(Clone)]
pub enum Part {
    /// Rows of a block.
    Block {
        /// Number of the block.
        block: usize,
        /// The rows, ascending.
        rows: RowRanges,
        /// Bytes of their lines, about.
        bytes: u64,
    },
    /// A chunk of a head.
    Memory(Arc<Chunk>),
}

impl Plan {
    /// Finds the streams of a view that satisfy all matchers and have rows in `first..=last` that can pass. Where the view is that of
    /// one of several tenants, `tenant` is it.
    pub fn new(
        view: &View,
        tenant: Option<&TenantId>,
        matchers: &[Matcher],
        needs: &Needs,
        first: i64,
        last: i64,
        stats: &QueryStats,
    ) -> Result<Self, ArrowError> {
        let pruner = Pruner::new(needs);
        let (mut planned, mut kept_parts) = (0, 0);
        let mut streams: BTreeMap<Labels, Vec<Source>> = BTreeMap::new();
        for (number, block) in view.blocks.iter().enumerate() {
            let kept = (!pruner.is_idle()).then(|| pruner.ask(block.index()));
            for (at, stream) in block.index().select(matchers, first, last) {
                let kept = kept.as_ref().and_then(|kept| match tenant {
                    None => kept.of(&stream.labels),
                    Some(tenant) => kept.of(&tenancy::label(&stream.labels, tenant)),
                });
                let source = BlockSource { number, block: block.clone(), stream: at, kept };
                planned += stream.parts_within(first, last).len() as u64;
                let found = source.parts(first, last).count() as u64;
                kept_parts += found;
                if found > 0 {
                    streams.entry(stream.labels.clone()).or_default().push(Source::Block(source));
                }
            }
        }
        QueryStats::add(&stats.granules_planned, planned);
        QueryStats::add(&stats.granules_kept, kept_parts);
        if !pruner.is_idle() {
            QueryStats::add(&stats.needle_searches, view.blocks.len() as u64);
        }
        for head in &view.heads {
            for selection in head.select(matchers, first, last)? {
                let sources = streams.entry(selection.labels).or_default();
                sources.extend(selection.chunks.into_iter().map(Source::Memory));
            }
        }
        let mut plans = Vec::with_capacity(streams.len());
        for (labels, sources) in streams {
            let first = first.max(view.oldest(&labels));
            if first <= last {
                let mask = view.mask.touches(&labels, first, last).then(|| view.mask.clone());
                plans.push(StreamPlan { labels, first, last, sources, apart: BTreeSet::new(), mask });
            }
        }
        QueryStats::add(&stats.streams, plans.len() as u64);
        Ok(Self { blocks: view.blocks.clone(), streams: plans })
    }

    /// The shapes and fields of one of the blocks that are read.
    pub fn any_table(&self) -> Option<&Table> {
        self.streams.iter().flat_map(|stream| &stream.sources).find_map(|source| match source {
            Source::Block(source) => Some(&*source.block.index().table),
            Source::Memory(_) => None,
        })
    }

    /// Adds what was planned for one of several tenants; its streams gain the label that tells whose they are.
    pub fn join(&mut self, other: Self, tenant: &TenantId) {
        let shift = self.blocks.len();
        self.blocks.extend(other.blocks);
        self.streams.extend(other.streams.into_iter().map(|mut stream| {
            stream.labels = tenancy::label(&stream.labels, tenant);
            for source in &mut stream.sources {
                if let Source::Block(block) = source {
                    block.number += shift;
                }
            }
            stream
        }));
        self.streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
}

impl StreamPlan {
    /// The same with one of its sources alone.
    pub(crate) fn of_source(&self, source: &Source) -> Self {
        let (labels, mask) = (self.labels.clone(), self.mask.clone());
        let (first, last, sources) = (self.first, self.last, vec![source.clone()]);
        Self { labels, first, last, sources, apart: BTreeSet::new(), mask }
    }

    /// Stretches of `first..=last` in which sources meet that may share an instant, disjoint and ascending.
    pub(crate) fn meetings(&self, first: i64, last: i64) -> Vec<(i64, i64)> {
        let bounds = self.sources.iter().enumerate();
        let bounds = bounds.filter_map(|(at, source)| Some((source.bounds(first, last)?, at)));
        let mut bounds: Vec<((i64, i64), usize)> = bounds.collect();
        bounds.sort_unstable();
        let mut found: Vec<(i64, i64)> = Vec::new();
        // Those that may meet one that begins later: what is apart of all others stays, so there are few.
        let mut open: Vec<(i64, usize)> = Vec::new();
        for ((from, to), at) in bounds {
            open.retain(|(end, _)| *end >= from);
            let shares = |other: usize| !self.apart.contains(&(at.min(other), at.max(other)));
            let until = open.iter().filter(|(_, other)| shares(*other)).map(|(end, _)| *end).max();
            if let Some(until) = until.map(|until| until.min(to)) {
                match found.last_mut() {
                    Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(until),
                    _ => found.push((from, until)),
                }
            }
            // Without pairs that are apart the one that ends last is all that matters.
            if self.apart.is_empty() {
                let reached = open.iter().map(|(end, _)| *end).max();
                if reached.is_none_or(|reached| to > reached) {
                    open = vec![(to, at)];
                }
            } else {
                open.push((to, at));
            }
        }
        found
    }
}

impl BlockSource {
    /// The stream in the index.
    pub fn stream(&self) -> &IndexStream {
        &self.block.index().streams[self.stream]
    }

    fn is_kept(&self, part: usize) -> bool {
        let granule = self.stream().granules().start as usize + part;
        self.kept.as_ref().is_none_or(|kept| kept.get(granule).copied().unwrap_or(true))
    }

    /// Whether every granule can hold entries that pass.
    pub fn keeps_all(&self) -> bool {
        self.kept.is_none()
    }

    /// The parts that meet the range and can hold entries that pass.
    pub fn parts(&self, first: i64, last: i64) -> impl DoubleEndedIterator<Item = (usize, IndexPart)> + '_ {
        let parts = self.stream().parts_within(first, last).filter(|part| self.is_kept(*part));
        parts.map(|part| (part, self.stream().parts[part]))
    }
}

impl Source {
    /// Between which times its rows in the range lie; `None` if it has none there.
    pub fn bounds(&self, first: i64, last: i64) -> Option<(i64, i64)> {
        let (from, to) = match self {
            Self::Block(source) => {
                let mut parts = source.parts(first, last);
                let (_, front) = parts.next()?;
                let back = parts.next_back().map_or(front, |(_, part)| part);
                (front.first, back.last)
            }
            Self::Memory(chunk) => {
                let (from, to) = (chunk.entries.first(), chunk.entries.last());
                if from > last || to < first {
                    return None;
                }
                (from, to)
            }
        };
        Some((from.max(first), to.min(last)))
    }

    /// The rows that may lie in a range.
    pub fn part(&self, first: i64, last: i64) -> Option<Part> {
        match self {
            Self::Block(source) => {
                let stream = source.stream();
                let wanted = stream.rows_within(first, last);
                let (mut ranges, mut bytes) = (Vec::new(), 0);
                for (at, part) in source.parts(first, last) {
                    let all = stream.part_rows(at);
                    let rows = all.start.max(wanted.start)..all.end.min(wanted.end);
                    if !rows.is_empty() {
                        bytes += share(part.bytes, rows.end - rows.start, all.end - all.start);
                        ranges.push(rows);
                    }
                }
                let rows: RowRanges = ranges.into_iter().collect();
                (!rows.is_empty()).then_some(Part::Block { block: source.number, rows, bytes })
            }
            Self::Memory(chunk) => self.bounds(first, last).map(|_| Part::Memory(chunk.clone())),
        }
    }
}

/// The runs of a source that meet a range, from one end to the other, each with the bytes of its lines, about.
pub(crate) struct Runs {
    source: Source,
    first: i64,
    last: i64,
    backward: bool,
    /// Parts that are left, the next one at the end.
    parts: Vec<usize>,
    /// Runs of the part under way, the next one at the end.
    runs: Vec<(Run, u64)>,
}

impl Runs {
    /// Of a source, oldest or newest first.
    pub(crate) fn new(source: &Source, first: i64, last: i64, backward: bool) -> Self {
        let mut parts: Vec<usize> = match source {
            Source::Block(block) => block.parts(first, last).map(|(at, _)| at).collect(),
            Source::Memory(_) => vec![0],
        };
        if !backward {
            parts.reverse();
        }
        Self { source: source.clone(), first, last, backward, parts, runs: Vec::new() }
    }

    fn of_part(&self, part: usize) -> Vec<(Run, u64)> {
        match &self.source {
            Source::Block(source) => {
                let stream = source.stream();
                let all = stream.part_rows(part);
                let bytes = |run: &Run| {
                    share(stream.parts[part].bytes, run.rows.end - run.rows.start, all.end - all.start)
                };
                stream.runs_of(part).into_iter().map(|run| (run.clone(), bytes(&run))).collect()
            }
            Source::Memory(chunk) => {
                let times = chunk.entries.timestamps.values();
                let run = |(at, times): (usize, &[i64])| {
                    let rows = at as u64 * MEMORY_RUN as u64..(at * MEMORY_RUN + times.len()) as u64;
                    let bytes =
                        share(chunk.line_bytes as u64, times.len() as u64, chunk.entries.len() as u64);
                    (Run { rows, first: times[0], last: times[times.len() - 1] }, bytes)
                };
                times.chunks(MEMORY_RUN).enumerate().map(run).collect()
            }
        }
    }
}

/// Rows of a run of a chunk.
const MEMORY_RUN: usize = 256;

impl Iterator for Runs {
    type Item = (Run, u64);

    fn next(&mut self) -> Option<(Run, u64)> {
        loop {
            while let Some((run, bytes)) = self.runs.pop() {
                if run.first <= self.last && run.last >= self.first {
                    return Some((run, bytes));
                }
            }
            let part = self.parts.pop()?;
            let mut runs = self.of_part(part);
            if !self.backward {
                runs.reverse();
            }
            self.runs = runs;
        }
    }
}

/// `part` of `whole`, of an amount.
fn share(amount: u64, part: u64, whole: u64) -> u64 {
    if part == whole {
        amount
    } else {
        (u128::from(amount) * u128::from(part) / u128::from(whole.max(1))) as u64
    }
}
