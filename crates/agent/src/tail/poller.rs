//! The thread that looks at all files in turn: finds them, reads what is new, notices what is gone.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use model::Labels;
use service::CancellationToken;

use super::file::{FileTail, Line, Stream};
use crate::discovery::FileTarget;
use crate::dispatch::Dispatcher;
use crate::positions::Positions;

/// Labels of a file's lines; a stream that relabelling dropped has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamLabels {
    /// Of standard output, and of lines of plain files.
    pub(crate) stdout: Option<Labels>,
    /// Of standard error.
    pub(crate) stderr: Option<Labels>,
}

impl StreamLabels {
    fn of(&self, stream: Option<Stream>) -> Option<&Labels> {
        match stream {
            Some(Stream::Stderr) => self.stderr.as_ref(),
            _ => self.stdout.as_ref(),
        }
    }
}

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

/// How the poller works.
#[derive(Debug, Clone)]
pub(crate) struct PollerOptions {
    /// Pause between two looks at all files.
    pub(crate) poll: Duration,
    /// How often globs are looked at again.
    pub(crate) sync_period: Duration,
    /// Bytes after which a line is cut.
    pub(crate) max_line: usize,
}

/// Everything the thread owns.
pub(crate) struct Poller {
    options: PollerOptions,
    /// Targets by the discovery that announced them; those of `static_configs` by the empty name.
    targets: BTreeMap<String, Vec<FileTarget>>,
    commands: Receiver<Command>,
    positions: Arc<Positions>,
    dispatcher: Dispatcher,
    tails: Vec<Tail>,
}

struct Tail {
    file: FileTail,
    job: usize,
    labels: StreamLabels,
    /// The container, if it is one's.
    key: Option<String>,
    /// The path leads elsewhere now, or the container is gone: since when.
    leaving: Option<Instant>,
    /// No target wants it any more: it is read up to this offset, which was its size then.
    until: Option<u64>,
}

impl Tail {
    /// Whether no target wants the file, and it was read as far as it had grown by then. Its position stays known.
    fn is_let_go(&self) -> bool {
        self.until.is_some_and(|end| self.file.offset() >= end)
    }
}

impl Poller {
    /// How long a file that was renamed or removed is still looked at for what its writer adds.
    const LINGER: Duration = Duration::from_secs(30);

    /// A poller over static targets and what `commands` bring.
    pub(crate) fn new(
        options: PollerOptions,
        targets: Vec<FileTarget>,
        commands: Receiver<Command>,
        positions: Arc<Positions>,
        dispatcher: Dispatcher,
    ) -> Self {
        let targets = BTreeMap::from([(String::new(), targets)]);
        Self { options, targets, commands, positions, dispatcher, tails: Vec::new() }
    }

    /// Runs until `stop`.
    pub(crate) fn run(mut self, stop: &CancellationToken) {
        let mut synced: Option<Instant> = None;
        while !stop.is_cancelled() {
            if synced.is_none_or(|at| at.elapsed() >= self.options.sync_period) {
                self.find();
                synced = Some(Instant::now());
            }
            if self.obey() {
                self.find();
            }
            self.notice_renames();
            let mut busy = false;
            for i in 0..self.tails.len() {
                busy |= self.read(i, stop);
            }
            self.close_finished();
            self.dispatcher.tick();
            if !busy {
                // Growth is looked for, not waited for; this is the pause between looks.
                std::thread::sleep(self.options.poll);
            }
        }
        self.dispatcher.finish();
    }

    /// Opens files that globs match and that are not open yet, and lets go of those that no target wants any more.
    fn find(&mut self) {
        let mut found: BTreeMap<PathBuf, (usize, StreamLabels, bool)> = BTreeMap::new();
        for target in self.targets.values().flatten() {
            for path in target.files() {
                let mut labels = target.labels.to_builder();
                labels.set("filename", &path.to_string_lossy());
                let labels = labels.build();
                let labels = StreamLabels { stdout: Some(labels.clone()), stderr: Some(labels) };
                found.entry(path).or_insert((target.job, labels, target.docker));
            }
        }
        for tail in self.tails.iter_mut().filter(|t| t.key.is_none() && t.leaving.is_none()) {
            match found.get(tail.file.path()) {
                Some((job, labels, _)) => {
                    (tail.job, tail.until) = (*job, None);
                    if tail.labels != *labels {
                        tail.labels = labels.clone();
                    }
                }
                None => {
                    let now = std::fs::metadata(tail.file.path()).ok();
                    let same = now.filter(|m| (m.dev(), m.ino()) == tail.file.place());
                    tail.until = tail.until.or(same.map(|m| m.len()));
                }
            }
        }
        for (path, (job, labels, docker)) in found {
            self.open(&path, job, labels, docker, None);
        }
    }

