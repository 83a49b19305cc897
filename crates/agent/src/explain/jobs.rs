//! Which targets have a file, and why the others do not.

use std::path::Path;

use model::Labels;
use serde::Serialize;

use crate::board::{Found, Source, Target};
use crate::discovery::{Glob, Matched, NotRead};
use crate::relabel::{Relabel, TargetLabels};
use crate::run::Live;

/// What one target has to do with a file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Job {
    /// Index of the job.
    #[serde(skip)]
    pub(super) index: usize,
    /// Its name.
    pub(super) job: String,
    /// The configuration's block.
    pub(super) kind: &'static str,
    /// Whether it reads the file.
    pub(super) claim: Claim,
    /// Why, or why not.
    pub(super) reason: String,
    /// Labels of the lines, if it reads it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) labels: String,
    /// How close it came.
    #[serde(skip)]
    pub(super) nearness: usize,
    /// Labels as stages see them.
    #[serde(skip)]
    pub(super) stream: Labels,
    /// Whether the file holds Docker's records, which are taken apart before the stages.
    #[serde(skip)]
    pub(super) container: bool,
}

/// Whether a job reads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Claim {
    /// It does.
    Reads,
    /// It would, but something is in the way.
    Dropped,
    /// It has nothing to do with it.
    Misses,
}

impl Job {
    /// In one sentence.
    pub(super) fn told(&self) -> String {
        format!("job '{}' ({}): {}", self.job, self.kind, self.reason)
    }
}

/// More than is worth reading.
const MOST: usize = 20;

/// What the targets have to do with a file, the closest first.
pub(super) fn claims(live: &Live, path: &Path) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (source, findings) in live.board.findings() {
        let rules = rules(live, source.job);
        for found in findings.found.values() {
            jobs.push(claim(live, &source, found, &rules, path));
        }
        if let Some(error) = findings.error {
            jobs.push(Job { reason: error, ..blank(live, &source) });
        }
    }
    for (index, scrape) in live.config.scrape_configs.iter().enumerate() {
        if !jobs.iter().any(|job| job.index == index) {
            let reason = "it has found no target yet".to_owned();
            let source = Source { job: index, kind: "scrape_config", part: String::new() };
            jobs.push(Job { job: scrape.job_name.clone(), reason, ..blank(live, &source) });
        }
    }
    jobs.sort_by_key(|job| (job.claim as u8, std::cmp::Reverse(job.nearness)));
    jobs.truncate(MOST);
    jobs
}

fn rules(live: &Live, job: usize) -> Vec<Relabel> {
    let configs = live.config.scrape_configs.get(job).map(|job| &job.relabel_configs[..]).unwrap_or_default();
    configs.iter().filter_map(|rule| Relabel::compile(rule).ok()).collect()
}

fn blank(live: &Live, source: &Source) -> Job {
    let name = live.config.scrape_configs.get(source.job).map_or("", |job| job.job_name.as_str());
    Job {
        index: source.job,
        job: name.to_owned(),
        kind: source.kind,
        claim: Claim::Misses,
        reason: String::new(),
        labels: String::new(),
        nearness: 0,
        stream: Labels::default(),
        container: false,
    }
}

