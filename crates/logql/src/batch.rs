//! Log entries in columns: what sources feed to a query.

use std::sync::Arc;

use arrow_array::{Int64Array, MapArray, StringArray};
use model::Labels;
use shred::Lines;

/// Entries of one stream, ascending in time.
///
/// All columns have the same length. A stream's entries may be spread over batches and parts in any order, but no entry comes twice;
/// a log query is done sooner if its direction's first entries come first.
#[derive(Debug, Clone)]
pub struct EntryBatch {
    /// The stream's labels.
    pub labels: Labels,
    /// Nanoseconds since the epoch, ascending, no nulls.
    pub timestamps: Int64Array,
    /// The lines. Absent only when [`Needs::lines`](crate::Needs) is false.
    pub lines: Lines,
    /// Structured metadata of the entries.
    pub metadata: Metadata,
}

/// Structured metadata: columns for frequent names and a map for the rest.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Name and values; null where an entry lacks the name. No name twice.
    pub columns: Vec<(Arc<str>, StringArray)>,
    /// Further names per entry (`Map<Utf8, Utf8>`), none of which is a column's.
    pub rest: Option<MapArray>,
}

impl Metadata {
    /// No metadata.
    pub fn empty() -> Self {
        Self::default()
    }
}

impl EntryBatch {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
