//! Metric queries: numbers over time windows, aggregated and combined.

use std::sync::Arc;

use model::regex::Regex;
use model::{Labels, Matcher};
use shred::{Columns, Table};

use crate::ast::{BinaryOp, Grouping, Matching, MetricExpr, RangeOp, VectorOp};
use crate::batch::EntryBatch;
use crate::binary;
use crate::error::EvalError;
use crate::labels::LabelSet;
use crate::matrix::{Line, Matrix, Value};
use crate::needs::Needs;
use crate::range::{LeafPlan, LeafState, Windows};
use crate::vector;

/// When a metric query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricParams {
    /// First instant, nanoseconds (already aligned to the step).
    pub start: i64,
    /// No instant is later than this, nanoseconds.
    pub end: i64,
    /// Distance of instants, nanoseconds, positive; ignored if `instant`.
    pub step: i64,
    /// Evaluate at `end` only and answer with a vector or scalar.
    pub instant: bool,
}

/// Bounds of a metric query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricLimits {
    /// Series of the answer.
    pub max_series: usize,
    /// Series held by all range aggregations before they are aggregated further.
    pub max_inner_series: usize,
    /// Partial results (window pieces, single samples of quantiles) held by all range aggregations.
    pub max_points: usize,
}

impl Default for MetricLimits {
    fn default() -> Self {
        Self { max_series: 500, max_inner_series: 100_000, max_points: 10_000_000 }
    }
}

/// A range aggregation of the query: what to feed it.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// What the labels of a stream must satisfy.
    pub matchers: Vec<Matcher>,
    /// Entries must be later than this (exclusive), nanoseconds.
    pub start: i64,
    /// Entries must not be later than this (inclusive), nanoseconds.
    pub end: i64,
    /// What of the entries must be filled in.
    pub needs: Needs,
    /// Set if an entry adds nothing but itself or the length of its line, wherever entries have none of the metadata that `needs`
    /// names: then [`MetricQuery::push_counts`] does instead of the entries.
    pub counts_only: Option<Counts>,
    /// Whether only the windows to which an entry belongs matter of its time.
    pub timeless: bool,
}

/// What a leaf adds up of entries that it looks at no closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// Their number.
    Entries,
    /// The bytes of their lines.
    Bytes,
}

/// Entries of one stream in a short time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// No entry is later than this, nanoseconds; see [`MetricQuery::bucket_fits`].
    pub end: i64,
    /// How many entries there are.
    pub entries: u64,
    /// The bytes of their lines.
    pub bytes: u64,
}

/// A number at a time, of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The series.
    pub labels: LabelSet,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The number.
    pub value: f64,
}

/// A series of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: LabelSet,
    /// Milliseconds since the epoch and value, ascending.
    pub points: Vec<(i64, f64)>,
}

/// The answer of a metric query.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryResult {
    /// Of a range query; sorted by labels.
    Matrix(Vec<Series>),
    /// Of an instant query; sorted by labels, or by value if the query says so.
    Vector(Vec<Sample>),
    /// Of an instant query that is a number.
    Scalar(i64, f64),
}

/// A metric query under evaluation.
#[derive(Debug)]
pub struct MetricQuery {
    plan: Arc<Plan>,
    states: Vec<LeafState>,
}

#[derive(Debug)]
struct Plan {
    root: Node,
    leaves: Vec<Leaf>,
    grid: Grid,
    instant: bool,
    limits: MetricLimits,
}

/// The evaluation instants, nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Grid {
    start: i64,
    step: i64,
    count: usize,
}

/// An expression over leaves.
#[derive(Debug)]
enum Node {
    Leaf(usize),
    Number(f64),
    VectorOf(f64),
    Vector {
        op: VectorOp,
        parameter: Option<usize>,
        grouping: Option<Grouping>,
        inner: Box<Node>,
    },
    Binary {
        op: BinaryOp,
        bool_modifier: bool,
        matching: Option<Matching>,
        left: Box<Node>,
        right: Box<Node>,
    },
    LabelReplace {
        inner: Box<Node>,
        dst: String,
        replacement: String,
        src: String,
        regex: Regex,
    },
}

