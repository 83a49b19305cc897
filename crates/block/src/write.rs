//! Writing a block: rows to Parquet, streamed to the bucket.

use std::io::{self, Write};

use arrow_schema::{Schema, SchemaRef};
use blob::{Blob, BlobError, Upload};
use bytes::Bytes;
use model::{TenantId, Timestamp};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use tokio::sync::mpsc;

use crate::layout::Layout;
use crate::{Batches, BlockEnd, BlockId, BlockMeta, SealError, SealedBlock};

/// The size of all parts of an upload but the last; S3 wants at least 5 MiB and at most 10,000 of them.
const PART_BYTES: usize = 8 << 20;
/// Bytes of the bounds of texts in the footer.
const BOUND_BYTES: usize = 16;
/// A row group is closed at this many encoded bytes.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// How the columns of a block are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSettings {
    /// Rows per row group, at most; a row group is also closed at 64 MiB of encoded bytes.
    pub row_group_rows: usize,
    /// Rows per data page, at most: the grain of page skipping.
    pub page_rows: usize,
    /// Zstd level of all columns.
    pub zstd_level: i32,
    /// Top-level columns that the rows are sorted by, with ascending order: written to the file's metadata.
    pub sorted_by: Vec<String>,
    /// Hints for columns by name: of a top-level column (meant for all its leaves), or the dotted path of a leaf.
    pub columns: Vec<(String, ColumnHint)>,
    /// Further entries of the file's key-value metadata.
    pub metadata: Vec<(String, String)>,
}

impl Default for ColumnSettings {
    fn default() -> Self {
        Self {
            row_group_rows: 131_072,
            page_rows: 4_096,
            zstd_level: 3,
            sorted_by: Vec::new(),
            columns: Vec::new(),
            metadata: Vec::new(),
        }
    }
}

/// How one column is stored, where it differs from the default (dictionary, falling back to plain).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ColumnHint {
    /// `Some(false)` for values that hardly repeat.
    pub dictionary: Option<bool>,
    /// The encoding without (or after) a dictionary.
    pub encoding: Option<ColumnEncoding>,
    /// Keep no statistics of pages and chunks: for values that nobody compares, such as lines.
    pub no_statistics: bool,
    /// Zstd level, if another than that of the block; 0 for values that do not shrink and are kept as they are.
    pub zstd_level: Option<i32>,
    /// Bytes per data page, at most, before compression; for columns of long values.
    pub page_bytes: Option<usize>,
}

/// An encoding of Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnEncoding {
    /// Values as they are.
    Plain,
    /// Differences, bit-packed: integers that grow or lie close together.
    DeltaBinaryPacked,
    /// Lengths as differences, then the bytes: strings.
    DeltaLengthByteArray,
    /// Common prefixes cut off: sorted strings.
    DeltaByteArray,
    /// Bytes of the same rank together: floats.
    ByteStreamSplit,
}

/// Why a block could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The rows could not be made.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// They could not be encoded.
    #[error("cannot encode a block: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The bucket did not take it.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The thread that encodes died.
    #[error("the encoding of a block was interrupted")]
    Interrupted,
}

/// Writes a block's index and data to the bucket. It is no part of the data until a manifest names it.
///
/// Encoding runs on a blocking thread and hands over parts as they fill, so memory holds one row group and two parts.
pub async fn write_block(
    blob: &Blob,
    signal: &'static str,
    tenant: &TenantId,
    block: SealedBlock,
    level: u32,
) -> Result<BlockMeta, WriteError> {
    let id = BlockId::random();
    let layout = Layout::new(signal, tenant);
    let SealedBlock { schema, batches, parquet } = block;
    let (parts, mut filled) = mpsc::channel(1);
    let encoding = tokio::task::spawn_blocking(move || encode(schema, batches, &parquet, parts));
    let path = layout.data(id);
    let mut upload = None;
    while let Some(part) = filled.recv().await {
        if upload.is_none() {
            upload = Some(blob.upload(&path).await?);
        }
        let Some(open) = &mut upload else { continue };
        if let Err(error) = open.part(part).await {
            abandon(upload).await;
            return Err(error.into());
        }
    }
    let encoded = match encoding.await {
        Ok(Ok(encoded)) => encoded,
        Ok(Err(error)) => {
            abandon(upload).await;
            return Err(error);
        }
        Err(_) => {
            abandon(upload).await;
            return Err(WriteError::Interrupted);
        }
    };
    match upload {
        None => blob.put(&path, encoded.rest).await?,
        Some(mut open) => {
            if let Err(error) = open.part(encoded.rest).await {
                abandon(Some(open)).await;
                return Err(error.into());
            }
            open.finish().await?;
        }
    }
    let (size, footer_size, BlockEnd { index, summary }) = (encoded.size, encoded.footer_size, encoded.end);
    let index_size = index.len() as u64;
    blob.put(&layout.index(id), index).await?;
    Ok(BlockMeta { id, size, footer_size, index_size, level, created: Timestamp::now(), summary })
}

