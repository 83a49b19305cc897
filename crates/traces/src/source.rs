//! From stored columns to the batches that TraceQL evaluates, with only the attributes that a plan asks for.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampNanosecondType, UInt8Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray,
};
use arrow_buffer::Buffer;
use arrow_schema::ArrowError;
use traceql::{AttributeColumn, EventColumns, FieldSet, LinkColumns, Scope, SpanBatch};
use wire::otlp::{AnyValue, Resource, Scope as ScopeMessage};

use crate::index::{AttributeColumn as Stored, Index};
use crate::keys::{self, Keys, Type};
use crate::pick::{AttributeList, Found, Picker};
use crate::schema::{self, Layout, Parts};
use crate::value::{self, Origin};

/// What a plan wants of one source, its unscoped names resolved to the scopes where they occur.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    attributes: Vec<(Scope, Arc<str>)>,
    status_message: bool,
    scope_name: bool,
    scope_version: bool,
    events: bool,
    links: bool,
}

fn stored_scope(scope: Scope) -> keys::Scope {
    match scope {
        Scope::Span => keys::Scope::Span,
        Scope::Resource => keys::Scope::Resource,
        Scope::Event => keys::Scope::Event,
        Scope::Link => keys::Scope::Link,
        Scope::Instrumentation => keys::Scope::Instrumentation,
    }
}

impl Wanted {
    /// Resolves a plan's fields against the attributes that a source has.
    pub(crate) fn new(fields: &FieldSet, keys: &Keys) -> Self {
        let mut attributes = Vec::new();
        let mut add = |scope: Scope, name: &Arc<str>| {
            let there = !keys.get(stored_scope(scope), name).is_empty();
            if there && !attributes.contains(&(scope, name.clone())) {
                attributes.push((scope, name.clone()));
            }
        };
        for (scope, name) in &fields.attributes {
            match scope {
                Some(scope) => add(*scope, name),
                None => Scope::ALL.into_iter().for_each(|scope| add(scope, name)),
            }
        }
        if fields.all_attributes {
            for (scope, name, _) in keys.iter() {
                let scope = match scope {
                    keys::Scope::Span => Scope::Span,
                    keys::Scope::Resource => Scope::Resource,
                    keys::Scope::Instrumentation => Scope::Instrumentation,
                    keys::Scope::Event | keys::Scope::Link | keys::Scope::Intrinsic => continue,
                };
                add(scope, &name.into());
            }
        }
        Self {
            attributes,
            status_message: fields.status_message,
            scope_name: fields.scope_name,
            scope_version: fields.scope_version,
            events: fields.events,
            links: fields.links,
        }
    }

    fn names(&self, scope: Scope) -> impl Iterator<Item = &Arc<str>> {
        self.attributes.iter().filter(move |(s, _)| *s == scope).map(|(_, name)| name)
    }

    fn has(&self, scope: Scope) -> bool {
        self.names(scope).next().is_some()
    }

    /// The parts of a batch that hold what is wanted; the list of other attributes not among them.
    fn parts(&self) -> Parts {
        Parts {
            resource: self.has(Scope::Resource),
            scope: self.has(Scope::Instrumentation) || self.scope_name || self.scope_version,
            rest: false,
            status_message: self.status_message,
            events: self.events,
            links: self.links,
            detail: false,
        }
    }

    /// The columns of a block to read.
    pub(crate) fn columns<'a>(&'a self, index: &'a Index) -> Vec<&'a str> {
        let parts = self.parts();
        let mut columns = vec![
            schema::TRACE_ID,
            schema::SPAN_ID,
            schema::PARENT_SPAN_ID,
            schema::NESTED_LEFT,
            schema::NESTED_PARENT,
            schema::START,
            schema::DURATION,
            schema::NAME,
            schema::SERVICE_NAME,
            schema::KIND,
            schema::STATUS,
        ];
        let optional = [
            (parts.status_message, schema::STATUS_MESSAGE),
            (parts.resource, schema::RESOURCE),
            (parts.scope, schema::SCOPE),
            (parts.events, schema::EVENTS),
            (parts.links, schema::LINKS),
            (self.names(Scope::Span).any(|name| index.is_in_rest(name)), schema::REST),
        ];
        columns.extend(optional.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| *name));
        for name in self.names(Scope::Span) {
            columns.extend(index.columns(name).iter().map(|c| c.column.as_str()));
        }
        columns
    }

    /// The columns to make out of encoded spans.
    pub(crate) fn layout(&self, keys: &Keys) -> Layout {
        let column = |name: &Arc<str>, of: Type| Stored {
            name: name.to_string(),
            of,
            column: format!("span.{name}#{of:?}"),
        };
        let columns = self
            .names(Scope::Span)
            .flat_map(|name| keys.get(keys::Scope::Span, name).iter().map(move |u| column(name, u.of)))
            .filter(|c| c.of != Type::Other)
            .collect();
        Layout { columns, parts: self.parts() }
    }
}

