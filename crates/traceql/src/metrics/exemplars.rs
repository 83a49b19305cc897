//! Exemplars: a few spans, spread over time, that stand for the samples.

use hashbrown::HashSet;

use super::Exemplar;
use crate::eval::view::View;
use crate::value::Value;

/// Exemplars of one slot of time.
const PER_SLOT: u8 = 2;

/// Exemplars being picked.
#[derive(Debug)]
pub(super) struct Exemplars {
    limit: usize,
    intervals: usize,
    /// Picked per slot.
    slots: Vec<u8>,
    traces: HashSet<model::TraceId>,
    /// The series, the interval, the exemplar (NaN where the sample is to be its value).
    picked: Vec<(usize, usize, Exemplar)>,
}

impl Exemplars {
    pub(super) fn new(limit: usize, intervals: usize) -> Self {
        let slots = limit.div_ceil(usize::from(PER_SLOT)).min(intervals);
        Self { limit, intervals, slots: vec![0; slots], traces: HashSet::new(), picked: Vec::new() }
    }

    /// Takes the span as an exemplar if there is room for one at its time and its trace has none yet.
    pub(super) fn offer(
        &mut self,
        view: &View<'_>,
        row: usize,
        interval: usize,
        series: usize,
        value: Option<f64>,
    ) {
        if self.picked.len() >= self.limit {
            return;
        }
        let slot = interval * self.slots.len() / self.intervals.max(1);
        let batch = view.batch;
        let Some(trace) = model::TraceId::from_slice(batch.trace_id.value(row)) else { return };
        if self.slots[slot] >= PER_SLOT || !self.traces.insert(trace) {
            return;
        }
        self.slots[slot] += 1;
        let mut labels: Vec<(String, Value)> = Vec::new();
        for (slot, name) in view.field_names() {
            let value = view.value(slot, row).to_value();
            if !value.is_nil() {
                labels.push((name, value));
            }
        }
        labels.push(("trace:id".to_owned(), Value::str(trace.short_hex())));
        let exemplar = Exemplar {
            labels,
            value: value.unwrap_or(f64::NAN),
            timestamp_ms: batch.start.value(row) / 1_000_000,
        };
        self.picked.push((series, interval, exemplar));
    }

    /// Takes over another run's exemplars while there is room; `moved` tells where its series went.
    pub(super) fn merge(&mut self, other: Self, moved: impl Fn(usize) -> Option<usize>) {
        for (series, interval, exemplar) in other.picked {
            let slot = interval * self.slots.len() / self.intervals.max(1);
            if let Some(series) = moved(series)
                && self.picked.len() < self.limit
                && self.slots[slot] < PER_SLOT
            {
                self.slots[slot] += 1;
                self.picked.push((series, interval, exemplar));
            }
        }
    }

    /// The exemplars of each of `n` series, with their intervals.
    pub(super) fn by_series(self, n: usize) -> Vec<Vec<(usize, Exemplar)>> {
        let mut out = vec![Vec::new(); n];
        for (series, interval, exemplar) in self.picked {
            if let Some(list) = out.get_mut(series) {
                list.push((interval, exemplar));
            }
        }
        out
    }
}
