//! A whole trace as OTLP again: spans out of blocks and heads, each once, grouped by resource and scope.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt8Type, UInt32Type};
use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use bytes::Bytes;
use hashbrown::HashSet;
use model::{SpanId, TraceId};
use wire::otlp::encode::{ResourceGroup, ScopeGroup, request};
use wire::otlp::traces::Span;
use wire::otlp::{Resource, Scope};
use wire::proto::{Fields, Value, Writer};

use crate::index::AttributeColumn;
use crate::pick::{AttributeList, Found};
use crate::record::{Record, Row};
use crate::schema;
use crate::source::{column, parents, timestamps, trace_offsets};
use crate::value::{self, Origin};

const SERVER: u8 = 2;
const CLIENT: u8 = 3;

/// A span on its way into the answer.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Texts of resource and scope: equal texts share a group.
    resource: String,
    scope: String,
    trace: TraceId,
    span: SpanId,
    parent: SpanId,
    kind: u8,
    start: i64,
    raw: Bytes,
}

impl Piece {
    /// A span of a head.
    pub(crate) fn from_head(record: &Record, row: &Row) -> Option<Self> {
        let context = &record.contexts[row.context as usize];
        let span = Span::parse(record.raw(row)).ok()?;
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let resource = Resource::parse(&context.resource).ok()?;
        let scope = Scope::parse(&context.scope).ok()?;
        let mut raw = record.raw(row).to_vec();
        if !Fields::new(&raw).map_while(Result::ok).any(|(number, _)| number == 15) {
            // An empty status: readers take its presence for granted.
            raw.extend_from_slice(&[15 << 3 | 2, 0]);
        }
        Some(Self {
            resource: value::resource_json(&resource, &text(&context.resource_schema_url)),
            scope: value::scope_json(&scope, &text(&context.scope_schema_url)),
            trace: row.trace,
            span: row.span,
            parent: SpanId::from_slice(span.parent_span_id).unwrap_or_default(),
            kind: row.kind,
            start: row.start,
            raw: raw.into(),
        })
    }

    /// The spans of whole traces of a block, read with all columns.
    pub(crate) fn from_block(
        batch: &RecordBatch,
        columns: &[AttributeColumn],
    ) -> Result<Vec<Self>, ArrowError> {
        let trace_id = column(batch, schema::TRACE_ID)?.as_fixed_size_binary();
        let span_id = column(batch, schema::SPAN_ID)?.as_fixed_size_binary();
        let parents = parents(batch, span_id, &trace_offsets(trace_id))?;
        let start = timestamps(column(batch, schema::START)?);
        let duration = column(batch, schema::DURATION)?.as_primitive::<Int64Type>();
        let name = column(batch, schema::NAME)?.as_string::<i32>();
        let kind = column(batch, schema::KIND)?.as_primitive::<UInt8Type>();
        let status = column(batch, schema::STATUS)?.as_primitive::<UInt8Type>();
        let text = |name| Ok::<_, ArrowError>(column(batch, name)?.as_string::<i32>());
        let (status_message, trace_state) = (text(schema::STATUS_MESSAGE)?, text(schema::TRACE_STATE)?);
        let number = |name| Ok::<_, ArrowError>(column(batch, name)?.as_primitive::<UInt32Type>());
        let flags = number(schema::FLAGS)?;
        let dropped_attributes = number(schema::DROPPED_ATTRIBUTES)?;
        let dropped_events = number(schema::DROPPED_EVENTS)?;
        let dropped_links = number(schema::DROPPED_LINKS)?;
        let resource = column(batch, schema::RESOURCE)?.as_dictionary::<Int32Type>();
        let resource = resource.downcast_dict().ok_or_else(wrong_type)?;
        let resource: &arrow_array::TypedDictionaryArray<'_, Int32Type, arrow_array::StringArray> = &resource;
        let scope = column(batch, schema::SCOPE)?.as_dictionary::<Int32Type>();
        let scope = scope.downcast_dict::<arrow_array::StringArray>().ok_or_else(wrong_type)?;
        let order = column(batch, schema::ORDER)?.as_dictionary::<Int32Type>();
        let orders = order.values().as_string::<i32>();
        let attributes = Attributes::new(batch, columns)?;
        let events = column(batch, schema::EVENTS)?.as_list::<i32>();
        let links = column(batch, schema::LINKS)?.as_list::<i32>();

        let mut pieces = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let mut w = Writer::with_capacity(256);
            w.bytes(1, trace_id.value(row));
            w.bytes(2, span_id.value(row));
            w.string(3, if trace_state.is_valid(row) { trace_state.value(row) } else { "" });
            let parent = SpanId::from_slice(parents.value(row)).unwrap_or_default();
            if !parent.is_zero() {
                w.bytes(4, &parent.0);
            }
            w.string(5, name.value(row));
            varint(&mut w, 6, kind.value(row).into());
            fixed64(&mut w, 7, start.value(row) as u64);
            fixed64(&mut w, 8, start.value(row).wrapping_add(duration.value(row)) as u64);
            let order = order.is_valid(row).then(|| orders.value(order.keys().value(row) as usize));
            attributes.write(&mut w, row, order);
            varint(&mut w, 10, number_at(dropped_attributes, row));
            write_events(&mut w, events, row, start.value(row));
            varint(&mut w, 12, number_at(dropped_events, row));
            write_links(&mut w, links, row);
            varint(&mut w, 14, number_at(dropped_links, row));
            w.message(15, |w| {
                w.string(2, if status_message.is_valid(row) { status_message.value(row) } else { "" });
                varint(w, 3, status.value(row).into());
            });
            if flags.is_valid(row) {
                w.fixed32(16, flags.value(row));
            }
            pieces.push(Self {
                resource: text_at(resource.values(), resource.keys().value(row)),
                scope: text_at(scope.values(), scope.keys().value(row)),
                trace: TraceId::from_slice(trace_id.value(row)).unwrap_or_default(),
                span: SpanId::from_slice(span_id.value(row)).unwrap_or_default(),
                parent,
                kind: kind.value(row),
                start: start.value(row),
                raw: w.finish().into(),
            });
        }
        Ok(pieces)
    }

    /// The trace it belongs to.
    pub(crate) fn trace(&self) -> TraceId {
        self.trace
    }

    /// Size of the encoded span.
    pub(crate) fn bytes(&self) -> usize {
        self.raw.len()
    }
}

