//! `eventlogmessage`: the `key: value` lines of a Windows event's message into the extracted map.

use std::sync::Arc;
use std::time::Instant;

use model::is_label_name;
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;
use crate::extracted::Extract;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
struct EventConfig {
    source: String,
    drop_invalid_labels: bool,
    overwrite_existing: bool,
}

impl Default for EventConfig {
    fn default() -> Self {
        Self { source: "message".to_owned(), drop_invalid_labels: false, overwrite_existing: false }
    }
}

struct EventMessage {
    source: Arc<str>,
    drop_invalid: bool,
    overwrite: bool,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let mut config: EventConfig = compile.read(body)?;
    if config.source.is_empty() {
        config.source = EventConfig::default().source;
    }
    if !is_label_name(&config.source) {
        return compile.problem(body, "source", &format!("'{}' is not a name", config.source));
    }
    Stage::edit(EventMessage {
        source: config.source.into(),
        drop_invalid: config.drop_invalid_labels,
        overwrite: config.overwrite_existing,
    })
}

impl Edit for EventMessage {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let Some(message) = entry.extracted.text(&self.source).map(|text| text.into_owned()) else {
            return Verdict::Keep;
        };
        for (key, value) in message.split("\r\n").filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let mut name = key.to_owned();
            if !is_label_name(&name) {
                if self.drop_invalid {
                    continue;
                }
                name = sanitized(key);
            }
            if !self.overwrite && entry.extracted.get(&name).is_some() {
                name.push_str("_extracted");
            }
            entry.extracted.set_by_name(&name, Extract::Text(value));
        }
        Verdict::Keep
    }
}

/// A name with an underscore for each character that has no place in the name of a label.
fn sanitized(key: &str) -> String {
    let fits = |(at, c): (usize, char)| c.is_ascii_alphabetic() || c.is_ascii_digit() && at > 0;
    let name: String = key.char_indices().map(|at| if fits(at) { at.1 } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}
