//! What has been acknowledged of which file, kept over restarts.
//!
//! Promtail knows files by their path; a file that is renamed is then read again, and one that took another's
//! place is read from the middle. Here a file is known by device, inode and its first bytes. That is
//! kept beside Promtail's own `positions:` map, which is read in once and written for the way back.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::PositionsConfig;
use crate::progress::{Cursor, Progress};

/// What makes a file the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// How many of the first bytes `head` covers; short files grow into it.
    head_bytes: u64,
    /// xxh3-64 of them.
    head: u64,
}

impl Identity {
    const HEAD_BYTES: u64 = 256;

    /// Reads the identity of an open file.
    pub fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        let head_bytes = metadata.len().min(Self::HEAD_BYTES);
        let head = Self::hash(file, head_bytes)?.unwrap_or_default();
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), head_bytes, head })
    }

    /// Whether `file` is the one that this was read from, though it may have grown since.
    pub fn is_of(&self, file: &File) -> std::io::Result<bool> {
        let metadata = file.metadata()?;
        let same_place = (metadata.dev(), metadata.ino()) == (self.device, self.inode);
        Ok(same_place && Self::hash(file, self.head_bytes)? == Some(self.head))
    }

    /// Whether it covers as many bytes as it can.
    pub fn is_full(&self) -> bool {
        self.head_bytes == Self::HEAD_BYTES
    }

    /// Device and inode: where the file lies.
    pub fn place(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Hash of the first bytes; `None` if the file is shorter.
    fn hash(file: &File, bytes: u64) -> std::io::Result<Option<u64>> {
        let mut head = vec![0; bytes as usize];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(Some(xxh3_64(&head))),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// One file as remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    path: PathBuf,
    identity: Identity,
    offset: u64,
    /// When it was last seen, seconds since the epoch.
    seen: i64,
}

/// What is kept beside Promtail's map.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    files: Vec<Known>,
    /// Containers read over the engine's API: time of the last acknowledged line, ns since the epoch.
    cursors: BTreeMap<String, u64>,
    /// Journals by their job: cursor of the last acknowledged entry.
    #[serde(default)]
    journals: BTreeMap<String, String>,
}

/// Promtail's own file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PositionsFile {
    positions: BTreeMap<String, String>,
}

impl service::config::Config for PositionsFile {}

/// All positions. Shared; writing is one task's.
pub struct Positions {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    known: Vec<Known>,
    cursors: BTreeMap<String, u64>,
    journals: BTreeMap<String, String>,
    /// Offsets by path from Promtail's file, until the path is opened.
    imported: BTreeMap<String, String>,
    /// Files and containers being read.
    open_files: Vec<(PathBuf, Identity, Arc<Progress>)>,
    open_cursors: BTreeMap<String, Arc<Progress>>,
    open_journals: BTreeMap<String, Arc<Cursor>>,
}

impl Positions {
    /// How long a file that is not there any more is remembered.
    const FORGET_SECONDS: i64 = 24 * 3600;

    /// Reads what was kept. A file that cannot be read stops the start unless it may be ignored.
    pub fn load(config: &PositionsConfig) -> Result<Self> {
        let path = PathBuf::from(&config.filename);
        let state = Self::read_state(&Self::state_path(&path));
        let imported = Self::read_positions(&path);
        let inner = match (state, imported) {
            (Ok(Some(State { files, cursors, journals })), _) => {
                Inner { known: files, cursors, journals, ..Inner::default() }
            }
            (Ok(None), Ok(imported)) => Inner { imported, ..Inner::default() },
            (Err(error), _) | (_, Err(error)) if config.ignore_invalid_yaml => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "positions cannot be read: starting without any"
                );
                Inner::default()
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        Ok(Self { path, inner: Mutex::new(inner) })
    }

    fn state_path(path: &Path) -> PathBuf {
        path.with_extension("state.json")
    }

    fn read_state(path: &Path) -> Result<Option<State>> {
        let Some(bytes) = disk::atomic::read(path)? else { return Ok(None) };
        let problem = || format!("{}: remove it to start from the files' beginnings", path.display());
        serde_json::from_slice(&bytes).map(Some).with_context(problem)
    }

    fn read_positions(path: &Path) -> Result<BTreeMap<String, String>> {
        let Some(bytes) = disk::atomic::read(path)? else { return Ok(BTreeMap::new()) };
        let text = String::from_utf8_lossy(&bytes);
        let file = service::config::from_text::<PositionsFile>(&text);
        Ok(file
            .with_context(|| {
                format!("{}: set positions.ignore_invalid_yaml to start without", path.display())
            })?
            .config
            .positions)
    }

