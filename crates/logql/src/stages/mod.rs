//! Pipeline stages, compiled: each changes or refuses a [`Row`].

mod ip;
mod json;
mod json_path;
mod json_text;
mod label_filter;
mod line_filter;
mod logfmt;
mod pattern;
mod regexp;
mod rewrite;
mod unpack;

use crate::ast;
use crate::error::EvalError;
use crate::names::{NameId, Names};
use crate::row::Row;

pub(crate) use json_text::{Scanner as JsonScanner, Value as JsonValue, unescape};
pub(crate) use label_filter::{LabelFilter, Verdict, parse_bytes, parse_float};
pub(crate) use line_filter::{LineFilter, TestState};
pub(crate) use logfmt::Reader as LogfmtReader;

/// Why a stage cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StageError {
    /// Reported without the stage's text.
    Invalid(String),
    /// Reported with the stage's text.
    Stage(String),
}

impl From<StageError> for EvalError {
    fn from(error: StageError) -> Self {
        let (StageError::Invalid(text) | StageError::Stage(text)) = error;
        Self::Invalid(text)
    }
}

/// A stage ready to run.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    LineFilter(LineFilter),
    Json,
    JsonPaths(json_path::JsonPaths),
    Logfmt(logfmt::Logfmt),
    Regexp(regexp::Regexp),
    Pattern(pattern::PatternParser),
    Unpack,
    LabelFilter(LabelFilter),
    LineFormat(rewrite::LineFormat),
    LabelFormat(rewrite::LabelFormat),
    Decolorize(rewrite::Decolorize),
    Drop(rewrite::Selection),
    Keep(rewrite::Selection),
}

impl Stage {
    pub(crate) fn compile(stage: &ast::Stage, names: &mut Names) -> Result<Self, StageError> {
        Ok(match stage {
            ast::Stage::LineFilter(filter) => Self::LineFilter(LineFilter::compile(filter)?),
            ast::Stage::Json(paths) if paths.is_empty() => Self::Json,
            ast::Stage::Json(paths) => Self::JsonPaths(json_path::JsonPaths::compile(paths, names)?),
            ast::Stage::Logfmt { strict, keep_empty, extractions } => {
                Self::Logfmt(logfmt::Logfmt::compile(*strict, *keep_empty, extractions, names))
            }
            ast::Stage::Regexp(text) => Self::Regexp(regexp::Regexp::compile(text, names)?),
            ast::Stage::Pattern(text) => Self::Pattern(pattern::PatternParser::compile(text, names)?),
            ast::Stage::Unpack => Self::Unpack,
            ast::Stage::LabelFilter(filter) => Self::LabelFilter(LabelFilter::compile(filter, names)?),
            ast::Stage::LineFormat(text) => Self::LineFormat(rewrite::LineFormat::compile(text, names)?),
            ast::Stage::LabelFormat(formats) => {
                Self::LabelFormat(rewrite::LabelFormat::compile(formats, names)?)
            }
            ast::Stage::Decolorize => Self::Decolorize(rewrite::Decolorize::compile()?),
            ast::Stage::Drop(selections) => Self::Drop(rewrite::Selection::compile(selections, names)),
            ast::Stage::Keep(selections) => Self::Keep(rewrite::Selection::compile(selections, names)),
        })
    }

    /// Runs the stage; false drops the entry.
    pub(crate) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) -> bool {
        match self {
            Self::LineFilter(filter) => return filter.passes(row.line()),
            Self::LabelFilter(filter) => return filter.passes(row),
            Self::Json => json::run(row, names),
            Self::JsonPaths(paths) => paths.run(row, names),
            Self::Logfmt(parser) => parser.run(row, names),
            Self::Regexp(parser) => parser.run(row, names),
            Self::Pattern(parser) => parser.run(row, names),
            Self::Unpack => unpack::run(row, names),
            Self::LineFormat(format) => format.run(row, names),
            Self::LabelFormat(format) => format.run(row, names),
            Self::Decolorize(decolorize) => decolorize.run(row),
            Self::Drop(selection) => selection.drop(row),
            Self::Keep(selection) => selection.keep(row),
        }
        true
    }

    /// Whether the line may be another one afterwards.
    pub(crate) fn rewrites_line(&self) -> bool {
        matches!(self, Self::LineFormat(_) | Self::Decolorize(_) | Self::Unpack)
    }

    /// Whether the stage looks at the line; parsers do not when nobody wants a label (`idle`).
    pub(crate) fn reads_line(&self, idle: bool) -> bool {
        match self {
            Self::Json | Self::Logfmt(_) | Self::Regexp(_) | Self::Pattern(_) => !idle,
            Self::LabelFilter(_) | Self::Drop(_) | Self::Keep(_) => false,
            Self::LabelFormat(format) => format.reads_line(),
            _ => true,
        }
    }

    /// Adds the labels that the stage looks at; false if it may look at any.
    pub(crate) fn labels_read(&self, names: &mut Names, out: &mut Vec<NameId>) -> bool {
        match self {
            Self::LabelFilter(filter) => filter.names(out),
            Self::Drop(selection) | Self::Keep(selection) => out.extend(selection.names()),
            Self::LineFormat(format) => return format.template().labels_read(names, out),
            Self::LabelFormat(format) => {
                out.extend(format.sources());
                return format.templates().all(|template| template.labels_read(names, out));
            }
            Self::LineFilter(_)
            | Self::Json
            | Self::JsonPaths(_)
            | Self::Logfmt(_)
            | Self::Regexp(_)
            | Self::Pattern(_)
            | Self::Unpack
            | Self::Decolorize(_) => {}
        }
        true
    }
}
