//! The thread that reads all files in turn: finds them, reads what is new, notices what is gone.
//!
//! It never waits for the stores: while their queues are full it goes on to watch, so that what is rotated away meanwhile is held open.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use service::CancellationToken;

use super::archive::{DecompressionConfig, Format, SETTLED};
use super::content::{Content, Identified as _};
use super::encoding::Encoding;
use super::file::{Chunk, FileTail};
use super::followed::{Followed, Seat, StreamLabels, Wanted};
use super::watch::{Change, Watch};
use crate::discovery::FileTarget;
use crate::dispatch::Dispatcher;
use crate::metrics::AgentMetrics;
use crate::positions::Positions;

/// What discovery asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Read this file of a container.
    Start {
        /// The container.
        key: String,
        /// Its log file.
        path: PathBuf,
        /// Index of the job.
        job: usize,
        /// Labels of its lines.
        labels: StreamLabels,
    },
    /// The container is gone: read to the end and close.
    Stop {
        /// The container.
        key: String,
    },
    /// These are all targets of a discovery now.
    Targets {
        /// The discovery.
        source: String,
        /// What it has found.
        targets: Vec<FileTarget>,
    },
}

/// How the files of a job are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// How their text is written.
    pub(crate) encoding: Encoding,
    /// What is done with compressed ones.
    pub(crate) decompression: DecompressionConfig,
}

/// How the poller works.
#[derive(Debug, Clone)]
pub(crate) struct PollerOptions {
    /// Pause between two looks at files of whose changes the system does not tell.
    pub(crate) poll: Duration,
    /// How often globs are looked at again.
    pub(crate) sync_period: Duration,
    /// Bytes after which a line is cut.
    pub(crate) max_line: usize,
    /// By index of the job.
    pub(crate) jobs: Vec<Reading>,
    /// Where files are counted.
    pub(crate) metrics: AgentMetrics,
}

/// Everything the thread owns.
pub(crate) struct Poller {
    pub(super) options: PollerOptions,
    /// Targets by the discovery that announced them; those of `static_configs` by the empty name.
    targets: BTreeMap<String, Vec<FileTarget>>,
    commands: Receiver<Command>,
    pub(super) positions: Arc<Positions>,
    dispatcher: Dispatcher,
    pub(super) files: BTreeMap<u64, Followed>,
    next_id: u64,
    pub(super) by_seat: HashMap<Seat, u64>,
    /// Files by path and job, but for those that have left their path.
    pub(super) by_path: HashMap<(PathBuf, usize), u64>,
    /// Files by the real paths that the system tells of.
    by_name: HashMap<PathBuf, Vec<u64>>,
    /// Files that are looked at often.
    pub(super) uneasy: BTreeSet<u64>,
    /// Files with something to read, in the order of their turns.
    ready: VecDeque<u64>,
    watch: Watch,
    /// When globs are looked at next.
    find_at: Instant,
    /// Files that were read to their end and closed: place, and size and time then.
    pub(super) done: HashMap<(u64, u64), (u64, Option<SystemTime>)>,
    /// Paths that were complained about.
    complaints: HashSet<PathBuf>,
    /// Most files that may be open.
    max_open: usize,
    open: usize,
    chunk: Chunk,
    /// That there are too many was said.
    has_hit_limit: bool,
    /// Something was closed: there may be watches that nobody needs.
    has_closed: bool,
    pub(super) is_first: bool,
}

/// What came of one round of reading.
enum Round {
    /// There is more to read.
    Busy,
    /// There is nothing to read.
    Idle,
    /// The queues are full, or a stage slows its job down.
    Blocked,
}