/// Collects the leaves of an expression.
struct Planner {
    grid: Grid,
    leaves: Vec<LeafPlan>,
}

impl Planner {
    fn node(&mut self, expr: &MetricExpr) -> Result<Node, EvalError> {
        Ok(match expr {
            MetricExpr::Range(range) => self.leaf(range, None)?,
            MetricExpr::Vector(vector) => {
                let (op, parameter, grouping) = (vector.op, vector.parameter, vector.grouping.clone());
                if op == VectorOp::ApproxTopk {
                    return Err(EvalError::NotEnabled("approx_topk is not enabled: use topk".to_owned()));
                }
                // The sum of sums over groups is the sum of all, so series need not be told apart further than the result does.
                if let (VectorOp::Sum, MetricExpr::Range(range)) = (op, &*vector.inner)
                    && range.grouping.is_none()
                    && matches!(
                        range.op,
                        RangeOp::CountOverTime
                            | RangeOp::Rate
                            | RangeOp::BytesOverTime
                            | RangeOp::BytesRate
                            | RangeOp::SumOverTime
                    )
                {
                    let grouping = grouping.unwrap_or(Grouping { without: false, labels: Vec::new() });
                    let inner = Box::new(self.leaf(range, Some(&grouping))?);
                    return Ok(Node::Vector { op, parameter, grouping: Some(grouping), inner });
                }
                Node::Vector { op, parameter, grouping, inner: Box::new(self.node(&vector.inner)?) }
            }
            MetricExpr::Binary(binary) => Node::Binary {
                op: binary.op,
                bool_modifier: binary.bool_modifier,
                matching: binary.matching.clone(),
                left: Box::new(self.node(&binary.left)?),
                right: Box::new(self.node(&binary.right)?),
            },
            MetricExpr::Number(value) => Node::Number(*value),
            MetricExpr::VectorOf(value) => Node::VectorOf(*value),
            MetricExpr::LabelReplace(replace) => Node::LabelReplace {
                inner: Box::new(self.node(&replace.inner)?),
                dst: replace.dst.clone(),
                replacement: replace.replacement.clone(),
                src: replace.src.clone(),
                regex: Regex::anchored(&replace.regex).map_err(|e| EvalError::Invalid(e.to_string()))?,
            },
            MetricExpr::Variants { .. } => {
                return Err(EvalError::NotEnabled(
                    "variants are not enabled: query each metric on its own".to_owned(),
                ));
            }
        })
    }

    fn leaf(
        &mut self,
        range: &crate::ast::RangeAggregation,
        outer: Option<&Grouping>,
    ) -> Result<Node, EvalError> {
        let Grid { start, step, count } = self.grid;
        let windows = |range, offset| Windows::new(start, step, count, range, offset);
        self.leaves.push(LeafPlan::new(range, outer, windows)?);
        Ok(Node::Leaf(self.leaves.len() - 1))
    }
}

impl MetricQuery {
    /// Plans the query.
    pub fn new(expr: &MetricExpr, params: MetricParams, limits: MetricLimits) -> Result<Self, EvalError> {
        let MetricParams { start, end, step, instant } = params;
        let step = step.max(1);
        let grid = if instant {
            Grid { start: end, step, count: 1 }
        } else {
            Grid { start, step, count: (end.saturating_sub(start).max(0) / step) as usize + 1 }
        };
        if grid.count > MAX_STEPS {
            return Err(EvalError::Budget { what: "steps", limit: MAX_STEPS });
        }
        let mut planner = Planner { grid, leaves: Vec::new() };
        let root = planner.node(expr)?;
        let leaves = planner.leaves.iter().map(|plan| plan.leaf.clone()).collect();
        let states = planner.leaves.into_iter().map(|plan| LeafState::new(Arc::new(plan))).collect();
        Ok(Self { plan: Arc::new(Plan { root, leaves, grid, instant, limits }), states })
    }

