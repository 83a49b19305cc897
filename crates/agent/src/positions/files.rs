//! How far files are acknowledged: what a reader of files asks of the positions, and tells them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::known::{Found, Known, KnownId, Owner};
use super::{IdentifiedBy, Identity, Inner, Mark, Positions, now};
use crate::progress::Progress;
use crate::source::Source;
use crate::tail::Identified;

/// What is remembered of a file.
#[derive(Debug, Clone)]
pub(crate) struct KnownFile {
    /// Its entry.
    pub(crate) id: KnownId,
    /// Where it was last read.
    pub(crate) path: PathBuf,
    /// Where that was in truth, if the path was a link.
    pub(crate) real: Option<PathBuf>,
    /// What it was.
    pub(crate) identity: Identity,
    /// Everything before this offset is acknowledged.
    pub(crate) offset: u64,
    /// Its bytes when it was last looked at, if they are to be expected still.
    pub(crate) size: u64,
    /// When it was opened last, ns since the epoch.
    pub(crate) opened: i64,
    /// Up to when all that lay at its path before it was looked for, ns since the epoch; 0 if it never was.
    pub(crate) searched: i64,
    /// When it was last seen, seconds since the epoch.
    pub(crate) seen: i64,
    /// Whether it is being read.
    pub(crate) is_held: bool,
    /// Whether it was read to its end after it had left its path.
    pub(crate) has_ended: bool,
}

impl KnownFile {
    fn new((id, known): (KnownId, &Known)) -> Self {
        Self {
            id,
            path: known.path.clone(),
            real: known.real.clone(),
            identity: known.identity,
            offset: known.offset,
            size: known.size,
            opened: known.opened,
            searched: known.searched,
            seen: known.seen,
            is_held: known.holder.is_some(),
            has_ended: known.has_ended,
        }
    }
}

/// A file that is being read.
pub(super) struct OpenFile {
    /// The entry that it holds, unless another has taken that over.
    pub(super) entry: KnownId,
    pub(super) progress: Arc<Progress>,
}

/// Who holds an entry: no two that are open share their progress.
pub(super) fn holder(progress: &Arc<Progress>) -> usize {
    Arc::as_ptr(progress).addr()
}

impl Positions {
    /// The progress of a file that a job (by its index) is about to read, and its identity, marked where reading goes on. `path` is what it is read
    /// as, `at` where it lies now; one that nobody has read begins at `start`.
    pub fn open_file(
        &self,
        path: &Path,
        at: &Path,
        file: &impl Identified,
        job: usize,
        start: u64,
    ) -> io::Result<(Identity, Arc<Progress>)> {
        let (size, owner) = (file.size()?, self.owner(job));
        let real = at.canonicalize().ok().filter(|real| real != path);
        let mut inner = self.shared.inner.lock();
        let identity = Identity::of(file, inner.known.by())?;
        let found = inner.find(file, path, &owner, &self.jobs)?;
        let own = found.as_ref().and_then(|found| found.own);
        let before = match found {
            Some(Found { offset, source, mark, .. }) => Some((offset, source.unwrap_or_default(), mark)),
            None => inner.imported.offset(path, identity.place()).map(|offset| (offset, Source::new(), None)),
        };
        // What is shorter than it was is another.
        let is_shorter = before.as_ref().is_some_and(|(offset, ..)| *offset > size);
        let (offset, source, mark) = match before.filter(|_| !is_shorter) {
            Some(before) => before,
            None if is_shorter => (0, Source::new(), None),
            None => (start.min(size), Source::new(), None),
        };
        let mark = match mark {
            None if !file.is_packed() => Mark::read(file, offset)?,
            mark => mark,
        };
        let identity = identity.marked(mark);
        let progress = self.progress(offset, source);
        progress.saw(if file.is_packed() { 0 } else { size });
        let entry = Known {
            path: path.to_owned(),
            real,
            identity,
            owner,
            source: id_of(&progress),
            offset,
            size: progress.size(),
            saved: progress.source().and_then(Source::saved),
            loaded: None,
            opened: model::Timestamp::now().nanos(),
            searched: own.and_then(|id| inner.known.get(id)).map_or(0, |known| known.searched),
            seen: now(),
            absent: 0,
            has_ended: false,
            holder: Some(holder(&progress)),
        };
        inner.hold(own.filter(|_| !is_shorter), entry, &progress);
        Ok((identity, progress))
    }

