//! The thread that reads all files in turn: when it looks at what, and what it does about changes that it is told of.
//!
//! It never waits for the stores: while their queues are full it goes on to watch, so that what is rotated away meanwhile is held open.
//! Which files there are is found by `find`, what has become of a file is told by [`Followed`], what came before it is looked for by
//! `seek`; `reading` takes their lines.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use service::CancellationToken;

use super::archive::DecompressionConfig;
use super::changes::Suspects;
use super::closed::Closed;
use super::encoding::Encoding;
use super::file::{Chunk, Stamp};
use super::followed::{Followed, Look, Seat, StreamLabels, Wanted};
use super::heads::Heads;
use super::reading::Round;
use super::schedule::Schedule;
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
        /// The file as it was opened there: it may have been moved or removed since.
        file: File,
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
    /// Shortest and longest pause between two looks at files of whose changes the system does not tell.
    pub(crate) poll: (Duration, Duration),
    /// How often globs are looked at again.
    pub(crate) sync_period: Duration,
    /// Bytes after which a line is cut.
    pub(crate) max_line: usize,
    /// Files that nobody has read, and that are there before any agent has read for their job, are read from their ends on.
    pub(crate) from_end: bool,
    /// Files that were not written to for so long are not opened.
    pub(crate) ignore_older: Option<Duration>,
    /// How many there are of such readers, which share the descriptors that there are.
    pub(crate) readers: usize,
    /// By index of the job.
    pub(crate) jobs: Vec<Reading>,
    /// Where files are counted.
    pub(crate) metrics: AgentMetrics,
}

/// Everything the thread owns.
pub(crate) struct Poller {
    pub(super) options: PollerOptions,
    /// Targets by the discovery that announced them; those of `static_configs` by the empty name.
    pub(super) targets: BTreeMap<String, Vec<FileTarget>>,
    /// Discoveries whose targets were not looked for yet.
    pub(super) new_sources: HashSet<String>,
    commands: Receiver<Command>,
    pub(super) positions: Arc<Positions>,
    pub(super) dispatcher: Dispatcher,
    pub(super) files: BTreeMap<u64, Followed>,
    pub(super) next_id: u64,
    pub(super) by_seat: HashMap<Seat, u64>,
    /// Files by path and job, but for those that have left their path.
    pub(super) by_path: HashMap<(PathBuf, usize), u64>,
    /// Files by the real paths that the system tells of.
    pub(super) by_name: HashMap<PathBuf, Vec<u64>>,
    /// When files are looked at that cannot be left to the system.
    pub(super) schedule: Schedule,
    /// Files with something to read, in the order of their turns.
    pub(super) ready: VecDeque<u64>,
    pub(super) watch: Watch,
    /// When globs are looked at next, all files, and what only time changes.
    pub(super) find_at: Instant,
    look_at_all: Instant,
    look_at_closed: Instant,
    tick_at: Instant,
    pub(super) changes: Vec<Change>,
    /// When globs were looked at last.
    pub(super) found: SystemTime,
    pub(super) suspects: Suspects,
    pub(super) closed: Closed,
    /// Of those that have left their paths.
    pub(super) heads: Heads,
    /// How long a file that was renamed or removed is still looked at for what its writer adds.
    pub(super) linger: Duration,
    /// Files that were read to their end and closed: place, and size and time then.
    pub(super) done: HashMap<(u64, u64), (u64, Option<SystemTime>)>,
    /// Files that are too old to be read, as they were when that was found.
    pub(super) ignored: HashMap<(PathBuf, usize), Stamp>,
    /// Paths that were complained about.
    pub(super) complaints: HashSet<PathBuf>,
    /// Most files that may be open.
    pub(super) max_open: usize,
    pub(super) open: usize,
    pub(super) chunk: Chunk,
    /// That there are too many was said.
    pub(super) has_hit_limit: bool,
    /// Something was closed: there may be watches that nobody needs.
    pub(super) has_closed: bool,
    pub(super) is_first: bool,
    pub(super) began: SystemTime,
}

impl Poller {
    /// How often all files are looked at, whatever the system tells of them.
    const LOOK_AT_ALL: Duration = Duration::from_secs(5);
    /// How often it is seen to what only time changes, at least.
    const TICK: Duration = Duration::from_millis(250);
    /// Changes are gathered for so long before they are followed.
    const GATHER: Duration = Duration::from_millis(20);
    /// Longest pause while the queues are full.
    const BLOCKED: Duration = Duration::from_millis(100);
    /// Longest pause between two looks at a file that has left its path.
    const LOOK_AT_LEFT: Duration = Duration::from_secs(2);
    /// How often files are looked at that were closed after they had left their paths.
    const LOOK_AT_CLOSED: Duration = Duration::from_secs(30);

