//! Replacement templates in Go's form: `$1`, `${1}`, `$name`, `${name}`, `$$`.

use super::{Captures, Regex};

/// Appends the template to `out`, with the groups of `found` in place of their references.
/// A reference to a group that does not exist or took no part is empty.
pub(super) fn expand(regex: &Regex, template: &str, text: &str, found: &Captures, out: &mut String) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = reference(after) else {
            // What is no reference stands for itself.
            out.push('$');
            rest = after;
            continue;
        };
        rest = after;
        let group = match number(name) {
            Some(index) => found.get(index),
            None => regex
                .capture_names()
                .iter()
                .enumerate()
                .filter(|(_, n)| n.as_deref() == Some(name))
                .find_map(|(index, _)| found.get(index)),
        };
        if let Some((start, end)) = group {
            out.push_str(&text[start..end]);
        }
    }
    out.push_str(rest);
}

/// Splits a reference, whose `$` is already read, from what follows it. As in Go the longest possible
/// name counts: `$1x` is the group named `1x`.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (braced, text) = text.strip_prefix('{').map_or((false, text), |inner| (true, inner));
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    Some((name, if braced { rest.strip_prefix('}')? } else { rest }))
}

/// The name as a group's index; leading zeros make it a name.
fn number(name: &str) -> Option<usize> {
    let decimal = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if decimal { name.parse().ok() } else { None }
}
