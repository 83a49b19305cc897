//! A file as the reading thread keeps it: what is wanted of it, whether it is open, and what is counted.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use model::Labels;

use super::content::Identified as _;
use super::file::{FileTail, Stream};
use crate::discovery::FileTarget;
use crate::metrics::{AgentMetrics, FileGauges};

/// Labels of a file's lines; a stream that relabelling dropped has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamLabels {
    /// Of standard output, and of lines of plain files.
    pub(crate) stdout: Option<Labels>,
    /// Of standard error.
    pub(crate) stderr: Option<Labels>,
}

impl StreamLabels {
    /// Of a file of a target, which adds the file's name.
    pub(super) fn of_file(target: &Labels, path: &Path) -> Self {
        let mut labels = target.to_builder();
        labels.set("filename", &path.to_string_lossy());
        let labels = labels.build();
        Self { stdout: Some(labels.clone()), stderr: Some(labels) }
    }

    pub(super) fn of(&self, stream: Option<Stream>) -> Option<&Labels> {
        match stream {
            Some(Stream::Stderr) => self.stderr.as_ref(),
            _ => self.stdout.as_ref(),
        }
    }
}

/// A file that somebody wants read.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Index of the job.
    pub(super) job: usize,
    /// Labels of its lines.
    pub(super) labels: StreamLabels,
    /// The target's labels that these were made of; none for a container's file.
    pub(super) target: Option<Labels>,
    /// Whether it holds Docker's JSON records.
    pub(super) docker: bool,
    /// The container, if it is one's.
    pub(super) key: Option<String>,
}

impl Wanted {
    /// A file of a target.
    pub(super) fn of_target(path: PathBuf, target: &FileTarget) -> Self {
        Self {
            labels: StreamLabels::of_file(&target.labels, &path),
            target: Some(target.labels.clone()),
            path,
            job: target.job,
            docker: target.docker,
            key: None,
        }
    }
}

/// Where a file lies, and for which job it is read.
pub(super) type Seat = ((u64, u64), usize);

/// A file that is followed.
pub(super) struct Followed {
    pub(super) wanted: Wanted,
    pub(super) place: (u64, u64),
    /// Not open while it sleeps: there are too many, and it is quiet.
    pub(super) file: Option<FileTail>,
    /// The path leads elsewhere now, or the container is gone: since when.
    pub(super) leaving: Option<Instant>,
    /// No target wants it any more: it is read up to this offset, which was its size then.
    pub(super) until: Option<u64>,
    /// Real paths whose changes concern it.
    pub(super) names: Vec<PathBuf>,
    /// Whether the system tells of its changes.
    pub(super) is_watched: bool,
    /// Whether it waits for its turn to be read.
    pub(super) is_queued: bool,
    /// How far it was read when it went to sleep.
    pub(super) slept_at: u64,
    /// Its size when it was last looked at.
    pub(super) size: u64,
    pub(super) looked: SystemTime,
    pub(super) active: Instant,
    pub(super) gauges: FileGauges,
}

impl Followed {
    pub(super) fn new(wanted: Wanted, file: FileTail, metrics: &AgentMetrics) -> Self {
        let size = file.content().size().ok().filter(|s| *s < u64::MAX).unwrap_or(file.offset());
        Self {
            gauges: metrics.files.of(&wanted.path.to_string_lossy()),
            place: file.place(),
            file: Some(file),
            wanted,
            leaving: None,
            until: None,
            names: Vec::new(),
            is_watched: false,
            is_queued: false,
            slept_at: 0,
            size,
            looked: SystemTime::now(),
            active: Instant::now(),
        }
    }

    /// Its key among all that are open.
    pub(super) fn seat(&self) -> Seat {
        (self.place, self.wanted.job)
    }

    /// Whether no target wants the file, and it was read as far as it had grown by then. Its position stays known.
    pub(super) fn is_let_go(&self) -> bool {
        let read = |end| self.file.as_ref().is_none_or(|file| file.offset() >= end);
        self.until.is_some_and(read)
    }

    /// Whether it must be looked at more often than now and then.
    pub(super) fn is_uneasy(&self) -> bool {
        let unfinished = || self.file.as_ref().is_some_and(FileTail::is_unfinished);
        self.leaving.is_some()
            || self.until.is_some()
            || !self.is_watched
            || self.is_archive()
            || unfinished()
    }

    /// Whether it is compressed.
    pub(super) fn is_archive(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.content().is_archive())
    }

    /// Whether everything that is known to be in it was read.
    pub(super) fn is_read(&self) -> bool {
        self.file.as_ref().is_none_or(|file| match file.content().is_archive() {
            true => file.content().is_complete() && !file.is_unfinished(),
            false => file.content().size().is_ok_and(|size| size == file.offset()) && !file.is_unfinished(),
        })
    }

    /// Whether its descriptor can be given back without losing anything.
    pub(super) fn can_sleep(&self) -> bool {
        let file = self.file.as_ref();
        let settled =
            |file: &FileTail| file.progress().is_idle() && file.progress().acknowledged() == self.size;
        self.leaving.is_none() && !self.is_queued && file.is_some_and(settled) && self.is_read()
    }

    /// Tells the metrics how far it is.
    pub(super) fn note(&self) {
        if let Some(file) = &self.file {
            let (read, acknowledged) = (file.offset(), file.progress().acknowledged());
            self.gauges.set(self.size.max(read), read, acknowledged);
        }
    }
}
