//! Plays Loki: ingests logs, answers LogQL over Loki's HTTP API.

pub mod ingest;
pub mod limits;
mod metrics;
pub mod store;