/// Makes span batches of record batches.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    resources: HashMap<String, Arc<Origin>>,
    scopes: HashMap<String, Arc<Origin>>,
}

impl Reader {
    /// Converts rows of whole traces; `columns` gives the columns of a span attribute.
    pub(crate) fn read<'a>(
        &mut self,
        batch: &RecordBatch,
        wanted: &Wanted,
        columns: impl Fn(&str) -> &'a [Stored],
    ) -> Result<SpanBatch, ArrowError> {
        let start: Int64Array = timestamps(column(batch, schema::START)?);
        let trace_id = column(batch, schema::TRACE_ID)?.as_fixed_size_binary().clone();
        let span_id = column(batch, schema::SPAN_ID)?.as_fixed_size_binary().clone();
        let trace_offsets = trace_offsets(&trace_id);
        let parent_span_id = parents(batch, &span_id, &trace_offsets)?;
        let mut attributes = HashMap::new();
        let rest = batch.column_by_name(schema::REST).map(|c| AttributeList::of(c.as_list()));
        for name in wanted.names(Scope::Span) {
            let stored = columns(name).iter().filter_map(|c| Some((c.of, batch.column_by_name(&c.column)?)));
            let own = own_column(stored);
            let column = match &rest {
                Some(rest) => rest.overlay(name, own, batch.num_rows()),
                None => own,
            };
            attributes.insert((Scope::Span, name.clone()), column);
        }
        if let Some(texts) = batch.column_by_name(schema::RESOURCE) {
            let origins = Origins::read(texts, &mut self.resources, value::parse_resource);
            for name in wanted.names(Scope::Resource) {
                let column = origins.attribute(|raw| Resource::parse(raw).ok()?.attributes().get(name));
                attributes.insert((Scope::Resource, name.clone()), column);
            }
        }
        let (mut scope_name, mut scope_version) = (None, None);
        if let Some(texts) = batch.column_by_name(schema::SCOPE) {
            let origins = Origins::read(texts, &mut self.scopes, value::parse_scope);
            for name in wanted.names(Scope::Instrumentation) {
                let column = origins.attribute(|raw| ScopeMessage::parse(raw).ok()?.attributes().get(name));
                attributes.insert((Scope::Instrumentation, name.clone()), column);
            }
            scope_name = wanted.scope_name.then(|| origins.text(|s| s.name));
            scope_version = wanted.scope_version.then(|| origins.text(|s| s.version));
        }
        let events = batch.column_by_name(schema::EVENTS).map(|list| events(list.as_list(), &start, wanted));
        let links = batch.column_by_name(schema::LINKS).map(|list| links(list.as_list(), wanted));
        Ok(SpanBatch {
            trace_offsets,
            trace_id,
            span_id,
            parent_span_id,
            start,
            duration: column(batch, schema::DURATION)?.as_primitive::<Int64Type>().clone(),
            kind: column(batch, schema::KIND)?.as_primitive::<UInt8Type>().clone(),
            status: column(batch, schema::STATUS)?.as_primitive::<UInt8Type>().clone(),
            service_name: column(batch, schema::SERVICE_NAME)?.as_string::<i32>().clone(),
            name: column(batch, schema::NAME)?.as_string::<i32>().clone(),
            status_message: batch
                .column_by_name(schema::STATUS_MESSAGE)
                .map(|c| c.as_string::<i32>().clone()),
            scope_name,
            scope_version,
            attributes,
            events,
            links,
        })
    }
}

