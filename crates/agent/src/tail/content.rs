//! What a followed file is read from: its bytes as they are, or what comes out of its decompression.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::archive::{Archive, Format};
use super::encoding::Encoding;

/// What tells one file from another: its place on the disk, and how it begins.
pub trait Identified {
    /// Device and inode.
    fn place(&self) -> io::Result<(u64, u64)>;

    /// When its inode was taken, ns since the epoch; `None` where the file system does not tell.
    fn born(&self) -> io::Result<Option<i64>>;

    /// Bytes of content; `u64::MAX` where that shows only at the end.
    fn size(&self) -> io::Result<u64>;

    /// The first bytes of the content; `None` if it has fewer.
    fn head(&self, bytes: u64) -> io::Result<Option<Vec<u8>>>;
}

impl Identified for File {
    fn place(&self) -> io::Result<(u64, u64)> {
        self.metadata().map(|m| (m.dev(), m.ino()))
    }

    fn born(&self) -> io::Result<Option<i64>> {
        let born =
            self.metadata()?.created().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(born.and_then(|at| i64::try_from(at.as_nanos()).ok()).filter(|at| *at > 0))
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

/// Opens a file to read from it. What is no regular file is an error: a pipe would have its reader wait for a writer.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
    let file = File::options().read(true).custom_flags(flags.cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file: exclude it with __path_exclude__",
        )),
    }
}

/// How long ago a file was written to. Its time may be one that somebody has set, or of a clock that was wrong: where it lies in the
/// future, that of its last change of any kind counts, and none where that does too.
pub(super) fn age(file: &std::fs::Metadata) -> Option<Duration> {
    let changed = || Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(file.ctime()).ok()?));
    let elapsed = |at: SystemTime| at.elapsed().ok();
    file.modified().ok().and_then(elapsed).or_else(|| changed().and_then(elapsed))
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
        let file = open_regular(path)?;
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

    /// The content of an open file of text in UTF-8.
    pub(super) fn of_file(file: File) -> Self {
        Self { source: Source::Plain(file), text: Encoding::default() }
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

    /// Where there is data again at or after `offset`, or `size` if there is none before: what lies between was never written. Only where
    /// the file system knows.
    pub(super) fn data_from(&self, offset: u64, size: u64) -> u64 {
        use rustix::fs::{SeekFrom, seek};
        let Source::Plain(file) = &self.source else { return offset };
        match seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data.clamp(offset, size.max(offset)),
            Err(rustix::io::Errno::NXIO) => size.max(offset),
            Err(_) => offset,
        }
    }

    /// Behind its last line end, if that is not far from its end; its end otherwise. It is no archive.
    pub(super) fn last_line_end(&self) -> u64 {
        const NEAR: u64 = 64 << 10;
        let (Source::Plain(file), Ok(size)) = (&self.source, self.size()) else { return 0 };
        let begin = size.saturating_sub(NEAR);
        let mut bytes = vec![0; (size - begin) as usize];
        match file.read_exact_at(&mut bytes, begin) {
            Ok(()) if !self.text.is_wide() => {
                let end = memchr::memrchr(b'\n', &bytes).map(|at| begin + at as u64 + 1);
                end.unwrap_or(if begin == 0 { 0 } else { size })
            }
            _ => size,
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

    fn born(&self) -> io::Result<Option<i64>> {
        self.file().born()
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
