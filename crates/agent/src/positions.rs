//! What has been acknowledged of which file, kept over restarts.
//!
//! Promtail knows files by their path; a file that is renamed is then read again, and one that took another's
//! place is read from the middle. Here a file is known by device, inode and its first bytes, and what is kept of it belongs to
//! the job that reads it and to the client that it is read for: each has a position of its own, and an id under which stores
//! know its lines ([`crate::source`]). That is kept beside Promtail's own `positions:` map, which is read in once and written
//! for the way back.
//!
//! A job or client without a position of its own takes over the lowest that the file has from those that are not configured any
//! more, or from the job's other clients: a renamed job neither loses nor repeats lines.

mod identity;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;

pub use self::identity::Identity;
use self::state::{Imported, Known, KnownFiles, Owner, State, read_positions, write_positions};
use crate::config::PositionsConfig;
use crate::progress::{Cursor, Progress};
use crate::source::{Source, Unsaved};
use crate::tail::Identified;

/// What is remembered of a file.
#[derive(Debug, Clone)]
pub(crate) struct KnownFile {
    /// Where it was last read.
    pub(crate) path: PathBuf,
    /// What it was.
    pub(crate) identity: Identity,
    /// Everything before this offset is acknowledged.
    pub(crate) offset: u64,
    /// When it was last seen, seconds since the epoch.
    pub(crate) seen: i64,
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
    /// Held while files are written; when that failed last.
    saving: Mutex<Option<Instant>>,
    unsaved: Arc<Unsaved>,
}

#[derive(Default)]
struct Inner {
    known: KnownFiles,
    cursors: BTreeMap<String, u64>,
    journals: BTreeMap<String, String>,
    /// From Promtail's file.
    imported: Imported,
    /// Files and containers being read.
    open_files: Vec<OpenFile>,
    open_cursors: BTreeMap<String, Arc<Progress>>,
    open_journals: BTreeMap<String, Arc<Cursor>>,
}

struct OpenFile {
    path: PathBuf,
    identity: Identity,
    owner: Owner,
    progress: Arc<Progress>,
    /// ns since the epoch.
    opened: i64,
}

impl Positions {
    /// How long a file that is not there any more is remembered.
    const FORGET_SECONDS: i64 = 24 * 3600;
    /// So long after a failure new files do without ids.
    const RETRY: Duration = Duration::from_secs(10);