/// A column by name.
pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
}

/// A column of timestamps as plain nanoseconds.
pub(crate) fn timestamps(column: &ArrayRef) -> Int64Array {
    let times = column.as_primitive::<TimestampNanosecondType>();
    Int64Array::new(times.values().clone(), times.nulls().cloned())
}

/// Where the traces of sorted rows begin, and the number of rows.
pub(crate) fn trace_offsets(trace_id: &FixedSizeBinaryArray) -> Vec<u32> {
    let mut offsets = Vec::new();
    for row in 0..trace_id.len() {
        if row == 0 || trace_id.value(row) != trace_id.value(row - 1) {
            offsets.push(row as u32);
        }
    }
    offsets.push(trace_id.len() as u32);
    offsets
}

/// Parent ids: named ones as they stand, others by the nested sets. All zero means none.
pub(crate) fn parents(
    batch: &RecordBatch,
    span_id: &FixedSizeBinaryArray,
    trace_offsets: &[u32],
) -> Result<FixedSizeBinaryArray, ArrowError> {
    let named = column(batch, schema::PARENT_SPAN_ID)?.as_fixed_size_binary();
    let (Some(left), Some(parent)) =
        (batch.column_by_name(schema::NESTED_LEFT), batch.column_by_name(schema::NESTED_PARENT))
    else {
        return Ok(named.clone());
    };
    let left = left.as_primitive::<Int32Type>().values();
    let parent = parent.as_primitive::<Int32Type>().values();
    let mut ids = vec![0u8; named.len() * 8];
    let mut by_left: Vec<u32> = Vec::new();
    for trace in trace_offsets.windows(2) {
        let rows = trace[0] as usize..trace[1] as usize;
        // A tree of n spans uses the numbers 1..=2n.
        by_left.clear();
        by_left.resize(rows.len() * 2 + 1, u32::MAX);
        for row in rows.clone() {
            if let Some(place) = usize::try_from(left[row]).ok().and_then(|l| by_left.get_mut(l)) {
                *place = row as u32;
            }
        }
        for row in rows {
            let id = if named.is_valid(row) {
                named.value(row)
            } else {
                let at = usize::try_from(parent[row]).ok().filter(|p| *p > 0);
                match at.and_then(|p| by_left.get(p)).filter(|r| **r != u32::MAX) {
                    Some(parent) => span_id.value(*parent as usize),
                    None => continue,
                }
            };
            ids[row * 8..][..8].copy_from_slice(id);
        }
    }
    FixedSizeBinaryArray::try_new(8, Buffer::from_vec(ids), None)
}

/// An attribute that has columns of its own.
pub(crate) fn own_column<'a>(columns: impl Iterator<Item = (Type, &'a ArrayRef)>) -> AttributeColumn {
    let mut own = AttributeColumn::default();
    for (of, column) in columns {
        match of {
            Type::Str => own.strings = Some(column.as_string::<i32>().clone()),
            Type::Int => own.ints = Some(column.as_primitive::<Int64Type>().clone()),
            Type::Float => own.floats = Some(column.as_primitive().clone()),
            Type::Bool => own.bools = Some(column.as_boolean().clone()),
            Type::Array | Type::Other => own.arrays = Some(column.as_string::<i32>().clone()),
        }
    }
    own
}

/// The resources or scopes of rows: few distinct ones, by number.
struct Origins<'a> {
    keys: &'a [i32],
    distinct: Vec<Option<Arc<Origin>>>,
}

impl<'a> Origins<'a> {
    fn read(
        column: &'a ArrayRef,
        cache: &mut HashMap<String, Arc<Origin>>,
        parse: impl Fn(&str) -> Origin,
    ) -> Self {
        let column = column.as_dictionary::<Int32Type>();
        let keys: &[i32] = column.keys().values();
        let texts = column.values().as_string::<i32>();
        let mut distinct = vec![None; texts.len()];
        for key in keys {
            let place = &mut distinct[*key as usize];
            if place.is_none() {
                let text = texts.value(*key as usize);
                let origin = match cache.get(text) {
                    Some(origin) => origin.clone(),
                    None => {
                        let origin = Arc::new(parse(text));
                        cache.insert(text.to_owned(), origin.clone());
                        origin
                    }
                };
                *place = Some(origin);
            }
        }
        Self { keys, distinct }
    }

