//! What a signal (logs, traces) supplies to the engine.

use std::fmt::Display;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use model::TenantId;

use crate::{BlockSummary, ColumnSettings};

/// A kind of data with its rows, its head and its block index.
pub trait Signal: Send + Sync + 'static {
    /// `"logs"` or `"traces"`: the first path segment in the bucket, and the name in metrics and thread names.
    const NAME: &'static str;
    /// The rows of one record, decoded, ready for the head.
    type Rows: Send + 'static;
    /// The rows of a tenant that are in no block yet.
    type Head: Head<Rows = Self::Rows>;
    /// The decoded form of a block's index object.
    type Index: Send + Sync + 'static;

    /// Decodes a record at replay. It was valid when it was logged, so an error means damage or a
    /// downgrade; the record is then counted and left out.
    fn decode(&self, tenant: &TenantId, body: &Bytes) -> Result<Self::Rows, DecodeError>;
    /// Looks at a record just before it is logged: takes rows out, of body and rows alike, that were stored before, and notes the
    /// others as stored. Called by the commit thread alone, in the order of the log.
    fn admit(&self, _tenant: &TenantId, _body: &mut Bytes, _rows: &mut Self::Rows) {}
    /// Says whether all that was admitted since the last call is in the log now. If not, it is not noted any more.
    fn settle(&self, _stored: bool) {}
    /// Notes the rows of a logged record as stored. Called at replay in the order of the log, also for records that are in blocks
    /// by now.
    fn recall(&self, _tenant: &TenantId, _body: &Bytes) {}
    /// What is noted as stored, to be kept beside the log when its oldest records, from which it could be recalled, are given up.
    /// `None` when nothing is noted.
    fn checkpoint(&self) -> Option<Bytes> {
        None
    }
    /// Takes a checkpoint back, before anything is recalled.
    fn restore(&self, _checkpoint: &Bytes) -> Result<(), DecodeError> {
        Ok(())
    }
    /// Makes an empty head.
    fn new_head(&self, tenant: &TenantId) -> Self::Head;
    /// Decodes a block's index object.
    fn decode_index(&self, bytes: &Bytes) -> Result<Self::Index, DecodeError>;
}

/// Rows in memory, with interior locking: queries read while the commit thread inserts.
pub trait Head: Send + Sync + 'static {
    /// The rows of one record.
    type Rows;
    /// Adds the rows of one record; a reader sees all of them or none. Called by one thread at a time.
    fn insert(&self, rows: Self::Rows);
    /// The memory held, in bytes. Cheap: asked after every insert.
    fn bytes(&self) -> usize;
    /// The number of rows held.
    fn rows(&self) -> u64;
    /// Makes blocks out of all rows, sorted and without duplicates. Called on a blocking thread, on a head that gets no more rows
    /// but is still read; called again when a flush has to be retried. May yield no block when there are no rows.
    fn seal(&self) -> Result<Vec<SealedBlock>, SealError>;
}

/// A block about to be written.
pub struct SealedBlock {
    /// The schema of all batches.
    pub schema: SchemaRef,
    /// The rows in block order. Pulled as the writer gets room, so they need not lie in memory at once.
    pub batches: Box<dyn Batches>,
    /// How the columns are stored.
    pub parquet: ColumnSettings,
}

/// The rows of a block about to be written, and what can be said of them in the end.
pub trait Batches: Iterator<Item = Result<RecordBatch, SealError>> + Send {
    /// Called after the last batch.
    fn end(self: Box<Self>) -> Result<BlockEnd, SealError>;
}

/// What is known of a block when all its rows are written.
#[derive(Debug, Clone)]
pub struct BlockEnd {
    /// The index object. It may speak of row positions: row n is the n-th row of all batches.
    pub index: Bytes,
    /// What the manifest says of the block.
    pub summary: BlockSummary,
}

impl BlockEnd {
    /// Joins rows with what is known of them beforehand.
    pub fn after<I>(self, batches: I) -> Box<dyn Batches>
    where
        I: Iterator<Item = Result<RecordBatch, SealError>> + Send + 'static,
    {
        Box::new(Foreknown { batches, end: self })
    }
}

struct Foreknown<I> {
    batches: I,
    end: BlockEnd,
}

impl<I: Iterator> Iterator for Foreknown<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.batches.next()
    }
}

impl<I: Iterator<Item = Result<RecordBatch, SealError>> + Send> Batches for Foreknown<I> {
    fn end(self: Box<Self>) -> Result<BlockEnd, SealError> {
        Ok(self.end)
    }
}

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    /// Says what is wrong.
    pub fn new(reason: impl Display) -> Self {
        Self(reason.to_string())
    }
}

/// A head could not be made into blocks.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Arrow refused the columns.
    #[error("cannot build the columns of a block: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}