    /// Reads what was kept. A file that cannot be read stops the start unless it may be ignored.
    pub fn load(config: &PositionsConfig) -> Result<Self> {
        let path = PathBuf::from(&config.filename);
        let inner = match (State::read(&Self::state_path(&path)), read_positions(&path)) {
            (Ok(Some(State { files, cursors, journals })), _) => {
                Inner { known: KnownFiles::new(files), cursors, journals, ..Inner::default() }
            }
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
        let (inner, saving, unsaved) = (Mutex::new(inner), Mutex::new(None), Arc::default());
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
        Self { client: name.into(), ..self.clone() }
    }

    fn state_path(path: &Path) -> PathBuf {
        path.with_extension("state.json")
    }

    fn owner(&self, job: usize) -> Owner {
        let job = self.jobs.get(job).cloned().unwrap_or_else(|| job.to_string());
        Owner { job, client: self.client.to_string() }
    }

    /// The progress of a file that a job (by its index) is about to read, and the identity it was found under.
    pub fn open_file(
        &self,
        path: &Path,
        file: &impl Identified,
        job: usize,
    ) -> std::io::Result<(Identity, Arc<Progress>)> {
        let (identity, size, owner) = (Identity::of(file)?, file.size()?, self.owner(job));
        let mut inner = self.shared.inner.lock();
        let found = match inner.known.find(file, &owner, &self.jobs)? {
            Some(found) => Some(found),
            None => inner.imported.offset(path, identity.place()).map(|offset| (offset, None)),
        };
        let progress = match found.filter(|(offset, _)| *offset <= size) {
            Some((offset, source)) => self.progress(offset, source.unwrap_or_default()),
            None => self.progress(0, Source::new()),
        };
        let opened = model::Timestamp::now().nanos();
        let (path, open) = (path.to_owned(), progress.clone());
        inner.open_files.push(OpenFile { path, identity, owner, progress: open, opened });
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
        let Inner { open_files, known, .. } = &mut *inner;
        if let Some(open) = open_files.iter_mut().find(|open| Arc::ptr_eq(&open.progress, old)) {
            if open.identity.place() != identity.place() {
                known.remove(open.identity.place(), &open.owner);
            }
            (open.identity, open.progress) = (identity, progress.clone());
        }
    }

    /// Every file that is remembered for this client, whether it is open or not.
    pub(crate) fn known(&self) -> Vec<KnownFile> {
        let mut inner = self.shared.inner.lock();
        inner.remember();
        let known = |k: &Known| KnownFile {
            path: k.path.clone(),
            identity: k.identity,
            offset: k.offset,
            seen: k.seen,
        };
        inner.known.iter().filter(|k| k.owner.client == *self.client).map(known).collect()
    }

    /// Files that a job (by its index) last read at this path.
    pub(crate) fn known_at(&self, path: &Path, job: usize) -> Vec<KnownFile> {
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        let is_there = |k: &&Known| k.path.as_os_str() == path.as_os_str() && k.owner == owner;
        let known = |k: &Known| KnownFile {
            path: k.path.clone(),
            identity: k.identity,
            offset: k.offset,
            seen: k.seen,
        };
        inner.known.iter().filter(is_there).map(known).collect()
    }

    /// Whether a job has read this very file before.
    pub(crate) fn is_known(&self, file: &impl Identified, job: usize) -> bool {
        let (inner, owner) = (self.shared.inner.lock(), self.owner(job));
        inner.known.find(file, &owner, &self.jobs).is_ok_and(|found| found.is_some())
    }

    /// What is remembered of one file goes on in another, which is a copy of it or was made of it by compression.
    pub(crate) fn adopt(&self, old: &Identity, new: Identity) {
        self.shared.inner.lock().known.adopt(old, new, &self.client);
    }

    /// The file is not read any more; it stays remembered for a day.
    pub fn close_file(&self, progress: &Arc<Progress>) {
        let mut inner = self.shared.inner.lock();
        inner.remember();
        inner.open_files.retain(|open| !Arc::ptr_eq(&open.progress, progress));
    }

    /// The name under which something other than a file is kept for this client.
    fn key(&self, name: &str) -> String {
        if self.client.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{}{}", state::OF_CLIENT, self.client)
        }
    }

    /// The progress of a container that is read over the engine's API: its offset is a time, ns since the epoch.
    pub fn open_cursor(&self, container: &str) -> Arc<Progress> {
        let (mut inner, key) = (self.shared.inner.lock(), self.key(container));
        let imported = inner.imported.cursor("cursor", container);
        let imported =
            imported.and_then(|text| text.parse::<u64>().ok()).map(|s| s.saturating_mul(1_000_000_000));
        let open = inner.open_cursors.get(&key).map(|progress| progress.acknowledged());
        let kept = inner.cursors.get(&key).or_else(|| inner.cursors.get(container)).copied();
        let progress = Progress::new(open.or(kept).or(imported).unwrap_or(0));
        inner.open_cursors.insert(key, progress.clone());
        progress
    }

    /// How far the journal of a job was read. Promtail's cursors are the journal's own, as ours are.
    pub fn open_journal(&self, job: &str) -> Arc<Cursor> {
        let (mut inner, key) = (self.shared.inner.lock(), self.key(job));
        let imported = inner.imported.cursor("cursor", job).or_else(|| inner.imported.cursor("journal", job));
        let kept = inner.journals.get(&key).or_else(|| inner.journals.get(job)).cloned();
        let cursor = Cursor::new(kept.or(imported));
        inner.open_journals.insert(key, cursor.clone());
        cursor
    }

