//! Containers between their creation and the moment they are read.
//!
//! A container may be gone in less time than it takes to list all of them, and with `--rm` its log goes with it. So one that is made is
//! asked about at once, while it is sure to be there, and its log file is opened as soon as the engine makes it, which is before its
//! process begins: what is open is read to its end, whoever removes it. Where files cannot be reached its output is asked for as soon
//! as it is told to have started.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::engine::{Container, Engine, Filters};

/// Where containers are looked at. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lookout {
    pub(super) engine: Engine,
    /// Those that count.
    pub(super) filters: Filters,
    /// The engine's folder; none if it does not tell.
    pub(super) root: Option<PathBuf>,
    /// Bounds what is asked at a time.
    slots: Arc<Semaphore>,
}

/// What one look found.
struct Look {
    id: String,
    container: Option<Container>,
    file: Option<Opened>,
    /// Whether it was started.
    is_start: bool,
}

/// One that is not read yet.
#[derive(Default)]
struct Newcomer {
    container: Option<Container>,
    file: Option<Opened>,
    is_started: bool,
    /// Looks under way.
    looks: usize,
    seen: Option<Instant>,
}

/// One that can be read.
pub(super) struct Ready {
    pub(super) container: Container,
    /// Its log file, where it can be reached.
    pub(super) file: Option<Opened>,
}

/// A log file, and where it was.
pub(super) type Opened = (PathBuf, File);

/// All of them.
#[derive(Default)]
pub(super) struct Newcomers {
    known: HashMap<String, Newcomer>,
    looks: JoinSet<Look>,
}

impl Newcomers {
    /// One that was made and not started is remembered for so long.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// Most that are looked at. More are found by lists.
    const MAX: usize = 1024;

    /// A container was made.
    pub(super) fn made(&mut self, id: &str, lookout: &Lookout) {
        if self.known.len() < Self::MAX {
            self.look(id, lookout.clone().made(id.to_owned()));
        }
    }

    /// A container was started, or found in a list.
    pub(super) fn started(&mut self, id: &str, listed: Option<Container>, lookout: &Lookout) {
        if listed.is_some() || self.known.len() < Self::MAX {
            self.look(id, lookout.clone().started(id.to_owned(), listed));
        }
    }

    fn look(&mut self, id: &str, look: impl Future<Output = Look> + Send + 'static) {
        let newcomer = self.known.entry(id.to_owned()).or_default();
        newcomer.looks += 1;
        newcomer.seen = Some(Instant::now());
        self.looks.spawn(look);
    }

    /// Whether a container that was started is being looked at.
    pub(super) fn expects(&self, id: &str) -> bool {
        self.known.get(id).is_some_and(|newcomer| newcomer.looks > 0)
    }

    /// Waits for a look to end; the container, if it can be read now. Never ends while there is none. Safe to be given up.
    pub(super) async fn next(&mut self) -> Option<Ready> {
        let Some(look) = self.looks.join_next().await else { return std::future::pending().await };
        let Look { id, container, file, is_start } = look.ok()?;
        let newcomer = self.known.get_mut(&id)?;
        newcomer.looks -= 1;
        // The older file is where its output begins; the newer answer knows its addresses.
        newcomer.file = newcomer.file.take().or(file);
        newcomer.container = match is_start {
            true => container.or(newcomer.container.take()),
            false => newcomer.container.take().or(container),
        };
        newcomer.is_started |= is_start;
        if !newcomer.is_started || (newcomer.container.is_none() && newcomer.looks > 0) {
            return None;
        }
        let Newcomer { container, file, .. } = self.known.remove(&id)?;
        Some(Ready { container: container?, file })
    }

    /// Forgets those that were not started for long.
    pub(super) fn forget(&mut self) {
        let is_new = |newcomer: &Newcomer| newcomer.seen.is_some_and(|seen| seen.elapsed() < Self::PATIENCE);
        self.known.retain(|_, newcomer| newcomer.looks > 0 || is_new(newcomer));
    }

    /// Ends all looks.
    pub(super) async fn shutdown(&mut self) {
        self.looks.shutdown().await;
    }
}

impl Lookout {
    /// How long a log file is waited for, and the pauses meanwhile.
    const FILE: Duration = Duration::from_secs(5);
    const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

    /// Of an engine, those that pass `filters`.
    pub(super) fn new(engine: Engine, filters: Filters, root: Option<PathBuf>) -> Self {
        Self { engine, filters, root, slots: Arc::new(Semaphore::new(16)) }
    }

    /// Whether the folder of a container can be looked into: its file will be there.
    pub(super) fn reaches(&self, id: &str) -> bool {
        self.path(id).is_some_and(|path| path.parent().is_some_and(Path::exists))
    }

    async fn made(self, id: String) -> Look {
        let (container, file) = tokio::join!(self.container(&id), self.appearing(&id));
        Look { id, container, file, is_start: false }
    }

    async fn started(self, id: String, listed: Option<Container>) -> Look {
        let mut file = self.path(&id).and_then(open);
        let container = match listed {
            Some(container) => Some(container),
            None => self.container(&id).await,
        };
        if self.root.is_none() && container.is_some() {
            file = self.told(&id).await.and_then(open);
        }
        Look { id, container, file, is_start: true }
    }

    /// Where a container's log file is, if its driver is `json-file`.
    fn path(&self, id: &str) -> Option<PathBuf> {
        Some(self.root.as_ref()?.join("containers").join(id).join(format!("{id}-json.log")))
    }

    /// The same, as the engine tells it of a container that was started.
    async fn told(&self, id: &str) -> Option<PathBuf> {
        let _slot = self.slots.acquire().await.ok()?;
        let details = self.engine.inspect(id).await.ok()?;
        let is_json = details.host_config.log_config.driver == "json-file" && !details.log_path.is_empty();
        is_json.then(|| PathBuf::from(details.log_path))
    }

    async fn container(&self, id: &str) -> Option<Container> {
        let _slot = self.slots.acquire().await.ok()?;
        let mut filters = self.filters.clone();
        filters.entry("id".to_owned()).or_insert_with(|| vec![id.to_owned()]);
        let found = self.engine.containers(&filters).await.ok()?;
        found.into_iter().find(|container| container.id == id)
    }

    /// The log file, as soon as it is there.
    async fn appearing(&self, id: &str) -> Option<Opened> {
        let path = self.path(id)?;
        let (begun, [mut pause, longest]) = (Instant::now(), Self::PAUSES);
        // The folder is made with the container.
        while begun.elapsed() < Self::FILE && self.reaches(id) {
            if let Some(opened) = open(path.clone()) {
                return Some(opened);
            }
            tokio::time::sleep(pause).await;
            if begun.elapsed() > Duration::from_secs(1) {
                pause = (pause * 2).min(longest);
            }
        }
        None
    }
}

fn open(path: PathBuf) -> Option<Opened> {
    File::open(&path).ok().map(|file| (path, file))
}
