//! `regex`: named groups of a regular expression into the extracted map.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use model::regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;
use crate::extracted::Extract;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct RegexConfig {
    expression: String,
    source: Option<String>,
}

/// Takes the groups out of a text.
pub(super) struct Groups {
    regex: Regex,
    names: Vec<(usize, Arc<str>)>,
    found: Captures,
}

impl Groups {
    pub(super) fn new(regex: Regex) -> Self {
        let names = regex.capture_names().iter().enumerate();
        let names = names.filter_map(|(i, name)| Some((i, name.as_deref()?.into()))).collect();
        Self { regex, names, found: Captures::default() }
    }

    /// Sets the named groups of the first match in `source`, or in the line. Whether there was a match.
    pub(super) fn extract(&mut self, entry: &mut Entry, source: Option<&Arc<str>>) -> bool {
        let text = match source {
            Some(source) => match entry.extracted.text(source) {
                Some(text) => Cow::Owned(text.into_owned()),
                None => return false,
            },
            None => Cow::Borrowed(entry.line.as_str()),
        };
        if !self.regex.captures_into(&text, 0, &mut self.found) {
            return false;
        }
        for (i, name) in &self.names {
            let group = self.found.get(*i).map_or("", |(start, end)| &text[start..end]);
            entry.extracted.set(name, Extract::Text(group));
        }
        true
    }
}

struct RegexStage {
    groups: Groups,
    source: Option<Arc<str>>,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: RegexConfig = compile.read(body)?;
    let regex = compile.regex(body, "expression", &config.expression);
    let source = compile.source(body, config.source);
    let regex = regex?;
    if regex.capture_names().iter().flatten().next().is_none() {
        compile.warn(body, "expression", "takes nothing out of a line: name a group, like (?P<level>\\w+)");
    }
    Stage::edit(RegexStage { groups: Groups::new(regex), source: source? })
}

impl Edit for RegexStage {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        self.groups.extract(entry, self.source.as_ref());
        Verdict::Keep
    }
}
