//! Trace and span ids, as W3C Trace Context and OTLP define them.

use std::fmt;

/// Why a text or byte string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A character that is not a hex digit; `at` counts from 1.
    #[error("trace IDs can only contain hex characters: invalid character '{bad}' at position {at}")]
    NotHex {
        /// The character.
        bad: char,
        /// Where it stands, from 1.
        at: usize,
    },
    /// More than 32 digits.
    #[error("trace IDs can't be larger than 128 bits")]
    TooLong,
}

/// A trace id: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TraceId(pub [u8; 16]);

/// A span id: 8 bytes; all zero means none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// Parses hex of any case. Fewer than 32 digits are padded with zeros on the left, as Tempo does.
    pub fn parse_hex(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self)
    }

    /// Takes 16 bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Hex without leading zeros, as search answers show ids.
    pub fn short_hex(&self) -> String {
        let full = self.to_string();
        full.trim_start_matches('0').to_owned()
    }

    /// Whether all bytes are zero, which OTLP calls invalid.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl SpanId {
    /// Parses hex of any case, padded with zeros on the left to 16 digits.
    pub fn parse_hex(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self)
    }

    /// Takes 8 bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Whether all bytes are zero: no span.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 8]
    }
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    if let Some((i, bad)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(IdError::NotHex { bad, at: i + 1 });
    }
    if text.len() > 2 * N {
        return Err(IdError::TooLong);
    }
    let mut out = [0; N];
    for (i, c) in text.bytes().rev().enumerate() {
        let digit = (c as char).to_digit(16).unwrap_or_default() as u8;
        out[N - 1 - i / 2] |= digit << (4 * (i % 2));
    }
    Ok(out)
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

macro_rules! shown_as_hex {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }
    )*};
}
shown_as_hex!(TraceId, SpanId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_of_any_length() {
        assert_eq!(TraceId::parse_hex("abc").unwrap().to_string(), format!("{:0>32}", "abc"));
        assert_eq!(TraceId::parse_hex("0ABC").unwrap().short_hex(), "abc");
        assert_eq!(TraceId::parse_hex("12x4"), Err(IdError::NotHex { bad: 'x', at: 3 }));
        assert_eq!(TraceId::parse_hex(&"1".repeat(33)), Err(IdError::TooLong));
        assert_eq!(SpanId::parse_hex("53995c3f42cd8ad8").unwrap().to_string(), "53995c3f42cd8ad8");
    }
}
