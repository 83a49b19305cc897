//! What is done about changes. Those that are told at once are followed together: whatever many files leave their paths in a folder, as
//! when a rotation goes through all of it, the folder is listed once for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::archive::SETTLED;
use super::followed::{Followed, Look, Wanted};
use super::poller::Poller;
use super::rotated::originals;
use super::watch::Change;

/// A path that a file has left.
pub(super) struct Left {
    pub(super) wanted: Wanted,
    /// When it was last looked at.
    pub(super) since: SystemTime,
    /// Real paths where it led.
    pub(super) names: Vec<PathBuf>,
}

/// Paths at which generations may have come and gone though they look as before.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Where nothing lies, and since when.
    absent: BTreeMap<(PathBuf, usize), SystemTime>,
    /// When they are to be looked for, and since when they may have come.
    paths: BTreeMap<(PathBuf, usize), (Instant, SystemTime)>,
    /// When names in folders had last changed.
    folders: BTreeMap<PathBuf, SystemTime>,
}

impl Suspects {
    /// Most paths where nothing lies that are remembered: those that something has left last.
    const MOST: usize = 10_000;

    /// Nothing lies at a path any more.
    pub(super) fn note_absent(&mut self, path: PathBuf, job: usize, since: SystemTime) {
        self.absent.insert((path, job), since);
    }

    /// Since when nothing lay at a path where something does now.
    pub(super) fn was_absent(&mut self, path: &Path, job: usize) -> Option<SystemTime> {
        let at = (path.to_owned(), job);
        let since = self.absent.remove(&at)?;
        self.paths.remove(&at);
        Some(since)
    }

    fn absent_at(&self, path: &Path) -> impl Iterator<Item = (usize, SystemTime)> {
        let from = (path.to_owned(), 0);
        let here = self.absent.range(&from..).take_while(move |((other, _), _)| other == path);
        here.map(|((_, job), since)| (*job, *since))
    }

    /// Has generations looked for of such paths where nothing lies.
    fn suspect_absent(&mut self, is_one: impl Fn(&&(PathBuf, usize)) -> bool) {
        let found: Vec<_> =
            self.absent.iter().filter(|(at, _)| is_one(at)).map(|(at, since)| (at.clone(), *since)).collect();
        found.into_iter().for_each(|(at, since)| self.suspect(at, Instant::now(), since));
    }

    fn suspect(&mut self, at: (PathBuf, usize), due: Instant, since: SystemTime) {
        let (_, before) = self.paths.entry(at).or_insert((due, since));
        *before = since.min(*before);
    }

    /// Paths whose generations are to be looked for now.
    fn due(&mut self, now: Instant) -> Vec<((PathBuf, usize), SystemTime)> {
        let due = self.paths.extract_if(.., |_, (due, _)| *due <= now);
        due.map(|(at, (_, since))| (at, since)).collect()
    }

    /// Those of these folders in which names have come or gone since the last call. Forgets what is too much.
    fn changed(&mut self, folders: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        if self.absent.len() > Self::MOST {
            let mut times: Vec<SystemTime> = self.absent.values().copied().collect();
            let (_, last, _) = times.select_nth_unstable_by(Self::MOST - 1, |a, b| b.cmp(a));
            let last = *last;
            self.absent.retain(|_, since| *since >= last);
        }
        let modified = |folder: PathBuf| {
            let at = std::fs::metadata(&folder).and_then(|m| m.modified()).ok()?;
            // The clocks of file systems are coarse: more may happen at the same time.
            let is_settled = at.elapsed().is_ok_and(|age| age > Duration::from_millis(100));
            Some((folder, if is_settled { at } else { SystemTime::UNIX_EPOCH }))
        };
        let before = std::mem::replace(&mut self.folders, folders.into_iter().filter_map(modified).collect());
        let is_new =
            |(folder, at): &(&PathBuf, &SystemTime)| before.get(*folder).is_some_and(|old| old != *at);
        self.folders.iter().filter(is_new).map(|(folder, _)| folder.clone()).collect()
    }
}

impl Poller {
    /// New folders are gathered for so long before globs are looked at again.
    const GATHER_FOLDERS: Duration = Duration::from_millis(100);

    /// Does what the system's telling asks for.
    pub(super) fn follow_changes(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        self.watch.changes(&mut changes);
        let (mut looks, mut names, mut written) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut is_unknown = false;
        for change in changes.drain(..) {
            match change {
                Change::Written(name) => {
                    let ids = self.by_name.get(&name).cloned().unwrap_or_default();
                    if ids.is_empty() {
                        written.insert(name);
                    }
                    for id in ids {
                        // One that waits for its turn is looked at, as it may be truncated more than once by then.
                        let is_next =
                            |f: &Followed| f.file().is_some() && f.leaving.is_none() && !f.is_queued;
                        match self.files.get(&id).is_some_and(is_next) {
                            true => self.enqueue(id),
                            false => drop(looks.insert(id)),
                        }
                    }
                }
                Change::Moved(name) => {
                    looks.extend(self.by_name.get(&name).into_iter().flatten());
                    names.insert(name);
                }
                Change::Folder => self.find_at = self.find_at.min(Instant::now() + Self::GATHER_FOLDERS),
                Change::Unknown => is_unknown = true,
            }
        }
        self.changes = changes;
        // Before anything is looked at: generations may have come since it was the last time.
        names.iter().for_each(|name| self.suspect_named(name));
        self.look_all(looks);
        self.reopen_closed(&written);
        if !self.ignored.is_empty() {
            names.append(&mut written);
        }
        self.open_named(&names);
        if is_unknown {
            self.find_at = Instant::now();
            self.suspect_all(|_| true);
            self.look_at_all();
        }
        self.seek_suspected();
    }

