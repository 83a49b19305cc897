//! `docker`: takes line, stream and time out of Docker's JSON records.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::fudge::Fudge;
use super::label_cache::LabelCache;
use super::timestamp::read_rfc3339;
use super::{Edit, Stage, Verdict, json};
use crate::entry::Entry;
use crate::extracted::Extract;

/// A record of the json-file log driver. An object without one of these is another's.
#[derive(Debug, Deserialize)]
pub(crate) struct Record<'a> {
    #[serde(borrow)]
    pub(crate) log: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) stream: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) time: Cow<'a, str>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct DockerConfig {}

struct Docker {
    output: Arc<str>,
    stream: Arc<str>,
    timestamp: Arc<str>,
    labels: LabelCache,
    fudge: Fudge,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let _: DockerConfig = compile.read(body)?;
    Stage::edit(Docker::new())
}

impl Docker {
    fn new() -> Self {
        let [output, stream, timestamp] = ["output", "stream", "timestamp"].map(Into::into);
        Self { output, stream, timestamp, labels: LabelCache::default(), fudge: Fudge::default() }
    }

    fn set(&mut self, entry: &mut Entry, line: &str, stream: &str, time: Extract<'_>) {
        entry.extracted.set(&self.output, Extract::Text(line));
        entry.extracted.set(&self.stream, Extract::Text(stream));
        entry.extracted.set(&self.timestamp, time);
        self.labels.begin();
        self.labels.value(Some(stream));
        entry.labels = self.labels.apply(&entry.labels, |labels| {
            labels.set("stream", stream);
        });
    }
}

impl Edit for Docker {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        // The reader has joined partial records and taken the line out of them already.
        if let Some(stream) = entry.docker {
            let line = std::mem::take(&mut entry.line);
            let time = entry.timestamp;
            self.set(entry, &line, stream.as_str(), Extract::Time(time));
            self.fudge.apply(Some(time), entry);
            entry.line = line;
            return Verdict::Keep;
        }
        let text = std::mem::take(&mut entry.line);
        match serde_json::from_str::<Record<'_>>(&text) {
            Ok(record) => {
                self.set(entry, &record.log, &record.stream, Extract::Text(&record.time));
                self.fudge.apply(read_rfc3339(&record.time), entry);
                entry.line = record.log.into_owned();
            }
            Err(_) => {
                entry.line = text;
                self.odd(entry);
            }
        }
        Verdict::Keep
    }
}

impl Docker {
    /// A line that is no record: of another object that which it has of one is taken, and the line stays if there is none in it.
    fn odd(&mut self, entry: &mut Entry) {
        let Ok(object) = serde_json::from_str::<serde_json::Map<_, _>>(&entry.line) else {
            return self.fudge.apply(None, entry);
        };
        for (name, key) in [(&self.output, "log"), (&self.stream, "stream"), (&self.timestamp, "time")] {
            json::set(&mut entry.extracted, name, object.get(key).unwrap_or(&serde_json::Value::Null));
        }
        if let Some(stream) = entry.extracted.text(&self.stream).map(Cow::into_owned) {
            entry.edit_labels(|labels| {
                labels.set("stream", &stream);
            });
        }
        let time = entry.extracted.text(&self.timestamp).and_then(|time| read_rfc3339(&time));
        self.fudge.apply(time, entry);
        if let Some(line) = entry.extracted.text(&self.output) {
            entry.line = line.into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tail::Stream;
    use model::{Labels, Timestamp};

    #[test]
    fn joined_records_get_what_single_ones_get() {
        let record = r#"{"log":"hi","stream":"stderr","time":"2024-01-02T03:04:05.5Z"}"#;
        let entry = |line: &str| Entry::new(Timestamp(1), line.to_owned(), Labels::default());
        let mut single = entry(record);
        let mut joined = entry("hi");
        (joined.docker, joined.timestamp) = (Some(Stream::Stderr), Timestamp(1_704_164_645_500_000_000));
        for entry in [&mut single, &mut joined] {
            Docker::new().edit(entry, Instant::now());
            assert_eq!((entry.line.as_str(), entry.labels.get("stream")), ("hi", Some("stderr")));
            assert_eq!(entry.timestamp.to_string(), "2024-01-02T03:04:05.5Z");
            let extracted = ["output", "stream", "timestamp"].map(|name| entry.extracted.text(name).unwrap());
            assert_eq!(extracted, ["hi", "stderr", "2024-01-02T03:04:05.5Z"]);
        }
    }

    #[test]
    fn what_is_no_record_stays() {
        let check = |line: &str, want: &str, labels: &str| {
            let mut entry =
                Entry::new(Timestamp(1), line.to_owned(), Labels::from_pairs([("stream", "old")]));
            Docker::new().edit(&mut entry, Instant::now());
            assert_eq!((entry.line.as_str(), entry.labels.to_string().as_str()), (want, labels));
        };
        check(r#"{"level":"info","msg":"x"}"#, r#"{"level":"info","msg":"x"}"#, r#"{stream="old"}"#);
        check(
            r#"{"log":null,"stream":"stdout"}"#,
            r#"{"log":null,"stream":"stdout"}"#,
            r#"{stream="stdout"}"#,
        );
        check(r#"{"log":5}"#, "5", r#"{stream="old"}"#);
        check(r#"{"log":"x","time":"t"}"#, "x", r#"{stream="old"}"#);
        check("[1]", "[1]", r#"{stream="old"}"#);
    }
}
