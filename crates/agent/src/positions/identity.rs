//! What makes a file the same file, whatever it is called.
//!
//! Three things tell files from each other: where a file lies (device, inode, and when that was taken), how it begins (its *head*),
//! and what it holds right before an offset up to which it was read (its *mark*). A head alone says little: tables begin with the same
//! header, programs with the same banner. The same file agrees in all three; a copy of it, compressed or not, in head and mark; and a file
//! at the same place that does not agree was truncated and filled again.

use std::io;

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

/// What a file holds right before an offset up to which it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The offset.
    at: u64,
    /// xxh3-64 of the bytes before it.
    hash: u64,
}

impl Mark {
    /// How many bytes before the offset are looked at, unless the file begins there.
    pub(crate) const BYTES: u64 = 1024;

    /// How many bytes the mark at an offset is made of.
    pub(crate) fn bytes_at(at: u64) -> u64 {
        at.min(Self::BYTES)
    }

    /// The mark at an offset, of [`bytes_at`](Self::bytes_at) bytes that lie before it.
    pub(crate) fn of(at: u64, before: &[u8]) -> Self {
        Self { at, hash: xxh3_64(before) }
    }

    /// Reads that of a file; `None` at its beginning, and where the file is shorter.
    pub(crate) fn read(file: &impl Identified, at: u64) -> io::Result<Option<Self>> {
        if at == 0 {
            return Ok(None);
        }
        Ok(file.before(at, Self::bytes_at(at))?.map(|before| Self::of(at, &before)))
    }

    /// Whether a file holds the same there. One that is too long to be unpacked may.
    fn is_in(&self, file: &impl Identified) -> io::Result<bool> {
        match Self::read(file, self.at) {
            Ok(found) => Ok(found == Some(*self)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(true),
            Err(error) => Err(error),
        }
    }
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
    /// None of what nothing was read of, or by an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<Mark>,
    #[serde(skip)]
    by: IdentifiedBy,
}

impl Identity {
    /// How many of the first bytes are looked at.
    pub(crate) const HEAD_BYTES: u64 = 256;

    /// Reads the identity of an open file, without a mark.
    pub fn of(file: &impl Identified, by: IdentifiedBy) -> io::Result<Self> {
        let (device, inode) = file.place()?;
        let head_bytes = file.size()?.min(Self::HEAD_BYTES);
        let head = file.head(head_bytes)?.map(|head| xxh3_64(&head)).unwrap_or_default();
        Ok(Self { device, inode, born: file.born()?, head_bytes, head, mark: None, by })
    }

    /// Reads that of a file as this one was read.
    pub(crate) fn again(&self, file: &impl Identified) -> io::Result<Self> {
        Self::of(file, self.by)
    }

    /// The same, by which files are known from now on.
    pub(super) fn known_by(self, by: IdentifiedBy) -> Self {
        Self { by, ..self }
    }

    /// The same with another mark.
    pub(crate) fn marked(self, mark: Option<Mark>) -> Self {
        Self { mark, ..self }
    }

    /// What it holds right before an offset up to which it was read, if that is known.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Whether `file` is the one that this was read from, though it may have grown since.
    pub fn is_of(&self, file: &impl Identified) -> io::Result<bool> {
        match self.by {
            IdentifiedBy::Path => self.agrees(file),
            IdentifiedBy::Inode => self.lies_at(file),
            // An archive is written once.
            IdentifiedBy::Auto if file.is_packed() => Ok(self.lies_at(file)? && self.begins(file)?),
            IdentifiedBy::Auto => Ok(self.lies_at(file)? && self.agrees(file)?),
        }
    }

    /// Whether `file`, which lies somewhere else, is a copy of what this was read from, or that itself moved to another file system. Where
    /// beginnings change in place nothing tells.
    pub fn is_copied_in(&self, file: &impl Identified) -> io::Result<bool> {
        Ok(self.head_bytes > 0 && self.agrees(file)?)
    }

    /// Whether a file that begins with these bytes, or is no longer than them, may be a copy of this.
    pub(crate) fn may_begin(&self, head: &[u8]) -> bool {
        let covered = usize::try_from(self.head_bytes).ok().and_then(|bytes| head.get(..bytes));
        let is_it = |covered: &[u8]| covered.is_empty() || xxh3_64(covered) == self.head;
        self.by != IdentifiedBy::Inode && covered.is_some_and(is_it)
    }

    /// How many of the first bytes it covers, and what these are.
    pub(crate) fn head(&self) -> (u64, u64) {
        (self.head_bytes, self.head)
    }

    /// The head of a file that begins with these bytes.
    pub(crate) fn head_of(bytes: &[u8]) -> (u64, u64) {
        (bytes.len() as u64, xxh3_64(bytes))
    }

    /// Whether it is the same inode, not one that was taken again.
    fn lies_at(&self, file: &impl Identified) -> io::Result<bool> {
        let born = file.born()?;
        Ok(file.place()? == self.place() && (self.born.is_none() || born.is_none() || self.born == born))
    }

    fn begins(&self, file: &impl Identified) -> io::Result<bool> {
        Ok(file.head(self.head_bytes)?.is_some_and(|head| self.may_begin(&head)))
    }

