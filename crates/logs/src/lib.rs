//! Plays Loki: ingests logs, answers LogQL over Loki's HTTP API.
//!
//! A push is checked and normalised ([`ingest`]), becomes durable in the ingest log, then queryable in the head, later a Parquet block
//! ([`store`]). A query sees heads and blocks as one ([`query`]). [`api`] speaks HTTP.

pub mod api;
pub mod config;
pub mod ingest;
pub mod limits;
mod metrics;
pub mod query;
mod run;
pub mod store;

pub use crate::config::Config;
pub use crate::run::{Logs, LogsHandle, build};
