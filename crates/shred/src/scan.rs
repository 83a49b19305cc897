//! What scanners of a syntax have in common: pieces of a line, and where a gap ends.

use crate::{Syntax, json, logfmt, words};

/// Bytes of the literals of a shape, at most: longer lines of structure are kept raw.
pub(crate) const MAX_LITERAL_BYTES: usize = 8 << 10;
/// Gaps of a line that is taken apart, at most.
pub(crate) const MAX_LINE_GAPS: usize = 256;

/// What stands in a gap, and so where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The inside of a JSON string.
    JsonString,
    /// A JSON number, word or array.
    JsonToken,
    /// A logfmt value without quotes.
    LogfmtBare,
    /// The inside of quotes.
    LogfmtQuoted,
    /// A word with a digit.
    Word,
}

impl Content {
    /// Where the gap that starts at `at` ends; `None` if no such gap can start there.
    #[inline]
    pub(crate) fn end(self, line: &[u8], at: usize) -> Option<usize> {
        match self {
            Self::JsonString => json::string_end(line, at),
            Self::JsonToken => json::token_end(line, at),
            Self::LogfmtBare => logfmt::bare_end(line, at),
            Self::LogfmtQuoted => logfmt::quoted_end(line, at),
            Self::Word => words::gap_end(line, at),
        }
    }
}

/// A gap of a parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) content: Content,
    /// The key path, or what else the value is called.
    pub(crate) name: String,
}

/// The gaps of a line, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) syntax: Syntax,
    pub(crate) pieces: Vec<Piece>,
}

/// Takes a line apart by whichever syntax it has. Slow: asked once per structure.
pub(crate) fn parse(line: &str) -> Option<Parsed> {
    let parsed = if line.trim_start().starts_with('{') {
        json::parse(line)
    } else {
        logfmt::parse(line).or_else(|| words::parse(line))
    };
    parsed.filter(|parsed| {
        let gaps: usize = parsed.pieces.iter().map(|p| p.end - p.start).sum();
        parsed.pieces.len() <= MAX_LINE_GAPS && line.len() - gaps <= MAX_LITERAL_BYTES
    })
}
