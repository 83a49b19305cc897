//! The columns of a trace block, one row per span.
//!
//! | column | what |
//! |---|---|
//! | `trace_id`, `span_id` | 16 and 8 bytes; rows are sorted by (`trace_id`, `start_time`) |
//! | `parent_span_id` | only where the parent is not in the same trace of the same block; see `nested_parent` |
//! | `nested_left`, `nested_right`, `nested_parent` | the tree as intervals; the parent is the row whose `nested_left` is this row's `nested_parent`; -1 marks a root, 0 a span that hangs on nothing |
//! | `start_time`, `duration` | ns since the epoch, ns |
//! | `name`, `service_name`, `kind`, `status_code`, `status_message`, `trace_state`, `flags`, `dropped_*` | as OTLP has them |
//! | `resource`, `scope` | OTLP/JSON with `schemaUrl`, dictionary-encoded |
//! | `span.…` | a frequent span attribute, typed; `span.…#int` and so on if it has several types |
//! | `attributes` | all other span attributes, as a list |
//! | `attribute_order` | where the order of attributes is not that of the columns: their column numbers, `r` for one of the list |
//! | `events`, `links` | lists, with their attributes |

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::index::AttributeColumn;
use crate::keys::Type;

pub(crate) const TRACE_ID: &str = "trace_id";
pub(crate) const SPAN_ID: &str = "span_id";
pub(crate) const PARENT_SPAN_ID: &str = "parent_span_id";
pub(crate) const NESTED_LEFT: &str = "nested_left";
pub(crate) const NESTED_RIGHT: &str = "nested_right";
pub(crate) const NESTED_PARENT: &str = "nested_parent";
pub(crate) const START: &str = "start_time";
pub(crate) const DURATION: &str = "duration";
pub(crate) const NAME: &str = "name";
pub(crate) const SERVICE_NAME: &str = "service_name";
pub(crate) const KIND: &str = "kind";
pub(crate) const STATUS: &str = "status_code";
pub(crate) const STATUS_MESSAGE: &str = "status_message";
pub(crate) const TRACE_STATE: &str = "trace_state";
pub(crate) const FLAGS: &str = "flags";
pub(crate) const DROPPED_ATTRIBUTES: &str = "dropped_attributes_count";
pub(crate) const DROPPED_EVENTS: &str = "dropped_events_count";
pub(crate) const DROPPED_LINKS: &str = "dropped_links_count";
pub(crate) const RESOURCE: &str = "resource";
pub(crate) const SCOPE: &str = "scope";
pub(crate) const ORDER: &str = "attribute_order";
pub(crate) const REST: &str = "attributes";
pub(crate) const EVENTS: &str = "events";
pub(crate) const LINKS: &str = "links";

/// Which optional columns a batch has. Ids, times, names, kind and status are always there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// `resource`
    pub resource: bool,
    /// `scope`
    pub scope: bool,
    /// `attributes`: without it, what has no column is left out.
    pub rest: bool,
    /// `status_message`
    pub status_message: bool,
    /// `events`
    pub events: bool,
    /// `links`
    pub links: bool,
    /// Nested sets, order, and the fields that only a whole span needs.
    pub detail: bool,
}

impl Parts {
    /// Everything, as blocks have it.
    pub(crate) const ALL: Self = Self {
        resource: true,
        scope: true,
        rest: true,
        status_message: true,
        events: true,
        links: true,
        detail: true,
    };
}

/// What columns a batch is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// Span attributes with columns of their own.
    pub columns: Vec<AttributeColumn>,
    /// The optional columns.
    pub parts: Parts,
}

/// The Arrow type of an attribute's column.
pub(crate) fn data_type(of: Type) -> DataType {
    match of {
        Type::Int => DataType::Int64,
        Type::Float => DataType::Float64,
        Type::Bool => DataType::Boolean,
        Type::Str | Type::Array | Type::Other => DataType::Utf8,
    }
}

/// Text that repeats so much that readers want its dictionary.
pub(crate) fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The fields of an attribute in a list; of the values exactly one is not null.
pub(crate) fn attribute_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("string", DataType::Utf8, true),
        Field::new("int", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("bool", DataType::Boolean, true),
        Field::new("json", DataType::Utf8, true),
    ])
}

fn list_field(fields: Fields) -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(fields), false))
}

/// The item of a list of attributes.
pub(crate) fn attribute_item() -> Arc<Field> {
    list_field(attribute_fields())
}

/// The fields of an event.
pub(crate) fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time_since_start", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
        Field::new(DROPPED_ATTRIBUTES, DataType::UInt32, true),
        Field::new("attributes", DataType::List(attribute_item()), false),
    ])
}

/// The item of the list of events.
pub(crate) fn event_item() -> Arc<Field> {
    list_field(event_fields())
}

/// The fields of a link.
pub(crate) fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Binary, false),
        Field::new("span_id", DataType::Binary, false),
        Field::new("trace_state", DataType::Utf8, true),
        Field::new("flags", DataType::UInt32, true),
        Field::new(DROPPED_ATTRIBUTES, DataType::UInt32, true),
        Field::new("attributes", DataType::List(attribute_item()), false),
    ])
}

/// The item of the list of links.
pub(crate) fn link_item() -> Arc<Field> {
    list_field(link_fields())
}

/// The schema of batches of a layout.
pub(crate) fn schema(layout: &Layout) -> SchemaRef {
    let parts = layout.parts;
    let mut fields = vec![
        Field::new(TRACE_ID, DataType::FixedSizeBinary(16), false),
        Field::new(SPAN_ID, DataType::FixedSizeBinary(8), false),
        Field::new(PARENT_SPAN_ID, DataType::FixedSizeBinary(8), true),
    ];
    let mut add = |wanted: bool, name: &str, of: DataType, nullable: bool| {
        if wanted {
            fields.push(Field::new(name, of, nullable));
        }
    };
    add(parts.detail, NESTED_LEFT, DataType::Int32, false);
    add(parts.detail, NESTED_RIGHT, DataType::Int32, false);
    add(parts.detail, NESTED_PARENT, DataType::Int32, false);
    add(true, START, DataType::Timestamp(TimeUnit::Nanosecond, None), false);
    add(true, DURATION, DataType::Int64, false);
    add(true, NAME, DataType::Utf8, false);
    add(true, SERVICE_NAME, DataType::Utf8, true);
    add(true, KIND, DataType::UInt8, false);
    add(true, STATUS, DataType::UInt8, false);
    add(parts.status_message, STATUS_MESSAGE, DataType::Utf8, true);
    add(parts.detail, TRACE_STATE, DataType::Utf8, true);
    for name in [FLAGS, DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS] {
        add(parts.detail, name, DataType::UInt32, true);
    }
    add(parts.resource, RESOURCE, dictionary(), false);
    add(parts.scope, SCOPE, dictionary(), false);
    for column in &layout.columns {
        add(true, &column.column, data_type(column.of), true);
    }
    add(parts.rest, REST, DataType::List(attribute_item()), false);
    add(parts.detail, ORDER, dictionary(), true);
    add(parts.events, EVENTS, DataType::List(event_item()), false);
    add(parts.links, LINKS, DataType::List(link_item()), false);
    Arc::new(Schema::new(fields))
}
