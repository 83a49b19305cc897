//! A file as the reading thread keeps it: what is wanted of it, whether it is open, and what is counted.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use model::Labels;

use super::content::Identified as _;
use super::file::{FileTail, Stamp, Stream};
use crate::discovery::FileTarget;
use crate::metrics::{AgentMetrics, FileGauges};
use crate::progress::Progress;

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
    /// Whether it is read from its end on if it has lain there since before the agent began, and nobody has read it.
    pub(super) from_end: bool,
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
            from_end: false,
        }
    }
}

/// Where a file lies, and for which job it is read.
pub(super) type Seat = ((u64, u64), usize);

/// How a followed file is held.
pub(super) enum Held {
    /// It is open.
    Open(Box<FileTail>),
    /// It was closed, for there are too many, and it is quiet. Its position is still this one's to keep.
    Asleep {
        /// What was acknowledged of it: all.
        progress: Arc<Progress>,
        /// What it was then.
        stamp: Option<Stamp>,
    },
}

/// What a look at a followed file has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing that is new.
    Nothing,
    /// There may be something to read.
    News,
    /// It is closed, and has changed.
    Awake,
    /// It was truncated.
    Truncated,
    /// Its path leads elsewhere, or nowhere.
    Elsewhere,
}

/// A file that is followed.
pub(super) struct Followed {
    pub(super) wanted: Wanted,
    pub(super) place: (u64, u64),
    pub(super) held: Held,
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
    /// Its size when it was last looked at.
    pub(super) size: u64,
    pub(super) looked: SystemTime,
    pub(super) active: Instant,
    pub(super) gauges: FileGauges,
    /// When it was met, if nobody had read it before.
    came: Option<SystemTime>,
}

impl Followed {
    pub(super) fn new(wanted: Wanted, file: FileTail, metrics: &AgentMetrics) -> Self {
        let size = file.content().size().ok().filter(|s| *s < u64::MAX).unwrap_or(file.offset());
        Self {
            gauges: metrics.files.of(&wanted.path.to_string_lossy()),
            looked: file.content().opened(),
            came: (file.offset() == 0).then(SystemTime::now),
            place: file.place(),
            held: Held::Open(Box::new(file)),
            // What comes to lie at its path later is another.
            wanted: Wanted { from_end: false, ..wanted },
            leaving: None,
            until: None,
            names: Vec::new(),
            is_watched: false,
            is_queued: false,
            size,
            active: Instant::now(),
        }
    }

    /// Its key among all that are open.
    pub(super) fn seat(&self) -> Seat {
        (self.place, self.wanted.job)
    }

    /// The open file.
    pub(super) fn file(&self) -> Option<&FileTail> {
        match &self.held {
            Held::Open(file) => Some(file),
            Held::Asleep { .. } => None,
        }
    }

    /// The open file, to read from it.
    pub(super) fn file_mut(&mut self) -> Option<&mut FileTail> {
        match &mut self.held {
            Held::Open(file) => Some(file),
            Held::Asleep { .. } => None,
        }
    }

    /// Whether it was met at this path, and since then.
    pub(super) fn came_since(&self, path: &Path, since: Option<SystemTime>) -> bool {
        self.wanted.path == path && since.zip(self.came).is_some_and(|(since, came)| came >= since)
    }

