//! `compare()`: how the values of every attribute are spread over a selection and the rest.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::{Grid, MAX_CELLS, TimeSeries};
use crate::ast::{Attribute, Field, Intrinsic, Scope};
use crate::error::EvalError;
use crate::eval::view::View;
use crate::value::{Kind, Status, Value, ValueRef};

/// Values of one attribute that are told apart; beyond it the attribute is reported as having too many.
const MAX_VALUES: usize = 10_000;

/// Attributes that Tempo's blocks have a column for: spans without them count as having no value, where spans
/// without any other attribute do not count at all.
const ALWAYS_COUNTED: [(Scope, &str); 17] = [
    (Scope::Resource, "service.name"),
    (Scope::Resource, "cluster"),
    (Scope::Resource, "namespace"),
    (Scope::Resource, "pod"),
    (Scope::Resource, "container"),
    (Scope::Resource, "k8s.cluster.name"),
    (Scope::Resource, "k8s.namespace.name"),
    (Scope::Resource, "k8s.pod.name"),
    (Scope::Resource, "k8s.container.name"),
    (Scope::Span, "http.method"),
    (Scope::Span, "http.url"),
    (Scope::Span, "http.status_code"),
    (Scope::Span, "http.route"),
    (Scope::Span, "http.request.method"),
    (Scope::Span, "server.address"),
    (Scope::Span, "url.path"),
    (Scope::Span, "url.route"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Baseline = 0,
    Selection = 1,
}

/// Counts under construction.
#[derive(Debug)]
pub(super) struct Comparison {
    filter: usize,
    top: usize,
    window: Option<(i64, i64)>,
    attributes: BTreeMap<Field, [Spread; 2]>,
    cells: usize,
}

/// Spans to count: rows with their intervals, and the side each is on.
struct Chosen<'s> {
    spans: &'s [(usize, usize)],
    sides: &'s [Side],
    intervals: usize,
}

/// Counts per interval, by value.
#[derive(Debug, Default)]
struct Spread {
    values: HashMap<Value, Vec<u64>>,
    too_many: bool,
}

impl Comparison {
    pub(super) fn new(filter: usize, top: usize, window: Option<(i64, i64)>) -> Self {
        Self { filter, top, window, attributes: BTreeMap::new(), cells: 0 }
    }

    /// Counts spans, given with their intervals.
    pub(super) fn count(
        &mut self,
        view: &View<'_>,
        spans: &[(usize, usize)],
        intervals: usize,
    ) -> Result<(), EvalError> {
        let batch = view.batch;
        let selection = view.selection(self.filter);
        let sides: Vec<Side> = spans
            .iter()
            .map(|(row, _)| {
                let start = batch.start.value(*row);
                let inside = self.window.is_none_or(|(low, high)| start > low && start <= high);
                if inside && selection.value(*row) { Side::Selection } else { Side::Baseline }
            })
            .collect();
        let chosen = Chosen { spans, sides: &sides, intervals };
        let attribute = |scope: Scope, name: &str| {
            Field::Attribute(Attribute { scope: Some(scope), name: name.into(), parent: false })
        };
        for ((scope, name), values) in &batch.attributes {
            if matches!(scope, Scope::Span | Scope::Resource | Scope::Instrumentation) {
                self.column(&chosen, attribute(*scope, name), |row| values.value(row))?;
            }
        }
        for (scope, name) in ALWAYS_COUNTED {
            if batch.attribute(scope, name).is_some() {
                continue;
            }
            if name == "service.name" {
                self.column(&chosen, attribute(scope, name), |row| match batch.service(row) {
                    "" => ValueRef::Nil,
                    service => ValueRef::Str(service),
                })?;
            } else {
                self.column(&chosen, attribute(scope, name), |_| ValueRef::Nil)?;
            }
        }
        let roots: Vec<Option<usize>> = (0..batch.traces()).map(|t| batch.root_row(t)).collect();
        let trace_of = view.trace_of();
        let root = |row: usize| roots[trace_of[row] as usize];
        self.column(&chosen, Field::Intrinsic(Intrinsic::Name), |row| ValueRef::Str(batch.name.value(row)))?;
        self.column(&chosen, Field::Intrinsic(Intrinsic::Kind), |row| {
            ValueRef::Kind(Kind::from_otlp(batch.kind.value(row)))
        })?;
        self.column(&chosen, Field::Intrinsic(Intrinsic::Status), |row| {
            ValueRef::Status(Status::from_otlp(batch.status.value(row)))
        })?;
        self.column(&chosen, Field::Intrinsic(Intrinsic::RootName), |row| {
            ValueRef::Str(root(row).map_or("", |r| batch.name.value(r)))
        })?;
        self.column(&chosen, Field::Intrinsic(Intrinsic::RootServiceName), |row| {
            ValueRef::Str(root(row).map_or("", |r| batch.service(r)))
        })?;
        for (intrinsic, values) in [
            (Intrinsic::StatusMessage, &batch.status_message),
            (Intrinsic::InstrumentationName, &batch.scope_name),
            (Intrinsic::InstrumentationVersion, &batch.scope_version),
        ] {
            use arrow_array::Array;
            if let Some(values) = values {
                self.column(&chosen, Field::Intrinsic(intrinsic), |row| {
                    ValueRef::Str(if values.is_null(row) { "" } else { values.value(row) })
                })?;
            }
        }
        Ok(())
    }

