//! Undoing a transport's compression, with a cap that holds while the output grows.

use std::io::{self, Read};

use bytes::Bytes;

/// How a body was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952, several members allowed.
    Gzip,
    /// RFC 1951 as Loki reads it; a zlib header (RFC 9110's reading of "deflate") is noticed and accepted.
    Deflate,
    /// RFC 1950.
    Zlib,
    /// RFC 8878.
    Zstd,
    /// Snappy's block format: one block with its length in front.
    Snappy,
    /// Snappy's framing format.
    SnappyFramed,
    /// LZ4's frame format.
    Lz4,
}

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The output passes the limit.
    #[error("decompressed body is larger than {limit} bytes: send smaller requests or raise the limit")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The input is not what it says it is.
    #[error("corrupt {encoding:?} body: {problem}")]
    Corrupt {
        /// What it should have been.
        encoding: Encoding,
        /// What the decoder met.
        problem: String,
    },
}

impl Encoding {
    /// Reads a `Content-Encoding` or `grpc-encoding` value; `None` for one we do not know.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, Encoding); 10] = [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("deflate", Encoding::Deflate),
            ("zlib", Encoding::Zlib),
            ("zstd", Encoding::Zstd),
            ("snappy", Encoding::Snappy),
            ("x-snappy-framed", Encoding::SnappyFramed),
            ("lz4", Encoding::Lz4),
        ];
        let text = text.trim();
        NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, encoding)| *encoding)
    }
}

/// Decompresses `body`; the result is never longer than `max` bytes, nor is ever more than that
/// (plus the decoder's window) allocated on the way.
pub fn decompress(body: Bytes, encoding: Encoding, max: usize) -> Result<Bytes, DecompressError> {
    let corrupt = |problem: io::Error| DecompressError::Corrupt { encoding, problem: problem.to_string() };
    let input = body.as_ref();
    match encoding {
        Encoding::Identity if body.len() > max => Err(DecompressError::TooLarge { limit: max }),
        Encoding::Identity => Ok(body),
        Encoding::Gzip => {
            if input.is_empty() {
                return Err(corrupt(io::ErrorKind::UnexpectedEof.into()));
            }
            drain(flate2::bufread::MultiGzDecoder::new(input), input.len(), encoding, max)
        }
        Encoding::Deflate if has_zlib_header(input) => decompress(body, Encoding::Zlib, max),
        Encoding::Deflate => drain(flate2::bufread::DeflateDecoder::new(input), input.len(), encoding, max),
        Encoding::Zlib => drain(flate2::bufread::ZlibDecoder::new(input), input.len(), encoding, max),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(corrupt)?;
            // The decoder allocates the window that the frame asks for: no more than the output may
            // be long, with RFC 8878's 8 MiB as the least that every decoder should take.
            let window = usize::BITS - max.leading_zeros();
            decoder.window_log_max(window.clamp(23, 27)).map_err(corrupt)?;
            drain(decoder, input.len(), encoding, max)
        }
        Encoding::Snappy => snappy_block(input, max),
        Encoding::SnappyFramed => drain(snap::read::FrameDecoder::new(input), input.len(), encoding, max),
        Encoding::Lz4 => drain(lz4_flex::frame::FrameDecoder::new(input), input.len(), encoding, max),
    }
}

