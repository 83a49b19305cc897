//! Aggregations across series.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::ast::{Grouping, VectorOp};
use crate::labels::LabelSet;
use crate::matrix::{Line, Matrix};

/// The labels of the group that a series belongs to.
fn group(labels: &LabelSet, grouping: Option<&Grouping>) -> LabelSet {
    match grouping {
        None => LabelSet::default(),
        Some(grouping) => labels.filter(|name| grouping.labels.iter().any(|l| l == name) != grouping.without),
    }
}

/// Applies the aggregation at each of `steps` steps.
pub(crate) fn aggregate(
    op: VectorOp,
    parameter: Option<usize>,
    grouping: Option<&Grouping>,
    input: Matrix,
    steps: usize,
) -> Matrix {
    match op {
        VectorOp::Sort | VectorOp::SortDesc => return sort(input, op == VectorOp::SortDesc),
        VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk => {
            return select(input, parameter.unwrap_or(1), op == VectorOp::Bottomk, grouping, steps);
        }
        _ => {}
    }
    let mut places: HashMap<LabelSet, usize> = HashMap::new();
    let mut groups: Vec<(LabelSet, Vec<(u32, Aggregate)>)> = Vec::new();
    for line in input.lines {
        let labels = group(&line.labels, grouping);
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            groups.push((labels, Vec::new()));
            groups.len() - 1
        });
        add(&mut groups[place].1, &line.points);
    }
    let line = |(labels, aggregates): (LabelSet, Vec<(u32, Aggregate)>)| Line {
        labels,
        points: aggregates.into_iter().map(|(step, a)| (step, a.value(op))).collect(),
    };
    Matrix { lines: groups.into_iter().map(line).collect(), ordered: false }
}

/// Adds the points of a series to those of its group; both ascend.
fn add(group: &mut Vec<(u32, Aggregate)>, points: &[(u32, f64)]) {
    let mut at = 0;
    for (step, value) in points {
        while group.get(at).is_some_and(|(s, _)| s < step) {
            at += 1;
        }
        if group.get(at).is_none_or(|(s, _)| s != step) {
            group.insert(at, (*step, Aggregate::default()));
        }
        group[at].1.add(*value);
    }
}

/// Everything the plain aggregations need, of one group and step.
#[derive(Debug, Clone, Default)]
struct Aggregate {
    count: u64,
    sum: f64,
    mean: f64,
    squares: f64,
    min: f64,
    max: f64,
}

impl Aggregate {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        let delta = value - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (value - self.mean);
        if self.count == 1 || self.min.is_nan() || value < self.min {
            self.min = value;
        }
        if self.count == 1 || self.max.is_nan() || value > self.max {
            self.max = value;
        }
    }

    fn value(&self, op: VectorOp) -> f64 {
        let variance = self.squares / self.count as f64;
        match op {
            VectorOp::Avg if self.sum.is_infinite() && self.mean.is_finite() => self.mean,
            VectorOp::Avg => self.sum / self.count as f64,
            VectorOp::Min => self.min,
            VectorOp::Max => self.max,
            VectorOp::Count => self.count as f64,
            VectorOp::Stdvar => variance,
            VectorOp::Stddev => variance.sqrt(),
            _ => self.sum,
        }
    }
}

/// NaN last, whichever the direction.
fn compare(a: f64, b: f64, descending: bool) -> Ordering {
    let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    a.is_nan().cmp(&b.is_nan()).then(if descending { order.reverse() } else { order })
}

/// Orders the series of an instant query by value.
fn sort(mut input: Matrix, descending: bool) -> Matrix {
    input.lines.sort_by(|a, b| a.labels.cmp(&b.labels));
    let value = |line: &Line| line.points.first().map_or(f64::NAN, |(_, v)| *v);
    input.lines.sort_by(|a, b| compare(value(a), value(b), descending));
    input.ordered = true;
    input
}

/// The k greatest (or least) of each group at each step; they keep their labels.
fn select(mut input: Matrix, k: usize, least: bool, grouping: Option<&Grouping>, steps: usize) -> Matrix {
    input.lines.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut groups: HashMap<LabelSet, Vec<usize>> = HashMap::new();
    for (i, line) in input.lines.iter().enumerate() {
        groups.entry(group(&line.labels, grouping)).or_default().push(i);
    }
    let mut kept: Vec<Vec<(u32, f64)>> = vec![Vec::new(); input.lines.len()];
    for members in groups.into_values() {
        let mut columns: Vec<Vec<(f64, usize)>> = vec![Vec::new(); steps];
        for i in members {
            for (step, value) in &input.lines[i].points {
                columns[*step as usize].push((*value, i));
            }
        }
        for (step, mut column) in (0..).zip(columns) {
            column.sort_by(|(a, _), (b, _)| compare(*a, *b, !least));
            for (value, i) in column.into_iter().take(k) {
                kept[i].push((step, value));
            }
        }
    }
    let lines = input.lines.into_iter().zip(kept).filter(|(_, points)| !points.is_empty());
    let mut out = Matrix {
        lines: lines.map(|(line, points)| Line { labels: line.labels, points }).collect(),
        ordered: false,
    };
    if steps == 1 {
        // An instant answer is ordered by value, as the reference does.
        out = sort(out, !least);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(values: &[(&str, f64)]) -> Matrix {
        let line = |(x, v): &(&str, f64)| Line {
            labels: LabelSet::from_pairs([("x", *x), ("y", "1")]),
            points: vec![(0, *v)],
        };
        Matrix { lines: values.iter().map(line).collect(), ordered: false }
    }

    fn values(matrix: &Matrix) -> Vec<(String, f64)> {
        matrix.lines.iter().map(|l| (l.labels.to_string(), l.points[0].1)).collect()
    }

    #[test]
    fn plain_aggregations() {
        let check = |op, want: f64| {
            let out = aggregate(op, None, None, matrix(&[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)]), 1);
            assert_eq!(values(&out), [("{}".to_owned(), want)], "{op:?}");
        };
        check(VectorOp::Sum, 10.0);
        check(VectorOp::Avg, 2.5);
        check(VectorOp::Min, 1.0);
        check(VectorOp::Max, 4.0);
        check(VectorOp::Count, 4.0);
        check(VectorOp::Stdvar, 1.25);
    }

    #[test]
    fn grouping_and_selection() {
        let by = Grouping { without: false, labels: vec!["x".into(), "z".into()] };
        let out = aggregate(VectorOp::Sum, None, Some(&by), matrix(&[("a", 1.0), ("b", 2.0)]), 1);
        assert_eq!(values(&out), [(r#"{x="a"}"#.to_owned(), 1.0), (r#"{x="b"}"#.to_owned(), 2.0)]);
        let input = matrix(&[("a", 1.0), ("b", f64::NAN), ("c", 3.0)]);
        let top = aggregate(VectorOp::Topk, Some(2), None, input.clone(), 1);
        assert_eq!(values(&top).iter().map(|(_, v)| *v).collect::<Vec<_>>(), [3.0, 1.0]);
        let sorted = aggregate(VectorOp::Sort, None, None, input, 1);
        assert!(sorted.lines[2].points[0].1.is_nan() && sorted.ordered);
    }
}
