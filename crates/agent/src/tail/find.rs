//! Which files are followed: what globs match, what may be open, and what begins where.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::archive::{Format, SETTLED};
use super::content::{Content, Identified as _, age};
use super::file::{FileTail, How, Stamp};
use super::followed::{Followed, Wanted};
use super::poller::{MIN_OPEN, Poller};
use super::rotated::originals;
use crate::discovery::FileTarget;

impl Poller {
    /// Most archives that are open at a time: each holds its decoder's memory.
    const MAX_ARCHIVES: usize = 4;
    /// Most files that are opened together.
    const BATCH: usize = 1000;

    /// Opens files that globs match and that are not open yet, and lets go of those that no target wants any more.
    pub(super) fn find(&mut self) {
        let began = SystemTime::now();
        let mut folders = BTreeSet::new();
        let mut found: BTreeMap<(PathBuf, usize), (&FileTarget, bool)> = BTreeMap::new();
        let new_sources = std::mem::take(&mut self.new_sources);
        let targets =
            self.targets.iter().flat_map(|(source, all)| all.iter().map(move |target| (source, target)));
        for (source, target) in targets {
            let from_end = self.options.from_end && new_sources.contains(source);
            for folder in target.folders() {
                let is_told =
                    folder.canonicalize().is_ok_and(|real| self.watch.watch(&real) && real == folder);
                if !is_told {
                    folders.insert(folder);
                }
            }
            for path in target.files() {
                // The first target of a job has it; each job reads it for itself.
                found.entry((path, target.job)).or_insert((target, from_end));
            }
        }
        for (id, file) in self.files.iter_mut().filter(|(_, f)| f.wanted.key.is_none() && f.leaving.is_none())
        {
            let wanted = &mut file.wanted;
            match found.get(&(wanted.path.clone(), wanted.job)) {
                Some((target, _)) => {
                    file.until = None;
                    if wanted.target.as_ref() != Some(&target.labels) {
                        *wanted = Wanted::of_target(wanted.path.clone(), target);
                    }
                }
                None => {
                    let now = std::fs::metadata(&wanted.path).ok();
                    let same = now.filter(|m| (m.dev(), m.ino()) == file.place);
                    file.until = file.until.or(same.map(|m| m.len()));
                    self.schedule.soon(*id, Instant::now());
                }
            }
        }
        if std::mem::take(&mut self.has_closed) {
            let folders = self.by_name.keys().filter_map(|name| name.parent());
            let globs = self.targets.values().flatten().flat_map(FileTarget::folders);
            let globs = globs.filter_map(|folder| folder.canonicalize().ok());
            self.watch.retain(&folders.map(Path::to_owned).chain(globs).collect());
        }
        let is_new = |at: &(PathBuf, usize)| !self.by_path.contains_key(at);
        let found = found.into_iter().filter(|(at, _)| is_new(at));
        let wanted = |((path, _), (target, from_end)): ((PathBuf, usize), (&FileTarget, bool))| Wanted {
            from_end,
            ..Wanted::of_target(path, target)
        };
        let new: Vec<Wanted> = found.map(wanted).collect();
        let has_ends = new.iter().any(|wanted| wanted.from_end);
        self.open_all(new);
        if has_ends && let Err(error) = self.positions.save_changes() {
            tracing::warn!(
                error = format!("{error:#}"),
                "positions cannot be written: until they can be, files may be read from their ends again"
            );
        }
        if std::mem::take(&mut self.is_first) {
            self.seek_absent();
        }
        self.suspect_in(folders);
        self.seek_suspected();
        self.found = began;
        self.options.metrics.files_active.set(self.files.len() as i64);
    }

    /// The target of a job that wants this path.
    pub(super) fn target_of(&self, path: &Path) -> impl Iterator<Item = &FileTarget> {
        self.targets.values().flatten().filter(move |target| target.wants(path))
    }

