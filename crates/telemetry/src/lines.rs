//! The layer that writes each event as one line, with the fields of the spans around it and their trace context.

use opentelemetry::{Context as OtelContext, trace::TraceContextExt};
use serde_json::{Map, Value};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::{Format, Sink, fields::Fields};

/// Keys that every line has; a field of such a name is written as `fields.{name}`.
const RESERVED: [&str; 8] =
    ["timestamp", "level", "service", "target", "message", "trace_id", "span_id", "trace_sampled"];

pub(crate) struct Lines {
    service: String,
    format: Format,
    sink: Sink,
}

impl Lines {
    pub(crate) fn new(service: String, format: Format, sink: Sink) -> Lines {
        Lines { service, format, sink }
    }

    fn json(&self, level: &str, target: &str, fields: Fields) -> Vec<u8> {
        let mut line = Map::with_capacity(fields.values.len() + RESERVED.len());
        let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
        put("timestamp", now().into());
        put("level", level.into());
        put("service", self.service.as_str().into());
        put("target", target.into());
        put("message", fields.message.unwrap_or_default().into());
        if let Some((trace, span, sampled)) = trace_context() {
            put("trace_id", trace.into());
            put("span_id", span.into());
            put("trace_sampled", sampled.into());
        }
        for (key, value) in fields.values {
            match RESERVED.contains(&key.as_str()) {
                true => put(&format!("fields.{key}"), value),
                false => put(&key, value),
            };
        }
        let mut out = Value::Object(line).to_string().into_bytes();
        out.push(b'\n');
        out
    }

    /// One line of logfmt, as Loki, Promtail and Tempo write it.
    fn logfmt(&self, level: &str, target: &str, fields: Fields) -> Vec<u8> {
        let mut out = format!("ts={} level={level} service={} target={target} msg=", now(), self.service);
        write_value(&mut out, &fields.message.unwrap_or_default().into());
        let trace = trace_context().map(|(trace, _, _)| ("trace_id".to_owned(), Value::String(trace)));
        for (key, value) in fields.values.into_iter().chain(trace) {
            out.push(' ');
            out.push_str(&key);
            out.push('=');
            write_value(&mut out, &value);
        }
        out.push('\n');
        out.into_bytes()
    }

    fn console(&self, level: &str, target: &str, fields: Fields) -> Vec<u8> {
        let mut out = format!("{} {level:>5} {target}: {}", now(), fields.message.unwrap_or_default());
        let trace = trace_context().map(|(trace, _, _)| ("trace_id".to_owned(), Value::String(trace)));
        for (key, value) in fields.values.into_iter().chain(trace) {
            out.push(' ');
            out.push_str(&key);
            out.push('=');
            write_value(&mut out, &value);
        }
        // One event, one line, whatever a message holds.
        let mut out = out.replace('\n', "\\n").into_bytes();
        out.push(b'\n');
        out
    }
}

/// Texts as they are where that can be read back, else quoted, on one line.
fn write_value(out: &mut String, value: &Value) {
    let is_bare = |text: &&str| {
        !text.is_empty()
            && !text.contains(|c: char| c == '"' || c == '=' || c.is_whitespace() || c.is_control())
    };
    match value.as_str().filter(is_bare) {
        Some(text) => out.push_str(text),
        None => out.push_str(&value.to_string()),
    }
}

/// UTC with microseconds.
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// Trace id, span id and sampled flag of the span we are in.
fn trace_context() -> Option<(String, String, bool)> {
    OtelContext::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        let ids = || (span.trace_id().to_string(), span.span_id().to_string(), span.is_sampled());
        span.is_valid().then(ids)
    })
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                all.values.extend(fields.values.clone());
            }
        }
        event.record(&mut all);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        let target = event.metadata().target();
        (self.sink)(&match self.format {
            Format::Json => self.json(level, target, all),
            Format::Logfmt => self.logfmt(level, target, all),
            Format::Console => self.console(level, target, all),
        });
    }
}
