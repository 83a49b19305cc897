//! The `journal` target: entries of systemd's journal, read through `journalctl`.
//!
//! The journal's files have a reader that systemd maintains, and an output format that is promised to stay. Readers of the files
//! themselves order entries by the clock, and then lose what is written after it was set back; `journalctl` goes by the journal's
//! own sequence. So it runs as a child of this target and is started again, after the last entry read, should it end.

mod cursor;
mod export;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use model::{Timestamp, is_label_name};
use serde::{Deserialize, Serialize};
use service::CancellationToken;
use service::config::Problems;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::inlet::{Inlet, TICK};
use super::{Inlets, TargetMetrics};
use crate::entry::Entry;
use crate::relabel::TargetLabels;
pub(crate) use cursor::Cursor;
use export::{Export, Fields};

/// The `journal` section.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct JournalConfig {
    /// How far back the first start, or a start after a longer pause, reads.
    pub max_age: service::config::Duration,
    /// The line is the whole entry as JSON, rather than its message.
    pub json: bool,
    /// Labels of every entry.
    pub labels: BTreeMap<String, String>,
    /// Folder of the journal; without one `/var/log/journal`, or `/run/log/journal` where that is missing.
    pub path: String,
    /// Which entries: `FIELD=value FIELD2=value2`, all of which must hold.
    pub matches: String,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            max_age: service::config::Duration::from_secs(7 * 3600),
            json: false,
            labels: BTreeMap::new(),
            path: String::new(),
            matches: String::new(),
        }
    }
}

impl JournalConfig {
    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        for name in self.labels.keys().filter(|name| !is_label_name(name)) {
            problems.add(format!("{path}.labels"), format!("'{name}' is not a label name"));
        }
        // What journalctl would take as an option, a path or an "or" is not a match.
        let is_field = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        for term in self.matches.split_ascii_whitespace() {
            if !term.split_once('=').is_some_and(|(name, _)| is_field(name)) {
                let text =
                    format!("'{term}' is not a match: write FIELD=value, such as _SYSTEMD_UNIT=ssh.service");
                problems.add(format!("{path}.matches"), text);
            }
        }
    }

    fn folder(&self) -> &Path {
        const PERSISTENT: &str = "/var/log/journal";
        match self.path.as_str() {
            "" if Path::new(PERSISTENT).exists() => Path::new(PERSISTENT),
            "" => Path::new("/run/log/journal"),
            path => Path::new(path),
        }
    }
}

/// A journal to be followed.
pub(crate) struct JournalTarget {
    program: PathBuf,
    config: JournalConfig,
    cursor: Arc<Cursor>,
    inlet: Inlet,
    metrics: TargetMetrics,
}

impl JournalTarget {
    const MIN_PAUSE: Duration = Duration::from_millis(500);
    const MAX_PAUSE: Duration = Duration::from_secs(30);

