//! What the files beside each other hold: our state, and Promtail's positions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::containers::KnownContainer;
use super::{Identity, LinePlace};
use crate::source::Source;
use crate::tail::Identified;

/// Stands between the name of something that is read, and the client that it is read for.
pub(super) const OF_CLIENT: char = '\u{1f}';

/// Device and inode.
type Place = (u64, u64);

/// Who reads a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// The job's name; empty in states of older versions.
    #[serde(default)]
    pub(super) job: String,
    /// The client's; empty where there is only one.
    #[serde(default)]
    pub(super) client: String,
}

/// One file as remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) path: PathBuf,
    /// Where the file lay in truth, if its path was a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) real: Option<PathBuf>,
    pub(super) identity: Identity,
    #[serde(flatten)]
    pub(super) owner: Owner,
    /// Id of the source, hexadecimal.
    #[serde(default)]
    pub(super) source: Option<String>,
    pub(super) offset: u64,
    /// The offset that is on disk together with the source's id.
    #[serde(skip)]
    pub(super) saved: Option<u64>,
    /// The offset that it had when this process began; none of what was opened first by it.
    #[serde(skip)]
    pub(super) loaded: Option<u64>,
    /// ns since the epoch.
    #[serde(default)]
    pub(super) opened: i64,
    /// When it was last seen, seconds since the epoch.
    pub(super) seen: i64,
}

impl Known {
    /// The source's id, unless the file could be another by now.
    fn source(&self) -> Option<Source> {
        let id = self.source.as_ref().filter(|_| self.identity.is_telling())?;
        Some(Source::known(u128::from_str_radix(id, 16).ok()?, self.saved))
    }
}

/// Files by where they lie. Of one place and owner only the last is remembered.
#[derive(Default)]
pub(super) struct KnownFiles {
    places: HashMap<Place, Vec<Known>>,
    /// Places of files that were read at a path; some may have gone from there.
    paths: HashMap<PathBuf, HashSet<Place>>,
}

impl KnownFiles {
    pub(super) fn new(files: Vec<Known>) -> Self {
        let mut known = Self::default();
        files.into_iter().for_each(|file| known.set(file));
        known
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.places.values().flatten()
    }

    /// All that were read at a path.
    pub(super) fn at(&self, path: &Path) -> impl Iterator<Item = &Known> {
        let places = self.paths.get(path).into_iter().flatten();
        let known = places.filter_map(|place| self.places.get(place)).flatten();
        known.filter(move |known| known.path.as_os_str() == path.as_os_str())
    }

    pub(super) fn get(&self, place: Place, owner: &Owner) -> Option<&Known> {
        self.places.get(&place)?.iter().find(|known| known.owner == *owner)
    }

    pub(super) fn get_mut(&mut self, place: Place, owner: &Owner) -> Option<&mut Known> {
        self.places.get_mut(&place)?.iter_mut().find(|known| known.owner == *owner)
    }

    pub(super) fn set(&mut self, file: Known) {
        let place = file.identity.place();
        if !self.paths.get(&file.path).is_some_and(|places| places.contains(&place)) {
            self.paths.entry(file.path.clone()).or_default().insert(place);
        }
        let here = self.places.entry(place).or_default();
        match here.iter_mut().find(|known| known.owner == file.owner) {
            Some(known) => *known = file,
            None => here.push(file),
        }
    }

    pub(super) fn remove(&mut self, place: Place, owner: &Owner) {
        if let Some(here) = self.places.get_mut(&place) {
            here.retain(|known| known.owner != *owner);
        }
    }

    /// Forgets what is not to be kept; whether there was anything of that.
    pub(super) fn retain(&mut self, keep: impl Fn(&Known) -> bool) -> bool {
        let mut forgot = false;
        self.places.retain(|_, here| {
            here.retain(|known| {
                let keeps = keep(known);
                forgot |= !keeps;
                keeps
            });
            !here.is_empty()
        });
        if forgot {
            let is_there = |place: &Place, path: &Path| {
                self.places.get(place).is_some_and(|h| h.iter().any(|k| k.path == path))
            };
            self.paths.retain(|path, places| {
                places.retain(|place| is_there(place, path));
                !places.is_empty()
            });
        }
        forgot
    }

    /// Moves what one client has of a file to another file.
    pub(super) fn adopt(&mut self, old: &Identity, new: Identity, client: &str) {
        let Some(here) = self.places.get_mut(&old.place()) else { return };
        let moves = |known: &mut Known| known.identity == *old && known.owner.client == client;
        let moved: Vec<Known> = here.extract_if(.., moves).collect();
        moved.into_iter().for_each(|known| self.set(Known { identity: new, ..known }));
    }

    /// Offset and source of a file for an owner: its own; otherwise the lowest offset of jobs that are none of `jobs`; otherwise, for a
    /// client that `is_new`, the lowest that other clients had when this process began. What they have read since is theirs alone.
    pub(super) fn find(
        &self,
        file: &impl Identified,
        owner: &Owner,
        jobs: &[String],
        is_new: bool,
    ) -> std::io::Result<Option<(u64, Option<Source>)>> {
        let (mut of_client, mut of_others): (Option<u64>, Option<u64>) = (None, None);
        for known in self.places.get(&file.place()?).into_iter().flatten() {
            let (is_own, is_free) = (known.owner == *owner, !jobs.contains(&known.owner.job));
            if !(is_own || is_free || known.owner.job == owner.job) || !known.identity.is_of(file)? {
                continue;
            }
            if is_own {
                return Ok(Some((known.offset, known.source())));
            }
            let (lowest, offset) = match known.owner.client == owner.client {
                true => (&mut of_client, Some(known.offset)),
                false if is_free => (&mut of_others, Some(known.offset)),
                false => (&mut of_others, known.loaded),
            };
            *lowest = (*lowest).into_iter().chain(offset).min();
        }
        Ok(of_client.or(of_others.filter(|_| is_new)).map(|offset| (offset, None)))
    }
}

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
}

impl State {
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = disk::atomic::read(path)? else { return Ok(None) };
        let problem = || format!("{}: remove it to start from the files' beginnings", path.display());
        let mut state: Self = serde_json::from_slice(&bytes).with_context(problem)?;
        for file in &mut state.files {
            (file.saved, file.loaded) = (Some(file.offset), Some(file.offset));
        }
        Ok(Some(state))
    }
}

/// Promtail's own file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PositionsFile {
    positions: BTreeMap<String, String>,
}

impl service::config::Config for PositionsFile {}

pub(super) fn read_positions(path: &Path) -> Result<BTreeMap<String, String>> {
    let Some(bytes) = disk::atomic::read(path)? else { return Ok(BTreeMap::new()) };
    let text = String::from_utf8_lossy(&bytes);
    let file = service::config::from_text::<PositionsFile>(&text);
    let problem = || format!("{}: set positions.ignore_invalid_yaml to start without", path.display());
    Ok(file.with_context(problem)?.config.positions)
}

/// Writes Promtail's file. It knows one offset of a path: that of the file which was opened there last, and of its readers the one
/// who has to go furthest back.
pub(super) fn write_positions(path: &Path, state: &State) -> Result<()> {
    let mut latest: BTreeMap<&Path, &Known> = BTreeMap::new();
    for file in &state.files {
        let known = latest.entry(&file.path).or_insert(file);
        let is_same = known.identity.place() == file.identity.place();
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
    disk::atomic::write(path, service::config::print(&positions).as_bytes())
        .with_context(|| path.display().to_string())?;
    Ok(())
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