    /// A poller over static targets and what `commands` bring.
    pub(crate) fn new(
        options: PollerOptions,
        targets: Vec<FileTarget>,
        commands: Receiver<Command>,
        positions: Arc<Positions>,
        dispatcher: Dispatcher,
    ) -> Self {
        let now = Instant::now();
        Self {
            schedule: Schedule::new(options.poll.0, options.poll.1),
            max_open: (most_files(most_descriptors()) / options.readers.max(1)).max(MIN_OPEN),
            options,
            targets: BTreeMap::from([(String::new(), targets)]),
            new_sources: HashSet::from([String::new()]),
            commands,
            positions,
            dispatcher,
            files: BTreeMap::new(),
            next_id: 0,
            by_seat: HashMap::new(),
            by_path: HashMap::new(),
            by_name: HashMap::new(),
            ready: VecDeque::new(),
            watch: Watch::new(),
            find_at: now,
            look_at_all: now + Self::LOOK_AT_ALL,
            look_at_closed: now + Self::LOOK_AT_CLOSED,
            tick_at: now,
            changes: Vec::new(),
            found: SystemTime::now(),
            suspects: Suspects::default(),
            closed: Closed::default(),
            heads: Heads::default(),
            linger: Self::LINGER,
            done: HashMap::new(),
            ignored: HashMap::new(),
            complaints: HashSet::new(),
            open: 0,
            chunk: Chunk::default(),
            has_hit_limit: false,
            has_closed: false,
            is_first: true,
            began: SystemTime::now(),
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
        let mut blocked = Duration::ZERO;
        while !stop.is_cancelled() {
            match self.turn(stop) {
                Round::Busy => blocked = Duration::ZERO,
                Round::Blocked => {
                    blocked = (blocked * 2).clamp(Duration::from_millis(5), Self::BLOCKED);
                    std::thread::sleep(blocked);
                }
                Round::Idle => {
                    blocked = Duration::ZERO;
                    // A writer that never rests must not keep this thread from resting.
                    std::thread::sleep(Self::GATHER);
                    let next = self.tick_at.min(self.find_at).min(self.look_at_all);
                    let next = self.schedule.next().map_or(next, |at| at.min(next));
                    self.watch.wait(next.saturating_duration_since(Instant::now()));
                }
            }
        }
        self.dispatcher.finish();
        self.tell_what_is_lost();
    }

    /// Does everything whose time has come, and reads a round.
    pub(super) fn turn(&mut self, stop: &CancellationToken) -> Round {
        let now = Instant::now();
        // What was told is followed first: it says what has happened since files were last looked at.
        self.follow_changes();
        if self.obey() || now >= self.find_at {
            self.find_at = now + self.options.sync_period;
            self.find();
        }
        if now >= self.look_at_all {
            self.look_at_all = now + Self::LOOK_AT_ALL;
            self.look_at_all();
        }
        if now >= self.look_at_closed {
            self.look_at_closed = now + Self::LOOK_AT_CLOSED;
            self.look_at_closed();
        }
        self.look_all(self.schedule.due(now));
        if now >= self.tick_at {
            self.tick_at = now + self.options.poll.0.min(Self::TICK);
            self.close_finished();
            self.dispatcher.tick();
        }
        self.read_round(stop)
    }

    /// Looks at all files that the system tells of: it may not have told everything.
    pub(super) fn look_at_all(&mut self) {
        let all = self.files.iter().filter(|(_, file)| file.is_watched).map(|(id, _)| *id);
        self.look_all(all.collect::<Vec<_>>());
    }

    /// Does what discovery asks for; whether targets are different now.
    fn obey(&mut self) -> bool {
        let mut different = false;
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start { key, path, job, labels, file }) => {
                    let (target, docker, key) = (None, true, Some(key));
                    self.open_held(Wanted { path, job, labels, target, docker, key, from_end: false }, file)
                }
                Ok(Command::Stop { key }) => {
                    let files = self.files.iter_mut().filter(|(_, f)| f.wanted.key.as_ref() == Some(&key));
                    for (id, file) in files {
                        file.leaving.get_or_insert_with(Instant::now);
                        self.schedule.soon(*id, Instant::now());
                    }
                }
                Ok(Command::Targets { source, targets }) => {
                    different = true;
                    if !self.targets.contains_key(&source) {
                        self.new_sources.insert(source.clone());
                    }
                    self.targets.insert(source, targets);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return different,
            }
        }
    }

    /// Looks whether a file has grown, and whether its path still leads to it. It was last looked at at `since`.
    pub(super) fn look(&mut self, id: u64, since: SystemTime) -> Look {
        let Some(followed) = self.files.get_mut(&id) else { return Look::Nothing };
        let look = followed.look();
        match look {
            Look::Elsewhere if self.is_moved(id) => {}
            Look::Elsewhere => return look,
            Look::Truncated => {
                self.begin_anew(id, since);
                return look;
            }
            Look::Awake => {
                self.wake(id);
                return look;
            }
            Look::News => {
                let file = self.files.get_mut(&id).and_then(|followed| followed.file_mut());
                // It may be truncated before there is room to read.
                let _ = file
                    .filter(|file| !file.content().is_archive())
                    .map(|file| file.identify(&self.positions));
                self.enqueue(id);
            }
            Look::Nothing => {}
        }
        self.settle(id, look == Look::Nothing);
        Look::Nothing
    }

    /// Says when a file is to be looked at again.
    pub(super) fn settle(&mut self, id: u64, is_quiet: bool) {
        self.note_head(id);
        let Some(followed) = self.files.get(&id) else { return self.schedule.forget(id) };
        followed.note();
        match (followed.is_restless(), followed.is_uneasy()) {
            (false, true) if is_quiet => self.schedule.later(id, Instant::now(), Duration::ZERO),
            (true, _) if is_quiet && followed.is_lingering() => {
                self.schedule.later(id, Instant::now(), Self::LOOK_AT_LEFT);
            }
            (_, true) => self.schedule.again(id, Instant::now()),
            (_, false) => self.schedule.forget(id),
        }
    }
}

/// So many files may be open at least.
pub(super) const MIN_OPEN: usize = 4;

/// How many files may be open of so many descriptors: sockets, positions, and what tells of changes need some too.
fn most_files(descriptors: usize) -> usize {
    const OTHERS: usize = 256;
    if descriptors >= 2 * OTHERS { descriptors - OTHERS } else { descriptors / 4 }
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