    fn attribute(&self, get: impl for<'r> Fn(&'r [u8]) -> Option<AnyValue<'r>>) -> AttributeColumn {
        let arrays: Vec<Option<String>> = self
            .distinct
            .iter()
            .map(|origin| match get(&origin.as_ref()?.raw)? {
                array @ AnyValue::Array(_) => {
                    let mut json = String::new();
                    value::write_array(&array, &mut json);
                    Some(json)
                }
                _ => None,
            })
            .collect();
        let found: Vec<Option<Found<'_>>> = self
            .distinct
            .iter()
            .zip(&arrays)
            .map(|(origin, array)| {
                Some(match get(&origin.as_ref()?.raw)? {
                    AnyValue::Str(text) => Found::Str(text),
                    AnyValue::Int(n) => Found::Int(n),
                    AnyValue::Double(f) => Found::Float(f),
                    AnyValue::Bool(b) => Found::Bool(b),
                    AnyValue::Array(_) => Found::Array(array.as_deref()?),
                    AnyValue::Null | AnyValue::Bytes(_) | AnyValue::KvList(_) => return None,
                })
            })
            .collect();
        let mut picker = Picker::default();
        for (row, key) in self.keys.iter().enumerate() {
            if let Some(found) = found[*key as usize] {
                picker.set(row, found);
            }
        }
        picker.finish(self.keys.len())
    }

    fn text(&self, get: impl for<'r> Fn(&ScopeMessage<'r>) -> &'r str) -> StringArray {
        let texts: Vec<String> = self
            .distinct
            .iter()
            .map(|origin| {
                let scope = origin.as_ref().and_then(|o| ScopeMessage::parse(&o.raw).ok());
                scope.map(|s| get(&s).to_owned()).unwrap_or_default()
            })
            .collect();
        StringArray::from_iter_values(self.keys.iter().map(|key| &texts[*key as usize]))
    }
}

/// The items of a list column, and for each row where its items begin among them.
fn items(list: &ListArray) -> (Vec<u32>, StructArray) {
    let offsets = list.value_offsets();
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let items = list.values().as_struct().slice(first as usize, (last - first) as usize);
    (offsets.iter().map(|o| (o - first) as u32).collect(), items)
}

fn events(list: &ListArray, start: &Int64Array, wanted: &Wanted) -> EventColumns {
    let (offsets, items) = items(list);
    let since = items.column(0).as_primitive::<Int64Type>();
    let mut time = Vec::with_capacity(items.len());
    for (row, range) in offsets.windows(2).enumerate() {
        time.extend((range[0]..range[1]).map(|at| start.value(row).wrapping_add(since.value(at as usize))));
    }
    let list = AttributeList::of(items.column(3).as_list());
    let attribute = |name: &Arc<str>| (name.clone(), list.attribute(name, 0, items.len()));
    EventColumns {
        offsets,
        name: items.column(1).as_string::<i32>().clone(),
        time: time.into(),
        attributes: wanted.names(Scope::Event).map(attribute).collect(),
    }
}

fn links(list: &ListArray, wanted: &Wanted) -> LinkColumns {
    let (offsets, items) = items(list);
    let list = AttributeList::of(items.column(5).as_list());
    let attribute = |name: &Arc<str>| (name.clone(), list.attribute(name, 0, items.len()));
    LinkColumns {
        offsets,
        trace_id: fixed(items.column(0).as_binary(), 16),
        span_id: fixed(items.column(1).as_binary(), 8),
        attributes: wanted.names(Scope::Link).map(attribute).collect(),
    }
}

/// Ids of fixed width; an id of another length is none.
fn fixed(ids: &BinaryArray, width: usize) -> FixedSizeBinaryArray {
    let mut bytes = vec![0; ids.len() * width];
    for (row, place) in bytes.chunks_exact_mut(width).enumerate() {
        if ids.value(row).len() == width {
            place.copy_from_slice(ids.value(row));
        }
    }
    FixedSizeBinaryArray::new(width as i32, Buffer::from_vec(bytes), None)
}
