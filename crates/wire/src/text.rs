//! Text that shares the buffer it was decoded from.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

/// Immutable UTF-8 text, usually a slice of a request's body: cheap to clone, never copied.
///
/// It keeps the whole buffer it was sliced from alive.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Str(ByteString);

impl Str {
    /// An empty text.
    pub const fn new() -> Self {
        Self(ByteString::new())
    }

    /// Shares a text that lives as long as the program.
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// Takes bytes as text; sequences that are not UTF-8 become U+FFFD (only then is there a copy).
    pub fn from_utf8_lossy(bytes: Bytes) -> Self {
        Self::part_of(&bytes, &bytes)
    }

    /// Takes `part`, which must be a slice of `body`, as text that shares the body's buffer; sequences
    /// that are not UTF-8 become U+FFFD (only then is there a copy).
    pub(crate) fn part_of(body: &Bytes, part: &[u8]) -> Self {
        match ByteString::try_from(body.slice_ref(part)) {
            Ok(text) => Self(text),
            Err(_) => Self(String::from_utf8_lossy(part).into_owned().into()),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A part of this text, sharing its buffer. `part` must be a slice of `self`.
    pub(crate) fn slice_ref(&self, part: &str) -> Self {
        Self(self.0.slice_ref(part))
    }

    /// The bytes, sharing the buffer.
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }
}

impl Deref for Str {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Str {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl serde::Serialize for Str {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}
