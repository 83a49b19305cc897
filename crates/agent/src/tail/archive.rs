//! `decompression`: files that are compressed. They stream: however much comes out, only what is being read is in memory.

use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::content::{age, open_regular};

/// `decompression` of a scrape config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecompressionConfig {
    /// Whether compressed files are read.
    pub enabled: bool,
    /// How long after its last change a file is first read.
    pub initial_delay: service::config::Duration,
    /// How files are compressed whose name does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// gzip, of one or several members.
    Gz,
    /// zlib.
    Z,
    /// bzip2.
    Bz2,
    /// Zstandard.
    Zst,
}

impl Format {
    /// By the end of its name.
    pub fn named(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "gz" => Some(Self::Gz),
            "z" | "Z" | "zz" => Some(Self::Z),
            "bz2" => Some(Self::Bz2),
            "zst" => Some(Self::Zst),
            _ => None,
        }
    }

    /// By the end of its name and its first bytes.
    pub fn of(path: &Path) -> Option<Self> {
        let format = Self::named(path)?;
        let magic: &[u8] = match format {
            Self::Gz => &[0x1f, 0x8b],
            Self::Z => &[0x78],
            Self::Bz2 => b"BZh",
            Self::Zst => &[0x28, 0xb5, 0x2f, 0xfd],
        };
        let mut first = [0; 4];
        let first = &mut first[..magic.len()];
        open_regular(path).and_then(|file| file.read_exact_at(first, 0)).ok()?;
        (first == magic).then_some(format)
    }

    fn decoder(self, from: Cursor) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Gz => Box::new(flate2::read::MultiGzDecoder::new(from)),
            Self::Z => Box::new(Zlib::new(from)),
            Self::Bz2 => Box::new(bzip2::read::MultiBzDecoder::new(from)),
            Self::Zst => {
                let mut decoder = zstd::stream::read::Decoder::new(from)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

/// Zstandard's window, which the file chooses, may have so many bits: 16 MiB.
const MAX_WINDOW_LOG: u32 = 24;
/// How much of the beginning is kept: what an identity is made of.
const HEAD_BYTES: usize = 256;
/// How much is passed over at a time on the way to an offset; other files are read in between.
const SKIP_BYTES: u64 = 4 << 20;
/// An archive that ends too early may still be written: it is looked at again once it has been quiet for so long.
pub(super) const SETTLED: Duration = Duration::from_secs(2);
/// So far an archive is unpacked at once, to compare it with what was read before: a third of a second, perhaps.
const FAR: u64 = 64 << 20;
/// After so long nobody goes on to write an archive that breaks off.
const ABANDONED: Duration = Duration::from_secs(30);

/// Reads a file from a place of its own.
struct Cursor {
    file: Arc<File>,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(room, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// Decompresses zlib, and tells an end from a break.
struct Zlib {
    from: BufReader<Cursor>,
    inflate: flate2::Decompress,
    has_ended: bool,
}

impl Zlib {
    fn new(from: Cursor) -> Self {
        Self { from: BufReader::new(from), inflate: flate2::Decompress::new(true), has_ended: false }
    }
}

impl Read for Zlib {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while !self.has_ended && !room.is_empty() {
            let bytes = self.from.fill_buf()?;
            let is_over = bytes.is_empty();
            let (came, went) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(bytes, room, flate2::FlushDecompress::None)?;
            let (taken, given) = (self.inflate.total_in() - came, self.inflate.total_out() - went);
            self.from.consume(taken as usize);
            self.has_ended = status == flate2::Status::StreamEnd;
            match given {
                0 if self.has_ended => {}
                0 if is_over => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 if taken == 0 => return Err(io::ErrorKind::InvalidData.into()),
                0 => {}
                given => return Ok(given as usize),
            }
        }
        Ok(0)
    }
}

/// Where a compressed file ended, as far as it was written.
struct End {
    /// What it was then: its bytes, and when they were written.
    stamp: (u64, Option<SystemTime>),
    /// Why nothing more comes out of it, unless it is whole.
    error: Option<io::Error>,
}

/// A compressed file, read from front to back.
pub(super) struct Archive {
    file: Arc<File>,
    format: Format,
    decoder: Box<dyn Read + Send>,
    /// Offset in the content that the decoder gives next.
    at: u64,
    head: Vec<u8>,
    ended: Option<End>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("format", &self.format).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Archive {
    /// Begins to read `file`.
    pub(super) fn new(file: File, format: Format) -> io::Result<Self> {
        let file = Arc::new(file);
        let decoder = format.decoder(Cursor { file: file.clone(), at: 0 })?;
        let mut archive = Self { file, format, decoder, at: 0, head: Vec::new(), ended: None };
        archive.rewind()?;
        Ok(archive)
    }

    /// The compressed file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether everything has come out of it, as far as it is written.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some() && !self.has_grown()
    }

    /// The same, and nothing more will be written: what broke off may still be in the making.
    pub(super) fn is_complete(&self) -> bool {
        let Some(end) = self.ended.as_ref().filter(|_| !self.has_grown()) else { return false };
        let pause = match &end.error {
            None => return true,
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => ABANDONED,
            Some(_) => SETTLED,
        };
        self.file.metadata().is_ok_and(|now| age(&now).is_none_or(|age| age >= pause))
    }

    /// Why nothing more comes out of it, though it is not whole.
    pub(super) fn error(&self) -> Option<&io::Error> {
        self.ended.as_ref()?.error.as_ref()
    }

    /// Bytes of content; unknown before the end.
    pub(super) fn size(&self) -> u64 {
        match self.ended {
            Some(_) => self.at.max(self.head.len() as u64),
            None => u64::MAX,
        }
    }

    /// Begins again at the front if more was written to it since its end was found.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        if self.has_grown() { self.rewind() } else { Ok(()) }
    }

    /// The first bytes of the content.
    pub(super) fn head(&self, bytes: u64) -> Option<Vec<u8>> {
        self.head.get(..usize::try_from(bytes).ok()?).map(<[u8]>::to_vec)
    }

    /// How many of the first bytes are kept.
    pub(super) fn head_bytes(&self) -> u64 {
        self.head.len() as u64
    }

    /// So many of the first bytes of the content, or all that there are, as another decoder gives them.
    pub(super) fn first(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut first = Vec::new();
        let mut decoder = self.format.decoder(Cursor { file: self.file.clone(), at: 0 })?.take(most);
        // What comes before it breaks off counts.
        let _ = decoder.read_to_end(&mut first);
        Ok(first)
    }

    /// As many bytes of the content as lie right before `at`, which another decoder is to reach; `None` if it ends before.
    pub(super) fn before(&self, at: u64, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        if at > FAR {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut decoder = self.format.decoder(Cursor { file: self.file.clone(), at: 0 })?;
        let begin = at.saturating_sub(bytes);
        let mut before = Vec::new();
        let read =
            io::copy(&mut decoder.by_ref().take(begin), &mut io::sink()).and_then(|passed| match passed {
                passed if passed < begin => Ok(0),
                _ => decoder.take(at - begin).read_to_end(&mut before),
            });
        // One that breaks off before it gets there is too short.
        Ok(read.is_ok_and(|got| got as u64 == at - begin).then_some(before))
    }

    /// Content at `offset`. Nothing at the end, and while the offset is still looked for.
    pub(super) fn read_at(&mut self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.at {
            self.rewind()?;
        }
        if offset < self.at {
            let head = self.head.get(offset as usize..).unwrap_or_default();
            let got = head.len().min(room.len());
            room[..got].copy_from_slice(&head[..got]);
            return Ok(got);
        }
        let mut skipped = 0;
        // The room of the caller may be none.
        let mut passed = [0; 16 << 10];
        while self.at < offset && self.ended.is_none() && skipped < SKIP_BYTES {
            let wanted = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(passed.len());
            skipped += self.decode(&mut passed[..wanted])? as u64;
        }
        if self.at < offset || self.ended.is_some() || room.is_empty() {
            return Ok(0);
        }
        self.decode(room)
    }

    /// Begins at the front, which is taken as the head.
    fn rewind(&mut self) -> io::Result<()> {
        self.decoder = self.format.decoder(Cursor { file: self.file.clone(), at: 0 })?;
        (self.at, self.ended) = (0, None);
        let mut head = vec![0; HEAD_BYTES];
        let mut got = 0;
        while got < HEAD_BYTES && self.ended.is_none() {
            got += self.decode(&mut head[got..])?;
        }
        head.truncate(got);
        self.head = head;
        Ok(())
    }

    /// What the decoder gives next. An archive that breaks off has ended there.
    fn decode(&mut self, room: &mut [u8]) -> io::Result<usize> {
        // What is written from now on may not be read.
        let stamp = stamp(&self.file.metadata()?);
        let error = match self.decoder.read(room) {
            Ok(0) if !room.is_empty() => None,
            Ok(got) => {
                self.at += got as u64;
                return Ok(got);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => Some(error),
        };
        self.ended = Some(End { stamp, error });
        Ok(0)
    }

    /// Whether more was written since the end was found, and is settled by now.
    fn has_grown(&self) -> bool {
        let is_other = |end: &End| {
            self.file
                .metadata()
                .is_ok_and(|now| stamp(&now) != end.stamp && age(&now).is_none_or(|age| age >= SETTLED))
        };
        self.ended.as_ref().is_some_and(is_other)
    }
}

fn stamp(file: &Metadata) -> (u64, Option<SystemTime>) {
    (file.len(), file.modified().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn pack(format: Format, content: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match format {
            Format::Gz => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Format::Z => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Format::Bz2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Format::Zst => zstd::encode_all(content, 3).unwrap(),
        }
    }

    fn archive(format: Format, packed: &[u8]) -> Archive {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(packed).unwrap();
        Archive::new(file, format).unwrap()
    }

    /// Everything from `offset`.
    fn rest(archive: &mut Archive, mut offset: u64) -> Vec<u8> {
        let (mut out, mut room) = (Vec::new(), vec![0; 1000]);
        loop {
            let got = archive.read_at(&mut room, offset).unwrap();
            if got == 0 && archive.has_ended() {
                return out;
            }
            out.extend_from_slice(&room[..got]);
            offset += got as u64;
        }
    }

    #[test]
    fn every_format_from_any_offset() {
        let content: Vec<u8> = (0..20_000).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
        for (format, suffix) in
            [(Format::Gz, "gz"), (Format::Z, "z"), (Format::Bz2, "bz2"), (Format::Zst, "zst")]
        {
            let packed = pack(format, &content);
            for offset in [0, 1, 255, 256, 257, 70_000, content.len(), content.len() + 1] {
                let mut archive = archive(format, &packed);
                assert_eq!(archive.head(256).unwrap(), content[..256]);
                let want = content.get(offset..).unwrap_or_default();
                assert!(rest(&mut archive, offset as u64) == want, "{format:?} from {offset}");
                assert_eq!(archive.size(), content.len() as u64);
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(format!("a.{suffix}"));
            std::fs::write(&path, &packed).unwrap();
            assert_eq!(Format::of(&path), Some(format));
            std::fs::write(&path, "text, whatever its name says").unwrap();
            assert_eq!(Format::of(&path), None);
        }
    }

    #[test]
    fn members_follow_each_other_and_broken_ones_end() {
        let mut two = pack(Format::Gz, b"one\n");
        two.extend(pack(Format::Gz, b"two\n"));
        assert_eq!(rest(&mut archive(Format::Gz, &two), 2), b"e\ntwo\n");
        assert_eq!(rest(&mut archive(Format::Gz, &two), 0), b"one\ntwo\n");
        let content = b"some text that repeats itself, some text ".repeat(1000);
        let packed = pack(Format::Gz, &content);
        let got = rest(&mut archive(Format::Gz, &packed[..packed.len() / 2]), 0);
        assert!(content.starts_with(&got) && got.len() < content.len());
        assert_eq!(rest(&mut archive(Format::Gz, b"\x1f\x8bnonsense"), 0), b"");
    }
}
