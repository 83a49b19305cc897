//! What the pages show, as JSON has it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::board::{ClientState, Found, Target};
use crate::positions::KnownFile;
use crate::relabel::TargetLabels;
use crate::run::Live;

/// Everything that was found, and how the clients fare.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    /// One for each discovery, or other kind of target, of each job.
    pub(crate) jobs: Vec<Job>,
    /// The clients.
    pub(crate) clients: Vec<Client>,
}

/// One discovery.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    /// Name of the job.
    pub(crate) job: String,
    /// The configuration's block.
    pub(crate) kind: &'static str,
    /// Why nothing can be found now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What is read.
    pub(crate) targets: Vec<Active>,
    /// What is not, the first [`MOST_DROPPED`].
    pub(crate) dropped: Vec<Dropped>,
    /// How much is not.
    pub(crate) dropped_count: usize,
}

/// Something that is read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Active {
    /// Whether there is something to read.
    pub(crate) ready: bool,
    /// Labels of its lines.
    pub(crate) labels: BTreeMap<String, String>,
    /// Labels before relabelling.
    pub(crate) discovered_labels: TargetLabels,
    /// Where it listens, or what it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) details: String,
    /// Its files, the first [`MOST_FILES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<File>,
}

/// One file of a target.
#[derive(Debug, Serialize)]
pub(crate) struct File {
    /// Where it is.
    pub(crate) path: String,
    /// Its bytes.
    pub(crate) size: u64,
    /// How far it is acknowledged, by client.
    pub(crate) positions: Vec<Position>,
}

/// How far one client has a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Position {
    /// The client.
    pub(crate) client: String,
    /// Bytes that are acknowledged.
    pub(crate) offset: u64,
}

/// Something that is not read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dropped {
    /// Labels before relabelling.
    pub(crate) discovered_labels: TargetLabels,
    /// Why.
    pub(crate) reason: String,
}

/// One client.
#[derive(Debug, Serialize)]
pub(crate) struct Client {
    /// Its name.
    pub(crate) name: String,
    /// Host and port.
    pub(crate) host: String,
    /// How it fares.
    #[serde(flatten)]
    pub(crate) state: ClientState,
}

/// Dropped targets that are shown of one discovery.
pub(crate) const MOST_DROPPED: usize = 100;
/// Files that are shown of one target.
pub(crate) const MOST_FILES: usize = 500;

impl Overview {
    /// As it is now.
    pub(crate) fn of(live: &Live) -> Self {
        // Has files that are open tell where they are.
        live.positions.known();
        let findings = live.board.findings();
        let jobs = findings.into_iter().map(|(source, findings)| {
            let name = live.config.scrape_configs.get(source.job).map_or("", |job| job.job_name.as_str());
            let found = || findings.found.values();
            let dropped = || found().filter_map(|found| Some((found, found.result.as_ref().err()?)));
            let shown = dropped().take(MOST_DROPPED).map(|(found, why)| Dropped {
                discovered_labels: found.discovered.clone(),
                reason: why.to_string(),
            });
            Job {
                job: name.to_owned(),
                kind: source.kind,
                error: findings.error.clone(),
                dropped: shown.collect(),
                dropped_count: dropped().count(),
                targets: found().filter_map(|found| active(live, source.job, found)).collect(),
            }
        });
        Self { jobs: jobs.collect(), clients: Self::clients(live) }
    }

    /// How the clients fare.
    pub(crate) fn clients(live: &Live) -> Vec<Client> {
        let client = |view: &crate::outlets::ClientView| Client {
            name: view.name.clone(),
            host: view.host.clone(),
            state: view.state(),
        };
        live.clients.iter().map(client).collect()
    }
}

fn active(live: &Live, job: usize, found: &Found) -> Option<Active> {
    let target = found.result.as_ref().ok()?;
    let pairs = |labels: &model::Labels| {
        labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let discovered_labels = found.discovered.clone();
    Some(match target {
        Target::Files(target) => {
            let paths = target.files();
            let files = paths.iter().take(MOST_FILES).map(|path| File {
                path: path.display().to_string(),
                size: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
                positions: positions(live, job, path),
            });
            let details = match paths.len() {
                0 => "no file matches".to_owned(),
                1 => String::new(),
                count => format!("{count} files"),
            };
            let labels = pairs(&target.labels);
            Active { ready: !paths.is_empty(), labels, discovered_labels, details, files: files.collect() }
        }
        Target::Container(streams) => {
            let labels = streams.stdout.as_ref().or(streams.stderr.as_ref()).map(pairs).unwrap_or_default();
            let name = discovered_labels.get("__meta_docker_container_name").cloned().unwrap_or_default();
            let details = format!("container {}", name.trim_start_matches('/'));
            Active { ready: true, labels, discovered_labels, details, files: Vec::new() }
        }
        Target::Inlet(details) => Active {
            ready: true,
            labels: discovered_labels.clone(),
            discovered_labels,
            details: details.clone(),
            files: Vec::new(),
        },
    })
}

/// How far each client has a file that a job reads.
pub(crate) fn positions(live: &Live, job: usize, path: &Path) -> Vec<Position> {
    let now = crate::tail::open_regular(path).ok();
    // Another file may have been there before.
    let is_it = |known: &KnownFile| now.as_ref().is_none_or(|now| known.identity.is_of(now).unwrap_or(true));
    let of = |client: &crate::outlets::ClientView| {
        let positions = live.positions.for_client(&client.reader);
        let known = positions.known_at(path, job).into_iter().filter(is_it).max_by_key(|known| known.seen)?;
        Some(Position { client: client.name.clone(), offset: known.offset })
    };
    live.clients.iter().filter_map(of).collect()
}
