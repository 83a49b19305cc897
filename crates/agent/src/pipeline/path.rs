//! Paths into JSON values: the part of JMESPath that picks one value (`a.b`, `a[0]`, `"odd key".c`).

use serde_json::Value;

/// A compiled path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(i64),
}

impl Path {
    /// Compiles an expression; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (index, after) = inside.split_once(']').ok_or("expected a closing ]")?;
                let index = index
                    .trim()
                    .parse()
                    .map_err(|_| format!("'[{index}]' is not built: write an index like [0]"))?;
                steps.push(Step::Index(index));
                rest = after;
            } else if let Some(inside) = rest.strip_prefix('"') {
                let end = closing_quote(inside).ok_or("expected a closing quote")?;
                let key = serde_json::from_str(&rest[..end + 2]).map_err(|e| e.to_string())?;
                steps.push(Step::Key(key));
                rest = &inside[end + 1..];
            } else {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                if end == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(format!("'{rest}' is not built: write a path like a.b[0].\"odd key\""));
                }
                steps.push(Step::Key(rest[..end].to_owned()));
                rest = &rest[end..];
            }
            match rest.strip_prefix('.') {
                Some("") => return Err("path ends with a dot".to_owned()),
                Some(after) => rest = after,
                None if rest.is_empty() || rest.starts_with('[') => {}
                None => return Err(format!("'{rest}' is not built: write a path like a.b[0].\"odd key\"")),
            }
        }
        if steps.is_empty() { Err("empty path".to_owned()) } else { Ok(Self(steps)) }
    }

    /// The path of one key, whatever characters it has.
    pub(super) fn key(name: &str) -> Self {
        Self(vec![Step::Key(name.to_owned())])
    }

    /// The top-level key that the path begins with.
    pub(super) fn root(&self) -> Option<&str> {
        match self.0.first() {
            Some(Step::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// The value below `root`, which is the value of the path's first key.
    pub(super) fn below<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.0.iter().skip(1).try_fold(root, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => {
                let list = value.as_array()?;
                let index = if *index < 0 {
                    list.len().checked_sub(index.unsigned_abs() as usize)?
                } else {
                    *index as usize
                };
                list.get(index)
            }
        })
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(i, c)| match c {
        _ if escaped => {
            escaped = false;
            None
        }
        '\\' => {
            escaped = true;
            None
        }
        '"' => Some(i),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_values() {
        let value = serde_json::json!({"b": [{"odd key": 1}, 2]});
        let check = |path: &str, want: Option<serde_json::Value>| {
            assert_eq!(Path::parse(path).unwrap().below(&value).cloned(), want, "{path}");
        };
        check("a.b[0].\"odd key\"", Some(1.into()));
        check("a.b[-1]", Some(2.into()));
        check("a.b[2]", None);
        check("a.c", None);
        assert_eq!(Path::parse("a.b").unwrap().root(), Some("a"));
        for bad in ["", "foo[", "a..b", "a.", "a | b", "a[*]", "length(a)"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }
}
