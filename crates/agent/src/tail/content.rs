//! What a followed file is read from: its bytes as they are, or what comes out of its decompression.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::archive::{Archive, Format};
use super::encoding::Encoding;

/// What tells one file from another: its place on the disk, and how it begins.
pub trait Identified {
    /// Device and inode.
    fn place(&self) -> io::Result<(u64, u64)>;

    /// Bytes of content; `u64::MAX` where that shows only at the end.
    fn size(&self) -> io::Result<u64>;

    /// The first bytes of the content; `None` if it has fewer.
    fn head(&self, bytes: u64) -> io::Result<Option<Vec<u8>>>;
}

impl Identified for File {
    fn place(&self) -> io::Result<(u64, u64)> {
        self.metadata().map(|m| (m.dev(), m.ino()))
    }

    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|m| m.len())
    }

    fn head(&self, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let mut head = vec![0; bytes as usize];
        match self.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(Some(head)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The content of an open file. Offsets count what comes out of decompression.
#[derive(Debug)]
pub struct Content {
    source: Source,
    text: Encoding,
}

#[derive(Debug)]
enum Source {
    Plain(File),
    Archive(Box<Archive>),
}

impl Content {
    /// Opens a file of text in UTF-8.
    pub fn plain(path: &Path) -> io::Result<Self> {
        Self::open(path, None, Encoding::default())
    }

    /// Opens a file; `format` says how it is compressed. Which of the two UTF-16 it is, its first bytes may tell better than `text`.
    pub fn open(path: &Path, format: Option<Format>, text: Encoding) -> io::Result<Self> {
        let file = File::open(path)?;
        let source = match format {
            None => Source::Plain(file),
            Some(format) => Source::Archive(Box::new(Archive::new(file, format)?)),
        };
        let mut content = Self { source, text };
        if let Some(mark) = content.head(2)? {
            content.text = text.with_mark(&mark);
        }
        Ok(content)
    }

    /// How its lines are written.
    pub fn text(&self) -> Encoding {
        self.text
    }

    /// Whether it is read once, rather than followed.
    pub fn is_archive(&self) -> bool {
        matches!(self.source, Source::Archive(_))
    }

    /// Whether an archive was read to its end.
    pub fn has_ended(&self) -> bool {
        matches!(&self.source, Source::Archive(archive) if archive.has_ended())
    }

    /// Whether an archive was read to its end, and nothing more will be written to it.
    pub fn is_complete(&self) -> bool {
        matches!(&self.source, Source::Archive(archive) if archive.is_complete())
    }

    /// Whether no name leads to it any more.
    pub fn is_deleted(&self) -> bool {
        self.file().metadata().is_ok_and(|m| m.nlink() == 0)
    }

    /// What the system says of the file itself.
    pub fn stored(&self) -> io::Result<std::fs::Metadata> {
        self.file().metadata()
    }

    fn file(&self) -> &File {
        match &self.source {
            Source::Plain(file) => file,
            Source::Archive(archive) => archive.file(),
        }
    }

    /// Reads what is at `offset`. Nothing at the end; an archive also gives nothing while it is still looking for the offset.
    pub fn read_at(&mut self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        match &mut self.source {
            Source::Plain(file) => file.read_at(room, offset),
            Source::Archive(archive) => archive.read_at(room, offset),
        }
    }
}

impl Identified for Content {
    fn place(&self) -> io::Result<(u64, u64)> {
        self.file().place()
    }

    fn size(&self) -> io::Result<u64> {
        match &self.source {
            Source::Plain(file) => file.size(),
            Source::Archive(archive) => Ok(archive.size()),
        }
    }

    fn head(&self, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        match &self.source {
            Source::Plain(file) => file.head(bytes),
            Source::Archive(archive) => Ok(archive.head(bytes)),
        }
    }
}
