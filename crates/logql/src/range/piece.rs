//! Partial results of range functions: what a piece of time contributes to every window that holds it.

use crate::ast::RangeOp;

/// The partial result of the samples of one piece. It exists only if there is a sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// Entries or bytes.
    Count(u64),
    Sum(f64),
    /// Number and mean.
    Mean(u64, f64),
    Min(f64),
    Max(f64),
    /// Number, mean and sum of squared differences from it (Welford).
    Moments(u64, f64, f64),
    Values(Vec<f64>),
    First(i64, f64),
    Last(i64, f64),
    Samples(Vec<(i64, f64)>),
}

/// What a function adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Moments,
    Values,
    First,
    Last,
    Samples,
}

impl Kind {
    pub(super) fn of(op: RangeOp, unwrapped: bool) -> Self {
        match op {
            RangeOp::CountOverTime
            | RangeOp::BytesOverTime
            | RangeOp::BytesRate
            | RangeOp::AbsentOverTime => Self::Count,
            RangeOp::Rate if !unwrapped => Self::Count,
            RangeOp::Rate | RangeOp::SumOverTime => Self::Sum,
            RangeOp::AvgOverTime => Self::Mean,
            RangeOp::MinOverTime => Self::Min,
            RangeOp::MaxOverTime => Self::Max,
            RangeOp::StddevOverTime | RangeOp::StdvarOverTime => Self::Moments,
            RangeOp::QuantileOverTime => Self::Values,
            RangeOp::FirstOverTime => Self::First,
            RangeOp::LastOverTime => Self::Last,
            RangeOp::RateCounter => Self::Samples,
        }
    }

    pub(super) fn piece(self, time: i64, value: f64) -> Piece {
        match self {
            Self::Count => Piece::Count(value as u64),
            Self::Sum => Piece::Sum(value),
            Self::Mean => Piece::Mean(1, value),
            Self::Min => Piece::Min(value),
            Self::Max => Piece::Max(value),
            Self::Moments => Piece::Moments(1, value, 0.0),
            Self::Values => Piece::Values(vec![value]),
            Self::First => Piece::First(time, value),
            Self::Last => Piece::Last(time, value),
            Self::Samples => Piece::Samples(vec![(time, value)]),
        }
    }
}

impl Piece {
    /// Adds one sample.
    pub(super) fn add(&mut self, time: i64, value: f64) {
        match self {
            Self::Count(count) => *count += value as u64,
            Self::Sum(sum) => *sum += value,
            Self::Mean(count, mean) => {
                *count += 1;
                *mean = add_to_mean(*mean, value, *count as f64);
            }
            Self::Moments(count, mean, squares) => {
                *count += 1;
                let delta = value - *mean;
                *mean += delta / *count as f64;
                *squares += delta * (value - *mean);
            }
            Self::Values(values) => values.push(value),
            Self::Samples(samples) => samples.push((time, value)),
            Self::Min(min) => *min = lesser(*min, value),
            Self::Max(max) => *max = greater(*max, value),
            // Of equal times the values decide: streams of a group come in any order, and in parts.
            Self::First(first, old) if time.cmp(first).then(value.total_cmp(old)).is_lt() => {
                (*first, *old) = (time, value);
            }
            Self::Last(last, old) if time.cmp(last).then(value.total_cmp(old)).is_gt() => {
                (*last, *old) = (time, value);
            }
            Self::First(..) | Self::Last(..) => {}
        }
    }

    /// Adds the result of a later or equal piece of the same function.
    pub(super) fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) => *a += b,
            (Self::Sum(a), Self::Sum(b)) => *a += b,
            (Self::Mean(n, mean), Self::Mean(m, other)) => {
                let total = *n + m;
                *mean = if mean.is_infinite() || other.is_infinite() {
                    *mean + other
                } else {
                    *mean * (*n as f64 / total as f64) + other * (*m as f64 / total as f64)
                };
                *n = total;
            }
            (Self::Min(a), Self::Min(b)) => *a = lesser(*a, *b),
            (Self::Max(a), Self::Max(b)) => *a = greater(*a, *b),
            (Self::Moments(n, mean, squares), Self::Moments(m, mean_b, squares_b)) => {
                let (a, b) = (*n as f64, *m as f64);
                let delta = mean_b - *mean;
                *squares += squares_b + delta * delta * a * b / (a + b);
                *mean += delta * b / (a + b);
                *n += m;
            }
            (Self::Values(a), Self::Values(b)) => a.extend_from_slice(b),
            (Self::Samples(a), Self::Samples(b)) => a.extend_from_slice(b),
            (this @ Self::First(..), Self::First(time, value))
            | (this @ Self::Last(..), Self::Last(time, value)) => {
                this.add(*time, *value);
            }
            // Pieces of one leaf are of one kind.
            _ => {}
        }
    }

    /// How much it holds, for the budget.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Samples(samples) => samples.len(),
            _ => 1,
        }
    }

    /// The function's value for a window.
    pub(super) fn value(self, op: RangeOp, parameter: f64, range_seconds: f64) -> f64 {
        let rate = matches!(op, RangeOp::Rate | RangeOp::BytesRate);
        match self {
            Self::Count(count) if rate => count as f64 / range_seconds,
            Self::Count(count) => count as f64,
            Self::Sum(sum) if rate => sum / range_seconds,
            Self::Sum(value) | Self::Mean(_, value) | Self::Min(value) | Self::Max(value) => value,
            Self::Moments(count, _, squares) if op == RangeOp::StdvarOverTime => squares / count as f64,
            Self::Moments(count, _, squares) => (squares / count as f64).sqrt(),
            Self::Values(values) => quantile(parameter, values),
            Self::First(_, value) | Self::Last(_, value) => value,
            Self::Samples(samples) => counter_rate(samples, range_seconds),
        }
    }
}

