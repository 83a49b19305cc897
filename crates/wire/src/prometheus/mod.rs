//! Prometheus' formats as far as a ruler speaks them: remote write, and the JSON of rules and alerts.

pub mod remote;
pub mod rules;