    /// Opens what targets want at paths of which the system has told.
    pub(super) fn open_named(&mut self, names: &BTreeSet<PathBuf>) {
        let new = names.iter().flat_map(|name| {
            let is_new = |target: &&FileTarget| !self.by_path.contains_key(&(name.clone(), target.job));
            let mut jobs = HashSet::new();
            // The first target of a job has it.
            let targets = self.target_of(name).filter(is_new).filter(move |target| jobs.insert(target.job));
            targets.map(|target| Wanted::of_target(name.clone(), target)).collect::<Vec<_>>()
        });
        self.open_all(new.collect());
    }

    /// Opens many files, as [`open`](Self::open) does one.
    fn open_all(&mut self, wanted: Vec<Wanted>) {
        let mut wanted = wanted.into_iter().peekable();
        while wanted.peek().is_some() {
            let room = self.room();
            let mut opened: Vec<(Wanted, Content)> = Vec::new();
            while let Some(wanted) = wanted.next_if(|_| opened.len() < room) {
                let Some(content) = self.opened(&wanted) else { continue };
                let is_archive = content.is_archive();
                opened.push((wanted, content));
                // They are counted once they are followed.
                if is_archive {
                    break;
                }
            }
            let mut searches = Vec::new();
            for (wanted, _) in &opened {
                let since = self.suspects.was_absent(&wanted.path, wanted.job);
                searches.extend(self.search(wanted, since, &[]));
            }
            self.seek_all(searches);
            opened.into_iter().for_each(|(wanted, content)| self.follow_here(wanted, content));
        }
    }

    /// How many files may be opened at once: each may have generations, which are found then.
    pub(super) fn room(&self) -> usize {
        (self.max_open.saturating_sub(self.open) / 4).clamp(1, Self::BATCH)
    }

    /// Opens a file at its path, unless it is open already, and what was left of those that lay there before it.
    pub(super) fn open(&mut self, wanted: Wanted) {
        self.open_here(wanted, None, &[]);
    }

    /// The same where it is known when the path was last looked at, and where it led.
    pub(super) fn open_here(&mut self, wanted: Wanted, since: Option<SystemTime>, names: &[PathBuf]) {
        if let Some(content) = self.opened(&wanted) {
            let since = since.or(self.suspects.was_absent(&wanted.path, wanted.job));
            self.seek(&wanted, since, names);
            self.follow_here(wanted, content);
        }
    }

    /// Opens what is at a container's path, and its file as it was found there: that may have been moved or removed since.
    pub(super) fn open_held(&mut self, wanted: Wanted, file: File) {
        self.open(wanted.clone());
        let (Ok(place), Ok(now)) = (file.place(), file.metadata()) else { return };
        if now.is_file() && !self.is_done(place, &now) && !self.by_seat.contains_key(&(place, wanted.job)) {
            let path = wanted.path.clone();
            if let Some(id) = self.add(wanted, Content::of_file(file), &path) {
                self.leave(id);
            }
        }
    }

    /// What is at a path, if it is to be read and is not.
    pub(super) fn opened(&mut self, wanted: &Wanted) -> Option<Content> {
        let path = &wanted.path;
        let metadata = std::fs::metadata(path).ok()?;
        let place = (metadata.dev(), metadata.ino());
        if !metadata.is_file() || self.is_done(place, &metadata) || self.is_ignored(wanted, &metadata) {
            return None;
        }
        // If it is a copy of a file that sleeps, that one is read on in it.
        for original in originals(path) {
            let id = self.by_path.get(&(original, wanted.job)).copied();
            let asleep = id.filter(|id| self.files.get(id).is_some_and(|file| file.file().is_none()));
            self.look_all(asleep);
        }
        // Open already, perhaps under the name it had before.
        if let Some(id) = self.by_seat.get(&(place, wanted.job)).copied() {
            let file = self.files.get_mut(&id).filter(|f| f.wanted.path == *path && wanted.key.is_some());
            // A container that was started again goes on in its file.
            if let Some(file) = file {
                file.leaving = None;
                self.by_path.insert((path.clone(), wanted.job), id);
            }
            return None;
        }
        let format = Format::of(path);
        let is_packed = format.is_some() || (Format::named(path).is_some() && metadata.len() < 4);
        if is_packed && !self.may_unpack(path, wanted.job, &metadata) {
            return None;
        }
        if !self.has_descriptor() {
            // Others have to be read first.
            self.find_soon();
            return None;
        }
        let content = match self.content(path, wanted.job, format) {
            Ok(content) => content,
            Err(error) => {
                self.complain(path, &error);
                return None;
            }
        };
        if self.is_too_old(wanted, &content, &metadata) {
            return None;
        }
        if self.may_become_copy(wanted, &content, &metadata) {
            self.find_soon();
            return None;
        }
        Some(content)
    }

