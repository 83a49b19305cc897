//! Parquet blocks, the manifest that names them, the ingest log before them, and the snapshot that queries read.
//!
//! One engine for both signals: a [`Signal`] says how a logged record becomes rows, how a [`Head`] keeps rows
//! in memory and sorts them at a flush; everything else is here. A row's life:
//! [`Store::append`] → [`IngestLog`] (durable) → head (queryable) → acknowledged → sealed into a block →
//! named by a [`Manifest`] version, which in the same step takes the head out of every new [`Snapshot`].

mod chunks;
mod commit;
mod compact;
mod disk_log;
mod fetch;
mod flush;
mod ingest;
mod janitor;
mod layout;
mod manifest;
mod manifests;
pub mod needle;
mod open;
mod pages;
mod pick;
mod replay;
mod rows;
mod segments;
mod signal;
mod store;
mod tasks;
mod view;
mod write;

pub use compact::{Compact, CompactError, Compacted, MergeError};
pub use disk_log::{DiskIngestLog, DiskRecovered};
pub use fetch::Fetched;
pub use ingest::{IngestLog, IngestLogError, Record, Recovered, WriterId};
pub use manifest::{BlockId, BlockMeta, BlockSummary, Manifest, RemovedBlock};
pub use manifests::{Change, ManifestError, Manifests, NoteChange};
pub use open::{BlockError, OpenBlock};
pub use pick::{Tiers, pick};
pub use rows::RowRanges;
pub use signal::{Batches, BlockEnd, DecodeError, Head, SealError, SealedBlock, Signal};
pub use store::{AppendError, FlushError, OpenError, Store, StoreOptions, StoreStats};
pub use tasks::StoreTasks;
pub use view::Snapshot;
pub use write::{ColumnEncoding, ColumnHint, ColumnSettings, WriteError, write_block};

#[cfg(test)]
mod tests;
