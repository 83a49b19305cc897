//! How the files begin that have left their paths: a new one is compared only with those that begin as it does, however many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::positions::Identity;

/// Heads of files, by their ids.
#[derive(Debug, Default)]
pub(super) struct Heads {
    heads: HashMap<u64, (u64, u64)>,
    ids: HashMap<(u64, u64), BTreeSet<u64>>,
    /// How many heads there are of so many bytes.
    lengths: BTreeMap<u64, usize>,
}

impl Heads {
    /// A file begins like this now.
    pub(super) fn note(&mut self, id: u64, identity: &Identity) {
        let head = identity.head();
        if self.heads.get(&id) == Some(&head) {
            return;
        }
        self.forget(id);
        self.heads.insert(id, head);
        self.ids.entry(head).or_default().insert(id);
        *self.lengths.entry(head.0).or_default() += 1;
    }

    /// A file is not read any more.
    pub(super) fn forget(&mut self, id: u64) {
        let Some(head) = self.heads.remove(&id) else { return };
        if let Some(ids) = self.ids.get_mut(&head) {
            ids.remove(&id);
            if ids.is_empty() {
                self.ids.remove(&head);
            }
        }
        if let Some(count) = self.lengths.get_mut(&head.0) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&head.0);
            }
        }
    }

    /// Files that may begin as these bytes do.
    pub(super) fn like(&self, beginning: &[u8]) -> impl Iterator<Item = u64> {
        let covered = self.lengths.keys().map_while(|bytes| beginning.get(..usize::try_from(*bytes).ok()?));
        covered.filter_map(|covered| self.ids.get(&Identity::head_of(covered))).flatten().copied()
    }
}
