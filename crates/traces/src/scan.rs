//! A query's way over a tenant's spans: heads and blocks as one, every trace whole and once.
//!
//! A trace that lies in one source only is read from there, column by column. A trace whose spans lie in
//! several sources (a flush fell into it, or it came late) is put together first. Which traces those are the
//! fingerprints tell; a collision only costs the detour.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;
use block::{BlockError, BlockMeta, OpenBlock, RowRanges, Snapshot, Store};
use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashSet;
use model::TenantId;
use traceql::{Conditions, EvalError, FieldSet, SpanBatch};

use crate::assemble::{Piece, regroup};
use crate::head;
use crate::index::Index;
use crate::keys::Keys;
use crate::prune::{Test, Verdict};
use crate::record::Record;
use crate::shred::Shredder;
use crate::signal::TraceSignal;
use crate::sorted::Sorted;
use crate::source::{Reader, Wanted};

/// Rows read and evaluated at a time. The first pieces are smaller, for searches that end early.
const CHUNK_ROWS: u32 = 65_536;
const FIRST_CHUNK_ROWS: u32 = 4_096;
/// Traces in several sources that are put together at a time.
const SPLIT_TRACES: usize = 2_000;
/// Reads on their way at a time.
const READS: usize = 3;
/// Blocks being opened at a time.
const OPENS: usize = 8;
/// Blocks this far from the asked range may hold the rest of a trace that reaches into it.
const SLACK: i64 = 10 * 60 * 1_000_000_000;

/// What a query asks of storage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// The columns.
    pub fields: FieldSet,
    /// What lets traces be skipped.
    pub conditions: Conditions,
    /// First and last nanosecond of interest.
    pub range: (i64, i64),
}

/// What the spans are given to.
pub(crate) trait Evaluate: Send + 'static {
    /// Takes whole traces.
    fn push(&mut self, batch: &SpanBatch) -> Result<(), EvalError>;

    /// Whether more cannot change the answer.
    fn is_full(&self) -> bool {
        false
    }
}

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    /// The query cannot be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A block cannot be read.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A block's columns are not what they should be.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// The thread that evaluates died.
    #[error("the evaluation was interrupted")]
    Interrupted,
}

/// What a scan cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Traces evaluated.
    pub traces: u64,
    /// Spans evaluated.
    pub spans: u64,
    /// Bytes of decoded columns.
    pub bytes: u64,
    /// Blocks in the range.
    pub blocks: u32,
    /// Their size.
    pub block_bytes: u64,
}

/// A head or a block.
enum Source {
    Head(head::Snapshot),
    Block(Arc<OpenBlock<TraceSignal>>),
}

impl Source {
    fn fingerprints(&self) -> &[u32] {
        match self {
            Self::Head(head) => head.sorted.fingerprints(),
            Self::Block(block) => block.index().0.fingerprints(),
        }
    }

    fn keys(&self) -> &Keys {
        match self {
            Self::Head(head) => &head.keys,
            Self::Block(block) => &block.index().0.keys,
        }
    }

    fn rows(&self, trace: usize) -> Range<u32> {
        match self {
            Self::Head(head) => {
                let rows = head.sorted.trace_rows(trace);
                rows.start as u32..rows.end as u32
            }
            Self::Block(block) => block.index().0.trace_rows(trace),
        }
    }

    /// For each trace whether it may meet the condition; `None` if any may.
    async fn met(&self, test: &Option<Test>) -> Result<Option<Vec<bool>>, ScanError> {
        let Some(test) = test else { return Ok(None) };
        if test.ask(self.keys()) == Verdict::Never {
            return Ok(Some(vec![false; self.fingerprints().len()]));
        }
        let Self::Block(block) = self else { return Ok(None) };
        let index = &block.index().0;
        let Some(columns) = test.columns(index) else { return Ok(None) };
        let mut rows = vec![false; index.rows() as usize];
        if !columns.is_empty() {
            let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
            let mut at = 0;
            for batch in block.read(&names, &block.all_rows()).await? {
                test.rows(&batch, &columns, &mut rows[at..at + batch.num_rows()]);
                at += batch.num_rows();
            }
        }
        let any = |trace| {
            let range = index.trace_rows(trace);
            rows[range.start as usize..range.end as usize].contains(&true)
        };
        Ok(Some((0..index.traces()).map(any).collect()))
    }
}