    /// Has globs looked at again at the next look.
    fn find_soon(&mut self) {
        self.find_at = self.find_at.min(Instant::now() + self.options.poll.0);
    }

    /// Follows what was opened at its path, unless it was found by other ways or is a copy.
    pub(super) fn follow_here(&mut self, wanted: Wanted, content: Content) {
        let is_open = content.place().is_ok_and(|place| self.by_seat.contains_key(&(place, wanted.job)));
        if is_open || self.is_copy(&wanted, &content) || self.was_packed(&wanted, &content) {
            return;
        }
        let (path, job, since) = (wanted.path.clone(), wanted.job, content.opened());
        if let Some(id) = self.add(wanted, content, &path) {
            self.by_path.insert((path, job), id);
            // A copy of what it held may have been met, and left to this.
            let file = self.files.get(&id).and_then(|followed| followed.file());
            if file.is_some_and(|file| file.content().has_shrunk()) {
                self.begin_anew(id, since);
            }
        }
    }

    /// Whether a file was found to be too old, and is as it was then.
    fn is_ignored(&mut self, wanted: &Wanted, now: &std::fs::Metadata) -> bool {
        let at = (wanted.path.clone(), wanted.job);
        let is_same = self.ignored.get(&at) == Some(&Stamp::of(now));
        match is_same {
            true => self.positions.keep((now.dev(), now.ino()), wanted.job),
            false => drop(self.ignored.remove(&at)),
        }
        is_same
    }

    /// Whether a file was not written to for too long to be read now. What was begun is read to its end all the same.
    fn is_too_old(&mut self, wanted: &Wanted, content: &Content, now: &std::fs::Metadata) -> bool {
        let Some(most) = self.options.ignore_older.filter(|_| wanted.key.is_none()) else { return false };
        let offset = self.positions.offset_of(content, &wanted.path, wanted.job);
        let is_begun = offset.is_some_and(|offset| offset < content.size().unwrap_or(u64::MAX));
        if is_begun || age(now).is_none_or(|age| age <= most) {
            return false;
        }
        let start = self.start(wanted, content);
        if start > 0 && offset.is_none() {
            let opened = self.positions.open_file(&wanted.path, &wanted.path, content, wanted.job, start);
            if let Ok((_, progress)) = opened {
                self.positions.close_file(&progress);
            }
        }
        tracing::info!(path = %wanted.path.display(), "file is not read until it is written to: it is older than target_config.ignore_older");
        self.ignored.insert((wanted.path.clone(), wanted.job), Stamp::of(now));
        true
    }

    /// Where a file begins that nobody has read: at its beginning, or behind the last of the lines that were there before any agent was.
    fn start(&self, wanted: &Wanted, content: &Content) -> u64 {
        let was_there = |at: io::Result<SystemTime>| at.is_ok_and(|at| at <= self.began);
        let is_old = || content.stored().is_ok_and(|now| was_there(now.created().or(now.modified())));
        let is_skipped = wanted.from_end && self.positions.is_first(wanted.job) && is_old();
        if is_skipped && !content.is_archive() { content.last_line_end() } else { 0 }
    }

