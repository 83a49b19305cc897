//! When positions are written, and what is known to be on disk then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::files::holder;
use super::state::{State, write_positions};
use super::{Positions, Shared, now};
use crate::progress::Progress;
use crate::source::Source;

/// How writing went.
#[derive(Default)]
pub(super) struct Saving {
    /// When it failed last.
    failed: Option<Instant>,
    /// What was written last, and when.
    written: Option<(u64, Instant)>,
}

/// Where our own state is kept, beside Promtail's file.
pub(super) fn state_path(path: &Path) -> PathBuf {
    path.with_extension("state.json")
}

impl Positions {
    /// After so long everything is written though nothing is new: what is still there must not be forgotten.
    const REFRESH: Duration = Duration::from_secs(600);
    /// So long after a failure new files do without ids.
    const RETRY: Duration = Duration::from_secs(10);

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

    pub(super) fn bind_if(&self, is_bound: impl Fn() -> bool) -> bool {
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
            let saved = inner.open_files.values().filter_map(|open| {
                let known = inner.known.get(open.entry).filter(|known| known.identity.is_telling())?;
                (known.holder == Some(holder(&open.progress))).then(|| (open.progress.clone(), known.offset))
            });
            let saved: Vec<_> = saved.chain(inner.containers.lows()).collect();
            let journals = inner.open_journals.values();
            let journals: Vec<_> = journals.map(|cursor| (cursor.clone(), cursor.lows())).collect();
            let state = State {
                files: inner.known.iter().map(|(_, known)| known.clone()).collect(),
                containers: inner.containers.iter().cloned().collect(),
                cursors: BTreeMap::new(),
                journals: inner.journals.clone(),
                journal_ids: inner.journal_ids.clone(),
                saved_at: Some(now()),
                clients: Some(inner.clients.clone()),
                jobs: Some(self.jobs.iter().cloned().collect()),
            };
            (state, inner.version, saved, journals)
        };
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be made", folder.display()))?;
        }
        let path = state_path(path);
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
