//! Entries of one stream as Arrow arrays: the form in which heads hold them, blocks give them and queries take them.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{Array, Int64Array, MapArray, StringArray, new_null_array};
use arrow_schema::DataType;
use logql::{EntryBatch, Metadata};
use model::Labels;
use shred::Lines;

/// Entries without their labels.
#[derive(Debug, Clone)]
pub struct Entries {
    /// Nanoseconds since the epoch.
    pub timestamps: Int64Array,
    /// The lines: texts in heads, taken apart in blocks.
    pub lines: Lines,
    /// Structured metadata.
    pub metadata: Metadata,
}

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// First time; of ascending entries, of which there is at least one.
    pub fn first(&self) -> i64 {
        self.timestamps.values().first().copied().unwrap_or_default()
    }

    /// Last time; of ascending entries, of which there is at least one.
    pub fn last(&self) -> i64 {
        self.timestamps.values().last().copied().unwrap_or_default()
    }

    /// A part of the rows; nothing is copied.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let length = rows.len();
        let lines = self.lines.slice(rows.start, length);
        let columns = self.metadata.columns.iter();
        let metadata = Metadata {
            columns: columns.map(|(name, values)| (name.clone(), values.slice(rows.start, length))).collect(),
            rest: self.metadata.rest.as_ref().map(|rest| rest.slice(rows.start, length)),
        };
        Self { timestamps: self.timestamps.slice(rows.start, length), lines, metadata }
    }

    /// The rows of ascending entries that lie in `first..=last`.
    pub fn within(&self, first: i64, last: i64) -> Self {
        let times = self.timestamps.values();
        let start = times.partition_point(|t| *t < first);
        let end = times.partition_point(|t| *t <= last);
        if start == 0 && end == times.len() { self.clone() } else { self.slice(start..end.max(start)) }
    }

    /// As a query takes them.
    pub fn into_batch(self, labels: Labels) -> EntryBatch {
        EntryBatch { labels, timestamps: self.timestamps, lines: self.lines, metadata: self.metadata }
    }

    /// Bytes of the lines, as far as they were read.
    pub fn line_bytes(&self) -> usize {
        match &self.lines {
            Lines::Absent => 0,
            Lines::Text(lines) => text_bytes(lines),
            Lines::Shredded(lines) => (0..lines.len()).map(|row| lines.line_len(row)).sum(),
        }
    }

    /// Bytes of metadata names and values.
    pub fn metadata_bytes(&self) -> usize {
        let columns = self.metadata.columns.iter();
        let columns: usize = columns
            .map(|(name, values)| text_bytes(values) + name.len() * (values.len() - values.null_count()))
            .sum();
        let rest = self.metadata.rest.as_ref().map_or(0, |rest| {
            let start = rest.value_offsets().first().map_or(0, |o| *o as usize);
            let end = rest.value_offsets().last().map_or(0, |o| *o as usize);
            let of = |texts: Option<&StringArray>| {
                texts.map_or(0, |t| (t.value_offsets()[end] - t.value_offsets()[start]) as usize)
            };
            of(as_strings(rest.keys().as_ref())) + of(as_strings(rest.values().as_ref()))
        });
        columns + rest
    }
}

fn text_bytes(texts: &StringArray) -> usize {
    let offsets = texts.value_offsets();
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (last - first) as usize,
        _ => 0,
    }
}

pub(crate) fn as_strings(array: &dyn Array) -> Option<&StringArray> {
    array.as_any().downcast_ref()
}

/// Names and values in one row of the map of rare names.
pub(crate) fn rest_pairs(rest: &MapArray, row: usize) -> impl Iterator<Item = (&str, &str)> {
    let range = match rest.is_null(row) {
        true => 0..0,
        false => rest.value_offsets()[row] as usize..rest.value_offsets()[row + 1] as usize,
    };
    let (keys, values) = (as_strings(rest.keys().as_ref()), as_strings(rest.values().as_ref()));
    range.filter_map(move |i| Some((keys?.value(i), values?.value(i))))
}

/// Names of the map's parts, as Parquet's specification has them.
pub(crate) fn map_fields() -> MapFieldNames {
    MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() }
}

pub(crate) fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    MapBuilder::new(Some(map_fields()), StringBuilder::new(), StringBuilder::new())
}

