//! Stages that change labels or the line: `line_format`, `label_format`, `decolorize`, `drop`, `keep`.

use model::Matcher;
use model::regex::Regex;

use super::StageError;
use crate::ast::{self, FormatSource, LabelSelection};
use crate::names::{ERROR, ERROR_DETAILS, NameId, Names};
use crate::row::{Row, Text};
use crate::template::Template;

/// `| line_format`
#[derive(Debug, Clone)]
pub(crate) struct LineFormat(Template);

impl LineFormat {
    pub(super) fn compile(text: &str, _names: &mut Names) -> Result<Self, StageError> {
        let template = Template::parse(text, "line")
            .map_err(|e| StageError::Stage(format!("invalid line template: {e}")))?;
        Ok(Self(template))
    }

    pub(super) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) {
        let mut out = String::new();
        match self.0.render(row, names, &mut out) {
            Ok(()) => row.set_line(&out),
            Err(details) => row.fail("TemplateFormatErr", Some(&details)),
        }
    }

    pub(crate) fn template(&self) -> &Template {
        &self.0
    }
}

/// `| label_format`
#[derive(Debug, Clone)]
pub(crate) struct LabelFormat(Vec<(NameId, Source)>);

#[derive(Debug, Clone)]
enum Source {
    Label(NameId),
    Template(Template),
}

impl LabelFormat {
    pub(super) fn compile(formats: &[ast::LabelFormat], names: &mut Names) -> Result<Self, StageError> {
        let mut out: Vec<(NameId, Source)> = Vec::new();
        for format in formats {
            let id = names.id(&format.label);
            if id == ERROR || id == ERROR_DETAILS {
                return Err(StageError::Stage(format!("{} cannot be formatted", format.label)));
            }
            if out.iter().any(|(other, _)| *other == id) {
                let name = &format.label;
                return Err(StageError::Stage(format!(
                    "multiple label name '{name}' not allowed in a single format operation"
                )));
            }
            let source = match &format.source {
                FormatSource::Label(name) => Source::Label(names.id(name)),
                FormatSource::Template(text) => {
                    let name = &format.label;
                    let invalid = |e| StageError::Stage(format!("invalid template for label '{name}': {e}"));
                    Source::Template(Template::parse(text, "label").map_err(invalid)?)
                }
            };
            out.push((id, source));
        }
        Ok(Self(out))
    }

    pub(super) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) {
        // All templates see the labels as they were before the first of them ran.
        let mut rendered: Option<std::vec::IntoIter<Result<String, String>>> = None;
        for (name, source) in &self.0 {
            match source {
                Source::Label(from) => row.rename(*from, *name),
                Source::Template(_) => {
                    let rendered = rendered.get_or_insert_with(|| self.render(row, names).into_iter());
                    match rendered.next() {
                        Some(Ok(text)) => {
                            let value: Text<'_> = row.make(&text);
                            row.set(*name, value);
                        }
                        Some(Err(details)) => row.fail("TemplateFormatErr", Some(&details)),
                        None => {}
                    }
                }
            }
        }
    }

    fn render(&self, row: &Row<'_, '_>, names: &mut Names) -> Vec<Result<String, String>> {
        self.templates()
            .map(|template| {
                let mut out = String::new();
                template.render(row, names, &mut out).map(|()| out)
            })
            .collect()
    }

    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.0.iter().filter_map(|(_, source)| match source {
            Source::Template(template) => Some(template),
            Source::Label(_) => None,
        })
    }

    /// The labels that are renamed.
    pub(crate) fn sources(&self) -> impl Iterator<Item = NameId> {
        self.0.iter().filter_map(|(_, source)| match source {
            Source::Label(from) => Some(*from),
            Source::Template(_) => None,
        })
    }

    pub(super) fn reads_line(&self) -> bool {
        self.templates().any(Template::reads_line)
    }
}

/// `| decolorize`
#[derive(Debug, Clone)]
pub(crate) struct Decolorize(Regex);

/// ANSI escape sequences, as the usual strippers define them.
const ANSI: &str = "[\u{1b}\u{9b}][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z\\d]*(?:;[a-zA-Z\\d]*)*)?\u{7})|\
                    (?:(?:\\d{1,4}(?:;\\d{0,4})*)?[\\dA-PRZcf-ntqry=><~]))";

impl Decolorize {
    pub(super) fn compile() -> Result<Self, StageError> {
        Regex::new(ANSI).map(Self).map_err(|e| StageError::Stage(e.to_string()))
    }

    pub(super) fn run(&self, row: &mut Row<'_, '_>) {
        if row.line().contains(['\u{1b}', '\u{9b}']) {
            let plain = self.0.replace_all(row.line(), "");
            row.set_line(&plain);
        }
    }
}

/// The labels of `drop` and `keep`.
#[derive(Debug, Clone)]
pub(crate) struct Selection(Vec<(NameId, Option<Matcher>)>);

impl Selection {
    pub(super) fn compile(selections: &[LabelSelection], names: &mut Names) -> Self {
        let item = |selection: &LabelSelection| match selection {
            LabelSelection::Name(name) => (names.id(name), None),
            LabelSelection::Match(matcher) => (names.id(matcher.name()), Some(matcher.clone())),
        };
        Self(selections.iter().map(item).collect())
    }

    pub(super) fn drop(&self, row: &mut Row<'_, '_>) {
        for (name, matcher) in &self.0 {
            let hit = match (row.get(*name), matcher) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(value), Some(matcher)) => matcher.matches(value),
            };
            if hit {
                row.remove(*name);
            }
        }
    }

    pub(super) fn keep(&self, row: &mut Row<'_, '_>) {
        row.retain(|_, id, value| {
            self.0
                .iter()
                .any(|(name, matcher)| *name == id && matcher.as_ref().is_none_or(|m| m.matches(value)))
        });
    }

    /// The labels a matcher looks at.
    pub(crate) fn names(&self) -> impl Iterator<Item = NameId> {
        self.0.iter().map(|(name, _)| *name)
    }
}
