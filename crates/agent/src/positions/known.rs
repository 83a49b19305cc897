//! What is remembered of files. Each entry is one generation of one file as one owner reads it.
//!
//! A place (device and inode) says little of which file lies there: inodes are used again, and files are truncated and filled
//! again. So a place may have several entries of an owner, and whoever reads a file *holds* the entry that is its own: nobody else
//! writes to it, and another file that takes the place gets another entry. What nobody holds waits until its file is found
//! again, or is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Identity;
use super::identity::{IdentifiedBy, Mark};
use super::path_text;
use crate::source::Source;
use crate::tail::Identified;

/// Device and inode.
pub(super) type Place = (u64, u64);

/// Who reads a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// The job's name; empty in states of older versions.
    #[serde(default)]
    pub(super) job: String,
    /// The client's; empty where there is only one.
    #[serde(default)]
    pub(super) client: String,
}

/// One generation of a file as remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    #[serde(with = "path_text")]
    pub(super) path: PathBuf,
    /// Where the file lay in truth, if its path was a link.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "path_text::optional")]
    pub(super) real: Option<PathBuf>,
    pub(super) identity: Identity,
    #[serde(flatten)]
    pub(super) owner: Owner,
    /// Id of the source, hexadecimal.
    #[serde(default)]
    pub(super) source: Option<String>,
    pub(super) offset: u64,
    /// Its bytes when it was last looked at, if they are to be expected still; not known of older versions.
    #[serde(default)]
    pub(super) size: u64,
    /// The offset that is on disk together with the source's id.
    #[serde(skip)]
    pub(super) saved: Option<u64>,
    /// The offset that it had when this process began; none of what was opened first by it.
    #[serde(skip)]
    pub(super) loaded: Option<u64>,
    /// ns since the epoch.
    #[serde(default)]
    pub(super) opened: i64,
    /// Up to when all that lay at its path before it was looked for, ns since the epoch.
    #[serde(default)]
    pub(super) searched: i64,
    /// When it was last seen, seconds since the epoch.
    pub(super) seen: i64,
    /// For how many seconds the agent has run since, and has not seen it.
    #[serde(default)]
    pub(super) absent: u64,
    /// It was read to its end after it had left its path, or is lost, and that was told.
    #[serde(default)]
    pub(super) has_ended: bool,
    /// Who reads it now: a key of that reader's.
    #[serde(skip)]
    pub(super) holder: Option<usize>,
}

impl Known {
    /// The source's id, unless the file could be another by now.
    pub(super) fn source(&self) -> Option<Source> {
        let id = self.source.as_ref().filter(|_| self.identity.is_telling())?;
        Some(Source::known(u128::from_str_radix(id, 16).ok()?, self.saved))
    }
}

/// One entry, for as long as the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KnownId(u64);

/// What an owner goes on with in a file.
#[derive(Debug)]
pub(super) struct Found {
    /// The owner's own entry; others' are theirs.
    pub(super) own: Option<KnownId>,
    pub(super) offset: u64,
    pub(super) source: Option<Source>,
    pub(super) mark: Option<Mark>,
}

/// All entries.
#[derive(Default)]
pub(super) struct KnownFiles {
    by: IdentifiedBy,
    entries: BTreeMap<KnownId, Known>,
    places: HashMap<Place, Vec<KnownId>>,
    paths: HashMap<PathBuf, Vec<KnownId>>,
    next: u64,
}

impl KnownFiles {
    /// Most generations of one place that are remembered of an owner, besides the one that is read: files may be truncated often.
    const MAX_BEFORE: usize = 4;

    pub(super) fn new(files: Vec<Known>) -> Self {
        let mut known = Self::default();
        for file in files {
            known.insert(file);
        }
        known
    }

    /// Has files known by something else from now on.
    pub(super) fn identify_by(&mut self, by: IdentifiedBy) {
        self.by = by;
        self.entries.values_mut().for_each(|known| known.identity = known.identity.known_by(by));
    }

