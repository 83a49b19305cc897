//! `decompression`: files that are compressed. They stream: however much comes out, only what is being read is in memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
            Self::Z => Box::new(flate2::read::ZlibDecoder::new(from)),
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

/// A compressed file, read from front to back.
pub(super) struct Archive {
    file: Arc<File>,
    format: Format,
    decoder: Box<dyn Read + Send>,
    /// Offset in the content that the decoder gives next.
    at: u64,
    head: Vec<u8>,
    /// Bytes of the compressed file when its end was found.
    ended: Option<u64>,
    /// It broke off there.
    is_broken: bool,
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
        let mut archive =
            Self { file, format, decoder, at: 0, head: Vec::new(), ended: None, is_broken: false };
        archive.rewind()?;
        Ok(archive)
    }

    /// The compressed file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether everything has come out of it, as far as it is written.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The same, and nothing more will be written: what broke off may still be in the making.
    pub(super) fn is_complete(&self) -> bool {
        let quiet = |m: std::fs::Metadata| age(&m).is_none_or(|age| age >= ABANDONED);
        self.has_ended() && (!self.is_broken || self.file.metadata().is_ok_and(quiet))
    }

    /// Bytes of content; unknown before the end.
    pub(super) fn size(&self) -> u64 {
        match self.ended {
            Some(_) => self.at.max(self.head.len() as u64),
            None => u64::MAX,
        }
    }

    /// The first bytes of the content.
    pub(super) fn head(&self, bytes: u64) -> Option<Vec<u8>> {
        self.head.get(..usize::try_from(bytes).ok()?).map(<[u8]>::to_vec)
    }

    /// Content at `offset`. Nothing at the end, and while the offset is still looked for.
    pub(super) fn read_at(&mut self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.ended.is_some_and(|size| self.has_grown(size)) || offset < self.at {
            self.rewind()?;
        }
        if offset < self.at {
            let head = self.head.get(offset as usize..).unwrap_or_default();
            let got = head.len().min(room.len());
            room[..got].copy_from_slice(&head[..got]);
            return Ok(got);
        }
        let mut skipped = 0;
        while self.at < offset && self.ended.is_none() && skipped < SKIP_BYTES {
            let wanted = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(room.len());
            skipped += self.decode(&mut room[..wanted])? as u64;
        }
        if self.at < offset || self.ended.is_some() {
            return Ok(0);
        }
        self.decode(room)
    }

    /// Begins at the front, which is taken as the head.
    fn rewind(&mut self) -> io::Result<()> {
        self.decoder = self.format.decoder(Cursor { file: self.file.clone(), at: 0 })?;
        (self.at, self.ended, self.is_broken) = (0, None, false);
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
        match self.decoder.read(room) {
            Ok(0) if !room.is_empty() => self.end(None),
            Ok(got) => {
                self.at += got as u64;
                Ok(got)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => self.end(Some(error)),
        }
    }

    fn end(&mut self, error: Option<io::Error>) -> io::Result<usize> {
        (self.ended, self.is_broken) = (Some(self.file.metadata()?.len()), error.is_some());
        if let Some(error) = error {
            tracing::warn!(offset = self.at, %error, "a compressed file breaks off: what can be read of it is read");
        }
        Ok(0)
    }

    /// Whether more was written since the end was found at `size`, and is complete by now.
    fn has_grown(&self, size: u64) -> bool {
        let quiet = |m: &std::fs::Metadata| age(m).is_none_or(|age| age >= SETTLED);
        self.file.metadata().is_ok_and(|m| m.len() != size && quiet(&m))
    }
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