    /// Whether a compressed file that a glob matches is to be read now.
    fn may_unpack(&mut self, path: &Path, job: usize, metadata: &std::fs::Metadata) -> bool {
        let config = self.options.jobs.get(job).map(|j| j.decompression.clone()).unwrap_or_default();
        if !config.enabled {
            if self.complaints.insert(path.to_owned()) {
                tracing::warn!(path = %path.display(), "file is compressed and not read: set decompression.enabled, or exclude it");
            }
            return false;
        }
        let is_settled = age(metadata).is_none_or(|age| age >= config.initial_delay.get().max(SETTLED));
        let open = self.files.values().filter(|f| f.is_archive()).count();
        // One that is being written has changed just now; when it is complete it gets the time of what it was made of.
        is_settled && open < Self::MAX_ARCHIVES
    }

    /// Whether one more file may be open; others may have to close for it.
    fn has_descriptor(&mut self) -> bool {
        if self.open >= self.max_open {
            self.put_to_sleep();
            if !std::mem::replace(&mut self.has_hit_limit, true) {
                let open = self.open;
                tracing::warn!(open, "more files than descriptors, quiet ones are closed: raise `ulimit -n`");
            }
        }
        self.open < self.max_open
    }

    /// Opens what is at a path.
    pub(super) fn content(&self, path: &Path, job: usize, format: Option<Format>) -> io::Result<Content> {
        let encoding = self.options.jobs.get(job).map(|j| j.encoding).unwrap_or_default();
        Content::open(path, format, encoding)
    }

    /// Follows an opened file, which lies `at` some path by now, from where it was left.
    pub(super) fn add(&mut self, wanted: Wanted, content: Content, at: &Path) -> Option<u64> {
        let path = wanted.path.clone();
        let how = How {
            path: &path,
            at,
            job: wanted.job,
            docker: wanted.docker,
            max_line: self.options.max_line,
            start: self.start(&wanted, &content),
        };
        let file = match FileTail::open(content, &self.positions, &how) {
            Ok(file) => file,
            Err(error) => {
                self.complain(&path, &error);
                return None;
            }
        };
        self.complaints.remove(&path);
        tracing::info!(path = %at.display(), offset = file.progress().acknowledged(), "reading file");
        let (id, mut file) = (self.next_id, Followed::new(wanted, file, &self.options.metrics));
        self.next_id += 1;
        self.open += 1;
        self.watch_names(id, &mut file, at);
        self.by_seat.insert(file.seat(), id);
        self.files.insert(id, file);
        self.enqueue(id);
        Some(id)
    }

    /// Has the system tell of changes of the file, and of the link that leads to it.
    fn watch_names(&mut self, id: u64, file: &mut Followed, path: &Path) {
        let link = path.parent().and_then(|f| f.canonicalize().ok()).zip(path.file_name());
        let link = link.map(|(folder, name)| folder.join(name));
        let real = path.canonicalize().ok();
        for (name, is_real) in [(link, false), (real, true)] {
            let Some(name) = name else { continue };
            let watched = name.parent().is_some_and(|folder| self.watch.watch(folder));
            if is_real {
                file.is_watched = watched;
            }
            if !file.names.contains(&name) {
                self.by_name.entry(name.clone()).or_default().push(id);
                file.names.push(name);
            }
        }
    }

    fn complain(&mut self, path: &Path, error: &io::Error) {
        use rustix::io::Errno;
        let (open, is_new) = (self.open, self.complaints.insert(path.to_owned()));
        let path = path.display();
        let is_limit = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        if is_limit {
            // What the limit is in truth.
            self.max_open = self.max_open.min(open.saturating_sub(16)).max(MIN_OPEN);
        }
        if is_limit && !std::mem::replace(&mut self.has_hit_limit, true) {
            tracing::warn!(%path, open, "file cannot be opened now, for too many are: raise `ulimit -n`");
        } else if is_new && !is_limit {
            tracing::warn!(%path, %error, "file cannot be read");
        }
    }
}
