//! Runs a query over batches in many ways that must all give the same answer.

use std::sync::Arc;

use arrow_array::{Array, MapArray, StringArray, UInt32Array};
use arrow_select::take::take;
use logql::{
    Categories, EntryBatch, EntryFilter, EvalError, Expr, LogParams, LogQuery, Metadata, MetricLimits,
    MetricParams, MetricQuery, QueryResult, ResultStream,
};
use shred::{Columns, Lines, ShreddedLines};

/// The batch with its lines taken apart.
pub(crate) fn shredded(batch: &EntryBatch) -> EntryBatch {
    let Lines::Text(lines) = &batch.lines else { panic!("lines are texts") };
    EntryBatch { lines: Lines::Shredded(shred::shred_all(lines)), ..batch.clone() }
}

/// Some rows of a batch.
pub(crate) fn rows(batch: &EntryBatch, rows: &[u32]) -> EntryBatch {
    let rows = UInt32Array::from(rows.to_vec());
    let of = |array: &dyn Array| take(array, &rows, None).unwrap();
    let text = |array: &StringArray| of(array).as_any().downcast_ref::<StringArray>().unwrap().clone();
    EntryBatch {
        labels: batch.labels.clone(),
        timestamps: of(&batch.timestamps).as_any().downcast_ref().cloned().unwrap(),
        lines: match &batch.lines {
            Lines::Absent => Lines::Absent,
            Lines::Text(lines) => Lines::Text(text(lines)),
            Lines::Shredded(lines) => Lines::Shredded(lines.take(&rows).unwrap()),
        },
        metadata: Metadata {
            columns: batch.metadata.columns.iter().map(|(n, v)| (n.clone(), text(v))).collect(),
            rest: batch
                .metadata
                .rest
                .as_ref()
                .map(|m| of(m).as_any().downcast_ref::<MapArray>().unwrap().clone()),
        },
    }
}

fn slice(batch: &EntryBatch, from: usize, count: usize) -> EntryBatch {
    EntryBatch {
        labels: batch.labels.clone(),
        timestamps: batch.timestamps.slice(from, count),
        lines: match &batch.lines {
            Lines::Absent => Lines::Absent,
            Lines::Text(lines) => Lines::Text(lines.slice(from, count)),
            Lines::Shredded(lines) => Lines::Shredded(lines.slice(from, count)),
        },
        metadata: Metadata {
            columns: batch.metadata.columns.iter().map(|(n, v)| (n.clone(), v.slice(from, count))).collect(),
            rest: batch.metadata.rest.as_ref().map(|m| m.slice(from, count)),
        },
    }
}

/// What a source reads when it is asked for these columns.
fn restricted(batch: &EntryBatch, columns: &Columns) -> EntryBatch {
    let Lines::Shredded(lines) = &batch.lines else { return batch.clone() };
    let lines = match columns {
        Columns::All => Lines::Shredded(lines.clone()),
        Columns::Nothing => Lines::Absent,
        Columns::Some { fields, rest, raw } => Lines::Shredded(ShreddedLines {
            fields: (0..lines.fields.len())
                .map(|at| lines.fields[at].clone().filter(|_| fields.iter().any(|f| f.0 as usize == at)))
                .collect(),
            rest: lines.rest.clone().filter(|_| *rest),
            raw: lines.raw.clone().filter(|_| *raw),
            table: Arc::clone(&lines.table),
            shapes: lines.shapes.clone(),
        }),
    };
    EntryBatch { lines, ..batch.clone() }
}

/// How a query is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One batch per stream.
    Whole,
    /// Small batches, fed to parts that are merged.
    Pieces,
    /// Few columns first, then the rows that are left.
    Screened,
}

pub(crate) const WAYS: [Way; 3] = [Way::Whole, Way::Pieces, Way::Screened];

fn pieces(batch: &EntryBatch) -> Vec<EntryBatch> {
    let mut out = Vec::new();
    let mut at = 0;
    for size in (1..8).cycle() {
        if at >= batch.len() {
            return out;
        }
        let count = size.min(batch.len() - at);
        out.push(slice(batch, at, count));
        at += count;
    }
    out
}