fn wrong_type() -> ArrowError {
    ArrowError::SchemaError("resource and scope must be text".to_owned())
}

fn text_at(texts: &arrow_array::StringArray, key: i32) -> String {
    texts.value(key as usize).to_owned()
}

/// Null counts as zero.
fn number_at(numbers: &UInt32Array, row: usize) -> u64 {
    if numbers.is_valid(row) { numbers.value(row).into() } else { 0 }
}

fn varint(w: &mut Writer, field: u32, n: u64) {
    if n != 0 {
        w.varint(field, n);
    }
}

fn fixed64(w: &mut Writer, field: u32, n: u64) {
    if n != 0 {
        w.fixed64(field, n);
    }
}

/// The attribute columns of a batch, in the order that [`schema::ORDER`] counts them.
struct Attributes<'a> {
    columns: Vec<(&'a str, traceql::AttributeColumn)>,
    rest: AttributeList<'a>,
}

impl<'a> Attributes<'a> {
    fn new(batch: &'a RecordBatch, columns: &'a [AttributeColumn]) -> Result<Self, ArrowError> {
        let read = |c: &'a AttributeColumn| {
            let array = column(batch, &c.column)?;
            Ok((c.name.as_str(), crate::source::own_column(std::iter::once((c.of, array)))))
        };
        Ok(Self {
            columns: columns.iter().map(read).collect::<Result<_, ArrowError>>()?,
            rest: AttributeList::of(column(batch, schema::REST)?.as_list()),
        })
    }

    fn write(&self, w: &mut Writer, row: usize, order: Option<&str>) {
        let mut rest = self.rest.row(row);
        let own = |w: &mut Writer, (name, columns): &(&str, traceql::AttributeColumn)| {
            if let Some(value) = crate::pick::own_value(columns, row) {
                write_attribute(w, 9, name, Ok(value));
            }
        };
        match order {
            None => self.columns.iter().for_each(|c| own(w, c)),
            Some(order) => {
                for place in order.split(',') {
                    match place.parse::<usize>() {
                        Ok(i) => {
                            if let Some(column) = self.columns.get(i) {
                                own(w, column);
                            }
                        }
                        Err(_) => {
                            if let Some((name, value)) = rest.next() {
                                write_attribute(w, 9, name, value);
                            }
                        }
                    }
                }
            }
        }
        rest.for_each(|(name, value)| write_attribute(w, 9, name, value));
    }
}

fn write_attribute(w: &mut Writer, field: u32, name: &str, value: Result<Found<'_>, &str>) {
    w.message(field, |w| {
        w.string(1, name);
        w.message(2, |w| match value {
            Ok(Found::Str(text)) => w.bytes(1, text.as_bytes()),
            Ok(Found::Bool(b)) => w.varint(2, b.into()),
            Ok(Found::Int(n)) => w.varint(3, n as u64),
            Ok(Found::Float(f)) => w.fixed64(4, f.to_bits()),
            Ok(Found::Array(json)) => w.raw(&value::parse_value(&format!("{{\"arrayValue\":{json}}}"))),
            Err(json) => w.raw(&value::parse_value(json)),
        });
    });
}

fn write_events(w: &mut Writer, list: &arrow_array::ListArray, row: usize, start: i64) {
    let items = list.values().as_struct();
    let time = items.column(0).as_primitive::<Int64Type>();
    let name = items.column(1).as_string::<i32>();
    let dropped = items.column(2).as_primitive::<UInt32Type>();
    let attributes = AttributeList::of(items.column(3).as_list());
    for at in list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize {
        w.message(11, |w| {
            fixed64(w, 1, start.wrapping_add(time.value(at)) as u64);
            w.string(2, name.value(at));
            attributes.row(at).for_each(|(name, value)| write_attribute(w, 3, name, value));
            varint(w, 4, number_at(dropped, at));
        });
    }
}

