//! `logfmt`: values of `key=value` pairs into the extracted map.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::{Edit, Stage, Verdict, go_json};
use crate::entry::Entry;
use crate::extracted::Extract;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct LogfmtConfig {
    /// Name of the extracted value and its key; empty means under its own name.
    mapping: BTreeMap<String, Option<String>>,
    source: Option<String>,
}

struct Logfmt {
    /// Key and the name of the value.
    wanted: Vec<(Arc<str>, Arc<str>)>,
    source: Option<Arc<str>>,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: LogfmtConfig = compile.read(body)?;
    if config.mapping.is_empty() {
        return compile.problem(body, "mapping", "name at least one value");
    }
    let key = |(name, key): (&String, &Option<String>)| {
        let key = key.as_deref().filter(|k| !k.is_empty()).unwrap_or(name);
        (key.into(), name.as_str().into())
    };
    let wanted = config.mapping.iter().map(key).collect();
    Stage::edit(Logfmt { wanted, source: compile.source(body, config.source)? })
}

impl Edit for Logfmt {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let text = match &self.source {
            Some(source) => match entry.extracted.text(source) {
                Some(text) => Cow::Owned(text.into_owned()),
                None => return Verdict::Keep,
            },
            None => Cow::Borrowed(entry.line.as_str()),
        };
        // Pairs before a fault count, those behind it are not read.
        for line in text.split('\n') {
            let mut pairs = Pairs { text: line, fault: false };
            for (key, value) in &mut pairs {
                for (_, name) in self.wanted.iter().filter(|(k, _)| **k == *key) {
                    entry.extracted.set(name, Extract::Text(&value));
                }
            }
            if pairs.fault {
                break;
            }
        }
        Verdict::Keep
    }
}

/// The pairs of a line, up to its first fault. A key without `=` has an empty value.
struct Pairs<'a> {
    text: &'a str,
    fault: bool,
}

impl<'a> Pairs<'a> {
    /// The pair at the beginning and what is behind it; `None` if there is a fault in it.
    fn pair(text: &'a str) -> Option<(&'a str, Cow<'a, str>, &'a str)> {
        let end = |text: &str| text.find(|c: char| c <= ' ' || c == '=' || c == '"').unwrap_or(text.len());
        let (key, rest) = text.split_at(end(text));
        if key.is_empty() || rest.starts_with('"') || key.contains(char::REPLACEMENT_CHARACTER) {
            return None;
        }
        let Some(rest) = rest.strip_prefix('=') else { return Some((key, Cow::Borrowed(""), rest)) };
        let Some(quoted) = rest.strip_prefix('"') else {
            let (value, rest) = rest.split_at(end(rest));
            return (!rest.starts_with(['=', '"'])).then_some((key, Cow::Borrowed(value), rest));
        };
        let end = closing_quote(quoted)?;
        let (raw, rest) = (&quoted[..end], &quoted[end + 1..]);
        let value = if raw.contains('\\') { Cow::Owned(unquoted(raw)?) } else { Cow::Borrowed(raw) };
        Some((key, value, rest))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.text.trim_start_matches(|c: char| c <= ' ');
        if text.is_empty() || self.fault {
            return None;
        }
        let pair = Self::pair(text);
        self.fault = pair.is_none();
        let (key, value, rest) = pair?;
        self.text = rest;
        Some((key, value))
    }
}

/// What stands between quotes, with JSON's escapes and `\'`.
fn unquoted(raw: &str) -> Option<String> {
    let mut text = format!("\"{}\"", raw.replace("\\\\", "\\u005c").replace("\\'", "'"));
    if let Some(mended) = go_json::mended(&text) {
        text = mended;
    }
    serde_json::from_str(&text).ok()
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.as_bytes().get(at..)?)?;
        if text.as_bytes()[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let check = |text: &str, want: &[(&str, &str)]| {
            let pairs: Vec<_> =
                Pairs { text, fault: false }.map(|(key, value)| (key, value.into_owned())).collect();
            let want: Vec<_> = want.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            assert_eq!(pairs, want, "{text}");
        };
        check("a=1 b=\"x y\" flag c=", &[("a", "1"), ("b", "x y"), ("flag", ""), ("c", "")]);
        check(r#"a="q \" \n \u00e9" b=2"#, &[("a", "q \" \n é"), ("b", "2")]);
        check("a=1 b=\"open", &[("a", "1")]);
        check(r#"a="it\'s \\' \ud83d" b=1"#, &[("a", "it's \\' \u{fffd}"), ("b", "1")]);
        check("a=1 \u{fffd}b=2 c=3", &[("a", "1")]);
        check("a=1 =2 c=3", &[("a", "1")]);
        check("a=1=2 c=3", &[]);
        check("", &[]);
    }
}
