//! What becomes of one file, and why nothing of it is sent: `timberline-agent explain FILE`, and `/explain?path=` of the running
//! agent.
//!
//! It goes the way of a line: is the file there and readable, which target has it, does a rule drop the target, how far is it
//! acknowledged, what do the stages do with its last lines, how do the clients fare. The first obstacle is the verdict.

mod command;
mod jobs;
mod lines;
#[cfg(test)]
mod tests;
mod text;

use std::path::Path;

use serde::Serialize;

pub(crate) use command::command;

use crate::board::ClientState;
use crate::pages::model::{Overview, Position};
use crate::run::Live;
use jobs::{Claim, Job};
use lines::Traced;

/// What is known of one file.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    /// Its path as asked.
    pub(crate) path: String,
    /// Why nothing is sent of it, or that all is well.
    pub(crate) verdict: String,
    /// Whether a running agent says so; else the configuration and the positions file do.
    pub(crate) running: bool,
    /// Its bytes, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// What the jobs make of it.
    jobs: Vec<Explained>,
    /// The clients.
    clients: Vec<Client>,
}

/// One job's claim to the file.
#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    job: Job,
    /// How far it is acknowledged.
    positions: Vec<Position>,
    /// What the stages do with its last lines.
    lines: Vec<Traced>,
}

#[derive(Debug, Serialize)]
struct Client {
    name: String,
    host: String,
    #[serde(flatten)]
    state: ClientState,
}

impl Explanation {
    /// Looks at a file. Its lines are read only if a target has it.
    pub(crate) fn of(live: &Live, path: &Path, running: bool) -> Self {
        // Has files that are open tell where they are.
        live.positions.known();
        let (size, problem) = look(path);
        let jobs: Vec<Explained> = jobs::claims(live, path)
            .into_iter()
            .map(|job| {
                let is_read = job.claim == Claim::Reads && problem.is_none();
                let positions = crate::pages::model::positions(live, job.index, path);
                let lines = if is_read { lines::trace(live, &job, path) } else { Vec::new() };
                Explained { job, positions, lines }
            })
            .collect();
        let clients = Overview::clients(live);
        let clients = clients.into_iter().map(|client| Client {
            name: client.name,
            host: client.host,
            state: client.state,
        });
        let mut explanation = Self {
            path: path.display().to_string(),
            verdict: String::new(),
            running,
            size,
            problem,
            jobs,
            clients: clients.collect(),
        };
        explanation.verdict = explanation.judge();
        explanation
    }

    /// The first obstacle on a line's way.
    fn judge(&self) -> String {
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        let reads = || self.jobs.iter().filter(|job| job.job.claim == Claim::Reads);
        if reads().next().is_none() {
            return match self.jobs.iter().max_by_key(|job| job.job.nearness) {
                Some(job) => format!("no job reads it; closest is {}", job.job.told()),
                None => "no job reads it: none has a target".to_owned(),
            };
        }
        let size = self.size.unwrap_or(0);
        if size == 0 {
            return "the file is empty".to_owned();
        }
        let dropped = || reads().find_map(|job| job.lines.iter().find_map(Traced::dropped));
        let refused = || {
            let client = self.clients.iter().find(|client| client.state.refused > 0)?;
            let error = client.state.last_error.as_ref().map_or("", |error| error.text.as_str());
            Some(format!(
                "client {} was refused for good {} times: {error}",
                client.name, client.state.refused
            ))
        };
        let acknowledged = |job: &Explained| job.positions.iter().map(|position| position.offset).min();
        if reads().all(|job| acknowledged(job).is_some_and(|offset| offset >= size)) {
            // What was refused is done with, too.
            return match dropped().or_else(refused) {
                Some(why) => format!("everything is read; lines may be missing because {why}"),
                None => format!("everything is delivered: {size} of {size} bytes"),
            };
        }
        if let Some(client) = self.clients.iter().find(|client| client.state.is_waiting) {
            let error = client.state.last_error.as_ref().map_or("", |error| error.text.as_str());
            return format!("waiting for the store: client {} tries again after: {error}", client.name);
        }
        if let Some(why) = dropped() {
            return format!("lines are not sent because {why}");
        }
        if let Some(why) = refused() {
            return why;
        }
        let open = size - reads().filter_map(acknowledged).min().unwrap_or(0).min(size);
        match self.running {
            true => format!("{open} bytes are on their way"),
            false => {
                format!("{open} bytes wait for an agent: none answers that runs with this configuration")
            }
        }
    }
}

/// Size of a file, and why it cannot be read.
fn look(path: &Path) -> (Option<u64>, Option<String>) {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return (None, Some("it is a folder, not a file".to_owned())),
        Ok(metadata) => metadata,
        Err(error) => {
            let problem = match error.kind() {
                std::io::ErrorKind::NotFound => "the file is not there".to_owned(),
                _ => format!("the file cannot be looked at: {error}"),
            };
            return (None, Some(problem));
        }
    };
    let problem = crate::tail::open_regular(path).err().map(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "the file cannot be read: permission denied: let the agent's user or one of its groups read it"
                .to_owned()
        }
        _ => format!("the file cannot be read: {error}"),
    });
    (Some(metadata.len()), problem)
}
