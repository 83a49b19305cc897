//! What the stages do with the last lines of a file.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use model::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use service::config::Problems;

use super::jobs::Job;
use crate::entry::Entry;
use crate::metrics::StageMetrics;
use crate::pipeline::{Outcome, Pipeline, Seen, Watch};
use crate::run::Live;

/// One line and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Traced {
    /// As it stands in the file.
    pub(super) line: String,
    /// What the stages did, in order.
    pub(super) stages: Vec<Seen>,
    /// What would be sent; none if a stage ended it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) sent: Vec<Sent>,
    /// Why nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dropped: Option<String>,
}

/// An entry as it would be sent.
#[derive(Debug, Serialize)]
pub(super) struct Sent {
    /// Its time; the time of reading where no stage sets one.
    pub(super) timestamp: String,
    /// Its stream.
    pub(super) labels: String,
    /// Its text.
    pub(super) line: String,
}

impl Traced {
    /// Why nothing of the line is sent.
    pub(super) fn dropped(&self) -> Option<String> {
        self.dropped.clone()
    }
}

/// Lines that are looked at.
const LINES: usize = 3;
/// How far back from the end lines are looked for.
const TAIL: u64 = 64 << 10;

#[derive(Default)]
struct Notes(Mutex<Vec<Seen>>);

impl Watch for Notes {
    fn saw(&self, seen: Seen) {
        self.0.lock().push(seen);
    }
}

/// The last lines of a file through the stages of a job. They count nowhere.
pub(super) fn trace(live: &Live, job: &Job, path: &Path) -> Vec<Traced> {
    let lines = last_lines(path).unwrap_or_default();
    lines.iter().map(|line| one(live, job, line)).collect()
}

fn one(live: &Live, job: &Job, line: &str) -> Traced {
    let notes = Arc::new(Notes::default());
    let scrape = &live.config.scrape_configs[job.index];
    let (metrics, mut problems) = (StageMetrics::default(), Problems::default());
    let stages = &scrape.pipeline_stages;
    let mut pipeline = Pipeline::compile_watched(stages, &metrics, &mut problems, notes.clone());
    let mut entry = Entry::new(Timestamp::now(), line.to_owned(), job.stream.clone());
    if job.container
        && let Ok(serde_json::Value::Object(record)) = serde_json::from_str(line)
    {
        let text = record.get("log").and_then(|log| log.as_str()).unwrap_or_default();
        entry.line = text.strip_suffix('\n').unwrap_or(text).to_owned();
    }
    let mut out = Vec::new();
    pipeline.run(entry, Instant::now(), &mut out);
    pipeline.finish(Instant::now(), &mut out);
    let stages = std::mem::take(&mut *notes.0.lock());
    let ended = stages.iter().find(|seen| seen.outcome == Outcome::Dropped);
    let mut dropped = ended
        .filter(|_| out.is_empty())
        .map(|seen| format!("stage '{}' drops them ({})", seen.stage, seen.path));
    let clients = live.config.all_clients();
    let lacks_labels = clients.is_empty() || clients.iter().any(|client| client.external_labels.is_empty());
    let limits = &live.config.limits_config;
    let max = limits.max_line_size.as_usize();
    for entry in &out {
        if entry.labels.is_empty() && lacks_labels {
            dropped = Some("no label is left after the stages (no_labels)".to_owned());
        } else if max > 0 && entry.line.len() > max && !limits.max_line_size_truncate {
            dropped = Some(format!("they are longer than limits_config.max_line_size, {max} bytes"));
        }
    }
    let sent = out.iter().filter(|_| dropped.is_none()).map(|entry| Sent {
        timestamp: entry.timestamp.to_string(),
        labels: entry.labels.to_string(),
        line: short(&entry.line),
    });
    let sent = sent.collect();
    Traced { line: short(line), stages, sent, dropped }
}

/// A line that may be very long.
pub(super) fn short(line: &str) -> String {
    const MAX: usize = 400;
    match line.len() {
        0..=MAX => line.to_owned(),
        len => format!("{}… ({len} bytes)", &line[..line.floor_char_boundary(MAX)]),
    }
}

/// The last whole lines near the end of a file, oldest first.
fn last_lines(path: &Path) -> io::Result<Vec<String>> {
    let file = crate::tail::open_regular(path)?;
    let size = file.metadata()?.len();
    let begin = size.saturating_sub(TAIL);
    let mut bytes = vec![0; (size - begin) as usize];
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], begin + got as u64)? {
            0 => break,
            count => got += count,
        }
    }
    bytes.truncate(got);
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if begin > 0 && lines.len() > 1 {
        lines.remove(0);
    }
    let first = lines.len().saturating_sub(LINES);
    Ok(lines[first..].iter().map(|line| (*line).to_owned()).collect())
}
