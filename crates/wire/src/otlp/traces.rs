//! Views of `ExportTraceServiceRequest` (which is also `TracesData` and Tempo's `Trace`).
//!
//! Everything borrows from the body; take a part along with [`bytes::Bytes::slice_ref`] on its `raw`.

use super::value::{Attributes, Resource, Scope};
use super::{Counts, In, OtlpError, Signal};
use crate::proto::{Fields, ProtoError, Repeated, Value};

/// The full validating walk; see [`Signal::check`].
pub fn check(body: &[u8]) -> Result<Counts, OtlpError> {
    Signal::Traces.check(body)
}

/// The `ResourceSpans` of a request.
pub fn resource_spans(body: &[u8]) -> impl Iterator<Item = Result<ResourceSpans<'_>, OtlpError>> {
    messages("ExportTraceServiceRequest", body, 1).map(|raw| ResourceSpans::parse(raw?))
}

/// The occurrences of message field `number`, ending after the first malformed field.
pub(super) fn messages<'a>(
    message: &'static str,
    raw: &'a [u8],
    number: u32,
) -> impl Iterator<Item = Result<&'a [u8], OtlpError>> + use<'a> {
    Fields::new(raw).filter_map(move |field| match field {
        Ok((n, Value::Len(raw))) if n == number => Some(Ok(raw)),
        Ok((n, _)) if n == number => Some(Err(In(message).mismatch(n))),
        Ok(_) => None,
        Err(problem) => Some(Err(In(message).proto(problem))),
    })
}

/// Spans of one resource.
#[derive(Debug, Clone, Copy)]
pub struct ResourceSpans<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// `resource`, if given.
    pub resource: Option<Resource<'a>>,
    /// `schema_url`
    pub schema_url: &'a str,
}

impl<'a> ResourceSpans<'a> {
    /// Reads an encoded `ResourceSpans`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("ResourceSpans");
        let mut found = Self { raw, resource: None, schema_url: "" };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => found.resource = Some(Resource::parse(AT.bytes(1, value)?)?),
                3 => found.schema_url = AT.text(3, "schemaUrl", value)?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Its `ScopeSpans`.
    pub fn scope_spans(&self) -> impl Iterator<Item = Result<ScopeSpans<'a>, OtlpError>> + use<'a> {
        messages("ResourceSpans", self.raw, 2).map(|raw| ScopeSpans::parse(raw?))
    }
}

/// Spans of one instrumentation scope.
#[derive(Debug, Clone, Copy)]
pub struct ScopeSpans<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// `scope`, if given.
    pub scope: Option<Scope<'a>>,
    /// `schema_url`
    pub schema_url: &'a str,
}

impl<'a> ScopeSpans<'a> {
    /// Reads an encoded `ScopeSpans`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("ScopeSpans");
        let mut found = Self { raw, scope: None, schema_url: "" };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => found.scope = Some(Scope::parse(AT.bytes(1, value)?)?),
                3 => found.schema_url = AT.text(3, "schemaUrl", value)?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Its spans.
    pub fn spans(&self) -> impl Iterator<Item = Result<Span<'a>, OtlpError>> + use<'a> {
        messages("ScopeSpans", self.raw, 2).map(|raw| Span::parse(raw?))
    }
}

/// One span.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// 16 bytes, or none.
    pub trace_id: &'a [u8],
    /// 8 bytes, or none.
    pub span_id: &'a [u8],
    /// 8 bytes, or none for a root.
    pub parent_span_id: &'a [u8],
    /// W3C `tracestate`.
    pub trace_state: &'a str,
    /// W3C trace flags in the low byte, OTLP's own above.
    pub flags: u32,
    /// `name`
    pub name: &'a str,
    /// `SpanKind` as a number, 0 to 5 as of now.
    pub kind: i32,
    /// Start in ns since the epoch.
    pub start: u64,
    /// End in ns since the epoch.
    pub end: u64,
    /// `status.code`: 0 unset, 1 ok, 2 error.
    pub status_code: i32,
    /// `status.message`
    pub status_message: &'a str,
    /// `dropped_attributes_count`
    pub dropped_attributes_count: u32,
    /// `dropped_events_count`
    pub dropped_events_count: u32,
    /// `dropped_links_count`
    pub dropped_links_count: u32,
}

impl<'a> Span<'a> {
    /// Reads an encoded `Span`; attributes, events and links are read when asked for.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("Span");
        let mut span = Self {
            raw,
            trace_id: &[],
            span_id: &[],
            parent_span_id: &[],
            trace_state: "",
            flags: 0,
            name: "",
            kind: 0,
            start: 0,
            end: 0,
            status_code: 0,
            status_message: "",
            dropped_attributes_count: 0,
            dropped_events_count: 0,
            dropped_links_count: 0,
        };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => span.trace_id = AT.bytes(1, value)?,
                2 => span.span_id = AT.bytes(2, value)?,
                3 => span.trace_state = AT.text(3, "traceState", value)?,
                4 => span.parent_span_id = AT.bytes(4, value)?,
                5 => span.name = AT.text(5, "name", value)?,
                6 => span.kind = AT.varint(6, value)? as i32,
                7 => span.start = AT.fixed64(7, value)?,
                8 => span.end = AT.fixed64(8, value)?,
                10 => span.dropped_attributes_count = AT.varint(10, value)? as u32,
                12 => span.dropped_events_count = AT.varint(12, value)? as u32,
                14 => span.dropped_links_count = AT.varint(14, value)? as u32,
                15 => span.status(AT.bytes(15, value)?)?,
                16 => span.flags = AT.fixed32(16, value)?,
                _ => {}
            }
        }
        Ok(span)
    }

    fn status(&mut self, raw: &'a [u8]) -> Result<(), OtlpError> {
        const AT: In = In("Status");
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                2 => self.status_message = AT.text(2, "message", value)?,
                3 => self.status_code = AT.varint(3, value)? as i32,
                _ => {}
            }
        }
        Ok(())
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.raw, 9)
    }

    /// Its events. Ends at the first malformed one (never on checked bytes).
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        Repeated::new(self.raw, 11).map_while(|raw| Event::parse(raw).ok())
    }

    /// Its links. Ends at the first malformed one (never on checked bytes).
    pub fn links(&self) -> impl Iterator<Item = Link<'a>> + use<'a> {
        Repeated::new(self.raw, 13).map_while(|raw| Link::parse(raw).ok())
    }
}

