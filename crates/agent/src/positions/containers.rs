//! How far containers were read over the engine's API.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LinePlace;
use super::known::Owner;
use super::state::OF_CLIENT;
use crate::progress::Progress;
use crate::source::Source;

/// One container as remembered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KnownContainer {
    /// Its id.
    pub(super) container: String,
    #[serde(flatten)]
    pub(super) owner: Owner,
    /// Id of the source, hexadecimal; none in states of older versions.
    #[serde(default)]
    pub(super) source: Option<String>,
    /// The position up to which everything is acknowledged.
    pub(super) offset: u64,
    /// Below this nothing is sent under the source.
    #[serde(default)]
    pub(super) low: u64,
    /// The low position that is on disk together with the source's id.
    #[serde(skip)]
    pub(super) saved: Option<u64>,
    /// The offset that it had when this process began; none of what was opened first by it.
    #[serde(skip)]
    pub(super) loaded: Option<u64>,
    /// When it was last there, seconds since the epoch.
    #[serde(default)]
    pub(super) seen: i64,
}

impl KnownContainer {
    fn source(&self) -> Option<Source> {
        let id = u128::from_str_radix(self.source.as_ref()?, 16).ok()?;
        Some(Source::known(id, self.saved))
    }
}

#[derive(Default)]
pub(super) struct Containers {
    known: HashMap<String, Vec<KnownContainer>>,
    open: Vec<(String, Owner, Arc<Progress>)>,
}