    /// The progress of a file that is about to be read, and the identity it was found under.
    pub fn open_file(&self, path: &Path, file: &File) -> std::io::Result<(Identity, Arc<Progress>)> {
        let (identity, size) = (Identity::of(file)?, file.metadata()?.len());
        let mut inner = self.inner.lock();
        let mut offset = None;
        for i in 0..inner.known.len() {
            if inner.known[i].identity.is_of(file)? {
                offset = Some(inner.known[i].offset);
                break;
            }
        }
        if offset.is_none() {
            let imported = inner.imported.remove(&*path.to_string_lossy());
            offset = imported.and_then(|text| text.parse().ok());
        }
        let progress = Progress::new(offset.filter(|o| *o <= size).unwrap_or(0));
        inner.open_files.push((path.to_owned(), identity, progress.clone()));
        Ok((identity, progress))
    }

    /// The file's identity covers more of it now, or it was truncated and begins anew.
    pub fn renew(&self, old: &Arc<Progress>, identity: Identity, progress: &Arc<Progress>) {
        let mut inner = self.inner.lock();
        if let Some(open) = inner.open_files.iter_mut().find(|(_, _, p)| Arc::ptr_eq(p, old)) {
            (open.1, open.2) = (identity, progress.clone());
        }
    }

    /// The file is not read any more; it stays remembered for a day.
    pub fn close_file(&self, progress: &Arc<Progress>) {
        let mut inner = self.inner.lock();
        inner.remember();
        inner.open_files.retain(|(_, _, p)| !Arc::ptr_eq(p, progress));
    }

    /// The progress of a container that is read over the engine's API: its offset is a time, ns since the epoch.
    pub fn open_cursor(&self, container: &str) -> Arc<Progress> {
        let mut inner = self.inner.lock();
        let imported = inner.imported.remove(&format!("cursor-{container}"));
        let imported =
            imported.and_then(|text| text.parse::<u64>().ok()).map(|s| s.saturating_mul(1_000_000_000));
        let open = inner.open_cursors.get(container).map(|progress| progress.acknowledged());
        let since = open.or(inner.cursors.get(container).copied()).or(imported).unwrap_or(0);
        let progress = Progress::new(since);
        inner.open_cursors.insert(container.to_owned(), progress.clone());
        progress
    }

    /// How far the journal of a job was read. Promtail's cursors are the journal's own, as ours are.
    pub fn open_journal(&self, job: &str) -> Arc<Cursor> {
        let mut inner = self.inner.lock();
        let imported = inner.imported.remove(&format!("cursor-{job}"));
        let imported = imported.or_else(|| inner.imported.remove(&format!("journal-{job}")));
        let cursor = Cursor::new(inner.journals.get(job).cloned().or(imported));
        inner.open_journals.insert(job.to_owned(), cursor.clone());
        cursor
    }

    /// Whether something of a container is remembered: its cursor, or a file whose path has its id.
    pub fn knows(&self, container: &str) -> bool {
        let inner = self.inner.lock();
        let mut paths = inner.known.iter().map(|known| known.path.to_string_lossy());
        inner.cursors.contains_key(container) || paths.any(|path| path.contains(container))
    }

    /// Writes what is acknowledged now, durably.
    pub fn save(&self) -> Result<()> {
        let (state, positions) = {
            let mut inner = self.inner.lock();
            inner.remember();
            let files = inner.known.clone();
            let (cursors, journals) = (inner.cursors.clone(), inner.journals.clone());
            let mut positions = PositionsFile::default();
            for known in &files {
                positions
                    .positions
                    .insert(known.path.to_string_lossy().into_owned(), known.offset.to_string());
            }
            for (container, time) in &cursors {
                positions.positions.insert(format!("cursor-{container}"), (time / 1_000_000_000).to_string());
            }
            for (job, cursor) in &journals {
                positions.positions.insert(format!("cursor-{job}"), cursor.clone());
            }
            (State { files, cursors, journals }, positions)
        };
        if let Some(folder) = self.path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be made", folder.display()))?;
        }
        // The state is what counts at the next start, so it is written first.
        disk::atomic::write(&Self::state_path(&self.path), &serde_json::to_vec(&state)?)?;
        disk::atomic::write(&self.path, service::config::print(&positions).as_bytes())?;
        Ok(())
    }
}

impl Inner {
    /// Takes over what open files and containers have reached, and forgets what has long been gone.
    fn remember(&mut self) {
        let now = model::Timestamp::now().nanos() / 1_000_000_000;
        for (path, identity, progress) in &self.open_files {
            let entry =
                Known { path: path.clone(), identity: *identity, offset: progress.acknowledged(), seen: now };
            match self.known.iter_mut().find(|k| k.identity.place() == identity.place()) {
                Some(known) => *known = entry,
                None => self.known.push(entry),
            }
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
        let (_, progress) = first.open_file(&old, &File::open(&old).unwrap()).unwrap();
        progress.open(11).done(1);
        first.save().unwrap();

        std::fs::rename(&old, &new).unwrap();
        std::fs::write(&old, "other content\n").unwrap();
        let again = positions(folder.path());
        let offset =
            |path: &Path| again.open_file(path, &File::open(path).unwrap()).unwrap().1.acknowledged();
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
        let (_, progress) = positions.open_file(&log, &File::open(&log).unwrap()).unwrap();
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
