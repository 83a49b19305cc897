//! `labels`, `static_labels`, `labelallow`, `labeldrop`: which labels a line's stream has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use model::is_label_name;
use service::config::Value;

use super::compile::Compile;
use super::label_cache::LabelCache;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;

/// `labels`: extracted values become labels.
struct FromExtracted {
    /// Label and the extracted value it takes.
    sources: Vec<(Arc<str>, Arc<str>)>,
    cache: LabelCache,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let sources = names_and_sources(body, compile)?;
    Stage::edit(FromExtracted { sources, cache: LabelCache::default() })
}

/// A map of names to the extracted values they are filled from, by default those of the same name.
pub(super) fn names_and_sources(
    body: &Value,
    compile: &mut Compile<'_>,
) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let config: BTreeMap<String, Option<String>> = compile.read(body)?;
    let mut sources = Vec::new();
    for (name, source) in &config {
        if !is_label_name(name) {
            compile.problem(body, name, &format!("'{name}' is not a name: use letters, digits and _"))?;
        }
        let source = source.as_deref().filter(|s| !s.is_empty()).unwrap_or(name);
        sources.push((name.as_str().into(), source.into()));
    }
    Some(sources)
}

impl Edit for FromExtracted {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let extracted = &entry.extracted;
        self.cache.begin();
        for (_, source) in &self.sources {
            self.cache.value(extracted.text(source).as_deref());
        }
        let sources = &self.sources;
        entry.labels = self.cache.apply(&entry.labels, |labels| {
            for (label, source) in sources {
                if let Some(value) = extracted.text(source) {
                    labels.set(label, &value);
                }
            }
        });
        Verdict::Keep
    }
}

/// A change that depends on the labels alone.
struct Fixed {
    change: Change,
    cache: LabelCache,
}

enum Change {
    Set(Vec<(String, String)>),
    Keep(Vec<String>),
    Remove(Vec<String>),
}

/// `static_labels`
pub(super) fn compile_static(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: BTreeMap<String, Option<String>> = compile.read(body)?;
    if let Some(name) = config.keys().find(|name| !is_label_name(name)) {
        return compile.problem(body, name, &format!("'{name}' is not a name: use letters, digits and _"));
    }
    // One without a value leaves the label as it is.
    let given = config.into_iter().filter_map(|(name, value)| Some((name, value.filter(|v| !v.is_empty())?)));
    fixed(Change::Set(given.collect()))
}

/// `labelallow`
pub(super) fn compile_allow(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    fixed(Change::Keep(names(body, compile)?))
}

/// `labeldrop`
pub(super) fn compile_drop(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    fixed(Change::Remove(names(body, compile)?))
}

/// A list of at least one name.
pub(super) fn names(body: &Value, compile: &mut Compile<'_>) -> Option<Vec<String>> {
    let names: Vec<String> = compile.read(body)?;
    if names.is_empty() {
        return compile.problem(body, "", "give a list of at least one name");
    }
    Some(names)
}

fn fixed(change: Change) -> Option<Stage> {
    Stage::edit(Fixed { change, cache: LabelCache::default() })
}

impl Edit for Fixed {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        self.cache.begin();
        let (before, change) = (&entry.labels, &self.change);
        entry.labels = self.cache.apply(before, |labels| match change {
            Change::Set(pairs) => pairs.iter().for_each(|(name, value)| {
                labels.set(name, value);
            }),
            Change::Remove(names) => names.iter().for_each(|name| {
                labels.remove(name);
            }),
            Change::Keep(names) => {
                for (name, _) in before.iter().filter(|(name, _)| !names.iter().any(|n| n == name)) {
                    labels.remove(name);
                }
            }
        });
        Verdict::Keep
    }
}
