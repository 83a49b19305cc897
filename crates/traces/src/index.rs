//! The index object of a block: what a query learns of a block before it reads a page.
//!
//! ```text
//! "TLTI" version:u8   then sections:  tag:u8 length:u64le bytes
//!   1  keys     zstd of JSON: attribute names, types, counts, small value sets; the columns
//!   2  traces   count:u64le, then per trace in row order a 32-bit fingerprint of its id, then per
//!               trace its number of rows as a varint
//! ```
//! Sections of other tags are skipped: there is room for more. A trace is found by scanning the
//! fingerprints (4 bytes per trace): exact rows, no page read for a trace that is elsewhere.

use std::ops::Range;

use bytes::Bytes;
use hashbrown::HashMap;
use model::TraceId;
use serde::{Deserialize, Serialize};

use crate::keys::{Keys, Scope, Type};

const MAGIC: &[u8; 5] = b"TLTI\x01";
const KEYS: u8 = 1;
const TRACES: u8 = 2;
/// No keys section is larger than this when unpacked.
const MAX_KEYS: usize = 64 << 20;

/// A span attribute that has a column of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttributeColumn {
    /// The attribute's name.
    pub name: String,
    /// Its type; the same name may have columns of several types.
    #[serde(rename = "type")]
    pub of: Type,
    /// Name of the column in the Parquet file.
    pub column: String,
}

/// A decoded index.
#[derive(Debug)]
pub(crate) struct Index {
    /// The attributes of the block.
    pub keys: Keys,
    /// In the order of the file, and by name.
    columns: Vec<AttributeColumn>,
    by_name: HashMap<String, Vec<AttributeColumn>>,
    fingerprints: Vec<u32>,
    /// First row of each trace, and the number of rows at the end.
    offsets: Vec<u32>,
}

/// Why bytes are not an index.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// Another format, or a newer version.
    #[error("not a trace index of version 1")]
    Version,
    /// A section ends early or does not fit.
    #[error("the trace index is damaged: {0}")]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct KeysSection {
    columns: Vec<AttributeColumn>,
    keys: Keys,
}

/// The fingerprint of a trace id.
pub(crate) fn fingerprint(id: &TraceId) -> u32 {
    xxhash_rust::xxh3::xxh3_64(&id.0) as u32
}

/// Writes an index; `traces` are ids with their number of rows, in row order.
pub(crate) fn encode(
    keys: Keys,
    columns: Vec<AttributeColumn>,
    traces: &[(TraceId, u32)],
) -> Result<Bytes, IndexError> {
    let damaged = |e: &dyn std::fmt::Display| IndexError::Damaged(e.to_string());
    let json = serde_json::to_vec(&KeysSection { columns, keys }).map_err(|e| damaged(&e))?;
    let json = zstd::bulk::compress(&json, 3).map_err(|e| damaged(&e))?;
    let mut body = Vec::with_capacity(8 + traces.len() * 6);
    body.extend_from_slice(&(traces.len() as u64).to_le_bytes());
    for (id, _) in traces {
        body.extend_from_slice(&fingerprint(id).to_le_bytes());
    }
    for (_, rows) in traces {
        let mut rows = *rows;
        while rows >= 0x80 {
            body.push(rows as u8 | 0x80);
            rows >>= 7;
        }
        body.push(rows as u8);
    }
    let mut out = MAGIC.to_vec();
    for (tag, section) in [(KEYS, json), (TRACES, body)] {
        out.push(tag);
        out.extend_from_slice(&(section.len() as u64).to_le_bytes());
        out.extend_from_slice(&section);
    }
    Ok(out.into())
}

