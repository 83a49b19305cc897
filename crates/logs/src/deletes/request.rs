//! A request to delete lines, as it is kept beside the blocks of its tenant.

use serde::{Deserialize, Serialize};

/// The lines of a query in a range of time that are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Its name, unique for the tenant.
    pub id: String,
    /// When it was accepted, nanoseconds.
    pub created: i64,
    /// First instant, nanoseconds.
    pub start: i64,
    /// Last instant, nanoseconds.
    pub end: i64,
    /// The log query that selects the lines.
    pub query: String,
    /// How far it is.
    pub status: Status,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its lines are hidden.
    Received,
    /// Some of its lines are gone from the blocks.
    Partly {
        /// Of the blocks that it touches, those that are done.
        percent: u8,
    },
    /// All its lines are gone.
    Processed {
        /// Since when, nanoseconds.
        at: i64,
    },
}

impl Status {
    /// Whether nothing is left to do.
    pub fn is_processed(self) -> bool {
        matches!(self, Self::Processed { .. })
    }
}

/// As Loki says it.
impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Received => f.write_str("received"),
            Self::Partly { percent } => write!(f, "{percent}% Complete"),
            Self::Processed { .. } => f.write_str("processed"),
        }
    }
}
