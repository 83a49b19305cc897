//! What has been acknowledged of which file, kept over restarts.
//!
//! Promtail knows files by their path; a file that is renamed is then read again, and one that took another's
//! place is read from the middle. Here a file is known by device, inode and its first bytes, and what is kept of it belongs to
//! the job that reads it and to the client that it is read for: each has a position of its own, and an id under which stores
//! know its lines ([`crate::source`]). That is kept beside Promtail's own `positions:` map, which is read in once and written
//! for the way back.
//!
//! A job or client without a position of its own takes over the lowest that the file has from those that are not configured any
//! more, or from the job's other clients: a renamed job neither loses nor repeats lines. A client that was read for before has
//! nothing to take over: what it has no position of it has not read.

mod containers;
mod files;
mod identity;
mod known;
mod line_place;
mod path_text;
mod saving;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;

use self::containers::Containers;
pub(crate) use self::files::KnownFile;
use self::files::OpenFile;
pub use self::identity::{IdentifiedBy, Identity, Mark};
pub(crate) use self::known::KnownId;
use self::known::{KnownFiles, Owner};
pub(crate) use self::line_place::LinePlace;
use self::saving::{Kept, Saving};
use self::state::Imported;
use crate::config::PositionsConfig;
use crate::progress::Progress;
use crate::source::{Source, Unsaved};
use crate::targets::Cursor;

/// All positions, as one client's reader sees them. Cheap to clone.
#[derive(Clone)]
pub struct Positions {
    shared: Arc<Shared>,
    client: Arc<str>,
    /// Names by index.
    jobs: Arc<[String]>,
    is_saved: bool,
}

struct Shared {
    inner: Mutex<Inner>,
    /// Held while files are written.
    saving: Mutex<Saving>,
    unsaved: Arc<Unsaved>,
    damaged: usize,
}

struct Inner {
    known: KnownFiles,
    containers: Containers,
    journals: BTreeMap<String, String>,
    journal_ids: BTreeMap<String, String>,
    /// When the state was written that was read at the start, seconds since the epoch.
    saved_at: Option<i64>,
    /// From Promtail's file.
    imported: Imported,
    /// Clients that are read for, and those that were before this process began.
    clients: BTreeSet<String>,
    clients_before: Option<BTreeSet<String>>,
    /// Jobs that had read before; none where nobody knows.
    jobs_before: Option<BTreeSet<String>>,
    /// Files being read, by who holds their entries.
    open_files: HashMap<usize, OpenFile>,
    open_journals: BTreeMap<String, Arc<Cursor>>,
    /// Counts changes of what is to be kept.
    version: u64,
    /// Until when time was counted in which files were not seen.
    aged: Instant,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            known: KnownFiles::default(),
            containers: Containers::default(),
            journals: BTreeMap::new(),
            journal_ids: BTreeMap::new(),
            saved_at: None,
            imported: Imported::default(),
            clients: BTreeSet::new(),
            clients_before: None,
            jobs_before: Some(BTreeSet::new()),
            open_files: HashMap::new(),
            open_journals: BTreeMap::new(),
            version: 0,
            aged: Instant::now(),
        }
    }
}

impl Positions {
    /// How long a file that nobody reads any more is remembered.
    const FORGET_SECONDS: i64 = 24 * 3600;
    /// How many of them: where files come and go by the thousand, all of them are written each time.
    const MAX_UNREAD: usize = 50_000;

