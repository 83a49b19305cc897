//! `structured_metadata`: values that belong to a line without making a stream; `structured_metadata_drop` removes them.

use std::sync::Arc;
use std::time::Instant;

use service::config::Value;

use super::compile::Compile;
use super::label_cache::LabelCache;
use super::labels::{names, names_and_sources};
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;

/// `structured_metadata`, also called `non_indexed_labels`. A source that is a label leaves the labels.
struct SetMetadata {
    /// Name and the extracted value or label it takes.
    sources: Vec<(Arc<str>, Arc<str>)>,
    cache: LabelCache,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let sources = names_and_sources(body, compile)?;
    Stage::edit(SetMetadata { sources, cache: LabelCache::default() })
}

impl Edit for SetMetadata {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let mut labels_used = false;
        for (name, source) in &self.sources {
            let Entry { extracted, labels, metadata, .. } = entry;
            let label = labels.get(source);
            labels_used |= label.is_some();
            let Some(value) = extracted.text(source).or_else(|| label.map(Into::into)) else { continue };
            match metadata.iter_mut().find(|(n, _)| **n == **name) {
                Some((_, old)) => *old = value.into_owned(),
                None => {
                    if metadata.capacity() == 0 {
                        metadata.reserve_exact(self.sources.len());
                    }
                    metadata.push((name.clone(), value.into_owned()));
                }
            }
        }
        if labels_used {
            self.cache.begin();
            let sources = &self.sources;
            entry.labels = self.cache.apply(&entry.labels, |labels| {
                for (_, source) in sources {
                    labels.remove(source);
                }
            });
        }
        Verdict::Keep
    }
}

/// `structured_metadata_drop`
struct DropMetadata(Vec<String>);

pub(super) fn compile_drop(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    Stage::edit(DropMetadata(names(body, compile)?))
}

impl Edit for DropMetadata {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        entry.metadata.retain(|(name, _)| !self.0.iter().any(|n| **n == **name));
        Verdict::Keep
    }
}
