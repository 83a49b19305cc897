//! Plays the OpenTelemetry Collector: receives OTLP, samples whole traces, exports.
