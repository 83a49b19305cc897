//! Entries that Promtail made of recorded lines, made by our stages of the same lines.

use std::collections::BTreeMap;
use std::time::Instant;

use model::{Labels, Timestamp};
use service::config::{Problems, Value};

use super::Pipeline;
use crate::entry::Entry;
use crate::metrics::StageMetrics;

/// An entry as recorded: timestamp (none: the time of reading), labels, line.
type Recorded = (Option<String>, BTreeMap<String, String>, String);

fn run(case: &serde_json::Value) -> Result<Vec<Recorded>, String> {
    // JSON is YAML, so the recorded stages are read as a configuration file would be.
    let yaml = format!("stages: {}", case["stages"]);
    let read_at = Timestamp(1);
    #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    struct File {
        stages: Value,
    }
    impl service::config::Config for File {}
    let file = service::config::from_text::<File>(&yaml).map_err(|problems| problems.to_string())?;
    let mut problems = Problems::default();
    let mut pipeline = Pipeline::compile(&file.config.stages, &StageMetrics::default(), &mut problems);
    if !problems.is_empty() {
        return Err(problems.to_string());
    }
    let mut out = Vec::new();
    for line in
        case["lines"].as_array().into_iter().flatten().filter_map(|l| l.as_str()).filter(|l| !l.is_empty())
    {
        let labels = Labels::from_pairs([("job", "stdin")]);
        pipeline.run(Entry::new(read_at, line.to_owned(), labels), Instant::now(), &mut out);
    }
    pipeline.finish(Instant::now(), &mut out);
    let recorded = |entry: Entry| {
        let time = (entry.timestamp != read_at).then(|| entry.timestamp.to_string());
        let labels = entry.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        (time, labels, entry.line.trim_start().to_owned())
    };
    Ok(out.into_iter().map(recorded).collect())
}

fn recorded(case: &serde_json::Value) -> Vec<Recorded> {
    let entry = |entry: &serde_json::Value| {
        let time = entry["timestamp"].as_str().map(|t| t.replace("+0000", "Z"));
        let mut labels: BTreeMap<String, String> = serde_json::from_value(entry["labels"].clone()).unwrap();
        // A label without a value is no label, neither to a store nor to us.
        labels.retain(|_, value| !value.is_empty());
        (time, labels, entry["line"].as_str().unwrap().trim_start().to_owned())
    };
    case["entries"].as_array().into_iter().flatten().map(entry).collect()
}

/// Entries of each stream in their order: Promtail lets streams overtake each other.
fn by_stream(entries: &[Recorded]) -> BTreeMap<&BTreeMap<String, String>, Vec<&Recorded>> {
    let mut streams = BTreeMap::<_, Vec<_>>::new();
    entries.iter().for_each(|entry| streams.entry(&entry.1).or_default().push(entry));
    streams
}

#[test]
fn stages_work_as_promtails() {
    let Some(cases) = testkit::recorded::json::<serde_json::Value>("stages.json") else { return };
    let results = cases.as_array().unwrap().iter().map(|case| {
        let refused = case["refused"].as_bool().unwrap_or(false);
        let result = match run(case) {
            Err(_) if refused => Ok(()),
            Ok(_) if refused => Err("must be refused".to_owned()),
            Err(problems) => Err(problems),
            Ok(got) if case["entries"].is_null() || by_stream(&got) == by_stream(&recorded(case)) => Ok(()),
            Ok(got) => Err(format!("got {got:?}")),
        };
        (case["name"].as_str().unwrap().to_owned(), result)
    });
    testkit::pending::check(concat!(env!("CARGO_MANIFEST_DIR"), "/src/pipeline/stages.pending"), results);
}
