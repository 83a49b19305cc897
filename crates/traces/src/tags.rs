//! Tag names and tag values: from the lists that heads and blocks keep, or from the rows when a filter
//! is given or the values are too many to be listed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::Array;
use arrow_buffer::BooleanBuffer;
use model::TenantId;
use service::Failure;
use traceql::ast::Attribute;
use traceql::{AttributeColumn, EvalError, Field, FieldSet, Filter, Intrinsic, Scope, SpanBatch, ValueRef};

use crate::keys::{self, Keys, SCOPES, Type, Values};
use crate::query::Querier;
use crate::scan::{Cost, Evaluate, Plan, each_keys, scan};

/// The intrinsics that autocompletion offers.
pub(crate) const INTRINSICS: [&str; 25] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

/// A type's name and a value's text.
pub(crate) type TagValue = (&'static str, String);

/// Names by scope (`span`, `resource`, …).
pub(crate) type TagNames = BTreeMap<&'static str, BTreeSet<String>>;

pub(crate) fn scope_name(scope: keys::Scope) -> &'static str {
    match scope {
        keys::Scope::Span => "span",
        keys::Scope::Resource => "resource",
        keys::Scope::Event => "event",
        keys::Scope::Link => "link",
        keys::Scope::Instrumentation => "instrumentation",
        keys::Scope::Intrinsic => "intrinsic",
    }
}

impl Querier {
    /// The names of attributes; with a filter only those of spans that pass it.
    pub(crate) async fn tag_names(
        &self,
        tenants: &[TenantId],
        filter: Option<Filter>,
        range: (i64, i64),
    ) -> Result<(TagNames, Cost), Failure> {
        let mut names = TagNames::new();
        let look = |keys: &Keys| {
            for (scope, name, _) in keys.iter().filter(|(scope, ..)| *scope != keys::Scope::Intrinsic) {
                names.entry(scope_name(scope)).or_default().insert(name.to_owned());
            }
        };
        let cost = each_keys(&self.store, tenants, range, look).await?;
        let Some(filter) = filter else { return Ok((names, cost)) };
        let mut fields = filter.fields();
        fields.all_attributes = true;
        for (scope, name) in [(Scope::Event, "event"), (Scope::Link, "link")] {
            for name in names.get(name).into_iter().flatten() {
                fields.attributes.insert((Some(scope), Arc::from(name.as_str())));
                fields.events |= scope == Scope::Event;
                fields.links |= scope == Scope::Link;
            }
        }
        let plan = Plan { fields, conditions: filter.conditions(), range };
        let (found, cost) =
            scan(&self.store, tenants, &plan, Names { filter, names: TagNames::new() }).await?;
        Ok((found.names, cost))
    }

    /// The values of a field, at most `limit` (unless 0); with a filter only those of spans that pass it.
    pub(crate) async fn tag_values(
        &self,
        tenants: &[TenantId],
        field: &Field,
        filter: Option<Filter>,
        range: (i64, i64),
        limit: usize,
    ) -> Result<(BTreeSet<TagValue>, Cost), Failure> {
        let keyword = |words: &[&str]| {
            Ok((words.iter().map(|w| ("keyword", w.to_string())).collect(), Cost::default()))
        };
        match field {
            Field::Intrinsic(Intrinsic::Status) => return keyword(&["error", "ok", "unset"]),
            Field::Intrinsic(Intrinsic::Kind) => {
                return keyword(&["client", "consumer", "internal", "producer", "server", "unspecified"]);
            }
            Field::Intrinsic(
                Intrinsic::Name
                | Intrinsic::StatusMessage
                | Intrinsic::RootName
                | Intrinsic::RootServiceName
                | Intrinsic::EventName
                | Intrinsic::InstrumentationName
                | Intrinsic::InstrumentationVersion,
            )
            | Field::Attribute(_) => {}
            // Durations, ids and numbers of the tree are without end.
            Field::Intrinsic(_) => return Ok((BTreeSet::new(), Cost::default())),
        }
        let fields = scoped(field);
        let max_bytes = self.config.overrides.defaults.read.max_bytes_per_tag_values_query.as_usize();
        let mut found = Found { values: BTreeSet::new(), bytes: 0, limit, max_bytes };
        if filter.is_none() {
            let mut is_complete = true;
            let look = |keys: &Keys| {
                for field in &fields {
                    is_complete &= listed(keys, field, &mut found);
                }
            };
            let cost = each_keys(&self.store, tenants, range, look).await?;
            if is_complete || found.is_full() {
                return Ok((found.values, cost));
            }
        }
        let mut columns = filter.as_ref().map(Filter::fields).unwrap_or_default();
        fields.iter().for_each(|field| add_field(&mut columns, field));
        let conditions = filter.as_ref().map(Filter::conditions).unwrap_or_default();
        let plan = Plan { fields: columns, conditions, range };
        let (collected, cost) = scan(&self.store, tenants, &plan, Collect { filter, fields, found }).await?;
        Ok((collected.found.values, cost))
    }
}

