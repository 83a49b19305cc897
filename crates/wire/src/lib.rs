//! Every outside format: OTLP, Loki push and query, Tempo, decoded with size caps.
//!
//! Bytes come in untrusted and leave as checked values. Nothing here does IO, keeps state or
//! trusts a length that the bytes themselves carry: no input panics, recurses without limit or
//! makes the process allocate more than a small multiple of the input's own size or the given cap.
//!
//! Where data is large (log lines, spans) it is not copied: views borrow from the body, and
//! [`Str`] shares it.

pub mod decompress;
mod json;
pub mod loki;
pub mod otlp;
pub mod prometheus;
pub mod proto;
pub mod tempo;
mod text;

pub use json::JsonError;
pub use text::Str;
