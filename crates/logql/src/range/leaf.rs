//! One range aggregation: from entries to samples to series of window values.

use std::sync::Arc;

use arrow_array::Array as _;
use hashbrown::HashMap;

use super::piece::{Kind, Piece};
use super::windows::Windows;
use crate::ast::{Conversion, Grouping, LabelFilter as LabelFilterExpr, RangeAggregation, RangeOp};
use crate::batch::EntryBatch;
use crate::error::EvalError;
use crate::labels::LabelSet;
use crate::matrix::{Line, Matrix};
use crate::metric_query::{Leaf, MetricLimits};
use crate::names::{ERROR, NameId, Names};
use crate::needs::{MetadataNeeds, Needs};
use crate::pipeline::{Pipeline, rows_between};
use crate::row::{BatchView, Row, Wanted, own};
use crate::stages::{LabelFilter, parse_bytes, parse_float};

/// Which labels a series keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keep {
    All,
    By(Vec<NameId>),
    Without(Vec<NameId>),
}

/// The plan of a range aggregation.
#[derive(Debug)]
pub(crate) struct LeafPlan {
    op: RangeOp,
    kind: Kind,
    parameter: f64,
    pipeline: Pipeline,
    unwrap: Option<(NameId, Conversion)>,
    filters: Vec<LabelFilter>,
    keep: Keep,
    wanted: Wanted,
    windows: Windows,
    /// Labels of `absent_over_time`.
    absent: LabelSet,
    names: Names,
    /// What sources must know.
    pub(crate) leaf: Leaf,
}

/// What a leaf has been fed.
#[derive(Debug)]
pub(crate) struct LeafState {
    plan: Arc<LeafPlan>,
    names: Names,
    places: HashMap<Box<[u8]>, usize>,
    series: Vec<SeriesState>,
    points: usize,
    key: Vec<u8>,
}

#[derive(Debug)]
struct SeriesState {
    labels: LabelSet,
    /// Piece number and content, ascending.
    pieces: Vec<(u64, Piece)>,
    /// Where the last sample went.
    last: usize,
}

