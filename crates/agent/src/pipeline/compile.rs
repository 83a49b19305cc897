//! From `pipeline_stages` to a pipeline: all that is wrong is reported together, with its place.

use std::sync::Arc;
use std::time::Instant;

use model::regex::Regex;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service::config::{Problems, Unneeded, Value};

use super::template::StageTemplate;
use super::watch::{Watch, Watched};
use super::{
    Edit, Pipeline, Stage, Verdict, cri, decolorize, docker, drop, json, labels, limit, logfmt, matching,
    metadata, metrics, multiline, output, pack, regex, replace, sampling, template, tenant, timestamp,
    windows_event,
};
use crate::entry::Entry;
use crate::metrics::{ReasonLabels, StageMetrics};

impl Pipeline {
    /// Compiles a list of stages; what is wrong goes into `problems`.
    pub fn compile(stages: &Value, metrics: &StageMetrics, problems: &mut Problems) -> Self {
        let mut compile = Compile { metrics, problems, watch: None };
        Self { stages: compile.stages(stages), ..Self::default() }
    }

    /// The same, and `watch` is told what every stage does.
    pub(crate) fn compile_watched(
        stages: &Value,
        metrics: &StageMetrics,
        problems: &mut Problems,
        watch: Arc<dyn Watch>,
    ) -> Self {
        let mut compile = Compile { metrics, problems, watch: Some(watch) };
        Self { stages: compile.stages(stages), ..Self::default() }
    }
}

/// The stages by name.
#[cfg(test)]
pub(super) const NAMES: [&str; 27] = [
    "cri",
    "decolorize",
    "docker",
    "drop",
    "eventlogmessage",
    "geoip",
    "json",
    "labelallow",
    "labeldrop",
    "labels",
    "limit",
    "logfmt",
    "match",
    "metrics",
    "multiline",
    "non_indexed_labels",
    "output",
    "pack",
    "regex",
    "replace",
    "sampling",
    "static_labels",
    "structured_metadata",
    "structured_metadata_drop",
    "template",
    "tenant",
    "timestamp",
];

/// Whether the first stage reads Docker's JSON records, so that the reader may join partial ones before.
pub fn begins_with_docker(stages: &Value) -> bool {
    stages
        .items()
        .next()
        .is_some_and(|stage| stage.entries().next().is_some_and(|(name, _)| name == "docker"))
}

/// What stages need to be compiled.
pub(super) struct Compile<'a> {
    pub(super) metrics: &'a StageMetrics,
    pub(super) problems: &'a mut Problems,
    /// Is told what every stage does.
    watch: Option<Arc<dyn Watch>>,
}

