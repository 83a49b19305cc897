//! `output`: the line becomes an extracted value.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct OutputConfig {
    source: String,
}

struct Output {
    source: Arc<str>,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: OutputConfig = compile.read(body)?;
    if config.source.is_empty() {
        return compile.problem(body, "source", "name the extracted value that becomes the line");
    }
    Stage::edit(Output { source: config.source.into() })
}

impl Edit for Output {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        if let Some(text) = entry.extracted.text(&self.source) {
            entry.line = text.into_owned();
        }
        Verdict::Keep
    }
}
