//! Builders of columns that the flush and the queries share: sparse typed columns, lists of attributes,
//! events and links.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, UInt32Builder,
};
use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use wire::otlp::traces::{Event, Link};
use wire::otlp::{AnyValue, KeyValue};

use crate::keys::Type;
use crate::{schema, value};

/// A typed column of which most rows may be null: only what is there costs anything.
#[derive(Debug)]
pub(crate) enum Sparse {
    Str(StringBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    /// The OTLP/JSON of the array.
    Array(StringBuilder),
}

impl Sparse {
    pub(crate) fn new(of: Type) -> Self {
        match of {
            Type::Str => Self::Str(StringBuilder::new()),
            Type::Int => Self::Int(Int64Builder::new()),
            Type::Float => Self::Float(Float64Builder::new()),
            Type::Bool => Self::Bool(BooleanBuilder::new()),
            Type::Array | Type::Other => Self::Array(StringBuilder::new()),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Str(b) | Self::Array(b) => b.len(),
            Self::Int(b) => b.len(),
            Self::Float(b) => b.len(),
            Self::Bool(b) => b.len(),
        }
    }

    fn pad(&mut self, row: usize) {
        let missing = row.saturating_sub(self.rows());
        if missing == 0 {
            return;
        }
        match self {
            Self::Str(b) | Self::Array(b) => b.append_nulls(missing),
            Self::Int(b) => b.append_nulls(missing),
            Self::Float(b) => b.append_nulls(missing),
            Self::Bool(b) => b.append_nulls(missing),
        }
    }

    /// Sets the value of a row; rows must come in order, each at most once. `scratch` is any buffer.
    pub(crate) fn set(&mut self, row: usize, value: &AnyValue<'_>, scratch: &mut String) {
        self.pad(row);
        match (self, value) {
            (Self::Str(b), AnyValue::Str(text)) => b.append_value(text),
            (Self::Int(b), AnyValue::Int(n)) => b.append_value(*n),
            (Self::Float(b), AnyValue::Double(f)) => b.append_value(*f),
            (Self::Bool(b), AnyValue::Bool(x)) => b.append_value(*x),
            (Self::Array(b), AnyValue::Array(_)) => {
                scratch.clear();
                value::write_array(value, scratch);
                b.append_value(&scratch);
            }
            // A value of another type has no place here: callers choose the column by the type.
            (column, _) => column.pad(row + 1),
        }
    }

    /// The column, `rows` long.
    pub(crate) fn finish(mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        match self {
            Self::Str(mut b) | Self::Array(mut b) => Arc::new(b.finish()),
            Self::Int(mut b) => Arc::new(b.finish()),
            Self::Float(mut b) => Arc::new(b.finish()),
            Self::Bool(mut b) => Arc::new(b.finish()),
        }
    }
}

fn list(
    item: Arc<arrow_schema::Field>,
    offsets: Vec<i32>,
    values: StructArray,
) -> Result<ListArray, ArrowError> {
    ListArray::try_new(item, OffsetBuffer::new(ScalarBuffer::from(offsets)), Arc::new(values), None)
}

/// Builds a list of attributes per row.
#[derive(Debug)]
pub(crate) struct AttributeLists {
    offsets: Vec<i32>,
    key: StringBuilder,
    string: StringBuilder,
    int: Int64Builder,
    float: Float64Builder,
    bool: BooleanBuilder,
    json: StringBuilder,
    scratch: String,
}

impl Default for AttributeLists {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            key: StringBuilder::new(),
            string: StringBuilder::new(),
            int: Int64Builder::new(),
            float: Float64Builder::new(),
            bool: BooleanBuilder::new(),
            json: StringBuilder::new(),
            scratch: String::new(),
        }
    }
}

