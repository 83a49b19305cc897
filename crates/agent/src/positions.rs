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
mod identity;
mod line_place;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;

use self::containers::Containers;
pub use self::identity::Identity;
pub(crate) use self::line_place::LinePlace;
use self::state::{Imported, Known, KnownFiles, Owner, State, read_positions, write_positions};
use crate::config::PositionsConfig;
use crate::progress::Progress;
use crate::source::{Source, Unsaved};
use crate::tail::Identified;
use crate::targets::Cursor;

/// What is remembered of a file.
#[derive(Debug, Clone)]
pub(crate) struct KnownFile {
    /// Where it was last read.
    pub(crate) path: PathBuf,
    /// Where that was in truth, if the path was a link.
    pub(crate) real: Option<PathBuf>,
    /// What it was.
    pub(crate) identity: Identity,
    /// Everything before this offset is acknowledged.
    pub(crate) offset: u64,
    /// When it was last seen, seconds since the epoch.
    pub(crate) seen: i64,
}

impl From<&Known> for KnownFile {
    fn from(known: &Known) -> Self {
        let Known { path, real, identity, offset, seen, .. } = known;
        Self { path: path.clone(), real: real.clone(), identity: *identity, offset: *offset, seen: *seen }
    }
}

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
    path: PathBuf,
    inner: Mutex<Inner>,
    /// Held while files are written.
    saving: Mutex<Saving>,
    unsaved: Arc<Unsaved>,
}

/// How writing went.
#[derive(Default)]
struct Saving {
    /// When it failed last.
    failed: Option<Instant>,
    /// What was written last, and when.
    written: Option<(u64, Instant)>,
}

#[derive(Default)]
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
    /// Files being read, by [`OpenFile::key`].
    open_files: HashMap<usize, OpenFile>,
    open_journals: BTreeMap<String, Arc<Cursor>>,
    /// Counts changes of what is to be kept.
    version: u64,
}

struct OpenFile {
    path: PathBuf,
    real: Option<PathBuf>,
    identity: Identity,
    owner: Owner,
    progress: Arc<Progress>,
    /// ns since the epoch.
    opened: i64,
}

impl OpenFile {
    /// No two that are open share their progress.
    fn key(progress: &Arc<Progress>) -> usize {
        Arc::as_ptr(progress).addr()
    }

    fn known(&self, now: i64) -> Known {
        Known {
            path: self.path.clone(),
            real: self.real.clone(),
            identity: self.identity,
            owner: self.owner.clone(),
            source: self.progress.source().map(|source| format!("{:032x}", source.id())),
            offset: self.progress.acknowledged(),
            saved: self.progress.source().and_then(Source::saved),
            loaded: None,
            opened: self.opened,
            seen: now,
        }
    }

    /// Takes over into `known` what it has reached; whether that is something new.
    fn remember(&self, known: &mut KnownFiles, now: i64) -> bool {
        match known.get_mut(self.identity.place(), &self.owner) {
            Some(known) if known.opened == self.opened => {
                let offset = self.progress.acknowledged();
                let is_new = (known.identity, known.offset) != (self.identity, offset);
                (known.identity, known.offset, known.seen) = (self.identity, offset, now);
                known.saved = self.progress.source().and_then(Source::saved);
                is_new
            }
            before => {
                let new = self.known(now);
                let loaded = before.filter(|known| known.source == new.source).and_then(|known| known.loaded);
                known.set(Known { loaded, ..new });
                true
            }
        }
    }
}

impl Positions {
    /// How long a file that is not there any more is remembered.
    const FORGET_SECONDS: i64 = 24 * 3600;
    /// After so long everything is written though nothing is new: what is still there must not be forgotten.
    const REFRESH: Duration = Duration::from_secs(600);
    /// So long after a failure new files do without ids.
    const RETRY: Duration = Duration::from_secs(10);

