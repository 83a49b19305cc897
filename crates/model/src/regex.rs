//! Regular expressions with the syntax and the answers of Go's `regexp` (RE2).
//!
//! Users of Loki, Tempo, Promtail and the Collector write Go's syntax; Rust's differs in a few
//! places, so a pattern is translated before it is compiled.

/// A compiled Go regular expression, cheap to clone.
#[derive(Debug, Clone)]
pub struct Regex(::regex::Regex);

/// Why a pattern does not compile, in Go's words where they are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

impl Regex {
    /// Compiles a pattern that may match anywhere in a text.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        ::regex::Regex::new(pattern).map(Self).map_err(|e| RegexError(e.to_string()))
    }

    /// Compiles a pattern that must match a whole text, as label matchers do.
    pub fn anchored(pattern: &str) -> Result<Self, RegexError> {
        Self::new(pattern)?;
        Self::new(&format!("^(?:{pattern})$"))
    }

    /// Whether the pattern matches somewhere in `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}
