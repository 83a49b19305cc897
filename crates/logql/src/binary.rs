//! Binary operations between series, and between series and numbers.

use std::collections::{HashMap, HashSet};

use crate::ast::{BinaryOp, Matching};
use crate::error::EvalError;
use crate::labels::LabelSet;
use crate::matrix::{Line, Matrix, Value};

/// Applies `op` at each step.
pub(crate) fn apply(
    op: BinaryOp,
    bool_modifier: bool,
    matching: Option<&Matching>,
    left: Value,
    right: Value,
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
                BinaryOp::And | BinaryOp::Unless => semi_join(left, &right, matching, op == BinaryOp::And),
                BinaryOp::Or => union(left, right, matching)?,
                _ => join(op, bool_modifier, matching, &left, &right)?,
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
    Matrix {
        lines: matrix.lines.into_iter().map(line).filter(|l| !l.points.is_empty()).collect(),
        ordered: matrix.ordered,
    }
}

/// The labels that two series must share.
fn signature(labels: &LabelSet, matching: Option<&Matching>) -> LabelSet {
    match matching {
        None => labels.clone(),
        Some(matching) => labels.filter(|name| matching.labels.iter().any(|l| l == name) == matching.on),
    }
}

/// At which steps some series of a signature has a value, ascending.
fn presence(matrix: &Matrix, matching: Option<&Matching>) -> HashMap<LabelSet, Vec<u32>> {
    let mut presence: HashMap<LabelSet, Vec<u32>> = HashMap::new();
    for line in &matrix.lines {
        let steps = presence.entry(signature(&line.labels, matching)).or_default();
        steps.extend(line.points.iter().map(|(step, _)| *step));
    }
    for steps in presence.values_mut() {
        steps.sort_unstable();
        steps.dedup();
    }
    presence
}

/// The points of `left` for which `right` has (or has not) a match.
fn semi_join(left: Matrix, right: &Matrix, matching: Option<&Matching>, wanted: bool) -> Matrix {
    let presence = presence(right, matching);
    let mut lines = left.lines;
    for line in &mut lines {
        let present = presence.get(&signature(&line.labels, matching));
        line.points
            .retain(|(step, _)| present.is_some_and(|steps| steps.binary_search(step).is_ok()) == wanted);
    }
    lines.retain(|line| !line.points.is_empty());
    Matrix { lines, ordered: false }
}

fn union(left: Matrix, right: Matrix, matching: Option<&Matching>) -> Result<Matrix, EvalError> {
    let rest = semi_join(right, &left, matching, false);
    Matrix::from_lines(left.lines.into_iter().chain(rest.lines).collect())
}

