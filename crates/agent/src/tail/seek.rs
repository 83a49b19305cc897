//! What became of a file that is not at its path any more, and of those that came and went at that path unseen.
//!
//! A generation is found by what it is (place and beginning) whatever it is called; a copy of it, compressed or not, by its beginning alone.
//! What nobody has seen before, is named as rotation names files, and was written to since the path was last looked at, is a generation
//! that was missed.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::archive::{Format, SETTLED};
use super::content::{Content, Identified as _};
use super::followed::Wanted;
use super::poller::Poller;
use super::rotated::{Listings, Sibling, originals, uncompressed};
use crate::positions::{Identity, KnownFile, KnownId};

/// Clocks of file systems are coarse.
const CLOCK_SLACK: Duration = Duration::from_secs(2);
/// What is looked for may be renamed or packed meanwhile: it is looked for again so often.
const TRIES: usize = 5;

/// A search for the earlier generations of a path.
pub(super) struct Search {
    wanted: Wanted,
    /// What lies at the path now.
    here: Option<(u64, u64)>,
    /// Generations that were written to since are not old ones that nobody asked for.
    since: Option<SystemTime>,
    /// What was read before, and is not at the path any more.
    lost: Vec<KnownFile>,
    /// Where generations lie beside: the path, and where the link leads and led that it is.
    names: Vec<PathBuf>,
    /// Where the path leads now.
    real: Option<PathBuf>,
    /// What the last look has met.
    met: Vec<(PathBuf, u64)>,
    /// There are generations that came after what is lost, and went unseen.
    is_overtaken: bool,
}

impl Search {
    /// The files among which generations may be, each once. Of several that hold the same the best comes first: the file itself before
    /// any copy of it, what is not compressed before what may be half compressed.
    fn siblings(&self, listings: &mut Listings) -> Vec<Sibling> {
        let inodes: HashSet<u64> = self.lost.iter().map(|k| k.identity.place().1).collect();
        let mut siblings = Vec::new();
        for name in &self.names {
            siblings.extend(match self.lost.is_empty() {
                true => listings.beside(name, &inodes),
                false => listings.family(name, &inodes),
            });
            if *name != self.wanted.path && Some(name) != self.real.as_ref() {
                siblings.extend(listings.itself(name));
            }
        }
        let mut met = HashSet::new();
        siblings.retain(|sibling| met.insert((sibling.path.clone(), sibling.inode)));
        siblings.sort_by_key(|sibling| {
            let is_lost = self.lost.iter().any(|k| k.identity.place().1 == sibling.inode);
            (!is_lost, uncompressed(&sibling.path).is_some())
        });
        siblings
    }

    /// Whether a file is so new that it must have come while nobody looked.
    fn is_recent(&self, sibling: &Sibling) -> bool {
        let Some(since) = self.since else { return false };
        let is_since = |at: std::io::Result<SystemTime>| at.is_ok_and(|at| at >= since);
        // What is compressed now may have been written long ago.
        let is_new = || uncompressed(&sibling.path).is_none() && is_since(sibling.metadata.created());
        is_since(sibling.metadata.modified()) || is_new()
    }
}

impl Poller {
    /// Looks for earlier generations of `wanted`, whose path was last looked at at `since`, or as long ago as is remembered, and of which
    /// files at `names` were read. What is found goes on where it was left; what is not is handed out.
    pub(super) fn seek(
        &mut self,
        wanted: &Wanted,
        since: Option<SystemTime>,
        names: &[PathBuf],
    ) -> Vec<KnownId> {
        let search = self.search(wanted, since, names);
        self.seek_all(search.into_iter().collect())
    }

