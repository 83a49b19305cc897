//! Pipelines: from the spans of a trace to spansets.

use std::ops::Range;
use std::sync::Arc;

use arrow_buffer::BooleanBuffer;

use super::compiled::{self, Fields, Predicate, RowExpr};
use super::view::View;
use super::{bits, filter, scalar};
use crate::ast::{Aggregate, BinaryOp, Pipeline, Relation, Scalar, SpansetExpr, SpansetOp, Stage};
use crate::error::EvalError;
use crate::value::{Value, ValueRef};

/// A pipeline prepared for evaluation, with the fields and filters of the whole query.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) fields: Fields,
    pub(crate) filters: Vec<Predicate>,
    pipe: Pipe,
}

/// Spans of one trace that belong together, as rows of the batch in ascending order.
#[derive(Debug, Clone)]
pub(crate) struct Spanset {
    pub(crate) rows: Vec<u32>,
    pub(crate) attributes: Vec<(Arc<str>, Value)>,
}

#[derive(Debug, Clone)]
struct Pipe {
    stages: Vec<PipeStage>,
}

#[derive(Debug, Clone)]
enum PipeStage {
    Spansets(Spans),
    GroupBy(RowExpr, Arc<str>),
    Coalesce,
    Aggregate(AggregateStage),
}

#[derive(Debug, Clone)]
struct AggregateStage {
    function: Function,
    /// What is aggregated; nothing for a count.
    operand: Option<RowExpr>,
    op: BinaryOp,
    literal: Value,
    name: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Count,
    Min,
    Max,
    Sum,
    Avg,
}

#[derive(Debug, Clone)]
enum Spans {
    Filter(usize),
    Pipe(Pipe),
    Op(SpansetOp, Box<Spans>, Box<Spans>),
}

/// Rows to choose from.
enum Rows<'r> {
    All(Range<usize>),
    Some(&'r [u32]),
}

impl Rows<'_> {
    fn choose(&self, selection: &BooleanBuffer) -> Vec<u32> {
        match self {
            Self::All(range) => {
                let found = selection.slice(range.start, range.len());
                found.set_indices().map(|i| (range.start + i) as u32).collect()
            }
            Self::Some(rows) => rows.iter().copied().filter(|r| selection.value(*r as usize)).collect(),
        }
    }
}

impl Plan {
    pub(crate) fn new(pipeline: &Pipeline) -> Result<Self, EvalError> {
        let (mut fields, mut filters) = (Fields::default(), Vec::new());
        let pipe = pipe(pipeline, &mut fields, &mut filters)?;
        Ok(Self { fields, filters, pipe })
    }

    /// The filter that is all there is to the pipeline, if so: its selection needs no look at traces.
    pub(crate) fn lone_filter(&self) -> Option<usize> {
        match self.pipe.stages.as_slice() {
            [PipeStage::Spansets(Spans::Filter(filter))] => Some(*filter),
            _ => None,
        }
    }

    /// The spansets of a trace; empty ones are left out.
    pub(crate) fn run(&self, view: &View<'_>, trace: usize) -> Result<Vec<Spanset>, EvalError> {
        let rows = view.batch.trace_rows(trace);
        if rows.is_empty() || !self.pipe.possible(view, &rows) {
            return Ok(Vec::new());
        }
        self.pipe.run(view, trace, &Rows::All(rows))
    }
}

fn pipe(pipeline: &Pipeline, fields: &mut Fields, filters: &mut Vec<Predicate>) -> Result<Pipe, EvalError> {
    let mut stages = Vec::with_capacity(pipeline.stages.len());
    for stage in &pipeline.stages {
        stages.push(match stage {
            Stage::Spansets(e) => PipeStage::Spansets(spans(e, fields, filters)?),
            Stage::GroupBy(e) => PipeStage::GroupBy(compiled::row(e, fields)?, format!("by({e})").into()),
            Stage::Coalesce => PipeStage::Coalesce,
            Stage::Select(selected) => {
                for field in selected {
                    fields.any_value(field);
                }
                continue;
            }
            Stage::Scalar(op, Scalar::Aggregate(aggregate), Scalar::Literal(literal)) => {
                let (function, operand) = match aggregate {
                    Aggregate::Count => (Function::Count, None),
                    Aggregate::Min(e) => (Function::Min, Some(e)),
                    Aggregate::Max(e) => (Function::Max, Some(e)),
                    Aggregate::Sum(e) => (Function::Sum, Some(e)),
                    Aggregate::Avg(e) => (Function::Avg, Some(e)),
                };
                PipeStage::Aggregate(AggregateStage {
                    function,
                    operand: operand.map(|e| compiled::row(e, fields)).transpose()?,
                    op: *op,
                    literal: literal.clone(),
                    name: aggregate.to_string().into(),
                })
            }
            Stage::Scalar(..) => {
                return Err(EvalError::Unsupported(
                    "scalar filters compare an aggregate with a number".into(),
                ));
            }
        });
    }
    Ok(Pipe { stages })
}