/// Arithmetic and comparisons of matching series.
fn join(
    op: BinaryOp,
    bool_modifier: bool,
    matching: Option<&Matching>,
    left: &Matrix,
    right: &Matrix,
) -> Result<Matrix, EvalError> {
    let group = matching.and_then(|m| m.group.as_ref());
    // With `group_right` the many stand on the right.
    let swapped = group.is_some_and(|g| !g.left);
    let (many, one) = if swapped { (right, left) } else { (left, right) };

    // Step, series and value of the side with one, by signature; ascending.
    let mut ones: HashMap<LabelSet, Vec<(u32, usize, f64)>> = HashMap::new();
    for (i, line) in one.lines.iter().enumerate() {
        let points = ones.entry(signature(&line.labels, matching)).or_default();
        points.extend(line.points.iter().map(|(step, value)| (*step, i, *value)));
    }
    for points in ones.values_mut() {
        points.sort_unstable_by_key(|(step, ..)| *step);
        if points.windows(2).any(|w| w[0].0 == w[1].0) {
            let side = if swapped { "left" } else { "right" };
            return Err(EvalError::Matching(format!(
                "found duplicate series on the {side} hand-side;many-to-many matching not allowed: matching labels must be \
                 unique on one side"
            )));
        }
    }

    let mut out: HashMap<LabelSet, Vec<(u32, f64)>> = HashMap::new();
    let mut matched: HashSet<(LabelSet, u32)> = HashSet::new();
    for line in &many.lines {
        let sig = signature(&line.labels, matching);
        let Some(partners) = ones.get(&sig) else { continue };
        for (step, value) in &line.points {
            let Ok(found) = partners.binary_search_by_key(step, |(step, ..)| *step) else { continue };
            let (_, partner, other) = partners[found];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::{CompareOp, GroupModifier};

    fn matrix(lines: &[(&[(&str, &str)], f64)]) -> Value {
        let line = |(labels, value): &(&[(&str, &str)], f64)| Line {
            labels: LabelSet::from_pairs(labels.iter().copied()),
            points: vec![(0, *value), (2, *value)],
        };
        Value::Matrix(Matrix { lines: lines.iter().map(line).collect(), ordered: false })
    }

    fn check(
        op: BinaryOp,
        matching: Option<&Matching>,
        left: Value,
        right: Value,
        want: Result<&[&str], &str>,
    ) {
        let shown = apply(op, false, matching, left, right).map(|value| {
            let Value::Matrix(matrix) = value else { panic!("a matrix was expected") };
            let mut lines: Vec<String> =
                matrix.lines.iter().map(|l| format!("{} {}", l.labels, l.points[0].1)).collect();
            lines.sort();
            lines
        });
        match (shown, want) {
            (Ok(lines), Ok(want)) => assert_eq!(lines, want, "{op:?} {matching:?}"),
            (Err(e), Err(want)) => assert!(e.to_string().contains(want), "{e}"),
            (shown, want) => panic!("{shown:?} instead of {want:?}"),
        }
    }

    #[test]
    fn matching_rules() {
        let a: &[(&str, &str)] = &[("x", "1"), ("y", "a")];
        let b: &[(&str, &str)] = &[("x", "1"), ("y", "b")];
        let x: &[(&str, &str)] = &[("x", "1"), ("z", "q")];
        let on = |group| Matching { on: true, labels: vec!["x".into()], group };
        let left = Some(GroupModifier { left: true, include: vec!["z".into()] });
        let right = Some(GroupModifier { left: false, include: vec![] });
        let two = || matrix(&[(a, 6.0), (b, 8.0)]);
        let one = || matrix(&[(x, 2.0)]);
        check(BinaryOp::Div, Some(&on(None)), matrix(&[(a, 6.0)]), one(), Ok(&[r#"{x="1"} 3"#]));
        check(BinaryOp::Div, None, matrix(&[(a, 6.0)]), one(), Ok(&[]));
        check(BinaryOp::Div, Some(&on(None)), two(), one(), Err("multiple matches"));
        check(BinaryOp::Div, Some(&on(None)), one(), two(), Err("duplicate series on the right"));
        check(
            BinaryOp::Div,
            Some(&on(left)),
            two(),
            one(),
            Ok(&[r#"{x="1", y="a", z="q"} 3"#, r#"{x="1", y="b", z="q"} 4"#]),
        );
        check(
            BinaryOp::Sub,
            Some(&on(right)),
            one(),
            two(),
            Ok(&[r#"{x="1", y="a"} -4"#, r#"{x="1", y="b"} -6"#]),
        );
        check(
            BinaryOp::And,
            Some(&on(None)),
            two(),
            one(),
            Ok(&[r#"{x="1", y="a"} 6"#, r#"{x="1", y="b"} 8"#]),
        );
        check(BinaryOp::Unless, Some(&on(None)), two(), one(), Ok(&[]));
        check(BinaryOp::Or, Some(&on(None)), one(), two(), Ok(&[r#"{x="1", z="q"} 2"#]));
        check(
            BinaryOp::Or,
            None,
            one(),
            matrix(&[(a, 6.0)]),
            Ok(&[r#"{x="1", y="a"} 6"#, r#"{x="1", z="q"} 2"#]),
        );
        let greater = BinaryOp::Compare(CompareOp::Greater);
        check(greater, Some(&on(None)), matrix(&[(a, 6.0)]), one(), Ok(&[r#"{x="1"} 6"#]));
        check(greater, None, Value::Scalar(7.0), two(), Ok(&[r#"{x="1", y="a"} 6"#]));
        check(
            BinaryOp::Mod,
            None,
            two(),
            Value::Scalar(0.0),
            Ok(&[r#"{x="1", y="a"} NaN"#, r#"{x="1", y="b"} NaN"#]),
        );
    }
}
