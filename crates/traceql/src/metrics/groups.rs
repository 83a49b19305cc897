//! Series by group: the values of the `by (…)` fields lead to the cells that a span is counted in.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::cells::{self, CellKind, Cells, Sample};
use super::exemplars::Exemplars;
use super::{Exemplar, Grid, MAX_CELLS, TimeSeries};
use crate::ast::{Field, MetricsFunction};
use crate::error::EvalError;
use crate::eval::compiled::{Fields, Slot};
use crate::eval::view::View;
use crate::value::{Value, ValueRef};

/// What a function makes of its cells.
#[derive(Debug, Clone, PartialEq)]
enum Output {
    Rate,
    Count,
    /// Minimum and maximum.
    Extreme,
    Sum,
    Avg,
    Histogram,
    Quantiles(Vec<f64>),
}

/// Series under construction.
#[derive(Debug)]
pub(super) struct Groups {
    name: &'static str,
    output: Output,
    kind: CellKind,
    operand: Option<Slot>,
    by: Vec<(Slot, String)>,
    table: HashTable<usize>,
    hasher: DefaultHashBuilder,
    series: Vec<(Vec<Value>, Cells)>,
    cells: usize,
}

impl Groups {
    pub(super) fn new(function: &MetricsFunction, by: &[Field], fields: &mut Fields) -> Self {
        let (name, output, kind, operand) = match function {
            MetricsFunction::Rate => ("rate", Output::Rate, CellKind::Count, None),
            MetricsFunction::CountOverTime | MetricsFunction::Compare { .. } => {
                ("count_over_time", Output::Count, CellKind::Count, None)
            }
            MetricsFunction::MinOverTime(f) => ("min_over_time", Output::Extreme, CellKind::Min, Some(f)),
            MetricsFunction::MaxOverTime(f) => ("max_over_time", Output::Extreme, CellKind::Max, Some(f)),
            MetricsFunction::SumOverTime(f) => ("sum_over_time", Output::Sum, CellKind::Sum, Some(f)),
            MetricsFunction::AvgOverTime(f) => ("avg_over_time", Output::Avg, CellKind::Sum, Some(f)),
            MetricsFunction::HistogramOverTime(f) => {
                ("histogram_over_time", Output::Histogram, CellKind::Buckets, Some(f))
            }
            MetricsFunction::QuantileOverTime(f, q) => {
                ("quantile_over_time", Output::Quantiles(q.clone()), CellKind::Buckets, Some(f))
            }
        };
        Self {
            name,
            output,
            kind,
            operand: operand.map(|f| super::operand(f, fields)),
            by: by.iter().map(|f| (fields.any_value(f), f.to_string())).collect(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            series: Vec::new(),
            cells: 0,
        }
    }

    /// Counts a span; its series and, for functions of a field, its value. `None` if it does not count.
    pub(super) fn count(
        &mut self,
        view: &View<'_>,
        row: usize,
        interval: usize,
        intervals: usize,
    ) -> Result<Option<(usize, Option<f64>)>, EvalError> {
        let (sample, value) = match self.operand {
            None => (Sample::One, None),
            Some(slot) => {
                let value = view.value(slot, row);
                let Some(sample) = Sample::of(self.kind, &value) else { return Ok(None) };
                (sample, super::seconds(&value))
            }
        };
        let mut key: [ValueRef<'_>; MAX_BY] = [const { ValueRef::Nil }; MAX_BY];
        let key = &mut key[..self.by.len()];
        for (value, (slot, _)) in key.iter_mut().zip(&self.by) {
            *value = view.value(*slot, row);
        }
        let at = self.find(key, intervals)?;
        let made = self.series[at].1.add(interval, intervals, sample);
        self.grow(made)?;
        Ok(Some((at, value)))
    }

    fn grow(&mut self, cells: usize) -> Result<(), EvalError> {
        self.cells += cells;
        if self.cells > MAX_CELLS { Err(EvalError::Budget { limit: MAX_CELLS }) } else { Ok(()) }
    }

    fn find(&mut self, key: &[ValueRef<'_>], intervals: usize) -> Result<usize, EvalError> {
        let hash = self.hash(key);
        let same = |at: &usize| self.series[*at].0.iter().zip(key).all(|(a, b)| a.borrow() == *b);
        if let Some(at) = self.table.find(hash, same) {
            return Ok(*at);
        }
        self.grow(if self.kind == CellKind::Buckets { 1 } else { intervals })?;
        let at = self.series.len();
        let owned = key.iter().map(ValueRef::to_value).collect();
        self.series.push((owned, Cells::new(self.kind, intervals)));
        let (series, hasher) = (&self.series, &self.hasher);
        self.table.insert_unique(hash, at, |i| hash_values(hasher, series[*i].0.iter().map(Value::borrow)));
        Ok(at)
    }

    fn hash(&self, key: &[ValueRef<'_>]) -> u64 {
        hash_values(&self.hasher, key.iter().cloned())
    }

    /// Takes over another run's counts; where each of its series went.
    pub(super) fn merge(&mut self, other: Self) -> Vec<usize> {
        let mut moved = Vec::with_capacity(other.series.len());
        for (key, cells) in other.series {
            let borrowed: Vec<ValueRef<'_>> = key.iter().map(Value::borrow).collect();
            let hash = self.hash(&borrowed);
            match self.table.find(hash, |at| self.series[*at].0 == key).copied() {
                Some(at) => {
                    self.series[at].1.merge(cells);
                    moved.push(at);
                }
                None => {
                    drop(borrowed);
                    moved.push(self.series.len());
                    self.series.push((key, cells));
                    let (series, hasher) = (&self.series, &self.hasher);
                    self.table.insert_unique(hash, series.len() - 1, |i| {
                        hash_values(hasher, series[*i].0.iter().map(Value::borrow))
                    });
                }
            }
        }
        self.cells += other.cells;
        moved
    }

    /// The series with their samples.
    pub(super) fn series(self, grid: &Grid, exemplars: Exemplars) -> Vec<TimeSeries> {
        let mut found = exemplars.by_series(self.series.len());
        let mut out = Vec::with_capacity(self.series.len());
        let by = self.by;
        for (at, (key, cells)) in self.series.into_iter().enumerate() {
            let labels = |extra: Option<(&str, f64)>| {
                let mut labels = group_labels(&by, &key);
                match extra {
                    Some((name, v)) => labels.push((name.to_owned(), Value::Float(v))),
                    None if by.is_empty() => labels.push(("__name__".to_owned(), Value::str(self.name))),
                    None => {}
                }
                labels.sort_by(|a, b| a.0.cmp(&b.0));
                labels
            };
            let exemplars = std::mem::take(&mut found[at]);
            for (extra, samples) in self.output.samples(grid, cells) {
                let mut series = TimeSeries {
                    labels: labels(extra.as_ref().map(|(n, v)| (*n, *v))),
                    samples,
                    exemplars: Vec::new(),
                };
                for (interval, exemplar) in &exemplars {
                    series.attach(grid.stamp(*interval), extra, exemplar);
                }
                out.push(series);
            }
        }
        out
    }
}

/// The largest number of `by` fields that checked queries have.
const MAX_BY: usize = 5;

fn hash_values<'v>(hasher: &DefaultHashBuilder, values: impl Iterator<Item = ValueRef<'v>>) -> u64 {
    let mut state = hasher.build_hasher();
    values.for_each(|v| v.hash(&mut state));
    state.finish()
}

/// Labels of a group: absent values are left out, but one label stays, as the text `nil`.
fn group_labels(by: &[(Slot, String)], key: &[Value]) -> Vec<(String, Value)> {
    let mut labels: Vec<(String, Value)> = by
        .iter()
        .zip(key)
        .filter(|(_, v)| !v.is_nil())
        .map(|((_, name), v)| (name.clone(), v.clone()))
        .collect();
    if labels.is_empty()
        && let Some((_, name)) = by.first()
    {
        labels.push((name.clone(), Value::str("nil")));
    }
    labels
}

type Extra = Option<(&'static str, f64)>;

impl Output {
    /// The series of one group: an extra label, and samples.
    fn samples(&self, grid: &Grid, cells: Cells) -> Vec<(Extra, Vec<(i64, f64)>)> {
        let stamped = |of: &dyn Fn(usize) -> Option<f64>| {
            (0..grid.intervals).filter_map(|i| of(i).map(|v| (grid.stamp(i), v))).collect::<Vec<_>>()
        };
        match (self, cells) {
            (Self::Rate, Cells::Count(counts)) => {
                let seconds = grid.step as f64 / 1e9;
                vec![(None, stamped(&|i| Some(counts[i] as f64 / seconds)))]
            }
            (_, Cells::Count(counts)) => vec![(None, stamped(&|i| Some(counts[i] as f64)))],
            (_, Cells::Extreme(values, _)) => {
                vec![(None, stamped(&|i| Some(values[i]).filter(|v| !v.is_nan())))]
            }
            (Self::Avg, Cells::Sum(sums)) => {
                vec![(None, stamped(&|i| (sums[i].1 > 0).then(|| sums[i].0 / sums[i].1 as f64)))]
            }
            (_, Cells::Sum(sums)) => vec![(None, stamped(&|i| (sums[i].1 > 0).then_some(sums[i].0)))],
            (Self::Quantiles(quantiles), Cells::Buckets(buckets, durations)) => quantiles
                .iter()
                .map(|q| {
                    let at = |i: usize| {
                        let counts: Vec<(f64, u64)> =
                            buckets.iter().map(|(e, c)| (cells::bound(*e, durations), c[i])).collect();
                        Some(cells::quantile(*q, &counts))
                    };
                    (Some(("p", *q)), stamped(&at))
                })
                .collect(),
            (_, Cells::Buckets(buckets, durations)) => buckets
                .iter()
                .map(|(e, counts)| {
                    (Some(("__bucket", cells::bound(*e, durations))), stamped(&|i| Some(counts[i] as f64)))
                })
                .collect(),
        }
    }
}

impl TimeSeries {
    /// Adds an exemplar of the interval that ends at `stamp`, if it belongs to this series of its group.
    fn attach(&mut self, stamp: i64, extra: Extra, exemplar: &Exemplar) {
        if let Some(("__bucket", bound)) = extra
            && !(bound / 2.0 < exemplar.value && exemplar.value <= bound)
        {
            return;
        }
        let mut exemplar = exemplar.clone();
        if exemplar.value.is_nan() {
            let Some((_, v)) = self.samples.iter().find(|(at, _)| *at == stamp) else { return };
            exemplar.value = *v;
        }
        self.exemplars.push(exemplar);
    }
}
