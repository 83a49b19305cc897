//! Log queries: the first or last `limit` entries that pass the pipeline.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::convert::Infallible;

use hashbrown::HashMap;
use model::Matcher;
use shred::{Columns, Lines, Table};

use crate::ast::LogExpr;
use crate::batch::EntryBatch;
use crate::columnar::{Known, Memory, Program, ProgramState};
use crate::error::EvalError;
use crate::labels::LabelSet;
use crate::names::Names;
use crate::needs::{MetadataNeeds, Needs};
use crate::pipeline::{Pipeline, SelectState, rows_between};
use crate::row::{BatchView, Row, Wanted, own};

/// Which end of the range is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    #[default]
    Backward,
}

/// The range and size of a log query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogParams {
    /// First instant, nanoseconds.
    pub start: i64,
    /// Instant after the last, nanoseconds; if equal to `start`, exactly that instant.
    pub end: i64,
    /// How many entries to return at most.
    pub limit: usize,
    /// Which end counts.
    pub direction: Direction,
    /// Least distance between two returned entries in nanoseconds; 0 for none.
    pub interval: i64,
}

/// How result streams are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Categories {
    /// One stream per distinct set of all labels (plain answers).
    Merged,
    /// One stream per set of stream labels; metadata and parsed labels stand with each entry (`categorize-labels`).
    Separate,
}

/// A stream of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultStream {
    /// Its labels: all of them, or the stream's own, by [`Categories`].
    pub labels: LabelSet,
    /// Entries in the direction of the query.
    pub entries: Vec<ResultEntry>,
}

/// An entry of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultEntry {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// The line as the pipeline left it.
    pub line: String,
    /// Structured metadata left by the pipeline; empty with [`Categories::Merged`].
    pub metadata: LabelSet,
    /// Labels made by the pipeline, errors included; empty with [`Categories::Merged`].
    pub parsed: LabelSet,
}

/// With an `interval`, more entries than `limit` must be held; this many at most.
const MAX_HELD: usize = 500_000;
/// Bytes of the entries held, at most.
const MAX_HELD_BYTES: usize = 256 << 20;

/// A log query under evaluation.
#[derive(Debug)]
pub struct LogQuery {
    matchers: Vec<Matcher>,
    needs: Needs,
    params: LogParams,
    pipeline: Pipeline,
    screen: Option<Wanted>,
    /// What of the pipeline drops entries by columns.
    program: Option<Program>,
    select: SelectState,
    state: ProgramState,
    names: Names,
    /// Bytes of the entries held.
    bytes: usize,
    /// The worst entry on top; at most `limit`, or more with an interval.
    held: BinaryHeap<Held>,
    /// Times, in the order of the answer, of screened entries that are known to pass; the worst on top, at most `limit`.
    screened: BinaryHeap<i64>,
    sequence: u64,
}

/// An entry that may be in the answer; "greater" is later in the answer.
#[derive(Debug)]
struct Held {
    /// Time in the order of the answer: negated for backward queries.
    order: i64,
    stream: LabelSet,
    sequence: u64,
    metadata: LabelSet,
    parsed: LabelSet,
    line: Box<str>,
}

/// A row that may pass.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    row: u32,
    /// It is known to pass.
    certain: bool,
    /// It is known to pass the filters of original lines.
    line_passes: bool,
}

impl Held {
    /// Bytes of its texts, and what goes with them.
    fn size(&self) -> usize {
        let labels = |set: &LabelSet| set.iter().map(|(n, v)| n.len() + v.len() + 64).sum::<usize>();
        self.line.len() + labels(&self.stream) + labels(&self.metadata) + labels(&self.parsed) + 128
    }