/// Something that happened during a span.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// When, in ns since the epoch.
    pub time: u64,
    /// `name`
    pub name: &'a str,
    /// `dropped_attributes_count`
    pub dropped_attributes_count: u32,
}

impl<'a> Event<'a> {
    /// Reads an encoded `Span.Event`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("Event");
        let mut event = Self { raw, time: 0, name: "", dropped_attributes_count: 0 };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => event.time = AT.fixed64(1, value)?,
                2 => event.name = AT.text(2, "name", value)?,
                4 => event.dropped_attributes_count = AT.varint(4, value)? as u32,
                _ => {}
            }
        }
        Ok(event)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.raw, 3)
    }
}

/// A reference to another span.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The encoded message.
    pub raw: &'a [u8],
    /// 16 bytes, or none.
    pub trace_id: &'a [u8],
    /// 8 bytes, or none.
    pub span_id: &'a [u8],
    /// W3C `tracestate`.
    pub trace_state: &'a str,
    /// Flags as on spans.
    pub flags: u32,
    /// `dropped_attributes_count`
    pub dropped_attributes_count: u32,
}

impl<'a> Link<'a> {
    /// Reads an encoded `Span.Link`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, OtlpError> {
        const AT: In = In("Link");
        let mut link =
            Self { raw, trace_id: &[], span_id: &[], trace_state: "", flags: 0, dropped_attributes_count: 0 };
        for field in Fields::new(raw) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => link.trace_id = AT.bytes(1, value)?,
                2 => link.span_id = AT.bytes(2, value)?,
                3 => link.trace_state = AT.text(3, "traceState", value)?,
                5 => link.dropped_attributes_count = AT.varint(5, value)? as u32,
                6 => link.flags = AT.fixed32(6, value)?,
                _ => {}
            }
        }
        Ok(link)
    }

    /// Its attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.raw, 4)
    }
}

/// A span with its surroundings, all undecoded: what it takes to put it into another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawSpan<'a> {
    /// Index of its `ResourceSpans` in the request.
    pub resource_index: usize,
    /// Index of its `ScopeSpans` in that.
    pub scope_index: usize,
    /// The encoded `Resource`, empty if none.
    pub resource: &'a [u8],
    /// The resource's `schema_url`.
    pub resource_schema_url: &'a [u8],
    /// The encoded `InstrumentationScope`, empty if none.
    pub scope: &'a [u8],
    /// The scope's `schema_url`.
    pub scope_schema_url: &'a [u8],
    /// The span's trace id as it stands there.
    pub trace_id: &'a [u8],
    /// The encoded `Span`.
    pub span: &'a [u8],
}

/// Visits all spans with the least work that finds their trace ids: for splitting by trace.
///
/// On bytes that did not pass the check this may fail late, after visits; the error then stands for
/// the whole request.
pub fn visit_spans<'a>(body: &'a [u8], mut visit: impl FnMut(RawSpan<'a>)) -> Result<(), OtlpError> {
    for (resource_index, raw) in messages("ExportTraceServiceRequest", body, 1).enumerate() {
        let resource_spans = raw?;
        let (resource, resource_schema_url) = surroundings("ResourceSpans", resource_spans)?;
        for (scope_index, raw) in messages("ResourceSpans", resource_spans, 2).enumerate() {
            let scope_spans = raw?;
            let (scope, scope_schema_url) = surroundings("ScopeSpans", scope_spans)?;
            for span in messages("ScopeSpans", scope_spans, 2) {
                let span = span?;
                visit(RawSpan {
                    resource_index,
                    scope_index,
                    resource,
                    resource_schema_url,
                    scope,
                    scope_schema_url,
                    trace_id: trace_id(span).map_err(|e| In("Span").proto(e))?,
                    span,
                });
            }
        }
    }
    Ok(())
}

/// Fields 1 and 3 of `ResourceSpans` or `ScopeSpans`.
fn surroundings<'a>(message: &'static str, raw: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), OtlpError> {
    let (mut head, mut schema_url): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::new(raw) {
        match field.map_err(|e| In(message).proto(e))? {
            (1, Value::Len(bytes)) => head = bytes,
            (3, Value::Len(bytes)) => schema_url = bytes,
            _ => {}
        }
    }
    Ok((head, schema_url))
}

/// The trace id of an encoded span. Every encoder writes it first; if it comes later, that is found too.
pub fn trace_id(span: &[u8]) -> Result<&[u8], ProtoError> {
    first(span, 1)
}

/// The span id of an encoded span.
pub fn span_id(span: &[u8]) -> Result<&[u8], ProtoError> {
    first(span, 2)
}

/// The first bytes field `number`, empty if there is none.
fn first(message: &[u8], number: u32) -> Result<&[u8], ProtoError> {
    for field in Fields::new(message) {
        match field? {
            (n, Value::Len(id)) if n == number => return Ok(id),
            (n, _) if n == number => return Err(ProtoError::Mismatch(n)),
            _ => {}
        }
    }
    Ok(&[])
}