impl Containers {
    /// Those of a state; older versions kept times, ns since the epoch. Time in which no agent ran does not make them forgotten.
    pub(super) fn new(known: Vec<KnownContainer>, times: BTreeMap<String, u64>, now: i64) -> Self {
        let mut containers = Self::default();
        for (key, nanos) in times {
            let (container, client) = key.split_once(OF_CLIENT).unwrap_or((&key, ""));
            containers.set(KnownContainer {
                container: container.to_owned(),
                owner: Owner { job: String::new(), client: client.to_owned() },
                source: None,
                offset: LinePlace::at_nanos(nanos),
                low: 0,
                saved: None,
                loaded: Some(LinePlace::at_nanos(nanos)),
                seen: now,
            });
        }
        for container in known {
            let (saved, loaded) = (Some(container.low), Some(container.offset));
            containers.set(KnownContainer { seen: now, saved, loaded, ..container });
        }
        containers
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KnownContainer> {
        self.known.values().flatten()
    }

    fn set(&mut self, container: KnownContainer) {
        let here = self.known.entry(container.container.clone()).or_default();
        match here.iter_mut().find(|known| known.owner == container.owner) {
            Some(known) => *known = container,
            None => here.push(container),
        }
    }

    /// Whether one is remembered for a client.
    pub(super) fn knows(&self, container: &str, client: &str) -> bool {
        let is_for = |known: &KnownContainer| known.owner.client == client || known.owner.client.is_empty();
        self.known.get(container).is_some_and(|known| known.iter().any(is_for))
    }

    /// Offset and source for an owner, by the rules of files ([`KnownFiles::find`](super::known::KnownFiles::find)).
    pub(super) fn find(
        &self,
        container: &str,
        owner: &Owner,
        jobs: &[String],
        is_new: bool,
    ) -> Option<(u64, Option<Source>)> {
        let known = self.known.get(container)?;
        if let Some(own) = known.iter().find(|known| known.owner == *owner) {
            return Some((own.offset, own.source()));
        }
        let is_free = |known: &KnownContainer| !jobs.contains(&known.owner.job);
        let of_client = known.iter().filter(|known| known.owner.client == owner.client && is_free(known));
        let of_others = known.iter().filter_map(|known| match is_free(known) {
            true => Some(known.offset),
            false => known.loaded.filter(|_| known.owner.job == owner.job),
        });
        let lowest = of_client.map(|known| known.offset).min().or_else(|| of_others.min().filter(|_| is_new));
        lowest.map(|offset| (offset, None))
    }

    pub(super) fn open(&mut self, container: &str, owner: Owner, progress: Arc<Progress>) {
        self.open.retain(|(id, other, _)| id != container || *other != owner);
        self.open.push((container.to_owned(), owner, progress));
    }

    /// Takes over what open ones have reached, and forgets those that were last seen before `oldest`; whether anything is new.
    pub(super) fn remember(&mut self, now: i64, oldest: i64) -> bool {
        let mut is_new = false;
        for (container, owner, progress) in std::mem::take(&mut self.open) {
            // Asked first: if nobody else has it, its offset is the last.
            let is_read = Arc::strong_count(&progress) > 1;
            let offset = progress.acknowledged();
            let known = self.known.get(&container).into_iter().flatten().find(|known| known.owner == owner);
            is_new |= known.is_none_or(|known| known.offset != offset);
            let loaded = known.and_then(|known| known.loaded);
            self.set(KnownContainer {
                container: container.clone(),
                owner: owner.clone(),
                source: progress.source().map(|source| format!("{:032x}", source.id())),
                offset,
                low: progress.source().map_or(0, Source::low).max(LinePlace::low(offset)),
                saved: progress.source().and_then(Source::saved),
                loaded,
                seen: now,
            });
            if is_read {
                self.open.push((container, owner, progress));
            }
        }
        self.known.retain(|_, known| {
            known.retain(|known| known.seen >= oldest);
            !known.is_empty()
        });
        is_new
    }

    /// Open ones with what is remembered as their low position.
    pub(super) fn lows(&self) -> Vec<(Arc<Progress>, u64)> {
        let low = |(container, owner, progress): &(String, Owner, Arc<Progress>)| {
            let known = self.known.get(container)?.iter().find(|known| known.owner == *owner)?;
            Some((progress.clone(), known.low))
        };
        self.open.iter().filter_map(low).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{LinePlace, Positions};
    use crate::config::PositionsConfig;
    use crate::source::Source;

    fn positions(folder: &Path, jobs: &[&str]) -> Positions {
        let filename = folder.join("positions.yaml").to_string_lossy().into_owned();
        let config = PositionsConfig { filename, ..PositionsConfig::default() };
        Positions::load(&config).unwrap().of_jobs(jobs.iter().map(|job| (*job).to_owned()))
    }

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_800_000_000 * SECOND;

    #[test]
    fn a_container_is_known_before_its_first_line_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let first = positions(folder.path(), &["a"]);
        let progress = first.open_container("c1", 0);
        assert!(!first.knows("c2") && first.bind(&progress));
        let again = positions(folder.path(), &["a"]);
        assert!(again.knows("c1") && again.saved_at().is_some());
        let opened = again.open_container("c1", 0);
        assert_eq!(opened.source().map(Source::id), progress.source().map(Source::id));
        assert_eq!((opened.acknowledged(), opened.source().unwrap().is_durable()), (0, true));
    }

    #[test]
    fn every_job_has_a_position_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let first = positions(folder.path(), &["a", "b"]);
        let (a, b) = (first.open_container("c1", 0), first.open_container("c1", 1));
        let (early, late) = (LinePlace::at_nanos(NOW), LinePlace::at_nanos(NOW + 60 * SECOND));
        a.open(early).done(1);
        b.open(late).done(1);
        first.save().unwrap();
        assert_eq!(b.source().unwrap().low(), LinePlace::low(late));
        let again = positions(folder.path(), &["a", "b"]);
        let (a, b) = (again.open_container("c1", 0), again.open_container("c1", 1));
        assert_eq!((a.acknowledged(), b.acknowledged()), (early, late));
        assert_eq!(b.source().unwrap().low(), LinePlace::low(late));
        // Renamed, it goes on where both were.
        assert_eq!(positions(folder.path(), &["c"]).open_container("c1", 0).acknowledged(), early);
        let yaml = std::fs::read_to_string(folder.path().join("positions.yaml")).unwrap();
        assert!(
            yaml.contains("cursor-c1: \"1800000000\"") || yaml.contains("cursor-c1: '1800000000'"),
            "{yaml}"
        );
    }

    #[test]
    fn times_of_older_versions_are_read_in() {
        let folder = tempfile::tempdir().unwrap();
        let state = format!(r#"{{"files":[],"cursors":{{"c1":{NOW},"c2\u001fother":{NOW}}}}}"#);
        std::fs::write(folder.path().join("positions.state.json"), state).unwrap();
        let positions = positions(folder.path(), &["a"]);
        let offset = |positions: &Positions, id| positions.open_container(id, 0).acknowledged();
        assert_eq!(offset(&positions, "c1"), LinePlace::at_nanos(NOW));
        assert_eq!(offset(&positions.for_client("other"), "c2"), LinePlace::at_nanos(NOW));
    }

    #[test]
    fn what_is_not_read_any_more_is_let_go_and_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let positions = positions(folder.path(), &["a"]);
        let progress = positions.open_container("c1", 0);
        let id = progress.source().map(Source::id);
        progress.open(LinePlace::at_nanos(NOW)).done(1);
        drop(progress);
        positions.save().unwrap();
        positions.save().unwrap();
        let again = positions.open_container("c1", 0);
        assert_eq!((again.acknowledged(), again.source().map(Source::id)), (LinePlace::at_nanos(NOW), id));
    }
}