impl Poller {
    /// How long a file that was renamed or removed is still looked at for what its writer adds.
    const LINGER: Duration = Duration::from_secs(30);
    /// How often all files are looked at, whatever the system tells of them.
    const LOOK_AT_ALL: Duration = Duration::from_secs(5);
    /// Changes are gathered for so long before they are followed.
    const GATHER: Duration = Duration::from_millis(20);
    /// New folders are gathered for so long before globs are looked at again.
    const GATHER_FOLDERS: Duration = Duration::from_millis(100);
    /// Longest time of reading before other things are looked at.
    const ROUND: Duration = Duration::from_millis(50);
    /// Longest pause while the queues are full.
    const BLOCKED: Duration = Duration::from_millis(100);
    /// Most archives that are open at a time: each holds its decoder's memory.
    const MAX_ARCHIVES: usize = 4;
    /// Most files that are opened together.
    const BATCH: usize = 1000;
    /// Descriptors that are left for everything else.
    const OTHER_DESCRIPTORS: usize = 256;

    /// A poller over static targets and what `commands` bring.
    pub(crate) fn new(
        options: PollerOptions,
        targets: Vec<FileTarget>,
        commands: Receiver<Command>,
        positions: Arc<Positions>,
        dispatcher: Dispatcher,
    ) -> Self {
        Self {
            options,
            targets: BTreeMap::from([(String::new(), targets)]),
            commands,
            positions,
            dispatcher,
            files: BTreeMap::new(),
            next_id: 0,
            by_seat: HashMap::new(),
            by_path: HashMap::new(),
            by_name: HashMap::new(),
            uneasy: BTreeSet::new(),
            ready: VecDeque::new(),
            watch: Watch::new(),
            find_at: Instant::now(),
            done: HashMap::new(),
            complaints: HashSet::new(),
            max_open: most_descriptors().saturating_sub(Self::OTHER_DESCRIPTORS).max(64),
            open: 0,
            chunk: Chunk::default(),
            has_hit_limit: false,
            has_closed: false,
            is_first: true,
        }
    }

    /// The same with room for so many open files.
    #[cfg(test)]
    pub(super) fn with_max_open(mut self, files: usize) -> Self {
        self.max_open = files;
        self
    }

    /// Runs until `stop`.
    pub(crate) fn run(mut self, stop: &CancellationToken) {
        let start = Instant::now();
        let (mut look_at_all, mut look, mut blocked) = (start + Self::LOOK_AT_ALL, start, Duration::ZERO);
        let mut changes = Vec::new();
        while !stop.is_cancelled() {
            let now = Instant::now();
            if self.obey() || now >= self.find_at {
                self.find_at = now + self.options.sync_period;
                self.find();
            }
            if now >= look_at_all {
                look_at_all = now + Self::LOOK_AT_ALL;
                let all: Vec<u64> = self.files.keys().copied().collect();
                all.into_iter().for_each(|id| self.look(id));
            }
            if now >= look {
                look = now + self.options.poll;
                let some: Vec<u64> = self.uneasy.iter().copied().collect();
                some.into_iter().for_each(|id| self.look(id));
                self.close_finished();
                self.dispatcher.tick();
            }
            self.watch.changes(&mut changes);
            changes.drain(..).for_each(|change| self.follow(change));
            match self.read_round(stop) {
                Round::Busy => blocked = Duration::ZERO,
                Round::Blocked => {
                    blocked = (blocked * 2).clamp(Duration::from_millis(5), Self::BLOCKED);
                    std::thread::sleep(blocked);
                }
                Round::Idle => {
                    blocked = Duration::ZERO;
                    // A writer that never rests must not keep this thread from resting.
                    std::thread::sleep(Self::GATHER);
                    let next = look.min(self.find_at).min(look_at_all);
                    self.watch.wait(next.saturating_duration_since(Instant::now()));
                }
            }
        }
        self.dispatcher.finish();
        self.tell_what_is_lost();
    }

