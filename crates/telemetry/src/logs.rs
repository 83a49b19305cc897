//! The layer that hands each event to the OTLP export as a log record.

use std::time::SystemTime;

use opentelemetry::{
    Key,
    logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity},
};
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use serde_json::Value;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{Layer, layer::Context};

use crate::{
    environment::Plan,
    export::{self, Export},
    fields::Fields,
};

pub(crate) struct Logs {
    logger: SdkLogger,
    /// Kept, because dropping the last provider shuts its loggers down.
    _provider: SdkLoggerProvider,
}

impl Logs {
    /// `None` when logs are not exported.
    pub(crate) fn new(plan: &Plan, export: &Export) -> Option<Logs> {
        let provider = export::logger_provider(plan, export)?;
        Some(Logs { logger: provider.logger("tracing"), _provider: provider })
    }
}

fn severity(level: &Level) -> (Severity, &'static str) {
    match *level {
        Level::ERROR => (Severity::Error, "ERROR"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::DEBUG => (Severity::Debug, "DEBUG"),
        Level::TRACE => (Severity::Trace, "TRACE"),
    }
}

fn any(value: Value) -> AnyValue {
    match value {
        Value::Bool(b) => AnyValue::Boolean(b),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => AnyValue::Int(n),
            (None, Some(f)) if !n.is_u64() => AnyValue::Double(f),
            _ => AnyValue::String(n.to_string().into()),
        },
        Value::String(text) => AnyValue::String(text.into()),
        other => AnyValue::String(other.to_string().into()),
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What the export itself says must not be exported.
        if export::is_exporting() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let (number, text) = severity(metadata.level());
        let now = SystemTime::now();
        let mut record = self.logger.create_log_record();
        record.set_timestamp(now);
        record.set_observed_timestamp(now);
        record.set_severity_number(number);
        record.set_severity_text(text);
        record.set_target(metadata.target());
        record.set_body(AnyValue::String(fields.message.unwrap_or_default().into()));
        record.add_attributes(fields.values.into_iter().map(|(key, value)| (Key::from(key), any(value))));
        // The logger puts in the trace context of the span we are in.
        self.logger.emit(record);
    }
}