    /// Reads what was kept. A file that cannot be read stops the start unless it may be ignored.
    pub fn load(config: &PositionsConfig) -> Result<Self> {
        let path = PathBuf::from(&config.filename);
        let inner = match (State::read(&Self::state_path(&path)), read_positions(&path)) {
            (Ok(Some(state)), _) => Inner {
                known: KnownFiles::new(state.files),
                containers: Containers::new(state.containers, state.cursors, now()),
                journals: state.journals,
                journal_ids: state.journal_ids,
                saved_at: state.saved_at,
                clients_before: state.clients,
                ..Inner::default()
            },
            (Ok(None), Ok(imported)) => Inner { imported: Imported::new(imported), ..Inner::default() },
            (Err(error), _) | (_, Err(error)) if config.ignore_invalid_yaml => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "positions cannot be read: starting without any"
                );
                Inner::default()
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let (inner, saving, unsaved) = (Mutex::new(inner), Mutex::default(), Arc::default());
        let shared = Arc::new(Shared { path, inner, saving, unsaved });
        Ok(Self { shared, client: "".into(), jobs: Arc::new([]), is_saved: true })
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

    fn state_path(path: &Path) -> PathBuf {
        path.with_extension("state.json")
    }

    fn owner(&self, job: usize) -> Owner {
        let job = self.jobs.get(job).cloned().unwrap_or_else(|| job.to_string());
        Owner { job, client: self.client.to_string() }
    }

    /// The progress of a file that a job (by its index) is about to read, and the identity it was found under. `path` is what it is read
    /// as, `at` where it lies now.
    pub fn open_file(
        &self,
        path: &Path,
        at: &Path,
        file: &impl Identified,
        job: usize,
    ) -> std::io::Result<(Identity, Arc<Progress>)> {
        let (identity, size, owner) = (Identity::of(file)?, file.size()?, self.owner(job));
        let real = at.canonicalize().ok().filter(|real| real != path);
        let mut inner = self.shared.inner.lock();
        let found = match inner.find(file, &owner, &self.jobs)? {
            Some(found) => Some(found),
            None => inner.imported.offset(path, identity.place()).map(|offset| (offset, None)),
        };
        let progress = match found.filter(|(offset, _)| *offset <= size) {
            Some((offset, source)) => self.progress(offset, source.unwrap_or_default()),
            None => self.progress(0, Source::new()),
        };
        let opened = model::Timestamp::now().nanos();
        let (path, open) = (path.to_owned(), progress.clone());
        let open = OpenFile { path, real, identity, owner, progress: open, opened };
        inner.open_files.insert(OpenFile::key(&progress), open);
        Ok((identity, progress))
    }

    /// The progress of a file that begins anew: what it held before is another source's.
    pub(crate) fn anew(&self, old: &Arc<Progress>, identity: Identity) -> Arc<Progress> {
        let new = self.progress(0, Source::new());
        self.renew(old, identity, &new);
        new
    }

    fn progress(&self, offset: u64, source: Source) -> Arc<Progress> {
        Progress::of_source(offset, source, self.shared.unsaved.clone())
    }

    /// The file's identity covers more of it now, or it goes on elsewhere, or it begins anew.
    pub fn renew(&self, old: &Arc<Progress>, identity: Identity, progress: &Arc<Progress>) {
        let mut inner = self.shared.inner.lock();
        let Some(mut open) = inner.open_files.remove(&OpenFile::key(old)) else { return };
        if open.identity.place() != identity.place() {
            inner.known.remove(open.identity.place(), &open.owner);
            inner.version += 1;
        }
        if !Arc::ptr_eq(old, progress) {
            open.opened = model::Timestamp::now().nanos();
        }
        (open.identity, open.progress) = (identity, progress.clone());
        inner.open_files.insert(OpenFile::key(progress), open);
    }

    /// Every file that is remembered for this client, whether it is open or not.
    pub(crate) fn known(&self) -> Vec<KnownFile> {
        let mut inner = self.shared.inner.lock();
        inner.remember();
        inner.known.iter().filter(|k| k.owner.client == *self.client).map(KnownFile::from).collect()
    }

    /// Every file that a job (by its index) has read.
    pub(crate) fn known_of(&self, job: usize) -> Vec<KnownFile> {
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        inner.known.iter().filter(|known| known.owner == owner).map(KnownFile::from).collect()
    }

    /// Files that a job (by its index) last read at this path.
    pub(crate) fn known_at(&self, path: &Path, job: usize) -> Vec<KnownFile> {
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        inner.known.at(path).filter(|known| known.owner == owner).map(KnownFile::from).collect()
    }

    /// The same; where there are none, those that the job read for other clients: this one has yet to begin with them.
    pub(crate) fn expected_at(&self, path: &Path, job: usize) -> Vec<KnownFile> {
        let own = self.known_at(path, job);
        if !own.is_empty() {
            return own;
        }
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        let of_job = inner.known.at(path).filter(|known| known.owner.job == owner.job);
        of_job.map(|known| KnownFile { offset: 0, ..known.into() }).collect()
    }

    /// Whether a job has read this very file before.
    pub(crate) fn is_known(&self, file: &impl Identified, job: usize) -> bool {
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        inner.find(file, &owner, &self.jobs).is_ok_and(|found| found.is_some())
    }

    /// What is remembered of one file goes on in another, which is a copy of it or was made of it by compression.
    pub(crate) fn adopt(&self, old: &Identity, new: Identity) {
        let mut inner = self.shared.inner.lock();
        inner.known.adopt(old, new, &self.client);
        inner.version += 1;
    }

    /// The file is not read any more; it stays remembered for a day.
    pub fn close_file(&self, progress: &Arc<Progress>) {
        let mut inner = self.shared.inner.lock();
        if let Some(open) = inner.open_files.remove(&OpenFile::key(progress)) {
            let is_new = open.remember(&mut inner.known, now());
            inner.version += u64::from(is_new);
        }
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
            || inner.known.iter().any(|known| known.path.to_string_lossy().contains(container))
    }

    /// Resolves when so much is acknowledged that it is time to save.
    pub async fn due(&self) {
        self.shared.unsaved.due().await;
    }

    /// Writes what is acknowledged now, durably.
    pub fn save(&self) -> Result<()> {
        if !self.is_saved {
            return Ok(());
        }
        self.write(&mut self.shared.saving.lock())
    }

    /// The same if there is anything new.
    pub fn save_changes(&self) -> Result<()> {
        if !self.is_saved {
            return Ok(());
        }
        let mut saving = self.shared.saving.lock();
        let version = {
            let mut inner = self.shared.inner.lock();
            inner.remember();
            inner.version
        };
        let is_written = |(written, at): (u64, Instant)| written == version && at.elapsed() < Self::REFRESH;
        if saving.written.is_some_and(is_written) { Ok(()) } else { self.write(&mut saving) }
    }

    fn write(&self, saving: &mut Saving) -> Result<()> {
        let written = self.write_state().and_then(|(state, version)| {
            write_positions(&self.shared.path, &state).map(|()| (version, Instant::now()))
        });
        saving.failed = written.is_err().then(Instant::now);
        saving.written = written.as_ref().ok().copied();
        written.map(drop)
    }

    /// Sees to it that the id of a file that is read is on disk, together with those of all others that were opened; `false` if
    /// that cannot be.
    pub(crate) fn bind(&self, progress: &Progress) -> bool {
        self.bind_if(|| progress.source().is_none_or(Source::is_durable))
    }

    fn bind_if(&self, is_bound: impl Fn() -> bool) -> bool {
        if is_bound() {
            return true;
        }
        let mut saving = self.shared.saving.lock();
        if self.is_saved && !is_bound() && saving.failed.is_none_or(|at| at.elapsed() >= Self::RETRY) {
            let written = self.write_state();
            if let Err(error) = &written {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "positions cannot be written: until they can be, lines may be sent twice after a crash"
                );
            }
            saving.failed = written.is_err().then(Instant::now);
        }
        is_bound()
    }