    /// What [`seek`](Self::seek) has to look for.
    pub(super) fn search(
        &self,
        wanted: &Wanted,
        since: Option<SystemTime>,
        names: &[PathBuf],
    ) -> Option<Search> {
        let known = self.positions.expected_at(&wanted.path, wanted.job);
        if known.is_empty() && since.is_none() {
            return None;
        }
        let current = Content::plain(&wanted.path).ok();
        let here = current.as_ref().and_then(|file| file.place().ok());
        // Inodes are used again: what lies there now may be another file.
        let is_here =
            |k: &KnownFile| current.as_ref().is_some_and(|file| k.identity.is_of(file).unwrap_or(false));
        let last_seen = || known.iter().map(|k| k.seen).max().and_then(from_epoch);
        let since = since.or_else(last_seen).and_then(|at| at.checked_sub(CLOCK_SLACK));
        let real = wanted.path.canonicalize().ok();
        let folder = wanted.path.parent().and_then(|folder| folder.canonicalize().ok());
        let own = folder.zip(wanted.path.file_name()).map(|(folder, name)| folder.join(name));
        let mut all = vec![wanted.path.clone()];
        for name in real.iter().chain(names).chain(known.iter().filter_map(|k| k.real.as_ref())) {
            if Some(name) != own.as_ref() && !all.contains(name) {
                all.push(name.clone());
            }
        }
        let lost =
            known.into_iter().filter(|k| k.identity.is_telling() && !k.is_held && !is_here(k)).collect();
        Some(Search {
            wanted: wanted.clone(),
            here,
            since,
            lost,
            names: all,
            real,
            met: Vec::new(),
            is_overtaken: false,
        })
    }

    /// Looks for all of these at once. Each folder is listed once for all, after what lies at their paths now was opened: a generation
    /// that has left its path before is there.
    pub(super) fn seek_all(&mut self, mut searches: Vec<Search>) -> Vec<KnownId> {
        let mut over: Vec<Search> = Vec::new();
        for _ in 0..TRIES {
            let mut listings = Listings::default();
            over.extend(searches.extract_if(.., |search| self.seek_in(search, &mut listings)));
            if searches.is_empty() {
                break;
            }
        }
        over.extend(searches);
        let mut gone = Vec::new();
        for search in over {
            for lost in search.lost {
                self.tell_of_lost(&lost, search.is_overtaken);
                gone.push(lost.id);
            }
        }
        gone
    }

    /// Nothing is left of a generation that was read. If others came after it that nobody saw, it may have grown unseen as well.
    fn tell_of_lost(&self, lost: &KnownFile, is_overtaken: bool) {
        let path = lost.path.display();
        if is_overtaken && !lost.has_ended {
            self.options.metrics.missed_generations.inc();
            tracing::warn!(
                %path, offset = lost.offset, seen = lost.seen,
                "a generation of a file was rotated away or overwritten, and more came after it, before anybody looked: what was written to it behind this offset is lost"
            );
        } else {
            tracing::debug!(%path, offset = lost.offset, "a file that was read is gone");
        }
        self.positions.end(lost.id);
    }

