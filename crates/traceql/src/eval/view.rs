//! A batch seen by a query: fields bound to columns when first asked for, filters evaluated once.

use std::cell::OnceCell;
use std::rc::Rc;

use arrow_buffer::BooleanBuffer;

use super::column::{Column, FieldColumn, Level, Offsets};
use super::compiled::{Fields, Predicate, Slot};
use super::tree::Tree;
use crate::ast::{Attribute, Field, Intrinsic, Scope};
use crate::batch::SpanBatch;
use crate::value::{Value, ValueRef};

/// A batch under evaluation.
pub(crate) struct View<'a> {
    pub(crate) batch: &'a SpanBatch,
    fields: &'a Fields,
    filters: &'a [Predicate],
    columns: Vec<OnceCell<FieldColumn<'a>>>,
    selections: Vec<OnceCell<BooleanBuffer>>,
    trace_of: OnceCell<Rc<[u32]>>,
    trees: Vec<OnceCell<Rc<Tree>>>,
    pub(crate) offsets: Offsets<'a>,
}

impl<'a> View<'a> {
    pub(crate) fn new(batch: &'a SpanBatch, fields: &'a Fields, filters: &'a [Predicate]) -> Self {
        Self {
            batch,
            fields,
            filters,
            columns: fields.list.iter().map(|_| OnceCell::new()).collect(),
            selections: filters.iter().map(|_| OnceCell::new()).collect(),
            trace_of: OnceCell::new(),
            trees: (0..batch.traces()).map(|_| OnceCell::new()).collect(),
            offsets: Offsets {
                events: batch.events.as_ref().map_or(&[], |e| &e.offsets),
                links: batch.links.as_ref().map_or(&[], |l| &l.offsets),
            },
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.batch.rows()
    }

    pub(crate) fn field(&self, slot: Slot) -> &'a Field {
        &self.fields.list[slot].field
    }

    /// The fields of the query under their full names.
    pub(crate) fn field_names(&self) -> impl Iterator<Item = (Slot, String)> {
        self.fields.list.iter().enumerate().map(|(slot, f)| (slot, f.field.to_string()))
    }

    /// Events or links of the whole batch.
    pub(crate) fn items(&self, level: Level) -> usize {
        match level {
            Level::Span => self.rows(),
            Level::Event => {
                self.batch.events.as_ref().map_or(0, |e| *e.offsets.last().unwrap_or(&0) as usize)
            }
            Level::Link => self.batch.links.as_ref().map_or(0, |l| *l.offsets.last().unwrap_or(&0) as usize),
        }
    }

    /// The rows that pass a filter of the query.
    pub(crate) fn selection(&self, filter: usize) -> &BooleanBuffer {
        self.selections[filter].get_or_init(|| super::filter::select(self, &self.filters[filter]))
    }

    pub(crate) fn tree(&self, trace: usize) -> Rc<Tree> {
        Rc::clone(self.trees[trace].get_or_init(|| Rc::new(Tree::new(self.batch, trace))))
    }

    pub(crate) fn column(&self, slot: Slot) -> &FieldColumn<'a> {
        self.columns[slot].get_or_init(|| bind(self, &self.fields.list[slot].field))
    }

    /// The value of a field at a row.
    pub(crate) fn value(&self, slot: Slot, row: usize) -> ValueRef<'a> {
        self.column(slot).value(&self.offsets, row, None)
    }

    /// The value of a field as an answer shows it: only what some condition of the query asks for, of an array
    /// only such elements; `nil` as text where the query asks for its absence.
    pub(crate) fn shown(&self, slot: Slot, row: usize) -> Value {
        let field = &self.fields.list[slot];
        let mut shown = Value::Nil;
        if field.any_value {
            shown = self.value(slot, row).to_value();
        } else {
            let passes = |value: &ValueRef<'_>| field.tests.iter().any(|t| t.matches(value));
            self.column(slot).values(&self.offsets, row, &mut |value| {
                if !shown.is_nil() {
                    return;
                }
                if let ValueRef::Array(items) = &value {
                    let mut kept: Vec<Value> =
                        items.iter().filter(|i| passes(&i.borrow())).cloned().collect();
                    match kept.len() {
                        0 => {}
                        1 => shown = kept.remove(0),
                        _ => shown = Value::Array(kept),
                    }
                } else if passes(&value) {
                    shown = value.to_value();
                }
            });
        }
        if shown.is_nil() && field.absent && self.value(slot, row) == ValueRef::Nil {
            shown = Value::str("nil");
        }
        shown
    }

    /// The trace of each row.
    pub(crate) fn trace_of(&self) -> Rc<[u32]> {
        Rc::clone(self.trace_of.get_or_init(|| {
            let mut out = Vec::with_capacity(self.rows());
            for trace in 0..self.batch.traces() {
                out.resize(self.batch.trace_rows(trace).end, trace as u32);
            }
            out.into()
        }))
    }

    fn per_tree(&self, of: impl Fn(&Tree, usize) -> i64) -> Vec<i64> {
        let mut out = Vec::with_capacity(self.rows());
        for trace in 0..self.batch.traces() {
            let tree = self.tree(trace);
            out.extend((0..self.batch.trace_rows(trace).len()).map(|i| of(&tree, i)));
        }
        out
    }

    fn per_root(&self, of: impl Fn(usize) -> &'a str) -> Column<'a> {
        let batch = self.batch;
        let values = (0..batch.traces()).map(|t| batch.root_row(t).map_or("", &of)).collect();
        Column::TraceStr(values, self.trace_of())
    }
}