    /// An empty query of the same plan, to be fed elsewhere and merged.
    pub fn fork(&self) -> Self {
        Self { plan: self.plan.clone(), states: self.states.iter().map(LeafState::fork).collect() }
    }

    /// The range aggregations to be fed, in the order of the text.
    pub fn leaves(&self) -> &[Leaf] {
        &self.plan.leaves
    }

    /// Which columns of shredded lines [`MetricQuery::push`] reads for this leaf.
    pub fn columns(&self, leaf: usize, _table: &Table) -> Columns {
        match self.plan.leaves.get(leaf) {
            Some(leaf) if leaf.needs.lines => Columns::All,
            _ => Columns::Nothing,
        }
    }

    /// Which columns of shredded lines [`MetricQuery::screen`] reads; `None` if it would hand back all rows.
    pub fn screen_columns(&self, leaf: usize, table: &Table) -> Option<Columns> {
        self.states.get(leaf)?.screen_columns(table)
    }

    /// Takes of the batch what can be taken by the [`MetricQuery::screen_columns`] alone, and gives back the rows, ascending, that
    /// must be pushed with all columns.
    pub fn screen(&mut self, leaf: usize, batch: &EntryBatch) -> Result<Vec<u32>, EvalError> {
        let limits = self.plan.limits;
        match self.states.get_mut(leaf) {
            Some(state) => state.screen(batch, &limits),
            None => Ok(Vec::new()),
        }
    }

    /// Whether all entries with `first <= timestamp <= last` belong to the same windows of the leaf (or to none), so that they
    /// may be pushed as one [`Bucket`].
    pub fn bucket_fits(&self, leaf: usize, first: i64, last: i64) -> bool {
        self.states.get(leaf).is_some_and(|state| state.bucket_fits(first, last))
    }

    /// Takes entries of a stream by their number and size alone. The leaf must say [`Leaf::counts_only`], every bucket must
    /// [fit](MetricQuery::bucket_fits), and no entry may be pushed twice.
    pub fn push_counts(&mut self, leaf: usize, labels: &Labels, buckets: &[Bucket]) -> Result<(), EvalError> {
        let limits = self.plan.limits;
        match self.states.get_mut(leaf) {
            Some(state) => state.push_counts(labels, buckets, &limits),
            None => Ok(()),
        }
    }

    /// Takes the entries of the batch for the leaf of this index. Entries outside the leaf's range are ignored.
    pub fn push(&mut self, leaf: usize, batch: &EntryBatch) -> Result<(), EvalError> {
        let limits = self.plan.limits;
        match self.states.get_mut(leaf) {
            Some(state) => state.push(batch, &limits),
            None => Ok(()),
        }
    }

    /// Joins a forked part.
    pub fn merge(&mut self, other: Self) -> Result<(), EvalError> {
        let limits = self.plan.limits;
        self.states.iter_mut().zip(other.states).try_for_each(|(state, other)| state.merge(other, &limits))
    }