fn write_links(w: &mut Writer, list: &arrow_array::ListArray, row: usize) {
    let items = list.values().as_struct();
    let ids = [items.column(0).as_binary::<i32>(), items.column(1).as_binary::<i32>()];
    let state = items.column(2).as_string::<i32>();
    let flags = items.column(3).as_primitive::<UInt32Type>();
    let dropped = items.column(4).as_primitive::<UInt32Type>();
    let attributes = AttributeList::of(items.column(5).as_list());
    for at in list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize {
        w.message(13, |w| {
            for (field, ids) in (1..).zip(ids) {
                if !ids.value(at).is_empty() {
                    w.bytes(field, ids.value(at));
                }
            }
            w.string(3, if state.is_valid(at) { state.value(at) } else { "" });
            attributes.row(at).for_each(|(name, value)| write_attribute(w, 4, name, value));
            varint(w, 5, number_at(dropped, at));
            if flags.is_valid(at) {
                w.fixed32(6, flags.value(at));
            }
        });
    }
}

/// The trace: copies of a span (same id and kind) become one, a server span that shares its id with a client span gets an
/// id of its own, spans are in order of start, scopes and resources in order of their first span.
pub(crate) fn assemble(mut pieces: Vec<Piece>) -> Bytes {
    let mut seen = HashSet::new();
    pieces.retain(|p| seen.insert((p.trace, p.span, p.kind)));
    pieces.sort_by_key(|p| p.start);
    split_shared_ids(&mut pieces);
    regroup(pieces)
}

/// A request of spans as they are, grouped by resource and scope.
pub(crate) fn regroup(pieces: Vec<Piece>) -> Bytes {
    let mut groups: Vec<ResourceGroup<Bytes>> = Vec::new();
    let mut places: HashMap<String, (usize, HashMap<String, usize>)> = HashMap::new();
    for piece in pieces {
        let (group, scopes) = places.entry(piece.resource).or_insert_with_key(|text| {
            let Origin { raw, schema_url } = value::parse_resource(text);
            groups.push(ResourceGroup {
                resource: raw.into(),
                schema_url: schema_url.into(),
                scopes: Vec::new(),
            });
            (groups.len() - 1, HashMap::new())
        });
        let group = &mut groups[*group];
        let scope = *scopes.entry(piece.scope).or_insert_with_key(|text| {
            let Origin { raw, schema_url } = value::parse_scope(text);
            let scope = ScopeGroup { scope: raw.into(), schema_url: schema_url.into(), items: Vec::new() };
            group.scopes.push(scope);
            group.scopes.len() - 1
        });
        group.scopes[scope].items.push(piece.raw);
    }
    request(&groups)
}

/// Zipkin lets the two sides of a call share one span: the server's side becomes a child of the client's.
fn split_shared_ids(pieces: &mut [Piece]) {
    let clients: HashSet<SpanId> = pieces.iter().filter(|p| p.kind == CLIENT).map(|p| p.span).collect();
    let servers: Vec<SpanId> =
        pieces.iter().filter(|p| p.kind == SERVER && clients.contains(&p.span)).map(|p| p.span).collect();
    if servers.is_empty() {
        return;
    }
    let mut taken: HashSet<SpanId> = pieces.iter().map(|p| p.span).collect();
    let mut renamed: HashMap<SpanId, SpanId> = HashMap::new();
    for shared in servers {
        let mut seed = 0;
        let new = loop {
            let id = SpanId(xxhash_rust::xxh3::xxh3_64_with_seed(&shared.0, seed).to_be_bytes());
            seed += 1;
            if !id.is_zero() && taken.insert(id) {
                break id;
            }
        };
        renamed.insert(shared, new);
    }
    for piece in pieces {
        let (mut span, mut parent) = (piece.span, piece.parent);
        if let Some(new) = renamed.get(&piece.span).filter(|_| piece.kind == SERVER) {
            (span, parent) = (*new, piece.span);
        } else if let Some(new) = renamed.get(&piece.parent) {
            parent = *new;
        }
        if (span, parent) != (piece.span, piece.parent) {
            piece.raw = with_ids(&piece.raw, span, parent);
            (piece.span, piece.parent) = (span, parent);
        }
    }
}

/// The encoded span with other ids.
fn with_ids(raw: &[u8], span: SpanId, parent: SpanId) -> Bytes {
    let mut w = Writer::with_capacity(raw.len() + 16);
    w.bytes(2, &span.0);
    if !parent.is_zero() {
        w.bytes(4, &parent.0);
    }
    for (number, value) in Fields::new(raw).map_while(Result::ok).filter(|(n, _)| *n != 2 && *n != 4) {
        match value {
            Value::Varint(v) => w.varint(number, v),
            Value::Fixed64(v) => w.fixed64(number, v),
            Value::Fixed32(v) => w.fixed32(number, v),
            Value::Len(v) => w.bytes(number, v),
        }
    }
    w.finish().into()
}