    /// Writes the state, and gives its version. Whoever calls it holds `saving`.
    fn write_state(&self) -> Result<(State, u64)> {
        let Shared { path, inner, unsaved, .. } = &*self.shared;
        unsaved.clear();
        let (state, version, saved, journals) = {
            let mut inner = inner.lock();
            inner.remember();
            // An empty file's identity does not keep another from taking its place, and its id.
            let telling = inner.open_files.values().filter(|open| open.identity.is_telling());
            let saved: Vec<_> = telling
                .map(|open| (open.progress.clone(), open.identity.place(), open.owner.clone()))
                .collect();
            let saved = saved.into_iter().filter_map(|(progress, place, owner)| {
                Some((progress, inner.known.get(place, &owner)?.offset))
            });
            let saved: Vec<_> = saved.chain(inner.containers.lows()).collect();
            let journals = inner.open_journals.values();
            let journals: Vec<_> = journals.map(|cursor| (cursor.clone(), cursor.lows())).collect();
            let state = State {
                files: inner.known.iter().cloned().collect(),
                containers: inner.containers.iter().cloned().collect(),
                cursors: BTreeMap::new(),
                journals: inner.journals.clone(),
                journal_ids: inner.journal_ids.clone(),
                saved_at: Some(now()),
                clients: Some(inner.clients.clone()),
            };
            (state, inner.version, saved, journals)
        };
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be made", folder.display()))?;
        }
        let path = Self::state_path(path);
        disk::atomic::write(&path, &serde_json::to_vec(&state)?)
            .with_context(|| path.display().to_string())?;
        for (progress, offset) in saved {
            if let Some(source) = progress.source() {
                source.set_saved(offset);
            }
        }
        journals.iter().for_each(|(cursor, lows)| cursor.set_saved(lows));
        Ok((state, version))
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    model::Timestamp::now().nanos() / 1_000_000_000
}