pub(crate) fn log(batches: &[EntryBatch], query: &str, params: LogParams, way: Way) -> Vec<ResultStream> {
    let Ok(Expr::Log(expr)) = logql::parse(query) else { panic!("{query}") };
    let mut whole = LogQuery::new(&expr, params).unwrap();
    let matchers = whole.matchers().to_vec();
    for batch in batches.iter().filter(|b| matchers.iter().all(|m| m.matches_labels(&b.labels))) {
        match way {
            Way::Whole => whole.push(batch).unwrap(),
            Way::Pieces => {
                for piece in pieces(batch) {
                    let mut part = whole.fork();
                    part.push(&piece).unwrap();
                    whole.merge(part).unwrap();
                }
            }
            Way::Screened => {
                let Lines::Shredded(lines) = &batch.lines else { panic!("only shredded lines are screened") };
                let columns = whole.screen_columns(&lines.table).unwrap_or(Columns::Nothing);
                let few = match columns {
                    Columns::Nothing => batch.clone(),
                    columns => {
                        let mut few = restricted(batch, &columns);
                        few.metadata.columns.retain(|(name, _)| whole.screen_metadata().wants(name));
                        few
                    }
                };
                let left = whole.screen(&few);
                whole.push(&rows(batch, &left)).unwrap();
            }
        }
    }
    whole.finish(Categories::Separate)
}

pub(crate) fn metric(
    batches: &[EntryBatch],
    query: &str,
    params: MetricParams,
    way: Way,
) -> Result<QueryResult, EvalError> {
    let Ok(Expr::Metric(expr)) = logql::parse(query) else { panic!("{query}") };
    let mut whole = MetricQuery::new(&expr, params, MetricLimits::default())?;
    for at in 0..whole.leaves().len() {
        let matchers = whole.leaves()[at].matchers.clone();
        for batch in batches.iter().filter(|b| matchers.iter().all(|m| m.matches_labels(&b.labels))) {
            match way {
                Way::Whole => whole.push(at, batch)?,
                Way::Pieces => {
                    for piece in pieces(batch) {
                        let mut part = whole.fork();
                        part.push(at, &piece)?;
                        whole.merge(part)?;
                    }
                }
                Way::Screened => {
                    let Lines::Shredded(lines) = &batch.lines else {
                        panic!("only shredded lines are screened")
                    };
                    match whole.screen_columns(at, &lines.table) {
                        None => whole.push(at, &restricted(batch, &whole.columns(at, &lines.table)))?,
                        Some(columns) => {
                            let left = whole.screen(at, &restricted(batch, &columns))?;
                            whole.push(at, &rows(batch, &left))?;
                        }
                    }
                }
            }
        }
    }
    whole.finish()
}

/// The rows that pass a selector's pipeline.
pub(crate) fn passing(batch: &EntryBatch, query: &str) -> Vec<u32> {
    let Ok(Expr::Log(expr)) = logql::parse(query) else { panic!("{query}") };
    EntryFilter::new(&expr).unwrap().rows(batch)
}

/// Whether two answers are the same, but for the last bits of sums.
pub(crate) fn same(a: &Result<QueryResult, EvalError>, b: &Result<QueryResult, EvalError>) -> bool {
    let close =
        |a: f64, b: f64| a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) || a.is_nan() && b.is_nan();
    match (a, b) {
        (Err(EvalError::Pipeline { .. }), Err(EvalError::Pipeline { .. })) => true,
        (Err(a), Err(b)) => a == b,
        (Ok(QueryResult::Vector(a)), Ok(QueryResult::Vector(b))) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.labels == b.labels && close(a.value, b.value))
        }
        (Ok(QueryResult::Matrix(a)), Ok(QueryResult::Matrix(b))) => {
            let points = |a: &[(i64, f64)], b: &[(i64, f64)]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && close(a.1, b.1))
            };
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.labels == b.labels && points(&a.points, &b.points))
        }
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