    /// Reads what was kept. A positions file of Promtail that cannot be read stops the start unless it may be ignored.
    pub fn load(config: &PositionsConfig) -> Result<Self> {
        let mut saving = Saving::at(Path::new(&config.filename));
        let (kept, damaged) = match saving.read(config.ignore_invalid_yaml) {
            Err(error) if config.ignore_invalid_yaml => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "positions cannot be read: starting without any"
                );
                (Kept::Nothing, 1)
            }
            kept => kept?,
        };
        let inner = match kept {
            Kept::State(state) => Inner {
                known: KnownFiles::new(state.files),
                containers: Containers::new(state.containers, state.cursors, now()),
                journals: state.journals,
                journal_ids: state.journal_ids,
                saved_at: state.saved_at,
                clients_before: state.clients,
                jobs_before: state.jobs,
                ..Inner::default()
            },
            Kept::Positions(imported) if imported.is_empty() => Inner::default(),
            // Promtail has read for these jobs, or others: nobody knows.
            Kept::Positions(imported) => {
                Inner { imported: Imported::new(imported), jobs_before: None, ..Inner::default() }
            }
            Kept::Nothing => Inner::default(),
        };
        let (inner, saving, unsaved) = (Mutex::new(inner), Mutex::new(saving), Arc::default());
        let shared = Arc::new(Shared { inner, saving, unsaved, damaged });
        Ok(Self { shared, client: "".into(), jobs: Arc::new([]), is_saved: true })
    }

    /// How many files that positions were kept in were damaged when they were read.
    pub(crate) fn damaged(&self) -> usize {
        self.shared.damaged
    }

    /// The same for jobs of these names.
    pub fn of_jobs(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.jobs = names.into_iter().collect();
        self
    }

    /// The same, of which nothing is ever written.
    pub fn unsaved(self) -> Self {
        Self { is_saved: false, ..self }
    }

    /// The same positions as the reader of another client sees them. The only client there is has the empty name.
    pub fn for_client(&self, name: &str) -> Self {
        self.shared.inner.lock().clients.insert(name.to_owned());
        Self { client: name.into(), ..self.clone() }
    }

    fn owner(&self, job: usize) -> Owner {
        let job = self.jobs.get(job).cloned().unwrap_or_else(|| job.to_string());
        Owner { job, client: self.client.to_string() }
    }

    /// Whether no agent has read for a job (by its index) before this process began.
    pub(crate) fn is_first(&self, job: usize) -> bool {
        let before = &self.shared.inner.lock().jobs_before;
        before.as_ref().is_some_and(|before| !before.contains(&self.owner(job).job))
    }

    /// The name under which something other than a file is kept for this client.
    fn key(&self, name: &str) -> String {
        if self.client.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{}{}", state::OF_CLIENT, self.client)
        }
    }

    /// When positions were last written before this process began, seconds since the epoch.
    pub(crate) fn saved_at(&self) -> Option<i64> {
        self.shared.inner.lock().saved_at
    }

    /// The progress of a container that a job (by its index) reads over the engine's API: its offset is a position ([`LinePlace`]).
    pub(crate) fn open_container(&self, container: &str, job: usize) -> Arc<Progress> {
        let (mut inner, owner) = (self.shared.inner.lock(), self.owner(job));
        inner.remember();
        let found = inner.containers.find(container, &owner, &self.jobs, inner.is_new(&owner));
        let (offset, source) = found.unwrap_or_else(|| {
            let seconds =
                inner.imported.cursor("cursor", container).and_then(|text| text.parse::<u64>().ok());
            (seconds.map_or(0, |seconds| LinePlace::at_nanos(seconds.saturating_mul(1_000_000_000))), None)
        });
        let progress = Progress::of_lines(offset, source.unwrap_or_default(), self.shared.unsaved.clone());
        inner.containers.open(container, owner, progress.clone());
        progress
    }

    /// How far the journal of a job was read. Promtail's cursors are the journal's own, as ours are.
    pub(crate) fn open_journal(&self, job: &str) -> Arc<Cursor> {
        let cursor = {
            let (mut inner, key) = (self.shared.inner.lock(), self.key(job));
            let imported =
                inner.imported.cursor("cursor", job).or_else(|| inner.imported.cursor("journal", job));
            let kept = inner.journals.get(&key).or_else(|| inner.journals.get(job)).cloned();
            let id = inner.journal_ids.get(&key).and_then(|id| u128::from_str_radix(id, 16).ok());
            let source = id.map_or_else(Source::new, |id| Source::known(id, Some(0)));
            let cursor = Cursor::of_source(kept.or(imported), source, self.shared.unsaved.clone());
            inner.open_journals.insert(key, cursor.clone());
            cursor
        };
        self.bind_if(|| cursor.is_durable());
        cursor
    }

    /// Whether something of a container is remembered: its position, or a file whose path has its id.
    pub fn knows(&self, container: &str) -> bool {
        let inner = self.shared.inner.lock();
        inner.containers.knows(container, &self.client)
            || inner.known.iter().any(|(_, known)| known.path.to_string_lossy().contains(container))
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    model::Timestamp::now().nanos() / 1_000_000_000
}

impl Inner {
    /// Whether the client of an owner was not read for before this process began.
    fn is_new(&self, owner: &Owner) -> bool {
        !self.clients_before.as_ref().is_some_and(|before| before.contains(&owner.client))
    }

    /// Takes over what open files and containers have reached, and forgets what has long been gone.
    fn remember(&mut self) {
        let (now, mut is_new) = (now(), false);
        is_new |= self.remember_files(now);
        // Time in which no agent runs does not count, nor what happens to the system's clock.
        let seconds = self.aged.elapsed().as_secs();
        self.aged += Duration::from_secs(seconds);
        is_new |= self.known.age(seconds, Positions::FORGET_SECONDS as u64);
        is_new |= self.known.bound(Positions::MAX_UNREAD);
        is_new |= self.containers.remember(now, now - Positions::FORGET_SECONDS);
        for (job, cursor) in &self.open_journals {
            self.journal_ids.insert(job.clone(), format!("{:032x}", cursor.id()));
            let Some(cursor) = cursor.acknowledged() else { continue };
            is_new |= self.journals.get(job) != Some(&cursor);
            self.journals.insert(job.clone(), cursor);
        }
        self.version += u64::from(is_new);
    }
}
