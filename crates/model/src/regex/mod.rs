//! Regular expressions with the syntax and the answers of Go's `regexp` (RE2).
//!
//! Users of Loki, Tempo, Promtail and the Collector write Go's syntax. Rust's engines give the same
//! leftmost-first matches, but Rust's syntax differs in many places, some of them silently (`[a&&b]`,
//! `\<`, `\d`). So patterns have their own parser, and only its result goes to the engines.
//!
//! Known to differ from Go 1.27: Unicode tables are those of version 16; patterns nested deeper than 250
//! parentheses and patterns compiled to more than 16 MiB are refused earlier than by Go.

mod automaton;
mod class;
mod literal;
mod parse;
mod template;

pub use automaton::{Automaton, State};

use std::fmt;
use std::sync::Arc;

use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::{Input, meta};
use regex_syntax::hir::{Hir, Look};

/// What one compiled pattern may take in memory, in bytes.
const SIZE_LIMIT: usize = 16 << 20;
/// More alternatives than this are not worth knowing one by one.
const MAX_ALTERNATIVES: usize = 128;

/// A compiled Go regular expression, cheap to clone.
#[derive(Clone)]
pub struct Regex(Arc<Compiled>);

struct Compiled {
    engine: meta::Regex,
    pattern: String,
    names: Vec<Option<String>>,
    required_literal: Option<String>,
    alternatives: Option<Vec<String>>,
}

/// Why a pattern does not compile, in Go's words: `missing closing ): `(`` after the fixed beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct RegexError(pub String);

/// Where a match and its groups lie, as byte offsets into the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captures(Vec<Option<NonMaxUsize>>);

impl Captures {
    /// Start and end of group `index`; group 0 is the whole match. `None` if the group took no part.
    pub fn get(&self, index: usize) -> Option<(usize, usize)> {
        let at = index.checked_mul(2)?;
        match self.0.get(at..at.checked_add(2)?)? {
            [Some(start), Some(end)] => Some((start.get(), end.get())),
            _ => None,
        }
    }

    /// The number of groups including the whole match.
    #[allow(clippy::len_without_is_empty, reason = "there is always the whole match")]
    pub fn len(&self) -> usize {
        self.0.len() / 2
    }

    fn whole(&self) -> (usize, usize) {
        self.get(0).unwrap_or_default()
    }
}