/// Feeds all spans of the tenants that the plan may need to `evaluate`.
pub(crate) async fn scan<E: Evaluate>(
    store: &Arc<Store<TraceSignal>>,
    tenants: &[TenantId],
    plan: &Plan,
    mut evaluate: E,
) -> Result<(E, Cost), ScanError> {
    let mut cost = Cost::default();
    for tenant in tenants {
        if plan.conditions.nothing || evaluate.is_full() {
            break;
        }
        let sources = sources(store, tenant, plan.range, &mut cost).await?;
        let scan = Scan { plan, split: split_traces(&sources), sources };
        evaluate = scan.run(evaluate, &mut cost).await?;
    }
    Ok((evaluate, cost))
}

/// The attributes of every source in a range, for questions that need no spans.
pub(crate) async fn each_keys(
    store: &Arc<Store<TraceSignal>>,
    tenants: &[TenantId],
    range: (i64, i64),
    mut look: impl FnMut(&Keys),
) -> Result<Cost, ScanError> {
    let mut cost = Cost::default();
    for tenant in tenants {
        let snapshot = store.snapshot(tenant);
        for head in &snapshot.heads {
            if head.time_range().is_some_and(|(min, max)| min <= range.1 && max >= range.0) {
                head.with_keys(&mut look);
            }
        }
        let mut blocks = stream::iter(blocks_in(&snapshot, range, &mut cost))
            .map(|meta| async move { store.open_block(tenant, &meta).await })
            .buffered(OPENS);
        while let Some(block) = blocks.next().await {
            look(&block?.index().0.keys);
        }
    }
    Ok(cost)
}

/// The blocks with spans in a range, newest first.
fn blocks_in(snapshot: &Snapshot<TraceSignal>, range: (i64, i64), cost: &mut Cost) -> Vec<BlockMeta> {
    let blocks = snapshot.manifest.blocks.iter().cloned();
    let mut blocks: Vec<_> =
        blocks.filter(|b| b.summary.min_time.0 <= range.1 && b.summary.max_time.0 >= range.0).collect();
    blocks.sort_by_key(|b| std::cmp::Reverse(b.summary.max_time));
    cost.blocks += blocks.len() as u32;
    cost.block_bytes += blocks.iter().map(|b| b.size).sum::<u64>();
    blocks
}

/// Heads and blocks that may have spans in the range, newest first.
async fn sources(
    store: &Arc<Store<TraceSignal>>,
    tenant: &TenantId,
    range: (i64, i64),
    cost: &mut Cost,
) -> Result<Vec<Source>, ScanError> {
    let snapshot = store.snapshot(tenant);
    let (from, to) = (range.0.saturating_sub(SLACK), range.1.saturating_add(SLACK));
    let mut sources = Vec::new();
    for head in snapshot.heads.iter().rev() {
        if head.time_range().is_some_and(|(min, max)| min <= to && max >= from) {
            let head = head.clone();
            sources.push(Source::Head(blocking(move || head.snapshot()).await?));
        }
    }
    let blocks = blocks_in(&snapshot, (from, to), cost);
    let open = |meta: BlockMeta| async move { store.open_block(tenant, &meta).await.map(Source::Block) };
    let opened: Vec<_> = stream::iter(blocks).map(open).buffered(OPENS).try_collect().await?;
    sources.extend(opened);
    Ok(sources)
}

/// Fingerprints of traces that are in more than one source.
fn split_traces(sources: &[Source]) -> HashSet<u32> {
    if sources.len() < 2 {
        return HashSet::new();
    }
    let mut all: Vec<u32> = sources.iter().flat_map(|s| s.fingerprints()).copied().collect();
    all.sort_unstable();
    all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
}

/// One tenant's scan.
struct Scan<'a> {
    plan: &'a Plan,
    sources: Vec<Source>,
    split: HashSet<u32>,
}