    /// The progress of a file that begins anew: what it held before is another generation, and another source's.
    pub(crate) fn anew(&self, old: &Arc<Progress>, identity: Identity) -> Arc<Progress> {
        let (new, mut inner) = (self.progress(0, Source::new()), self.shared.inner.lock());
        let before = inner.let_go(old).and_then(|id| inner.known.get(id)).cloned();
        if let Some(before) = before {
            let opened = model::Timestamp::now().nanos();
            let (source, holder) = (id_of(&new), Some(holder(&new)));
            let fresh = Known {
                offset: 0,
                size: 0,
                saved: None,
                loaded: None,
                absent: 0,
                has_ended: false,
                source,
                opened,
                identity,
                holder,
                ..before
            };
            inner.hold(None, fresh, &new);
        }
        new
    }

    fn progress(&self, offset: u64, source: Source) -> Arc<Progress> {
        Progress::of_source(offset, source, self.shared.unsaved.clone())
    }

    /// The file's identity covers more of it now, or it goes on elsewhere.
    pub(crate) fn identified(&self, progress: &Arc<Progress>, identity: Identity) {
        let mut inner = self.shared.inner.lock();
        let Some(entry) = inner.open_files.get(&holder(progress)).map(|open| open.entry) else { return };
        if inner.known.held(entry, holder(progress)).is_some() {
            inner.known.identify(entry, identity);
            inner.version += 1;
        }
    }

    /// The identity of a file, by what files are known by.
    pub(crate) fn identity(&self, file: &impl Identified) -> io::Result<Identity> {
        Identity::of(file, self.shared.inner.lock().known.by())
    }

    /// Every file that is remembered for this client, whether it is open or not.
    pub(crate) fn known(&self) -> Vec<KnownFile> {
        let mut inner = self.shared.inner.lock();
        inner.remember();
        inner.known.iter().filter(|(_, k)| k.owner.client == *self.client).map(KnownFile::new).collect()
    }

    /// Every file that a job (by its index) has read.
    pub(crate) fn known_of(&self, job: usize) -> Vec<KnownFile> {
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        most_read_first(inner.known.iter().filter(|(_, known)| known.owner == owner))
    }

    /// Files that a job (by its index) last read at this path.
    pub(crate) fn known_at(&self, path: &Path, job: usize) -> Vec<KnownFile> {
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        most_read_first(inner.known.at(path).filter(|(_, known)| known.owner == owner))
    }

    /// The same; where there are none, those that the job read for other clients: this one has yet to begin with them.
    pub(crate) fn expected_at(&self, path: &Path, job: usize) -> Vec<KnownFile> {
        let own = self.known_at(path, job);
        if !own.is_empty() {
            return own;
        }
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        let of_job = inner.known.at(path).filter(|(_, known)| known.owner.job == owner.job);
        let to_begin = |known| KnownFile { offset: 0, size: 0, is_held: false, ..KnownFile::new(known) };
        of_job.map(to_begin).collect()
    }

    /// Whether a job has read this very file before, which is read as `path`.
    pub(crate) fn is_known(&self, file: &impl Identified, path: &Path, job: usize) -> bool {
        self.offset_of(file, path, job).is_some()
    }

    /// How far a job has read this very file.
    pub(crate) fn offset_of(&self, file: &impl Identified, path: &Path, job: usize) -> Option<u64> {
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        inner.find(file, path, &owner, &self.jobs).ok().flatten().map(|found| found.offset)
    }

    /// What is remembered of a file that is not read goes on in another of so many bytes, which is a copy of it or was made of it by
    /// compression. If that ends before what was read there is nothing more in it.
    pub(crate) fn adopt(&self, old: &KnownFile, new: Identity, size: u64) {
        let mut inner = self.shared.inner.lock();
        // What other clients have read of it stays theirs.
        let is_ours = |known: &Known| known.owner.client == *self.client && known.holder.is_none();
        if inner.known.get(old.id).is_some_and(is_ours) {
            inner.known.identify(old.id, new);
            if old.offset > size {
                inner.known.end_at(old.id, size);
            }
            inner.version += 1;
        }
    }

    /// What lay at a path before what is read there now is found, as far as there is any of it, up to a time, ns since the epoch.
    pub(crate) fn searched(&self, path: &Path, job: usize, at: i64) {
        let (mut inner, owner) = (self.shared.inner.lock(), self.owner(job));
        inner.known.searched(path, &owner, at);
    }