    fn key(&self) -> (i64, &LabelSet, u64) {
        (self.order, &self.stream, self.sequence)
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

impl LogQuery {
    /// Plans the query.
    pub fn new(expr: &LogExpr, params: LogParams) -> Result<Self, EvalError> {
        let mut names = Names::new();
        let pipeline = Pipeline::compile(expr, &mut names)?;
        let screen = pipeline.screen();
        let program = pipeline.dropping().and_then(|wanted| pipeline.program(&wanted, false, &mut names));
        names.fix();
        let needs =
            Needs { needles: pipeline.needles(), equalities: pipeline.equalities(&names), ..Needs::all() };
        let matchers = expr.matchers.clone();
        Ok(Self {
            matchers,
            needs,
            params,
            pipeline,
            screen,
            program,
            select: SelectState::default(),
            state: ProgramState::default(),
            names,
            bytes: 0,
            held: BinaryHeap::new(),
            screened: BinaryHeap::new(),
            sequence: 0,
        })
    }

    /// An empty query of the same plan, to be fed elsewhere and merged.
    pub fn fork(&self) -> Self {
        Self {
            matchers: self.matchers.clone(),
            needs: self.needs.clone(),
            params: self.params,
            pipeline: self.pipeline.clone(),
            screen: self.screen.clone(),
            program: self.program.clone(),
            select: self.select.clone(),
            state: self.state.clone(),
            names: self.names.clone(),
            bytes: 0,
            held: BinaryHeap::new(),
            screened: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// What the labels of a stream must satisfy for it to be pushed.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// What of the entries must be filled in.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Which columns of shredded lines [`LogQuery::push`] reads.
    pub fn columns(&self, _table: &Table) -> Columns {
        Columns::All
    }

    /// Which columns of shredded lines [`LogQuery::screen`] reads; `None` if screening drops nothing.
    pub fn screen_columns(&self, table: &Table) -> Option<Columns> {
        self.pipeline.screen_columns(self.program.as_ref(), false, table, &mut self.names.clone())
    }

    /// Which structured metadata [`LogQuery::screen`] reads.
    pub fn screen_metadata(&self) -> MetadataNeeds {
        let names = self.program.iter().flat_map(Program::metadata);
        MetadataNeeds::Names(names.map(|id| self.names.text(id).clone()).collect())
    }

    /// The rows of the batch, ascending, that must be pushed here: those that can pass and can still be among the answer. Of lines only
    /// the [`LogQuery::screen_columns`] are looked at, of metadata the [`LogQuery::screen_metadata`].
    pub fn screen(&mut self, batch: &EntryBatch) -> Vec<u32> {
        let candidates = self.candidates(batch);
        let LogParams { limit, direction, interval, .. } = self.params;
        if interval > 0 {
            return candidates.into_iter().map(|candidate| candidate.row).collect();
        }
        if limit == 0 {
            return Vec::new();
        }
        let forward = direction == Direction::Forward;
        let order: &mut dyn Iterator<Item = Candidate> =
            if forward { &mut candidates.into_iter() } else { &mut candidates.into_iter().rev() };
        let mut rows = Vec::new();
        for candidate in order {
            let time = batch.timestamps.value(candidate.row as usize);
            let order = if forward { time } else { !time };
            // Entries of equal time may come in another order in the answer.
            if self.bound().is_some_and(|worst| order > worst) {
                break;
            }
            if candidate.certain {
                self.screened.push(order);
                if self.screened.len() > limit {
                    self.screened.pop();
                }
            }
            rows.push(candidate.row);
        }
        if !forward {
            rows.reverse();
        }
        rows
    }

    /// The rows that may pass, ascending.
    fn candidates(&mut self, batch: &EntryBatch) -> Vec<Candidate> {
        let (first, last) = self.window();
        let (mut rows, mut odd) = (rows_between(batch, first, last), Vec::new());
        self.pipeline.select(batch, &mut rows, &mut odd, &mut self.select);
        let candidate = |certain, line_passes| move |row| Candidate { row, certain, line_passes };
        let mut candidates: Vec<Candidate> = Vec::new();
        match (&batch.lines, &self.program) {
            _ if rows.is_empty() && odd.is_empty() => {}
            (Lines::Shredded(_), Some(program)) => {
                self.names.forget();
                let view = BatchView::new(batch, &mut self.names, &self.needs.metadata);
                let stages = self.pipeline.stages();
                if !odd.is_empty() {
                    let odd = program.undropped(stages, &view, &odd, &mut self.names, &mut self.state);
                    candidates.extend(odd.into_iter().map(candidate(false, false)));
                }
                let take = |known: Known<'_>, _: &mut Memory<'_>, _: &mut Vec<u32>| {
                    candidates.extend(known.rows.into_iter().map(candidate(program.decides, true)));
                    Ok::<(), Infallible>(())
                };
                let odd = program.decide(stages, &view, &rows, &mut self.names, &mut self.state, take);
                candidates.extend(odd.into_iter().flatten().map(candidate(false, true)));
            }
            _ => {
                candidates.extend(odd.into_iter().map(candidate(false, false)));
                candidates.extend(rows.into_iter().map(candidate(self.pipeline.drops_nothing(), true)));
            }
        }
        candidates.sort_unstable_by_key(|candidate| candidate.row);
        candidates
    }

    /// Takes the entries of the batch that pass. Entries outside the range are ignored.
    pub fn push(&mut self, batch: &EntryBatch) -> Result<(), EvalError> {
        let candidates = self.candidates(batch);
        if candidates.is_empty() || self.params.limit == 0 {
            return Ok(());
        }
        self.names.forget();
        let view = BatchView::new(batch, &mut self.names, &self.needs.metadata);
        let mut row = Row::new(&view, &Wanted::All);
        let screen = self.screen.clone();
        let mut probe = screen.as_ref().map(|wanted| Row::new(&view, wanted));
        let forward = self.params.direction == Direction::Forward;
        let order: &mut dyn Iterator<Item = Candidate> =
            if forward { &mut candidates.into_iter() } else { &mut candidates.into_iter().rev() };
        for Candidate { row: index, certain, line_passes } in order {
            let time = batch.timestamps.value(index as usize);
            let order = if forward { time } else { !time };
            if self.is_full() && self.held.peek().is_some_and(|worst| order > worst.order) {
                break;
            }
            if let Some(probe) = probe.as_mut().filter(|_| !certain) {
                probe.load(index as usize, &mut self.names);
                if !self.pipeline.run(probe, &mut self.names) {
                    continue;
                }
            }
            row.load(index as usize, &mut self.names);
            if !line_passes && !self.pipeline.line_passes(row.line()) {
                continue;
            }
            if !self.pipeline.run(&mut row, &mut self.names) {
                continue;
            }
            self.sequence += 1;
            let held = Held {
                order,
                stream: own(&self.names, row.stream_labels()),
                sequence: self.sequence,
                metadata: own(&self.names, row.metadata_labels()),
                parsed: own(&self.names, row.parsed_labels()),
                line: row.line().into(),
            };
            self.hold(held)?;
        }
        Ok(())
    }

    /// First and last instant of entries that can still enter the answer.
    fn window(&self) -> (i64, i64) {
        let LogParams { start, end, direction, .. } = self.params;
        let last = if end > start { end - 1 } else { start };
        match (self.bound(), direction) {
            (Some(bound), Direction::Forward) => (start, last.min(bound)),
            (Some(bound), Direction::Backward) => (start.max(!bound), last),
            (None, _) => (start, last),
        }
    }

    /// The worst time, in the order of the answer, that an entry can have to be in it: as many are held, or have been screened and will
    /// be pushed, as there may be.
    fn bound(&self) -> Option<i64> {
        let limit = self.params.limit;
        let held = self.held.peek().filter(|_| self.is_full()).map(|worst| worst.order);
        let screened = self.screened.peek().filter(|_| self.screened.len() >= limit).copied();
        held.into_iter().chain(screened).min()
    }

    fn is_full(&self) -> bool {
        self.params.interval == 0 && self.held.len() >= self.params.limit
    }

    /// When enough entries are held: no entry later (forward) or earlier (backward) than this can enter the answer; one of
    /// exactly this time still can.
    pub fn cutoff(&self) -> Option<i64> {
        let worst = self.held.peek().filter(|_| self.is_full())?;
        Some(if self.params.direction == Direction::Forward { worst.order } else { !worst.order })
    }

    /// Joins a forked part.
    pub fn merge(&mut self, other: Self) -> Result<(), EvalError> {
        let offset = self.sequence;
        self.sequence += other.sequence;
        for mut held in other.held {
            held.sequence += offset;
            self.hold(held)?;
        }
        Ok(())
    }

    /// Adds an entry, and removes what cannot be in the answer any more.
    fn hold(&mut self, entry: Held) -> Result<(), EvalError> {
        self.bytes += entry.size();
        let LogParams { interval, limit, .. } = self.params;
        if interval == 0 {
            if self.held.len() < limit {
                self.held.push(entry);
            } else if let Some(mut worst) = self.held.peek_mut()
                && entry < *worst
            {
                self.bytes -= worst.size();
                *worst = entry;
            } else {
                self.bytes -= entry.size();
            }
        } else {
            self.held.push(entry);
            if self.held.len() >= MAX_HELD {
                self.thin_out()?;
            }
        }
        if self.bytes > MAX_HELD_BYTES {
            return Err(EvalError::Budget { what: "bytes of entries held", limit: MAX_HELD_BYTES });
        }
        Ok(())
    }

    /// More entries can only move the last one that an interval leaves to the front, so everything behind it is useless.
    fn thin_out(&mut self) -> Result<(), EvalError> {
        let sorted = std::mem::take(&mut self.held).into_sorted_vec();
        let taken = taken(&sorted, self.params);
        let last = taken.get(self.params.limit.saturating_sub(1));
        let Some(end) = last.filter(|end| **end + 1 < MAX_HELD / 2) else {
            return Err(EvalError::Budget { what: "entries before thinning by interval", limit: MAX_HELD });
        };
        self.held = sorted.into_iter().take(*end + 1).collect();
        self.bytes = self.held.iter().map(Held::size).sum();
        Ok(())
    }

    /// The answer; streams are sorted by label text.
    pub fn finish(self, categories: Categories) -> Vec<ResultStream> {
        let forward = self.params.direction == Direction::Forward;
        let mut streams: Vec<ResultStream> = Vec::new();
        let mut places: HashMap<LabelSet, usize> = HashMap::new();
        for held in thin(self.held.into_sorted_vec(), self.params) {
            let Held { order, stream, metadata, parsed, line, .. } = held;
            let (labels, metadata, parsed) = match categories {
                Categories::Separate => (stream, metadata, parsed),
                Categories::Merged => {
                    let all = stream.iter().chain(metadata.iter()).chain(parsed.iter());
                    (LabelSet::from_pairs(all), LabelSet::default(), LabelSet::default())
                }
            };
            let place = *places.entry(labels.clone()).or_insert_with(|| {
                streams.push(ResultStream { labels, entries: Vec::new() });
                streams.len() - 1
            });
            let timestamp = if forward { order } else { !order };
            streams[place].entries.push(ResultEntry { timestamp, line: line.into(), metadata, parsed });
        }
        streams.sort_by(|a, b| a.labels.cmp(&b.labels));
        streams
    }
}

/// The places of the entries that an interval leaves.
fn taken(sorted: &[Held], params: LogParams) -> Vec<usize> {
    let mut next = i64::MIN;
    let mut places = Vec::new();
    for (i, entry) in sorted.iter().enumerate() {
        if places.len() == params.limit {
            break;
        }
        if entry.order >= next {
            next = entry.order.saturating_add(params.interval);
            places.push(i);
        }
    }
    places
}

fn thin(sorted: Vec<Held>, params: LogParams) -> Vec<Held> {
    if params.interval == 0 {
        return sorted;
    }
    let mut places = taken(&sorted, params).into_iter().peekable();
    sorted
        .into_iter()
        .enumerate()
        .filter(|(i, _)| places.next_if_eq(i).is_some())
        .map(|(_, entry)| entry)
        .collect()
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray};
    use model::Labels;

    use super::*;
    use crate::batch::Metadata;
    use crate::{Expr, parse};

    fn batch(app: &str, times: &[i64]) -> EntryBatch {
        EntryBatch {
            labels: Labels::from_pairs([("app", app)]),
            timestamps: Int64Array::from(times.to_vec()),
            lines: times.iter().map(|t| Some(format!("{app}{t}"))).collect::<StringArray>().into(),
            metadata: Metadata::empty(),
        }
    }

    fn query(text: &str, params: LogParams) -> LogQuery {
        let Ok(Expr::Log(expr)) = parse(text) else { panic!("{text}") };
        LogQuery::new(&expr, params).unwrap()
    }

    fn check(params: LogParams, want: &[&str]) {
        let mut query = query(r#"{app=~".+"} != "skip""#, params);
        let mut part = query.fork();
        query.push(&batch("a", &[1, 3, 5, 7, 9])).unwrap();
        part.push(&batch("b", &[2, 4, 6, 8])).unwrap();
        query.merge(part).unwrap();
        let mut entries: Vec<ResultEntry> =
            query.finish(Categories::Merged).into_iter().flat_map(|stream| stream.entries).collect();
        let backward = params.direction == Direction::Backward;
        entries.sort_by_key(|e| if backward { -e.timestamp } else { e.timestamp });
        let lines: Vec<&str> = entries.iter().map(|e| &*e.line).collect();
        assert_eq!(lines, want, "{params:?}");
    }

    #[test]
    fn range_limit_direction_interval() {
        let all = LogParams { start: 0, end: 100, limit: 100, direction: Direction::Forward, interval: 0 };
        check(LogParams { limit: 3, ..all }, &["a1", "b2", "a3"]);
        check(LogParams { limit: 3, direction: Direction::Backward, ..all }, &["a9", "b8", "a7"]);
        check(LogParams { start: 2, end: 5, ..all }, &["b2", "a3", "b4"]);
        check(LogParams { start: 4, end: 4, ..all }, &["b4"]);
        check(LogParams { interval: 3, ..all }, &["a1", "b4", "a7"]);
        check(LogParams { interval: 3, limit: 2, direction: Direction::Backward, ..all }, &["a9", "b6"]);
        check(LogParams { limit: 0, ..all }, &[]);
    }

    #[test]
    fn screened_rows_are_parsed_in_full() {
        let params = LogParams { start: 0, end: 100, limit: 10, direction: Direction::Forward, interval: 0 };
        let mut query = query(r#"{app="a"} | json | v > 1 or w="x""#, params);
        assert!(query.screen.is_some());
        let lines = [r#"{"v":2,"k":1"#, r#"{"v":1,"k":1}"#, r#"{"w":"x","k":{"l":3}}"#, r#"{"v":"y"}"#];
        query
            .push(&EntryBatch {
                lines: StringArray::from(lines.to_vec()).into(),
                ..batch("a", &[1, 2, 3, 4])
            })
            .unwrap();
        let mut shown: Vec<String> = query
            .finish(Categories::Merged)
            .iter()
            .map(|s| s.labels.filter(|n| n != "__error_details__").to_string())
            .collect();
        shown.sort();
        let want = [
            r#"{__error__="JSONParserErr", app="a", k="1", v="2"}"#,
            r#"{__error__="LabelFilterErr", app="a", v="y"}"#,
            r#"{app="a", k_l="3", w="x"}"#,
        ];
        assert_eq!(shown, want);
    }

    #[test]
    fn cutoff_when_full() {
        let params = LogParams { start: 0, end: 100, limit: 2, direction: Direction::Backward, interval: 0 };
        let mut query = query(r#"{app="a"}"#, params);
        assert_eq!(query.cutoff(), None);
        query.push(&batch("a", &[1, 3, 5])).unwrap();
        assert_eq!(query.cutoff(), Some(3));
        query.push(&batch("a", &[2, 4])).unwrap();
        assert_eq!(query.cutoff(), Some(4));
    }

    #[test]
    fn categories() {
        let params = LogParams { start: 0, end: 100, limit: 10, direction: Direction::Forward, interval: 0 };
        let mut query = query(r#"{app="a"} | label_format app="z", b=app"#, params);
        let mut entries = batch("a", &[1]);
        entries.metadata.columns.push(("trace".into(), StringArray::from(vec!["t"])));
        query.push(&entries).unwrap();
        let stream = query.finish(Categories::Separate).remove(0);
        assert_eq!(stream.labels.to_string(), "{}");
        assert_eq!(stream.entries[0].metadata.to_string(), r#"{trace="t"}"#);
        assert_eq!(stream.entries[0].parsed.to_string(), r#"{b="z"}"#);
    }
}
