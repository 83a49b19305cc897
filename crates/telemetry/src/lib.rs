//! JSON or console logs with trace context, and OTLP export of traces and logs, for Rust services.
