//! Label matchers: `app="x"`, `env!="p"`, `job=~"a.*"`, `job!~"b.*"`.

use std::fmt;

use crate::labels::{Labels, quote};
use crate::regex::{Regex, RegexError};

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl MatchOp {
    /// The operator as written in a query.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A condition on the value of one label. A label that is missing counts as empty.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

/// The matcher's regular expression does not compile.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct MatcherError(#[from] RegexError);

impl Matcher {
    /// Makes a matcher; compiles `value` for the regex operators (Go syntax, anchored).
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, MatcherError> {
        let value = value.into();
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(Regex::anchored(&value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: name.into(), op, value, regex })
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The right side as written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with this value passes; a missing label has the value `""`.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, regex) => regex.as_ref().is_some_and(|r| r.is_match(value)),
            (MatchOp::NotRegex, regex) => !regex.as_ref().is_some_and(|r| r.is_match(value)),
        }
    }

    /// Whether the label set passes.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name).unwrap_or_default())
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.name, self.op.as_str(), quote(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_are_anchored_and_missing_is_empty() {
        let labels = Labels::from_pairs([("app", "foobar")]);
        let check = |name, op, value| Matcher::new(name, op, value).unwrap().matches_labels(&labels);
        assert!(check("app", MatchOp::Equal, "foobar"));
        assert!(!check("app", MatchOp::Regex, "foo"));
        assert!(check("app", MatchOp::Regex, "foo.*"));
        assert!(check("app", MatchOp::NotRegex, "foo"));
        assert!(check("none", MatchOp::Equal, ""));
        assert!(check("none", MatchOp::NotEqual, "x"));
        assert!(Matcher::new("a", MatchOp::Regex, "(").is_err());
    }
}