impl SpanBatch {
    /// The first span without a parent.
    pub(crate) fn root_row(&self, trace: usize) -> Option<usize> {
        self.trace_rows(trace).find(|row| self.is_root(*row))
    }

    /// First start and last end of a trace, nanoseconds.
    pub(crate) fn trace_time(&self, trace: usize) -> (i64, i64) {
        self.trace_rows(trace).fold((i64::MAX, i64::MIN), |(start, end), row| {
            let at = self.start.value(row);
            (start.min(at), end.max(at.saturating_add(self.duration.value(row))))
        })
    }

    /// The id of a trace.
    pub(crate) fn trace_id(&self, trace: usize) -> model::TraceId {
        let rows = self.trace_rows(trace);
        model::TraceId::from_slice(self.trace_id.value(rows.start)).unwrap_or_default()
    }

    /// A span's service; empty when it has none.
    pub(crate) fn service(&self, row: usize) -> &str {
        use arrow_array::Array;
        if self.service_name.is_null(row) { "" } else { self.service_name.value(row) }
    }
}

fn bind<'a>(view: &View<'a>, field: &Field) -> FieldColumn<'a> {
    let sources = match field {
        Field::Attribute(attribute) => attribute_sources(view.batch, attribute),
        Field::Intrinsic(intrinsic) => intrinsic_source(view, *intrinsic).into_iter().collect(),
    };
    FieldColumn { sources }
}

fn attribute_sources<'a>(batch: &'a SpanBatch, attribute: &Attribute) -> Vec<(Level, Column<'a>)> {
    let scopes = match &attribute.scope {
        Some(scope) => std::slice::from_ref(scope),
        None => &Scope::ALL[..],
    };
    let mut sources = Vec::with_capacity(scopes.len());
    for scope in scopes {
        let (level, column) = match scope {
            Scope::Event => {
                (Level::Event, batch.events.as_ref().and_then(|e| e.attributes.get(&attribute.name)))
            }
            Scope::Link => {
                (Level::Link, batch.links.as_ref().and_then(|l| l.attributes.get(&attribute.name)))
            }
            scope => (Level::Span, batch.attributes.get(&(*scope, attribute.name.clone()))),
        };
        match column {
            Some(column) if column.len() > 0 => sources.push((level, Column::Attribute(column))),
            _ if *scope == Scope::Resource && &*attribute.name == "service.name" => {
                sources.push((level, Column::Str(&batch.service_name)));
            }
            _ => {}
        }
    }
    sources
}

fn intrinsic_source<'a>(view: &View<'a>, intrinsic: Intrinsic) -> Option<(Level, Column<'a>)> {
    let batch = view.batch;
    let column = match intrinsic {
        Intrinsic::Duration => Column::Duration(&batch.duration),
        Intrinsic::Name => Column::StrOrEmpty(&batch.name),
        Intrinsic::Status => Column::Status(&batch.status),
        Intrinsic::StatusMessage => Column::StrOrEmpty(batch.status_message.as_ref()?),
        Intrinsic::Kind => Column::Kind(&batch.kind),
        Intrinsic::SpanId => Column::Id(&batch.span_id),
        Intrinsic::ParentId => Column::Id(&batch.parent_span_id),
        Intrinsic::ChildCount => Column::Ints(view.per_tree(|tree, i| i64::from(tree.children[i]))),
        Intrinsic::TraceDuration => {
            let mut out = Vec::with_capacity(batch.rows());
            for trace in 0..batch.traces() {
                let (start, end) = batch.trace_time(trace);
                out.resize(batch.trace_rows(trace).end, end.saturating_sub(start));
            }
            Column::Durations(out)
        }
        Intrinsic::RootName => view.per_root(|row| batch.name.value(row)),
        Intrinsic::RootServiceName => view.per_root(|row| batch.service(row)),
        Intrinsic::TraceId => Column::Id(&batch.trace_id),
        Intrinsic::EventName => {
            return Some((Level::Event, Column::StrOrEmpty(&batch.events.as_ref()?.name)));
        }
        Intrinsic::EventTimeSinceStart => {
            let events = batch.events.as_ref()?;
            let mut out = Vec::with_capacity(events.time.len());
            for (row, range) in events.offsets.windows(2).enumerate() {
                let start = batch.start.value(row);
                out.extend((range[0]..range[1]).map(|i| events.time.value(i as usize).saturating_sub(start)));
            }
            return Some((Level::Event, Column::Durations(out)));
        }
        Intrinsic::LinkTraceId => return Some((Level::Link, Column::Id(&batch.links.as_ref()?.trace_id))),
        Intrinsic::LinkSpanId => return Some((Level::Link, Column::Id(&batch.links.as_ref()?.span_id))),
        Intrinsic::InstrumentationName => Column::StrOrEmpty(batch.scope_name.as_ref()?),
        Intrinsic::InstrumentationVersion => Column::StrOrEmpty(batch.scope_version.as_ref()?),
        Intrinsic::NestedSetLeft => Column::Ints(view.per_tree(|tree, i| i64::from(tree.left[i]))),
        Intrinsic::NestedSetRight => Column::Ints(view.per_tree(|tree, i| i64::from(tree.right[i]))),
        Intrinsic::NestedSetParent => Column::Ints(view.per_tree(|tree, i| i64::from(tree.parent_number(i)))),
        Intrinsic::Parent => return None,
    };
    Some((Level::Span, column))
}
