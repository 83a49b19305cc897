//! `replace`: every group of every match is replaced by a template's text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use model::regex::Regex;
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::template::{StageTemplate, TemplateData};
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;
use crate::extracted::Extract;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct ReplaceConfig {
    expression: String,
    source: Option<String>,
    replace: String,
}

struct Replace {
    regex: Regex,
    names: Vec<(usize, Arc<str>)>,
    source: Option<Arc<str>>,
    template: StageTemplate,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: ReplaceConfig = compile.read(body)?;
    let regex = compile.regex(body, "expression", &config.expression);
    let template = compile.template(body, "replace", &config.replace);
    let source = compile.source(body, config.source);
    let (regex, template, source) = (regex?, template?, source?);
    let names = regex.capture_names().iter().enumerate();
    let names = names.filter_map(|(i, name)| Some((i, name.as_deref()?.into()))).collect();
    Stage::edit(Replace { regex, names, source, template })
}

/// The text, and the new values of the named groups of the first match.
type Replaced = (String, Vec<(Arc<str>, String)>);

impl Replace {
    /// The text with its groups replaced; `None` if nothing matches or the template fails.
    fn replaced(&self, text: &str, entry: &Entry) -> Option<Replaced> {
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        let mut made: HashMap<&str, String> = HashMap::new();
        let mut first = None;
        for found in self.regex.captures_iter(text) {
            for (start, end) in (1..found.len()).filter_map(|i| found.get(i)) {
                let group = &text[start..end];
                let data = TemplateData::replacing(&entry.extracted, group);
                let new = self.template.render(&data).ok()?;
                // Groups within groups are replaced with the outer one.
                if copied <= start {
                    out.push_str(&text[copied..start]);
                    out.push_str(&new);
                    copied = end;
                }
                made.insert(group, new);
            }
            first.get_or_insert(found);
        }
        let first = first?;
        out.push_str(&text[copied..]);
        let value = |(i, name): &(usize, Arc<str>)| {
            // A group that took no part is an empty text, which another may have been too.
            let group = first.get(*i).map_or("", |(start, end)| &text[start..end]);
            Some((name.clone(), made.get(group)?.clone()))
        };
        Some((out, self.names.iter().filter_map(value).collect()))
    }
}

impl Edit for Replace {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let text = match &self.source {
            Some(source) => match entry.extracted.text(source) {
                Some(text) => text,
                None => return Verdict::Keep,
            },
            None => Cow::Borrowed(entry.line.as_str()),
        };
        let Some((replaced, values)) = self.replaced(&text, entry) else { return Verdict::Keep };
        match &self.source {
            Some(source) => entry.extracted.set(source, Extract::Text(&replaced)),
            None => entry.line = replaced,
        }
        for (name, value) in &values {
            entry.extracted.set(name, Extract::Text(value));
        }
        Verdict::Keep
    }
}