/// An unscoped name means the span's and the resource's.
fn scoped(field: &Field) -> Vec<Field> {
    match field {
        Field::Attribute(a @ Attribute { scope: None, .. }) => [Scope::Span, Scope::Resource]
            .map(|scope| Field::Attribute(Attribute { scope: Some(scope), ..a.clone() }))
            .into(),
        other => vec![other.clone()],
    }
}

fn add_field(columns: &mut FieldSet, field: &Field) {
    match field {
        Field::Attribute(attribute) => {
            columns.attributes.insert((attribute.scope, attribute.name.clone()));
            columns.events |= attribute.scope == Some(Scope::Event);
            columns.links |= attribute.scope == Some(Scope::Link);
        }
        Field::Intrinsic(Intrinsic::StatusMessage) => columns.status_message = true,
        Field::Intrinsic(Intrinsic::InstrumentationName) => columns.scope_name = true,
        Field::Intrinsic(Intrinsic::InstrumentationVersion) => columns.scope_version = true,
        Field::Intrinsic(Intrinsic::EventName) => columns.events = true,
        Field::Intrinsic(_) => {}
    }
}

/// Adds the values that a source lists; whether these are all.
fn listed(keys: &Keys, field: &Field, found: &mut Found) -> bool {
    let usages = match field {
        Field::Attribute(attribute) => {
            let scope =
                SCOPES.into_iter().find(|s| attribute.scope.is_some_and(|a| a.as_str() == scope_name(*s)));
            scope.map(|scope| keys.get(scope, &attribute.name)).unwrap_or_default()
        }
        Field::Intrinsic(intrinsic) => {
            let name = match intrinsic {
                Intrinsic::Name => "name",
                Intrinsic::StatusMessage => "statusMessage",
                Intrinsic::RootName => "rootName",
                Intrinsic::RootServiceName => "rootServiceName",
                Intrinsic::EventName => "event:name",
                Intrinsic::InstrumentationName => "instrumentation:name",
                Intrinsic::InstrumentationVersion => "instrumentation:version",
                _ => return false,
            };
            keys.get(keys::Scope::Intrinsic, name)
        }
    };
    let mut is_complete = true;
    for usage in usages {
        match &usage.values {
            Values::Strs(set) => set.iter().for_each(|s| found.add(ValueRef::Str(s))),
            Values::Ints(set) if usage.of == Type::Bool => {
                set.iter().for_each(|b| found.add(ValueRef::Bool(*b != 0)));
            }
            Values::Ints(set) => set.iter().for_each(|n| found.add(ValueRef::Int(*n))),
            Values::Floats(set) => set.iter().for_each(|f| found.add(ValueRef::Float(f64::from_bits(*f)))),
            Values::Many => is_complete &= usage.of == Type::Other,
        }
    }
    is_complete
}

