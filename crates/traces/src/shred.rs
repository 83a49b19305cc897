//! From encoded spans to columns: the flush makes all columns, a query of the head only those it needs.

use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeBinaryBuilder, Int32Builder, Int64Builder, StringBuilder, TimestampNanosecondBuilder,
    UInt8Builder, UInt32Builder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, StringArray};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use hashbrown::HashMap;
use model::SpanId;
use wire::otlp::traces::Span;
use wire::otlp::{Resource, Scope};

use crate::columns::{AttributeLists, EventLists, LinkLists, Sparse};
use crate::keys::Type;
use crate::record::{self, scalar};
use crate::schema::{self, Layout};
use crate::sorted::Sorted;
use crate::tree::{self, Nested};
use crate::value;

/// Distinct orders of attributes that are kept; senders that shuffle would make endless ones.
const MAX_ORDERS: usize = 4096;

/// The distinct texts of resources and scopes behind rows.
#[derive(Debug, Default)]
struct Origins {
    /// By record and context: number of the resource and of the scope.
    contexts: Vec<Vec<(i32, i32)>>,
    resources: Vec<String>,
    services: Vec<Option<String>>,
    scopes: Vec<String>,
}

impl Origins {
    fn new(sorted: &Sorted) -> Self {
        let mut origins = Self::default();
        let mut resources: HashMap<(Bytes, Bytes), i32> = HashMap::new();
        let mut scopes: HashMap<(Bytes, Bytes), i32> = HashMap::new();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        for record in sorted.records() {
            let mut numbers = Vec::with_capacity(record.contexts.len());
            for context in &record.contexts {
                let key = (context.resource.clone(), context.resource_schema_url.clone());
                let resource = *resources.entry(key).or_insert_with(|| {
                    let resource = Resource::parse(&context.resource).ok();
                    let service = resource.and_then(|r| r.attributes().get("service.name"));
                    origins.services.push(service.and_then(|s| s.as_str().map(str::to_owned)));
                    let json =
                        resource.map(|r| value::resource_json(&r, &text(&context.resource_schema_url)));
                    origins.resources.push(json.unwrap_or_else(|| "{}".to_owned()));
                    origins.resources.len() as i32 - 1
                });
                let key = (context.scope.clone(), context.scope_schema_url.clone());
                let scope = *scopes.entry(key).or_insert_with(|| {
                    let scope = Scope::parse(&context.scope).ok();
                    let json = scope.map(|s| value::scope_json(&s, &text(&context.scope_schema_url)));
                    origins.scopes.push(json.unwrap_or_else(|| "{}".to_owned()));
                    origins.scopes.len() as i32 - 1
                });
                numbers.push((resource, scope));
            }
            origins.contexts.push(numbers);
        }
        origins
    }
}

/// The columns of one attribute name, by type, and the row that used one last.
#[derive(Debug, Default)]
struct Slot {
    columns: Vec<(Type, usize)>,
    last_row: Option<usize>,
}

/// Makes batches of rows.
pub(crate) struct Shredder {
    sorted: Arc<Sorted>,
    layout: Layout,
    schema: SchemaRef,
    origins: Origins,
    resources: ArrayRef,
    scopes: ArrayRef,
    slots: HashMap<String, Slot>,
    orders: HashMap<String, i32>,
    order_texts: Vec<String>,
}

