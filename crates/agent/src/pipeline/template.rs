//! `template`: an extracted value is made by a Go template.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use gotemplate::{Data, Fault, Function, Template, Value as TemplateValue};
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::{Edit, Stage, Verdict, sprig};
use crate::entry::Entry;
use crate::extracted::{Extract, Extracted};

/// A parsed template over extracted values.
#[derive(Debug, Clone)]
pub(super) struct StageTemplate(Template);

impl StageTemplate {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Template::parse::<TemplateData<'_>>(text, "pipeline_template").map(Self)
    }

    /// The template's text; an error if one of its functions fails.
    pub(super) fn render(&self, data: &TemplateData<'_>) -> Result<String, String> {
        let mut out = String::new();
        self.0.render(data, &mut out).map(|()| out)
    }
}

/// What a template sees: extracted values as texts, `.Value` and `.Entry`.
pub(super) struct TemplateData<'a> {
    extracted: &'a Extracted,
    value: TemplateValue<'a>,
    entry: Option<&'a str>,
}

impl<'a> TemplateData<'a> {
    /// For the `template` stage: `.Value` is what `source` has been.
    fn of(entry: &'a Entry, source: &str) -> Self {
        let value = entry.extracted.get(source).map_or(TemplateValue::Nil, text);
        Self { extracted: &entry.extracted, value, entry: Some(&entry.line) }
    }

    /// For the `replace` stage: `.Value` is the text of the group.
    pub(super) fn replacing(extracted: &'a Extracted, group: &'a str) -> Self {
        Self { extracted, value: TemplateValue::text(group), entry: None }
    }
}

/// Values are texts in templates; null is absent.
fn text(value: Extract<'_>) -> TemplateValue<'_> {
    value.text().map_or(TemplateValue::Nil, TemplateValue::Text)
}

impl Data for TemplateData<'_> {
    const FUNCTIONS: &'static [Function] = sprig::FUNCTIONS;

    fn field(&self, name: &str) -> TemplateValue<'_> {
        match (name, self.entry) {
            // One of this name is seen where there is no other.
            ("Value", _) if self.value != TemplateValue::Nil => self.value.clone(),
            ("Entry", Some(line)) => TemplateValue::text(line),
            _ => self.extracted.get(name).map_or(TemplateValue::Nil, text),
        }
    }

    fn fields(&self) -> BTreeMap<String, TemplateValue<'_>> {
        let own = [("Value", self.value.clone()), ("Entry", self.field("Entry"))];
        let all = self.extracted.iter().map(|(name, value)| (name, text(value))).chain(own);
        all.filter(|(_, value)| *value != TemplateValue::Nil).map(|(n, v)| (n.to_owned(), v)).collect()
    }

    fn call<'r>(&'r self, name: &str, args: &[TemplateValue<'r>]) -> Result<TemplateValue<'r>, Fault> {
        sprig::call(name, args)
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct TemplateConfig {
    source: String,
    template: String,
}

struct TemplateStage {
    source: Arc<str>,
    template: StageTemplate,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: TemplateConfig = compile.read(body)?;
    if config.source.is_empty() {
        compile.problem::<()>(body, "source", "name the extracted value that the template makes");
    }
    let template = compile.template(body, "template", &config.template)?;
    Stage::edit(TemplateStage { source: config.source.into(), template })
}

impl Edit for TemplateStage {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        match self.template.render(&TemplateData::of(entry, &self.source)) {
            Ok(text) if text.is_empty() => entry.extracted.remove(&self.source),
            Ok(text) => entry.extracted.set(&self.source, Extract::Text(&text)),
            // As with a source that is missing, the entry stays as it is.
            Err(_) => {}
        }
        Verdict::Keep
    }
}