impl Index {
    /// Reads an index object.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let cut = || IndexError::Damaged("it ends early".to_owned());
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(IndexError::Version)?;
        let (mut keys, mut traces) = (None, None);
        while let Some((tag, tail)) = rest.split_first() {
            let (length, tail) = tail.split_first_chunk().ok_or_else(cut)?;
            let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| cut())?;
            let (section, tail) = tail.split_at_checked(length).ok_or_else(cut)?;
            match *tag {
                KEYS => keys = Some(section),
                TRACES => traces = Some(section),
                _ => {}
            }
            rest = tail;
        }
        let json = zstd::bulk::decompress(keys.ok_or_else(cut)?, MAX_KEYS)
            .map_err(|e| IndexError::Damaged(e.to_string()))?;
        let keys: KeysSection =
            serde_json::from_slice(&json).map_err(|e| IndexError::Damaged(e.to_string()))?;

        let (count, body) = traces.ok_or_else(cut)?.split_first_chunk().ok_or_else(cut)?;
        let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| cut())?;
        let (prints, mut body) =
            body.split_at_checked(count.checked_mul(4).ok_or_else(cut)?).ok_or_else(cut)?;
        let fingerprints = prints.as_chunks().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
        let mut offsets = Vec::with_capacity(count + 1);
        let mut row = 0u32;
        offsets.push(row);
        for _ in 0..count {
            let (mut rows, mut shift) = (0u32, 0);
            loop {
                let (byte, tail) = body.split_first().ok_or_else(cut)?;
                body = tail;
                rows |= u32::from(byte & 0x7f).checked_shl(shift).ok_or_else(cut)?;
                shift += 7;
                if *byte < 0x80 {
                    break;
                }
            }
            row = row.checked_add(rows).ok_or_else(cut)?;
            offsets.push(row);
        }
        let mut by_name: HashMap<String, Vec<AttributeColumn>> = HashMap::new();
        for column in &keys.columns {
            by_name.entry_ref(column.name.as_str()).or_default().push(column.clone());
        }
        Ok(Self { keys: keys.keys, columns: keys.columns, by_name, fingerprints, offsets })
    }

    /// The number of traces.
    pub(crate) fn traces(&self) -> usize {
        self.fingerprints.len()
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> u32 {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// Fingerprints of all traces, in row order.
    pub(crate) fn fingerprints(&self) -> &[u32] {
        &self.fingerprints
    }

    /// The rows of the n-th trace.
    pub(crate) fn trace_rows(&self, trace: usize) -> Range<u32> {
        self.offsets[trace]..self.offsets[trace + 1]
    }

    /// Where a trace may be: at most one range in practice, more if fingerprints collide.
    pub(crate) fn find(&self, print: u32) -> impl Iterator<Item = usize> {
        self.fingerprints.iter().enumerate().filter(move |(_, p)| **p == print).map(|(i, _)| i)
    }

    /// The columns of a span attribute.
    pub(crate) fn columns(&self, name: &str) -> &[AttributeColumn] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// All columns of span attributes, in the order of the file.
    pub(crate) fn all_columns(&self) -> &[AttributeColumn] {
        &self.columns
    }

    /// Whether some values of a span attribute are in the list column, not in columns of its own.
    pub(crate) fn is_in_rest(&self, name: &str) -> bool {
        let columns = self.columns(name);
        let usages = self.keys.get(Scope::Span, name);
        usages.iter().any(|u| !columns.iter().any(|c| c.of == u.of)) || self.keys.is_repeated(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Scalar;

    #[test]
    fn round_trip() {
        let mut keys = Keys::default();
        keys.add(Scope::Span, "http.method", Scalar::Str("GET"), 3);
        keys.add(Scope::Span, "rare", Scalar::Int(1), 1);
        let column =
            AttributeColumn { name: "http.method".into(), of: Type::Str, column: "span.http.method".into() };
        let traces: Vec<_> =
            (0..1000u32).map(|i| (TraceId(u128::from(i).to_be_bytes()), i % 200 + 1)).collect();
        let bytes = encode(keys.clone(), vec![column.clone()], &traces).unwrap();
        let index = Index::decode(&bytes).unwrap();
        assert_eq!(index.keys, keys);
        assert_eq!((index.traces(), index.rows()), (1000, traces.iter().map(|t| t.1).sum()));
        let mut row = 0;
        for (i, (id, rows)) in traces.iter().enumerate() {
            assert!(index.find(fingerprint(id)).any(|t| t == i));
            assert_eq!(index.trace_rows(i), row..row + rows);
            row += rows;
        }
        assert_eq!(index.columns("http.method"), [column]);
        assert!(index.is_in_rest("rare") && !index.is_in_rest("http.method"));
        for cut in 0..bytes.len() {
            assert!(Index::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
