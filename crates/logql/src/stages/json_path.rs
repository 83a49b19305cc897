//! `| json label="a.b[0]"`: chosen values of a JSON line.

use super::StageError;
use super::json::text;
use super::json_text::{Scanner, Value, unescape};
use crate::ast::Extraction;
use crate::names::{NameId, Names};
use crate::row::{Row, Text};

/// The compiled stage.
#[derive(Debug, Clone)]
pub(crate) struct JsonPaths(Vec<(NameId, Vec<Step>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl JsonPaths {
    pub(super) fn compile(extractions: &[Extraction], names: &mut Names) -> Result<Self, StageError> {
        let path = |e: &Extraction| {
            let steps = parse(&e.expression).ok_or_else(|| {
                StageError::Stage(format!("cannot parse expression [{}]: invalid json path", e.expression))
            })?;
            Ok((names.id(&e.label), steps))
        };
        Ok(Self(extractions.iter().map(path).collect::<Result<_, _>>()?))
    }

    /// The labels with their paths, `None` for a path that is more than keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (NameId, Option<Vec<&str>>)> {
        self.0.iter().map(|(name, path)| {
            let keys = path.iter().map(|step| match step {
                Step::Key(key) => Some(key.as_str()),
                Step::Index(_) => None,
            });
            (*name, keys.collect())
        })
    }

    pub(super) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) {
        row.with_line(|line, row| {
            let mut scanner = Scanner::new(line.text);
            if scanner.token() != Some(b'{') {
                row.fail("JSONParserErr", None);
                return;
            }
            for (name, path) in &self.0 {
                let name = row.parsed_name(*name, names);
                if !row.wants(name) {
                    continue;
                }
                let value = find(Scanner::new(line.text), path)
                    .map_or(Text::Batch(""), |value| text(&line, value, row));
                row.set(name, value);
            }
        });
    }
}

/// Follows the path from the start of `scanner`'s value.
fn find(mut scanner: Scanner<'_>, path: &[Step]) -> Option<Value> {
    let Some((step, rest)) = path.split_first() else { return scanner.value().ok() };
    match step {
        Step::Key(wanted) => {
            let mut more = scanner.open().ok()?;
            while more {
                let (start, end, escaped) = scanner.key().ok()??;
                let raw = &scanner.text[start..end];
                let found = if escaped {
                    let mut key = String::new();
                    std::str::from_utf8(raw).is_ok_and(|raw| unescape(raw, &mut key)) && key == *wanted
                } else {
                    raw == wanted.as_bytes()
                };
                if found {
                    return find(scanner, rest);
                }
                scanner.value().ok()?;
                more = scanner.next_member().ok()?;
            }
            None
        }
        Step::Index(index) => {
            if scanner.token() != Some(b'[') {
                return None;
            }
            scanner.at += 1;
            if scanner.token() == Some(b']') {
                return None;
            }
            for _ in 0..*index {
                scanner.value().ok()?;
                if scanner.token() != Some(b',') {
                    return None;
                }
                scanner.at += 1;
            }
            find(scanner, rest)
        }
    }
}

/// Parses `a.b`, `a[0]`, `["weird key"]` and combinations of them.
fn parse(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            if let Some(quoted) = inner.strip_prefix('"') {
                let end = closing_quote(quoted)?;
                let mut key = String::new();
                if !unescape(&quoted[..end], &mut key) {
                    return None;
                }
                steps.push(Step::Key(key));
                rest = quoted[end + 1..].strip_prefix(']')?;
            } else {
                let (index, after) = inner.split_once(']')?;
                if !index.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                steps.push(Step::Index(index.parse().ok()?));
                rest = after;
            }
        } else {
            let field = if steps.is_empty() { rest } else { rest.strip_prefix('.')? };
            let end = field.find(['.', '[']).unwrap_or(field.len());
            if !model::is_label_name(&field[..end]) {
                return None;
            }
            steps.push(Step::Key(field[..end].to_owned()));
            rest = &field[end..];
        }
    }
    Some(steps)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let closes = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let json = r#"{"a":{"b":[1,{"c":"x"}]},"we ird":true,"n":null}"#;
        let check = |path: &str, want: Option<&str>| {
            let found = find(Scanner::new(json), &parse(path).unwrap());
            let text = found.and_then(|v| match v {
                Value::Null => None,
                Value::String { start, end, .. }
                | Value::Scalar { start, end }
                | Value::Object { start, end }
                | Value::Array { start, end } => Some(&json[start..end]),
            });
            assert_eq!(text, want, "{path}");
        };
        check("a.b[0]", Some("1"));
        check("a.b[1].c", Some("x"));
        check("a.b", Some(r#"[1,{"c":"x"}]"#));
        check(r#"["we ird"]"#, Some("true"));
        check(r#"["a"]["b"][0]"#, Some("1"));
        check("n", None);
        check("a.c", None);
        check("a.b[2]", None);
        for bad in ["", "a.", "b[", "a[x]", "[\"a]", "a..b", ".a"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
