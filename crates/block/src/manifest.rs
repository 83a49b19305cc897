//! The manifest: which blocks a tenant's data is, and which log positions they cover.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use model::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::WriterId;

/// The name of a block: a UUID of version 7, so names sort by time of writing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(Uuid);

impl BlockId {
    /// A new name.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlockId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

impl Serialize for BlockId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the manifest tells of a block's rows, so that many questions need not open it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockSummary {
    /// The time of the earliest row.
    #[serde(with = "nanos")]
    pub min_time: Timestamp,
    /// The time of the latest row, inclusive.
    #[serde(with = "nanos")]
    pub max_time: Timestamp,
    /// The number of rows.
    pub rows: u64,
    /// The raw bytes of the rows: of lines, of spans.
    pub bytes: u64,
    /// What the signal wants to know, kept small: it is in every version of the manifest.
    #[serde(default)]
    pub detail: serde_json::Value,
}

/// One block of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockMeta {
    /// Its name.
    pub id: BlockId,
    /// Bytes of `data.parquet`.
    pub size: u64,
    /// The last bytes of `data.parquet`: footer and page index. One ranged read opens the block.
    pub footer_size: u64,
    /// Bytes of `index`.
    pub index_size: u64,
    /// How often its rows were compacted: 0 as flushed.
    #[serde(default)]
    pub level: u32,
    /// When it was written.
    #[serde(with = "nanos")]
    pub created: Timestamp,
    /// What is in it.
    pub summary: BlockSummary,
}

/// A block that is no part of the data any more, but whose objects running queries may still read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemovedBlock {
    /// Its name.
    pub id: BlockId,
    /// When it was removed; its objects are deleted some time later.
    #[serde(with = "nanos")]
    pub at: Timestamp,
}

/// One version of what a tenant's data is. Versions are objects that are made once and never changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 0 before the first commit, then one more with each.
    pub version: u64,
    /// Who made this version, in one attempt: tells a writer whether an existing object is its own.
    #[serde(default)]
    pub nonce: String,
    /// The blocks, in order of being added.
    #[serde(default)]
    pub blocks: Vec<BlockMeta>,
    /// Blocks removed a short while ago.
    #[serde(default)]
    pub removed: Vec<RemovedBlock>,
    /// For each log: the tenant's records below this position are in blocks.
    #[serde(default)]
    pub covered: BTreeMap<WriterId, u64>,
    /// What else must change in the same step as the blocks, by a key of the signal's choice: its requests to delete rows. Kept
    /// small, for they are in every version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// The position below which the tenant's records of a log are in blocks.
    pub fn covered_by(&self, writer: &WriterId) -> u64 {
        self.covered.get(writer).copied().unwrap_or(0)
    }
}

mod nanos {
    //! Timestamps as integers: nanoseconds since the epoch.
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_i64(time.nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp)
    }
}
