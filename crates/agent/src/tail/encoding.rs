//! `encoding`: files that are not UTF-8. They are cut into lines first, so that offsets count the file's own bytes.
//!
//! In every encoding with single-byte line ends the byte 0x0A is nothing else, so only UTF-16 is cut in its own way.

use std::borrow::Cow;

use encoding_rs::{UTF_16BE, UTF_16LE};

/// How a file's text is written; UTF-8 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encoding(Option<&'static encoding_rs::Encoding>);

impl Encoding {
    /// By its name as IANA lists it; `None` if it is none. The empty name is UTF-8.
    pub fn named(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::default());
        }
        let found = encoding_rs::Encoding::for_label_no_replacement(name.as_bytes())?;
        Some(Self(Some(found).filter(|e| *e != encoding_rs::UTF_8)))
    }

    /// The one of the two UTF-16 that the file's first bytes name; itself, if they name none.
    pub(super) fn with_mark(self, first: &[u8]) -> Self {
        match first {
            [0xfe, 0xff, ..] if self.is_wide() => Self(Some(UTF_16BE)),
            [0xff, 0xfe, ..] if self.is_wide() => Self(Some(UTF_16LE)),
            _ => self,
        }
    }

    /// Where the first line ends in `bytes`, which begin with a character.
    pub(super) fn line_end(self, bytes: &[u8]) -> Option<usize> {
        if !self.is_wide() {
            return memchr::memchr(b'\n', bytes);
        }
        let (high, low) = if self.0 == Some(UTF_16BE) { (0, 1) } else { (1, 0) };
        let mut ends = memchr::memchr_iter(b'\n', bytes).filter(|at| at % 2 == low);
        ends.find(|at| bytes.get(at - low + high) == Some(&0)).map(|at| at - low)
    }

    /// Bytes of a line end.
    pub(super) fn line_end_bytes(self) -> usize {
        if self.is_wide() { 2 } else { 1 }
    }

    /// The largest number of bytes up to `bytes` that does not cut a character's unit.
    pub(super) fn whole(self, bytes: usize) -> usize {
        if self.is_wide() { (bytes & !1).max(2) } else { bytes }
    }

    /// The text of the line at `offset` of the file; what is no text becomes U+FFFD.
    pub(super) fn decode(self, line: &[u8], offset: u64) -> Cow<'_, str> {
        match self.0 {
            None if offset == 0 => {
                String::from_utf8_lossy(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line))
            }
            None => String::from_utf8_lossy(line),
            Some(encoding) if offset == 0 => encoding.decode_with_bom_removal(line).0,
            Some(encoding) => encoding.decode_without_bom_handling(line).0,
        }
    }

    /// Whether bytes that are UTF-8 are its text as they are.
    pub(super) fn is_utf8(self) -> bool {
        self.0.is_none()
    }

    /// Whether its units are of two bytes.
    pub(super) fn is_wide(self) -> bool {
        self.0 == Some(UTF_16LE) || self.0 == Some(UTF_16BE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(encoding: Encoding, bytes: &[u8]) -> Vec<String> {
        let (encoding, mut at, mut out) = (encoding.with_mark(bytes), 0, Vec::new());
        while let Some(end) = encoding.line_end(&bytes[at..]) {
            out.push(encoding.decode(&bytes[at..at + end], at as u64).into_owned());
            at += end + encoding.line_end_bytes();
        }
        out
    }

    #[test]
    fn lines_of_encodings() {
        // U+0A0A and U+010A hold the byte of a line end, U+0A00 is one the other way round.
        let text = "\u{feff}hé\u{a0a}\u{10a}\u{a00}\n\nend\n";
        let want = ["hé\u{a0a}\u{10a}\u{a00}", "", "end"];
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for name in ["utf-16", "UTF-16LE", "utf-16be"] {
            let encoding = Encoding::named(name).unwrap();
            assert_eq!(lines(encoding, &little), want, "{name}");
            assert_eq!(lines(encoding, &big), want, "{name}");
        }
        assert_eq!(lines(Encoding::named("iso-8859-1").unwrap(), b"h\xe9\n\xa4\n"), ["hé", "¤"]);
        assert_eq!(lines(Encoding::named("").unwrap(), b"\xef\xbb\xbfh\xc3\xa9\n\xff\n"), ["hé", "\u{fffd}"]);
        assert_eq!(lines(Encoding::named("Shift_JIS").unwrap(), b"\x83\x5c\n"), ["ソ"]);
        assert_eq!(Encoding::named("utf-5"), None);
    }
}