fn spans(e: &SpansetExpr, fields: &mut Fields, filters: &mut Vec<Predicate>) -> Result<Spans, EvalError> {
    Ok(match e {
        SpansetExpr::Filter(e) => {
            let predicate = compiled::filter(e, fields)?;
            filters.push(predicate);
            Spans::Filter(filters.len() - 1)
        }
        SpansetExpr::Pipeline(p) => Spans::Pipe(pipe(p, fields, filters)?),
        SpansetExpr::Op(op, left, right) => {
            let left = spans(left, fields, filters)?;
            let right = spans(right, fields, filters)?;
            Spans::Op(*op, Box::new(left), Box::new(right))
        }
    })
}

impl Pipe {
    /// A quick look: `false` only if no spanset can come out.
    fn possible(&self, view: &View<'_>, rows: &Range<usize>) -> bool {
        match self.stages.first() {
            Some(PipeStage::Spansets(spans)) => spans.possible(view, rows),
            _ => true,
        }
    }

    fn run(&self, view: &View<'_>, trace: usize, rows: &Rows<'_>) -> Result<Vec<Spanset>, EvalError> {
        let mut stages = self.stages.iter();
        let mut sets = match self.stages.first() {
            Some(PipeStage::Spansets(spans)) => {
                stages.next();
                spans.run(view, trace, rows)?
            }
            _ => {
                let rows = match rows {
                    Rows::All(range) => range.clone().map(|r| r as u32).collect(),
                    Rows::Some(rows) => rows.to_vec(),
                };
                vec![Spanset { rows, attributes: Vec::new() }]
            }
        };
        for stage in stages {
            if sets.is_empty() {
                break;
            }
            sets = stage.run(view, trace, sets)?;
        }
        Ok(sets)
    }
}

impl PipeStage {
    fn run(&self, view: &View<'_>, trace: usize, sets: Vec<Spanset>) -> Result<Vec<Spanset>, EvalError> {
        match self {
            Self::Spansets(Spans::Filter(filter)) => {
                let selection = view.selection(*filter);
                let mut sets = sets;
                for set in &mut sets {
                    set.rows.retain(|r| selection.value(*r as usize));
                }
                sets.retain(|s| !s.rows.is_empty());
                Ok(sets)
            }
            Self::Spansets(spans) => match sets.as_slice() {
                [set] => spans.run(view, trace, &Rows::Some(&set.rows)),
                _ => Err(EvalError::MultipleSpansets),
            },
            Self::GroupBy(e, name) => Ok(group(view, e, name, sets)),
            Self::Coalesce => {
                let mut rows: Vec<u32> = sets.into_iter().flat_map(|s| s.rows).collect();
                rows.sort_unstable();
                rows.dedup();
                Ok(vec![Spanset { rows, attributes: Vec::new() }])
            }
            Self::Aggregate(stage) => Ok(stage.run(view, sets)),
        }
    }
}

fn group(view: &View<'_>, e: &RowExpr, name: &Arc<str>, sets: Vec<Spanset>) -> Vec<Spanset> {
    let mut out: Vec<Spanset> = Vec::new();
    for set in sets {
        let mut groups: hashbrown::HashMap<Value, usize> = hashbrown::HashMap::new();
        for row in &set.rows {
            let value = filter::value(view, e, *row as usize, None).to_value();
            let at = *groups.entry(value.clone()).or_insert_with(|| {
                let mut attributes = set.attributes.clone();
                attributes.push((Arc::clone(name), value));
                out.push(Spanset { rows: Vec::new(), attributes });
                out.len() - 1
            });
            out[at].rows.push(*row);
        }
    }
    out
}

impl AggregateStage {
    fn run(&self, view: &View<'_>, mut sets: Vec<Spanset>) -> Vec<Spanset> {
        sets.retain_mut(|set| {
            let Some(value) = self.aggregate(view, &set.rows) else { return false };
            let keep = scalar::compare(self.op, &value, &self.literal.borrow());
            if keep {
                set.attributes.push((Arc::clone(&self.name), value.to_value()));
            }
            keep
        });
        sets
    }

