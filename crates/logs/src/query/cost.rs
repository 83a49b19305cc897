//! What a read of a block costs, by the footer of its file: known before anything is read.

use block::RowRanges;

use crate::query::plan::Block;

/// What it takes to read some rows of some columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Bytes fetched.
    pub(crate) compressed: u64,
    /// Pages fetched.
    pub(crate) pages: u64,
    /// Bytes of memory, about.
    pub(crate) memory: u64,
}

/// Memory per row and column beside the values: offsets, validity, numbers of dictionary entries.
const CELL: u64 = 6;

impl Cost {
    /// Of top-level columns of a block.
    pub(crate) fn new(block: &Block, columns: &[String], rows: &RowRanges) -> Self {
        let parquet = block.parquet();
        let mut cost = Self::default();
        for (number, group) in block.row_groups().into_iter().enumerate() {
            let wanted = rows.within(group.clone());
            if wanted.is_empty() {
                continue;
            }
            let ranges: Vec<_> = wanted.iter().collect();
            let index = parquet.page_index_for_row_group(number);
            for (leaf, chunk) in parquet.row_group(number).columns().iter().enumerate() {
                let root = chunk.column_path().parts().first();
                if !root.is_some_and(|root| columns.contains(root)) {
                    continue;
                }
                let (compressed, plain) =
                    (positive(chunk.compressed_size()), positive(chunk.uncompressed_size()));
                let mut fetched = 0;
                match index.offset_index(leaf) {
                    None => (fetched, cost.pages) = (compressed, cost.pages + 1),
                    Some(offsets) => {
                        let pages = offsets.page_locations();
                        let mut next = 0;
                        for (at, page) in pages.iter().enumerate() {
                            let first = group.start + positive(page.first_row_index);
                            let end = pages
                                .get(at + 1)
                                .map_or(group.end, |p| group.start + positive(p.first_row_index));
                            while ranges.get(next).is_some_and(|range| range.end <= first) {
                                next += 1;
                            }
                            if ranges.get(next).is_none_or(|range| range.start >= end) {
                                continue;
                            }
                            fetched += positive(page.compressed_page_size.into());
                            cost.pages += 1;
                        }
                        // The dictionary stands before the first page.
                        if let Some(first) = pages.first() {
                            fetched +=
                                chunk.dictionary_page_offset().map_or(0, |at| positive(first.offset - at));
                        }
                    }
                }
                cost.compressed += fetched;
                cost.memory += 2 * scale(plain, fetched, compressed) + CELL * wanted.rows();
            }
        }
        cost
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.compressed += other.compressed;
        self.pages += other.pages;
        self.memory += other.memory;
    }
}

fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn scale(amount: u64, part: u64, whole: u64) -> u64 {
    (u128::from(amount) * u128::from(part) / u128::from(whole.max(1))) as u64
}