impl Compile<'_> {
    /// Compiles a list of stages.
    pub(super) fn stages(&mut self, stages: &Value) -> Vec<Stage> {
        let mut compiled = Vec::new();
        if !stages.is_null() && !stages.is_list() {
            self.problems.add(stages.path(), "expected a list of stages");
        }
        for (at, stage) in stages.items().enumerate() {
            let mut entries = stage.entries();
            match (entries.next(), entries.next()) {
                (Some((name, body)), None) => {
                    // To Promtail these are pipelines of their own, and each of those begins with the labels.
                    if at > 0 && matches!(name, "docker" | "cri") {
                        compiled.extend(Stage::edit(Reseed));
                    }
                    let stage = self.stage(name, &body);
                    compiled.extend(stage.map(|stage| self.watched(name, &body, stage)));
                }
                (None, _) if stage.is_map() => {}
                (None, _) => {
                    let name = stage.as_str().unwrap_or_default();
                    self.problems.add(
                        stage.path(),
                        format!(
                            "expected a map of one stage, such as `- {}:`",
                            if name.is_empty() { "docker" } else { name }
                        ),
                    );
                }
                (Some(_), Some(_)) => {
                    self.problems.add(stage.path(), "a pipeline stage must contain only one key");
                }
            }
        }
        compiled
    }

    fn watched(&self, name: &str, body: &Value, stage: Stage) -> Stage {
        match &self.watch {
            None => stage,
            Some(watch) => Stage::Hold(Box::new(Watched {
                stage,
                name: name.to_owned(),
                path: body.path(),
                watch: watch.clone(),
            })),
        }
    }

    fn stage(&mut self, name: &str, body: &Value) -> Option<Stage> {
        match name {
            "cri" => cri::compile(body, self),
            "decolorize" => decolorize::compile(body, self),
            "docker" => docker::compile(body, self),
            "drop" => drop::compile(body, self),
            "eventlogmessage" => windows_event::compile(body, self),
            "geoip" => self.geoip(body),
            "json" => json::compile(body, self),
            "labelallow" => labels::compile_allow(body, self),
            "labeldrop" => labels::compile_drop(body, self),
            "labels" => labels::compile(body, self),
            "limit" => limit::compile(body, self),
            "logfmt" => logfmt::compile(body, self),
            "match" => matching::compile(body, self),
            "metrics" => metrics::compile(body, self),
            "multiline" => multiline::compile(body, self),
            "output" => output::compile(body, self),
            "pack" => pack::compile(body, self),
            "regex" => regex::compile(body, self),
            "replace" => replace::compile(body, self),
            "sampling" => sampling::compile(body, self),
            "static_labels" => labels::compile_static(body, self),
            "structured_metadata" | "non_indexed_labels" => metadata::compile(body, self),
            "structured_metadata_drop" => metadata::compile_drop(body, self),
            "template" => template::compile(body, self),
            "tenant" => tenant::compile(body, self),
            "timestamp" => timestamp::compile(body, self),
            other => self.problem(body, "", &format!("no pipeline stage is called '{other}'")),
        }
    }

    /// The keys are checked, but no database is looked into.
    fn geoip(&mut self, body: &Value) -> Option<Stage> {
        #[derive(Clone, Default, Serialize, serde::Deserialize)]
        #[serde(default)]
        struct Geoip {
            db: String,
            source: String,
            db_type: String,
        }
        let config: Geoip = self.read(body)?;
        if !matches!(config.db_type.as_str(), "city" | "asn") {
            self.problem::<Stage>(body, "db_type", &format!("'{}' is neither city nor asn", config.db_type));
        }
        self.problem(body, "", "geoip databases are not looked into here: remove the stage")
    }

    /// Reads a stage's own keys. Others are told as keys without effect: Promtail takes no notice of them, so they stand in
    /// configurations that work.
    pub(super) fn read<T: Default + Serialize + DeserializeOwned>(&mut self, body: &Value) -> Option<T> {
        body.read(&Unneeded::new(&["*"]), self.problems)
    }

    /// The extracted value that a stage reads instead of the line.
    pub(super) fn source(&mut self, body: &Value, source: Option<String>) -> Option<Option<Arc<str>>> {
        match source {
            Some(name) if name.is_empty() => {
                self.problem(body, "source", "name an extracted value, or leave the key out to read the line")
            }
            source => Some(source.map(Into::into)),
        }
    }

    /// Reports a problem at a key of the stage, or at the stage itself if the key is empty.
    pub(super) fn problem<T>(&mut self, body: &Value, key: &str, text: &str) -> Option<T> {
        let path = body.path();
        self.problems.add(if key.is_empty() { path } else { format!("{path}.{key}") }, text);
        None
    }

    /// Remarks on a key of the stage.
    pub(super) fn warn(&mut self, body: &Value, key: &str, text: &str) {
        self.problems.warn(format!("{}.{key} {text}", body.path()));
    }

    /// Compiles a regular expression that must be given.
    pub(super) fn regex(&mut self, body: &Value, key: &str, pattern: &str) -> Option<Regex> {
        if pattern.is_empty() {
            return self.problem(body, key, "give a regular expression (RE2 syntax)");
        }
        self.any_regex(body, key, pattern)
    }

    /// Compiles a regular expression, which may be the empty one.
    pub(super) fn any_regex(&mut self, body: &Value, key: &str, pattern: &str) -> Option<Regex> {
        match Regex::new(pattern) {
            Ok(regex) => Some(regex),
            Err(error) => self.problem(body, key, &format!("'{pattern}': {error}")),
        }
    }

    /// Compiles a template.
    pub(super) fn template(&mut self, body: &Value, key: &str, text: &str) -> Option<StageTemplate> {
        match StageTemplate::parse(text) {
            Ok(template) => Some(template),
            Err(error) => self.problem(body, key, &error),
        }
    }

    /// The counter of lines that a stage drops for this reason.
    pub(super) fn dropped(&self, reason: &str) -> Counter {
        self.metrics.dropped.get_or_create(&ReasonLabels { reason: reason.to_owned() }).clone()
    }
}

/// Labels are extracted values again, whatever those of their names have become.
struct Reseed;

impl Edit for Reseed {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        entry.extracted.set_labels(&entry.labels);
        Verdict::Keep
    }
}