/// RFC 1950's two header bytes. No encoder writes them at the start of raw deflate: they would be
/// a stored block with padding bits set.
fn has_zlib_header(input: &[u8]) -> bool {
    matches!(input, [cmf, flags, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0)
}

fn drain(reader: impl Read, input: usize, encoding: Encoding, max: usize) -> Result<Bytes, DecompressError> {
    let mut out = Vec::with_capacity(input.saturating_mul(4).min(max));
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    match reader.take(limit).read_to_end(&mut out) {
        Ok(_) if out.len() > max => Err(DecompressError::TooLarge { limit: max }),
        Ok(_) => Ok(out.into()),
        Err(problem) => Err(DecompressError::Corrupt { encoding, problem: problem.to_string() }),
    }
}

fn snappy_block(input: &[u8], max: usize) -> Result<Bytes, DecompressError> {
    // A copy of 64 bytes takes 3: nothing grows more than 22-fold, whatever the prefix says.
    const MAX_GROWTH: usize = 22;
    let corrupt = |problem: String| DecompressError::Corrupt { encoding: Encoding::Snappy, problem };
    let length = snap::raw::decompress_len(input).map_err(|e| corrupt(e.to_string()))?;
    if length > input.len().saturating_mul(MAX_GROWTH) {
        return Err(corrupt(format!("{} bytes cannot hold the {length} they announce", input.len())));
    }
    if length > max {
        return Err(DecompressError::TooLarge { limit: max });
    }
    snap::raw::Decoder::new().decompress_vec(input).map(Bytes::from).map_err(|e| corrupt(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const ALL: [Encoding; 8] = [
        Encoding::Identity,
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Zlib,
        Encoding::Zstd,
        Encoding::Snappy,
        Encoding::SnappyFramed,
        Encoding::Lz4,
    ];

    fn compress(data: &[u8], encoding: Encoding) -> Bytes {
        let level = flate2::Compression::default();
        let out = match encoding {
            Encoding::Identity => data.to_vec(),
            Encoding::Gzip => {
                let mut w = flate2::write::GzEncoder::new(Vec::new(), level);
                w.write_all(data).unwrap();
                w.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut w = flate2::write::DeflateEncoder::new(Vec::new(), level);
                w.write_all(data).unwrap();
                w.finish().unwrap()
            }
            Encoding::Zlib => {
                let mut w = flate2::write::ZlibEncoder::new(Vec::new(), level);
                w.write_all(data).unwrap();
                w.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(data, 3).unwrap(),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(data).unwrap(),
            Encoding::SnappyFramed => {
                let mut w = snap::write::FrameEncoder::new(Vec::new());
                w.write_all(data).unwrap();
                w.into_inner().unwrap()
            }
            Encoding::Lz4 => {
                let mut w = lz4_flex::frame::FrameEncoder::new(Vec::new());
                w.write_all(data).unwrap();
                w.finish().unwrap()
            }
        };
        out.into()
    }

    #[test]
    fn every_encoding_returns_the_bytes_and_keeps_the_cap() {
        let data: Vec<u8> = (0..200_000u32).flat_map(|i| (i % 1000).to_le_bytes()).collect();
        for encoding in ALL {
            let body = compress(&data, encoding);
            let back = decompress(body.clone(), encoding, data.len());
            assert_eq!(back.as_deref(), Ok(&data[..]), "{encoding:?}");
            let limit = data.len() - 1;
            assert_eq!(
                decompress(body, encoding, limit),
                Err(DecompressError::TooLarge { limit }),
                "{encoding:?}"
            );
        }
    }

    #[test]
    fn truncated_and_foreign_bytes_are_errors() {
        let data: Vec<u8> = (0..10_000u32).flat_map(|i| i.to_le_bytes()).collect();
        for encoding in ALL.into_iter().filter(|e| *e != Encoding::Identity) {
            let body = compress(&data, encoding);
            let cut = decompress(body.slice(..body.len() / 2), encoding, 1 << 20);
            assert!(matches!(cut, Err(DecompressError::Corrupt { .. })), "{encoding:?} cut: {cut:?}");
            let foreign = decompress(Bytes::from_static(b"\xff\xff\xff garbage"), encoding, 1 << 20);
            assert!(
                matches!(foreign, Err(DecompressError::Corrupt { .. })),
                "{encoding:?} foreign: {foreign:?}"
            );
        }
    }

    #[test]
    fn a_lying_length_allocates_nothing() {
        // 2 GiB announced by five bytes.
        let body = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x08, 0x00, b'x']);
        assert!(matches!(
            decompress(body, Encoding::Snappy, usize::MAX),
            Err(DecompressError::Corrupt { .. })
        ));
    }

    #[test]
    fn deflate_with_a_zlib_header_is_read_too() {
        let body = compress(b"hello hello hello", Encoding::Zlib);
        assert_eq!(decompress(body, Encoding::Deflate, 100).as_deref(), Ok(&b"hello hello hello"[..]));
    }

    #[test]
    fn names() {
        assert_eq!(Encoding::parse(" GZIP "), Some(Encoding::Gzip));
        assert_eq!(Encoding::parse(""), Some(Encoding::Identity));
        assert_eq!(Encoding::parse("br"), None);
    }
}
