//! When positions are written, what is known to be on disk then, and what of it comes back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use disk::Document;

use super::files::holder;
use super::state::{State, parse_positions, print_positions};
use super::{Positions, Shared, now};
use crate::progress::Progress;
use crate::source::Source;

/// What positions are kept in, and how writing went.
pub(super) struct Saving {
    /// Our own state.
    state: Document,
    /// Promtail's file.
    positions: Document,
    /// When writing failed last.
    failed: Option<Instant>,
    /// What was written last, and when.
    written: Option<(u64, Instant)>,
}

/// What was kept.
pub(super) enum Kept {
    Nothing,
    /// Our own state.
    State(Box<State>),
    /// Promtail's positions, by path or name.
    Positions(BTreeMap<String, String>),
}

impl Saving {
    pub(super) fn at(path: &Path) -> Self {
        let (state, positions) = (Document::new(state_path(path)), Document::new(path.to_owned()));
        Self { state, positions, failed: None, written: None }
    }

    /// Reads what was kept, and says how much of it was damaged. That stops nobody who has come as far as having a state: the one before
    /// goes on, then Promtail's file, then the beginnings of files. Of Promtail's own file alone it is an error, unless that
    /// `may_be_invalid`.
    pub(super) fn read(&mut self, may_be_invalid: bool) -> Result<(Kept, usize)> {
        let state = self.state.read(State::parse)?;
        warn_of(&state.damaged);
        let damaged = state.damaged.len();
        if let Some(state) = state.value {
            return Ok((Kept::State(Box::new(state)), damaged));
        }
        let empty = Cell::new(0);
        let positions = self.positions.read(|bytes| match bytes.trim_ascii() {
            // Nothing was written yet, or a power cut took it.
            [] => {
                empty.set(empty.get() + 1);
                Err(anyhow!("it is empty"))
            }
            bytes => parse_positions(bytes),
        })?;
        let is_invalid = positions.damaged.len() > empty.get();
        let all_damaged = damaged + positions.damaged.len() - empty.get();
        match positions.value {
            Some(value) => {
                warn_of(&positions.damaged);
                Ok((Kept::Positions(value), all_damaged))
            }
            None if !is_invalid => Ok((Kept::Nothing, all_damaged)),
            None if damaged > 0 || may_be_invalid => {
                warn_of(&positions.damaged);
                tracing::warn!("no positions can be read: starting without any");
                Ok((Kept::Nothing, all_damaged))
            }
            None => {
                let problem = positions.damaged.join("; ");
                Err(anyhow!("{problem}: set positions.ignore_invalid_yaml to start without"))
            }
        }
    }
}

fn warn_of(damaged: &[String]) {
    for problem in damaged {
        tracing::warn!(problem, "positions are damaged: going on from what was kept before");
    }
}

/// Where our own state is kept, beside Promtail's file.
fn state_path(path: &Path) -> PathBuf {
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
        let written = self.write_state(saving).and_then(|(state, version)| {
            write(&mut saving.positions, print_positions(&state).as_bytes())?;
            Ok((version, Instant::now()))
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
            let written = self.write_state(&mut saving);
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

    /// Writes the state, and gives its version.
    fn write_state(&self, saving: &mut Saving) -> Result<(State, u64)> {
        let Shared { inner, unsaved, .. } = &*self.shared;
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
        if let Some(folder) = saving.state.path().parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be made", folder.display()))?;
        }
        write(&mut saving.state, &state.print()?)?;
        for (progress, offset) in saved {
            if let Some(source) = progress.source() {
                source.set_saved(offset);
            }
        }
        journals.iter().for_each(|(cursor, lows)| cursor.set_saved(lows));
        Ok((state, version))
    }
}

fn write(document: &mut Document, bytes: &[u8]) -> Result<()> {
    document.write(bytes).with_context(|| document.path().display().to_string())?;
    Ok(())
}