/// Values found so far, and when to stop.
struct Found {
    values: BTreeSet<TagValue>,
    bytes: usize,
    limit: usize,
    max_bytes: usize,
}

impl Found {
    fn is_full(&self) -> bool {
        self.limit > 0 && self.values.len() >= self.limit
            || self.max_bytes > 0 && self.bytes >= self.max_bytes
    }

    fn add(&mut self, value: ValueRef<'_>) {
        let value = match value {
            ValueRef::Nil | ValueRef::Array(_) => return,
            ValueRef::Str(text) => ("string", text.to_owned()),
            ValueRef::Shared(text) => ("string", text.to_string()),
            ValueRef::Int(n) => ("int", n.to_string()),
            ValueRef::Float(f) => ("float", float_text(f)),
            ValueRef::Bool(b) => ("bool", b.to_string()),
            ValueRef::Duration(nanos) => ("duration", model::duration::format_go(nanos)),
            ValueRef::Status(status) => ("keyword", status.as_str().to_owned()),
            ValueRef::Kind(kind) => ("keyword", kind.as_str().to_owned()),
        };
        if !self.is_full() && value != ("string", String::new()) {
            let bytes = value.1.len();
            if self.values.insert(value) {
                self.bytes += bytes;
            }
        }
    }
}

/// The shortest text that is a float again.
fn float_text(f: f64) -> String {
    let text = if f != 0.0 && (f.abs() < 1e-4 || f.abs() >= 1e21) { format!("{f:e}") } else { f.to_string() };
    if f.is_finite() && !text.contains(['.', 'e']) { text + ".0" } else { text }
}

/// Collects the values of fields.
struct Collect {
    filter: Option<Filter>,
    fields: Vec<Field>,
    found: Found,
}

fn select(filter: &Option<Filter>, batch: &SpanBatch) -> BooleanBuffer {
    match filter {
        Some(filter) => filter.select(batch),
        None => BooleanBuffer::new_set(batch.rows()),
    }
}

impl Evaluate for Collect {
    fn push(&mut self, batch: &SpanBatch) -> Result<(), EvalError> {
        let selected = select(&self.filter, batch);
        for field in &self.fields {
            traceql::field_values(batch, field, &selected, &mut |value| self.found.add(value));
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.found.is_full()
    }
}

/// Collects the names of attributes that selected spans have.
struct Names {
    filter: Filter,
    names: TagNames,
}

impl Evaluate for Names {
    fn push(&mut self, batch: &SpanBatch) -> Result<(), EvalError> {
        let selected = self.filter.select(batch);
        let mut add = |scope: &'static str, name: &str| {
            self.names.entry(scope).or_default().insert(name.to_owned());
        };
        for ((scope, name), column) in &batch.attributes {
            if selected.set_indices().any(|row| is_there(column, row)) {
                add(scope.as_str(), name);
            }
        }
        let items = |offsets: &[u32]| -> Vec<usize> {
            selected.set_indices().flat_map(|row| offsets[row] as usize..offsets[row + 1] as usize).collect()
        };
        if let Some(events) = &batch.events {
            let rows = items(&events.offsets);
            for (name, column) in &events.attributes {
                if rows.iter().any(|row| is_there(column, *row)) {
                    add("event", name);
                }
            }
        }
        if let Some(links) = &batch.links {
            let rows = items(&links.offsets);
            for (name, column) in &links.attributes {
                if rows.iter().any(|row| is_there(column, *row)) {
                    add("link", name);
                }
            }
        }
        Ok(())
    }
}

fn is_there(column: &AttributeColumn, row: usize) -> bool {
    column.strings.as_ref().is_some_and(|a| a.is_valid(row))
        || column.ints.as_ref().is_some_and(|a| a.is_valid(row))
        || column.floats.as_ref().is_some_and(|a| a.is_valid(row))
        || column.bools.as_ref().is_some_and(|a| a.is_valid(row))
        || column.arrays.as_ref().is_some_and(|a| a.is_valid(row))
}