impl Shredder {
    pub(crate) fn new(sorted: Arc<Sorted>, layout: Layout) -> Self {
        let origins = Origins::new(&sorted);
        let mut slots: HashMap<String, Slot> = HashMap::new();
        for (i, column) in layout.columns.iter().enumerate() {
            slots.entry_ref(column.name.as_str()).or_default().columns.push((column.of, i));
        }
        Self {
            schema: schema::schema(&layout),
            resources: Arc::new(StringArray::from_iter_values(&origins.resources)),
            scopes: Arc::new(StringArray::from_iter_values(&origins.scopes)),
            sorted,
            layout,
            origins,
            slots,
            orders: HashMap::new(),
            order_texts: Vec::new(),
        }
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows of some traces, given in order.
    pub(crate) fn batch(
        &mut self,
        traces: impl IntoIterator<Item = usize>,
    ) -> Result<RecordBatch, ArrowError> {
        let sorted = self.sorted.clone();
        let mut out = Columns::new(&self.layout);
        let mut ids = Vec::new();
        for slot in self.slots.values_mut() {
            slot.last_row = None;
        }
        for trace in traces {
            let rows = sorted.trace_rows(trace);
            let spans = rows.clone().map(|at| {
                let (record, row) = sorted.row(at);
                Span::parse(record.raw(row)).expect("the request was checked when it came")
            });
            if self.layout.parts.detail {
                ids.clear();
                ids.extend(spans.clone().zip(rows.clone()).map(|(span, at)| {
                    (sorted.row(at).1.span, SpanId::from_slice(span.parent_span_id).unwrap_or_default())
                }));
                let numbers = tree::number(&ids);
                for ((span, at), nested) in spans.zip(rows).zip(numbers) {
                    self.row(&mut out, at, &span, Some(nested));
                }
            } else {
                spans.zip(rows).for_each(|(span, at)| self.row(&mut out, at, &span, None));
            }
        }
        self.finish(out)
    }

    fn row(&mut self, out: &mut Columns, at: usize, span: &Span<'_>, nested: Option<Nested>) {
        let parts = self.layout.parts;
        let (record, context) = self.sorted.context(at);
        let (resource, scope) = self.origins.contexts[record as usize][context as usize];
        out.fixed(span, &self.origins.services[resource as usize], nested);
        out.resource.push(resource);
        out.scope.push(scope);
        if parts.status_message {
            out.status_message.append_option(Some(span.status_message).filter(|s| !s.is_empty()));
        }
        if parts.detail {
            out.detail(span);
        }
        self.attributes(out, span);
        if parts.events {
            span.events().for_each(|event| out.events.push(&event, span.start));
            out.events.close();
        }
        if parts.links {
            span.links().for_each(|link| out.links.push(&link));
            out.links.close();
        }
        out.rows += 1;
    }

    fn attributes(&mut self, out: &mut Columns, span: &Span<'_>) {
        let row = out.rows;
        out.order.clear();
        let (mut canonical, mut last) = (true, 0);
        for attribute in span.attributes().iter() {
            let of = scalar(&attribute.value).of();
            let slot = self.slots.get_mut(attribute.key);
            let slot = slot.filter(|slot| slot.last_row != Some(row));
            let column = slot.and_then(|slot| {
                let column = slot.columns.iter().find(|(t, _)| *t == of)?.1;
                slot.last_row = Some(row);
                Some(column)
            });
            // The list counts as the column after all others.
            let place = column.unwrap_or(usize::MAX);
            canonical &= last <= place;
            last = place;
            match column {
                Some(column) => {
                    out.attributes[column].set(row, &attribute.value, &mut out.scratch);
                    out.order.push(Some(column));
                }
                None => {
                    if self.layout.parts.rest {
                        out.rest.push(&attribute);
                    }
                    out.order.push(None);
                }
            }
        }
        if self.layout.parts.rest {
            out.rest.close();
        }
        if self.layout.parts.detail {
            let order = if canonical { None } else { self.order(&out.order) };
            out.orders.push(order);
        }
    }

    /// The number of an order in the dictionary, if there is room for it.
    fn order(&mut self, order: &[Option<usize>]) -> Option<i32> {
        let mut text = String::with_capacity(order.len() * 3);
        for place in order {
            if !text.is_empty() {
                text.push(',');
            }
            match place {
                Some(column) => text += &column.to_string(),
                None => text.push('r'),
            }
        }
        if let Some(number) = self.orders.get(&text) {
            return Some(*number);
        }
        if self.order_texts.len() == MAX_ORDERS {
            return None;
        }
        let number = self.order_texts.len() as i32;
        self.order_texts.push(text.clone());
        self.orders.insert(text, number);
        Some(number)
    }

    fn finish(&self, mut out: Columns) -> Result<RecordBatch, ArrowError> {
        let parts = self.layout.parts;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(out.trace_id.finish()),
            Arc::new(out.span_id.finish()),
            Arc::new(out.parent.finish()),
        ];
        if parts.detail {
            columns.extend([
                Arc::new(out.left.finish()) as ArrayRef,
                Arc::new(out.right.finish()),
                Arc::new(out.nested_parent.finish()),
            ]);
        }
        columns.extend([
            Arc::new(out.start.finish()) as ArrayRef,
            Arc::new(out.duration.finish()),
            Arc::new(out.name.finish()),
            Arc::new(out.service.finish()),
            Arc::new(out.kind.finish()),
            Arc::new(out.status.finish()),
        ]);
        if parts.status_message {
            columns.push(Arc::new(out.status_message.finish()));
        }
        if parts.detail {
            columns.push(Arc::new(out.trace_state.finish()));
            for mut column in [out.flags, out.dropped_attributes, out.dropped_events, out.dropped_links] {
                columns.push(Arc::new(column.finish()));
            }
        }
        if parts.resource {
            columns.push(dictionary(out.resource.into_iter().map(Some), &self.resources)?);
        }
        if parts.scope {
            columns.push(dictionary(out.scope.into_iter().map(Some), &self.scopes)?);
        }
        columns.extend(out.attributes.into_iter().map(|c| c.finish(out.rows)));
        if parts.rest {
            columns.push(Arc::new(out.rest.finish()?));
        }
        if parts.detail {
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values(&self.order_texts));
            columns.push(dictionary(out.orders.into_iter(), &texts)?);
        }
        if parts.events {
            columns.push(Arc::new(out.events.finish()?));
        }
        if parts.links {
            columns.push(Arc::new(out.links.finish()?));
        }
        RecordBatch::try_new(self.schema.clone(), columns)
    }
}

