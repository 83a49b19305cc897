//! What became of a file that is not at its path any more, and of those that came and went at that path unseen.
//!
//! A generation is found by what it is (place, head and mark) whatever it is called; a copy of it, compressed or not, by head and mark. What
//! nobody has seen before, is named as rotation names files, and was made since the path was last looked at, is a generation that was
//! missed. Who is a copy of whom is told by `copies`.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::Timestamp;

use super::archive::Format;
use super::content::{Content, Identified as _};
use super::followed::Wanted;
use super::poller::Poller;
use super::rotated::{Listings, Sibling, uncompressed};
use crate::positions::{KnownFile, KnownId};

/// Clocks of file systems are coarse: those of what was written, and by how much files may be older than they are.
const CLOCK_SLACK: Duration = Duration::from_secs(2);
const BIRTH_SLACK: Duration = Duration::from_millis(20);
/// What is looked for may be renamed or packed meanwhile: it is looked for again so often.
const TRIES: usize = 5;

/// A search for the earlier generations of a path.
pub(super) struct Search {
    wanted: Wanted,
    /// When it began, ns since the epoch.
    begun: i64,
    /// What lies at the path now.
    here: Option<(u64, u64)>,
    /// Generations that were made since are not old ones that nobody asked for.
    since: Option<SystemTime>,
    /// What was read before, and is not at the path any more.
    lost: Vec<KnownFile>,
    /// Where lay what was read before.
    places: HashSet<(u64, u64)>,
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

    /// Whether a file is so new that it must have come while nobody looked. One that was there before belongs to somebody else, even if it
    /// is written to, unless it is a copy that is made anew in place again and again.
    fn is_recent(&self, sibling: &Sibling) -> bool {
        let metadata = &sibling.metadata;
        let is_since = |at: std::io::Result<SystemTime>, slack| {
            let since = self.since.and_then(|since| since.checked_sub(slack));
            at.is_ok_and(|at| since.is_some_and(|since| at >= since))
        };
        let is_written = is_since(metadata.modified(), CLOCK_SLACK);
        match metadata.created() {
            Err(_) => is_written,
            Ok(_) if self.places.contains(&(metadata.dev(), metadata.ino())) => is_written,
            // What was made by packing has the time of what it was made of.
            Ok(born) => {
                is_since(Ok(born), BIRTH_SLACK) && (is_written || uncompressed(&sibling.path).is_none())
            }
        }
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
        let begun = Timestamp::now().nanos();
        let known = self.positions.expected_at(&wanted.path, wanted.job);
        if known.is_empty() && since.is_none() {
            return None;
        }
        let current = Content::plain(&wanted.path).ok();
        let here = current.as_ref().and_then(|file| file.place().ok());
        // Inodes are used again: what lies there now may be another file.
        let is_here =
            |k: &KnownFile| current.as_ref().is_some_and(|file| k.identity.is_of(file).unwrap_or(false));
        // Before the path was searched to the end anything may have been missed, whatever was opened or seen by then.
        let last_searched = || {
            let searched = known.iter().map(|k| k.searched).max().filter(|at| *at > 0);
            let since = searched.or_else(|| known.iter().map(|k| k.opened).filter(|at| *at > 0).min())?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(u64::try_from(since).ok()?))
        };
        let since = since.or_else(last_searched);
        let real = wanted.path.canonicalize().ok();
        let folder = wanted.path.parent().and_then(|folder| folder.canonicalize().ok());
        let own = folder.zip(wanted.path.file_name()).map(|(folder, name)| folder.join(name));
        let mut all = vec![wanted.path.clone()];
        for name in real.iter().chain(names).chain(known.iter().filter_map(|k| k.real.as_ref())) {
            if Some(name) != own.as_ref() && !all.contains(name) {
                all.push(name.clone());
            }
        }
        let places = known.iter().map(|k| k.identity.place()).collect();
        let lost =
            known.into_iter().filter(|k| k.identity.is_lasting() && !k.is_held && !is_here(k)).collect();
        Some(Search {
            wanted: wanted.clone(),
            begun,
            here,
            since,
            lost,
            places,
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
            self.positions.searched(&search.wanted.path, search.wanted.job, search.begun);
            for lost in search.lost {
                self.tell_of_lost(&lost, search.is_overtaken);
                gone.push(lost.id);
            }
        }
        gone
    }

