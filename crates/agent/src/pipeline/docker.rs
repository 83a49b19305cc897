//! `docker`: takes line, stream and time out of Docker's JSON records.

use serde::Deserialize;

use super::timestamp::Fudge;
use super::{Edit, Verdict};
use crate::entry::Entry;
use model::gotime::{Layout, Zone};

/// A record of the json-file log driver.
#[derive(Debug, Deserialize)]
pub(crate) struct Record<'a> {
    #[serde(borrow, default)]
    pub(crate) log: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) stream: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) time: std::borrow::Cow<'a, str>,
}

pub(super) struct Docker {
    layout: Layout,
    zone: Zone,
    fudge: Fudge,
}

impl Default for Docker {
    fn default() -> Self {
        let layout = Layout::named("RFC3339Nano")
            .unwrap_or_else(|| Layout::parse("2006-01-02T15:04:05.999999999Z07:00"));
        Self { layout, zone: Zone::utc(), fudge: Fudge::default() }
    }
}

impl Edit for Docker {
    fn edit(&mut self, entry: &mut Entry) -> Verdict {
        // The reader has joined partial records and taken the line out of them already.
        if let Some(stream) = entry.docker {
            let time = self.layout.write(entry.timestamp, &self.zone);
            entry.extracted.set("output", entry.line.as_str().into());
            entry.extracted.set("stream", stream.as_str().into());
            entry.extracted.set("timestamp", time.into());
            entry.labels.set("stream", stream.as_str());
            return Verdict::Keep;
        }
        let Ok(record) = serde_json::from_str::<Record<'_>>(&entry.line) else {
            self.fudge.apply(None, entry);
            return Verdict::Keep;
        };
        let time = self.layout.read(&record.time, &self.zone).ok();
        let (line, stream) = (record.log.into_owned(), record.stream.into_owned());
        entry.extracted.set("output", line.as_str().into());
        entry.extracted.set("stream", stream.as_str().into());
        entry.extracted.set("timestamp", record.time.as_ref().into());
        entry.labels.set("stream", &stream);
        self.fudge.apply(time, entry);
        entry.line = line;
        Verdict::Keep
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
        let entry = |line: &str| Entry::new(Timestamp(1), line.to_owned(), Labels::default().to_builder());
        let mut single = entry(record);
        let mut joined = entry("hi");
        (joined.docker, joined.timestamp) = (Some(Stream::Stderr), Timestamp(1_704_164_645_500_000_000));
        for entry in [&mut single, &mut joined] {
            Docker::default().edit(entry);
            assert_eq!((entry.line.as_str(), entry.labels.get("stream")), ("hi", Some("stderr")));
            assert_eq!(entry.timestamp.to_string(), "2024-01-02T03:04:05.5Z");
            let extracted = ["output", "stream", "timestamp"].map(|name| entry.extracted.text(name).unwrap());
            assert_eq!(extracted, ["hi", "stderr", "2024-01-02T03:04:05.5Z"]);
        }
    }
}