    /// All of a file was read, which has so many bytes, and nobody reads it any more: what is not delivered yet is on its way.
    pub(crate) fn end_at(&self, entry: KnownId, size: u64) {
        let mut inner = self.shared.inner.lock();
        inner.known.end_at(entry, size);
        inner.version += 1;
    }

    /// A file that a job has read lies there still, though it is not read now.
    pub(crate) fn keep(&self, place: (u64, u64), job: usize) {
        let owner = self.owner(job);
        self.shared.inner.lock().known.renew(place, &owner);
    }

    /// The file is not read any more; it stays remembered for a day.
    pub fn close_file(&self, progress: &Arc<Progress>) {
        self.shared.inner.lock().let_go(progress);
    }

    /// The entry that a reader holds.
    pub(crate) fn entry(&self, progress: &Arc<Progress>) -> Option<KnownId> {
        self.shared.inner.lock().open_files.get(&holder(progress)).map(|open| open.entry)
    }

    /// A file has left its path and is read to its end, or is lost: nothing more is expected of it.
    pub(crate) fn end(&self, entry: KnownId) {
        let mut inner = self.shared.inner.lock();
        inner.known.end(entry);
        inner.version += 1;
    }

    /// So many seconds pass.
    #[cfg(test)]
    pub(crate) fn pass(&self, seconds: u64) {
        let mut inner = self.shared.inner.lock();
        inner.remember();
        inner.known.age(seconds, Self::FORGET_SECONDS as u64);
    }

    /// Has files known by something else than device, inode and beginning.
    pub(crate) fn identified_by(self, by: IdentifiedBy) -> Self {
        self.shared.inner.lock().known.identify_by(by);
        self
    }
}

fn id_of(progress: &Progress) -> Option<String> {
    progress.source().map(|source| format!("{:032x}", source.id()))
}

/// Files by how much was read of them: of several that may be one, that tells more than how they begin.
fn most_read_first<'k>(known: impl Iterator<Item = (KnownId, &'k Known)>) -> Vec<KnownFile> {
    let mut files: Vec<_> = known.map(KnownFile::new).collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.offset));
    files
}

impl Inner {
    /// Offset and source that an owner goes on with in a file.
    fn find(
        &self,
        file: &impl Identified,
        path: &Path,
        owner: &Owner,
        jobs: &[String],
    ) -> io::Result<Option<Found>> {
        self.known.find(file, path, owner, jobs, self.is_new(owner))
    }

    /// Has a reader hold an entry that was there, or a new one, which is as `file` says from now on.
    fn hold(&mut self, entry: Option<KnownId>, file: Known, progress: &Arc<Progress>) {
        let loaded = entry.and_then(|id| self.known.get(id)).and_then(|known| known.loaded);
        let (place, owner) = (file.identity.place(), file.owner.clone());
        let entry = self.known.replace(entry, Known { loaded, ..file });
        self.open_files.insert(holder(progress), OpenFile { entry, progress: progress.clone() });
        self.known.trim(place, &owner);
        self.version += 1;
    }

    /// A reader lets go of its entry, and leaves in it what it has reached.
    fn let_go(&mut self, progress: &Arc<Progress>) -> Option<KnownId> {
        let entry = self.open_files.remove(&holder(progress))?.entry;
        let known = self.known.held(entry, holder(progress))?;
        let is_new = reach(known, progress, now());
        known.holder = None;
        // What it has not delivered it tells of itself.
        known.size = known.size.min(known.offset);
        self.version += u64::from(is_new);
        Some(entry)
    }

    /// Takes over what open files have reached; whether that is anything new.
    pub(super) fn remember_files(&mut self, now: i64) -> bool {
        let mut is_new = false;
        for (holder, open) in &self.open_files {
            if let Some(known) = self.known.held(open.entry, *holder) {
                is_new |= reach(known, &open.progress, now);
            }
        }
        is_new
    }
}

/// Takes over what a reader has reached; whether that is anything new.
fn reach(known: &mut Known, progress: &Progress, now: i64) -> bool {
    let offset = progress.acknowledged();
    let is_new = known.offset != offset || known.size != progress.size();
    (known.offset, known.size, known.seen, known.absent) = (offset, progress.size(), now, 0);
    known.identity = known.identity.marked(progress.mark().or(known.identity.mark()));
    known.saved = progress.source().and_then(Source::saved);
    is_new
}
