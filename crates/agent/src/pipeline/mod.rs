//! Pipeline stages: what is done to each line between reading and sending.

mod docker;
mod json;
mod labels;
mod output;
mod path;
#[cfg(test)]
mod recorded;
mod timestamp;

pub(crate) use docker::Record as DockerRecord;
use service::config::{Problems, Unneeded, Value};

use crate::entry::Entry;

/// What a stage makes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Keep,
    /// It ends here, for this reason.
    Drop(&'static str),
}

/// A stage that changes or drops the entry it is given.
pub trait Edit: Send {
    /// Looks at one entry.
    fn edit(&mut self, entry: &mut Entry) -> Verdict;
}

/// The stages of one target, in order.
#[derive(Default)]
pub struct Pipeline(Vec<Box<dyn Edit>>);

/// Stages of Promtail that are known here by name but not built.
const NOT_BUILT: [&str; 22] = [
    "cri",
    "decolorize",
    "drop",
    "eventlogmessage",
    "geoip",
    "labelallow",
    "labeldrop",
    "limit",
    "logfmt",
    "match",
    "metrics",
    "multiline",
    "non_indexed_labels",
    "pack",
    "regex",
    "replace",
    "sampling",
    "static_labels",
    "structured_metadata",
    "template",
    "tenant",
    "timestamp_from_filename",
];

impl Pipeline {
    /// Compiles a list of stages; what is wrong goes into `problems`, stages that are not built into `not_built`.
    pub fn compile(stages: &Value, problems: &mut Problems, not_built: &mut Vec<String>) -> Self {
        let mut compiled = Self::default();
        for stage in stages.items() {
            let mut entries = stage.entries();
            match (entries.next(), entries.next()) {
                (Some((name, body)), None) => {
                    compiled.0.extend(compile(name, &body, problems, not_built));
                }
                (None, _) => {}
                (Some(_), Some(_)) => {
                    problems.add(stage.path(), "a pipeline stage must contain only one key")
                }
            }
        }
        compiled
    }

    /// Runs all stages over one entry.
    pub fn run(&mut self, entry: &mut Entry) -> Verdict {
        for (name, value) in entry.labels.clone().build().iter() {
            entry.extracted.set(name, value.into());
        }
        for stage in &mut self.0 {
            if let dropped @ Verdict::Drop(_) = stage.edit(entry) {
                return dropped;
            }
        }
        Verdict::Keep
    }
}

fn compile(
    name: &str,
    body: &Value,
    problems: &mut Problems,
    not_built: &mut Vec<String>,
) -> Option<Box<dyn Edit>> {
    let none = Unneeded::default();
    match name {
        "docker" => Some(Box::new(docker::Docker::default())),
        "json" => json::Json::compile(&body.read(&none, problems)?, &body.path(), problems),
        "labels" => labels::Labels::compile(body, problems),
        "timestamp" => timestamp::SetTimestamp::compile(&body.read(&none, problems)?, &body.path(), problems),
        "output" => output::Output::compile(&body.read(&none, problems)?, &body.path(), problems),
        name if NOT_BUILT.contains(&name) => {
            not_built.push(body.path());
            None
        }
        other => {
            problems.add(body.path(), format!("no pipeline stage is called '{other}'"));
            None
        }
    }
}

/// Whether the first stage reads Docker's JSON records, so that the reader may join partial ones before.
pub fn begins_with_docker(stages: &Value) -> bool {
    stages
        .items()
        .next()
        .is_some_and(|stage| stage.entries().next().is_some_and(|(name, _)| name == "docker"))
}