    fn agrees(&self, file: &impl Identified) -> io::Result<bool> {
        Ok(self.begins(file)? && self.mark.map_or(Ok(true), |mark| mark.is_in(file))?)
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

    /// Whether the file can be found again where it lies, even if it was empty: nobody else's inode was taken at the same time.
    pub(crate) fn is_lasting(&self) -> bool {
        self.is_telling() || self.born.is_some()
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::tests::Fake;
    use proptest::prelude::*;

    const HEADER: usize = 300;

    /// A header that all files share, and lines that no other has.
    fn text(seed: u64, lines: usize) -> String {
        let lines = (0..lines).map(|n| format!("{seed:x} {n}\n"));
        "#".repeat(HEADER) + "\n" + &lines.collect::<String>()
    }

    fn file(inode: u64, born: i64, content: &str) -> Fake<'_> {
        Fake { place: (1, inode), born: Some(born), content }
    }

    fn read_up_to(file: &Fake<'_>, at: u64) -> Identity {
        let identity = Identity::of(file, IdentifiedBy::Auto).unwrap();
        identity.marked(Mark::read(file, at).unwrap())
    }

    #[test]
    fn what_is_the_same_and_what_a_copy() {
        let (mine, others) = (text(1, 50), text(2, 90));
        let size = mine.len() as u64;
        let identity = read_up_to(&file(7, 1, &mine), size);
        let shorter = &mine[..mine.len() - 1];
        let grown = mine.clone() + "more\n";
        // Inode, when it was taken, content; whether it is the same, or a copy.
        for (inode, born, content, same, copy) in [
            (7, 1, &mine[..], true, true),
            (7, 1, &grown, true, true),
            (7, 1, &others, false, false),
            (7, 1, shorter, false, false),
            (7, 1, "", false, false),
            (7, 2, &mine, false, true),
            (8, 1, &mine, false, true),
            (8, 1, &grown, false, true),
            (8, 1, &others, false, false),
            (8, 1, shorter, false, false),
        ] {
            let now = file(inode, born, content);
            let found = (identity.is_of(&now).unwrap(), identity.is_copied_in(&now).unwrap());
            assert_eq!(found, (same, copy), "{inode} {born} {} bytes", content.len());
        }
        // Of what nothing was read only the beginning is known, and of an empty file nothing but where it lies.
        let unread = read_up_to(&file(7, 1, &mine), 0);
        assert!(unread.is_copied_in(&file(8, 1, &others)).unwrap());
        let empty = read_up_to(&file(7, 1, ""), 0);
        assert!(empty.is_of(&file(7, 1, &mine)).unwrap() && !empty.is_of(&file(7, 2, &mine)).unwrap());
        assert!(!empty.is_copied_in(&file(8, 1, &mine)).unwrap());
        assert!(empty.is_lasting() && !empty.is_telling());
    }

    #[test]
    fn by_what_files_are_known() {
        let (mine, others) = (text(1, 50), text(2, 90));
        let (mine, others) = (file(7, 1, &mine), file(7, 1, &others));
        let elsewhere = Fake { place: (2, 9), ..mine.clone() };
        let identity = read_up_to(&mine, 500);
        let by = |by, now: &Fake<'_>| {
            let identity = identity.known_by(by);
            (identity.is_of(now).unwrap(), identity.is_copied_in(now).unwrap())
        };
        assert_eq!(by(IdentifiedBy::Inode, &others), (true, false));
        assert_eq!(by(IdentifiedBy::Inode, &elsewhere), (false, false));
        assert_eq!(by(IdentifiedBy::Path, &others), (false, false));
        assert_eq!(by(IdentifiedBy::Path, &elsewhere), (true, true));
    }

    #[test]
    fn states_of_older_versions_have_no_marks() {
        let old = r#"{"device":1,"inode":7,"head_bytes":0,"head":0}"#;
        assert_eq!(serde_json::from_str::<Identity>(old).unwrap().mark(), None);
        let text = text(1, 50);
        let identity = read_up_to(&file(7, 1, &text), 500);
        let again: Identity = serde_json::from_str(&serde_json::to_string(&identity).unwrap()).unwrap();
        assert_eq!(again, identity);
    }

    proptest! {
        /// A file is itself however it grows; another that begins alike is neither it nor a copy once a line was read.
        #[test]
        fn marks_tell(lines in 1..200_usize, more in 0..200_usize, others in 0..300_usize, read in 0.0..1.0_f64) {
            let now = text(1, lines);
            let first = HEADER + 2;
            let at = (first + ((now.len() - first) as f64 * read) as usize) as u64;
            let identity = read_up_to(&file(7, 1, &now), at);
            let grown = text(1, lines + more);
            prop_assert!(identity.is_of(&file(7, 1, &grown)).unwrap());
            prop_assert!(identity.is_copied_in(&file(8, 1, &grown)).unwrap());
            prop_assert!(identity.is_copied_in(&file(8, 1, &now[..at as usize])).unwrap());
            prop_assert!(!identity.is_copied_in(&file(8, 1, &now[..at as usize - 1])).unwrap());
            let others = text(2, others);
            for inode in [7, 8] {
                let other = file(inode, 1, &others);
                prop_assert!(!identity.is_of(&other).unwrap() && !identity.is_copied_in(&other).unwrap());
            }
        }
    }
}
