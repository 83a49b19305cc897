//! One accepted request: its bytes as they came, and where each span stands in them.
//!
//! Nothing is copied: a span is an offset and a length, a resource a slice. What is decoded is what
//! sorting, finding and counting need.

use bytes::Bytes;
use model::{SpanId, Timestamp, TraceId};
use wire::otlp::traces::{ResourceSpans, ScopeSpans, Span, resource_spans};
use wire::otlp::{AnyValue, Attributes, OtlpError, Resource, Scope as ScopeMessage};
use wire::proto::{Fields, Value, Writer};

use crate::keys::{Keys, Scalar, Scope, Type};

/// Where a span comes from: slices of the request.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// The encoded `Resource`, empty if none was sent.
    pub resource: Bytes,
    /// Schema URL of the `ResourceSpans`.
    pub resource_schema_url: Bytes,
    /// The encoded `InstrumentationScope`, empty if none was sent.
    pub scope: Bytes,
    /// Schema URL of the `ScopeSpans`.
    pub scope_schema_url: Bytes,
}

/// One span of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Its trace.
    pub trace: TraceId,
    /// Its id.
    pub span: SpanId,
    /// Start, ns.
    pub start: i64,
    /// End, ns.
    pub end: i64,
    offset: u32,
    length: u32,
    /// Index into [`Record::contexts`].
    pub context: u32,
    /// OTLP's kind.
    pub kind: u8,
}

/// One request, decoded as far as the head needs it.
#[derive(Debug)]
pub(crate) struct Record {
    body: Bytes,
    /// Resources and scopes.
    pub(crate) contexts: Vec<Context>,
    /// Spans in the order of the request.
    pub(crate) rows: Vec<Row>,
    /// Their attributes, counted.
    pub(crate) keys: Keys,
}

/// Why logged or offered bytes are not spans.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Not OTLP.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// A trace id of a wrong length, or all zero.
    #[error("trace ids must be 128 bit, received {0} bits")]
    TraceId(usize),
    /// A span id of a wrong length, or all zero.
    #[error("span ids must be 64 bit and not all zero, received {0} bits")]
    SpanId(usize),
    /// Offsets are 32 bits wide.
    #[error("a request of {0} bytes is larger than 4 GiB")]
    TooLarge(usize),
}

impl Record {
    /// Reads the encoded `ExportTraceServiceRequest`, which has passed [`wire::otlp::Signal::check`]. Attribute keys and
    /// string values are cut to `max_text` bytes, Tempo's `max_attribute_bytes`.
    pub(crate) fn decode(body: &Bytes, max_text: usize) -> Result<Self, RecordError> {
        match Self::walk(body, max_text)? {
            (record, false) => Ok(record),
            (_, true) => Ok(Self::walk(&cut_request(body, max_text), max_text)?.0),
        }
    }

    /// The record, and whether something in it is longer than allowed.
    fn walk(body: &Bytes, max_text: usize) -> Result<(Self, bool), RecordError> {
        if u32::try_from(body.len()).is_err() {
            return Err(RecordError::TooLarge(body.len()));
        }
        let record =
            Self { body: body.clone(), contexts: Vec::new(), rows: Vec::new(), keys: Keys::default() };
        let mut walk = Walk { record, long: false, max_text };
        for part in resource_spans(body) {
            walk.resource(&part?)?;
        }
        Ok((walk.record, walk.long))
    }

    /// The encoded span of a row.
    pub(crate) fn raw(&self, row: &Row) -> &[u8] {
        &self.body[row.offset as usize..][..row.length as usize]
    }

    /// Bytes held: the request and the rows.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.rows.len() * size_of::<Row>() + self.contexts.len() * size_of::<Context>()
    }

    /// Number of spans.
    pub(crate) fn spans(&self) -> usize {
        self.rows.len()
    }

    /// First start and last end.
    pub(crate) fn time_range(&self) -> Option<(Timestamp, Timestamp)> {
        let min = self.rows.iter().map(|r| r.start).min()?;
        let max = self.rows.iter().map(|r| r.end.max(r.start)).max()?;
        Some((Timestamp(min), Timestamp(max)))
    }
}

struct Walk {
    record: Record,
    long: bool,
    max_text: usize,
}

impl Walk {
    fn resource(&mut self, part: &ResourceSpans<'_>) -> Result<(), RecordError> {
        let first = self.record.rows.len();
        let service = part.resource.and_then(|r| r.attributes().get("service.name"));
        let service = service.as_ref().and_then(AnyValue::as_str).unwrap_or_default();
        for scope in part.scope_spans() {
            self.scope(part, &scope?, service)?;
        }
        let spans = (self.record.rows.len() - first) as u64;
        if let Some(resource) = part.resource.filter(|_| spans > 0) {
            self.count(Scope::Resource, &resource.attributes(), spans);
        }
        Ok(())
    }