fn dictionary(keys: impl Iterator<Item = Option<i32>>, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let keys = keys.collect();
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values.clone())?))
}

/// Columns being filled.
struct Columns {
    rows: usize,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    parent: FixedSizeBinaryBuilder,
    left: Int32Builder,
    right: Int32Builder,
    nested_parent: Int32Builder,
    start: TimestampNanosecondBuilder,
    duration: Int64Builder,
    name: StringBuilder,
    service: StringBuilder,
    kind: UInt8Builder,
    status: UInt8Builder,
    status_message: StringBuilder,
    trace_state: StringBuilder,
    flags: UInt32Builder,
    dropped_attributes: UInt32Builder,
    dropped_events: UInt32Builder,
    dropped_links: UInt32Builder,
    resource: Vec<i32>,
    scope: Vec<i32>,
    attributes: Vec<Sparse>,
    rest: AttributeLists,
    orders: Vec<Option<i32>>,
    events: EventLists,
    links: LinkLists,
    order: Vec<Option<usize>>,
    scratch: String,
}

impl Columns {
    fn new(layout: &Layout) -> Self {
        Self {
            rows: 0,
            trace_id: FixedSizeBinaryBuilder::new(16),
            span_id: FixedSizeBinaryBuilder::new(8),
            parent: FixedSizeBinaryBuilder::new(8),
            left: Int32Builder::new(),
            right: Int32Builder::new(),
            nested_parent: Int32Builder::new(),
            start: TimestampNanosecondBuilder::new(),
            duration: Int64Builder::new(),
            name: StringBuilder::new(),
            service: StringBuilder::new(),
            kind: UInt8Builder::new(),
            status: UInt8Builder::new(),
            status_message: StringBuilder::new(),
            trace_state: StringBuilder::new(),
            flags: UInt32Builder::new(),
            dropped_attributes: UInt32Builder::new(),
            dropped_events: UInt32Builder::new(),
            dropped_links: UInt32Builder::new(),
            resource: Vec::new(),
            scope: Vec::new(),
            attributes: layout.columns.iter().map(|c| Sparse::new(c.of)).collect(),
            rest: AttributeLists::default(),
            orders: Vec::new(),
            events: EventLists::default(),
            links: LinkLists::default(),
            order: Vec::new(),
            scratch: String::new(),
        }
    }

    fn fixed(&mut self, span: &Span<'_>, service: &Option<String>, nested: Option<Nested>) {
        let id = "a checked id has this length";
        self.trace_id.append_value(span.trace_id).expect(id);
        self.span_id.append_value(span.span_id).expect(id);
        // A root has none; a parent that the nested sets name need not be named again.
        let parent = Some(span.parent_span_id).filter(|p| p.iter().any(|b| *b != 0));
        match parent.filter(|_| nested.is_none_or(|n| n.parent == 0)) {
            Some(parent) => self.parent.append_value(parent).expect(id),
            None => self.parent.append_null(),
        }
        if let Some(nested) = nested {
            self.left.append_value(nested.left);
            self.right.append_value(nested.right);
            self.nested_parent.append_value(nested.parent);
        }
        self.start.append_value(span.start as i64);
        self.duration.append_value(span.end.wrapping_sub(span.start) as i64);
        self.name.append_value(span.name);
        self.service.append_option(service.as_ref());
        self.kind.append_value(record::kind(span));
        self.status.append_value(record::status(span));
    }

    fn detail(&mut self, span: &Span<'_>) {
        let nonzero = |n: u32| Some(n).filter(|n| *n != 0);
        self.trace_state.append_option(Some(span.trace_state).filter(|s| !s.is_empty()));
        self.flags.append_option(nonzero(span.flags));
        self.dropped_attributes.append_option(nonzero(span.dropped_attributes_count));
        self.dropped_events.append_option(nonzero(span.dropped_events_count));
        self.dropped_links.append_option(nonzero(span.dropped_links_count));
    }
}