    /// Takes up what is found in these listings. Whether there is nothing more to find.
    fn seek_in(&mut self, search: &mut Search, listings: &mut Listings) -> bool {
        let job = search.wanted.job;
        let siblings = search.siblings(listings);
        let met: Vec<_> = siblings.iter().map(|sibling| (sibling.path.clone(), sibling.inode)).collect();
        // They come last: one may lie where another lay that is looked for.
        let (mut has_moved, mut missed) = (false, Vec::new());
        for sibling in siblings {
            let (path, metadata) = (&sibling.path, &sibling.metadata);
            let is_recent = search.is_recent(&sibling);
            let place = (metadata.dev(), metadata.ino());
            if place.1 != sibling.inode {
                has_moved = true;
                continue;
            }
            // One that a glob matches may have been met already.
            let open = self.by_seat.get(&(place, job)).and_then(|id| self.files.get(id));
            search.is_overtaken |=
                sibling.is_own && open.is_some_and(|file| file.came_since(path, search.since));
            if self.is_done(place, metadata)
                || Some(place) == search.here
                || self.by_seat.contains_key(&(place, job))
                || (search.lost.is_empty() && !is_recent)
            {
                continue;
            }
            // What it is made of is there until it is complete.
            if let Some(plain) = uncompressed(path).filter(|plain| plain.exists()) {
                has_moved |= !met.iter().any(|(path, _)| *path == plain);
                continue;
            }
            let format = Format::of(path);
            let is_begun = format.is_none() && Format::named(path).is_some() && metadata.len() < 4;
            let content = self.content(path, job, format);
            let content = content.ok().filter(|content| content.place().is_ok_and(|at| at == place));
            let Some(content) = content.filter(|_| !is_begun) else {
                has_moved = true;
                continue;
            };
            let begins = |k: &KnownFile| k.identity.begins(&content).unwrap_or(false);
            let holds = |k: &KnownFile| content.size().is_ok_and(|size| size >= k.offset);
            let is_known = self.positions.is_known(&content, &search.wanted.path, job);
            let found = search.lost.iter().position(|k| match is_known {
                true => k.identity.is_of(&content).unwrap_or(false),
                false => begins(k) && holds(k),
            });
            match found {
                Some(at) => {
                    let old = search.lost.remove(at);
                    if !is_known && !self.adopt(&old, &content) {
                        continue;
                    }
                    tracing::info!(path = %path.display(), was = %search.wanted.path.display(), "found a file that was rotated away");
                }
                None if is_known
                    || !is_recent
                    || !sibling.is_own
                    || self.is_copy_of_any(&search.wanted, &content) =>
                {
                    continue;
                }
                None if self.has_target(path, job, &content) => {
                    search.is_overtaken |= self.origin(path, job, &content).is_none();
                    continue;
                }
                None if let Some(old) = self.origin(path, job, &content) => {
                    if !Self::is_gone(&old) || !self.adopt(&old, &content) {
                        continue;
                    }
                    search.lost.retain(|lost| lost.id != old.id);
                    tracing::info!(path = %path.display(), was = %old.path.display(), "found a copy of a file that is gone");
                }
                None => {
                    missed.push((path.clone(), content));
                    continue;
                }
            }
            self.add_left(&search.wanted, path, content);
        }
        for (path, content) in missed {
            if self.is_left_copy(&search.wanted, &content) {
                continue;
            }
            search.is_overtaken = true;
            self.options.metrics.missed_generations.inc();
            tracing::info!(path = %path.display(), was = %search.wanted.path.display(), "found a generation that came and went unseen");
            self.add_left(&search.wanted, &path, content);
        }
        let is_same = std::mem::replace(&mut search.met, met) == search.met;
        !has_moved && (search.lost.is_empty() || is_same)
    }

    /// What was read in the same folder and began as this does.
    fn origin(&self, path: &Path, job: usize, content: &Content) -> Option<KnownFile> {
        let is_beside = |k: &KnownFile| {
            k.path.parent() == path.parent()
                || k.real.as_ref().is_some_and(|real| real.parent() == path.parent())
        };
        let known = self.positions.known_of(job).into_iter();
        let mut known = known.filter(|k| is_beside(k) && k.identity.is_telling());
        let holds = |k: &KnownFile| content.size().is_ok_and(|size| size >= k.offset);
        known.find(|k| holds(k) && k.identity.begins(content).unwrap_or(false))
    }

    /// Whether a file is neither open nor where it was read.
    fn is_gone(known: &KnownFile) -> bool {
        let is_there =
            || Content::plain(&known.path).is_ok_and(|file| known.identity.is_of(&file).unwrap_or(false));
        !known.is_held && !is_there()
    }

    /// Whether a target wants it by its own name, and has it opened by itself.
    fn has_target(&self, path: &Path, job: usize, content: &Content) -> bool {
        let unpacks = || self.options.jobs.get(job).is_some_and(|reading| reading.decompression.enabled);
        self.target_of(path).any(|target| target.job == job) && (!content.is_archive() || unpacks())
    }

    /// Whether this file was read to its end before, and is as it was then.
    pub(super) fn is_done(&self, place: (u64, u64), now: &Metadata) -> bool {
        // Another that took its place has another time.
        self.done.get(&place) == Some(&(now.len(), now.modified().ok()))
    }

    /// Follows a generation, with the labels of the path that it had and under that path's name in the positions.
    fn add_left(&mut self, wanted: &Wanted, path: &Path, content: Content) {
        if let Some(id) = self.add(wanted.clone(), content, path) {
            self.leave(id);
        }
    }

    fn adopt(&self, old: &KnownFile, content: &Content) -> bool {
        let Ok(new) = self.positions.identity(content) else { return false };
        self.positions.adopt(old, new);
        true
    }