    /// By what files are known.
    pub(super) fn by(&self) -> IdentifiedBy {
        self.by
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (KnownId, &Known)> {
        self.entries.iter().map(|(id, known)| (*id, known))
    }

    pub(super) fn get(&self, id: KnownId) -> Option<&Known> {
        self.entries.get(&id)
    }

    /// An entry, to whoever holds it.
    pub(super) fn held(&mut self, id: KnownId, holder: usize) -> Option<&mut Known> {
        self.entries.get_mut(&id).filter(|known| known.holder == Some(holder))
    }

    /// An entry whose file nobody reads any more comes to no more.
    pub(super) fn end(&mut self, id: KnownId) {
        self.entries.entry(id).and_modify(|known| known.has_ended = true);
    }

    /// All that were read at a path.
    pub(super) fn at(&self, path: &Path) -> impl Iterator<Item = (KnownId, &Known)> {
        let ids = self.paths.get(path).into_iter().flatten();
        let known = ids.filter_map(|id| Some((*id, self.entries.get(id)?)));
        known.filter(move |(_, known)| known.path.as_os_str() == path.as_os_str())
    }

    /// All that lay at a place.
    fn in_place(&self, place: Place) -> impl Iterator<Item = (KnownId, &Known)> {
        let ids = self.places.get(&place).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.entries.get(id)?)))
    }

    pub(super) fn insert(&mut self, file: Known) -> KnownId {
        let id = KnownId(self.next);
        self.next += 1;
        self.put(id, file);
        id
    }

    /// The same in place of an entry, if there is one; it keeps its id.
    pub(super) fn replace(&mut self, old: Option<KnownId>, file: Known) -> KnownId {
        let Some(id) = old.filter(|id| self.remove(*id).is_some()) else { return self.insert(file) };
        self.put(id, file);
        id
    }

    fn put(&mut self, id: KnownId, file: Known) {
        self.places.entry(file.identity.place()).or_default().push(id);
        self.paths.entry(file.path.clone()).or_default().push(id);
        self.entries.insert(id, file);
    }

    fn remove(&mut self, id: KnownId) -> Option<Known> {
        let known = self.entries.remove(&id)?;
        forget(&mut self.places, &known.identity.place(), id);
        forget(&mut self.paths, &known.path, id);
        Some(known)
    }

    /// The file of an entry is another one, or more of its beginning is known. All else that is known of it goes with it, its mark too.
    pub(super) fn identify(&mut self, id: KnownId, identity: Identity) {
        let Some(known) = self.entries.get_mut(&id) else { return };
        let (old, new) = (known.identity.place(), identity.place());
        known.identity = identity.marked(known.identity.mark());
        if old != new {
            forget(&mut self.places, &old, id);
            self.places.entry(new).or_default().push(id);
        }
    }

    /// The file of an entry that nobody reads ends here, and all of it was read.
    pub(super) fn end_at(&mut self, id: KnownId, size: u64) {
        if let Some(known) = self.entries.get_mut(&id).filter(|known| known.holder.is_none()) {
            (known.offset, known.size) = (size, size);
            known.identity = known.identity.marked(None);
        }
    }

    /// What is read of this path now comes behind all that was found.
    pub(super) fn searched(&mut self, path: &Path, owner: &Owner, at: i64) {
        let ids: Vec<_> = self.at(path).map(|(id, _)| id).collect();
        for id in ids {
            let known = self.entries.get_mut(&id);
            known
                .filter(|known| known.holder.is_some() && known.owner == *owner)
                .into_iter()
                .for_each(|known| known.searched = at);
        }
    }

    /// Forgets all but the last generations of a place that nobody reads.
    pub(super) fn trim(&mut self, place: Place, owner: &Owner) {
        let before =
            self.in_place(place).filter(|(_, known)| known.holder.is_none() && known.owner == *owner);
        let mut before: Vec<_> = before.map(|(id, known)| (known.opened, id)).collect();
        before.sort();
        let many = before.len().saturating_sub(Self::MAX_BEFORE);
        before.into_iter().take(many).for_each(|(_, id)| drop(self.remove(id)));
    }

    /// `seconds` have passed. Forgets what nobody has read for longer than `most`; whether there was anything of that.
    pub(super) fn age(&mut self, seconds: u64, most: u64) -> bool {
        let free = self.entries.values_mut().filter(|known| known.holder.is_none());
        free.for_each(|known| known.absent = known.absent.saturating_add(seconds));
        let is_old = |known: &Known| known.holder.is_none() && known.absent >= most;
        let old: Vec<_> = self.iter().filter(|(_, known)| is_old(known)).map(|(id, _)| id).collect();
        old.iter().for_each(|id| drop(self.remove(*id)));
        !old.is_empty()
    }

    /// Forgets of what nobody reads so much that no more than `most` are left: first what has ended, and of that what was seen last
    /// the longest ago. Whether there was anything of that.
    pub(super) fn bound(&mut self, most: usize) -> bool {
        let free = || self.iter().filter(|(_, known)| known.holder.is_none());
        let Some(more @ 1..) = free().count().checked_sub(most) else { return false };
        let mut order: Vec<_> =
            free().map(|(id, known)| (!known.has_ended, known.seen, known.opened, id)).collect();
        order.sort_unstable();
        // Some more than must be, so that it is not done again for the next one.
        let many = more + most / 10;
        order.iter().take(many).for_each(|(.., id)| drop(self.remove(*id)));
        true
    }

    /// The file of an owner that lies here is still there.
    pub(super) fn renew(&mut self, place: Place, owner: &Owner) {
        let ids: Vec<_> =
            self.in_place(place).filter(|(_, known)| known.owner == *owner).map(|(id, _)| id).collect();
        for id in ids {
            self.entries.entry(id).and_modify(|known| known.absent = 0);
        }
    }

    /// Offset and source of a file for an owner: its own; otherwise the lowest offset of jobs that are none of `jobs`; otherwise, for a
    /// client that `is_new`, the lowest that other clients had when this process began. What they have read since is theirs alone.
    pub(super) fn find(
        &self,
        file: &impl Identified,
        path: &Path,
        owner: &Owner,
        jobs: &[String],
        is_new: bool,
    ) -> io::Result<Option<Found>> {
        let here: Vec<(KnownId, &Known)> = match self.by {
            IdentifiedBy::Path => self.at(path).collect(),
            _ => self.in_place(file.place()?).collect(),
        };
        let mut own: Option<(KnownId, &Known)> = None;
        let (mut of_client, mut of_others): (Option<u64>, Option<u64>) = (None, None);
        for (id, known) in here {
            let (is_own, is_free) = (known.owner == *owner, !jobs.contains(&known.owner.job));
            if !(is_own || is_free || known.owner.job == owner.job) || !known.identity.is_of(file)? {
                continue;
            }
            if is_own {
                // A generation whose beginning was short may look like one that came later.
                let rank = |known: &Known| (known.identity.is_telling(), known.opened);
                own = Some((id, known))
                    .filter(|_| own.is_none_or(|(_, other)| rank(known) >= rank(other)))
                    .or(own);
                continue;
            }
            let (lowest, offset) = match known.owner.client == owner.client {
                true => (&mut of_client, Some(known.offset)),
                false if is_free => (&mut of_others, Some(known.offset)),
                false => (&mut of_others, known.loaded),
            };
            *lowest = (*lowest).into_iter().chain(offset).min();
        }
        if let Some((id, known)) = own {
            let (offset, mark) = (known.offset, known.identity.mark());
            return Ok(Some(Found { own: Some(id), offset, source: known.source(), mark }));
        }
        let offset = of_client.or(of_others.filter(|_| is_new));
        Ok(offset.map(|offset| Found { own: None, offset, source: None, mark: None }))
    }
}

fn forget<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Vec<KnownId>>, key: &K, id: KnownId) {
    if let Some(ids) = index.get_mut(key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
