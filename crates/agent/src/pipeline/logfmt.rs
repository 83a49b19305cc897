//! `logfmt`: values of `key=value` pairs into the extracted map.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::{Compile, given};
use super::{Edit, Stage, Verdict};
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
    Stage::edit(Logfmt { wanted: config.mapping.iter().map(key).collect(), source: given(&config.source) })
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
        for (key, value) in Pairs(&text) {
            for (_, name) in self.wanted.iter().filter(|(k, _)| **k == *key) {
                entry.extracted.set(name, Extract::Text(&value));
            }
        }
        Verdict::Keep
    }
}

/// The pairs of a text, up to its first fault. A key without `=` has an empty value.
struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches(|c: char| c <= ' ');
        let end = text.find(|c: char| c <= ' ' || c == '=' || c == '"').unwrap_or(text.len());
        let (key, rest) = text.split_at(end);
        if key.is_empty() || rest.starts_with('"') {
            self.0 = "";
            return None;
        }
        let Some(rest) = rest.strip_prefix('=') else {
            self.0 = rest;
            return Some((key, Cow::Borrowed("")));
        };
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(|c: char| c <= ' ' || c == '=' || c == '"').unwrap_or(rest.len());
            let (value, rest) = rest.split_at(end);
            self.0 = if rest.starts_with(['=', '"']) { "" } else { rest };
            return if rest.starts_with(['=', '"']) { None } else { Some((key, Cow::Borrowed(value))) };
        };
        let Some(end) = closing_quote(quoted) else {
            self.0 = "";
            return None;
        };
        self.0 = &quoted[end + 1..];
        let raw = &quoted[..end];
        if !raw.contains('\\') {
            return Some((key, Cow::Borrowed(raw)));
        }
        match serde_json::from_str::<String>(&rest[..end + 2]) {
            Ok(value) => Some((key, Cow::Owned(value))),
            Err(_) => {
                self.0 = "";
                None
            }
        }
    }
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
            let pairs: Vec<_> = Pairs(text).map(|(key, value)| (key, value.into_owned())).collect();
            let want: Vec<_> = want.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            assert_eq!(pairs, want, "{text}");
        };
        check("a=1 b=\"x y\" flag c=", &[("a", "1"), ("b", "x y"), ("flag", ""), ("c", "")]);
        check(r#"a="q \" \n \u00e9" b=2"#, &[("a", "q \" \n é"), ("b", "2")]);
        check("a=1 b=\"open", &[("a", "1")]);
        check("a=1 =2 c=3", &[("a", "1")]);
        check("a=1=2 c=3", &[]);
        check("", &[]);
    }
}
