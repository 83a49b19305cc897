//! Bytes of a block in memory, as the Parquet reader takes them.
//!
//! Pages are decompressed here, not by the library: for every column that it reads it would make two contexts of zstd, which costs more
//! than the pages of a small read do. Here all columns that a thread reads share one.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::{Buf, Bytes, buf};
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;

/// Stretches of a file.
#[derive(Debug)]
pub(crate) struct Stretches(Vec<(u64, Bytes)>);

impl Stretches {
    /// Given with the place of the first byte, ascending.
    pub(crate) fn new(stretches: impl Iterator<Item = (u64, Bytes)>) -> Self {
        Self(stretches.collect())
    }

    /// What was read from a place on.
    fn from(&self, start: u64) -> Result<Bytes> {
        let after = self.0.partition_point(|(at, _)| *at <= start);
        let found = after.checked_sub(1).and_then(|before| {
            let (at, bytes) = &self.0[before];
            let skip = usize::try_from(start - at).ok()?;
            (skip <= bytes.len()).then(|| bytes.slice(skip..))
        });
        found.ok_or_else(|| ParquetError::General(format!("byte {start} was not read")))
    }
}

impl Length for Stretches {
    fn len(&self) -> u64 {
        self.0.last().map_or(0, |(at, bytes)| at + bytes.len() as u64)
    }
}

impl ChunkReader for Stretches {
    type T = buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.from(start).map(Buf::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("bytes {start} + {length} were not read")));
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// A row group of which some pages are in memory.
pub(crate) struct Group<'a> {
    pub(crate) parquet: &'a ParquetMetaData,
    pub(crate) number: usize,
    pub(crate) bytes: &'a Arc<Stretches>,
}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        usize::try_from(self.parquet.row_group(self.number).num_rows()).unwrap_or(0)
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let chunk = self.parquet.row_group(self.number).column(leaf);
        let index = self.parquet.page_index_for_row_group(self.number);
        let locations = index.offset_index(leaf).map(|offsets| offsets.page_locations().clone());
        let open = |chunk| SerializedPageReader::new(self.bytes.clone(), chunk, self.num_rows(), locations);
        let reader: Box<dyn PageReader> = match chunk.compression() {
            Compression::ZSTD(_) => {
                // The pages come as they are stored.
                let stored = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED);
                let most = usize::try_from(chunk.uncompressed_size()).unwrap_or(0);
                Box::new(Inflating { pages: open(&stored.build()?)?, most })
            }
            _ => Box::new(open(chunk)?),
        };
        Ok(Box::new(One(Some(reader))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.parquet.row_group(self.number)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.parquet
    }
}

/// The pages of a column in one row group.
struct One(Option<Box<dyn PageReader>>);

impl Iterator for One {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for One {}

/// Decompresses pages.
struct Inflating {
    pages: SerializedPageReader<Stretches>,
    /// Bytes of all pages, decompressed.
    most: usize,
}

impl Inflating {
    fn inflate(&self, page: Page) -> Result<Page> {
        let most = self.most;
        Ok(match page {
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                statistics,
            } => {
                let buf = inflate(&buf, most)?.into();
                Page::DataPage {
                    buf,
                    num_values,
                    encoding,
                    def_level_encoding,
                    rep_level_encoding,
                    statistics,
                }
            }
            Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
                Page::DictionaryPage { buf: inflate(&buf, most)?.into(), num_values, encoding, is_sorted }
            }
            // None is written.
            Page::DataPageV2 { is_compressed: true, .. } => {
                return Err(ParquetError::NYI("compressed data pages of version 2".to_owned()));
            }
            page @ Page::DataPageV2 { .. } => page,
        })
    }
}

impl Iterator for Inflating {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Inflating {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.pages.get_next_page()?.map(|page| self.inflate(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        self.pages.take_deferred_dictionary()?.map(|page| self.inflate(page)).transpose()
    }
}

thread_local! {
    static CONTEXT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decompresses a frame that says how large it is, which is not more than `most`.
fn inflate(frame: &[u8], most: usize) -> Result<Vec<u8>> {
    // A page without values.
    if frame.is_empty() {
        return Ok(Vec::new());
    }
    let size = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= most);
    let size = size.ok_or_else(|| ParquetError::General("a page has an unlikely size".to_owned()))?;
    CONTEXT.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(Decompressor::new()?),
        };
        Ok(context.decompress(frame, size)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_no_larger_than_their_column() {
        let frame = zstd::bulk::compress(&[7; 1000], 3).unwrap();
        assert_eq!(inflate(&frame, 1000).unwrap(), [7; 1000]);
        assert!(inflate(&frame, 999).is_err());
        assert!(inflate(&frame[..frame.len() - 1], 1000).is_err());
        assert!(inflate(b"no frame", 1000).is_err());
        assert_eq!(inflate(b"", 0).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn bytes_are_found_where_they_were_read() {
        let read = [(10, Bytes::from_static(b"abc")), (20, Bytes::from_static(b"xyz"))];
        let read = Stretches::new(read.into_iter());
        assert_eq!(read.get_bytes(11, 2).unwrap(), "bc");
        assert_eq!(read.get_bytes(20, 3).unwrap(), "xyz");
        assert!(read.get_bytes(9, 1).is_err() && read.get_bytes(12, 2).is_err());
        assert!(read.get_bytes(15, 1).is_err());
        assert_eq!(read.len(), 23);
    }
}
