//! W3C trace context across process borders: `traceparent` and `tracestate` in the headers of HTTP and gRPC requests.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Reader<'a>(&'a HeaderMap);

impl Extractor for Reader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Writer<'a>(&'a mut HeaderMap);

impl Injector for Writer<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            // An empty tracestate says nothing.
            if !value.is_empty() {
                self.0.insert(name, value);
            }
        }
    }
}

/// Makes `span`, which nobody has entered yet, a child of the remote span named in `headers`; nothing happens when there is
/// none.
pub fn set_parent(span: &tracing::Span, headers: &HeaderMap) {
    if span.is_disabled() || !headers.contains_key("traceparent") {
        return;
    }
    let remote = TraceContextPropagator::new().extract_with_context(&Context::new(), &Reader(headers));
    if remote.span().span_context().is_valid() {
        // Fails where telemetry is off, and then there is nothing to link.
        let _ = span.set_parent(remote);
    }
}

/// Writes the trace context of the current span into the `headers` of an outgoing request; nothing when there is none.
pub fn inject(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&current(), &mut Writer(headers));
}

/// Trace id of the current span in hex, if there is one.
pub fn current_trace_id() -> Option<String> {
    let context = current();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

fn current() -> Context {
    Context::current()
}
