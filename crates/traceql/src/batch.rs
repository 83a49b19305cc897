//! The batch of spans that evaluation works on.
//!
//! A batch holds whole traces: the rows of a trace are contiguous and sorted by start. Columns that
//! every answer needs are always there; the rest is loaded only if the query's
//! [`FieldSet`](crate::FieldSet) names it. A column that is absent reads as nil on every row.

use arrow_array::{
    Array, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray, UInt8Array,
};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::ast::Scope;

/// Spans of whole traces, column by column. Every array has one value (or null) per row, those of events and
/// links one per event and link.
#[derive(Debug, Clone)]
pub struct SpanBatch {
    /// Where each trace begins, and the number of rows at the end: traces + 1 numbers, ascending from 0.
    pub trace_offsets: Vec<u32>,
    /// 16 bytes per row.
    pub trace_id: FixedSizeBinaryArray,
    /// 8 bytes per row.
    pub span_id: FixedSizeBinaryArray,
    /// 8 bytes per row; null or all zero means the span has no parent.
    pub parent_span_id: FixedSizeBinaryArray,
    /// Start, nanoseconds since the epoch.
    pub start: Int64Array,
    /// End − start, nanoseconds.
    pub duration: Int64Array,
    /// OTLP's kind number.
    pub kind: UInt8Array,
    /// OTLP's status code.
    pub status: UInt8Array,
    /// The resource's `service.name`; null when it has none.
    pub service_name: StringArray,
    /// The span's name.
    pub name: StringArray,
    /// The status message; null reads as empty.
    pub status_message: Option<StringArray>,
    /// The instrumentation scope's name; null reads as empty.
    pub scope_name: Option<StringArray>,
    /// The instrumentation scope's version; null reads as empty.
    pub scope_version: Option<StringArray>,
    /// Attributes of span, resource and instrumentation scope, one row per span. (Those of events and
    /// links are in their columns.) `resource.service.name` may be left out: [`Self::service_name`] serves.
    pub attributes: HashMap<(Scope, Arc<str>), AttributeColumn>,
    /// Events, if the query looks at them.
    pub events: Option<EventColumns>,
    /// Links, if the query looks at them.
    pub links: Option<LinkColumns>,
}

/// One attribute over all rows; at most one of the arrays is non-null at a row.
#[derive(Debug, Clone, Default)]
pub struct AttributeColumn {
    /// Text values.
    pub strings: Option<StringArray>,
    /// Whole numbers.
    pub ints: Option<Int64Array>,
    /// Floating point numbers.
    pub floats: Option<Float64Array>,
    /// Truth values.
    pub bools: Option<BooleanArray>,
    /// Arrays as OTLP/JSON: `{"values":[{"stringValue":"a"},…]}` (the bare list is understood too).
    pub arrays: Option<StringArray>,
}

/// Events of all rows, one after the other.
#[derive(Debug, Clone)]
pub struct EventColumns {
    /// Where each span's events begin, and the number of events at the end: rows + 1 numbers.
    pub offsets: Vec<u32>,
    /// The event's name.
    pub name: StringArray,
    /// When it happened, nanoseconds since the epoch.
    pub time: Int64Array,
    /// Attributes, one row per event.
    pub attributes: HashMap<Arc<str>, AttributeColumn>,
}

/// Links of all rows, one after the other.
#[derive(Debug, Clone)]
pub struct LinkColumns {
    /// Where each span's links begin, and the number of links at the end: rows + 1 numbers.
    pub offsets: Vec<u32>,
    /// The linked trace's id, 16 bytes.
    pub trace_id: FixedSizeBinaryArray,
    /// The linked span's id, 8 bytes.
    pub span_id: FixedSizeBinaryArray,
    /// Attributes, one row per link.
    pub attributes: HashMap<Arc<str>, AttributeColumn>,
}

impl SpanBatch {
    /// The number of spans.
    pub fn rows(&self) -> usize {
        self.start.len()
    }

    /// The number of traces.
    pub fn traces(&self) -> usize {
        self.trace_offsets.len().saturating_sub(1)
    }

    /// The rows of a trace.
    pub fn trace_rows(&self, trace: usize) -> Range<usize> {
        self.trace_offsets[trace] as usize..self.trace_offsets[trace + 1] as usize
    }

    /// Whether the span at `row` has no parent.
    pub fn is_root(&self, row: usize) -> bool {
        self.parent_span_id.is_null(row) || self.parent_span_id.value(row).iter().all(|b| *b == 0)
    }

    /// An attribute column.
    pub fn attribute(&self, scope: Scope, name: &str) -> Option<&AttributeColumn> {
        self.attributes.get(&(scope, Arc::from(name)))
    }
}
