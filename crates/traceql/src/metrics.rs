//! Metrics: matching spans counted into series over time.

mod answer;
mod cells;
mod compare;
mod exemplars;
mod groups;

use crate::ast::{Field, MetricsFunction, Query, SecondStage};
use crate::batch::SpanBatch;
use crate::error::EvalError;
use crate::eval::compiled::{self, Slot};
use crate::eval::pipeline::Plan;
use crate::eval::view::View;
use crate::value::{Value, ValueRef};
use compare::Comparison;
use exemplars::Exemplars;
use groups::Groups;

/// What a metrics query is asked for besides the query. All times in nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsParams {
    /// Start of the range; aligned down to the step, less one step, unless `instant`.
    pub start: i64,
    /// End of the range; aligned up to the step unless `instant`.
    pub end: i64,
    /// Length of an interval; ignored when `instant`.
    pub step: i64,
    /// One interval from start to end, one sample per series.
    pub instant: bool,
    /// Exemplars wanted over all series; 0 for none.
    pub exemplars: usize,
    /// Series kept; 0 for all.
    pub max_series: usize,
}

/// A span that stands for a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The fetched fields under their full names, and `trace:id`.
    pub labels: Vec<(String, Value)>,
    /// The field's value (durations in seconds), or the sample of the interval.
    pub value: f64,
    /// The span's start, milliseconds.
    pub timestamp_ms: i64,
}

/// A series of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeSeries {
    /// Names and typed values, by name.
    pub labels: Vec<(String, Value)>,
    /// Milliseconds of the interval's right edge, and the value; ascending, gaps left out.
    pub samples: Vec<(i64, f64)>,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricsAnswer {
    /// By number of labels, then names, then values.
    pub series: Vec<TimeSeries>,
    /// Series were dropped to keep `max_series`.
    pub partial: bool,
}

/// The intervals of the answer: `(low + i·step, low + (i+1)·step]`, stamped with their right edge.
#[derive(Debug, Clone, Copy)]
struct Grid {
    low: i64,
    step: i64,
    intervals: usize,
}

/// Intervals of one query.
const MAX_INTERVALS: i64 = 11_000;

/// Numbers held by all series together.
const MAX_CELLS: usize = 20_000_000;

impl Grid {
    fn new(params: &MetricsParams) -> Result<Self, EvalError> {
        let (start, end) = (params.start, params.end);
        if end <= start {
            return Err(EvalError::Range("end must be greater than start".into()));
        }
        if params.instant {
            return Ok(Self { low: start, step: end.saturating_sub(start), intervals: 1 });
        }
        let step = params.step;
        if step <= 0 {
            return Err(EvalError::Range("step must be greater than 0".into()));
        }
        let out_of_range = || EvalError::Range(format!("range {start} to {end} does not fit the clock"));
        let low = (start.div_euclid(step) - 1).checked_mul(step).ok_or_else(out_of_range)?;
        let high = (end.div_euclid(step) + i64::from(end.rem_euclid(step) != 0))
            .checked_mul(step)
            .ok_or_else(out_of_range)?;
        let intervals = high.checked_sub(low).ok_or_else(out_of_range)? / step;
        if intervals > MAX_INTERVALS {
            let message =
                format!("step makes {intervals} intervals, more than {MAX_INTERVALS}: use a larger step");
            return Err(EvalError::Range(message));
        }
        Ok(Self { low, step, intervals: intervals as usize })
    }

    fn high(&self) -> i64 {
        self.low + self.step * self.intervals as i64
    }

    fn interval(&self, at: i64) -> Option<usize> {
        (at > self.low && at <= self.high()).then(|| ((at - self.low - 1) / self.step) as usize)
    }

    /// Milliseconds of an interval's right edge.
    fn stamp(&self, interval: usize) -> i64 {
        (self.low + self.step * (interval as i64 + 1)) / 1_000_000
    }
}

/// A running metrics query.
#[derive(Debug)]
pub struct Metrics {
    plan: Plan,
    grid: Grid,
    counter: Counter,
    exemplars: Exemplars,
    second: Vec<SecondStage>,
    max_series: usize,
}

/// What is counted.
#[derive(Debug)]
enum Counter {
    Groups(Groups),
    Comparison(Box<Comparison>),
}

