//! `${…}`: environment variables in configuration files, in Loki's and in the Collector's dialect.

use super::node::{self, Kind, Node, ParseError};

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expansions in one document, nested ones included.
const MAX_EXPANSIONS: usize = 10_000;
/// Expansions inside each other in one scalar (the Collector's own bound is 100).
const MAX_DEPTH: usize = 20;

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Loki's dialect, in the whole text: see [`super::Dialect::Loki`]. What does not look like a variable (`${1}` of a
/// replacement, `$1`, `{{ }}`) stays as it is.
pub(super) fn text(text: &str, all: bool, variable: Lookup<'_>, warnings: &mut Vec<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(if all { &['$', '\\'][..] } else { &['$'][..] }) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if all && (rest.starts_with("$$") || rest.starts_with("\\\\")) {
            out.push_str(&rest[..1]);
            rest = &rest[2..];
            continue;
        }
        let reference = rest.strip_prefix("${").and_then(|inner| Some((inner, inner.find('}')?)));
        if let Some((inner, end)) = reference {
            let (name, default) = match inner[..end].split_once(":-").or_else(|| inner[..end].split_once('-'))
            {
                Some((name, default)) => (name, Some(default)),
                None => (&inner[..end], None),
            };
            // An empty variable takes the default too: `:-` as in a shell.
            let value = variable(name).filter(|value| default.is_none() || !value.is_empty());
            if is_name(name) && (all || default.is_some() || value.is_some()) {
                if value.is_none() && default.is_none() {
                    warnings.push(format!("environment variable {name} is not set: `${{{name}}}` is empty"));
                }
                out.push_str(value.as_deref().or(default).unwrap_or_default());
                rest = &inner[end + 1..];
                continue;
            }
        }
        out.push_str(&rest[..1]);
        rest = &rest[1..];
    }
    out.push_str(rest);
    out
}

/// The Collector's dialect, in every scalar of the tree (keys stay).
pub(super) fn tree(
    node: &mut Node,
    variable: Lookup<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), ParseError> {
    Expansion { variable, warnings, count: 0 }.tree(node)
}

struct Expansion<'a> {
    variable: Lookup<'a>,
    warnings: &'a mut Vec<String>,
    count: usize,
}

impl Expansion<'_> {
    fn tree(&mut self, node: &mut Node) -> Result<(), ParseError> {
        let line = node.origin.line;
        match &mut node.kind {
            Kind::List(items) => items.iter_mut().try_for_each(|item| self.tree(item)),
            Kind::Map(entries) => entries.iter_mut().try_for_each(|(_, value)| self.tree(value)),
            Kind::Scalar { text, plain } if text.contains('$') => {
                let failed = |message| ParseError { line, message };
                let whole = end_of_reference(text) == Some(text.len());
                let expanded = self.scalar(text, 0).map_err(failed)?;
                if !whole {
                    // Part of a text: text it stays, as far as a text field or a typed one will have it.
                    *plain &= !expanded.trim().is_empty();
                    *text = expanded;
                    return Ok(());
                }
                // The whole scalar: maps and lists become such, other values keep their text, so that a text field
                // gets it as it was and a number field a number.
                let value = node::parse(&expanded, node.origin.layer)
                    .unwrap_or_else(|_| Node::scalar(&expanded, false));
                node.kind = match value.kind {
                    Kind::Scalar { text: inner, plain: false } if expanded.starts_with(['"', '\'']) => {
                        Kind::Scalar { text: inner, plain: false }
                    }
                    Kind::Scalar { .. } => Kind::Scalar { text: expanded, plain: true },
                    collection => collection,
                };
                Ok(())
            }
            Kind::Scalar { .. } => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, depth: usize) -> Result<String, String> {
        if depth > MAX_DEPTH {
            return Err(format!("`${{` inside `${{` is nested deeper than {MAX_DEPTH} levels"));
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$$") {
                out.push('$');
                rest = after;
            } else if let Some(end) = end_of_reference(rest) {
                self.count += 1;
                if self.count > MAX_EXPANSIONS {
                    return Err(format!("more than {MAX_EXPANSIONS} `${{…}}` in one document"));
                }
                let inner = self.scalar(&rest[2..end - 1], depth + 1)?;
                out.push_str(&self.reference(&inner)?);
                rest = &rest[end..];
            } else {
                out.push('$');
                rest = &rest[1..];
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn reference(&mut self, inner: &str) -> Result<String, String> {
        if let Some(path) = inner.strip_prefix("file:") {
            return std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read `${{file:{path}}}`: {error}"));
        }
        let variable = match inner.split_once(':') {
            Some(("env", rest)) => rest,
            Some((scheme, rest)) if !rest.starts_with('-') => {
                return Err(format!("`${{{inner}}}`: scheme `{scheme}` is not known: use env or file"));
            }
            _ => inner,
        };
        let (name, default) = match variable.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (variable, None),
        };
        if !is_name(name) {
            return Err(format!(
                "`${{{inner}}}`: `{name}` is not the name of an environment variable: write $$ for a dollar"
            ));
        }
        match ((self.variable)(name), default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => {
                self.warnings
                    .push(format!("environment variable {name} is not set: `${{{inner}}}` is empty"));
                Ok(String::new())
            }
        }
    }
}

/// Where the `${…}` at the start of `text` ends, with the braces inside it matched.
fn end_of_reference(text: &str) -> Option<usize> {
    if !text.starts_with("${") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("${") {
            depth += 1;
            at += 2;
        } else if rest.starts_with('}') {
            depth -= 1;
            at += 1;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}
