//! Stages that are looked at while they work: what `-inspect` prints and `explain` tells.
//!
//! A watched stage is wrapped when it is compiled, so that a pipeline nobody watches costs nothing for it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::{Hold, Stage, Verdict};
use crate::entry::Entry;

/// Is told what every stage does to every entry.
pub(crate) trait Watch: Send + Sync {
    /// One stage has had one entry.
    fn saw(&self, seen: Seen);
}

/// What one stage did to one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    /// Name of the stage.
    pub(crate) stage: String,
    /// Where it stands in the configuration.
    pub(crate) path: String,
    /// What became of the entry.
    pub(crate) outcome: Outcome,
    /// What is different of it, in the order line, timestamp, labels, metadata, extracted values.
    pub(crate) changes: Vec<Change>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It went on.
    Passed,
    /// It ended here.
    Dropped,
    /// Nothing came out: the stage keeps it for now, or a stage inside ended it.
    Kept,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// What is different.
    pub(crate) field: Field,
    /// As it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<String>,
    /// As it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
}

/// A part of an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Field {
    /// Its text.
    Line,
    /// When it happened.
    Timestamp,
    /// A label.
    Label(String),
    /// A piece of structured metadata.
    Metadata(String),
    /// A value that a stage took out of the line.
    Extracted(String),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => f.write_str("line"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Label(name) => write!(f, "label {name}"),
            Self::Metadata(name) => write!(f, "metadata {name}"),
            Self::Extracted(name) => write!(f, "extracted {name}"),
        }
    }
}

/// A stage that is watched.
pub(super) struct Watched {
    pub(super) stage: Stage,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) watch: Arc<dyn Watch>,
}

impl Hold for Watched {
    fn take(&mut self, mut entry: Entry, now: Instant, out: &mut Vec<Entry>) {
        let before = parts(&entry);
        let first = out.len();
        let ended = match &mut self.stage {
            Stage::Edit(stage) => match stage.edit(&mut entry, now) {
                Verdict::Keep => {
                    out.push(entry);
                    false
                }
                Verdict::Drop => {
                    entry.tickets.done();
                    true
                }
            },
            Stage::Hold(stage) => {
                stage.take(entry, now, out);
                false
            }
        };
        let outcome = match (ended, out.len() - first) {
            (true, _) => Outcome::Dropped,
            (false, 0) => Outcome::Kept,
            (false, _) => Outcome::Passed,
        };
        let changes = out.get(first).map(|after| changes(before, parts(after))).unwrap_or_default();
        self.watch.saw(Seen { stage: self.name.clone(), path: self.path.clone(), outcome, changes });
    }

    fn release(&mut self, now: Option<Instant>, out: &mut Vec<Entry>) {
        if let Stage::Hold(stage) = &mut self.stage {
            stage.release(now, out);
        }
    }

    fn pause(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Edit(stage) => stage.pause(),
            Stage::Hold(stage) => stage.pause(),
        }
    }
}

/// Everything of an entry that stages may change.
fn parts(entry: &Entry) -> BTreeMap<Field, String> {
    let mut parts = BTreeMap::new();
    parts.insert(Field::Line, entry.line.clone());
    parts.insert(Field::Timestamp, entry.timestamp.to_string());
    for (name, value) in entry.labels.iter() {
        parts.insert(Field::Label(name.to_owned()), value.to_owned());
    }
    for (name, value) in &entry.metadata {
        parts.insert(Field::Metadata(name.to_string()), value.clone());
    }
    for (name, value) in entry.extracted.iter() {
        parts.extend(value.text().map(|text| (Field::Extracted(name.to_owned()), text.into_owned())));
    }
    parts
}

fn changes(mut before: BTreeMap<Field, String>, after: BTreeMap<Field, String>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (field, after) in after {
        let before = before.remove(&field);
        if before.as_ref() != Some(&after) {
            changes.push(Change { field, before, after: Some(after) });
        }
    }
    let gone = before.into_iter().map(|(field, before)| Change { field, before: Some(before), after: None });
    changes.extend(gone);
    changes.sort_by(|a, b| a.field.cmp(&b.field));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::StageMetrics;
    use crate::pipeline::Pipeline;
    use model::{Labels, Timestamp};
    use parking_lot::Mutex;
    use service::config::{Problems, Value};

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Watch for Notes {
        fn saw(&self, seen: Seen) {
            let changes = seen.changes.iter().map(|change| {
                let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                format!(" {}:{}>{}", change.field, text(&change.before), text(&change.after))
            });
            let note = format!("{} {:?}{}", seen.stage, seen.outcome, changes.collect::<String>());
            self.0.lock().push(note);
        }
    }

    fn check(stages: serde_json::Value, line: &str, want: &[&str]) {
        let stages: Value = serde_json::from_value(stages).unwrap();
        let notes = Arc::new(Notes::default());
        let mut problems = Problems::default();
        let mut pipeline =
            Pipeline::compile_watched(&stages, &StageMetrics::default(), &mut problems, notes.clone());
        assert!(problems.is_empty(), "{problems}");
        let labels = Labels::from_pairs([("job", "j")]);
        let mut out = Vec::new();
        pipeline.run(Entry::new(Timestamp(0), line.to_owned(), labels), Instant::now(), &mut out);
        assert_eq!(*notes.0.lock(), want);
    }

    #[test]
    fn every_stage_tells_what_it_did() {
        use serde_json::json;
        check(
            json!([{"json": {"expressions": {"level": ""}}}, {"labels": {"level": ""}}, {"output": {"source": "job"}}]),
            r#"{"level":"warn"}"#,
            &[
                "json Passed extracted level:->warn",
                "labels Passed label level:->warn",
                r#"output Passed line:{"level":"warn"}>j"#,
            ],
        );
        check(
            json!([{"labeldrop": ["job"]}, {"drop": {"expression": "a"}}, {"docker": {}}]),
            "a",
            &["labeldrop Passed label job:j>-", "drop Dropped"],
        );
        check(
            json!([{"match": {"selector": "{job=\"j\"}", "stages": [{"drop": {"expression": "a"}}]}}]),
            "a",
            &["drop Dropped", "match Kept"],
        );
        check(json!([{"multiline": {"firstline": "^a"}}]), "a", &["multiline Kept"]);
    }
}