    /// Prepares a target; an error if there is no `journalctl`.
    pub(crate) fn new(config: &JournalConfig, cursor: Arc<Cursor>, inlets: Inlets) -> Result<Self> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let mut programs = std::env::split_paths(&paths).map(|folder| folder.join("journalctl"));
        let program = programs.find(|program| program.is_file()).context(
            "journal: journalctl is not there, through which the journal is read: install systemd's tools beside the agent",
        )?;
        Ok(Self {
            program,
            config: config.clone(),
            cursor,
            inlet: inlets.open(),
            metrics: inlets.metrics.clone(),
        })
    }

    /// Reads entries until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<()> {
        let mut pause = Self::MIN_PAUSE;
        while !stop.is_cancelled() {
            let before = self.cursor.read();
            if let Err(error) = self.follow(&stop).await {
                tracing::warn!(error = format!("{error:#}"), "the journal cannot be followed: trying again");
            }
            if self.cursor.read() != before {
                pause = Self::MIN_PAUSE;
            }
            // It had nothing to follow, or could not: without entries there is no hurry.
            let end = tokio::time::Instant::now() + pause;
            while !stop.is_cancelled() && tokio::time::Instant::now() < end {
                tokio::select! {
                    () = tokio::time::sleep(TICK) => self.inlet.tick(),
                    () = stop.cancelled() => {}
                }
            }
            pause = (pause * 2).min(Self::MAX_PAUSE);
        }
        self.inlet.finish();
        Ok(())
    }

    /// Runs `journalctl` once, until it ends or `stop`.
    async fn follow(&mut self, stop: &CancellationToken) -> Result<()> {
        let mut child = self.start()?;
        let mut output = child.stdout.take().context("journalctl has no output")?;
        let mut errors =
            BufReader::new(child.stderr.take().context("journalctl has no error output")?).lines();
        let (mut export, mut buffer) = (Export::default(), vec![0; 64 << 10]);
        let (mut last_error, mut errors_open) = (String::new(), true);
        let mut ticks = tokio::time::interval(TICK);
        let ended = loop {
            let count = tokio::select! {
                count = output.read(&mut buffer) => count?,
                line = errors.next_line(), if errors_open => {
                    match line {
                        Ok(Some(line)) => last_error = line,
                        Ok(None) | Err(_) => errors_open = false,
                    }
                    continue;
                }
                _ = ticks.tick() => {
                    self.inlet.tick();
                    continue;
                }
                () = stop.cancelled() => break false,
            };
            if count == 0 {
                break true;
            }
            export.push(&buffer[..count]);
            while let Some(entry) = export.next() {
                tokio::select! {
                    () = self.inlet.room() => {}
                    () = stop.cancelled() => break,
                }
                self.take(entry);
            }
            if stop.is_cancelled() {
                break false;
            }
        };
        child.kill().await?;
        if ended {
            if last_error.contains("seek to cursor") {
                // The cursor is none that it knows: it could never go on from there.
                self.cursor.forget();
            }
            anyhow::bail!("journalctl ended: {last_error}");
        }
        Ok(())
    }

    fn start(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(["--output=export", "--follow", "--no-tail", "--all", "--no-pager", "--quiet"]);
        command.arg("--directory").arg(self.config.folder());
        let now = Timestamp::now().nanos() / 1_000;
        let oldest = now - i64::try_from(self.config.max_age.get().as_micros()).unwrap_or(i64::MAX);
        match self.cursor.read().filter(|cursor| time_of(cursor).is_none_or(|time| time >= oldest)) {
            Some(cursor) => command.arg(format!("--after-cursor={cursor}")),
            None => command.arg(format!("--since=@{}", oldest.max(0) / 1_000_000)),
        };
        command.args(self.config.matches.split_ascii_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().with_context(|| self.program.display().to_string())
    }

    /// Hands on one entry; its cursor is done when every client has it.
    fn take(&mut self, mut fields: Fields) {
        let Some(cursor) = fields.remove("__CURSOR") else { return };
        let micros = fields.get("__REALTIME_TIMESTAMP").and_then(|text| text.parse::<i64>().ok());
        fields.retain(|name, _| !name.starts_with("__"));
        self.metrics.journal_lines.inc();
        let (ticket, ranges) = self.cursor.open(cursor);
        match self.line(&fields) {
            Ok(line) => match self.inlet.labels(labels(&self.config, &fields)) {
                Some(labels) if labels.is_empty() => self.failed("empty_labels"),
                Some(labels) => {
                    let time =
                        micros.map_or_else(Timestamp::now, |micros| Timestamp(micros.saturating_mul(1_000)));
                    self.inlet.enter_from(Entry::new(time, line, labels), &ticket, ranges);
                }
                // A rule dropped it.
                None => {}
            },
            Err(error) => self.failed(error),
        }
        ticket.done(1);
    }

    fn line(&self, fields: &Fields) -> Result<String, &'static str> {
        if self.config.json {
            return serde_json::to_string(fields).map_err(|_| "marshal");
        }
        fields.get("MESSAGE").cloned().ok_or("no_message")
    }

    fn failed(&self, error: &'static str) {
        self.metrics.journal_parsing_errors.get_or_create(&super::metrics::ErrorLabels { error }).inc();
    }
}

/// The `__journal_*` labels of an entry, and those of the configuration.
fn labels(config: &JournalConfig, fields: &Fields) -> TargetLabels {
    const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"];
    let mut labels: TargetLabels = config.labels.clone();
    for (name, value) in fields {
        labels.insert(format!("__journal_{}", name.to_lowercase()), value.clone());
    }
    let priority = fields.get("PRIORITY").and_then(|text| text.parse::<usize>().ok());
    if let Some(keyword) = priority.and_then(|priority| PRIORITIES.get(priority)) {
        labels.insert("__journal_priority_keyword".to_owned(), (*keyword).to_owned());
    }
    labels
}

/// When the entry of a cursor was written, µs since the epoch.
fn time_of(cursor: &str) -> Option<i64> {
    let hex = cursor.split(';').find_map(|part| part.strip_prefix("t="))?;
    i64::from_str_radix(hex, 16).ok()
}