impl LeafPlan {
    /// Plans the aggregation; `outer` is the grouping of a `sum` around it that may be applied here already.
    pub(crate) fn new(
        range: &RangeAggregation,
        outer: Option<&Grouping>,
        windows: impl FnOnce(i64, i64) -> Windows,
    ) -> Result<Self, EvalError> {
        let mut names = Names::new();
        let pipeline = Pipeline::compile(&range.log, &mut names)?;
        let filter = |filter: &LabelFilterExpr, names: &mut Names| {
            LabelFilter::compile(filter, names).map_err(EvalError::from)
        };
        let filters: Vec<LabelFilter> = match &range.unwrap {
            Some(unwrap) => unwrap.filters.iter().map(|f| filter(f, &mut names)).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let unwrap = range.unwrap.as_ref().map(|u| (names.id(&u.label), u.conversion));
        let keep = if range.op == RangeOp::AbsentOverTime {
            Keep::By(Vec::new())
        } else {
            match range.grouping.as_ref().or(outer) {
                None => match unwrap {
                    None => Keep::All,
                    Some((label, _)) => Keep::Without(vec![label]),
                },
                Some(grouping) => {
                    let mut labels: Vec<NameId> = grouping.labels.iter().map(|l| names.id(l)).collect();
                    labels.sort_by(|a, b| names.text(*a).cmp(names.text(*b)));
                    labels.dedup();
                    if grouping.without {
                        labels.extend(unwrap.map(|(label, _)| label));
                        Keep::Without(labels)
                    } else {
                        Keep::By(labels)
                    }
                }
            }
        };
        let absent = range.op == RangeOp::AbsentOverTime;
        let wanted =
            if absent { Wanted::All } else { wanted(&pipeline, &keep, unwrap, &filters, &mut names) };
        names.fix();
        let windows = windows(range.range, range.offset);
        let (start, end) = windows.span();
        let bytes = matches!(range.op, RangeOp::BytesOverTime | RangeOp::BytesRate);
        let needs = Needs {
            lines: bytes || pipeline.reads_line(wanted == Wanted::Nothing),
            metadata: match &wanted {
                Wanted::All => MetadataNeeds::All,
                Wanted::Nothing => MetadataNeeds::Names(Vec::new()),
                Wanted::Names(wanted) => {
                    MetadataNeeds::Names(wanted.iter().map(|id| names.text(*id).clone()).collect())
                }
            },
            needles: pipeline.needles(),
        };
        Ok(Self {
            op: range.op,
            kind: Kind::of(range.op, unwrap.is_some()),
            parameter: range.parameter.unwrap_or_default(),
            pipeline,
            unwrap,
            filters,
            keep,
            wanted,
            windows,
            absent: if absent { absent_labels(&range.log.matchers) } else { LabelSet::default() },
            names,
            leaf: Leaf { matchers: range.log.matchers.clone(), start, end, needs },
        })
    }

    /// The function's values for all windows of a series.
    fn evaluate(&self, series: &SeriesState) -> Vec<(u32, f64)> {
        let mut points = Vec::new();
        let pieces = &series.pieces;
        let (mut low, mut high, mut count) = (0, 0, 0_u64);
        for k in 0..self.windows.count {
            let (from, to) = self.windows.pieces(k);
            while high < pieces.len() && pieces[high].0 < to {
                if let Piece::Count(n) = pieces[high].1 {
                    count += n;
                }
                high += 1;
            }
            while low < high && pieces[low].0 < from {
                if let Piece::Count(n) = pieces[low].1 {
                    count -= n;
                }
                low += 1;
            }
            let Some(((_, first), rest)) = pieces[low..high].split_first() else { continue };
            let result = if let Piece::Count(_) = first {
                Piece::Count(count)
            } else {
                let mut result = first.clone();
                rest.iter().for_each(|(_, piece)| result.merge(piece));
                result
            };
            points.push((k as u32, result.value(self.op, self.parameter, self.windows.range_seconds())));
        }
        points
    }
}

/// The labels that parsers need to make: all, unless a `by` says which the result keeps and stages which they look at.
fn wanted(
    pipeline: &Pipeline,
    keep: &Keep,
    unwrap: Option<(NameId, Conversion)>,
    filters: &[LabelFilter],
    names: &mut Names,
) -> Wanted {
    let Keep::By(groups) = keep else { return Wanted::All };
    let mut wanted = groups.clone();
    wanted.extend(unwrap.map(|(label, _)| label));
    filters.iter().for_each(|filter| filter.names(&mut wanted));
    for stage in pipeline.stages() {
        if !stage.labels_read(names, &mut wanted) {
            return Wanted::All;
        }
    }
    for i in 0..wanted.len() {
        let base = names.text(wanted[i]).strip_suffix("_extracted").map(str::to_owned);
        wanted.extend(base.map(|base| names.id(&base)));
    }
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() { Wanted::Nothing } else { Wanted::Names(wanted) }
}

/// Equality matchers whose name occurs once.
fn absent_labels(matchers: &[model::Matcher]) -> LabelSet {
    let once = |m: &&model::Matcher| matchers.iter().filter(|other| other.name() == m.name()).count() == 1;
    let equal = matchers.iter().filter(|m| m.op() == model::MatchOp::Equal && !m.value().is_empty());
    LabelSet::from_pairs(equal.filter(once).map(|m| (m.name(), m.value())))
}

impl LeafState {
    pub(crate) fn new(plan: Arc<LeafPlan>) -> Self {
        let names = plan.names.clone();
        Self { plan, names, places: HashMap::new(), series: Vec::new(), points: 0, key: Vec::new() }
    }

    pub(crate) fn fork(&self) -> Self {
        Self::new(self.plan.clone())
    }

