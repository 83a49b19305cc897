//! Which pages of a column can hold a value, by the page index of the footer.

use std::ops::Range;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;

use crate::RowRanges;

/// The values asked for, both ends inclusive.
#[derive(Debug)]
pub(crate) enum Bounds<'a> {
    Integers(i64, i64),
    Bytes(&'a [u8], &'a [u8]),
}

/// The rows of each row group.
pub(crate) fn row_groups(parquet: &ParquetMetaData) -> Vec<Range<u64>> {
    let mut start = 0;
    let mut groups = Vec::with_capacity(parquet.num_row_groups());
    for group in parquet.row_groups() {
        let end = start + u64::try_from(group.num_rows()).unwrap_or(0);
        groups.push(start..end);
        start = end;
    }
    groups
}

/// The rows of each page of a column in a row group.
pub(crate) fn page_rows(
    offsets: &OffsetIndexMetaData,
    group: &Range<u64>,
) -> impl Iterator<Item = Range<u64>> + use<> {
    let pages = offsets.page_locations().iter();
    let firsts: Vec<u64> =
        pages.map(|page| group.start + u64::try_from(page.first_row_index).unwrap_or(0)).collect();
    let ends: Vec<u64> = firsts.iter().skip(1).copied().chain([group.end]).collect();
    firsts.into_iter().zip(ends).map(|(first, end)| first..end)
}

/// The rows of the pages of a top-level, flat column that can hold a value within the bounds.
pub(crate) fn prune(parquet: &ParquetMetaData, column: &str, bounds: &Bounds<'_>) -> RowRanges {
    let schema = parquet.file_metadata().schema_descr();
    let Some(leaf) = schema.columns().iter().position(|c| c.path().parts() == [column]) else {
        return RowRanges::none();
    };
    let mut rows = Vec::new();
    for (number, group) in row_groups(parquet).into_iter().enumerate() {
        let index = parquet.page_index_for_row_group(number);
        let (Some(values), Some(offsets)) = (index.column_index(leaf), index.offset_index(leaf)) else {
            rows.push(group);
            continue;
        };
        let pages = page_rows(offsets, &group);
        rows.extend(
            pages.enumerate().filter(|(page, _)| may_hold(values, *page, bounds)).map(|(_, rows)| rows),
        );
    }
    rows.into_iter().collect()
}

fn may_hold(index: &ColumnIndexMetaData, page: usize, bounds: &Bounds<'_>) -> bool {
    if index.is_null_page(page) {
        return false;
    }
    match (index, bounds) {
        (ColumnIndexMetaData::INT64(values), Bounds::Integers(min, max)) => {
            overlaps(values.min_value(page), values.max_value(page), min, max)
        }
        (ColumnIndexMetaData::INT32(values), Bounds::Integers(min, max)) => {
            let (low, high) =
                (values.min_value(page).map(|v| (*v).into()), values.max_value(page).map(|v| (*v).into()));
            overlaps(low.as_ref(), high.as_ref(), min, max)
        }
        // Truncated bounds of long values are still bounds.
        (
            ColumnIndexMetaData::BYTE_ARRAY(values) | ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(values),
            Bounds::Bytes(min, max),
        ) => overlaps(values.min_value(page), values.max_value(page), min, max),
        _ => true,
    }
}

fn overlaps<T: Ord + ?Sized>(low: Option<&T>, high: Option<&T>, min: &T, max: &T) -> bool {
    low.is_none_or(|low| low <= max) && high.is_none_or(|high| high >= min)
}