    /// Nothing is left of a generation that was read. It may have held more than was delivered; and if others came after it that nobody
    /// saw, it may have grown unseen as well.
    fn tell_of_lost(&self, lost: &KnownFile, is_overtaken: bool) {
        let (path, offset, size) = (lost.path.display(), lost.offset, lost.size);
        let bytes = if lost.has_ended { 0 } else { size.saturating_sub(offset) };
        let is_missed = is_overtaken && !lost.has_ended && lost.identity.is_telling();
        self.options.metrics.lost_bytes.inc_by(bytes);
        self.options.metrics.missed_generations.inc_by(u64::from(is_missed));
        if is_missed || bytes > 0 {
            tracing::warn!(
                %path, offset, size, seen = lost.seen,
                "a file was rotated away, overwritten or removed before all of it was delivered, and is found nowhere: what it held behind this offset is lost"
            );
        } else {
            tracing::debug!(%path, offset, "a file that was read is gone");
        }
        self.positions.end(lost.id);
    }

    /// Takes up what is found in these listings. Whether there is nothing more to find.
    fn seek_in(&mut self, search: &mut Search, listings: &mut Listings) -> bool {
        let job = search.wanted.job;
        let siblings = search.siblings(listings);
        self.take_up_here(search, &siblings);
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
            let beginning = content.beginning();
            let is_known = self.positions.is_known(&content, &search.wanted.path, job);
            let found = search.lost.iter().position(|k| match is_known {
                true => k.identity.is_of(&content).unwrap_or(false),
                false => k.is_held_in(&content, &beginning),
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
                    || self.is_excluded(&search.wanted.path, path, job)
                    || self.is_copy_of_any(&search.wanted, &content) =>
                {
                    continue;
                }
                None if self.has_target(path, job, &content) => {
                    search.is_overtaken |= self.origin(path, job, &content).is_none();
                    continue;
                }
                None if let Some(old) = self.origin(path, job, &content) => {
                    if old.stands().is_some() || !self.adopt(&old, &content) {
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

    /// What lies at the path may be what always lay there, though the disk was mounted again or restored, and it has another place by now.
    fn take_up_here(&self, search: &mut Search, siblings: &[Sibling]) {
        let Search { wanted, lost, .. } = search;
        if lost.is_empty() || Format::named(&wanted.path).is_some() {
            return;
        }
        let Ok(here) = Content::plain(&wanted.path) else { return };
        let (Ok(now), beginning) = (here.stored(), here.beginning()) else { return };
        let is_elsewhere = |place| siblings.iter().any(|s| (s.metadata.dev(), s.metadata.ino()) == place);
        // Whoever writes the same again writes it at another time.
        let is_older = |k: &KnownFile| {
            // It is told in whole seconds.
            let seen = from_epoch(k.seen.saturating_add(1));
            seen.zip(now.modified().ok()).is_some_and(|(seen, modified)| modified <= seen)
        };
        let is_it = |k: &KnownFile| {
            k.identity.mark().is_some()
                && !k.has_ended
                && (k.identity.place().0 != now.dev() || now.len() > k.offset || is_older(k))
                && k.is_held_in(&here, &beginning)
                && !is_elsewhere(k.identity.place())
        };
        if let Some(at) = lost.iter().position(is_it)
            && !self.positions.is_known(&here, &wanted.path, wanted.job)
            && self.adopt(&lost[at], &here)
        {
            lost.remove(at);
            tracing::info!(path = %wanted.path.display(), "a file is what it was, though it lies elsewhere on the disk");
        }
    }

    /// Whether the target that wants one path says that another is not to be read.
    fn is_excluded(&self, wanted: &Path, path: &Path, job: usize) -> bool {
        let mut targets = self.target_of(wanted).filter(|target| target.job == job);
        targets.any(|target| target.excludes(path))
    }

    /// What was read in the same folder and began as this does.
    fn origin(&self, path: &Path, job: usize, content: &Content) -> Option<KnownFile> {
        let is_beside = |k: &KnownFile| {
            k.path.parent() == path.parent()
                || k.real.as_ref().is_some_and(|real| real.parent() == path.parent())
        };
        let known = self.positions.known_of(job).into_iter();
        let beginning = content.beginning();
        let is_it = |k: &KnownFile| match k.stands() {
            Some(there) => content.is_copy_of(&there).unwrap_or(false),
            None => true,
        };
        // What is being read was compared as it is.
        known.filter(|k| is_beside(k) && !k.is_held).find(|k| k.is_held_in(content, &beginning) && is_it(k))
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
    pub(super) fn add_left(&mut self, wanted: &Wanted, path: &Path, content: Content) {
        if let Some(id) = self.add(wanted.clone(), content, path) {
            self.leave(id);
        }
    }

    pub(super) fn adopt(&self, old: &KnownFile, content: &Content) -> bool {
        let (Ok(new), Ok(size)) = (self.positions.identity(content), content.size()) else { return false };
        self.positions.adopt(old, new, size);
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
        let now = SystemTime::now();
        wanted.into_iter().for_each(|wanted| self.suspects.note_absent(wanted.path, wanted.job, now));
    }
}

fn from_epoch(seconds: i64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}