    /// What is acknowledged of it.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        match &self.held {
            Held::Open(file) => file.progress(),
            Held::Asleep { progress, .. } => progress,
        }
    }

    /// Looks at what lies at its path now, and at the file itself.
    pub(super) fn look(&mut self) -> Look {
        let now = match (self.leaving, std::fs::metadata(&self.wanted.path)) {
            (Some(_), _) => None,
            (None, Ok(now)) if (now.dev(), now.ino()) == self.place => Some(now),
            // It may be there, though this process may not see it.
            (None, Err(error)) if !is_gone(&error) => return Look::Nothing,
            (None, _) => return Look::Elsewhere,
        };
        match self.file().map(|file| file.content().is_archive()) {
            None => self.look_asleep(now.as_ref()),
            Some(true) => {
                if self.is_read() {
                    Look::Nothing
                } else {
                    Look::News
                }
            }
            Some(false) => self.look_open(now.as_ref()),
        }
    }

    fn look_asleep(&mut self, now: Option<&Metadata>) -> Look {
        let Some(now) = now else { return Look::Nothing };
        self.size = now.len();
        let Held::Asleep { stamp, .. } = &self.held else { return Look::Nothing };
        if *stamp == Some(Stamp::of(now)) { Look::Nothing } else { Look::Awake }
    }

    fn look_open(&mut self, now: Option<&Metadata>) -> Look {
        let before = self.size;
        let Held::Open(file) = &mut self.held else { return Look::Nothing };
        let stored = match now {
            Some(_) => None,
            None => file.content().stored().ok(),
        };
        let Some(now) = now.or(stored.as_ref()) else { return Look::Nothing };
        if now.len() < before || file.was_truncated_by(now).unwrap_or(false) {
            return Look::Truncated;
        }
        self.size = now.len();
        if self.size != file.offset() || file.is_unfinished() { Look::News } else { Look::Nothing }
    }

    /// Whether no target wants the file, and it was read as far as it had grown by then. Its position stays known.
    pub(super) fn is_let_go(&self) -> bool {
        let read = |end| self.file().is_none_or(|file| file.offset() >= end);
        self.until.is_some_and(read)
    }

    /// Whether it must be looked at more often than now and then.
    pub(super) fn is_uneasy(&self) -> bool {
        self.is_restless() || !self.is_watched
    }

    /// Whether something is to happen to it though nothing is written.
    pub(super) fn is_restless(&self) -> bool {
        let unfinished = || self.file().is_some_and(FileTail::is_unfinished);
        self.leaving.is_some() || self.until.is_some() || self.is_archive() || unfinished()
    }

    /// Whether it has left a path in the folder of another that the same job reads.
    pub(super) fn is_left_of(&self, other: &Wanted) -> bool {
        self.leaving.is_some()
            && self.wanted.job == other.job
            && self.wanted.path.parent() == other.path.parent()
    }

    /// Whether it has left its path, and nothing but its writer could bring anything new.
    pub(super) fn is_lingering(&self) -> bool {
        self.leaving.is_some()
            && self.until.is_none()
            && self.wanted.key.is_none()
            && self.file().is_some_and(|file| !file.is_unfinished() && !file.content().is_archive())
    }

    /// Whether it is compressed.
    pub(super) fn is_archive(&self) -> bool {
        self.file().is_some_and(|file| file.content().is_archive())
    }

    /// Whether everything that is known to be in it was read.
    pub(super) fn is_read(&self) -> bool {
        self.file().is_none_or(|file| match file.content().is_archive() {
            true => file.content().is_complete() && !file.is_unfinished(),
            false => file.content().size().is_ok_and(|size| size == file.offset()) && !file.is_unfinished(),
        })
    }

    /// Whether its descriptor can be given back without losing anything.
    pub(super) fn can_sleep(&self) -> bool {
        let settled =
            |file: &FileTail| file.progress().is_idle() && file.progress().acknowledged() == self.size;
        self.leaving.is_none() && !self.is_queued && self.file().is_some_and(settled) && self.is_read()
    }

    /// Whether it has left its path and can be closed before its time, as others need its descriptor. What is deleted is found no more.
    pub(super) fn is_spare(&self) -> bool {
        let is_done = |file: &FileTail| {
            file.progress().is_idle()
                && (!file.content().is_deleted() || file.idle() >= Duration::from_secs(1))
        };
        self.is_lingering() && !self.is_queued && self.file().is_some_and(is_done) && self.is_read()
    }

    /// Gives its descriptor back. What was read of it is all that there was.
    pub(super) fn sleep(&mut self) {
        if let Held::Open(file) = &self.held {
            let stamp = file.content().stored().ok().map(|now| Stamp::of(&now));
            // What has been written meanwhile has another stamp than one that ends here.
            let stamp = stamp.filter(|stamp| stamp.size() == file.offset());
            self.held = Held::Asleep { progress: file.progress().clone(), stamp };
        }
    }

    /// Tells the metrics how far it is.
    pub(super) fn note(&self) {
        if let Some(file) = self.file() {
            let (read, acknowledged) = (file.offset(), file.progress().acknowledged());
            self.gauges.set(self.size.max(read), read, acknowledged);
        }
    }
}

/// Whether an error says that nothing is at a path, and not that it cannot be seen.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    use rustix::io::Errno;
    matches!(error.kind(), NotFound | NotADirectory) || Errno::from_io_error(error) == Some(Errno::LOOP)
}