impl Regex {
    /// Compiles a pattern that may match anywhere in a text.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let parsed = parse::parse(pattern, false)?;
        let alternatives = literal::alternatives(&parsed.hir, MAX_ALTERNATIVES);
        Self::compile(pattern, parsed.hir, parsed.names, alternatives)
    }

    /// Compiles a pattern that must match a whole text, as label matchers do; `.` matches line breaks too.
    pub fn anchored(pattern: &str) -> Result<Self, RegexError> {
        let parsed = parse::parse(pattern, true)?;
        let alternatives = literal::alternatives(&parsed.hir, MAX_ALTERNATIVES);
        let whole = Hir::concat(vec![Hir::look(Look::Start), parsed.hir, Hir::look(Look::End)]);
        Self::compile(pattern, whole, parsed.names, alternatives)
    }

    fn compile(
        pattern: &str,
        hir: Hir,
        names: Vec<Option<String>>,
        alternatives: Option<Vec<String>>,
    ) -> Result<Self, RegexError> {
        let config = meta::Config::new().utf8_empty(true).nfa_size_limit(Some(SIZE_LIMIT));
        let engine = meta::Regex::builder().configure(config).build_from_hir(&hir).map_err(|error| {
            let what = if error.size_limit().is_some() { "expression too large" } else { "internal error" };
            RegexError(format!("{what}: `{pattern}`"))
        })?;
        Ok(Self(Arc::new(Compiled {
            engine,
            pattern: pattern.to_owned(),
            names,
            required_literal: literal::required(&hir),
            alternatives,
        })))
    }

    /// Bytes of memory that the compiled pattern takes, without the engines' scratch space.
    pub fn memory_usage(&self) -> usize {
        self.0.engine.memory_usage()
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0.pattern
    }

    /// The names of the groups by index; index 0 is the whole match and has none. Two groups may share a name.
    pub fn capture_names(&self) -> &[Option<String>] {
        &self.0.names
    }

    /// Whether the pattern matches somewhere in `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.engine.is_match(text)
    }

    /// The leftmost match.
    pub fn find(&self, text: &str) -> Option<(usize, usize)> {
        self.find_at(text, 0)
    }

    /// The leftmost match that begins at byte `start` or later; `^` and `\b` see the text before `start`.
    pub fn find_at(&self, text: &str, start: usize) -> Option<(usize, usize)> {
        if start > text.len() {
            return None;
        }
        let found = self.0.engine.search(&Input::new(text).range(start..))?;
        Some((found.start(), found.end()))
    }

    /// The leftmost match with its groups.
    pub fn captures(&self, text: &str) -> Option<Captures> {
        self.captures_at(text, 0)
    }

    /// The leftmost match that begins at byte `start` or later, with its groups.
    pub fn captures_at(&self, text: &str, start: usize) -> Option<Captures> {
        let mut found = Captures::default();
        self.captures_into(text, start, &mut found).then_some(found)
    }

    /// As [`Regex::captures_at`], into room that is used again. Returns whether there is a match.
    pub fn captures_into(&self, text: &str, start: usize, found: &mut Captures) -> bool {
        found.0.clear();
        found.0.resize(self.0.names.len() * 2, None);
        start <= text.len()
            && self.0.engine.search_slots(&Input::new(text).range(start..), &mut found.0).is_some()
    }

    /// All matches from left to right, without overlaps and without empty matches right behind another one.
    pub fn captures_iter<'r, 't>(&'r self, text: &'t str) -> impl Iterator<Item = Captures> + use<'r, 't> {
        let (mut next, mut previous_end) = (Some(0), None);
        std::iter::from_fn(move || {
            loop {
                let at = next?;
                let found = self.captures_at(text, at)?;
                let (start, end) = found.whole();
                let accept = end != at || previous_end != Some(start);
                next = if end == at { after(text, at) } else { Some(end) };
                previous_end = Some(end);
                if accept {
                    return Some(found);
                }
            }
        })
    }

    /// Replaces every match by the template, in which `$1`, `${1}`, `$name` and `${name}` stand for groups
    /// and `$$` for a dollar. The longest name counts: `$1x` is the group `1x`.
    pub fn replace_all(&self, text: &str, template: &str) -> String {
        self.replace_all_with(text, |found, out| template::expand(self, template, text, found, out))
    }

    /// Replaces every match by what `replacement` appends to the text it is given.
    pub fn replace_all_with(
        &self,
        text: &str,
        mut replacement: impl FnMut(&Captures, &mut String),
    ) -> String {
        let mut out = String::with_capacity(text.len());
        let (mut copied, mut next) = (0, Some(0));
        let mut found = Captures::default();
        while let Some(at) = next
            && self.captures_into(text, at, &mut found)
        {
            let (start, end) = found.whole();
            out.push_str(&text[copied..start]);
            // No replacement of an empty match right behind another match.
            if end > copied || start == 0 {
                replacement(&found, &mut out);
            }
            copied = end;
            next = if end > at { Some(end) } else { after(text, at) };
        }
        out.push_str(&text[copied..]);
        out
    }

    /// A text that every match contains, for skipping texts cheaply. Not every pattern has one.
    pub fn required_literal(&self) -> Option<&str> {
        self.0.required_literal.as_deref()
    }

    /// The only text that a match can be, if the pattern is a plain text without operators.
    pub fn as_literal(&self) -> Option<&str> {
        match self.alternatives()? {
            [only] => Some(only),
            _ => None,
        }
    }

    /// All texts that a match can be, if they are few (`foo|ba[rz]`), whether or not [`anchored`](Self::anchored).
    pub fn alternatives(&self) -> Option<&[String]> {
        self.0.alternatives.as_deref()
    }

    /// As [`Regex::is_match`], of bytes that need not be UTF-8: a wrong byte counts as U+FFFD, as in Go.
    pub fn is_match_bytes(&self, bytes: &[u8]) -> bool {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.is_match(text),
            Err(_) => self.is_match(&lossy(bytes).0),
        }
    }

    /// As [`Regex::captures`], of bytes that need not be UTF-8: a wrong byte counts as U+FFFD, as in Go.
    pub fn captures_bytes(&self, bytes: &[u8]) -> Option<Captures> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return self.captures(text);
        }
        let (text, offsets) = lossy(bytes);
        let mut found = self.captures(&text)?;
        for slot in found.0.iter_mut().flatten() {
            *slot = NonMaxUsize::new(offsets[slot.get()]).unwrap_or(*slot);
        }
        Some(found)
    }
}

/// The offset behind the character at `at`; `None` at the end.
fn after(text: &str, at: usize) -> Option<usize> {
    text[at..].chars().next().map(|c| at + c.len_utf8())
}

/// The bytes with U+FFFD for each byte that is not part of a character, and for each offset of the result
/// the offset it had.
fn lossy(bytes: &[u8]) -> (String, Vec<usize>) {
    let (mut text, mut offsets, mut at) = (String::with_capacity(bytes.len()), Vec::new(), 0);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        offsets.extend(at..at + chunk.valid().len());
        at += chunk.valid().len();
        for _ in chunk.invalid() {
            text.push(char::REPLACEMENT_CHARACTER);
            offsets.extend([at; 3]);
            at += 1;
        }
    }
    offsets.push(at);
    (text, offsets)
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Regex").field(&self.0.pattern).finish()
    }
}

#[cfg(test)]
mod tests;
