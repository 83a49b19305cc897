//! What a query needs of its entries, so that sources need not read the rest.

use std::sync::Arc;

/// What a source must fill in of each batch, and what it may skip. Filling in more is never wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Whether the lines matter; if not, [`EntryBatch::lines`](crate::EntryBatch) may be absent.
    pub lines: bool,
    /// Which structured metadata matters.
    pub metadata: MetadataNeeds,
    /// What every line that can pass contains: of each inner list at least one text (none of them empty). Only conditions on the
    /// line as it was stored count.
    pub needles: Vec<Vec<String>>,
    /// What else every entry that can pass has.
    pub equalities: Vec<Equality>,
}

impl Needs {
    /// Everything of every entry.
    pub fn all() -> Self {
        Self { lines: true, metadata: MetadataNeeds::All, needles: Vec::new(), equalities: Vec::new() }
    }
}

/// Which structured metadata a query looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataNeeds {
    /// All of it.
    All,
    /// These names only (possibly none).
    Names(Vec<Arc<str>>),
}

impl MetadataNeeds {
    /// Whether the metadata of this name matters.
    pub fn wants(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.iter().any(|n| **n == *name),
        }
    }
}

/// A label that every passing entry has, with its value.
///
/// Says nothing about the entries of a stream that has `label` among its own labels. Of any other stream, an entry that passes
/// - has structured metadata named `label` with exactly this value,
/// - or, if `line` is not `None`, has a line that contains every text of `line`, or that contains `\u`: a JSON string may
///   spell any character as an escape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equality {
    /// The label.
    pub label: Arc<str>,
    /// Its value, not empty.
    pub value: String,
    /// If a parser may make the label: texts that the line contains. May be empty, if nothing certain is known of the line.
    pub line: Option<Vec<String>>,
}
