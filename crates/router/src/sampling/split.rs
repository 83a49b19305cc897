//! Splits a request by trace, and reads what the policies must know while it walks.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use model::TraceId;
use wire::otlp::OtlpError;
use wire::otlp::traces::resource_spans;

use super::condition::Conditions;
use super::sampler::{Group, Origin, SpanFacts};

/// Spans of one trace and one origin of a request.
#[derive(Debug)]
pub struct Piece {
    /// Whose spans.
    pub trace: TraceId,
    /// The spans.
    pub group: Group,
    /// What the policies must know of them.
    pub facts: SpanFacts,
}

/// Splits a checked `ExportTraceServiceRequest`. Nothing is copied: pieces share the body's buffer.
pub fn split(conditions: &Conditions, body: &Bytes) -> Result<Vec<Piece>, OtlpError> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut places: HashMap<TraceId, usize> = HashMap::new();
    for resource_spans in resource_spans(body) {
        let resource_spans = resource_spans?;
        let (resource, resource_bits) = match resource_spans.resource {
            Some(r) => (body.slice_ref(r.raw), conditions.of_attributes(r.attributes(), 0)),
            None => (Bytes::new(), 0),
        };
        for scope_spans in resource_spans.scope_spans() {
            let scope_spans = scope_spans?;
            let origin = Arc::new(Origin {
                resource: resource.clone(),
                resource_schema_url: body.slice_ref(resource_spans.schema_url.as_bytes()),
                scope: scope_spans.scope.map_or_else(Bytes::new, |s| body.slice_ref(s.raw)),
                scope_schema_url: body.slice_ref(scope_spans.schema_url.as_bytes()),
            });
            places.clear();
            for span in scope_spans.spans() {
                let span = span?;
                let trace = TraceId::from_slice(span.trace_id).unwrap_or_default();
                let own = conditions.of_span(span.status_code, span.flags, span.trace_state, resource_bits);
                let known = resource_bits | own;
                let facts = SpanFacts {
                    bits: known | conditions.of_attributes(span.attributes(), known),
                    start: span.start,
                    end: span.end,
                    root: span.parent_span_id.iter().all(|b| *b == 0),
                };
                let place = *places.entry(trace).or_insert_with(|| {
                    let group = Group { origin: origin.clone(), spans: Vec::new() };
                    pieces.push(Piece { trace, group, facts: SpanFacts::NONE });
                    pieces.len() - 1
                });
                let piece = &mut pieces[place];
                piece.group.spans.push(body.slice_ref(span.raw));
                piece.facts = piece.facts.join(facts);
            }
        }
    }
    Ok(pieces)
}