    /// `None` when no span has a number.
    fn aggregate(&self, view: &View<'_>, rows: &[u32]) -> Option<ValueRef<'static>> {
        let Some(operand) = &self.operand else { return Some(ValueRef::Int(rows.len() as i64)) };
        let mut total: Option<ValueRef<'static>> = None;
        let mut count = 0;
        for row in rows {
            let value = filter::value(view, operand, *row as usize, None);
            if value.as_number().is_none() {
                continue;
            }
            count += 1;
            total = Some(match total {
                None => value.detached(),
                Some(total) => match self.function {
                    Function::Min if scalar::compare(BinaryOp::Lt, &value, &total) => value.detached(),
                    Function::Max if scalar::compare(BinaryOp::Gt, &value, &total) => value.detached(),
                    Function::Sum | Function::Avg => scalar::arithmetic(BinaryOp::Add, &total, &value)?,
                    _ => total,
                },
            });
        }
        match (self.function, total?) {
            (Function::Avg, ValueRef::Duration(d)) => Some(ValueRef::Duration(d / count)),
            (Function::Avg, total) => Some(ValueRef::Float(total.as_number()? / count as f64)),
            (_, total) => Some(total),
        }
    }
}

impl Spans {
    fn possible(&self, view: &View<'_>, rows: &Range<usize>) -> bool {
        match self {
            Self::Filter(filter) => bits::any(view.selection(*filter), rows.start, rows.end),
            Self::Pipe(pipe) => pipe.possible(view, rows),
            Self::Op(SpansetOp::Or, left, right) => left.possible(view, rows) || right.possible(view, rows),
            Self::Op(SpansetOp::Structural { negated: true, .. }, _, right) => right.possible(view, rows),
            Self::Op(_, left, right) => left.possible(view, rows) && right.possible(view, rows),
        }
    }

    fn run(&self, view: &View<'_>, trace: usize, rows: &Rows<'_>) -> Result<Vec<Spanset>, EvalError> {
        match self {
            Self::Pipe(pipe) => pipe.run(view, trace, rows),
            _ => {
                let rows = self.rows(view, trace, rows)?;
                Ok(if rows.is_empty() { Vec::new() } else { vec![Spanset { rows, attributes: Vec::new() }] })
            }
        }
    }

    /// The one spanset of an operand.
    fn rows(&self, view: &View<'_>, trace: usize, rows: &Rows<'_>) -> Result<Vec<u32>, EvalError> {
        match self {
            Self::Filter(filter) => Ok(rows.choose(view.selection(*filter))),
            Self::Pipe(pipe) => {
                let mut sets = pipe.run(view, trace, rows)?;
                match sets.len() {
                    0 => Ok(Vec::new()),
                    1 => Ok(sets.remove(0).rows),
                    _ => Err(EvalError::MultipleSpansets),
                }
            }
            Self::Op(op, left, right) => {
                let left = left.rows(view, trace, rows)?;
                let right = right.rows(view, trace, rows)?;
                Ok(combine(view, trace, *op, left, right))
            }
        }
    }
}

fn combine(view: &View<'_>, trace: usize, op: SpansetOp, left: Vec<u32>, right: Vec<u32>) -> Vec<u32> {
    match op {
        SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
        SpansetOp::And | SpansetOp::Or => union(left, right),
        SpansetOp::Structural { .. } if right.is_empty() => Vec::new(),
        SpansetOp::Structural { negated, .. } if left.is_empty() => {
            if negated {
                right
            } else {
                Vec::new()
            }
        }
        SpansetOp::Structural { relation, negated, union: both } => {
            let tree = view.tree(trace);
            let range = view.batch.trace_rows(trace);
            let marks = |rows: &[u32]| {
                let mut marks = vec![false; range.len()];
                for row in rows {
                    marks[*row as usize - range.start] = true;
                }
                marks
            };
            let keep = |rows: &[u32], related: &[bool]| {
                rows.iter()
                    .copied()
                    .filter(|r| related[*r as usize - range.start] != negated)
                    .collect::<Vec<_>>()
            };
            let found = keep(&right, &tree.related(relation, &marks(&left)));
            if !both {
                return found;
            }
            let inverse = match relation {
                Relation::Child => Relation::Parent,
                Relation::Parent => Relation::Child,
                Relation::Descendant => Relation::Ancestor,
                Relation::Ancestor => Relation::Descendant,
                Relation::Sibling => Relation::Sibling,
            };
            union(keep(&left, &tree.related(inverse, &marks(&right))), found)
        }
    }
}

fn union(mut left: Vec<u32>, right: Vec<u32>) -> Vec<u32> {
    left.extend(right);
    left.sort_unstable();
    left.dedup();
    left
}