    /// Counts the values of one field.
    fn column<'v>(
        &mut self,
        chosen: &Chosen<'_>,
        field: Field,
        of: impl Fn(usize) -> ValueRef<'v>,
    ) -> Result<(), EvalError> {
        let always = always_counted(&field);
        let spreads = self.attributes.entry(field).or_default();
        for ((row, interval), side) in chosen.spans.iter().zip(chosen.sides) {
            let value = match of(*row) {
                ValueRef::Nil if !always => continue,
                // Arrays are shown as no value.
                ValueRef::Array(_) => Value::Nil,
                value => value.to_value(),
            };
            self.cells += spreads[*side as usize].add(value, *interval, chosen.intervals);
        }
        if self.cells > MAX_CELLS { Err(EvalError::Budget { limit: MAX_CELLS }) } else { Ok(()) }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.cells += other.cells;
        for (field, sides) in other.attributes {
            let mine = self.attributes.entry(field).or_default();
            for (mine, theirs) in mine.iter_mut().zip(sides) {
                mine.merge(theirs);
            }
        }
    }

    pub(super) fn series(self, grid: &Grid) -> Vec<TimeSeries> {
        let mut out = Vec::new();
        for (field, sides) in self.attributes {
            let names = [("baseline", "baseline_total"), ("selection", "selection_total")];
            for (spread, (side, total)) in sides.into_iter().zip(names) {
                if spread.values.is_empty() {
                    continue;
                }
                let key = field.to_string();
                let labels = |kind: &str, value: Value| {
                    vec![("__meta_type".to_owned(), Value::str(kind)), (key.clone(), value)]
                };
                if spread.too_many {
                    let mut labels = labels(side, Value::str("nil"));
                    labels.insert(0, ("__meta_error".to_owned(), Value::str("__too_many_values__")));
                    out.push(TimeSeries { labels, samples: Vec::new(), exemplars: Vec::new() });
                    continue;
                }
                let mut sums = vec![0; grid.intervals];
                for counts in spread.values.values() {
                    sums.iter_mut().zip(counts).for_each(|(s, c)| *s += c);
                }
                out.push(series(grid, labels(total, Value::str("nil")), &sums));
                for (value, counts) in spread.most_frequent(self.top) {
                    let value = if value.is_nil() { Value::str("nil") } else { value };
                    out.push(series(grid, labels(side, value), &counts));
                }
            }
        }
        out
    }
}

fn always_counted(field: &Field) -> bool {
    match field {
        Field::Attribute(a) => ALWAYS_COUNTED.iter().any(|(s, n)| a.scope == Some(*s) && *a.name == **n),
        Field::Intrinsic(_) => false,
    }
}

fn series(grid: &Grid, labels: Vec<(String, Value)>, counts: &[u64]) -> TimeSeries {
    let samples = counts.iter().enumerate().map(|(i, c)| (grid.stamp(i), *c as f64)).collect();
    TimeSeries { labels, samples, exemplars: Vec::new() }
}

impl Spread {
    /// Counts a value; the cells that this made.
    fn add(&mut self, value: Value, interval: usize, intervals: usize) -> usize {
        let mut made = 0;
        if self.values.len() >= MAX_VALUES && !self.values.contains_key(&value) {
            self.too_many = true;
            return 0;
        }
        let counts = self.values.entry(value).or_insert_with(|| {
            made = intervals;
            vec![0; intervals]
        });
        counts[interval] += 1;
        made
    }

    fn merge(&mut self, other: Self) {
        self.too_many |= other.too_many;
        for (value, counts) in other.values {
            match self.values.get_mut(&value) {
                Some(mine) => mine.iter_mut().zip(counts).for_each(|(m, t)| *m += t),
                None => {
                    self.values.insert(value, counts);
                }
            }
        }
        self.too_many |= self.values.len() > MAX_VALUES;
    }

    /// The `n` values with the highest counts; of equals the first by text.
    fn most_frequent(self, n: usize) -> Vec<(Value, Vec<u64>)> {
        let mut values: Vec<(u64, String, Value, Vec<u64>)> = self
            .values
            .into_iter()
            .map(|(value, counts)| (counts.iter().sum(), value.to_string(), value, counts))
            .collect();
        values.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        values.truncate(n);
        values.into_iter().map(|(_, _, value, counts)| (value, counts)).collect()
    }
}