impl Metrics {
    /// Prepares a metrics query; [`EvalError::NotMetrics`] for a query without a metrics stage.
    pub fn new(query: &Query, params: MetricsParams) -> Result<Self, EvalError> {
        let Some(stage) = &query.metrics else { return Err(EvalError::NotMetrics) };
        let grid = Grid::new(&params)?;
        let mut plan = Plan::new(&query.pipeline)?;
        let counter = match &stage.function {
            MetricsFunction::Compare { selection, top, window } => {
                let predicate = compiled::filter(selection, &mut plan.fields)?;
                plan.filters.push(predicate);
                Counter::Comparison(Box::new(Comparison::new(plan.filters.len() - 1, *top as usize, *window)))
            }
            function => Counter::Groups(Groups::new(function, &stage.by, &mut plan.fields)),
        };
        let exemplars = match (query.hint_bool("exemplars"), query.hint_int("exemplars")) {
            (Some(false), _) => 0,
            (_, Some(wanted)) => params.exemplars.min(usize::try_from(wanted).unwrap_or(0)),
            _ => params.exemplars,
        };
        let exemplars = if params.instant { 0 } else { exemplars };
        Ok(Self {
            plan,
            grid,
            counter,
            exemplars: Exemplars::new(exemplars, grid.intervals),
            second: query.second.clone(),
            max_series: params.max_series,
        })
    }

    /// Start (exclusive) and end (inclusive) of the span starts that count, nanoseconds.
    pub fn range(&self) -> (i64, i64) {
        (self.grid.low, self.grid.high())
    }

    /// Counts a batch of whole traces.
    pub fn push(&mut self, batch: &SpanBatch) -> Result<(), EvalError> {
        let view = View::new(batch, &self.plan.fields, &self.plan.filters);
        // Surviving spans with their intervals.
        let mut spans: Vec<(usize, usize)> = Vec::new();
        let mut keep = |row: usize| {
            if let Some(interval) = self.grid.interval(batch.start.value(row)) {
                spans.push((row, interval));
            }
        };
        if let Some(filter) = self.plan.lone_filter() {
            view.selection(filter).set_indices().for_each(keep);
        } else {
            for trace in 0..batch.traces() {
                self.plan.run(&view, trace)?.iter().flat_map(|s| &s.rows).for_each(|row| keep(*row as usize));
            }
        }
        match &mut self.counter {
            Counter::Comparison(comparison) => comparison.count(&view, &spans, self.grid.intervals),
            Counter::Groups(groups) => {
                for (row, interval) in spans {
                    if let Some((series, value)) = groups.count(&view, row, interval, self.grid.intervals)? {
                        self.exemplars.offer(&view, row, interval, series, value);
                    }
                }
                Ok(())
            }
        }
    }

    /// Takes over what another run of the same query, with the same parameters, over other traces counted.
    pub fn merge(&mut self, other: Self) {
        match (&mut self.counter, other.counter) {
            (Counter::Groups(mine), Counter::Groups(theirs)) => {
                let moved = mine.merge(theirs);
                self.exemplars.merge(other.exemplars, |series| moved.get(series).copied());
            }
            (Counter::Comparison(mine), Counter::Comparison(theirs)) => mine.merge(*theirs),
            _ => {}
        }
    }

    /// The series, second stages applied.
    pub fn finish(self) -> MetricsAnswer {
        let mut series = match self.counter {
            Counter::Groups(groups) => groups.series(&self.grid, self.exemplars),
            Counter::Comparison(comparison) => comparison.series(&self.grid),
        };
        for stage in &self.second {
            answer::second_stage(stage, &mut series);
        }
        answer::sort(&mut series);
        let partial = self.max_series > 0 && series.len() > self.max_series;
        if partial {
            series.truncate(self.max_series);
        }
        MetricsAnswer { series, partial }
    }
}

/// The numeric field of a function, as a slot.
fn operand(field: &Field, fields: &mut compiled::Fields) -> Slot {
    fields.any_value(field)
}

/// A number as samples show it: durations in seconds.
fn seconds(value: &ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Duration(nanos) => Some(*nanos as f64 / 1e9),
        other => other.as_number(),
    }
}
