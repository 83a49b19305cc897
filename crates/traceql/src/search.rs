//! Search: which traces hold a matching spanset, and what of them is shown.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use model::{SpanId, TraceId};

use crate::ast::{Field, Intrinsic, Query};
use crate::batch::SpanBatch;
use crate::error::EvalError;
use crate::eval::pipeline::{Plan, Spanset};
use crate::eval::view::View;
use crate::value::{Status, Value};

/// Shown for the name and service of a root span that is missing.
pub const ROOT_NOT_RECEIVED: &str = "<root span not yet received>";

/// What a search is asked for besides the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchParams {
    /// Traces that end before are left out; nanoseconds.
    pub start: Option<i64>,
    /// Traces that start after are left out; nanoseconds.
    pub end: Option<i64>,
    /// Traces to find.
    pub limit: usize,
    /// Spans shown of each spanset.
    pub spans_per_spanset: usize,
    /// Give the newest traces rather than any (also asked for by the hint `most_recent`).
    pub most_recent: bool,
}

/// Spans of one service in a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceStats {
    /// Spans.
    pub spans: u32,
    /// Spans with status error.
    pub errors: u32,
}

/// A matching trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceResult {
    /// Its id.
    pub trace_id: TraceId,
    /// The root span's service, or [`ROOT_NOT_RECEIVED`].
    pub root_service: String,
    /// The root span's name, or [`ROOT_NOT_RECEIVED`].
    pub root_name: String,
    /// Start of its first span, nanoseconds.
    pub start: i64,
    /// From its start to the end of its last span, nanoseconds.
    pub duration: i64,
    /// Span counts by service name (spans without one under the empty name).
    pub service_stats: BTreeMap<String, ServiceStats>,
    /// What matched, never empty.
    pub spansets: Vec<SpanSetResult>,
}

/// A spanset of a matching trace.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanSetResult {
    /// The first spans of the set.
    pub spans: Vec<SpanResult>,
    /// How many spans the set has.
    pub matched: u32,
    /// One per `by()` and aggregate of the pipeline: printed expression and value.
    pub attributes: Vec<(String, Value)>,
}

/// A matching span.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanResult {
    /// Its id.
    pub span_id: SpanId,
    /// Its name, when the query looks at names.
    pub name: Option<String>,
    /// Start, nanoseconds.
    pub start: i64,
    /// Duration, nanoseconds.
    pub duration: i64,
    /// The fields that the query mentions or selects, under their bare names.
    pub attributes: Vec<(String, Value)>,
}

/// A running search.
#[derive(Debug)]
pub struct Search {
    plan: Plan,
    params: SearchParams,
    found: Vec<TraceResult>,
    by_id: HashMap<TraceId, usize>,
}

impl Search {
    /// Prepares a search. A metrics stage in the query is ignored.
    pub fn new(query: &Query, mut params: SearchParams) -> Result<Self, EvalError> {
        params.most_recent |= query.hint_bool("most_recent").unwrap_or(false);
        Ok(Self { plan: Plan::new(&query.pipeline)?, params, found: Vec::new(), by_id: HashMap::new() })
    }

    /// Searches a batch of whole traces.
    pub fn push(&mut self, batch: &SpanBatch) -> Result<(), EvalError> {
        let view = View::new(batch, &self.plan.fields, &self.plan.filters);
        let mut found = Vec::new();
        for trace in 0..batch.traces() {
            if !self.params.most_recent && self.found.len() + found.len() >= self.params.limit {
                break;
            }
            let sets = self.plan.run(&view, trace)?;
            if sets.is_empty() {
                continue;
            }
            let (start, end) = batch.trace_time(trace);
            if self.params.end.is_none_or(|e| start <= e) && self.params.start.is_none_or(|s| end >= s) {
                found.push(self.result(&view, trace, (start, end), sets));
            }
        }
        drop(view);
        found.into_iter().for_each(|trace| self.keep(trace));
        self.cut();
        Ok(())
    }

    /// Takes over what another search of the same query found.
    pub fn merge(&mut self, other: Self) {
        other.found.into_iter().for_each(|trace| self.keep(trace));
        self.cut();
    }

    /// Whether further batches cannot change the answer.
    pub fn is_full(&self) -> bool {
        !self.params.most_recent && self.found.len() >= self.params.limit
    }

    /// The traces found, newest first.
    pub fn finish(mut self) -> Vec<TraceResult> {
        self.found.sort_by_key(|t| std::cmp::Reverse(t.start));
        self.found.truncate(self.params.limit);
        self.found
    }

