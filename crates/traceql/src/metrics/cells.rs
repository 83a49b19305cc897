//! The numbers of one series while it is counted: one cell per interval.

use std::collections::BTreeMap;

use crate::value::ValueRef;

/// What kind of numbers a function needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellKind {
    Count,
    Min,
    Max,
    /// Sum and count.
    Sum,
    /// Counts per power-of-two bucket.
    Buckets,
}

/// Numbers per interval.
#[derive(Debug)]
pub(super) enum Cells {
    Count(Vec<u64>),
    /// NaN where there was nothing.
    Extreme(Vec<f64>, CellKind),
    Sum(Vec<(f64, u64)>),
    /// By the bucket's exponent; and whether the values are durations.
    Buckets(BTreeMap<u8, Vec<u64>>, bool),
}

impl Cells {
    pub(super) fn new(kind: CellKind, intervals: usize) -> Self {
        match kind {
            CellKind::Count => Self::Count(vec![0; intervals]),
            CellKind::Min | CellKind::Max => Self::Extreme(vec![f64::NAN; intervals], kind),
            CellKind::Sum => Self::Sum(vec![(0.0, 0); intervals]),
            CellKind::Buckets => Self::Buckets(BTreeMap::new(), false),
        }
    }

    /// Adds a span; the cells that this made.
    pub(super) fn add(&mut self, interval: usize, intervals: usize, sample: Sample) -> usize {
        match (self, sample) {
            (Self::Count(cells), _) => cells[interval] += 1,
            (Self::Extreme(cells, kind), Sample::Number(v)) => {
                cells[interval] = extreme(*kind, cells[interval], v);
            }
            (Self::Sum(cells), Sample::Number(v)) => {
                cells[interval].0 += v;
                cells[interval].1 += 1;
            }
            (Self::Buckets(buckets, durations), Sample::Bucket { exponent, duration }) => {
                *durations |= duration;
                let before = buckets.len();
                buckets.entry(exponent).or_insert_with(|| vec![0; intervals])[interval] += 1;
                return (buckets.len() - before) * intervals;
            }
            _ => {}
        }
        0
    }

    /// Adds another series' numbers.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Count(mine), Self::Count(theirs)) => add_all(mine, &theirs),
            (Self::Extreme(mine, kind), Self::Extreme(theirs, _)) => {
                for (m, t) in mine.iter_mut().zip(theirs) {
                    if !t.is_nan() {
                        *m = extreme(*kind, *m, t);
                    }
                }
            }
            (Self::Sum(mine), Self::Sum(theirs)) => {
                for (m, t) in mine.iter_mut().zip(theirs) {
                    m.0 += t.0;
                    m.1 += t.1;
                }
            }
            (Self::Buckets(mine, durations), Self::Buckets(theirs, d)) => {
                *durations |= d;
                for (exponent, counts) in theirs {
                    match mine.get_mut(&exponent) {
                        Some(mine) => add_all(mine, &counts),
                        None => {
                            mine.insert(exponent, counts);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn add_all(mine: &mut [u64], theirs: &[u64]) {
    mine.iter_mut().zip(theirs).for_each(|(m, t)| *m += t);
}

fn extreme(kind: CellKind, held: f64, v: f64) -> f64 {
    if kind == CellKind::Min { held.min(v) } else { held.max(v) }
}

/// What one span adds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sample {
    One,
    Number(f64),
    Bucket { exponent: u8, duration: bool },
}

impl Sample {
    /// What a value adds to cells of this kind; `None` if nothing.
    pub(super) fn of(kind: CellKind, value: &ValueRef<'_>) -> Option<Self> {
        match kind {
            CellKind::Count => Some(Self::One),
            CellKind::Buckets => match value {
                ValueRef::Int(v) if *v >= 2 => Some(Self::Bucket { exponent: bucket(*v), duration: false }),
                ValueRef::Duration(v) if *v >= 2 => {
                    Some(Self::Bucket { exponent: bucket(*v), duration: true })
                }
                _ => None,
            },
            _ => super::seconds(value).map(Self::Number),
        }
    }
}

/// The exponent of the smallest power of two that is not below `v`, for v ≥ 2.
fn bucket(v: i64) -> u8 {
    (64 - (v - 1).leading_zeros()) as u8
}

/// The upper bound of a bucket, in seconds if it holds durations.
pub(super) fn bound(exponent: u8, durations: bool) -> f64 {
    let bound = 2f64.powi(i32::from(exponent));
    if durations { bound / 1e9 } else { bound }
}

/// The quantile of counts per bucket (bounds ascending): within a bucket it runs exponentially from the lower
/// bound, which is the bound of the last occupied bucket or half its own. 0 without counts.
pub(super) fn quantile(q: f64, buckets: &[(f64, u64)]) -> f64 {
    let total: u64 = buckets.iter().map(|(_, c)| c).sum();
    if total == 0 {
        return 0.0;
    }
    let wanted = (q * total as f64).ceil().max(1.0);
    let mut seen = 0.0;
    let mut lower = None;
    for (bound, count) in buckets.iter().copied().filter(|(_, c)| *c > 0) {
        let count = count as f64;
        if seen + count < wanted {
            seen += count;
            lower = Some(bound);
            continue;
        }
        if seen + count == wanted {
            return bound;
        }
        let lower: f64 = lower.unwrap_or(bound / 2.0);
        return lower * (bound / lower).powf((wanted - seen) / count);
    }
    lower.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two() {
        for (v, expect) in
            [(2, 1), (3, 2), (4, 2), (5, 3), (1 << 40, 40), ((1 << 40) + 1, 41), (i64::MAX, 63)]
        {
            assert_eq!(bucket(v), expect, "{v}");
        }
    }

    #[test]
    fn quantiles_run_exponentially_inside_a_bucket() {
        let buckets = [(0.016777216, 1), (0.033554432, 1), (0.067108864, 2), (0.134217728, 1)];
        for (q, expect) in [(0.5, 0.033554432 * 2f64.sqrt()), (0.8, 0.067108864), (1.0, 0.134217728)] {
            assert!((quantile(q, &buckets) - expect).abs() < 1e-12, "{q}");
        }
        assert_eq!(quantile(0.5, &[]), 0.0);
    }
}
