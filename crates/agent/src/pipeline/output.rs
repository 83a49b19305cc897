//! `output`: the line becomes an extracted value.

use serde::{Deserialize, Serialize};
use service::config::Problems;

use super::{Edit, Verdict};
use crate::entry::Entry;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct OutputConfig {
    source: String,
}

pub(super) struct Output {
    source: String,
}

impl Output {
    pub(super) fn compile(
        config: &OutputConfig,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Box<dyn Edit>> {
        if config.source.is_empty() {
            problems.add(format!("{path}.source"), "name the extracted value that becomes the line");
            return None;
        }
        Some(Box::new(Self { source: config.source.clone() }))
    }
}

impl Edit for Output {
    fn edit(&mut self, entry: &mut Entry) -> Verdict {
        if let Some(text) = entry.extracted.text(&self.source) {
            entry.line = text;
        }
        Verdict::Keep
    }
}