    /// Adds a trace; pieces of one trace become one.
    fn keep(&mut self, trace: TraceResult) {
        match self.by_id.get(&trace.trace_id) {
            Some(at) => self.found[*at].absorb(trace),
            None => {
                self.by_id.insert(trace.trace_id, self.found.len());
                self.found.push(trace);
            }
        }
    }

    /// Lets go of traces that cannot be among the newest any more, now and then.
    fn cut(&mut self) {
        let limit = self.params.limit;
        if !self.params.most_recent || self.found.len() < limit.saturating_mul(2).max(64) {
            return;
        }
        self.found.sort_by_key(|t| std::cmp::Reverse(t.start));
        self.found.truncate(limit);
        self.by_id = self.found.iter().enumerate().map(|(i, t)| (t.trace_id, i)).collect();
    }

    fn result(
        &self,
        view: &View<'_>,
        trace: usize,
        (start, end): (i64, i64),
        sets: Vec<Spanset>,
    ) -> TraceResult {
        let batch = view.batch;
        let root = batch.root_row(trace);
        let mut service_stats: BTreeMap<String, ServiceStats> = BTreeMap::new();
        for row in batch.trace_rows(trace) {
            let service = batch.service(row);
            if !service_stats.contains_key(service) {
                service_stats.insert(service.to_owned(), ServiceStats::default());
            }
            if let Some(stats) = service_stats.get_mut(service) {
                stats.spans += 1;
                stats.errors += u32::from(Status::from_otlp(batch.status.value(row)) == Status::Error);
            }
        }
        TraceResult {
            trace_id: batch.trace_id(trace),
            root_service: root.map_or(ROOT_NOT_RECEIVED, |row| batch.service(row)).to_owned(),
            root_name: root.map_or(ROOT_NOT_RECEIVED, |row| batch.name.value(row)).to_owned(),
            start,
            duration: end.saturating_sub(start),
            service_stats,
            spansets: sets
                .into_iter()
                .map(|set| SpanSetResult {
                    matched: set.rows.len() as u32,
                    spans: set
                        .rows
                        .iter()
                        .take(self.params.spans_per_spanset)
                        .map(|row| self.span(view, *row as usize))
                        .collect(),
                    attributes: set.attributes.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
                })
                .collect(),
        }
    }

    fn span(&self, view: &View<'_>, row: usize) -> SpanResult {
        let batch = view.batch;
        let mut name = None;
        let mut attributes = Vec::new();
        for (slot, field) in self.plan.fields.list.iter().enumerate() {
            let hidden = matches!(
                field.field,
                Field::Intrinsic(
                    Intrinsic::Duration
                        | Intrinsic::TraceDuration
                        | Intrinsic::RootName
                        | Intrinsic::RootServiceName
                        | Intrinsic::TraceId
                        | Intrinsic::SpanId
                )
            );
            if hidden {
                continue;
            }
            match view.shown(slot, row) {
                Value::Nil => {}
                _ if field.field == Field::Intrinsic(Intrinsic::Name) => {
                    name = Some(batch.name.value(row).to_owned());
                }
                value => attributes.push((field.field.bare_name().to_owned(), value)),
            }
        }
        attributes.sort_by(|a, b| a.0.cmp(&b.0));
        SpanResult {
            span_id: SpanId::from_slice(batch.span_id.value(row)).unwrap_or_default(),
            name,
            start: batch.start.value(row),
            duration: batch.duration.value(row),
            attributes,
        }
    }
}

impl TraceResult {
    /// Takes in another piece of the same trace, found elsewhere: of spansets with equal attributes the one
    /// that matched more stays.
    fn absorb(&mut self, other: Self) {
        let end = (self.start + self.duration).max(other.start + other.duration);
        self.start = self.start.min(other.start);
        self.duration = (end - self.start).max(self.duration).max(other.duration);
        if self.root_name == ROOT_NOT_RECEIVED {
            self.root_name = other.root_name;
            self.root_service = other.root_service;
        }
        for (service, stats) in other.service_stats {
            let mine = self.service_stats.entry(service).or_default();
            mine.spans = mine.spans.max(stats.spans);
            mine.errors = mine.errors.max(stats.errors);
        }
        for set in other.spansets {
            let groups = |s: &SpanSetResult| -> Vec<(String, Value)> {
                s.attributes.iter().filter(|(k, _)| k.starts_with("by(")).cloned().collect()
            };
            match self.spansets.iter_mut().find(|s| groups(s) == groups(&set)) {
                Some(mine) if set.matched > mine.matched => *mine = set,
                Some(_) => {}
                None => self.spansets.push(set),
            }
        }
    }
}
