//! The engine with a small signal of its own: key/value rows.

mod compact;
mod crash;
mod ingest_logs;
pub(crate) mod kv;
mod parquet;
mod stores;