impl Scan<'_> {
    async fn run<E: Evaluate>(&self, mut evaluate: E, cost: &mut Cost) -> Result<E, ScanError> {
        let tests: Vec<_> = self.plan.conditions.conditions.iter().map(Test::new).collect();
        let all = self.plan.conditions.all_must_match;
        // Per condition the split traces that meet it somewhere; `None` once any may.
        let mut split_met: Vec<Option<HashSet<u32>>> = vec![Some(HashSet::new()); tests.len()];
        for source in &self.sources {
            let mut met = Vec::with_capacity(tests.len());
            for test in &tests {
                met.push(source.met(test).await?);
            }
            let prints = source.fingerprints();
            for (met, total) in met.iter().zip(&mut split_met) {
                match (met, total.as_mut()) {
                    (Some(met), Some(total)) => total.extend(
                        prints
                            .iter()
                            .zip(met)
                            .filter(|(p, met)| **met && self.split.contains(*p))
                            .map(|(p, _)| *p),
                    ),
                    _ => *total = None,
                }
            }
            let wanted = |trace: &usize| {
                let mut met = met.iter().map(|met| met.as_ref().is_none_or(|met| met[*trace]));
                let met = tests.is_empty() || if all { met.all(|m| m) } else { met.any(|m| m) };
                met && !self.split.contains(&prints[*trace])
            };
            let traces: Vec<usize> = (0..prints.len()).filter(wanted).collect();
            evaluate = self.read(source, &traces, evaluate, cost).await?;
            if evaluate.is_full() {
                return Ok(evaluate);
            }
        }
        let candidate = |print: &&u32| {
            let mut met = split_met.iter().map(|met| met.as_ref().is_none_or(|met| met.contains(*print)));
            tests.is_empty() || if all { met.all(|m| m) } else { met.any(|m| m) }
        };
        let split: Vec<u32> = self.split.iter().filter(candidate).copied().collect();
        for part in split.chunks(SPLIT_TRACES) {
            if evaluate.is_full() {
                break;
            }
            evaluate = self.read_split(part, evaluate, cost).await?;
        }
        Ok(evaluate)
    }

    /// Evaluates traces of one source.
    async fn read<E: Evaluate>(
        &self,
        source: &Source,
        traces: &[usize],
        mut evaluate: E,
        cost: &mut Cost,
    ) -> Result<E, ScanError> {
        let wanted = Arc::new(Wanted::new(&self.plan.fields, source.keys()));
        match source {
            Source::Head(head::Snapshot { sorted, keys }) => {
                let layout = wanted.layout(keys);
                for chunk in chunks(source, traces) {
                    let (sorted, layout, wanted) = (sorted.clone(), layout.clone(), wanted.clone());
                    let chunk = chunk.to_vec();
                    let step = move || {
                        shredded(sorted, layout, &wanted, chunk).and_then(|batch| step(evaluate, batch))
                    };
                    let (next, seen) = blocking(step).await??;
                    evaluate = next;
                    cost.add(seen);
                    if evaluate.is_full() {
                        break;
                    }
                }
            }
            Source::Block(block) => {
                let columns = wanted.columns(&block.index().0);
                let columns = &columns;
                let chunks: Vec<RowRanges> =
                    chunks(source, traces).into_iter().map(|chunk| row_ranges(source, chunk)).collect();
                let read = |rows: RowRanges| async move { block.read(columns, &rows).await };
                let mut reads = stream::iter(chunks).map(read).buffered(READS);
                let mut reader = Reader::default();
                while let Some(batches) = reads.next().await {
                    let (batches, block, wanted) = (batches?, block.clone(), wanted.clone());
                    let step = move || {
                        let batch = span_batch(&mut reader, &batches, &wanted, &block.index().0)?;
                        Ok::<_, ScanError>((reader, step(evaluate, batch)?))
                    };
                    let (kept, (next, seen)) = blocking(step).await??;
                    reader = kept;
                    evaluate = next;
                    cost.add(seen);
                    if evaluate.is_full() {
                        break;
                    }
                }
            }
        }
        Ok(evaluate)
    }

    /// Evaluates traces that lie in several sources.
    async fn read_split<E: Evaluate>(
        &self,
        prints: &[u32],
        evaluate: E,
        cost: &mut Cost,
    ) -> Result<E, ScanError> {
        let prints: HashSet<u32> = prints.iter().copied().collect();
        let mut pieces = Vec::new();
        for source in &self.sources {
            let found = source.fingerprints().iter().enumerate().filter(|(_, p)| prints.contains(*p));
            let traces: Vec<usize> = found.map(|(trace, _)| trace).collect();
            pieces.extend(pieces_of(source, &traces).await?);
        }
        let fields = self.plan.fields.clone();
        let (evaluate, seen) = blocking(move || {
            let Ok(mut record) = Record::decode(&regroup(pieces), usize::MAX) else {
                return Err(ScanError::Interrupted);
            };
            let keys = std::mem::take(&mut record.keys);
            let sorted = Arc::new(Sorted::new(vec![Arc::new(record)]));
            let wanted = Wanted::new(&fields, &keys);
            let traces = (0..sorted.traces()).collect();
            step(evaluate, shredded(sorted, wanted.layout(&keys), &wanted, traces)?)
        })
        .await??;
        cost.add(seen);
        Ok(evaluate)
    }
}