    fn open(&mut self, path: &Path, job: usize, labels: StreamLabels, docker: bool, key: Option<String>) {
        let Ok(metadata) = std::fs::metadata(path) else { return };
        let place = (metadata.dev(), metadata.ino());
        if !metadata.is_file() {
            return;
        }
        // Open already, perhaps under the name it had before.
        if let Some(tail) = self.tails.iter_mut().find(|t| t.file.place() == place) {
            // A container that was started again goes on in its file.
            if key.is_some() && tail.file.path() == path {
                tail.leaving = None;
            }
            return;
        }
        match FileTail::open(path, &self.positions, docker, self.options.max_line) {
            Ok(file) => {
                tracing::info!(path = %path.display(), offset = file.progress().acknowledged(), "reading file");
                self.tails.push(Tail { file, job, labels, key, leaving: None, until: None });
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "file cannot be read"),
        }
    }

    /// Does what discovery asks for; whether targets are different now.
    fn obey(&mut self) -> bool {
        let mut different = false;
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start { key, path, job, labels }) => {
                    self.open(&path, job, labels, true, Some(key))
                }
                Ok(Command::Stop { key }) => {
                    for tail in self.tails.iter_mut().filter(|t| t.key.as_ref() == Some(&key)) {
                        tail.leaving.get_or_insert_with(Instant::now);
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

    /// Files whose path leads elsewhere now: the old one is read to its end, the new one opened.
    fn notice_renames(&mut self) {
        let mut renewed = HashMap::new();
        for tail in self.tails.iter_mut().filter(|t| t.leaving.is_none() && t.until.is_none()) {
            let now = std::fs::metadata(tail.file.path()).ok().map(|m| (m.dev(), m.ino()));
            if now != Some(tail.file.place()) {
                tail.leaving = Some(Instant::now());
                if now.is_some() {
                    let docker = tail.key.is_some();
                    renewed.insert(
                        tail.file.path().to_owned(),
                        (tail.job, tail.labels.clone(), docker, tail.key.clone()),
                    );
                }
            }
        }
        for (path, (job, labels, docker, key)) in renewed {
            let docker = docker || self.targets.values().flatten().any(|t| t.job == job && t.docker);
            self.open(&path, job, labels, docker, key);
        }
    }

    /// Reads one chunk of a file and hands its lines on. Whether there may be more.
    fn read(&mut self, i: usize, stop: &CancellationToken) -> bool {
        if self.dispatcher.pause(self.tails[i].job).is_some() || !self.dispatcher.wait_for_room(stop) {
            return false;
        }
        let tail = &mut self.tails[i];
        if tail.is_let_go() {
            return false;
        }
        let mut lines: Vec<Line> = Vec::new();
        let ticket = match tail.file.read(&self.positions, tail.leaving.is_some(), &mut lines) {
            Ok(ticket) => ticket,
            Err(error) => {
                tracing::warn!(path = %tail.file.path().display(), %error, "file cannot be read");
                tail.leaving.get_or_insert_with(Instant::now);
                None
            }
        };
        let path = tail.file.path().to_string_lossy().into_owned();
        let busy = !lines.is_empty();
        self.dispatcher.note_read(&path, &lines);
        for line in lines {
            match tail.labels.of(line.stream) {
                Some(labels) => self.dispatcher.dispatch(tail.job, line, labels, ticket.as_ref()),
                None => continue,
            }
        }
        if let Some(ticket) = ticket {
            ticket.done(1);
        }
        busy
    }

    /// Closes files that are gone, have been quiet long enough, and are acknowledged.
    fn close_finished(&mut self) {
        let (positions, dispatcher) = (&self.positions, &mut self.dispatcher);
        self.tails.retain(|tail| {
            let lingered = tail.leaving.is_some_and(|since| since.elapsed() >= Self::LINGER);
            let ended = lingered && tail.file.idle() >= Self::LINGER;
            let done = (ended || tail.is_let_go()) && tail.file.progress().is_idle();
            if done {
                let path = tail.file.path().display();
                tracing::info!(%path, gone = ended, "file is not read any more: it is gone, or no target's");
                positions.close_file(tail.file.progress());
                dispatcher.forget(&tail.file.path().to_string_lossy());
            }
            !done
        });
    }
}
