//! What a stage made of a label set before: label sets repeat from line to line, so they are seldom built anew, and lines of
//! one stream share one.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use model::{Labels, LabelsBuilder};

/// Remembers label sets by the set that they were made of and the values that went into them.
#[derive(Debug, Default)]
pub(super) struct LabelCache {
    changes: HashTable<Change>,
    hasher: DefaultHashBuilder,
    key: Vec<u8>,
}

#[derive(Debug)]
struct Change {
    hash: u64,
    before: Labels,
    key: Box<[u8]>,
    after: Labels,
}

impl LabelCache {
    /// Changes that are remembered; beyond it all are forgotten.
    const MAX: usize = 4096;

    /// Begins a change.
    pub(super) fn begin(&mut self) {
        self.key.clear();
    }

    /// A value that goes into the change; `None` stands for one that is absent.
    pub(super) fn value(&mut self, value: Option<&str>) {
        let length = value.map_or(u32::MAX, |v| v.len() as u32);
        self.key.extend_from_slice(&length.to_le_bytes());
        self.key.extend_from_slice(value.unwrap_or_default().as_bytes());
    }

    /// What `make` makes of `before` with the values given; it must depend on nothing else.
    pub(super) fn apply(&mut self, before: &Labels, make: impl FnOnce(&mut LabelsBuilder)) -> Labels {
        let hash = self.hasher.hash_one((&self.key, before));
        let known =
            |change: &Change| change.hash == hash && *change.key == *self.key && change.before == *before;
        if let Some(change) = self.changes.find(hash, known) {
            return change.after.clone();
        }
        let mut labels = before.to_builder();
        make(&mut labels);
        let after = labels.build();
        if self.changes.len() >= Self::MAX {
            self.changes.clear();
        }
        let key = self.key.as_slice().into();
        let change = Change { hash, before: before.clone(), key, after: after.clone() };
        self.changes.insert_unique(hash, change, |change| change.hash);
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_by_values_and_by_set() {
        let mut cache = LabelCache::default();
        let sets = [Labels::from_pairs([("a", "1")]), Labels::from_pairs([("a", "2")])];
        for _ in 0..2 {
            for (before, value, want) in [
                (&sets[0], Some("x"), "{a=\"1\", b=\"x\"}"),
                (&sets[0], Some(""), "{a=\"1\"}"),
                (&sets[0], None, "{a=\"1\"}"),
                (&sets[1], Some("x"), "{a=\"2\", b=\"x\"}"),
            ] {
                cache.begin();
                cache.value(value);
                let after = cache.apply(before, |labels| {
                    labels.set("b", value.unwrap_or_default());
                });
                assert_eq!(after.to_string(), want);
            }
        }
        assert_eq!(cache.changes.len(), 4);
    }
}
