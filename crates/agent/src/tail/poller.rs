//! The thread that looks at all files in turn: finds them, reads what is new, notices what is gone.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use model::LabelsBuilder;
use service::CancellationToken;

use super::file::{FileTail, Line, Stream};
use crate::discovery::StaticTarget;
use crate::dispatch::Dispatcher;
use crate::positions::Positions;

/// Labels of a file's lines; a stream that relabelling dropped has none.
#[derive(Debug, Clone)]
pub(crate) struct StreamLabels {
    /// Of standard output, and of lines of plain files.
    pub(crate) stdout: Option<LabelsBuilder>,
    /// Of standard error.
    pub(crate) stderr: Option<LabelsBuilder>,
}

impl StreamLabels {
    fn of(&self, stream: Option<Stream>) -> Option<&LabelsBuilder> {
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
    targets: Vec<StaticTarget>,
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
}

impl Poller {
    /// How long a file that was renamed or removed is still looked at for what its writer adds.
    const LINGER: Duration = Duration::from_secs(30);

    /// A poller over static targets and what `commands` bring.
    pub(crate) fn new(
        options: PollerOptions,
        targets: Vec<StaticTarget>,
        commands: Receiver<Command>,
        positions: Arc<Positions>,
        dispatcher: Dispatcher,
    ) -> Self {
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
            self.obey();
            self.notice_renames();
            let mut busy = false;
            for i in 0..self.tails.len() {
                busy |= self.read(i, stop);
            }
            self.close_finished();
            if !busy {
                // Growth is looked for, not waited for; this is the pause between looks.
                std::thread::sleep(self.options.poll);
            }
        }
    }

    /// Opens files that globs match and that are not open yet.
    fn find(&mut self) {
        let mut found: BTreeMap<PathBuf, (usize, StreamLabels, bool)> = BTreeMap::new();
        for target in &self.targets {
            for path in target.files() {
                let mut labels = target.labels.clone();
                labels.set("filename", &path.to_string_lossy());
                let labels = StreamLabels { stdout: Some(labels.clone()), stderr: Some(labels) };
                found.entry(path).or_insert((target.job, labels, target.docker));
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
                self.tails.push(Tail { file, job, labels, key, leaving: None });
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "file cannot be read"),
        }
    }

    fn obey(&mut self) {
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
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Files whose path leads elsewhere now: the old one is read to its end, the new one opened.
    fn notice_renames(&mut self) {
        let mut renewed = HashMap::new();
        for tail in self.tails.iter_mut().filter(|t| t.leaving.is_none()) {
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
            let docker = docker || self.targets.iter().any(|t| t.job == job && t.docker);
            self.open(&path, job, labels, docker, key);
        }
    }

    /// Reads one chunk of a file and hands its lines on. Whether there may be more.
    fn read(&mut self, i: usize, stop: &CancellationToken) -> bool {
        if !self.dispatcher.wait_for_room(stop) {
            return false;
        }
        let tail = &mut self.tails[i];
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
            let done = lingered && tail.file.idle() >= Self::LINGER && tail.file.progress().is_idle();
            if done {
                tracing::info!(path = %tail.file.path().display(), "file is gone and was read to its end");
                positions.close_file(tail.file.progress());
                dispatcher.forget(&tail.file.path().to_string_lossy());
            }
            !done
        });
    }
}
