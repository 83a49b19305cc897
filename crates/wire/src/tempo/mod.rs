//! Tempo's query messages (package `tempopb`) and their JSON form.
//!
//! The structs are both: `prost` gives the protobuf of the streaming gRPC API, `serde` the JSON of
//! the HTTP API, which follows protobuf's rules: 64-bit integers as strings, zero values left out,
//! not-a-number as text. Lists that mean "nothing found" stand as `[]`. No member is ever added:
//! clients decode strictly.

mod json;
mod metrics;
mod search;
mod tags;
mod trace;
mod value;

pub use metrics::*;
pub use search::*;
pub use tags::*;
pub use trace::*;
pub use value::*;
