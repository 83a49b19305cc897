//! Plays Loki: ingests logs, answers LogQL over Loki's HTTP API.
//!
//! A push is checked and normalised ([`ingest`]), becomes durable in the ingest log, then queryable in the head, later a Parquet block
//! ([`store`]). A query sees heads and blocks as one ([`query`]). [`api`] speaks HTTP.

pub mod api;
pub mod bucket;
pub mod compact;
pub mod config;
pub mod deletes;
pub mod ingest;
pub mod limits;
mod metrics;
pub mod overrides;
pub mod patterns;
pub mod query;
pub mod ruler;
mod run;
pub mod runtime_config;
pub mod store;
mod tail;
pub mod tenancy;

pub use crate::config::Config;
pub use crate::run::{Logs, LogsHandle, build};