    /// Whether something of a container is remembered: its cursor, or a file whose path has its id.
    pub fn knows(&self, container: &str) -> bool {
        let inner = self.shared.inner.lock();
        let has_cursor =
            inner.cursors.contains_key(&self.key(container)) || inner.cursors.contains_key(container);
        has_cursor || inner.known.iter().any(|known| known.path.to_string_lossy().contains(container))
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
        let mut failed = self.shared.saving.lock();
        let written = self.write_state().and_then(|state| write_positions(&self.shared.path, &state));
        *failed = written.is_err().then(Instant::now);
        written
    }

    /// Sees to it that the id of a file that is read is on disk, together with those of all others that were opened; `false` if
    /// that cannot be.
    pub(crate) fn bind(&self, progress: &Progress) -> bool {
        let is_bound = || progress.source().is_none_or(Source::is_durable);
        if is_bound() {
            return true;
        }
        let mut failed = self.shared.saving.lock();
        if self.is_saved && !is_bound() && failed.is_none_or(|at| at.elapsed() >= Self::RETRY) {
            let written = self.write_state();
            if let Err(error) = &written {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "positions cannot be written: until they can be, lines may be sent twice after a crash"
                );
            }
            *failed = written.is_err().then(Instant::now);
        }
        is_bound()
    }

    /// Writes the state. Whoever calls it holds `saving`.
    fn write_state(&self) -> Result<State> {
        let Shared { path, inner, unsaved, .. } = &*self.shared;
        unsaved.clear();
        let (state, saved) = {
            let mut inner = inner.lock();
            inner.remember();
            // An empty file's identity does not keep another from taking its place, and its id.
            let telling = inner.open_files.iter().filter(|open| open.identity.is_telling());
            let saved: Vec<_> = telling
                .map(|open| (open.progress.clone(), open.identity.place(), open.owner.clone()))
                .collect();
            let saved: Vec<_> = saved
                .into_iter()
                .filter_map(|(progress, place, owner)| {
                    Some((progress, inner.known.get(place, &owner)?.offset))
                })
                .collect();
            let (cursors, journals) = (inner.cursors.clone(), inner.journals.clone());
            (State { files: inner.known.iter().cloned().collect(), cursors, journals }, saved)
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
        Ok(state)
    }
}

impl Inner {
    /// Takes over what open files and containers have reached, and forgets what has long been gone.
    fn remember(&mut self) {
        let now = model::Timestamp::now().nanos() / 1_000_000_000;
        for open in &self.open_files {
            self.known.set(Known {
                path: open.path.clone(),
                identity: open.identity,
                owner: open.owner.clone(),
                source: open.progress.source().map(|source| format!("{:032x}", source.id())),
                offset: open.progress.acknowledged(),
                saved: open.progress.source().and_then(Source::saved),
                opened: open.opened,
                seen: now,
            });
        }
        self.known.retain(|known| now - known.seen < Positions::FORGET_SECONDS);
        for (container, progress) in &self.open_cursors {
            self.cursors.insert(container.clone(), progress.acknowledged());
        }
        for (job, cursor) in &self.open_journals {
            self.journals.extend(cursor.acknowledged().map(|cursor| (job.clone(), cursor)));
        }
        let oldest = u64::try_from((now - Positions::FORGET_SECONDS).max(0)).unwrap_or(0) * 1_000_000_000;
        let open = &self.open_cursors;
        self.cursors.retain(|container, time| *time > oldest || open.contains_key(container));
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
        let (_, progress) = first.open_file(&old, &File::open(&old).unwrap(), 0).unwrap();
        progress.open(11).done(1);
        first.save().unwrap();

        std::fs::rename(&old, &new).unwrap();
        std::fs::write(&old, "other content\n").unwrap();
        let again = positions(folder.path());
        let offset =
            |path: &Path| again.open_file(path, &File::open(path).unwrap(), 0).unwrap().1.acknowledged();
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
        let (_, progress) = positions.open_file(&log, &File::open(&log).unwrap(), 0).unwrap();
        assert_eq!(progress.acknowledged(), 4);
        assert_eq!(positions.open_cursor("abc").acknowledged(), 1_718_000_000_000_000_000);
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
        cursor.open("s=1;i=3".into()).done(1);
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