impl Inner {
    /// Offset and source that an owner goes on with in a file.
    fn find(
        &self,
        file: &impl Identified,
        owner: &Owner,
        jobs: &[String],
    ) -> std::io::Result<Option<(u64, Option<Source>)>> {
        self.known.find(file, owner, jobs, self.is_new(owner))
    }

    /// Whether the client of an owner was not read for before this process began.
    fn is_new(&self, owner: &Owner) -> bool {
        !self.clients_before.as_ref().is_some_and(|before| before.contains(&owner.client))
    }

    /// Takes over what open files and containers have reached, and forgets what has long been gone.
    fn remember(&mut self) {
        let (now, mut is_new) = (now(), false);
        for open in self.open_files.values() {
            is_new |= open.remember(&mut self.known, now);
        }
        is_new |= self.known.retain(|known| now - known.seen < Positions::FORGET_SECONDS);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn positions(folder: &Path) -> Positions {
        let config = PositionsConfig {
            filename: folder.join("positions.yaml").to_string_lossy().into_owned(),
            ..PositionsConfig::default()
        };
        Positions::load(&config).unwrap()
    }

    #[test]
    fn a_file_is_known_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("app.log"), folder.path().join("app.log.1"));
        std::fs::write(&old, "first line\nsecond\n").unwrap();
        let first = positions(folder.path());
        let (_, progress) = first.open_file(&old, &old, &File::open(&old).unwrap(), 0).unwrap();
        progress.open(11).done(1);
        first.save().unwrap();

        std::fs::rename(&old, &new).unwrap();
        std::fs::write(&old, "other content\n").unwrap();
        let again = positions(folder.path());
        let offset = |path: &Path| {
            again.open_file(path, path, &File::open(path).unwrap(), 0).unwrap().1.acknowledged()
        };
        assert_eq!(offset(&new), 11);
        assert_eq!(offset(&old), 0);
    }

    #[test]
    fn promtails_file_is_read_in() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("app.log");
        std::fs::write(&log, "0123456789").unwrap();
        let yaml = format!("positions:\n  {}: \"4\"\n  cursor-abc: \"1718000000\"\n", log.display());
        std::fs::write(folder.path().join("positions.yaml"), yaml).unwrap();
        let positions = positions(folder.path());
        let (_, progress) = positions.open_file(&log, &log, &File::open(&log).unwrap(), 0).unwrap();
        assert_eq!(progress.acknowledged(), 4);
        let place = LinePlace::before(positions.open_container("abc", 0).acknowledged()).unwrap();
        assert_eq!(place.time().nanos(), 1_718_000_000_000_000_000);
    }

    #[test]
    fn cursors_of_journals_are_kept_as_promtail_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("positions.yaml"),
            "positions:\n  cursor-j: \"s=1;i=2\"\n  journal-k: s=3\n",
        )
        .unwrap();
        let first = positions(folder.path());
        assert_eq!(first.open_journal("k").acknowledged().as_deref(), Some("s=3"));
        let cursor = first.open_journal("j");
        assert_eq!(cursor.acknowledged().as_deref(), Some("s=1;i=2"));
        cursor.open("s=1;i=3".into()).0.done(1);
        let _waits = cursor.open("s=1;i=4".into());
        first.save().unwrap();
        assert_eq!(positions(folder.path()).open_journal("j").acknowledged().as_deref(), Some("s=1;i=3"));
        let written = std::fs::read_to_string(folder.path().join("positions.yaml")).unwrap();
        assert!(written.contains("cursor-j: ") && written.contains("s=1;i=3"), "{written}");
    }

    #[test]
    fn a_broken_file_is_an_error_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("positions.yaml"), "\0\0\0").unwrap();
        let filename = folder.path().join("positions.yaml").to_string_lossy().into_owned();
        let config = PositionsConfig { filename, ..PositionsConfig::default() };
        let error = Positions::load(&config).err().unwrap();
        assert!(format!("{error:#}").contains("ignore_invalid_yaml"), "{error:#}");
        assert!(Positions::load(&PositionsConfig { ignore_invalid_yaml: true, ..config }).is_ok());
    }
}
