//! What a followed file is read from: its bytes as they are, or what comes out of its decompression.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::archive::{Archive, Format};
use super::encoding::Encoding;
use crate::positions::{Identity, Mark};

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

    /// As many bytes of the content as lie right before `at`; `None` if it ends before. An error of the kind
    /// [`FileTooLarge`](io::ErrorKind::FileTooLarge) says that it would take too long to get there.
    fn before(&self, at: u64, bytes: u64) -> io::Result<Option<Vec<u8>>>;

    /// Whether it is compressed, so that it takes time to get anywhere in it.
    fn is_packed(&self) -> bool {
        false
    }
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
        self.before(bytes, bytes)
    }

    fn before(&self, at: u64, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let mut before = vec![0; bytes as usize];
        match self.read_exact_at(&mut before, at.saturating_sub(bytes)) {
            Ok(()) => Ok(Some(before)),
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

/// So far an archive is unpacked to be compared with what it may have been made of.
const UNPACKED: u64 = 64 << 10;

/// The content of an open file. Offsets count what comes out of decompression.
#[derive(Debug)]
pub struct Content {
    source: Source,
    text: Encoding,
    opened: SystemTime,
    /// Bytes of the file then.
    stored: u64,
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
        let opened = SystemTime::now();
        let file = open_regular(path)?;
        let stored = file.size()?;
        let source = match format {
            None => Source::Plain(file),
            Some(format) => Source::Archive(Box::new(Archive::new(file, format)?)),
        };
        let mut content = Self { source, text, opened, stored };
        if let Some(mark) = content.head(2)? {
            content.text = text.with_mark(&mark);
        }
        Ok(content)
    }

    /// The content of an open file of text in UTF-8.
    pub(super) fn of_file(file: File) -> Self {
        let stored = file.size().unwrap_or_default();
        Self { source: Source::Plain(file), text: Encoding::default(), opened: SystemTime::now(), stored }
    }

    /// When it was opened: until then nothing of what came to lie at its path can have been missed.
    pub(super) fn opened(&self) -> SystemTime {
        self.opened
    }

    /// Whether it was truncated since it was opened.
    pub(super) fn has_shrunk(&self) -> bool {
        self.file().size().is_ok_and(|size| size < self.stored)
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

    /// Sees whether more was written to an archive since it was read to its end.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        match &mut self.source {
            Source::Plain(_) => Ok(()),
            Source::Archive(archive) => archive.renew(),
        }
    }

    /// Why nothing more comes out of an archive, though it is not whole.
    pub(super) fn broken(&self) -> Option<&io::Error> {
        match &self.source {
            Source::Plain(_) => None,
            Source::Archive(archive) => archive.error(),
        }
    }

    /// Where it lies now, if that can be told and is not nowhere.
    pub(super) fn path(&self) -> Option<PathBuf> {
        use std::os::fd::AsRawFd as _;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", self.file().as_raw_fd())).ok()?;
        let there = std::fs::symlink_metadata(&path).ok()?;
        self.place().is_ok_and(|place| place == (there.dev(), there.ino())).then_some(path)
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

    /// How it begins, as far as that tells files from each other.
    pub(super) fn beginning(&self) -> Vec<u8> {
        let bytes = match &self.source {
            Source::Plain(file) => file.size().unwrap_or_default().min(Identity::HEAD_BYTES),
            Source::Archive(archive) => archive.head_bytes(),
        };
        self.head(bytes).ok().flatten().unwrap_or_default()
    }

    /// Whether this is a copy, compressed or not, of another file as that is now: a copy holds no more than what it was made of, and ends
    /// as that goes on there.
    pub(super) fn is_copy_of(&self, original: &Self) -> io::Result<bool> {
        // Its own size first: the original may grow at any time.
        let size = self.size()?;
        let full = original.size()?;
        let begins = self.beginning();
        if begins.is_empty() || !original.beginning().starts_with(&begins) {
            return Ok(false);
        }
        // Of an archive it is not known where it ends.
        if self.is_archive() || original.is_archive() {
            return Ok(original.first(UNPACKED)?.starts_with(&self.first(UNPACKED)?));
        }
        let bytes = Mark::bytes_at(size);
        Ok(size <= full && self.before(size, bytes)? == original.before(size, bytes)?)
    }

    /// So many of the first bytes, or all that there are.
    fn first(&self, most: u64) -> io::Result<Vec<u8>> {
        match &self.source {
            Source::Plain(file) => {
                let bytes = file.size()?.min(most);
                Ok(file.head(bytes)?.unwrap_or_default())
            }
            Source::Archive(archive) => archive.first(most),
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

    fn before(&self, at: u64, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        match &self.source {
            Source::Plain(file) => file.before(at, bytes),
            Source::Archive(archive) => archive.before(at, bytes),
        }
    }

    fn is_packed(&self) -> bool {
        self.is_archive()
    }
}
