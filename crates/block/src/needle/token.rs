//! Tokens: the stretches of a text that can be looked up, and what kinds of them there are.

/// Tokens and fragments of a needle shorter than this are not indexed.
pub(super) const MIN_TOKEN: usize = 8;
/// From this length on, tokens that look like ids give fewer grams.
pub(super) const LONG: usize = 16;
/// From this length on, hexadecimal ids give fewer still.
pub(super) const VERY_LONG: usize = 32;

/// Whether a byte belongs to a token: ASCII letters, digits, `_`, `.`, `-` and everything beyond ASCII.
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-') || byte >= 0x80
}

/// The tokens of a text of at least eight bytes: maximal runs of token bytes.
pub(super) fn tokens(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !TOKEN[*byte as usize]).filter(|token| token.len() >= MIN_TOKEN)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_token_byte(byte as u8);
        byte += 1;
    }
    table
};

/// How a token is indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Words: parts of eight bytes can be found.
    Plain,
    /// Hexadecimal digits and dashes, 16 to 31 bytes: parts of 16 bytes can be found.
    Hex,
    /// Hexadecimal digits and dashes, 32 bytes and more: parts of 32 bytes can be found.
    LongHex,
    /// At least 16 bytes with a digit among them: parts of 16 bytes, and parts of eight bytes without digits, can be found.
    Mixed,
}

impl Kind {
    /// The kind of a token of at least eight bytes.
    pub(super) fn of(token: &[u8]) -> Self {
        if token.len() < LONG {
            Self::Plain
        } else if is_hex(token) {
            if token.len() < VERY_LONG { Self::Hex } else { Self::LongHex }
        } else if has_digit(token) {
            Self::Mixed
        } else {
            Self::Plain
        }
    }
}

/// Only hexadecimal digits and dashes.
pub(super) fn is_hex(token: &[u8]) -> bool {
    token.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-')
}

pub(super) fn has_digit(token: &[u8]) -> bool {
    token.iter().any(u8::is_ascii_digit)
}

/// Whether this can stand inside a number as integers and decimals are written.
pub(super) fn is_numeric(token: &[u8]) -> bool {
    token.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

/// The stretches without digits of at least eight bytes.
pub(super) fn words(token: &[u8]) -> impl Iterator<Item = &[u8]> {
    token.split(u8::is_ascii_digit).filter(|word| word.len() >= MIN_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_kinds() {
        let found: Vec<_> = tokens("a=short, a-longer.one;größerer/0123456789abcdef".as_bytes()).collect();
        assert_eq!(found, ["a-longer.one".as_bytes(), "größerer".as_bytes(), b"0123456789abcdef"]);
        let check = |token: &str, kind| assert_eq!(Kind::of(token.as_bytes()), kind, "{token}");
        check("0123456789abcde", Kind::Plain);
        check("0123456789abcdef", Kind::Hex);
        check("6ba7b810-9dad-11d1-80b4-00c04fd430c8", Kind::LongHex);
        check("request-12345678", Kind::Mixed);
        check("a-long-word-without-digits", Kind::Plain);
        assert_eq!(words(b"abcdefgh1abc2ijklmnopq").collect::<Vec<_>>(), [&b"abcdefgh"[..], b"ijklmnopq"]);
    }
}
