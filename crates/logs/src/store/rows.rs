//! The rows of one push, normalised and in columns: what the ingest log keeps and the head takes.
//!
//! Building them allocates per stream and per metadata name, never per entry.

use std::ops::Range;
use std::sync::Arc;

use model::Labels;

use crate::store::origins::{Origins, Piece, RowOrigins};

/// Rows of one request, stream by stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The streams; a stream may occur twice.
    pub streams: Vec<StreamRows>,
    /// Where the rows come from; empty when nobody said so, and for rows that are read back.
    pub origins: Origins,
}

/// Entries of one stream in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRows {
    /// The stream's labels, never empty.
    pub labels: Labels,
    /// Nanoseconds since the epoch.
    pub timestamps: Vec<i64>,
    /// All lines, one after the other.
    pub lines: String,
    /// Where each line ends in `lines`.
    pub line_ends: Vec<u32>,
    /// Structured metadata, a column per name.
    pub columns: Vec<Column>,
    /// Where each row comes from.
    pub origins: RowOrigins,
    /// The column that is likely to be asked for next.
    hint: usize,
}

/// The values of one metadata name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: Arc<str>,
    /// The rows that have a value, ascending.
    pub rows: Vec<u32>,
    /// Where in `text` the value of each of `rows` stands; equal neighbours share a place.
    values: Vec<(u32, u32)>,
    text: String,
}

impl Rows {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.streams.iter().map(|s| s.timestamps.len()).sum()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl StreamRows {
    /// No rows yet.
    pub fn new(labels: Labels) -> Self {
        Self {
            labels,
            timestamps: Vec::new(),
            lines: String::new(),
            line_ends: Vec::new(),
            columns: Vec::new(),
            origins: RowOrigins::default(),
            hint: 0,
        }
    }

    /// Makes room.
    pub fn reserve(&mut self, entries: usize, line_bytes: usize) {
        self.timestamps.reserve(entries);
        self.line_ends.reserve(entries);
        self.lines.reserve(line_bytes);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Whether another line of this length still fits the 32-bit offsets.
    pub fn has_room(&self, line: usize) -> bool {
        self.lines.len() + line <= i32::MAX as usize
    }

    /// Adds an entry. The caller has asked [`has_room`](Self::has_room).
    pub fn push(&mut self, timestamp: i64, line: &str) {
        self.timestamps.push(timestamp);
        self.lines.push_str(line);
        self.line_ends.push(self.lines.len() as u32);
        self.hint = 0;
    }

    /// Sets metadata of the entry pushed last; of values given twice the last wins.
    pub fn set_metadata(&mut self, name: &str, value: &str) {
        let row = self.timestamps.len() as u32 - 1;
        let at = match self.columns.get(self.hint) {
            Some(column) if *column.name == *name => self.hint,
            _ => self.columns.iter().position(|c| *c.name == *name).unwrap_or_else(|| {
                self.columns.push(Column::new(name.into()));
                self.columns.len() - 1
            }),
        };
        self.hint = at + 1;
        self.columns[at].set(row, value);
    }

    /// Says where the entry pushed last comes from.
    pub fn set_origin(&mut self, pieces: impl IntoIterator<Item = Piece>) {
        self.origins.set(self.timestamps.len() - 1, pieces);
    }

    /// Takes the rows out for which `keep` says no; it has an answer for each.
    pub fn retain(&mut self, keep: &[bool]) {
        let mut kept = Self::new(self.labels.clone());
        // The new number of each row that stays.
        let mut places = Vec::with_capacity(self.len());
        for (row, stays) in keep.iter().enumerate() {
            places.push(kept.len() as u32);
            if *stays {
                kept.push(self.timestamps[row], self.line(row));
                if !self.origins.of(row).is_empty() {
                    kept.set_origin(self.origins.of(row).iter().copied());
                }
            }
        }
        for column in &self.columns {
            let mut left = Column::new(column.name.clone());
            for (row, value) in column.iter().filter(|(row, _)| keep[*row as usize]) {
                left.set(places[row as usize], value);
            }
            if !left.rows.is_empty() {
                kept.columns.push(left);
            }
        }
        *self = kept;
    }

    /// The line of a row.
    pub fn line(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.line_ends[row - 1] as usize };
        &self.lines[start..self.line_ends[row] as usize]
    }
}

impl Column {
    /// A column without values.
    pub fn new(name: Arc<str>) -> Self {
        Self { name, rows: Vec::new(), values: Vec::new(), text: String::new() }
    }

    /// Sets the value of a row not before the last one set.
    pub(crate) fn set(&mut self, row: u32, value: &str) {
        if self.rows.last() == Some(&row) {
            self.rows.pop();
            self.values.pop();
        }
        let place = match self.values.last() {
            Some(&(start, end)) if &self.text[start as usize..end as usize] == value => (start, end),
            _ => {
                let start = self.text.len() as u32;
                self.text.push_str(value);
                (start, self.text.len() as u32)
            }
        };
        self.rows.push(row);
        self.values.push(place);
    }

    /// Row and value of each row that has one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &str)> {
        self.rows
            .iter()
            .zip(&self.values)
            .map(|(row, &(start, end))| (*row, &self.text[start as usize..end as usize]))
    }

    /// Place of each value; equal places are equal values.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Range<usize>, &str)> {
        self.values.iter().map(|&(start, end)| {
            let range = start as usize..end as usize;
            (range.clone(), &self.text[range])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_kept_per_row_and_the_last_value_wins() {
        let mut rows = StreamRows::new(Labels::from_pairs([("a", "b")]));
        rows.push(1, "x");
        rows.set_metadata("k", "v");
        rows.set_metadata("l", "w");
        rows.push(2, "yy");
        rows.push(3, "");
        rows.set_metadata("l", "first");
        rows.set_metadata("l", "w");
        assert_eq!((rows.line(0), rows.line(1), rows.line(2)), ("x", "yy", ""));
        fn columns(rows: &StreamRows) -> Vec<(&str, Vec<(u32, &str)>)> {
            rows.columns.iter().map(|c| (&*c.name, c.iter().collect())).collect()
        }
        assert_eq!(columns(&rows), [("k", vec![(0, "v")]), ("l", vec![(0, "w"), (2, "w")])]);

        let piece = Piece { source: 0, start: 1, end: 2 };
        rows.set_origin([piece]);
        rows.retain(&[false, true, true]);
        assert_eq!((rows.len(), rows.line(0), rows.line(1)), (2, "yy", ""));
        assert_eq!(rows.timestamps, [2, 3]);
        assert_eq!(columns(&rows), [("l", vec![(1, "w")])]);
        assert_eq!((rows.origins.of(0), rows.origins.of(1)), (&[][..], &[piece][..]));
    }
}
