//! Rows of a block, fetched but not yet decoded: fetching waits for the bucket, decoding keeps a processor busy, and who reads decides
//! where that is done.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{ArrowError, SchemaRef};
use blob::{Blob, BlobError};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, RowSelection};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::file::metadata::ParquetMetaData;

use crate::chunks::{Group, Stretches};
use crate::segments::Segment;
use crate::{BlockError, BlockId, RowRanges, pages};

/// Rows per decoded batch: two pages; the buffers of larger ones would be mapped and given back to the system each time.
const BATCH_ROWS: usize = 8_192;
/// Pages closer than this are read in one go, with what is between them.
const CLOSE: u64 = 2 << 10;

/// See the module.
#[derive(Debug)]
pub struct Fetched {
    block: BlockId,
    parquet: ArrowReaderMetadata,
    /// The columns that were asked for, and their places in the file's schema.
    schema: SchemaRef,
    roots: Vec<usize>,
    segments: Vec<Segment>,
    bytes: Arc<Stretches>,
}

impl Fetched {
    /// Fetches the pages of segments of some columns, given by their places in the schema.
    pub(crate) async fn read(
        block: BlockId,
        parquet: ArrowReaderMetadata,
        (blob, path): (&Blob, &str),
        (roots, schema): (Vec<usize>, SchemaRef),
        segments: Vec<Segment>,
    ) -> Result<Self, BlobError> {
        let mut wanted = Vec::new();
        for segment in &segments {
            let read = roots.iter().zip(&segment.read).filter(|(_, read)| **read).map(|(root, _)| *root);
            pages_of(parquet.metadata(), &read.collect::<Vec<_>>(), &segment.rows, &mut wanted);
        }
        let wanted = joined(wanted);
        let bytes = if wanted.is_empty() { Vec::new() } else { blob.get_ranges(path, &wanted).await? };
        let bytes = Stretches::new(wanted.iter().map(|range| range.start).zip(bytes));
        Ok(Self { block, parquet, schema, roots, segments, bytes: Arc::new(bytes) })
    }

    /// The rows in order, in batches without regard to the borders of what was asked for. A batch lacks the columns that are null in
    /// all of its rows; the others are in the order of the file. Keeps a processor busy.
    pub fn decode(&self) -> Result<Vec<RecordBatch>, BlockError> {
        self.each(|_, batch| Ok(batch))
    }

    /// The same, all batches with all columns.
    pub fn decode_all(&self) -> Result<Vec<RecordBatch>, BlockError> {
        self.each(|segment, batch| with_nulls(&batch, &self.schema, &segment.read))
    }

    fn each(
        &self,
        change: impl Fn(&Segment, RecordBatch) -> Result<RecordBatch, ArrowError>,
    ) -> Result<Vec<RecordBatch>, BlockError> {
        let parquet = self.parquet.metadata();
        let descriptor = parquet.file_metadata().schema_descr();
        let mut batches = Vec::new();
        for segment in &self.segments {
            let read = self.roots.iter().zip(&segment.read).filter(|(_, read)| **read).map(|(root, _)| *root);
            let mask = ProjectionMask::roots(descriptor, read);
            let levels =
                parquet_to_arrow_field_levels(descriptor, mask, Some(self.parquet.schema().fields()));
            let levels = levels.map_err(|e| self.damaged(&e))?;
            for (number, group) in pages::row_groups(parquet).into_iter().enumerate() {
                let wanted = segment.rows.within(group.clone());
                if wanted.is_empty() {
                    continue;
                }
                let rows = Group { parquet, number, bytes: &self.bytes };
                for piece in pieces(wanted, &group) {
                    let selection = select(&piece, group.clone());
                    let batch_rows = BATCH_ROWS.min(piece.rows() as usize);
                    let reader = ParquetRecordBatchReader::try_new_with_row_groups(
                        &levels, &rows, batch_rows, selection,
                    );
                    for batch in reader.map_err(|e| self.damaged(&e))? {
                        let batch = batch.and_then(|batch| change(segment, batch));
                        batches.push(batch.map_err(|e| self.damaged(&e))?);
                    }
                }
            }
        }
        Ok(batches)
    }

    fn damaged(&self, error: &dyn std::error::Error) -> BlockError {
        BlockError::Parquet { block: self.block, reason: error.to_string() }
    }
}

/// The bytes of the pages of some top-level columns that hold some rows, in any order.
fn pages_of(parquet: &ParquetMetaData, roots: &[usize], rows: &RowRanges, out: &mut Vec<Range<u64>>) {
    let descriptor = parquet.file_metadata().schema_descr();
    for (number, group) in pages::row_groups(parquet).into_iter().enumerate() {
        let wanted = rows.within(group.clone());
        if wanted.is_empty() {
            continue;
        }
        let wanted = if is_scattered(&wanted, &group) {
            pieces(wanted, &group).iter().filter_map(hull).collect()
        } else {
            wanted
        };
        let index = parquet.page_index_for_row_group(number);
        let chunks = parquet.row_group(number).columns().iter().enumerate();
        for (leaf, chunk) in
            chunks.filter(|(leaf, _)| roots.binary_search(&descriptor.get_column_root_idx(*leaf)).is_ok())
        {
            let (start, length) = chunk.byte_range();
            let Some(offsets) = index.offset_index(leaf) else {
                out.push(start..start + length);
                continue;
            };
            let place = |offset: i64| u64::try_from(offset).unwrap_or(0);
            let locations = offsets.page_locations();
            // A dictionary stands before the first page.
            if let Some(first) = locations.first().filter(|first| place(first.offset) > start) {
                out.push(start..place(first.offset));
            }
            let mut ranges = wanted.iter().peekable();
            for (rows, page) in pages::page_rows(offsets, &group).zip(locations) {
                while ranges.peek().is_some_and(|range| range.end <= rows.start) {
                    ranges.next();
                }
                if ranges.peek().is_some_and(|range| range.start < rows.end) {
                    let start = place(page.offset);
                    out.push(start..start + place(page.compressed_page_size.into()));
                }
            }
        }
    }
}

/// Ascending ranges, those that are close in one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(CLOSE) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
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

/// Whether so many small ranges are wanted that the library may decode all rows and drop the others, for which it needs the pages between
/// the wanted ones as well. It does so where the average of ranges and of gaps is below 32 rows.
fn is_scattered(wanted: &RowRanges, group: &Range<u64>) -> bool {
    const AVERAGE: u64 = 64;
    let ranges = wanted.iter().count() as u64;
    ranges > 1 && (group.end - group.start) < AVERAGE * (2 * ranges + 1)
}

/// Rows of a row group in pieces, each read by a reader of its own: of [scattered](is_scattered) ones all pages from the first to the last
/// are read, so they are parted where there is much between them.
fn pieces(wanted: RowRanges, group: &Range<u64>) -> Vec<RowRanges> {
    const FAR: u64 = 4096;
    if !is_scattered(&wanted, group) {
        return vec![wanted];
    }
    let mut pieces: Vec<Vec<Range<u64>>> = Vec::new();
    for range in wanted.iter() {
        match pieces.last_mut() {
            Some(piece) if piece.last().is_some_and(|last| range.start - last.end < FAR) => piece.push(range),
            _ => pieces.push(vec![range]),
        }
    }
    pieces.into_iter().map(RowRanges::from_iter).collect()
}

/// From the first row to the last.
fn hull(rows: &RowRanges) -> Option<Range<u64>> {
    Some(rows.iter().next()?.start..rows.iter().last()?.end)
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