    fn scope(
        &mut self,
        outer: &ResourceSpans<'_>,
        part: &ScopeSpans<'_>,
        service: &str,
    ) -> Result<(), RecordError> {
        let body = &self.record.body;
        let share = |text: &[u8]| if text.is_empty() { Bytes::new() } else { body.slice_ref(text) };
        let context = Context {
            resource: share(outer.resource.map(|r: Resource<'_>| r.raw).unwrap_or_default()),
            resource_schema_url: share(outer.schema_url.as_bytes()),
            scope: share(part.scope.map(|s: ScopeMessage<'_>| s.raw).unwrap_or_default()),
            scope_schema_url: share(part.schema_url.as_bytes()),
        };
        let (index, first) = (self.record.contexts.len() as u32, self.record.rows.len());
        for span in part.spans() {
            self.span(&span?, index, service)?;
        }
        let spans = (self.record.rows.len() - first) as u64;
        if spans > 0 {
            self.record.contexts.push(context);
            if let Some(scope) = part.scope {
                self.count(Scope::Instrumentation, &scope.attributes(), spans);
                let keys = &mut self.record.keys;
                keys.add(Scope::Intrinsic, "instrumentation:name", Scalar::Str(scope.name), spans);
                keys.add(Scope::Intrinsic, "instrumentation:version", Scalar::Str(scope.version), spans);
            }
        }
        Ok(())
    }

    fn span(&mut self, span: &Span<'_>, context: u32, service: &str) -> Result<(), RecordError> {
        let trace = TraceId::from_slice(span.trace_id).filter(|id| !id.is_zero());
        let id = SpanId::from_slice(span.span_id).filter(|id| !id.is_zero());
        let bits = |id: &[u8]| if id.iter().all(|b| *b == 0) { 0 } else { id.len() * 8 };
        let record = &mut self.record;
        record.rows.push(Row {
            trace: trace.ok_or(RecordError::TraceId(bits(span.trace_id)))?,
            span: id.ok_or(RecordError::SpanId(bits(span.span_id)))?,
            start: span.start as i64,
            end: span.end as i64,
            offset: (span.raw.as_ptr() as usize - record.body.as_ptr() as usize) as u32,
            length: span.raw.len() as u32,
            context,
            kind: kind(span),
        });
        let keys = &mut record.keys;
        keys.next_span();
        keys.add(Scope::Intrinsic, "name", Scalar::Str(span.name), 1);
        keys.add(Scope::Intrinsic, "kind", Scalar::Int(kind(span).into()), 1);
        keys.add(Scope::Intrinsic, "status", Scalar::Int(status(span).into()), 1);
        if !span.status_message.is_empty() {
            keys.add(Scope::Intrinsic, "statusMessage", Scalar::Str(span.status_message), 1);
        }
        if span.parent_span_id.iter().all(|b| *b == 0) {
            keys.add(Scope::Intrinsic, "rootName", Scalar::Str(span.name), 1);
            keys.add(Scope::Intrinsic, "rootServiceName", Scalar::Str(service), 1);
        }
        self.count(Scope::Span, &span.attributes(), 1);
        for event in span.events() {
            self.record.keys.add(Scope::Intrinsic, "event:name", Scalar::Str(event.name), 1);
            self.count(Scope::Event, &event.attributes(), 1);
        }
        for link in span.links() {
            self.count(Scope::Link, &link.attributes(), 1);
        }
        Ok(())
    }

    fn count(&mut self, scope: Scope, attributes: &Attributes<'_>, times: u64) {
        for attribute in attributes.iter() {
            let value = scalar(&attribute.value);
            if let Scalar::Str(text) = value {
                self.long |= text.len() > self.max_text;
            }
            self.long |= attribute.key.len() > self.max_text;
            self.record.keys.add(scope, attribute.key, value, times);
        }
    }
}

/// The span's kind; a number that OTLP does not know is unspecified.
pub(crate) fn kind(span: &Span<'_>) -> u8 {
    u8::try_from(span.kind).ok().filter(|kind| *kind <= 5).unwrap_or_default()
}

/// The span's status; a number that OTLP does not know is unset.
pub(crate) fn status(span: &Span<'_>) -> u8 {
    u8::try_from(span.status_code).ok().filter(|code| *code <= 2).unwrap_or_default()
}

/// A value as the counting sees it.
pub(crate) fn scalar<'a>(value: &AnyValue<'a>) -> Scalar<'a> {
    match value {
        AnyValue::Str(text) => Scalar::Str(text),
        AnyValue::Int(n) => Scalar::Int(*n),
        AnyValue::Double(f) => Scalar::Float(*f),
        AnyValue::Bool(b) => Scalar::Bool(*b),
        AnyValue::Array(_) => Scalar::Opaque(Type::Array),
        AnyValue::Null | AnyValue::Bytes(_) | AnyValue::KvList(_) => Scalar::Opaque(Type::Other),
    }
}

/// The messages on the way to attributes.
#[derive(Clone, Copy)]
enum Message {
    Request,
    ResourceSpans,
    Resource,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    KeyValue,
    AnyValue,
    Text,
}

impl Message {
    /// What stands in a field, where it leads to attribute text.
    fn child(self, field: u32) -> Option<Self> {
        Some(match (self, field) {
            (Self::Request, 1) => Self::ResourceSpans,
            (Self::ResourceSpans, 1) => Self::Resource,
            (Self::ResourceSpans, 2) => Self::ScopeSpans,
            (Self::ScopeSpans, 1) => Self::Scope,
            (Self::ScopeSpans, 2) => Self::Span,
            (Self::Span, 11) => Self::Event,
            (Self::Span, 13) => Self::Link,
            (Self::Resource, 1) | (Self::Scope, 3) | (Self::Span, 9) | (Self::Event, 3) | (Self::Link, 4) => {
                Self::KeyValue
            }
            (Self::KeyValue, 2) => Self::AnyValue,
            (Self::KeyValue | Self::AnyValue, 1) => Self::Text,
            _ => return None,
        })
    }
}

/// The request with every attribute key and string value cut to the limit. Rare, so it may copy.
fn cut_request(body: &[u8], max: usize) -> Bytes {
    let mut writer = Writer::with_capacity(body.len());
    cut(Message::Request, body, max, &mut writer);
    writer.finish().into()
}

fn cut(message: Message, raw: &[u8], max: usize, out: &mut Writer) {
    for (number, value) in Fields::new(raw).map_while(Result::ok) {
        match (message.child(number), value) {
            (Some(Message::Text), Value::Len(text)) => out.bytes(number, cut_text(text, max)),
            (Some(child), Value::Len(raw)) => out.message(number, |out| cut(child, raw, max, out)),
            (_, Value::Varint(v)) => out.varint(number, v),
            (_, Value::Fixed64(v)) => out.fixed64(number, v),
            (_, Value::Fixed32(v)) => out.fixed32(number, v),
            (_, Value::Len(v)) => out.bytes(number, v),
        }
    }
}

/// At most `max` bytes, ending between characters.
fn cut_text(text: &[u8], max: usize) -> &[u8] {
    let is_inside = |at: &usize| text.get(*at).is_some_and(|b| b & 0xc0 == 0x80);
    let end = (0..=max).rev().find(|at| !is_inside(at)).unwrap_or_default();
    &text[..end.min(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        let cut = |text: &str, max| String::from_utf8(cut_text(text.as_bytes(), max).to_vec()).unwrap();
        assert_eq!(cut("abc", 5), "abc");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("aéé", 2), "a");
        assert_eq!(cut("aéé", 4), "aé");
        assert_eq!(cut("世", 2), "");
    }

    #[test]
    fn only_attributes_are_cut() {
        let long = "x".repeat(20);
        let attribute = |w: &mut Writer, field| {
            w.message(field, |w| {
                w.string(1, &long);
                w.message(2, |w| w.string(1, &long));
            });
        };
        let mut w = Writer::default();
        w.message(1, |w| {
            w.message(1, |w| attribute(w, 1));
            w.message(2, |w| {
                w.message(2, |w| {
                    w.bytes(1, &[7; 16]);
                    w.bytes(2, &[8; 8]);
                    w.string(5, &long);
                    w.fixed64(7, 5);
                    w.fixed64(8, 9);
                    attribute(w, 9);
                });
            });
        });
        let body = Bytes::from(w.finish());
        let record = Record::decode(&body, 4).unwrap();
        let row = record.rows[0];
        assert_eq!((row.trace, row.span, row.start, row.end), (TraceId([7; 16]), SpanId([8; 8]), 5, 9));
        let span = Span::parse(record.raw(&row)).unwrap();
        let attributes: Vec<_> = span.attributes().iter().map(|a| (a.key, a.value.as_str())).collect();
        assert_eq!((span.name, attributes), (&*long, vec![("xxxx", Some("xxxx"))]));
        let resource = Resource::parse(&record.contexts[0].resource).unwrap();
        assert_eq!(resource.attributes().get("xxxx"), Some(AnyValue::Str("xxxx")));
        // Within the limit nothing is copied.
        let whole = Record::decode(&body, 20).unwrap();
        assert_eq!(whole.body.as_ptr(), body.as_ptr());
    }

    #[test]
    fn ids_must_be_there() {
        let body = |trace: &[u8], span: &[u8]| {
            let mut w = Writer::default();
            w.message(1, |w| {
                w.message(2, |w| {
                    w.message(2, |w| {
                        w.bytes(1, trace);
                        w.bytes(2, span);
                    });
                });
            });
            Record::decode(&w.finish().into(), 10).map(|r| r.spans()).map_err(|e| e.to_string())
        };
        assert_eq!(body(&[1; 16], &[1; 8]), Ok(1));
        assert_eq!(body(&[1; 4], &[1; 8]), Err("trace ids must be 128 bit, received 32 bits".into()));
        assert_eq!(body(&[0; 16], &[1; 8]), Err("trace ids must be 128 bit, received 0 bits".into()));
        assert_eq!(
            body(&[1; 16], &[]),
            Err("span ids must be 64 bit and not all zero, received 0 bits".into())
        );
    }
}