    /// Opens files that globs match and that are not open yet, and lets go of those that no target wants any more.
    fn find(&mut self) {
        let mut found: BTreeMap<(PathBuf, usize), &FileTarget> = BTreeMap::new();
        for target in self.targets.values().flatten() {
            for folder in target.folders() {
                if let Ok(folder) = folder.canonicalize() {
                    self.watch.watch(&folder);
                }
            }
            for path in target.files() {
                // The first target of a job has it; each job reads it for itself.
                found.entry((path, target.job)).or_insert(target);
            }
        }
        for (id, file) in self.files.iter_mut().filter(|(_, f)| f.wanted.key.is_none() && f.leaving.is_none())
        {
            let wanted = &mut file.wanted;
            match found.get(&(wanted.path.clone(), wanted.job)) {
                Some(target) => {
                    file.until = None;
                    if wanted.target.as_ref() != Some(&target.labels) {
                        *wanted = Wanted::of_target(wanted.path.clone(), target);
                    }
                }
                None => {
                    let now = std::fs::metadata(&wanted.path).ok();
                    let same = now.filter(|m| (m.dev(), m.ino()) == file.place);
                    file.until = file.until.or(same.map(|m| m.len()));
                    self.uneasy.insert(*id);
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
        let new: Vec<Wanted> = found.map(|((path, _), target)| Wanted::of_target(path, target)).collect();
        self.open_all(new);
        if std::mem::take(&mut self.is_first) {
            self.seek_absent();
        }
        self.options.metrics.files_active.set(self.files.len() as i64);
    }

    /// The target of a job that wants this path.
    pub(super) fn target_of(&self, path: &Path) -> impl Iterator<Item = &FileTarget> {
        self.targets.values().flatten().filter(move |target| target.wants(path))
    }

    /// Opens many files, as [`open`](Self::open) does one.
    fn open_all(&mut self, wanted: Vec<Wanted>) {
        let mut wanted = wanted.into_iter().peekable();
        while wanted.peek().is_some() {
            let room = self.max_open.saturating_sub(self.open).clamp(1, Self::BATCH);
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
            let searches = opened.iter().filter_map(|(wanted, _)| self.search(wanted, None, &[])).collect();
            self.seek_all(searches);
            opened.into_iter().for_each(|(wanted, content)| self.follow_here(wanted, content));
        }
    }

    /// Opens a file at its path, unless it is open already, and what was left of those that lay there before it.
    pub(super) fn open(&mut self, wanted: Wanted) {
        self.open_here(wanted, None, &[]);
    }

    /// The same where it is known when the path was last looked at, and where it led.
    pub(super) fn open_here(&mut self, wanted: Wanted, since: Option<SystemTime>, names: &[PathBuf]) {
        if let Some(content) = self.opened(&wanted) {
            self.seek(&wanted, since, names);
            self.follow_here(wanted, content);
        }
    }

    /// What is at a path, if it is to be read and is not.
    fn opened(&mut self, wanted: &Wanted) -> Option<Content> {
        let path = &wanted.path;
        let metadata = std::fs::metadata(path).ok()?;
        let place = (metadata.dev(), metadata.ino());
        if !metadata.is_file() || self.is_done(place, &metadata) {
            return None;
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
        if self.may_become_copy(wanted, &content, &metadata) {
            self.find_soon();
            return None;
        }
        Some(content)
    }

    /// Has globs looked at again at the next look.
    fn find_soon(&mut self) {
        self.find_at = self.find_at.min(Instant::now() + self.options.poll);
    }

    /// Follows what was opened at its path, unless it was found by other ways or is a copy.
    fn follow_here(&mut self, wanted: Wanted, content: Content) {
        let is_open = content.place().is_ok_and(|place| self.by_seat.contains_key(&(place, wanted.job)));
        if is_open || self.is_copy(&wanted, &content) {
            return;
        }
        let (path, job) = (wanted.path.clone(), wanted.job);
        if let Some(id) = self.add(wanted, content, &path) {
            self.by_path.insert((path, job), id);
        }
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
        let age = metadata.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        let open = self.files.values().filter(|f| f.is_archive()).count();
        // One that is being written has changed just now; when it is complete it gets the time of what it was made of.
        age >= config.initial_delay.get().max(SETTLED) && open < Self::MAX_ARCHIVES
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
        let (path, max_line) = (wanted.path.clone(), self.options.max_line);
        let file =
            match FileTail::open(&path, at, content, &self.positions, wanted.docker, max_line, wanted.job) {
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
            self.max_open = self.max_open.min(open.saturating_sub(16)).max(16);
        }
        if is_limit && !std::mem::replace(&mut self.has_hit_limit, true) {
            tracing::warn!(%path, open, "file cannot be opened now, for too many are: raise `ulimit -n`");
        } else if is_new && !is_limit {
            tracing::warn!(%path, %error, "file cannot be read");
        }
    }

    /// Closes files that have been quiet longest, a tenth of them. They are opened again when they change.
    fn put_to_sleep(&mut self) {
        let mut quiet: Vec<(Instant, u64)> =
            self.files.iter().filter(|(_, f)| f.can_sleep()).map(|(id, f)| (f.active, *id)).collect();
        quiet.sort();
        for (_, id) in quiet.into_iter().take(self.max_open / 10 + 1) {
            let Some(followed) = self.files.get_mut(&id) else { continue };
            if let Some(file) = followed.file.take() {
                followed.slept_at = file.offset();
                self.positions.close_file(file.progress());
                self.open -= 1;
            }
        }
    }

    /// Does what discovery asks for; whether targets are different now.
    fn obey(&mut self) -> bool {
        let mut different = false;
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start { key, path, job, labels }) => {
                    self.open(Wanted { path, job, labels, target: None, docker: true, key: Some(key) })
                }
                Ok(Command::Stop { key }) => {
                    for (id, file) in
                        self.files.iter_mut().filter(|(_, f)| f.wanted.key.as_ref() == Some(&key))
                    {
                        file.leaving.get_or_insert_with(Instant::now);
                        self.uneasy.insert(*id);
                    }
                }
                Ok(Command::Targets { source, targets }) => {
                    different = true;
                    self.targets.insert(source, targets);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return different,
            }
        }
    }

    /// Does what a change asks for.
    fn follow(&mut self, change: Change) {
        match change {
            Change::Written(name) => {
                let ids = self.by_name.get(&name).cloned().unwrap_or_default();
                for id in ids {
                    // One that waits for its turn is looked at, as it may be truncated more than once by then.
                    let is_next = |f: &Followed| f.file.is_some() && f.leaving.is_none() && !f.is_queued;
                    match self.files.get(&id).is_some_and(is_next) {
                        true => self.enqueue(id),
                        false => self.look(id),
                    }
                }
            }
            Change::Moved(name) => {
                let ids = self.by_name.get(&name).cloned().unwrap_or_default();
                ids.into_iter().for_each(|id| self.look(id));
                let is_new = |target: &&FileTarget| !self.by_path.contains_key(&(name.clone(), target.job));
                let new = self.target_of(&name).filter(is_new);
                let new: Vec<Wanted> = new.map(|target| Wanted::of_target(name.clone(), target)).collect();
                new.into_iter().for_each(|wanted| self.open(wanted));
            }
            Change::Folder => self.find_at = self.find_at.min(Instant::now() + Self::GATHER_FOLDERS),
            Change::Unknown => {
                self.find_at = Instant::now();
                let all: Vec<u64> = self.files.keys().copied().collect();
                all.into_iter().for_each(|id| self.look(id));
            }
        }
    }

    fn enqueue(&mut self, id: u64) {
        if let Some(file) = self.files.get_mut(&id).filter(|f| !f.is_queued) {
            file.is_queued = true;
            self.ready.push_back(id);
        }
    }

    /// Looks whether a file has grown, and whether its path still leads to it.
    fn look(&mut self, id: u64) {
        let Some(followed) = self.files.get_mut(&id) else { return };
        let since = std::mem::replace(&mut followed.looked, SystemTime::now());
        let (before, mut has_shrunk) = (followed.size, false);
        if followed.leaving.is_none() {
            let now = std::fs::metadata(&followed.wanted.path);
            match &now {
                Ok(now) if (now.dev(), now.ino()) == followed.place => {
                    if !followed.is_archive() {
                        followed.size = now.len();
                        has_shrunk = now.len() < before;
                    }
                }
                // It may be there, though this process may not see it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return,
                _ => return self.part(id, since),
            }
        }
        let Some(file) = &mut followed.file else {
            if followed.size != followed.slept_at {
                self.wake(id);
            }
            return;
        };
        let may_be_truncated = followed.leaving.is_none() && !file.content().is_archive();
        let is_other = || followed.size != file.offset() && file.was_truncated().unwrap_or(false);
        if may_be_truncated && (has_shrunk || is_other()) {
            // Now, though there may be no room to read: the next copy takes the name of this one.
            followed.size = before;
            return self.find_copy(id, since);
        }
        if followed.size > file.offset() && !file.content().is_archive() {
            // It may be truncated before there is room to read.
            let _ = file.identify(&self.positions);
        }
        let is_archive = file.content().is_archive();
        if followed.leaving.is_some() && !is_archive {
            followed.size = file.content().size().unwrap_or(followed.size);
        }
        let has_news = if is_archive {
            !followed.is_read()
        } else {
            followed.size != file.offset() || file.is_unfinished()
        };
        followed.note();
        if !followed.is_uneasy() {
            self.uneasy.remove(&id);
        }
        if has_news {
            self.enqueue(id);
        }
    }

    /// Opens a file that slept.
    fn wake(&mut self, id: u64) {
        if let Some(file) = self.remove(id) {
            self.open(file.wanted);
        }
    }

    /// The path leads elsewhere: the old file is read to its end, the new one opened, and what came between them looked for.
    fn part(&mut self, id: u64, since: SystemTime) {
        let Some(followed) = self.files.get_mut(&id) else { return };
        let (wanted, sleeps) = (followed.wanted.clone(), followed.file.is_none());
        let names = followed.names.clone();
        self.by_path.remove(&(wanted.path.clone(), wanted.job));
        if sleeps {
            self.remove(id);
        } else {
            self.leave(id);
        }
        if wanted.key.is_some() || self.target_of(&wanted.path).any(|target| target.job == wanted.job) {
            self.open_here(wanted.clone(), Some(since), &names);
        }
        if !self.by_path.contains_key(&(wanted.path.clone(), wanted.job)) {
            self.seek(&wanted, Some(since), &names);
        }
    }

    /// Has a file read, and looked at often.
    pub(super) fn disquiet(&mut self, id: u64) {
        self.uneasy.insert(id);
        self.enqueue(id);
    }

    /// Reads a chunk of each file that has something, as long as there is room for it.
    fn read_round(&mut self, stop: &CancellationToken) -> Round {
        let begun = Instant::now();
        for _ in 0..self.ready.len() {
            if stop.is_cancelled() || !self.dispatcher.has_room() {
                return Round::Blocked;
            }
            if begun.elapsed() >= Self::ROUND {
                return Round::Busy;
            }
            let Some(id) = self.ready.pop_front() else { break };
            let Some(followed) = self.files.get_mut(&id) else { continue };
            if self.dispatcher.pause(followed.wanted.job).is_some() {
                self.ready.push_back(id);
                continue;
            }
            followed.is_queued = false;
            if self.read(id) {
                self.enqueue(id);
            }
        }
        let mut jobs = self.ready.iter().filter_map(|id| self.files.get(id)).map(|f| f.wanted.job);
        match jobs.next() {
            None => Round::Idle,
            Some(first) if self.dispatcher.pause(first).is_some() => Round::Blocked,
            Some(_) => Round::Busy,
        }
    }

    /// Reads one chunk of a file and hands its lines on. Whether there may be more.
    fn read(&mut self, id: u64) -> bool {
        let Some(followed) = self.files.get_mut(&id) else { return false };
        let Some(file) = &mut followed.file else { return false };
        if followed.until.is_some_and(|end| file.offset() >= end) {
            return false;
        }
        if file.was_truncated().unwrap_or(false) {
            let since = followed.looked;
            match followed.leaving.is_none() && !file.content().is_archive() {
                true => self.find_copy(id, since),
                false if file.begin_anew(&self.positions).is_err() => return false,
                false => {}
            }
        }
        let Some(followed) = self.files.get_mut(&id) else { return false };
        let Some(file) = &mut followed.file else { return false };
        let before = file.offset();
        // A container that has ended writes no more; a file that was renamed may get the rest of its last line.
        let last = followed.leaving.is_some() && followed.wanted.key.is_some();
        let ticket = match file.read(&self.positions, last, &mut self.chunk) {
            Ok(ticket) => ticket,
            Err(error) => {
                tracing::warn!(path = %followed.wanted.path.display(), %error, "file cannot be read");
                followed.leaving.get_or_insert_with(Instant::now);
                self.uneasy.insert(id);
                return false;
            }
        };
        let lines = &mut self.chunk.lines;
        let more = file.offset() != before || !lines.is_empty();
        let skipping = file.content().is_archive() && !file.content().has_ended();
        if more {
            followed.active = Instant::now();
        }
        let path = followed.wanted.path.to_string_lossy();
        self.dispatcher.note_read(&path, lines);
        for line in lines.drain(..) {
            if let Some(labels) = followed.wanted.labels.of(line.stream) {
                self.dispatcher.dispatch(followed.wanted.job, line, labels, ticket.as_ref());
            }
        }
        if let Some(ticket) = ticket {
            ticket.done(1);
        }
        followed.note();
        if followed.is_uneasy() {
            self.uneasy.insert(id);
        }
        more || skipping
    }

    /// Closes files that are gone, have been quiet long enough, and are acknowledged; archives as soon as they are.
    fn close_finished(&mut self) {
        let is_finished = |id: &u64| {
            let followed = self.files.get(id)?;
            let Some(file) = &followed.file else { return followed.until.map(|_| *id) };
            let lingered = followed.leaving.is_some_and(|since| since.elapsed() >= Self::LINGER);
            let ended =
                lingered && file.idle() >= Self::LINGER || followed.is_archive() && followed.is_read();
            let done = (ended || followed.is_let_go()) && file.progress().is_idle() && !followed.is_queued;
            done.then_some(*id)
        };
        let finished: Vec<u64> = self.uneasy.iter().filter_map(is_finished).collect();
        for id in finished {
            let Some(followed) = self.remove(id) else { continue };
            let wanted = followed.wanted;
            let path = wanted.path.to_string_lossy();
            if !self.by_path.contains_key(&(wanted.path.clone(), wanted.job)) {
                self.dispatcher.forget(&path);
                self.options.metrics.files.forget(&path);
            }
            tracing::info!(%path, gone = followed.leaving.is_some(), "file is not read any more: it is gone, or no target's, or complete");
        }
        self.uneasy.retain(|id| self.files.contains_key(id));
    }

    /// Forgets a file; its position stays known.
    fn remove(&mut self, id: u64) -> Option<Followed> {
        let mut followed = self.files.remove(&id)?;
        self.by_seat.remove(&followed.seat());
        let at = (followed.wanted.path.clone(), followed.wanted.job);
        if self.by_path.get(&at) == Some(&id) {
            self.by_path.remove(&at);
        }
        for name in &followed.names {
            if let Some(ids) = self.by_name.get_mut(name) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
        self.has_closed = true;
        if let Some(file) = followed.file.take() {
            self.positions.close_file(file.progress());
            self.open -= 1;
            let stored = file.content().stored();
            let is_complete =
                followed.until.is_none() && (followed.leaving.is_some() || file.content().is_archive());
            if let (true, Ok(stored)) = (is_complete, stored) {
                self.done.insert(followed.place, (stored.len(), stored.modified().ok()));
            }
        }
        Some(followed)
    }

    /// What is deleted, and not delivered when the agent stops, is gone with its descriptor.
    fn tell_what_is_lost(&self) {
        for followed in self.files.values() {
            let Some(file) = followed.file.as_ref().filter(|file| file.content().is_deleted()) else {
                continue;
            };
            let bytes = followed.size.max(file.offset()).saturating_sub(file.progress().acknowledged());
            if bytes > 0 {
                self.options.metrics.lost_bytes.inc_by(bytes);
                let path = followed.wanted.path.display();
                tracing::error!(%path, bytes, "file was deleted before the store took all of it: this is lost as the agent stops");
            }
        }
    }
}

/// How many descriptors this process may have; the limit is raised as far as it goes.
fn most_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
    if limit.current.is_some_and(|current| current < most) {
        // Where it cannot be raised fewer files are kept open.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum });
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(most);
    usize::try_from(current).unwrap_or(usize::MAX)
}