/// Rearranges metadata of `rows` rows so that its columns are exactly `names`, in that order, and all else is in the map.
pub(crate) fn relayout(metadata: &Metadata, rows: usize, names: &[Arc<str>]) -> Metadata {
    let column = |name: &str| metadata.columns.iter().find(|(n, _)| **n == *name).map(|(_, values)| values);
    let strays: Vec<&(Arc<str>, StringArray)> =
        metadata.columns.iter().filter(|(name, _)| !names.contains(name)).collect();
    let in_rest = |name: &str| {
        let rest = metadata.rest.as_ref();
        rest.and_then(|rest| as_strings(rest.keys().as_ref()))
            .is_some_and(|keys| keys.iter().flatten().any(|k| k == name))
    };
    let mixed: Vec<bool> = names.iter().map(|name| in_rest(name)).collect();
    let columns = names.iter().zip(&mixed).map(|(name, mixed)| {
        let values = match (column(name), mixed) {
            (Some(values), false) => values.clone(),
            (None, false) => null_strings(rows),
            (values, true) => (0..rows)
                .map(|row| {
                    let own = values.filter(|v| v.is_valid(row)).map(|v| v.value(row));
                    let rest = metadata.rest.as_ref();
                    own.or_else(|| {
                        rest.and_then(|r| rest_pairs(r, row).find(|(n, _)| *n == &**name)).map(|(_, v)| v)
                    })
                })
                .collect(),
        };
        (name.clone(), values)
    });
    let columns = columns.collect();
    let rest = if strays.is_empty() && !mixed.contains(&true) {
        metadata.rest.clone()
    } else {
        rest_of(metadata, rows, names, &strays)
    };
    Metadata { columns, rest }
}

fn rest_of(
    metadata: &Metadata,
    rows: usize,
    names: &[Arc<str>],
    strays: &[&(Arc<str>, StringArray)],
) -> Option<MapArray> {
    let mut map = map_builder();
    let mut any = false;
    for row in 0..rows {
        let old = metadata.rest.iter().flat_map(|rest| rest_pairs(rest, row));
        let old = old.filter(|(name, _)| !names.iter().any(|n| **n == **name));
        let stray = strays.iter().filter(|(_, v)| v.is_valid(row)).map(|(name, v)| (&**name, v.value(row)));
        for (name, value) in old.chain(stray) {
            map.keys().append_value(name);
            map.values().append_value(value);
            any = true;
        }
        // Keys and values were appended in pairs, which is all that `append` checks.
        map.append(true).ok()?;
    }
    any.then(|| map.finish())
}

/// A column of nulls.
pub(crate) fn null_strings(rows: usize) -> StringArray {
    StringArray::from(new_null_array(&DataType::Utf8, rows).to_data())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Time, line and metadata of an entry.
    pub(crate) type Row<'a> = (i64, &'a str, &'a [(&'a str, &'a str)]);
    /// The same on its own.
    pub(crate) type OwnedRow = (i64, String, Vec<(String, String)>);

    /// Entries, all names as columns.
    pub(crate) fn entries(rows: &[Row<'_>]) -> Entries {
        let mut names: Vec<Arc<str>> =
            rows.iter().flat_map(|r| r.2.iter().map(|(n, _)| Arc::from(*n))).collect();
        names.sort();
        names.dedup();
        let value =
            |row: &Row<'_>, name: &str| row.2.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let columns = names.iter().map(|n| (n.clone(), rows.iter().map(|r| value(r, n)).collect())).collect();
        Entries {
            timestamps: rows.iter().map(|r| r.0).collect::<Vec<_>>().into(),
            lines: Lines::Text(rows.iter().map(|r| Some(r.1)).collect()),
            metadata: Metadata { columns, rest: None },
        }
    }

    /// Time, line and sorted metadata of each entry.
    pub(crate) fn plain(entries: &Entries) -> Vec<OwnedRow> {
        let lines = entries.lines.to_text().unwrap();
        (0..entries.len())
            .map(|row| {
                let columns = entries.metadata.columns.iter();
                let mut pairs: Vec<(String, String)> = columns
                    .filter(|(_, v)| v.is_valid(row))
                    .map(|(n, v)| (n.to_string(), v.value(row).to_owned()))
                    .chain(entries.metadata.rest.iter().flat_map(|rest| {
                        rest_pairs(rest, row).map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>()
                    }))
                    .collect();
                pairs.sort();
                (entries.timestamps.value(row), lines.value(row).to_owned(), pairs)
            })
            .collect()
    }

    #[test]
    fn metadata_moves_between_columns_and_map() {
        let given = entries(&[(1, "x", &[("a", "1"), ("b", "2")]), (2, "y", &[("b", "3")]), (3, "z", &[])]);
        let all = plain(&given);
        for names in [&["b"][..], &["c", "a"], &[], &["b", "a"]] {
            let names: Vec<Arc<str>> = names.iter().map(|n| Arc::from(*n)).collect();
            let moved = relayout(&given.metadata, 3, &names);
            assert_eq!(moved.columns.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>(), names);
            let moved = Entries { metadata: moved, ..given.clone() };
            assert_eq!(plain(&moved), all, "{names:?}");
            // And back, out of the map.
            let back = relayout(&moved.metadata, 3, &["a".into(), "b".into()]);
            assert!(back.rest.is_none());
            assert_eq!(plain(&Entries { metadata: back, ..given.clone() }), all, "{names:?}");
        }
    }
}
