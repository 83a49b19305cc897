//! Spans of many requests in the order of blocks: by trace id, then start; one row per span.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::index::fingerprint;
use crate::record::{Record, Row};

/// Rows of records, ordered and without copies.
#[derive(Debug)]
pub(crate) struct Sorted {
    records: Vec<Arc<Record>>,
    rows: Vec<(u32, Row)>,
    /// First row of each trace, and the number of rows at the end.
    offsets: Vec<u32>,
    fingerprints: Vec<u32>,
    offered: usize,
}

impl Sorted {
    /// Orders the rows of all records. Of spans with equal id and kind in one trace the first to come stays.
    pub(crate) fn new(records: Vec<Arc<Record>>) -> Self {
        let offered = records.iter().map(|r| r.rows.len()).sum();
        let mut rows: Vec<(u32, Row)> = Vec::with_capacity(offered);
        for (i, record) in records.iter().enumerate() {
            rows.extend(record.rows.iter().map(|row| (i as u32, *row)));
        }
        // Stable, so that the first copy stays.
        rows.sort_by_key(|(_, row)| (u128::from_be_bytes(row.trace.0), row.start));
        let mut seen = HashSet::new();
        let mut trace = None;
        rows.retain(|(_, row)| {
            if trace.replace(row.trace) != Some(row.trace) {
                seen.clear();
            }
            seen.insert((row.span, row.kind))
        });
        let (mut offsets, mut fingerprints) = (Vec::new(), Vec::new());
        for (i, (_, row)) in rows.iter().enumerate() {
            if i == 0 || rows[i - 1].1.trace != row.trace {
                offsets.push(i as u32);
                fingerprints.push(fingerprint(&row.trace));
            }
        }
        offsets.push(rows.len() as u32);
        Self { records, rows, offsets, fingerprints, offered }
    }

    /// How many rows came in, copies counted.
    pub(crate) fn offered(&self) -> usize {
        self.offered
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of traces.
    pub(crate) fn traces(&self) -> usize {
        self.fingerprints.len()
    }

    /// Fingerprints of the traces, in order.
    pub(crate) fn fingerprints(&self) -> &[u32] {
        &self.fingerprints
    }

    /// The rows of the n-th trace.
    pub(crate) fn trace_rows(&self, trace: usize) -> Range<usize> {
        self.offsets[trace] as usize..self.offsets[trace + 1] as usize
    }

    /// The records that the rows are in.
    pub(crate) fn records(&self) -> &[Arc<Record>] {
        &self.records
    }

    /// A row with the record that holds it.
    pub(crate) fn row(&self, at: usize) -> (&Record, &Row) {
        let (record, row) = &self.rows[at];
        (&self.records[*record as usize], row)
    }

    /// A number that is the same for rows of the same resource and scope.
    pub(crate) fn context(&self, at: usize) -> (u32, u32) {
        let (record, row) = &self.rows[at];
        (*record, row.context)
    }
}
