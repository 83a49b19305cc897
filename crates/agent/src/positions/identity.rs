//! What makes a file the same file, whatever it is called.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::tail::Identified;

/// What makes a file the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// How many of the first bytes `head` covers; short files grow into it.
    head_bytes: u64,
    /// xxh3-64 of them.
    head: u64,
}

impl Identity {
    /// How many of the first bytes are looked at.
    pub(crate) const HEAD_BYTES: u64 = 256;

    /// Reads the identity of an open file.
    pub fn of(file: &impl Identified) -> std::io::Result<Self> {
        let (device, inode) = file.place()?;
        let head_bytes = file.size()?.min(Self::HEAD_BYTES);
        let head = Self::hash(file, head_bytes)?.unwrap_or_default();
        Ok(Self { device, inode, head_bytes, head })
    }

    /// Whether `file` is the one that this was read from, though it may have grown since.
    pub fn is_of(&self, file: &impl Identified) -> std::io::Result<bool> {
        Ok(file.place()? == self.place() && self.begins(file)?)
    }

    /// Whether `file` begins as this did, be it the same or a copy of it.
    pub fn begins(&self, file: &impl Identified) -> std::io::Result<bool> {
        Ok(Self::hash(file, self.head_bytes)? == Some(self.head))
    }

    /// Whether it tells the file from another that takes its place later: an empty one does not.
    pub fn is_telling(&self) -> bool {
        self.head_bytes > 0
    }

    /// Whether it covers as many bytes as it can.
    pub fn is_full(&self) -> bool {
        self.head_bytes == Self::HEAD_BYTES
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