    /// Looks for files that were read when the agent last ran, and whose path leads nowhere now.
    pub(super) fn seek_absent(&mut self) {
        let (mut met, mut wanted) = (HashSet::new(), Vec::new());
        for known in self.positions.known() {
            if known.path.exists() {
                continue;
            }
            for target in self.target_of(&known.path) {
                let at = (known.path.clone(), target.job);
                if met.insert(at.clone()) {
                    wanted.push(Wanted::of_target(at.0, target));
                }
            }
        }
        let searches = wanted.iter().filter_map(|wanted| self.search(wanted, None, &[])).collect();
        self.seek_all(searches);
    }

    /// Whether a file that nobody has read is a copy of one that is being read, as copytruncate makes them. One of a file that is not
    /// read any more goes on where that was left.
    pub(super) fn is_copy(&self, wanted: &Wanted, content: &Content) -> bool {
        if self.positions.is_known(content, &wanted.path, wanted.job) {
            return false;
        }
        let originals = originals(&wanted.path);
        if !originals.is_empty() && self.is_left_copy(wanted, content) {
            return true;
        }
        for original in originals {
            if self.is_open_copy(&original, wanted.job, content) {
                return true;
            }
            let here = std::fs::metadata(&original).ok().map(|m| (m.dev(), m.ino()));
            let holds = |k: &KnownFile| {
                k.identity.is_telling()
                    && !k.is_held
                    && k.identity.begins(content).unwrap_or(false)
                    && content.size().is_ok_and(|size| size >= k.offset)
            };
            if let Some(old) = self.positions.known_at(&original, wanted.job).into_iter().find(holds) {
                // While the original lies where it lay it is the one that is read, once it is opened.
                let is_there = here == Some(old.identity.place())
                    && Content::plain(&original).is_ok_and(|file| old.identity.is_of(&file).unwrap_or(false));
                return is_there || !self.adopt(&old, content);
            }
        }
        false
    }

    /// Whether a file that is being written now may become a copy of one that is read: it holds no more than the beginning of that.
    pub(super) fn may_become_copy(&self, wanted: &Wanted, content: &Content, metadata: &Metadata) -> bool {
        let is_fresh = metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < SETTLED));
        if !is_fresh || content.is_archive() || self.positions.is_known(content, &wanted.path, wanted.job) {
            return false;
        }
        let size = content.size().unwrap_or_default();
        let head = content.head(size.min(Identity::HEAD_BYTES)).ok().flatten();
        originals(&wanted.path).into_iter().any(|original| {
            let open = self.by_path.get(&(original, wanted.job)).and_then(|id| self.files.get(id)?.file());
            open.is_some_and(|file| {
                let is_short =
                    file.identity().is_telling() && !file.identity().begins(content).unwrap_or(true);
                let same = || file.content().head(size).ok().flatten() == head;
                is_short && size < Identity::HEAD_BYTES && same()
            })
        })
    }

    pub(super) fn is_open_copy(&self, original: &Path, job: usize, content: &Content) -> bool {
        let open = self.by_path.get(&(original.to_owned(), job)).and_then(|id| self.files.get(id)?.file());
        open.is_some_and(|file| {
            file.identity().is_telling() && file.identity().begins(content).unwrap_or(false)
        })
    }

    /// Whether something that nobody has read is a copy of what is at the path now, or of what is held open and has left its path.
    fn is_copy_of_any(&self, wanted: &Wanted, content: &Content) -> bool {
        let is_copy =
            |identity: &Identity| identity.is_telling() && identity.begins(content).unwrap_or(false);
        let here = Content::plain(&wanted.path).and_then(|here| self.positions.identity(&here));
        here.is_ok_and(|here| is_copy(&here)) || self.is_left_copy(wanted, content)
    }

    fn is_left_copy(&self, wanted: &Wanted, content: &Content) -> bool {
        // What has left its path is looked at often.
        let left = self.schedule.files().filter_map(|id| self.files.get(&id));
        let left = left.filter(|f| f.leaving.is_some() && f.wanted.job == wanted.job);
        let mut left =
            left.filter(|f| f.wanted.path.parent() == wanted.path.parent()).filter_map(|f| f.file());
        left.any(|file| file.identity().is_telling() && file.identity().begins(content).unwrap_or(false))
    }
}

fn from_epoch(seconds: i64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}