fn claim(live: &Live, source: &Source, found: &Found, rules: &[Relabel], path: &Path) -> Job {
    let blank = blank(live, source);
    match &found.result {
        Ok(Target::Files(target)) => match target.matched(path) {
            Matched::Included => {
                let mut stream = target.labels.to_builder();
                stream.set("filename", &path.to_string_lossy());
                let stream = stream.build();
                let reason = format!("'{}' matches", glob(rules, &found.discovered, rules.len()));
                let (claim, labels) = (Claim::Reads, stream.to_string());
                Job { claim, reason, labels, stream, nearness: usize::MAX, ..blank }
            }
            Matched::Excluded => {
                let labels = seen(rules, &found.discovered, rules.len());
                let exclude = labels.get("__path_exclude__").cloned().unwrap_or_default();
                let reason = format!("__path_exclude__ '{exclude}' matches");
                Job { claim: Claim::Dropped, reason, nearness: usize::MAX, ..blank }
            }
            Matched::No => {
                let (nearness, reason) = nearness(&glob(rules, &found.discovered, rules.len()), path);
                Job { nearness, reason, ..blank }
            }
        },
        Ok(Target::Container(streams)) => {
            let id = found.discovered.get("__meta_docker_container_id").cloned().unwrap_or_default();
            let name = found.discovered.get("__meta_docker_container_name").cloned().unwrap_or_default();
            let name = name.trim_start_matches('/');
            if !id.is_empty() && path.to_string_lossy().contains(&id) {
                let stream = streams.stdout.clone().or(streams.stderr.clone()).unwrap_or_default();
                let reason = format!("it is the log of container {name}");
                let (claim, labels) = (Claim::Reads, stream.to_string());
                Job { claim, reason, labels, stream, nearness: usize::MAX, container: true, ..blank }
            } else {
                Job { reason: format!("container {name} has another log file"), ..blank }
            }
        }
        Ok(Target::Inlet(what)) => Job { reason: format!("it reads no files: {what}"), ..blank },
        Err(why) => dropped(blank, why, found, rules, path),
    }
}

/// A target that is not read: whether it would have had the file.
fn dropped(blank: Job, why: &NotRead, found: &Found, rules: &[Relabel], path: &Path) -> Job {
    let until = if let NotRead::Dropped(rule) = why { *rule } else { rules.len() };
    let mut reason = why.to_string();
    if let Some(rule) = rules.get(until).filter(|_| matches!(why, NotRead::Dropped(_))) {
        reason = format!("relabel_configs[{until}] drops the target: {}", rule.config());
    }
    let id = found.discovered.get("__meta_docker_container_id").filter(|id| !id.is_empty());
    let pattern = glob(rules, &found.discovered, until);
    let has_it = match id {
        Some(id) => path.to_string_lossy().contains(id.as_str()),
        None => Glob::parse(&pattern).is_ok_and(|glob| glob.matches(path)),
    };
    match has_it {
        true => Job { claim: Claim::Dropped, reason, nearness: usize::MAX, ..blank },
        false => Job { reason, nearness: nearness(&pattern, path).0, ..blank },
    }
}

/// Labels after so many rules, whether these drop the target or not.
fn seen(rules: &[Relabel], discovered: &TargetLabels, until: usize) -> TargetLabels {
    let mut labels = discovered.clone();
    rules.iter().take(until).for_each(|rule| {
        rule.apply(&mut labels);
    });
    labels
}

fn glob(rules: &[Relabel], discovered: &TargetLabels, until: usize) -> String {
    seen(rules, discovered, until).remove("__path__").unwrap_or_default()
}

/// How many folders of a glob a path is in, and where they part.
fn nearness(glob: &str, path: &Path) -> (usize, String) {
    if glob.is_empty() {
        return (0, "it has no __path__".to_owned());
    }
    let path = path.to_string_lossy();
    let (mut steps, mut names) = (glob.split('/'), path.split('/'));
    let mut near = 0;
    loop {
        match (steps.next(), names.next()) {
            (Some("**"), _) => return (near + 1, format!("'{glob}' does not match")),
            (Some(step), Some(name)) => {
                if !Glob::parse(step).is_ok_and(|glob| step == name || glob.matches(Path::new(name))) {
                    return (near, format!("'{glob}' does not match: '{name}' is not '{step}'"));
                }
                near += 1;
            }
            (None, Some(name)) => return (near, format!("'{glob}' does not match: it ends before '{name}'")),
            (Some(step), None) => return (near, format!("'{glob}' does not match: '{step}' is missing")),
            (None, None) => return (near, format!("'{glob}' does not match")),
        }
    }
}
