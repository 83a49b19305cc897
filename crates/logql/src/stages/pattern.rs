//! Patterns: `"<ip> - <_> [<time>]"` as a parser and `|> "<_> took <_>"` as a line filter.

use memchr::memmem;

use super::StageError;
use crate::names::{NameId, Names};
use crate::row::Row;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// Empty for `<_>`.
    Capture(String),
}

fn parts(pattern: &str) -> Result<Vec<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    let mut literal = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let Some(name) = capture(rest) else {
            literal.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        } else if let Some(Part::Capture(before)) = parts.last() {
            let shown = if before.is_empty() { "_" } else { before };
            return Err(format!("found consecutive capture '<{shown}><{name}>': invalid expression"));
        }
        parts.push(Part::Capture(if name == "_" { String::new() } else { name.to_owned() }));
        rest = &rest[name.len() + 2..];
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// The name of the capture that `rest` starts with.
fn capture(rest: &str) -> Option<&str> {
    let (name, _) = rest.strip_prefix('<')?.split_once('>')?;
    model::is_label_name(name).then_some(name)
}

/// The line filter `|>`.
#[derive(Debug, Clone)]
pub(super) struct PatternFilter {
    literals: Vec<memmem::Finder<'static>>,
    /// Whether a placeholder stands before the first literal.
    leading: bool,
    /// Whether one stands after the last.
    trailing: bool,
}

impl PatternFilter {
    pub(super) fn compile(pattern: &str) -> Result<Self, StageError> {
        let parts = parts(pattern).map_err(StageError::Stage)?;
        let mut literals = Vec::new();
        for part in &parts {
            match part {
                Part::Literal(text) => literals.push(memmem::Finder::new(text).into_owned()),
                Part::Capture(name) if name.is_empty() => {}
                Part::Capture(name) => {
                    return Err(StageError::Stage(format!(
                        "named captures are not allowed in line filters: <{name}>"
                    )));
                }
            }
        }
        Ok(Self {
            literals,
            leading: matches!(parts.first(), Some(Part::Capture(_))),
            trailing: matches!(parts.last(), Some(Part::Capture(_))),
        })
    }

    /// Literals in order, each placeholder covering at least a byte; anything may stand before a leading literal.
    pub(super) fn is_match(&self, line: &str) -> bool {
        if self.literals.is_empty() {
            return line.is_empty() != self.trailing;
        }
        let mut rest = line.as_bytes();
        for (i, literal) in self.literals.iter().enumerate() {
            let Some(found) = literal.find(rest) else { return false };
            if found == 0 && (i > 0 || self.leading) {
                return false;
            }
            rest = &rest[found + literal.needle().len()..];
        }
        rest.is_empty() != self.trailing
    }

    /// The longest text that every matching line contains.
    pub(super) fn longest(&self) -> Option<&memmem::Finder<'static>> {
        self.literals.iter().max_by_key(|literal| literal.needle().len())
    }

    /// Texts that every matching line contains.
    pub(super) fn needles(&self) -> impl Iterator<Item = &str> {
        self.literals.iter().filter_map(|l| std::str::from_utf8(l.needle()).ok())
    }
}

/// The stage `| pattern`.
#[derive(Debug, Clone)]
pub(crate) struct PatternParser {
    /// What must stand at the start.
    prefix: String,
    /// Each capture (`None` for `<_>`) and the literal that ends it, if one follows.
    captures: Vec<(Option<NameId>, Option<memmem::Finder<'static>>)>,
}

impl PatternParser {
    pub(super) fn compile(pattern: &str, names: &mut Names) -> Result<Self, StageError> {
        let invalid = |problem: String| StageError::Invalid(format!("invalid pattern parser: {problem}"));
        let mut parts = parts(pattern).map_err(invalid)?.into_iter().peekable();
        let prefix = match parts.next_if(|p| matches!(p, Part::Literal(_))) {
            Some(Part::Literal(text)) => text,
            _ => String::new(),
        };
        let mut captures: Vec<(Option<NameId>, Option<memmem::Finder<'static>>)> = Vec::new();
        for part in parts {
            match part {
                Part::Literal(text) => {
                    if let Some(last) = captures.last_mut() {
                        last.1 = Some(memmem::Finder::new(&text).into_owned());
                    }
                }
                Part::Capture(name) => {
                    let id = (!name.is_empty()).then(|| names.id(&name));
                    if id.is_some() && captures.iter().any(|(other, _)| *other == id) {
                        return Err(invalid(format!("duplicate capture name ({name}): invalid expression")));
                    }
                    captures.push((id, None));
                }
            }
        }
        if captures.iter().all(|(name, _)| name.is_none()) {
            return Err(invalid("at least one capture is required".to_owned()));
        }
        Ok(Self { prefix, captures })
    }

    /// What must stand at the start.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The captures (`None` for `<_>`) with the literal that ends each, if one follows.
    pub(crate) fn captures(&self) -> impl Iterator<Item = (Option<NameId>, Option<&[u8]>)> {
        self.captures.iter().map(|(name, end)| (*name, end.as_ref().map(|end| end.needle())))
    }

    pub(super) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) {
        if row.is_complete() {
            return;
        }
        row.with_line(|line, row| {
            let mut at = match line.text.strip_prefix(&self.prefix) {
                Some(_) => self.prefix.len(),
                None => return,
            };
            if line.text.is_empty() {
                return;
            }
            for (name, end) in &self.captures {
                let found = end
                    .as_ref()
                    .and_then(|end| Some((end.find(&line.text.as_bytes()[at..])?, end.needle().len())));
                let stop = found.map_or(line.text.len(), |(found, _)| at + found);
                if let Some(name) = name {
                    let name = row.parsed_name(*name, names);
                    if row.accepts(name) {
                        row.add(name, line.slice(at, stop));
                    }
                }
                match found {
                    Some((found, length)) => at += found + length,
                    None => return,
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter() {
        let check = |pattern: &str, line: &str, want: bool| {
            assert_eq!(PatternFilter::compile(pattern).unwrap().is_match(line), want, "{pattern} on {line}");
        };
        check("foo <_> bar", "foo 12 bar", true);
        check("foo <_> bar", "x foo 12 bar", true);
        check("12 <_>", "foo 12 bar", true);
        check("<_> 12", "foo 12 bar", false);
        check("<_>ok<_>", "it is ok now", true);
        check("<_>ok<_>", "ok now", false);
        check("<_>ok<_>", "it is ok", false);
        check("", "", true);
        check("", "a", false);
        check("<_>", "a", true);
        check("<_>", "", false);
        check("a", "xa", true);
        assert!(matches!(PatternFilter::compile("<x> b"), Err(StageError::Stage(_))));
        assert!(matches!(PatternFilter::compile("<_><_>"), Err(StageError::Stage(_))));
    }

    #[test]
    fn parser_rules() {
        let check = |pattern: &str, ok: bool| {
            assert_eq!(PatternParser::compile(pattern, &mut Names::new()).is_ok(), ok, "{pattern}");
        };
        check("<ip> <_>", true);
        check("a < b <c>", true);
        check("<_> x", false);
        check("<a><b>", false);
        check("<a> <a>", false);
        check("x", false);
    }
}
