//! Reading a block: footer and index once, then only the pages that are asked for.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{ArrowError, SchemaRef};
use blob::{Blob, BlobError};
use bytes::Bytes;
use model::TenantId;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder, RowGroupSelection};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

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

/// Rows per decoded batch.
const BATCH_ROWS: usize = 16_384;

/// A block with its footer, page index and index in memory.
pub struct OpenBlock<S: Signal> {
    meta: BlockMeta,
    index: S::Index,
    parquet: ArrowReaderMetadata,
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
            Ok(Self { meta, index, parquet, blob, path })
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
        let mut roots = Vec::with_capacity(columns.len());
        for column in columns {
            let no_column = |_| BlockError::NoColumn { block: self.meta.id, column: (*column).to_owned() };
            roots.push(self.schema().index_of(column).map_err(no_column)?);
        }
        roots.sort_unstable();
        roots.dedup();
        let schema = Arc::new(self.schema().project(&roots).map_err(|e| self.damaged(&e))?);
        let nulls: Vec<RowRanges> = schema
            .fields()
            .iter()
            .map(|f| {
                if f.is_nullable() {
                    segments::null_rows(self.parquet(), f.name())
                } else {
                    RowRanges::none()
                }
            })
            .collect();
        let mut decoding = Vec::new();
        for segment in segments::segments(&nulls, rows) {
            let read = roots.iter().zip(&segment.read).filter(|(_, read)| **read).map(|(root, _)| *root);
            let mut decoder = self.decoder(read.collect(), &segment.rows)?;
            let segment = Arc::new(segment.read);
            // The next row group is fetched while the last one is decoded.
            loop {
                match decoder.try_next_reader().map_err(|e| self.damaged(&e))? {
                    DecodeResult::NeedsData(ranges) => {
                        let data = self.blob.get_ranges(&self.path, &ranges).await?;
                        decoder.push_ranges(ranges, data).map_err(|e| self.damaged(&e))?;
                    }
                    DecodeResult::Data(reader) => {
                        let (schema, read) = (schema.clone(), segment.clone());
                        let decode = move || {
                            reader
                                .map(|batch| with_nulls(&batch?, &schema, &read))
                                .collect::<Result<Vec<_>, _>>()
                        };
                        decoding.push(tokio::task::spawn_blocking(decode));
                    }
                    DecodeResult::Finished => break,
                }
            }
        }
        let mut batches = Vec::new();
        for decoded in decoding {
            let decoded = decoded.await.map_err(|_| BlockError::Interrupted(self.meta.id))?;
            batches.extend(decoded.map_err(|e| self.damaged(&e))?);
        }
        Ok(batches)
    }

    /// Decodes some columns of some rows, given their bytes.
    fn decoder(&self, roots: Vec<usize>, rows: &RowRanges) -> Result<ParquetPushDecoder, BlockError> {
        let mask = ProjectionMask::roots(self.parquet().file_metadata().schema_descr(), roots);
        let selections = self.row_groups().into_iter().enumerate().filter_map(|(group, range)| {
            let wanted = rows.within(range.clone());
            (!wanted.is_empty()).then(|| RowGroupSelection::new(group, select(&wanted, range)))
        });
        ParquetPushDecoderBuilder::new_with_metadata(self.parquet.clone())
            .with_projection(mask)
            .with_row_group_selections(selections.collect())
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|e| self.damaged(&e))
    }

    fn damaged(&self, error: &dyn std::error::Error) -> BlockError {
        BlockError::Parquet { block: self.meta.id, reason: error.to_string() }
    }

    /// The memory it takes, about: decoded indexes are taken to be twice their size.
    pub(crate) fn weight(&self) -> u64 {
        self.parquet().memory_size() as u64 + 2 * self.meta.index_size + 1024
    }
}

/// A batch of all columns of `schema` out of one of those that were read; the others are null.
fn with_nulls(batch: &RecordBatch, schema: &SchemaRef, read: &[bool]) -> Result<RecordBatch, ArrowError> {
    let mut values = batch.columns().iter();
    let columns = schema.fields().iter().zip(read).map(|(field, read)| match read {
        true => values.next().cloned(),
        false => Some(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<Option<Vec<_>>>();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns.unwrap_or_default(), &options)
}

/// The rows `wanted` of a row group that spans `group`; `None` for all.
fn select(wanted: &RowRanges, group: Range<u64>) -> Option<RowSelection> {
    let total = group.end - group.start;
    if wanted.rows() == total {
        return None;
    }
    let ranges = wanted.iter().map(|r| (r.start - group.start) as usize..(r.end - group.start) as usize);
    Some(RowSelection::from_consecutive_ranges(ranges, total as usize))
}
