//! `pack`: labels move into the line, as JSON that LogQL's `unpack` takes apart.

use std::collections::BTreeMap;
use std::time::Instant;

use model::Timestamp;
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::label_cache::LabelCache;
use super::{Edit, Stage, Verdict, go_json};
use crate::entry::Entry;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
struct PackConfig {
    labels: Vec<String>,
    ingest_timestamp: bool,
}

impl Default for PackConfig {
    fn default() -> Self {
        Self { labels: Vec::new(), ingest_timestamp: true }
    }
}

struct Pack {
    config: PackConfig,
    cache: LabelCache,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let mut config: PackConfig = compile.read(body)?;
    config.labels.retain(|name| name != "_entry");
    Stage::edit(Pack { config, cache: LabelCache::default() })
}

impl Edit for Pack {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let names = &self.config.labels;
        // A label that is no extracted value, such as one of `static_labels`, stays a label.
        let mut packed = BTreeMap::new();
        self.cache.begin();
        for name in names {
            let value = entry.extracted.text(name);
            self.cache.value(value.as_ref().map(|_| ""));
            packed.extend(value.map(|value| (name.as_str(), value)));
        }
        entry.labels = self.cache.apply(&entry.labels, |labels| {
            for name in packed.keys() {
                labels.remove(name);
            }
        });
        let mut line = String::with_capacity(entry.line.len() + entry.line.len() / 8 + 64);
        line.push('{');
        for (name, value) in packed.iter().map(|(n, v)| (*n, &**v)).chain([("_entry", entry.line.as_str())]) {
            line.push_str(if line.len() > 1 { "," } else { "" });
            go_json::write_text(name, true, &mut line);
            line.push(':');
            go_json::write_text(value, true, &mut line);
        }
        line.push('}');
        drop(packed);
        entry.line = line;
        if self.config.ingest_timestamp {
            entry.timestamp = Timestamp::now();
        }
        Verdict::Keep
    }
}
