//! What is done with finished series: second stages, and the order of the answer.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::TimeSeries;
use crate::ast::SecondStage;
use crate::eval::scalar;
use crate::value::{Value, ValueRef};

/// Applies `topk`, `bottomk` or a comparison.
pub(super) fn second_stage(stage: &SecondStage, series: &mut Vec<TimeSeries>) {
    match stage {
        SecondStage::TopK(n) => keep_best(series, *n, true),
        SecondStage::BottomK(n) => keep_best(series, *n, false),
        SecondStage::Filter(op, literal) => {
            let literal = ValueRef::Float(super::seconds(&literal.borrow()).unwrap_or(f64::NAN));
            let passes = |v: f64| scalar::compare(*op, &ValueRef::Float(v), &literal);
            for s in series.iter_mut() {
                s.samples.retain(|(_, v)| passes(*v));
                s.exemplars.retain(|e| passes(e.value));
            }
        }
    }
    series.retain(|s| !s.samples.is_empty());
}

/// Keeps, per timestamp, the samples of the `n` best series; of equals, those first in order of labels.
fn keep_best(series: &mut [TimeSeries], n: i64, top: bool) {
    sort(series);
    let n = usize::try_from(n).unwrap_or(0);
    let mut at: BTreeMap<i64, Vec<(f64, usize)>> = BTreeMap::new();
    for (i, s) in series.iter().enumerate() {
        for (stamp, v) in &s.samples {
            at.entry(*stamp).or_default().push((*v, i));
        }
    }
    for s in series.iter_mut() {
        s.samples.clear();
    }
    for (stamp, mut values) in at {
        values.sort_by(|a, b| {
            let order = if top { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) };
            order.then(a.1.cmp(&b.1))
        });
        values.truncate(n);
        for (v, i) in values {
            series[i].samples.push((stamp, v));
        }
    }
}

/// Sorts by number of labels, then names, then values.
pub(super) fn sort(series: &mut [TimeSeries]) {
    series.sort_by(|a, b| {
        let names = |s: &TimeSeries| s.labels.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>();
        a.labels.len().cmp(&b.labels.len()).then_with(|| names(a).cmp(&names(b))).then_with(|| {
            let pairs = a.labels.iter().zip(&b.labels);
            pairs.map(|((_, a), (_, b))| order(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        })
    });
}

/// A total order of label values: numbers by size, the rest by text.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a.as_number(), b.as_number()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => a.to_string().cmp(&b.to_string()),
    }
}