impl Cost {
    fn add(&mut self, seen: (u64, u64, u64)) {
        self.traces += seen.0;
        self.spans += seen.1;
        self.bytes += seen.2;
    }
}

/// Runs work that takes a while on a thread of its own.
pub(crate) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, ScanError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ScanError::Interrupted)
}

fn step<E: Evaluate>(mut evaluate: E, batch: SpanBatch) -> Result<(E, (u64, u64, u64)), ScanError> {
    evaluate.push(&batch)?;
    // About what the columns that are always there take.
    let (traces, spans) = (batch.traces() as u64, batch.rows() as u64);
    Ok((evaluate, (traces, spans, spans * 64)))
}

/// Traces in pieces, of twice as many rows each time up to about [`CHUNK_ROWS`].
fn chunks<'t>(source: &Source, traces: &'t [usize]) -> Vec<&'t [usize]> {
    let (mut first, mut rows, mut target) = (0, 0, FIRST_CHUNK_ROWS);
    let mut pieces = Vec::new();
    for (i, trace) in traces.iter().enumerate() {
        let range = source.rows(*trace);
        rows += range.end - range.start;
        if rows >= target {
            pieces.push(&traces[first..=i]);
            (first, rows, target) = (i + 1, 0, (target * 2).min(CHUNK_ROWS));
        }
    }
    if first < traces.len() {
        pieces.push(&traces[first..]);
    }
    pieces
}

fn row_ranges(source: &Source, traces: &[usize]) -> RowRanges {
    traces.iter().map(|trace| source.rows(*trace)).map(|r| u64::from(r.start)..u64::from(r.end)).collect()
}

fn shredded(
    sorted: Arc<Sorted>,
    layout: crate::schema::Layout,
    wanted: &Wanted,
    traces: Vec<usize>,
) -> Result<SpanBatch, ScanError> {
    let columns = layout.columns.clone();
    let batch = Shredder::new(sorted, layout).batch(traces)?;
    let of = |name: &str| {
        let first = columns.iter().position(|c| c.name == name).unwrap_or(columns.len());
        let many = columns[first..].iter().take_while(|c| c.name == name).count();
        &columns[first..first + many]
    };
    Ok(Reader::default().read(&batch, wanted, of)?)
}

fn span_batch(
    reader: &mut Reader,
    batches: &[RecordBatch],
    wanted: &Wanted,
    index: &Index,
) -> Result<SpanBatch, ScanError> {
    let batch = match batches {
        [one] => one.clone(),
        [] => return Err(ArrowError::SchemaError("no rows were read".to_owned()).into()),
        [first, ..] => concat_batches(first.schema_ref(), batches)?,
    };
    Ok(reader.read(&batch, wanted, |name| index.columns(name))?)
}

/// The whole spans of some traces of a source.
async fn pieces_of(source: &Source, traces: &[usize]) -> Result<Vec<Piece>, ScanError> {
    match source {
        Source::Head(head) => {
            let (sorted, traces) = (head.sorted.clone(), traces.to_vec());
            blocking(move || {
                let rows = traces.iter().flat_map(|trace| sorted.trace_rows(*trace));
                rows.filter_map(|at| Piece::from_head(sorted.row(at).0, sorted.row(at).1)).collect()
            })
            .await
        }
        Source::Block(block) if !traces.is_empty() => whole_spans(block, &row_ranges(source, traces)).await,
        Source::Block(_) => Ok(Vec::new()),
    }
}

/// Spans of a block with everything they were sent with; the rows must be of whole traces.
pub(crate) async fn whole_spans(
    block: &Arc<OpenBlock<TraceSignal>>,
    rows: &RowRanges,
) -> Result<Vec<Piece>, ScanError> {
    let schema = block.schema().clone();
    let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let batches = block.read(&columns, rows).await?;
    let block = block.clone();
    blocking(move || match batches.first() {
        None => Ok(Vec::new()),
        Some(first) => {
            let batch = concat_batches(first.schema_ref(), &batches)?;
            Ok(Piece::from_block(&batch, block.index().0.all_columns())?)
        }
    })
    .await?
}
