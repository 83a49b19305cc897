//! One range aggregation: from entries to samples to series of window values.

use super::piece::{Kind, Piece};
use super::windows::Windows;
use crate::ast::{Conversion, Grouping, LabelFilter as LabelFilterExpr, RangeAggregation, RangeOp, Stage};
use crate::columnar::Program;
use crate::error::EvalError;
use crate::labels::LabelSet;
use crate::metric_query::{Counts, Leaf};
use crate::names::{ERROR, NameId, Names};
use crate::needs::{MetadataNeeds, Needs};
use crate::pipeline::Pipeline;
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
    pub(super) op: RangeOp,
    pub(super) kind: Kind,
    parameter: f64,
    pub(super) pipeline: Pipeline,
    pub(super) unwrap: Option<(NameId, Conversion)>,
    pub(super) filters: Vec<LabelFilter>,
    pub(super) keep: Keep,
    pub(super) wanted: Wanted,
    /// The part of the pipeline that runs over columns.
    pub(super) program: Option<Program>,
    pub(super) windows: Windows,
    /// Labels of `absent_over_time`.
    pub(super) absent: LabelSet,
    pub(super) names: Names,
    /// What sources must know.
    pub(crate) leaf: Leaf,
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
        let errors = filters.iter().any(LabelFilter::depends_on_errors);
        let program = match &wanted {
            Wanted::All => {
                pipeline.dropping().and_then(|labels| pipeline.program(&labels, errors, &mut names))
            }
            wanted => pipeline.program(wanted, errors, &mut names),
        };
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
            equalities: pipeline.equalities(&names),
        };
        let counts = match Kind::of(range.op, unwrap.is_some()) {
            Kind::Count if !pipeline.is_empty() || unwrap.is_some() => None,
            Kind::Count if bytes => Some(Counts::Bytes),
            Kind::Count => Some(Counts::Entries),
            _ => None,
        };
        let ordered =
            matches!(range.op, RangeOp::FirstOverTime | RangeOp::LastOverTime | RangeOp::RateCounter);
        // Templates can name the time of an entry.
        let template = |stage: &Stage| matches!(stage, Stage::LineFormat(_) | Stage::LabelFormat(_));
        let timeless = !ordered && !range.log.stages.iter().any(template);
        let matchers = range.log.matchers.clone();
        Ok(Self {
            op: range.op,
            kind: Kind::of(range.op, unwrap.is_some()),
            parameter: range.parameter.unwrap_or_default(),
            pipeline,
            unwrap,
            filters,
            keep,
            wanted,
            program,
            windows,
            absent: if absent { absent_labels(&range.log.matchers) } else { LabelSet::default() },
            names,
            leaf: Leaf { matchers, start, end, needs, counts_only: counts, timeless },
        })
    }

    /// The function's values for all windows of a series.
    pub(super) fn evaluate(&self, pieces: &[(u64, Piece)]) -> Vec<(u32, f64)> {
        let mut points = Vec::new();
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

impl LeafPlan {
    /// Whether the value of a sample is the length of the line.
    pub(super) fn measures_lines(&self) -> bool {
        matches!(self.op, RangeOp::BytesOverTime | RangeOp::BytesRate)
    }

    /// Whether columns alone make samples: all that matters of an entry are labels whose origin the program knows.
    pub(super) fn is_columnar(&self) -> bool {
        self.wanted != Wanted::All
            && matches!(self.keep, Keep::By(_))
            && self.program.as_ref().is_some_and(|program| program.whole)
    }

    /// Whether a batch's entries all belong to the same series.
    pub(super) fn keeps_stream_labels_only(&self, view: &BatchView<'_>) -> bool {
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
    pub(super) fn sample(&self, row: &mut Row<'_, '_>, names: &mut Names) -> Result<Option<f64>, EvalError> {
        if !self.pipeline.run(row, names) {
            return Ok(None);
        }
        let mut value = if self.measures_lines() { row.line().len() as f64 } else { 1.0 };
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
    pub(super) fn keeps(&self, id: NameId) -> bool {
        match self {
            Self::All => true,
            Self::By(labels) => labels.contains(&id),
            Self::Without(labels) => !labels.contains(&id),
        }
    }
}

pub(super) fn convert(text: &str, conversion: Conversion) -> Result<f64, String> {
    match conversion {
        Conversion::Number => parse_float(text),
        Conversion::Bytes => parse_bytes(text).map(|b| b as f64),
        Conversion::Duration | Conversion::DurationSeconds => {
            model::duration::parse_go(text).map(|nanos| nanos as f64 / 1e9).map_err(|e| e.to_string())
        }
    }
}