/// The mean of `count` values, `value` the last of them; infinities stay what they are.
fn add_to_mean(mean: f64, value: f64, count: f64) -> f64 {
    if mean.is_infinite() {
        return if value.is_infinite() && (mean > 0.0) == (value > 0.0) || value.is_finite() {
            mean
        } else {
            mean + value
        };
    }
    mean + (value / count - mean / count)
}

fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || b < a { b } else { a }
}

fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || b > a { b } else { a }
}

/// The value at rank q·(n−1), interpolated; NaN sorts first.
fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let rank = q * (values.len() - 1) as f64;
    let (lower, weight) = (rank.floor(), rank - rank.floor());
    let upper = (lower as usize + 1).min(values.len() - 1);
    values[lower as usize] * (1.0 - weight) + values[upper] * weight
}

/// Increase of a counter (resets allowed for) per second of the range.
fn counter_rate(mut samples: Vec<(i64, f64)>, range_seconds: f64) -> f64 {
    samples.sort_by_key(|(time, _)| *time);
    let (Some(first), Some(last), true) = (samples.first(), samples.last(), samples.len() > 1) else {
        return 0.0;
    };
    let resets: f64 = samples.windows(2).filter(|w| w[1].1 < w[0].1).map(|w| w[0].1).sum();
    let increase = last.1 - first.1 + resets;
    // The reference measures the observed span in microseconds but the range in seconds, which all but disables its extrapolation.
    let span = (last.0 - first.0) as f64 / 1000.0;
    if span == 0.0 {
        return 0.0;
    }
    let gaps = (samples.len() - 1) as f64;
    let mut extra = range_seconds;
    if increase > 0.0 && first.1 >= 0.0 {
        extra = extra.min(span * (first.1 / increase));
    }
    if extra >= 1.1 * span / gaps {
        extra = span / (2.0 * gaps);
    }
    increase * ((span + extra) / span) / range_seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(op: RangeOp, values: &[f64]) -> f64 {
        let kind = Kind::of(op, true);
        let mut piece = kind.piece(0, values[0]);
        let mut merged = piece.clone();
        for (i, value) in values.iter().enumerate().skip(1) {
            piece.add(i as i64, *value);
            merged.merge(&kind.piece(i as i64, *value));
        }
        let (one, other) = (piece.value(op, 0.5, 10.0), merged.value(op, 0.5, 10.0));
        assert!(
            (one - other).abs() < 1e-12 || one.is_nan() && other.is_nan() || one == other,
            "{op:?} {one} {other}"
        );
        one
    }

    #[test]
    fn functions() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(value(RangeOp::SumOverTime, &values), 10.0);
        assert_eq!(value(RangeOp::Rate, &values), 1.0);
        assert_eq!(value(RangeOp::AvgOverTime, &values), 2.5);
        assert_eq!(value(RangeOp::QuantileOverTime, &values), 2.5);
        assert!((value(RangeOp::StddevOverTime, &values) - 1.118_033_988_749_895).abs() < 1e-12);
        assert_eq!(value(RangeOp::StdvarOverTime, &values), 1.25);
        assert_eq!(value(RangeOp::FirstOverTime, &values), 1.0);
        assert_eq!(value(RangeOp::LastOverTime, &values), 4.0);
        assert_eq!(value(RangeOp::MinOverTime, &[f64::NAN, 2.0, f64::NAN]), 2.0);
        assert!(value(RangeOp::MaxOverTime, &[f64::NAN, f64::NAN]).is_nan());
        assert_eq!(value(RangeOp::AvgOverTime, &[f64::INFINITY, 1.0]), f64::INFINITY);
        assert_eq!(value(RangeOp::AvgOverTime, &[f64::MAX, f64::MAX]), f64::MAX);
    }

    #[test]
    fn counter_with_reset() {
        let samples = vec![(0, 5.0), (1_000_000_000, 8.0), (2_000_000_000, 2.0)];
        assert!((counter_rate(samples, 10.0) - 0.5).abs() < 1e-4);
        assert_eq!(counter_rate(vec![(0, 5.0)], 10.0), 0.0);
    }
}