impl AttributeLists {
    /// Adds an attribute to the open row.
    pub(crate) fn push(&mut self, attribute: &KeyValue<'_>) {
        let value = attribute.value;
        self.key.append_value(attribute.key);
        self.string.append_option(value.as_str());
        self.int.append_option(if let AnyValue::Int(n) = value { Some(n) } else { None });
        self.float.append_option(if let AnyValue::Double(f) = value { Some(f) } else { None });
        self.bool.append_option(if let AnyValue::Bool(b) = value { Some(b) } else { None });
        match value {
            AnyValue::Array(_) | AnyValue::KvList(_) | AnyValue::Bytes(_) | AnyValue::Null => {
                self.scratch.clear();
                value::write_json(&value, &mut self.scratch);
                self.json.append_value(&self.scratch);
            }
            _ => self.json.append_null(),
        }
    }

    /// Ends the row.
    pub(crate) fn close(&mut self) {
        self.offsets.push(self.key.len() as i32);
    }

    pub(crate) fn finish(mut self) -> Result<ListArray, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.key.finish()),
            Arc::new(self.string.finish()),
            Arc::new(self.int.finish()),
            Arc::new(self.float.finish()),
            Arc::new(self.bool.finish()),
            Arc::new(self.json.finish()),
        ];
        let values = StructArray::try_new(schema::attribute_fields(), columns, None)?;
        list(schema::attribute_item(), self.offsets, values)
    }
}

fn nonzero(n: u32) -> Option<u32> {
    Some(n).filter(|n| *n != 0)
}

/// Builds the events of each row.
#[derive(Debug)]
pub(crate) struct EventLists {
    offsets: Vec<i32>,
    time: Int64Builder,
    name: StringBuilder,
    dropped: UInt32Builder,
    attributes: AttributeLists,
}

impl Default for EventLists {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            time: Int64Builder::new(),
            name: StringBuilder::new(),
            dropped: UInt32Builder::new(),
            attributes: AttributeLists::default(),
        }
    }
}

impl EventLists {
    /// Adds an event of a span that began at `start`.
    pub(crate) fn push(&mut self, event: &Event<'_>, start: u64) {
        self.time.append_value(event.time.wrapping_sub(start) as i64);
        self.name.append_value(event.name);
        self.dropped.append_option(nonzero(event.dropped_attributes_count));
        event.attributes().iter().for_each(|a| self.attributes.push(&a));
        self.attributes.close();
    }

    /// Ends the row.
    pub(crate) fn close(&mut self) {
        self.offsets.push(self.time.len() as i32);
    }

    pub(crate) fn finish(mut self) -> Result<ListArray, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.time.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.dropped.finish()),
            Arc::new(self.attributes.finish()?),
        ];
        list(schema::event_item(), self.offsets, StructArray::try_new(schema::event_fields(), columns, None)?)
    }
}

/// Builds the links of each row.
#[derive(Debug)]
pub(crate) struct LinkLists {
    offsets: Vec<i32>,
    trace_id: BinaryBuilder,
    span_id: BinaryBuilder,
    trace_state: StringBuilder,
    flags: UInt32Builder,
    dropped: UInt32Builder,
    attributes: AttributeLists,
}

impl Default for LinkLists {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            trace_id: BinaryBuilder::new(),
            span_id: BinaryBuilder::new(),
            trace_state: StringBuilder::new(),
            flags: UInt32Builder::new(),
            dropped: UInt32Builder::new(),
            attributes: AttributeLists::default(),
        }
    }
}

impl LinkLists {
    /// Adds a link.
    pub(crate) fn push(&mut self, link: &Link<'_>) {
        self.trace_id.append_value(link.trace_id);
        self.span_id.append_value(link.span_id);
        self.trace_state.append_option(Some(link.trace_state).filter(|s| !s.is_empty()));
        self.flags.append_option(nonzero(link.flags));
        self.dropped.append_option(nonzero(link.dropped_attributes_count));
        link.attributes().iter().for_each(|a| self.attributes.push(&a));
        self.attributes.close();
    }

    /// Ends the row.
    pub(crate) fn close(&mut self) {
        self.offsets.push(self.trace_id.len() as i32);
    }

    pub(crate) fn finish(mut self) -> Result<ListArray, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
            Arc::new(self.trace_state.finish()),
            Arc::new(self.flags.finish()),
            Arc::new(self.dropped.finish()),
            Arc::new(self.attributes.finish()?),
        ];
        list(schema::link_item(), self.offsets, StructArray::try_new(schema::link_fields(), columns, None)?)
    }
}
