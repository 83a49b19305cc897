//! Every example of the documentation, run: a block of stages, one of lines, one of what comes out.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Instant;

use model::{Labels, Timestamp};
use service::config::{Problems, Value};

use super::Pipeline;
use crate::entry::Entry;
use crate::metrics::StageMetrics;

/// When lines of examples are read.
pub(super) const READ_AT: Timestamp = Timestamp(1);

/// Compiles a list of stages written as YAML; the error holds all problems.
pub(super) fn compile(stages: &str, metrics: &StageMetrics) -> Result<Pipeline, String> {
    #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    struct File {
        pipeline_stages: Value,
    }
    impl service::config::Config for File {}
    let indented: String = stages.lines().map(|line| format!("  {line}\n")).collect();
    let file = service::config::from_text::<File>(&format!("pipeline_stages:\n{indented}"))
        .map_err(|problems| problems.to_string())?;
    let mut problems = Problems::default();
    let pipeline = Pipeline::compile(&file.config.pipeline_stages, metrics, &mut problems);
    if problems.is_empty() { Ok(pipeline) } else { Err(problems.to_string()) }
}

/// A line of the stream that all examples read.
pub(super) fn entry(line: &str) -> Entry {
    Entry::new(READ_AT, line.to_owned(), Labels::from_pairs([("app", "shop")]))
}

/// An entry as examples show it: time (unless it is that of reading), labels, metadata, line.
pub(super) fn show(entry: &Entry) -> String {
    let mut out = String::new();
    if entry.timestamp != READ_AT {
        let _ = write!(out, "{} ", entry.timestamp);
    }
    let _ = write!(out, "{} ", entry.labels);
    for (name, value) in &entry.metadata {
        let _ = write!(out, "[{name}={value}] ");
    }
    out + &entry.line
}

/// What comes out of a pipeline, an entry a line.
pub(super) fn run(stages: &str, lines: &str) -> Result<String, String> {
    let mut pipeline = compile(stages, &StageMetrics::default())?;
    let mut out = Vec::new();
    for line in lines.lines() {
        pipeline.run(entry(line), Instant::now(), &mut out);
    }
    pipeline.finish(Instant::now(), &mut out);
    Ok(out.iter().map(|entry| show(entry) + "\n").collect())
}

/// Fenced blocks: what they hold, their text, and the line where they begin.
fn blocks(text: &str) -> Vec<(String, String, usize)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String, usize)> = None;
    for (i, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(kind), None) => open = Some((kind.to_owned(), String::new(), i + 1)),
            (None, Some((_, text, _))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn documentation_says_what_happens() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/agent-stages.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for example in blocks(&text).windows(3) {
        let [(yaml, stages, at), (input, lines, _), (output, want, _)] = example else { continue };
        if (yaml.as_str(), input.as_str(), output.as_str()) != ("yaml", "input", "output") {
            continue;
        }
        checked += 1;
        match run(stages, lines) {
            Ok(got) if got == *want => {}
            Ok(got) => wrong.push(format!("line {at}: got\n{got}")),
            Err(problems) => wrong.push(format!("line {at}: {problems}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 25, "only {checked} examples were found");

    let documented: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .flat_map(|names| names.split(", "))
        .collect();
    let built: BTreeSet<&str> = super::compile::NAMES.into();
    assert_eq!(documented, built, "each stage has a section of its own");
}
