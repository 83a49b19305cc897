//! What makes a file the same file, whatever it is called.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::tail::Identified;

/// `target_config.identity`: what a file is known by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentifiedBy {
    /// Device, inode and its first bytes.
    #[default]
    Auto,
    /// Device and inode: for files whose beginning is written again in place.
    Inode,
    /// Its path and its first bytes: for file systems whose inodes do not last.
    Path,
}

/// What makes a file the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// When the inode was taken, ns since the epoch; `None` where the file system does not tell. Inodes are used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<i64>,
    /// How many of the first bytes `head` covers; short files grow into it.
    head_bytes: u64,
    /// xxh3-64 of them.
    head: u64,
    #[serde(skip)]
    by: IdentifiedBy,
}

impl Identity {
    /// How many of the first bytes are looked at.
    pub(crate) const HEAD_BYTES: u64 = 256;

    /// Reads the identity of an open file.
    pub fn of(file: &impl Identified, by: IdentifiedBy) -> std::io::Result<Self> {
        let (device, inode) = file.place()?;
        let head_bytes = file.size()?.min(Self::HEAD_BYTES);
        let head = Self::hash(file, head_bytes)?.unwrap_or_default();
        Ok(Self { device, inode, born: file.born()?, head_bytes, head, by })
    }

    /// Reads that of a file as this one was read.
    pub(crate) fn again(&self, file: &impl Identified) -> std::io::Result<Self> {
        Self::of(file, self.by)
    }

    /// The same, by which files are known from now on.
    pub(super) fn known_by(self, by: IdentifiedBy) -> Self {
        Self { by, ..self }
    }

    /// Whether `file` is the one that this was read from, though it may have grown since.
    pub fn is_of(&self, file: &impl Identified) -> std::io::Result<bool> {
        if self.by == IdentifiedBy::Path {
            return self.begins(file);
        }
        let born = file.born()?;
        let is_here =
            file.place()? == self.place() && (self.born.is_none() || born.is_none() || self.born == born);
        Ok(is_here && (self.by == IdentifiedBy::Inode || self.begins(file)?))
    }

    /// Whether `file` begins as this did, be it the same or a copy of it. Where beginnings change in place that says nothing.
    pub fn begins(&self, file: &impl Identified) -> std::io::Result<bool> {
        Ok(self.by != IdentifiedBy::Inode && Self::hash(file, self.head_bytes)? == Some(self.head))
    }

    /// Whether both may be of the same file, one of them from a time when it was shorter.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_head = self.head_bytes != other.head_bytes || self.head == other.head;
        self.place() == other.place() && self.born == other.born && is_head
    }

    /// Whether it tells the file from another that takes its place later: an empty one does not.
    pub fn is_telling(&self) -> bool {
        self.head_bytes > 0 || self.by == IdentifiedBy::Inode
    }

    /// Whether it covers as many bytes as it can.
    pub fn is_full(&self) -> bool {
        self.head_bytes == Self::HEAD_BYTES
    }

    /// Whether its path is a part of it.
    pub(crate) fn is_by_path(&self) -> bool {
        self.by == IdentifiedBy::Path
    }

    /// Device and inode: where the file lies.
    pub fn place(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Hash of the first bytes; `None` if the file is shorter.
    fn hash(file: &impl Identified, bytes: u64) -> std::io::Result<Option<u64>> {
        Ok(file.head(bytes)?.map(|head| xxh3_64(&head)))
    }
}