/// Gives the parts back, best effort: stores expire them in the end.
async fn abandon(upload: Option<Upload>) {
    if let Some(upload) = upload {
        let _ = upload.abort().await;
    }
}

struct Encoded {
    /// What was not handed over as a part; never empty, for the footer is in it.
    rest: Bytes,
    size: u64,
    footer_size: u64,
    end: BlockEnd,
}

fn encode(
    schema: SchemaRef,
    mut batches: Box<dyn Batches>,
    settings: &ColumnSettings,
    parts: mpsc::Sender<Bytes>,
) -> Result<Encoded, WriteError> {
    let properties = settings.properties(&schema)?;
    let mut writer =
        ArrowWriter::try_new(PartSink { parts, part: Vec::new(), sent: 0 }, schema, Some(properties))?;
    for batch in batches.by_ref() {
        writer.write(&batch?)?;
    }
    let end = batches.end()?;
    writer.flush()?;
    let rows_end = writer.bytes_written() as u64;
    let sink = writer.into_inner()?;
    let size = sink.sent + sink.part.len() as u64;
    Ok(Encoded { rest: sink.part.into(), size, footer_size: size - rows_end, end })
}

/// Cuts what is written into parts of one size. The last part stays in it.
struct PartSink {
    parts: mpsc::Sender<Bytes>,
    part: Vec<u8>,
    sent: u64,
}

impl Write for PartSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() == PART_BYTES {
            let part = std::mem::take(&mut self.part);
            self.sent += part.len() as u64;
            self.parts.blocking_send(part.into()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        let taken = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ColumnSettings {
    fn properties(&self, schema: &Schema) -> Result<WriterProperties, WriteError> {
        let page_rows = self.page_rows.max(1);
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("timberline ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(zstd(self.zstd_level)?)
            .set_max_row_group_row_count(Some(self.row_group_rows.max(1)))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            // The limit of rows is looked at after each batch of values.
            .set_write_batch_size(page_rows.min(1024))
            .set_data_page_row_count_limit(page_rows)
            .set_statistics_enabled(EnabledStatistics::Page)
            // Long values are told apart by their beginnings; footers stay small.
            .set_statistics_truncate_length(Some(BOUND_BYTES))
            .set_column_index_truncate_length(Some(BOUND_BYTES));
        if !self.metadata.is_empty() {
            let entries = self.metadata.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone())).collect();
            properties = properties.set_key_value_metadata(Some(entries));
        }
        let leaves = ArrowSchemaConverter::new().convert(schema)?;
        let sorted = self.sorted_by.iter().filter_map(|name| {
            let leaf = leaves.columns().iter().position(|c| c.path().parts().first() == Some(name))?;
            Some(SortingColumn { column_idx: leaf as i32, descending: false, nulls_first: true })
        });
        let sorted: Vec<_> = sorted.collect();
        if !sorted.is_empty() {
            properties = properties.set_sorting_columns(Some(sorted));
        }
        for (name, hint) in &self.columns {
            for leaf in leaves.columns() {
                let path = leaf.path();
                if path.parts().first() == Some(name) || path.string() == *name {
                    properties = hint.apply(path, properties)?;
                }
            }
        }
        Ok(properties.build())
    }
}

impl ColumnHint {
    fn apply(
        &self,
        path: &ColumnPath,
        mut properties: WriterPropertiesBuilder,
    ) -> Result<WriterPropertiesBuilder, WriteError> {
        if let Some(dictionary) = self.dictionary {
            properties = properties.set_column_dictionary_enabled(path.clone(), dictionary);
        }
        if let Some(encoding) = self.encoding {
            properties = properties.set_column_encoding(path.clone(), encoding.into());
        }
        if self.no_statistics {
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        if let Some(level) = self.zstd_level {
            properties = properties.set_column_compression(path.clone(), zstd(level)?);
        }
        if let Some(bytes) = self.page_bytes {
            properties = properties.set_column_data_page_size_limit(path.clone(), bytes);
        }
        Ok(properties)
    }
}

fn zstd(level: i32) -> Result<Compression, WriteError> {
    if level == 0 {
        return Ok(Compression::UNCOMPRESSED);
    }
    Ok(Compression::ZSTD(ZstdLevel::try_new(level)?))
}

impl From<ColumnEncoding> for Encoding {
    fn from(encoding: ColumnEncoding) -> Self {
        match encoding {
            ColumnEncoding::Plain => Self::PLAIN,
            ColumnEncoding::DeltaBinaryPacked => Self::DELTA_BINARY_PACKED,
            ColumnEncoding::DeltaLengthByteArray => Self::DELTA_LENGTH_BYTE_ARRAY,
            ColumnEncoding::DeltaByteArray => Self::DELTA_BYTE_ARRAY,
            ColumnEncoding::ByteStreamSplit => Self::BYTE_STREAM_SPLIT,
        }
    }
}
