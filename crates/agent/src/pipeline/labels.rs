//! `labels`: extracted values become labels.

use model::is_label_name;
use service::config::{Problems, Value};

use super::{Edit, Verdict};
use crate::entry::Entry;

pub(super) struct Labels {
    /// Label and the extracted value it takes.
    sources: Vec<(String, String)>,
}

impl Labels {
    pub(super) fn compile(body: &Value, problems: &mut Problems) -> Option<Box<dyn Edit>> {
        let mut sources = Vec::new();
        for (label, source) in body.entries() {
            if !is_label_name(label) {
                problems
                    .add(source.path(), format!("'{label}' is not a label name: use letters, digits and _"));
            }
            let source = source.as_str().filter(|s| !s.is_empty() && !source.is_null()).unwrap_or(label);
            sources.push((label.to_owned(), source.to_owned()));
        }
        Some(Box::new(Self { sources }))
    }
}

impl Edit for Labels {
    fn edit(&mut self, entry: &mut Entry) -> Verdict {
        for (label, source) in &self.sources {
            if let Some(value) = entry.extracted.text(source) {
                entry.labels.set(label, &value);
            }
        }
        Verdict::Keep
    }
}