    /// Looks at these files, and does together what is to be done about those that have left their paths.
    pub(super) fn look_all(&mut self, ids: impl IntoIterator<Item = u64>) {
        let mut parted = Vec::new();
        for id in ids {
            let Some(followed) = self.files.get_mut(&id) else {
                self.schedule.forget(id);
                continue;
            };
            let since = std::mem::replace(&mut followed.looked, SystemTime::now());
            if self.look(id, since) == Look::Elsewhere {
                parted.push((id, since));
            }
        }
        self.part_all(parted);
    }

    /// The paths lead elsewhere: the old files are read to their ends, the new ones opened, and what came between them looked for.
    fn part_all(&mut self, parted: Vec<(u64, SystemTime)>) {
        let left: Vec<Left> = parted.into_iter().filter_map(|(id, since)| self.part(id, since)).collect();
        let mut left = left.into_iter().peekable();
        while left.peek().is_some() {
            let room = self.room();
            let mut opened = Vec::new();
            let mut searches = Vec::new();
            let looked = SystemTime::now();
            for Left { wanted, since, names } in left.by_ref().take(room) {
                let is_wanted = wanted.key.is_some()
                    || self.target_of(&wanted.path).any(|target| target.job == wanted.job);
                let content = if is_wanted { self.opened(&wanted) } else { None };
                searches.extend(self.search(&wanted, Some(since), &names));
                if is_wanted && content.is_none() {
                    self.suspects.note_absent(wanted.path.clone(), wanted.job, looked);
                }
                opened.extend(content.map(|content| (wanted, content)));
            }
            self.seek_all(searches);
            opened.into_iter().for_each(|(wanted, content)| self.follow_here(wanted, content));
        }
    }

    /// A name leads elsewhere. Where nothing lies something may have come and gone; and if it is named as a copy of a file is that is
    /// empty, that may have been filled and emptied.
    fn suspect_named(&mut self, name: &Path) {
        let absent: Vec<_> = self.suspects.absent_at(name).collect();
        for (job, since) in absent {
            self.suspects.suspect((name.to_owned(), job), Instant::now(), since);
        }
        for path in originals(name) {
            let jobs: Vec<usize> = self.target_of(&path).map(|target| target.job).collect();
            for job in jobs {
                // While the file lies at its path nothing of what comes beside it was there.
                if let Some(id) = self.by_path.get(&(path.clone(), job)) {
                    self.schedule.soon(*id, Instant::now());
                }
                self.suspect_empty((path.clone(), job), None);
            }
        }
    }

    /// Has copies of a file looked for if it is empty, as it may have been filled and emptied.
    fn suspect_empty(&mut self, at: (PathBuf, usize), since: Option<SystemTime>) {
        let file = self.by_path.get(&at).and_then(|id| self.files.get(id));
        if let Some(file) = file.filter(|file| file.size == 0) {
            let since = since.map_or(file.looked, |since| since.min(file.looked));
            // The copy may be made just now.
            self.suspects.suspect(at, Instant::now() + SETTLED, since);
        }
    }

    /// The same for all paths in such folders: nobody knows which names lead elsewhere.
    fn suspect_all(&mut self, is_in: impl Fn(&Path) -> bool) {
        let is_in = |(path, _): &&(PathBuf, usize)| path.parent().is_some_and(&is_in);
        let open: Vec<_> = self.by_path.keys().filter(is_in).cloned().collect();
        let since = Some(self.found);
        open.into_iter().for_each(|at| self.suspect_empty(at, since));
        self.suspects.suspect_absent(is_in);
    }

    /// Has generations looked for in those of these folders in which names have come or gone since the last time, whether the system
    /// has told of it or not.
    pub(super) fn suspect_in(&mut self, folders: BTreeSet<PathBuf>) {
        let changed = self.suspects.changed(folders);
        if !changed.is_empty() {
            self.suspect_all(|folder| changed.contains(folder));
        }
    }

    /// Looks for generations that came and went at paths that look as before.
    pub(super) fn seek_suspected(&mut self) {
        let mut searches = Vec::new();
        for ((path, job), since) in self.suspects.due(Instant::now()) {
            let open = self.by_path.get(&(path.clone(), job)).and_then(|id| self.files.get(id));
            let was_written = || {
                let modified = std::fs::metadata(&path).and_then(|m| m.modified());
                modified.is_ok_and(|at| at + Duration::from_secs(1) >= since)
            };
            let (wanted, names) = match open {
                // Nobody has emptied what was not written to.
                Some(file) if was_written() => (file.wanted.clone(), file.names.clone()),
                Some(_) => continue,
                None => {
                    let target = self.target_of(&path).find(|target| target.job == job);
                    let Some(target) = target else { continue };
                    (Wanted::of_target(path.clone(), target), Vec::new())
                }
            };
            searches.extend(self.search(&wanted, Some(since), &names));
        }
        if !searches.is_empty() {
            self.seek_all(searches);
        }
    }
}