    pub(crate) fn push(&mut self, batch: &EntryBatch, limits: &MetricLimits) -> Result<(), EvalError> {
        let plan = self.plan.clone();
        let (after, last) = plan.windows.span();
        let mut rows = rows_between(batch, after.saturating_add(1), last);
        plan.pipeline.select(batch, &mut rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.names.forget();
        let view = BatchView::new(batch, &mut self.names, &plan.leaf.needs.metadata);
        let bytes = matches!(plan.op, RangeOp::BytesOverTime | RangeOp::BytesRate);
        let lines = !batch.lines.is_empty();
        if plan.pipeline.stages().is_empty() && plan.unwrap.is_none() && plan.keeps_stream_labels_only(&view)
        {
            let mut row = Row::new(&view, &plan.wanted);
            row.load(rows[0] as usize, &mut self.names);
            let place = self.place(&row, limits)?;
            for index in rows {
                let value =
                    if bytes && lines { batch.lines.value_length(index as usize) as f64 } else { 1.0 };
                self.add(place, batch.timestamps.value(index as usize), value);
            }
        } else {
            let mut row = Row::new(&view, &plan.wanted);
            for index in rows {
                let time = batch.timestamps.value(index as usize);
                if plan.windows.piece(time).is_none() {
                    continue;
                }
                row.load(index as usize, &mut self.names);
                if let Some(value) = plan.sample(&mut row, &mut self.names, bytes)? {
                    let place = self.place(&row, limits)?;
                    self.add(place, time, value);
                }
            }
        }
        if self.points > limits.max_points {
            return Err(EvalError::Budget { what: "points", limit: limits.max_points });
        }
        Ok(())
    }

    /// The series of a row.
    fn place(&mut self, row: &Row<'_, '_>, limits: &MetricLimits) -> Result<usize, EvalError> {
        let plan = self.plan.clone();
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        // 0xff cannot occur in UTF-8. A missing label is an empty one.
        match &plan.keep {
            Keep::By(labels) => {
                for label in labels {
                    key.extend_from_slice(row.get(*label).unwrap_or_default().as_bytes());
                    key.push(0xff);
                }
            }
            keep => {
                let mut labels: Vec<(&str, &str)> = row
                    .labels()
                    .filter(|(id, _)| keep.keeps(*id))
                    .map(|(id, v)| (&**self.names.text(id), v))
                    .collect();
                labels.sort_unstable();
                for (name, value) in labels {
                    key.extend_from_slice(name.as_bytes());
                    key.push(0xff);
                    key.extend_from_slice(value.as_bytes());
                    key.push(0xff);
                }
            }
        }
        let found = self.places.get(&key[..]).copied();
        let place = match found {
            Some(place) => place,
            None => {
                if self.series.len() >= limits.max_inner_series {
                    return Err(EvalError::SeriesLimit(limits.max_inner_series));
                }
                let labels = match &plan.keep {
                    Keep::By(labels) => {
                        own(&self.names, labels.iter().filter_map(|id| Some((*id, row.get(*id)?))))
                    }
                    keep => own(&self.names, row.labels().filter(|(id, _)| keep.keeps(*id))),
                };
                let labels = if matches!(plan.keep, Keep::By(_)) { labels.non_empty() } else { labels };
                self.places.insert(key[..].into(), self.series.len());
                self.series.push(SeriesState { labels, pieces: Vec::new(), last: 0 });
                self.series.len() - 1
            }
        };
        self.key = key;
        Ok(place)
    }

    fn add(&mut self, place: usize, time: i64, value: f64) {
        let Some(number) = self.plan.windows.piece(time) else { return };
        let series = &mut self.series[place];
        let kind = self.plan.kind;
        if let Some((last, piece)) = series.pieces.get_mut(series.last)
            && *last == number
        {
            piece.add(time, value);
            self.points += usize::from(matches!(kind, Kind::Values | Kind::Samples));
            return;
        }
        match series.pieces.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => {
                series.pieces[at].1.add(time, value);
                series.last = at;
                self.points += usize::from(matches!(kind, Kind::Values | Kind::Samples));
            }
            Err(at) => {
                series.pieces.insert(at, (number, kind.piece(time, value)));
                series.last = at;
                self.points += 1;
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Self, limits: &MetricLimits) -> Result<(), EvalError> {
        for (key, place) in other.places {
            let from = &other.series[place];
            let Some(&to) = self.places.get(&key) else {
                if self.series.len() >= limits.max_inner_series {
                    return Err(EvalError::SeriesLimit(limits.max_inner_series));
                }
                self.points += from.pieces.iter().map(|(_, piece)| piece.size()).sum::<usize>();
                self.places.insert(key, self.series.len());
                self.series.push(SeriesState {
                    labels: from.labels.clone(),
                    pieces: from.pieces.clone(),
                    last: 0,
                });
                continue;
            };
            let pieces = &mut self.series[to].pieces;
            for (number, piece) in &from.pieces {
                match pieces.binary_search_by_key(number, |(n, _)| *n) {
                    Ok(at) => pieces[at].1.merge(piece),
                    Err(at) => pieces.insert(at, (*number, piece.clone())),
                }
                self.points += piece.size();
            }
        }
        if self.points > limits.max_points {
            return Err(EvalError::Budget { what: "points", limit: limits.max_points });
        }
        Ok(())
    }

    /// The series with their values at all steps.
    pub(crate) fn finish(self, limits: &MetricLimits) -> Result<Matrix, EvalError> {
        let plan = &self.plan;
        let mut points = 0;
        let mut lines = Vec::with_capacity(self.series.len());
        for series in &self.series {
            let line = Line { labels: series.labels.clone(), points: plan.evaluate(series) };
            points += line.points.len();
            if points > limits.max_points {
                return Err(EvalError::Budget { what: "points", limit: limits.max_points });
            }
            lines.push(line);
        }
        if plan.op == RangeOp::AbsentOverTime {
            let mut present = vec![false; plan.windows.count];
            lines.iter().flat_map(|line| &line.points).for_each(|(step, _)| present[*step as usize] = true);
            let absent = (0..).zip(present).filter(|(_, present)| !present).map(|(step, _)| (step, 1.0));
            lines = vec![Line { labels: plan.absent.clone(), points: absent.collect() }];
        }
        Matrix::from_lines(lines)
    }
}

impl LeafPlan {
    /// Whether a batch's entries all belong to the same series.
    fn keeps_stream_labels_only(&self, view: &BatchView<'_>) -> bool {
        match &self.keep {
            Keep::By(labels) => labels.iter().all(|id| !view.may_have_metadata(*id)),
            Keep::All | Keep::Without(_) => !view.has_metadata(),
        }
    }

    /// Whether entries with this error are counted: parse errors are, if the query groups by labels and looks at `__error__`
    /// (`sum by (app) (count_over_time({…} | json | __error__="JSONParserErr" [5m]))`).
    fn counts_error(&self, kind: &str) -> bool {
        let looked_at = matches!(&self.wanted, Wanted::Names(names) if names.contains(&ERROR));
        looked_at && matches!(kind, "JSONParserErr" | "LogfmtParserErr")
    }

    /// Runs the pipeline and takes the sample's value; `None` if there is no sample.
    fn sample(
        &self,
        row: &mut Row<'_, '_>,
        names: &mut Names,
        bytes: bool,
    ) -> Result<Option<f64>, EvalError> {
        if !self.pipeline.run(row, names) {
            return Ok(None);
        }
        let mut value = if bytes { row.line().len() as f64 } else { 1.0 };
        if let Some((label, conversion)) = self.unwrap {
            let text = row.get(label).unwrap_or_default();
            if text.is_empty() {
                return Ok(None);
            }
            value = match convert(text, conversion) {
                Ok(value) => value,
                Err(details) => {
                    row.fail("SampleExtractionErr", Some(&details));
                    0.0
                }
            };
            if !self.filters.iter().all(|filter| filter.passes(row)) {
                return Ok(None);
            }
        }
        match row.error() {
            Some(kind) if !row.preserves_error() && !self.counts_error(kind) => Err(EvalError::Pipeline {
                kind: kind.to_owned(),
                series: own(names, row.labels()).to_string(),
            }),
            _ => Ok(Some(value)),
        }
    }
}

impl Keep {
    fn keeps(&self, id: NameId) -> bool {
        match self {
            Self::All => true,
            Self::By(labels) => labels.contains(&id),
            Self::Without(labels) => !labels.contains(&id),
        }
    }
}

fn convert(text: &str, conversion: Conversion) -> Result<f64, String> {
    match conversion {
        Conversion::Number => parse_float(text),
        Conversion::Bytes => parse_bytes(text).map(|b| b as f64),
        Conversion::Duration | Conversion::DurationSeconds => {
            model::duration::parse_go(text).map(|nanos| nanos as f64 / 1e9).map_err(|e| e.to_string())
        }
    }
}
