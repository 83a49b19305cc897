//! The ingest log: where a push becomes durable before it is acknowledged.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use disk::Durable;
use model::TenantId;
use serde::{Deserialize, Serialize};

/// One push of one tenant, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub tenant: TenantId,
    /// What [`crate::Signal::decode`] reads.
    pub body: Bytes,
}

/// The identity of a log, as long as its positions go on. A log that begins anew at position 0 has a new one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriterId(Arc<str>);

impl WriterId {
    /// A new identity that nobody else has.
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// Takes an identity that was stored.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the ingest log did not take records.
#[derive(Debug, thiserror::Error)]
pub enum IngestLogError {
    /// The local log.
    #[error(transparent)]
    Disk(#[from] disk::LogError),
    /// The file with the checkpoint.
    #[error("checkpoint {path}: {source}")]
    Checkpoint {
        /// The file.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file with the log's identity.
    #[error("writer identity {path}: {reason}")]
    Identity {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl IngestLogError {
    /// Whether there is no room for a checkpoint.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Checkpoint { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// A durable sequence of records with positions that only grow. Synchronous; one thread owns it.
pub trait IngestLog: Send + 'static {
    /// The identity that owns the positions.
    fn writer(&self) -> &WriterId;

    /// Stores all records, in order, with one commit; returns their positions, which are dense within one append and
    /// always above all earlier ones. After an error none of them counts as stored, and none may come back in a log that took
    /// others since.
    fn append(&mut self, records: &[Record]) -> Result<Durable<Range<u64>>, IngestLogError>;

    /// Whether [`trim`](Self::trim) would give up anything now.
    fn can_trim(&self, below: u64) -> bool;

    /// Gives up the records below `below`. They may stay for a while.
    fn trim(&mut self, below: u64) -> Result<(), IngestLogError>;

    /// Stores a document durably beside the records, in place of the one before: what must be remembered of given up records.
    fn checkpoint(&mut self, document: &[u8]) -> Result<Durable<()>, IngestLogError>;

    /// The document that was there when the log was opened; `None` when asked again.
    fn take_checkpoint(&mut self) -> Option<Bytes>;

    /// The position of the next record.
    fn next(&self) -> u64;

    /// Makes sure that no position below `position` is given any more: a manifest says that they were used.
    fn skip_to(&mut self, position: u64);
}

/// What a log held when it was opened, in order of position.
pub type Recovered = Box<dyn Iterator<Item = Result<(u64, Record), IngestLogError>> + Send>;
