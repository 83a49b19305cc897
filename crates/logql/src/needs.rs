//! What a query needs of its entries, so that sources need not read the rest.

use std::sync::Arc;

/// What a source must fill in of each batch. More is never wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Whether the lines matter; if not, [`EntryBatch::lines`](crate::EntryBatch) may be empty.
    pub lines: bool,
    /// Which structured metadata matters.
    pub metadata: MetadataNeeds,
    /// Texts that every line that can pass contains (for skipping by index); only stages before any rewriting count.
    pub needles: Vec<String>,
}

/// Which structured metadata a query looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataNeeds {
    /// All of it.
    All,
    /// These names only (possibly none).
    Names(Vec<Arc<str>>),
}