    /// The answer.
    pub fn finish(self) -> Result<QueryResult, EvalError> {
        let Plan { root, grid, instant, limits, .. } = &*self.plan;
        let mut states: Vec<Option<LeafState>> = self.states.into_iter().map(Some).collect();
        let millis = |step: u32| {
            (grid.start.saturating_add(i64::from(step).saturating_mul(grid.step))).div_euclid(1_000_000)
        };
        let value = evaluate(root, &mut states, grid.count, limits)?;
        let matrix = match value {
            Value::Scalar(value) if *instant => return Ok(QueryResult::Scalar(millis(0), value)),
            Value::Scalar(value) => constant(value, grid.count),
            Value::Matrix(matrix) => matrix,
        };
        let Matrix { mut lines, ordered } = matrix;
        if lines.len() > limits.max_series {
            return Err(EvalError::SeriesLimit(limits.max_series));
        }
        if !ordered || !instant {
            lines.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        if *instant {
            let sample = |line: Line| {
                let (step, value) = *line.points.first()?;
                Some(Sample { labels: line.labels, timestamp_ms: millis(step), value })
            };
            return Ok(QueryResult::Vector(lines.into_iter().filter_map(sample).collect()));
        }
        let series = |line: Line| Series {
            labels: line.labels,
            points: line.points.into_iter().map(|(step, value)| (millis(step), value)).collect(),
        };
        Ok(QueryResult::Matrix(lines.into_iter().map(series).collect()))
    }
}

/// More evaluation instants are refused.
const MAX_STEPS: usize = 1_000_000;

/// `{}` with the same number at each step.
fn constant(value: f64, steps: usize) -> Matrix {
    let points = (0..steps as u32).map(|step| (step, value)).collect();
    Matrix { lines: vec![Line { labels: LabelSet::default(), points }], ordered: false }
}

fn evaluate(
    node: &Node,
    states: &mut [Option<LeafState>],
    steps: usize,
    limits: &MetricLimits,
) -> Result<Value, EvalError> {
    let matrix = |node: &Node, states: &mut [Option<LeafState>]| match evaluate(node, states, steps, limits)?
    {
        Value::Matrix(matrix) => Ok(matrix),
        Value::Scalar(_) => {
            Err(EvalError::NotEvaluable("a number cannot be aggregated: wrap it in vector(…)".to_owned()))
        }
    };
    Ok(match node {
        Node::Leaf(leaf) => match states.get_mut(*leaf).and_then(Option::take) {
            Some(state) => Value::Matrix(state.finish(limits)?),
            None => Value::Matrix(Matrix::default()),
        },
        Node::Number(value) => Value::Scalar(*value),
        Node::VectorOf(value) => Value::Matrix(constant(*value, steps)),
        Node::Vector { op, parameter, grouping, inner } => {
            let input = matrix(inner, states)?;
            Value::Matrix(vector::aggregate(*op, *parameter, grouping.as_ref(), input, steps))
        }
        Node::Binary { op, bool_modifier, matching, left, right } => {
            let (left, right) =
                (evaluate(left, states, steps, limits)?, evaluate(right, states, steps, limits)?);
            binary::apply(*op, *bool_modifier, matching.as_ref(), left, right)?
        }
        Node::LabelReplace { inner, dst, replacement, src, regex } => {
            let replaced = |mut line: Line| {
                let value = line.labels.get(src).unwrap_or_default();
                if regex.is_match(value) {
                    line.labels = line.labels.with(dst, &regex.replace_all(value, replacement));
                }
                line
            };
            let input = matrix(inner, states)?;
            Value::Matrix(Matrix::from_lines(input.lines.into_iter().map(replaced).collect())?)
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray};
    use model::Labels;

    use super::*;
    use crate::batch::Metadata;
    use crate::{Expr, MetadataNeeds, parse};

    const SECOND: i64 = 1_000_000_000;

    fn plan(text: &str, end: i64) -> MetricQuery {
        let Ok(Expr::Metric(expr)) = parse(text) else { panic!("{text}") };
        let params = MetricParams { start: 0, end: end * SECOND, step: SECOND, instant: true };
        MetricQuery::new(&expr, params, MetricLimits::default()).unwrap()
    }

    /// Entries of `{app="a"}` at seconds.
    fn instant(text: &str, end: i64, entries: &[(i64, &str)]) -> Result<String, EvalError> {
        let mut query = plan(text, end);
        for leaf in 0..query.leaves().len() {
            let batch = EntryBatch {
                labels: Labels::from_pairs([("app", "a")]),
                timestamps: entries.iter().map(|(t, _)| t * SECOND).collect::<Vec<_>>().into(),
                lines: StringArray::from_iter_values(entries.iter().map(|(_, line)| line)).into(),
                metadata: Metadata::empty(),
            };
            query.push(leaf, &batch)?;
        }
        Ok(match query.finish()? {
            QueryResult::Vector(samples) => {
                samples.iter().map(|s| format!("{} {}", s.labels, s.value)).collect::<Vec<_>>().join("; ")
            }
            QueryResult::Scalar(_, value) => value.to_string(),
            QueryResult::Matrix(_) => panic!("a vector was expected"),
        })
    }

    #[test]
    fn instants() {
        let check = |query: &str, entries: &[(i64, &str)], want: &str| {
            let query = query.replace('S', r#"{app="a"}"#);
            assert_eq!(instant(&query, 70, entries).unwrap(), want, "{query}");
        };
        check("count_over_time(S[60s])", &[(10, ""), (70, "")], r#"{app="a"} 1"#);
        let three =
            [(20, "0123456789"), (30, "01234567890123456789"), (40, "012345678901234567890123456789")];
        check("rate(S[60s])", &three, r#"{app="a"} 0.05"#);
        check("bytes_over_time(S[60s])", &three, r#"{app="a"} 60"#);
        check("bytes_rate(S[60s])", &three, r#"{app="a"} 1"#);
        check(r#"bytes_over_time(S | line_format "xy" [60s])"#, &three, r#"{app="a"} 6"#);
        let values = [(20, "v=1 k=a"), (30, "v=2 k=b"), (40, "v=x k=a"), (50, "k=a"), (60, "v=4 k=a")];
        check(
            "sum by (k) (sum_over_time(S | logfmt | unwrap v | __error__=`` [60s]))",
            &values,
            r#"{k="a"} 5; {k="b"} 2"#,
        );
        check(
            "max_over_time(S | logfmt | unwrap v | __error__=`` [60s]) by (app)",
            &values,
            r#"{app="a"} 4"#,
        );
        check(
            "count_over_time(S | logfmt | v > 1 | drop __error__, __error_details__, v, k [60s])",
            &values,
            r#"{app="a"} 3"#,
        );
        check("sum(count_over_time(S | json [60s]))", &values, "{} 5");
        check(
            "sum by (__error__) (count_over_time(S | json | __error__!=`` [60s]))",
            &values,
            r#"{__error__="JSONParserErr"} 5"#,
        );
        check("absent_over_time({app=`b`, x=`y`, x!=`z`}[1s])", &values, r#"{app="b"} 1"#);
        check(
            "sort_desc(sum by (k) (count_over_time(S | logfmt [60s])))",
            &values,
            r#"{k="a"} 4; {k="b"} 1"#,
        );
        check("sum(rate(S[60s])) > 100 or vector(0)", &values, "{} 0");
        check("label_replace(vector(1), `a`, `x$1`, `b`, `(.*)`)", &values, r#"{a="x"} 1"#);
        check("2 ^ 3 ^ 2", &[], "512");
    }

    #[test]
    fn faults() {
        let fault = |query: &str| instant(query, 70, &[(20, "x"), (30, "y")]).unwrap_err();
        assert!(matches!(fault(r#"count_over_time({app="a"} | json [60s])"#), EvalError::Pipeline { .. }));
        assert!(matches!(fault("sum(1)"), EvalError::NotEvaluable(_)));
        let Ok(Expr::Metric(expr)) = parse(r#"approx_topk(1, rate({a="b"}[1m]))"#) else { panic!() };
        let params = MetricParams { start: 0, end: 0, step: 1, instant: true };
        assert!(matches!(
            MetricQuery::new(&expr, params, MetricLimits::default()),
            Err(EvalError::NotEnabled(_))
        ));
        let few = MetricLimits { max_series: 1, ..MetricLimits::default() };
        let Ok(Expr::Metric(expr)) = parse(r#"count_over_time({a="b"} | logfmt [1m])"#) else { panic!() };
        let mut query = MetricQuery::new(&expr, params, few).unwrap();
        let batch = EntryBatch {
            labels: Labels::from_pairs([("a", "b")]),
            timestamps: Int64Array::from(vec![-1, 0]),
            lines: StringArray::from(vec!["x=1", "x=2"]).into(),
            metadata: Metadata::empty(),
        };
        query.push(0, &batch).unwrap();
        assert_eq!(query.finish(), Err(EvalError::SeriesLimit(1)));
    }

    #[test]
    fn counts_do_instead_of_entries() {
        let check = |text: &str, counts: Option<Counts>| {
            let mut fed = plan(text, 100);
            assert_eq!(fed.leaves()[0].counts_only, counts, "{text}");
            let times: Vec<i64> = (0..120).map(|i| i * SECOND).collect();
            let batch = EntryBatch {
                labels: Labels::from_pairs([("app", "a")]),
                timestamps: times.clone().into(),
                lines: StringArray::from_iter_values(times.iter().map(|t| "x".repeat((t / SECOND) as usize)))
                    .into(),
                metadata: Metadata::empty(),
            };
            let mut counted = fed.fork();
            fed.push(0, &batch).unwrap();
            if counts.is_none() {
                return assert!(counted.push_counts(0, &batch.labels, &[]).is_err());
            }
            for start in (0..120).step_by(10) {
                let (first, last) = (start * SECOND + 1, (start + 10) * SECOND);
                assert!(counted.bucket_fits(0, first, last));
                let seconds = start as u64 + 1..(start as u64 + 11).min(120);
                let entries = seconds.clone().count() as u64;
                let bucket = Bucket { end: last, entries, bytes: seconds.sum() };
                counted.push_counts(0, &batch.labels, &[bucket]).unwrap();
            }
            assert!(!counted.bucket_fits(0, 35 * SECOND, 45 * SECOND));
            assert_eq!(counted.finish(), fed.finish(), "{text}");
        };
        check(r#"count_over_time({app="a"}[60s])"#, Some(Counts::Entries));
        check(r#"sum by (app) (rate({app="a"}[60s]))"#, Some(Counts::Entries));
        check(r#"bytes_over_time({app="a"}[60s])"#, Some(Counts::Bytes));
        check(r#"absent_over_time({app="a"}[60s])"#, Some(Counts::Entries));
        check(r#"count_over_time({app="a"} |= "x" [60s])"#, None);
        check(r#"sum by (x) (count_over_time({app="a"} | logfmt [60s]))"#, None);
        check(r#"sum_over_time({app="a"} | logfmt | unwrap v [60s])"#, None);
    }

    #[test]
    fn equalities_of_label_filters() {
        let shown = |text: &str| {
            let query = plan(text, 100);
            let show = |e: &crate::Equality| format!("{}={} {:?}", e.label, e.value, e.line);
            query.leaves()[0].needs.equalities.iter().map(show).collect::<Vec<_>>().join("; ")
        };
        let parsed =
            r#"sum(count_over_time({a="b"} | t="m" | json | s="a b/c" and n > 1 | x="1" or y="2" [1m]))"#;
        assert_eq!(shown(parsed), r#"t=m None; s=a b/c Some(["a", "b", "c"])"#);
        assert_eq!(shown(r#"sum(count_over_time({a="b"} | json | label_format q=s | q="1" [1m]))"#), "");
    }

    #[test]
    fn leaves_say_what_they_need() {
        let query = plan(
            r#"sum by (app) (count_over_time({app="a"} |= "x" | json [1m] offset 10s)) / sum(rate({app="b"} | json [5m]))"#,
            100,
        );
        let [first, second] = query.leaves() else { panic!() };
        assert_eq!((first.start, first.end), (30 * SECOND, 90 * SECOND));
        assert_eq!(first.needs.needles, [["x"]]);
        assert!(first.needs.lines);
        assert_eq!(first.needs.metadata, MetadataNeeds::Names(vec!["app".into()]));
        assert!(!second.needs.lines);
        assert_eq!(second.needs.metadata, MetadataNeeds::Names(vec![]));
    }
}
