//! The formats against independent implementations, hostile bytes and recorded answers.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod any_otlp;
mod conformance;
mod hostile;
mod json;
mod loki;
mod tempo;
mod views;
