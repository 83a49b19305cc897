//! Which columns of a block hold anything in which rows, by the null pages of the footer's page index.
//!
//! Rows are sorted by what they are (a stream, a trace), so a column of something rare is null over long stretches. Reading nulls
//! costs as much as reading values: a page, a decoder, an array. A read is therefore cut into segments, each with the columns that
//! have values in it; a segment begins where a column begins to have some, so that no column begins with a null page (a dictionary
//! column that did would be decoded value by value).

use arrow_schema::Schema;
use parquet::file::metadata::ParquetMetaData;

use crate::{RowRanges, pages};

/// Rows that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// By the place of the column in the request: whether it is read; else it is null in all rows.
    pub(crate) read: Vec<bool>,
    /// The rows.
    pub(crate) rows: RowRanges,
}

/// By top-level column: the rows of its null pages, if it is flat and nullable; none if there is no page index.
pub(crate) fn null_rows(parquet: &ParquetMetaData, schema: &Schema) -> Vec<RowRanges> {
    let descriptor = parquet.file_metadata().schema_descr();
    let mut found = vec![Vec::new(); schema.fields().len()];
    let flat = descriptor.columns().iter().enumerate().filter(|(_, column)| column.path().parts().len() == 1);
    let flat = flat.map(|(leaf, _)| (leaf, descriptor.get_column_root_idx(leaf)));
    let nullable = |root: usize| schema.fields().get(root).is_some_and(|field| field.is_nullable());
    let leaves: Vec<(usize, usize)> = flat.filter(|(_, root)| nullable(*root)).collect();
    for (number, group) in pages::row_groups(parquet).into_iter().enumerate() {
        let index = parquet.page_index_for_row_group(number);
        for &(leaf, root) in &leaves {
            let (Some(values), Some(offsets)) = (index.column_index(leaf), index.offset_index(leaf)) else {
                continue;
            };
            let pages = pages::page_rows(offsets, &group).enumerate();
            found[root].extend(pages.filter(|(page, _)| values.is_null_page(*page)).map(|(_, rows)| rows));
        }
    }
    found.into_iter().map(RowRanges::from_iter).collect()
}

/// Cuts rows into segments; `nulls` are the rows in which each column of the request is known to be null.
pub(crate) fn segments(nulls: &[&RowRanges], rows: &RowRanges) -> Vec<Segment> {
    let mut cuts: Vec<u64> =
        nulls.iter().flat_map(|nulls| nulls.iter()).flat_map(|r| [r.start, r.end]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut segments: Vec<Segment> = Vec::new();
    for range in rows.iter() {
        let first = cuts.partition_point(|cut| *cut <= range.start);
        let inner = cuts[first..].iter().copied().take_while(|cut| *cut < range.end);
        let mut start = range.start;
        for end in inner.chain([range.end]) {
            let read: Vec<bool> = nulls.iter().map(|nulls| !nulls.contains(start)).collect();
            let goes_on = |held: &Segment| read.iter().zip(&held.read).all(|(reads, held)| *held || !reads);
            if !segments.last().is_some_and(goes_on) {
                segments.push(Segment { read, rows: RowRanges::none() });
            }
            if let Some(segment) = segments.last_mut() {
                segment.rows.push(start..end);
            }
            start = end;
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rows as pairs of first and end.
    type Rows<'a> = &'a [(u64, u64)];

    fn ranges(rows: Rows<'_>) -> RowRanges {
        rows.iter().map(|(start, end)| *start..*end).collect()
    }

    #[test]
    fn a_segment_begins_where_a_column_begins() {
        // Always there; in the first half; in the second.
        let nulls = [RowRanges::none(), ranges(&[(8, 16)]), ranges(&[(0, 8), (12, 16)])];
        let check = |rows: Rows<'_>, expect: &[([bool; 3], Rows<'_>)]| {
            let segments = segments(&nulls.each_ref(), &ranges(rows));
            let found: Vec<_> = segments.iter().map(|s| (s.read.as_slice(), &s.rows)).collect();
            let expect: Vec<_> = expect.iter().map(|(read, rows)| (*read, ranges(rows))).collect();
            assert_eq!(found, expect.iter().map(|(r, rows)| (&r[..], rows)).collect::<Vec<_>>(), "{rows:?}");
        };
        check(&[(0, 16)], &[([true, true, false], &[(0, 8)]), ([true, false, true], &[(8, 16)])]);
        check(&[(2, 4), (6, 7)], &[([true, true, false], &[(2, 4), (6, 7)])]);
        check(&[(14, 16)], &[([true, false, false], &[(14, 16)])]);
        check(&[], &[]);
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_segment_that_reads_its_columns(
            nulls in prop::collection::vec(prop::collection::vec((0u64..60, 0u64..9), 0..5), 1..5),
            rows in prop::collection::vec((0u64..60, 0u64..9), 0..6),
        ) {
            let make = |v: &[(u64, u64)]| ranges(&v.iter().map(|&(s, n)| (s, s + n)).collect::<Vec<_>>());
            let (nulls, rows): (Vec<_>, _) = (nulls.iter().map(|n| make(n)).collect(), make(&rows));
            let segments = segments(&nulls.iter().collect::<Vec<_>>(), &rows);
            let joined: Vec<u64> = segments.iter().flat_map(|s| s.rows.iter().flatten()).collect();
            prop_assert_eq!(joined, rows.iter().flatten().collect::<Vec<_>>());
            for segment in &segments {
                for (column, nulls) in nulls.iter().enumerate() {
                    let null = segment.rows.iter().flatten().all(|row| nulls.contains(row));
                    prop_assert_eq!(segment.read[column], !null);
                }
            }
        }
    }
}
