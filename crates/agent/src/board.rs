//! What is known of the running agent besides its metrics: what discoveries have found, how clients fare. The pages and
//! `explain` read it; those that find and send write it.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use crate::discovery::{FileTarget, NotRead};
use crate::relabel::TargetLabels;
use crate::tail::StreamLabels;

/// What the discoveries of one configuration have found. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<Source, Findings>>>);

/// One discovery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// Index of the job.
    pub(crate) job: usize,
    /// The configuration's block: `static_configs`, `docker_sd_configs`, `syslog`, …
    pub(crate) kind: &'static str,
    /// Which of several.
    pub(crate) part: String,
}

/// What one discovery has found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// By what tells them apart, in the discovery's own order.
    pub(crate) found: BTreeMap<String, Found>,
    /// Why it cannot find anything now.
    pub(crate) error: Option<String>,
}

/// Labels that were discovered, and what they came to.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Before relabelling.
    pub(crate) discovered: TargetLabels,
    /// After it.
    pub(crate) result: Result<Target, NotRead>,
}

/// Something that is read.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Files.
    Files(FileTarget),
    /// A container.
    Container(StreamLabels),
    /// A listener or a journal: what it listens to.
    Inlet(String),
}

impl Board {
    /// The line of one discovery to the board.
    pub(crate) fn notes(&self, job: usize, kind: &'static str, part: impl Into<String>) -> Notes {
        Notes(Some((self.clone(), Source { job, kind, part: part.into() })))
    }

    /// Everything, by job.
    pub(crate) fn findings(&self) -> Vec<(Source, Findings)> {
        self.0.lock().iter().map(|(source, findings)| (source.clone(), findings.clone())).collect()
    }

    /// Whether something is read now, or there is nothing that could be.
    pub(crate) fn is_ready(&self) -> bool {
        let findings = self.findings();
        let targets = || {
            findings
                .iter()
                .flat_map(|(_, findings)| findings.found.values())
                .filter_map(|f| f.result.as_ref().ok())
        };
        let nothing =
            targets().next().is_none() && findings.iter().all(|(_, findings)| findings.error.is_none());
        nothing || targets().any(Target::is_ready)
    }
}

impl Target {
    /// Whether it can be read now: files are there.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Files(files) => !files.files().is_empty(),
            Self::Container(_) | Self::Inlet(_) => true,
        }
    }
}

/// One discovery's line to the board; by default to none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Option<(Board, Source)>);

impl Notes {
    /// The same, for a part of the discovery.
    pub(crate) fn part(&self, name: &str) -> Self {
        Self(self.0.clone().map(|(board, source)| {
            let part = format!("{}/{name}", source.part);
            (board, Source { part, ..source })
        }))
    }

    /// This is all that the discovery finds now.
    pub(crate) fn all(&self, found: impl IntoIterator<Item = Found>) {
        let numbered = found.into_iter().enumerate().map(|(n, found)| (format!("{n:06}"), found));
        let found = numbered.take(MAX_FOUND).collect();
        self.with(|findings| *findings = Findings { found, error: None });
    }

    /// One thing that was found.
    pub(crate) fn set(&self, key: &str, found: Found) {
        self.with(|findings| {
            if findings.found.len() < MAX_FOUND {
                findings.found.insert(key.to_owned(), found);
            }
        });
    }

    /// All that is still there.
    pub(crate) fn retain(&self, mut there: impl FnMut(&str) -> bool) {
        self.with(|findings| {
            findings.error = None;
            findings.found.retain(|key, _| there(key));
        });
    }

    /// The discovery cannot find anything now.
    pub(crate) fn failing(&self, error: String) {
        self.with(|findings| findings.error = Some(error));
    }

    fn with(&self, change: impl FnOnce(&mut Findings)) {
        if let Some((board, source)) = &self.0 {
            change(board.0.lock().entry(source.clone()).or_default());
        }
    }
}

/// More than a page can show; the rest is read all the same.
const MAX_FOUND: usize = 20_000;

/// How one client fares.
#[derive(Debug, Default)]
pub(crate) struct ClientStatus(Mutex<ClientState>);

/// A moment of [`ClientStatus`].
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClientState {
    /// When the store last took a batch.
    #[serde(serialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub(crate) last_sent: Option<Timestamp>,
    /// What it last said instead, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<ClientError>,
    /// Whether a batch waits to be sent again.
    pub(crate) is_waiting: bool,
    /// Batches that it refused for good.
    pub(crate) refused: u64,
}

/// What a store said instead of taking a batch.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ClientError {
    /// When.
    #[serde(serialize_with = "time_of")]
    pub(crate) at: Timestamp,
    /// What.
    pub(crate) text: String,
}

fn time<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_string()).serialize(serializer)
}

fn time_of<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    time.to_string().serialize(serializer)
}

impl ClientStatus {
    /// The store has taken a batch.
    pub(crate) fn sent(&self) {
        let mut state = self.0.lock();
        (state.last_sent, state.is_waiting) = (Some(Timestamp::now()), false);
    }

    /// It has not, and is asked again.
    pub(crate) fn waits(&self, error: &dyn std::fmt::Display) {
        let mut state = self.0.lock();
        state.last_error = Some(ClientError { at: Timestamp::now(), text: error.to_string() });
        state.is_waiting = true;
    }

    /// It never will.
    pub(crate) fn refused(&self, error: &dyn std::fmt::Display) {
        self.waits(error);
        let mut state = self.0.lock();
        state.refused += 1;
        state.is_waiting = false;
    }

    /// As it is now.
    pub(crate) fn now(&self) -> ClientState {
        self.0.lock().clone()
    }
}
