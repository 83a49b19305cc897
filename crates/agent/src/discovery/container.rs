//! Reads one container over the engine's API, where its log file cannot be reached.
//!
//! The position is a time. Lines of one container may carry the same, so a time counts as done when a later line has come, or
//! when there was none for a while; before that the lines of it come again after a restart.

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures::StreamExt as _;
use model::Timestamp;
use tokio::time::Instant;

use crate::dispatch::Dispatcher;
use crate::progress::Progress;
use crate::source::Ranges;
use crate::tail::{Line, Stream, StreamLabels};

/// How often stages that wait for more lines are asked.
const TICK: Duration = Duration::from_millis(250);
/// A message whose end did not come for so long is taken as complete.
const QUIET: Duration = Duration::from_secs(3);
/// Longer messages are cut.
const MAX_MESSAGE: usize = 1 << 20;

/// What follows one container.
pub(super) struct ApiReader {
    /// The engine.
    pub(super) docker: Docker,
    /// The container's id.
    pub(super) container: String,
    /// Index of the job.
    pub(super) job: usize,
    /// Labels of its lines.
    pub(super) labels: StreamLabels,
    /// Its offset is the time up to which all lines are acknowledged, ns since the epoch.
    pub(super) progress: Arc<Progress>,
    /// The job's pipeline.
    pub(super) dispatcher: Dispatcher,
}

impl ApiReader {
    /// Follows the container's output until it ends, or the engine goes away; returns the container's id.
    pub(super) async fn run(self) -> String {
        let since = self.progress.acknowledged();
        let options = LogsOptions {
            follow: true,
            stdout: true,
            stderr: true,
            timestamps: true,
            since: i32::try_from(since / 1_000_000_000).unwrap_or(0),
            ..LogsOptions::default()
        };
        tracing::info!(container = self.container, since, "reading container over the engine's API");
        let (docker, container) = (self.docker.clone(), self.container.clone());
        let output =
            docker.logs(&container, Some(options)).map(|item| item.map_err(|error| error.to_string()));
        let mut reading = Reading { reader: self, since, partial: [None, None], last: since };
        reading.follow(output).await;
        container
    }
}

/// A message whose end has not come yet.
struct Partial {
    time: Timestamp,
    text: String,
    grown: Instant,
}

struct Reading {
    reader: ApiReader,
    /// Lines of this time and before were done at the start.
    since: u64,
    /// One per output.
    partial: [Option<Partial>; 2],
    /// Time of the last line.
    last: u64,
}

impl Reading {
    async fn follow(&mut self, output: impl futures::Stream<Item = Result<LogOutput, String>>) {
        let mut output = std::pin::pin!(output);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let item = tokio::select! {
                item = output.next() => item,
                _ = ticks.tick() => {
                    self.tick().await;
                    continue;
                }
            };
            match item {
                Some(Ok(LogOutput::StdErr { message })) => self.take(Stream::Stderr, &message).await,
                Some(Ok(other)) => self.take(Stream::Stdout, &other.into_bytes()).await,
                Some(Err(error)) => {
                    tracing::debug!(container = self.reader.container, error, "output ended");
                    break;
                }
                None => break,
            }
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.end(stream).await;
        }
        self.reader.dispatcher.finish();
        self.settle();
    }

    /// Takes a part of a message, or a whole one.
    async fn take(&mut self, stream: Stream, message: &[u8]) {
        let text = String::from_utf8_lossy(message);
        let Some((time, text)) = split_time(&text) else {
            return self.reader.dispatcher.note_container_error();
        };
        let slot = &mut self.partial[stream as usize];
        // Parts of one message carry the same time.
        if slot.as_ref().is_some_and(|partial| partial.time != time) {
            self.end(stream).await;
        }
        let slot = &mut self.partial[stream as usize];
        let partial =
            slot.get_or_insert_with(|| Partial { time, text: String::new(), grown: Instant::now() });
        partial.text.push_str(text);
        partial.grown = Instant::now();
        if partial.text.ends_with('\n') || partial.text.len() >= MAX_MESSAGE {
            self.end(stream).await;
        }
    }

    /// What is due: messages that do not end, stages that wait, and the time of lines that nothing follows.
    async fn tick(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.partial[stream as usize].as_ref().is_some_and(|partial| partial.grown.elapsed() >= QUIET)
            {
                self.end(stream).await;
            }
        }
        self.reader.dispatcher.tick();
        if self.partial.iter().all(Option::is_none) {
            self.settle();
        }
    }

    /// A message is complete.
    async fn end(&mut self, stream: Stream) {
        let Some(Partial { time, mut text, .. }) = self.partial[stream as usize].take() else { return };
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        let nanos = u64::try_from(time.nanos()).unwrap_or(0);
        // The API counts in whole seconds, so the last second comes again.
        if nanos <= self.since {
            return;
        }
        if nanos > self.last {
            self.settle();
        }
        let reader = &mut self.reader;
        while let Some(until) = reader.dispatcher.pause(reader.job) {
            tokio::time::sleep_until(until.into()).await;
        }
        reader.dispatcher.room().await;
        let labels = match stream {
            Stream::Stdout => reader.labels.stdout.clone(),
            Stream::Stderr => reader.labels.stderr.clone(),
        };
        self.last = nanos;
        let ticket = reader.progress.open(nanos - 1);
        if let Some(labels) = labels {
            reader.dispatcher.note_container_line();
            let line = Line { text, stream: Some(stream), time: Some(time), ranges: Ranges::None };
            reader.dispatcher.dispatch(reader.job, line, &labels, Some(&ticket));
        }
        ticket.done(1);
    }

    /// There are no more lines of the last line's time.
    fn settle(&self) {
        if self.reader.progress.acknowledged() < self.last {
            self.reader.progress.open(self.last).done(1);
        }
    }
}

/// `2024-01-02T03:04:05.123456789Z text` into its two parts.
fn split_time(text: &str) -> Option<(Timestamp, &str)> {
    let (time, rest) = text.split_once(' ')?;
    let layout = model::gotime::Layout::named("RFC3339Nano")?;
    Some((layout.read(time, &model::gotime::Zone::utc()).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_front_of_a_line() {
        let (time, text) = split_time("2024-01-02T03:04:05.5Z hello world\n").unwrap();
        assert_eq!((time.to_string().as_str(), text), ("2024-01-02T03:04:05.5Z", "hello world\n"));
        assert!(split_time("nonsense").is_none());
    }
}
