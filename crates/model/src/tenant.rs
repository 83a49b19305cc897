//! Tenants: whose data a row is.

use std::fmt;
use std::sync::Arc;

/// A validated tenant id, cheap to clone.
///
/// Rules as Loki and Tempo document them: letters, digits and `! - _ . * ' ( )`, at most 150
/// bytes, neither `.` nor `..`; so an id is always one safe segment of an object store path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

/// Why a text is not a tenant id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// Nothing was given.
    #[error("no org id")]
    Missing,
    /// The id is longer than 150 bytes.
    #[error("tenant ID is too long: max 150 characters, received {0}")]
    TooLong(usize),
    /// The id holds a character that is not allowed.
    #[error("tenant ID '{id}' contains unsupported character '{bad}'")]
    Character {
        /// The id as given.
        id: String,
        /// Its first bad character.
        bad: char,
    },
    /// The id is `.` or `..`.
    #[error("tenant ID is '.' or '..'")]
    Unsafe,
    /// Several ids were given where one must be named.
    #[error("multiple org IDs present")]
    Multiple,
}

impl TenantId {
    /// The longest id in bytes.
    pub const MAX_BYTES: usize = 150;

    /// Parses one tenant id. A `:` and everything after it is cut off.
    pub fn parse(text: &str) -> Result<Self, TenantError> {
        let id = text.split(':').next().unwrap_or_default();
        if id.is_empty() {
            return Err(TenantError::Missing);
        }
        if id.len() > Self::MAX_BYTES {
            return Err(TenantError::TooLong(id.len()));
        }
        if id.contains('|') {
            return Err(TenantError::Multiple);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
        if let Some(bad) = id.chars().find(|c| !allowed(*c)) {
            return Err(TenantError::Character { id: id.to_owned(), bad });
        }
        if id == "." || id == ".." {
            return Err(TenantError::Unsafe);
        }
        Ok(Self(id.into()))
    }

    /// Parses the `A|B|C` form of a read, sorted and without duplicates.
    pub fn parse_many(text: &str) -> Result<Vec<Self>, TenantError> {
        let mut ids = text.split('|').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses() {
        assert_eq!(TenantId::parse("team-a_1.*'()!").unwrap().as_str(), "team-a_1.*'()!");
        assert_eq!(TenantId::parse("a:b").unwrap().as_str(), "a");
        assert_eq!(TenantId::parse(""), Err(TenantError::Missing));
        assert_eq!(TenantId::parse(".."), Err(TenantError::Unsafe));
        assert_eq!(TenantId::parse("a|b"), Err(TenantError::Multiple));
        assert_eq!(TenantId::parse(&"x".repeat(151)), Err(TenantError::TooLong(151)));
        assert!(matches!(TenantId::parse("a/b"), Err(TenantError::Character { bad: '/', .. })));
        let many = TenantId::parse_many("b|a|b").unwrap();
        assert_eq!(many.iter().map(TenantId::as_str).collect::<Vec<_>>(), ["a", "b"]);
    }
}
