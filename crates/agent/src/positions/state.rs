//! What the files beside each other hold: our state, and Promtail's positions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::LinePlace;
use super::containers::KnownContainer;
use super::known::{Known, Place};

/// Stands between the name of something that is read, and the client that it is read for.
pub(super) const OF_CLIENT: char = '\u{1f}';

/// What is kept beside Promtail's map.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) files: Vec<Known>,
    /// Containers read over the engine's API.
    #[serde(default)]
    pub(super) containers: Vec<KnownContainer>,
    /// The same in older versions: time of the last acknowledged line, ns since the epoch.
    #[serde(default, skip_serializing)]
    pub(super) cursors: BTreeMap<String, u64>,
    /// Journals by their job: cursor of the last acknowledged entry.
    #[serde(default)]
    pub(super) journals: BTreeMap<String, String>,
    /// What the ids of their sources are made of, hexadecimal.
    #[serde(default)]
    pub(super) journal_ids: BTreeMap<String, String>,
    /// When this was written, seconds since the epoch.
    #[serde(default)]
    pub(super) saved_at: Option<i64>,
    /// The clients that were read for; not known of older versions.
    #[serde(default)]
    pub(super) clients: Option<BTreeSet<String>>,
    /// The jobs that have read; not known of older versions.
    #[serde(default)]
    pub(super) jobs: Option<BTreeSet<String>>,
}

impl State {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut state: Self = serde_json::from_slice(bytes)?;
        for file in &mut state.files {
            (file.saved, file.loaded) = (Some(file.offset), Some(file.offset));
        }
        Ok(state)
    }

    pub(super) fn print(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// Promtail's own file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PositionsFile {
    positions: BTreeMap<String, String>,
}

impl service::config::Config for PositionsFile {}

/// Reads Promtail's file.
pub(super) fn parse_positions(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let text = String::from_utf8_lossy(bytes);
    Ok(service::config::from_text::<PositionsFile>(&text)?.config.positions)
}

/// Promtail's file. It knows one offset of a path: that of the file which was opened there last, and of its readers the one who has
/// to go furthest back.
pub(super) fn print_positions(state: &State) -> String {
    let mut latest: BTreeMap<&Path, &Known> = BTreeMap::new();
    for file in &state.files {
        let known = latest.entry(&file.path).or_insert(file);
        let is_same = known.identity.is_same(&file.identity);
        if (is_same && file.offset < known.offset) || (!is_same && file.opened > known.opened) {
            *known = file;
        }
    }
    let mut positions = PositionsFile::default();
    for (path, known) in latest {
        positions.positions.insert(path.to_string_lossy().into_owned(), known.offset.to_string());
    }
    let name = |key: &str| format!("cursor-{}", key.split(OF_CLIENT).next().unwrap_or_default());
    let mut times: BTreeMap<&str, i64> = BTreeMap::new();
    for container in &state.containers {
        let time =
            LinePlace::before(container.offset).map_or(0, |place| place.time().nanos() / 1_000_000_000);
        let lowest = times.entry(&container.container).or_insert(time);
        *lowest = time.min(*lowest);
    }
    for (container, time) in times {
        positions.positions.insert(name(container), time.to_string());
    }
    for (job, cursor) in &state.journals {
        positions.positions.insert(name(job), cursor.clone());
    }
    service::config::print(&positions)
}

/// Promtail's positions. What it says of a path is of the file that is found there first.
#[derive(Default)]
pub(super) struct Imported {
    texts: BTreeMap<String, String>,
    places: HashMap<PathBuf, Place>,
}

impl Imported {
    pub(super) fn new(texts: BTreeMap<String, String>) -> Self {
        Self { texts, places: HashMap::new() }
    }

    /// The offset of a file that lies here.
    pub(super) fn offset(&mut self, path: &Path, place: Place) -> Option<u64> {
        let offset = self.texts.get(&*path.to_string_lossy())?.parse().ok()?;
        let first = self.places.entry(path.to_owned()).or_insert(place);
        (*first == place).then_some(offset)
    }

    /// What is said of something else than a file.
    pub(super) fn cursor(&self, kind: &str, name: &str) -> Option<String> {
        self.texts.get(&format!("{kind}-{name}")).cloned()
    }
}
