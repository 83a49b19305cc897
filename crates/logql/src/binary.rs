//! Binary operations between series, and between series and numbers.

use std::collections::{HashMap, HashSet};

use crate::ast::{BinaryOp, Matching};
use crate::error::EvalError;
use crate::labels::LabelSet;
use crate::matrix::{Line, Matrix, Value};

/// Applies `op` at each of `steps` steps.
pub(crate) fn apply(
    op: BinaryOp,
    bool_modifier: bool,
    matching: Option<&Matching>,
    left: Value,
    right: Value,
    steps: usize,
) -> Result<Value, EvalError> {
    match (left, right) {
        (Value::Scalar(a), Value::Scalar(b)) => Ok(Value::Scalar(op.compute(a, b))),
        (Value::Matrix(matrix), Value::Scalar(b)) => {
            Ok(Value::Matrix(with_number(matrix, |v| combine(op, bool_modifier, v, b, v))))
        }
        (Value::Scalar(a), Value::Matrix(matrix)) => {
            Ok(Value::Matrix(with_number(matrix, |v| combine(op, bool_modifier, a, v, v))))
        }
        (Value::Matrix(left), Value::Matrix(right)) => {
            let matrix = match op {
                BinaryOp::And | BinaryOp::Unless => semi_join(left, &right, matching, op == BinaryOp::And, steps),
                BinaryOp::Or => union(left, right, matching, steps)?,
                _ => join(op, bool_modifier, matching, &left, &right, steps)?,
            };
            Ok(Value::Matrix(matrix))
        }
    }
}

/// The value for two numbers; `None` if a comparison filters it out, `kept` if it does not.
fn combine(op: BinaryOp, bool_modifier: bool, left: f64, right: f64, kept: f64) -> Option<f64> {
    match op {
        BinaryOp::Compare(compare) if !bool_modifier => compare.holds(left, right).then_some(kept),
        _ => Some(op.compute(left, right)),
    }
}

fn with_number(matrix: Matrix, value: impl Fn(f64) -> Option<f64>) -> Matrix {
    let line = |line: Line| Line {
        labels: line.labels,
        points: line.points.into_iter().filter_map(|(step, v)| Some((step, value(v)?))).collect(),
    };
    Matrix { lines: matrix.lines.into_iter().map(line).filter(|l| !l.points.is_empty()).collect(), ordered: matrix.ordered }
}

/// The labels that two series must share.
fn signature(labels: &LabelSet, matching: Option<&Matching>) -> LabelSet {
    match matching {
        None => labels.clone(),
        Some(matching) => labels.filter(|name| matching.labels.iter().any(|l| l == name) == matching.on),
    }
}

/// At which steps some series of a signature has a value.
fn presence(matrix: &Matrix, matching: Option<&Matching>, steps: usize) -> HashMap<LabelSet, Vec<bool>> {
    let mut presence: HashMap<LabelSet, Vec<bool>> = HashMap::new();
    for line in &matrix.lines {
        let present = presence.entry(signature(&line.labels, matching)).or_insert_with(|| vec![false; steps]);
        line.points.iter().for_each(|(step, _)| present[*step as usize] = true);
    }
    presence
}

/// The points of `left` for which `right` has (or has not) a match.
fn semi_join(left: Matrix, right: &Matrix, matching: Option<&Matching>, wanted: bool, steps: usize) -> Matrix {
    let presence = presence(right, matching, steps);
    let mut lines = left.lines;
    for line in &mut lines {
        let present = presence.get(&signature(&line.labels, matching));
        line.points.retain(|(step, _)| present.is_some_and(|p| p[*step as usize]) == wanted);
    }
    lines.retain(|line| !line.points.is_empty());
    Matrix { lines, ordered: false }
}

fn union(left: Matrix, right: Matrix, matching: Option<&Matching>, steps: usize) -> Result<Matrix, EvalError> {
    let rest = semi_join(right, &left, matching, false, steps);
    Matrix::from_lines(left.lines.into_iter().chain(rest.lines).collect())
}

/// Arithmetic and comparisons of matching series.
fn join(
    op: BinaryOp,
    bool_modifier: bool,
    matching: Option<&Matching>,
    left: &Matrix,
    right: &Matrix,
    steps: usize,
) -> Result<Matrix, EvalError> {
    let group = matching.and_then(|m| m.group.as_ref());
    // With `group_right` the many stand on the right.
    let swapped = group.is_some_and(|g| !g.left);
    let (many, one) = if swapped { (right, left) } else { (left, right) };

    let mut ones: HashMap<LabelSet, Vec<Option<(usize, f64)>>> = HashMap::new();
    for (i, line) in one.lines.iter().enumerate() {
        let sig = signature(&line.labels, matching);
        let column = ones.entry(sig).or_insert_with(|| vec![None; steps]);
        for (step, value) in &line.points {
            if column[*step as usize].replace((i, *value)).is_some() {
                let side = if swapped { "left" } else { "right" };
                return Err(EvalError::Matching(format!(
                    "found duplicate series on the {side} hand-side;many-to-many matching not allowed: matching labels must be unique on one side"
                )));
            }
        }
    }

    let mut out: HashMap<LabelSet, Vec<(u32, f64)>> = HashMap::new();
    let mut matched: HashSet<(LabelSet, u32)> = HashSet::new();
    for line in &many.lines {
        let sig = signature(&line.labels, matching);
        let Some(column) = ones.get(&sig) else { continue };
        for (step, value) in &line.points {
            let Some((partner, other)) = column[*step as usize] else { continue };
            let (a, b) = if swapped { (other, *value) } else { (*value, other) };
            let Some(result) = combine(op, bool_modifier, a, b, a) else { continue };
            let labels = match group {
                None => sig.clone(),
                Some(group) => group.include.iter().fold(line.labels.clone(), |labels, name| {
                    labels.with(name, one.lines[partner].labels.get(name).unwrap_or_default())
                }),
            };
            if !matched.insert((labels.clone(), *step)) {
                return Err(EvalError::Matching(if group.is_none() {
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".to_owned()
                } else {
                    "multiple matches for labels: grouping labels must ensure unique matches".to_owned()
                }));
            }
            out.entry(labels).or_default().push((*step, result));
        }
    }
    let mut lines: Vec<Line> = out.into_iter().map(|(labels, points)| Line { labels, points }).collect();
    lines.iter_mut().for_each(|line| line.points.sort_by_key(|(step, _)| *step));
    Ok(Matrix { lines, ordered: false })
}
