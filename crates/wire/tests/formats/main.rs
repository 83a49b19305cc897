//! The formats against independent implementations, hostile bytes and recorded answers.

mod any_otlp;
mod conformance;
mod hostile;
mod json;
mod loki;
mod tempo;
mod views;
