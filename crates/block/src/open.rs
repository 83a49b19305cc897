//! Reading a block: footer and index once, then only the pages that are asked for.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use blob::{Blob, BlobError};
use bytes::Bytes;
use model::TenantId;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use crate::fetch::Fetched;
use crate::layout::Layout;
use crate::store::Shared;
use crate::{BlockId, BlockMeta, DecodeError, RowRanges, Signal, pages, segments};

/// Why a block could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlockError {
    /// The bucket is away, or the block is gone.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The index is damaged.
    #[error("index of block {block} is damaged: {source}")]
    Index {
        /// The block.
        block: BlockId,
        /// What is wrong.
        source: DecodeError,
    },
    /// The Parquet file is damaged.
    #[error("block {block} is damaged: {reason}")]
    Parquet {
        /// The block.
        block: BlockId,
        /// What is wrong.
        reason: String,
    },
    /// A column that the block does not have.
    #[error("block {block} has no column {column:?}")]
    NoColumn {
        /// The block.
        block: BlockId,
        /// The column.
        column: String,
    },
    /// The thread that decodes died.
    #[error("the reading of block {0} was interrupted")]
    Interrupted(BlockId),
}

/// A block with its footer, page index and index in memory.
pub struct OpenBlock<S: Signal> {
    meta: BlockMeta,
    index: S::Index,
    parquet: ArrowReaderMetadata,
    /// By place in the schema: the rows of pages without a value.
    nulls: Vec<RowRanges>,
    blob: Blob,
    path: String,
}

impl<S: Signal> OpenBlock<S> {
    /// Fetches footer and index, in two reads side by side.
    pub(crate) async fn open(
        store: Arc<Shared<S>>,
        tenant: &TenantId,
        meta: &BlockMeta,
    ) -> Result<Self, BlockError> {
        let (meta, blob) = (meta.clone(), store.blob.clone());
        let block = meta.id;
        let layout = Layout::new(S::NAME, tenant);
        let path = layout.data(block);
        let tail = meta.size.saturating_sub(meta.footer_size)..meta.size;
        let index_path = layout.index(block);
        let index = async {
            if meta.index_size == 0 {
                Ok(Bytes::new())
            } else {
                blob.get_range(&index_path, 0..meta.index_size).await
            }
        };
        let (tail, index) = futures::try_join!(blob.get_range(&path, tail), index)?;
        let decoding = tokio::task::spawn_blocking(move || {
            let wrong = |e: ParquetError| BlockError::Parquet { block, reason: e.to_string() };
            let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
            reader.try_parse_sized(&tail, meta.size).map_err(wrong)?;
            let footer = Arc::new(reader.finish().map_err(wrong)?);
            let parquet = ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new()).map_err(wrong)?;
            let index =
                store.signal.decode_index(&index).map_err(|source| BlockError::Index { block, source })?;
            let nulls = segments::null_rows(parquet.metadata(), parquet.schema());
            Ok(Self { meta, index, parquet, nulls, blob, path })
        });
        decoding.await.map_err(|_| BlockError::Interrupted(block))?
    }

    /// What the manifest says of it.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// The signal's index.
    pub fn index(&self) -> &S::Index {
        &self.index
    }

    /// The schema of all columns.
    pub fn schema(&self) -> &SchemaRef {
        self.parquet.schema()
    }

    /// Whether there is a top-level column of this name.
    pub fn has_column(&self, name: &str) -> bool {
        self.schema().index_of(name).is_ok()
    }

    /// The footer with the page index.
    pub fn parquet(&self) -> &Arc<ParquetMetaData> {
        self.parquet.metadata()
    }

    /// All rows.
    pub fn all_rows(&self) -> RowRanges {
        RowRanges::all(self.row_groups().last().map_or(0, |r| r.end))
    }

    /// The rows of each row group, in order: the natural pieces of a scan.
    pub fn row_groups(&self) -> Vec<Range<u64>> {
        pages::row_groups(self.parquet())
    }

    /// The rows of the pages that may hold a value of an integer or timestamp column within `min..=max`. All rows
    /// when the column has no statistics, none when there is no such column.
    pub fn prune_i64(&self, column: &str, min: i64, max: i64) -> RowRanges {
        pages::prune(self.parquet(), column, &pages::Bounds::Integers(min, max))
    }

    /// [`OpenBlock::prune_i64`] for columns of strings and bytes, compared bytewise.
    pub fn prune_bytes(&self, column: &str, min: &[u8], max: &[u8]) -> RowRanges {
        pages::prune(self.parquet(), column, &pages::Bounds::Bytes(min, max))
    }

    /// Reads rows of some top-level columns. Only the pages that hold them and are not null throughout are fetched, close ones
    /// together, and decoded on a blocking thread. The batches hold the asked rows in order, without regard to the ranges' borders;
    /// the columns are in the order of the block's schema.
    pub async fn read(&self, columns: &[&str], rows: &RowRanges) -> Result<Vec<RecordBatch>, BlockError> {
        let fetched = self.fetch(columns, rows).await?;
        let decoded = tokio::task::spawn_blocking(move || fetched.decode_all()).await;
        decoded.map_err(|_| BlockError::Interrupted(self.meta.id))?
    }

    /// The first half of [`OpenBlock::read`]: what is left to do needs no bucket.
    pub async fn fetch(&self, columns: &[&str], rows: &RowRanges) -> Result<Fetched, BlockError> {
        let mut roots = Vec::with_capacity(columns.len());
        for column in columns {
            let no_column = |_| BlockError::NoColumn { block: self.meta.id, column: (*column).to_owned() };
            roots.push(self.schema().index_of(column).map_err(no_column)?);
        }
        roots.sort_unstable();
        roots.dedup();
        let schema = Arc::new(self.schema().project(&roots).map_err(|e| self.damaged(&e))?);
        let nulls: Vec<&RowRanges> = roots.iter().map(|root| &self.nulls[*root]).collect();
        let segments = segments::segments(&nulls, rows);
        let source = (&self.blob, self.path.as_str());
        Ok(Fetched::read(self.meta.id, self.parquet.clone(), source, (roots, schema), segments).await?)
    }

    fn damaged(&self, error: &dyn std::error::Error) -> BlockError {
        BlockError::Parquet { block: self.meta.id, reason: error.to_string() }
    }

    /// The memory it takes, about: decoded indexes are taken to be twice their size.
    pub(crate) fn weight(&self) -> u64 {
        let nulls: usize = self.nulls.iter().map(|rows| rows.iter().count()).sum();
        self.parquet().memory_size() as u64 + nulls as u64 * 16 + 2 * self.meta.index_size + 1024
    }
}
