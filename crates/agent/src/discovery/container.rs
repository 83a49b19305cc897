//! Reads one container over the engine's API, where its log file cannot be reached.
//!
//! Lines come with their times, and are known by them: [`LinePlace`](crate::positions::LinePlace) says how, [`super::numbering`] which of
//! them are new. So a line goes to the store under the same range whenever it is read, and one that was stored already is left out there.
//!
//! An engine that follows a container may stop at its end before it has sent the last lines (Docker before version 23 does). So
//! what follows the last line that was read is asked for once more, without following, and at once: a container with `--rm` is about
//! to be removed. While the store is away and nobody reads on, that is asked for as soon as the container has ended, for an engine that
//! has begun to answer has the files open.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use reqwest::Response;
use service::CancellationToken;
use tokio::time::Instant;

use super::engine::{Engine, Refused};
use super::frames::{Frames, Part};
use super::numbering::{Message, Numbered, Numbering};
use crate::dispatch::Dispatcher;
use crate::positions::Positions;
use crate::progress::Progress;
use crate::tail::{Line, Stream, StreamLabels};

/// How often stages that wait for more lines are asked.
const TICK: Duration = Duration::from_millis(250);
/// When nothing came for so long, the line after which to go on is not sought any longer.
const QUIET: Duration = Duration::from_secs(3);
/// Longer messages are cut into several.
const MAX_MESSAGE: usize = 1 << 20;

/// What follows one container.
pub(super) struct ApiReader {
    /// The engine.
    pub(super) engine: Engine,
    /// The container's id.
    pub(super) container: String,
    /// Index of the job.
    pub(super) job: usize,
    /// Labels of its lines.
    pub(super) labels: StreamLabels,
    /// Its offset is the position of a line.
    pub(super) progress: Arc<Progress>,
    /// Where that is kept.
    pub(super) positions: Arc<Positions>,
    /// The job's pipeline.
    pub(super) dispatcher: Dispatcher,
    /// Tells that the container has ended.
    pub(super) end: CancellationToken,
}

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The container has ended, and was read to its end.
    Complete,
    /// It runs.
    GoesOn,
    /// The engine, or the way to it, broke off.
    Broken,
    /// The engine does not keep its output.
    Unreadable,
}

impl ApiReader {
    /// Follows the container's output until it ends, or the engine goes away; returns the container's id.
    pub(super) async fn run(mut self) -> (String, Outcome) {
        let (positions, progress) = (self.positions.clone(), self.progress.clone());
        // Asked first: it may be gone in a moment.
        let first = self.engine.logs(&self.container, self.numbering().since(), true).await;
        // Before the first line is sent. If it cannot be done lines have no ranges.
        let _ = tokio::task::spawn_blocking(move || positions.bind(&progress)).await;
        let outcome = match first {
            Ok(output) => {
                tracing::info!(container = self.container, "reading container over the engine's API");
                self.drain(output).await
            }
            Err(error) => self.refusal(&error).await,
        };
        self.dispatcher.finish();
        (self.container, outcome)
    }

    /// What follows the last line that was read.
    fn numbering(&self) -> Numbering {
        let low = self.progress.source().map_or(0, |source| source.low());
        Numbering::new(self.progress.read(), low)
    }

    /// What it means that the engine does not give the output.
    async fn refusal(&mut self, error: &anyhow::Error) -> Outcome {
        let (container, text) = (self.container.clone(), format!("{error:#}"));
        if Refused::of(error).is_some_and(Refused::is_unsupported) {
            tracing::warn!(container, error = text, "container cannot be read over the engine's API");
            return Outcome::Unreadable;
        }
        let outcome = self.state().await;
        if outcome == Outcome::Complete {
            tracing::info!(container, error = text, "what a container printed last cannot be asked for");
        } else {
            tracing::debug!(container, error = text, "output broke off");
        }
        // It would say so again at once.
        if outcome == Outcome::GoesOn { Outcome::Broken } else { outcome }
    }

    /// Whether there may be more output, once the engine has ended it.
    async fn state(&mut self) -> Outcome {
        match self.engine.inspect(&self.container).await {
            Ok(details) if details.state.running => Outcome::GoesOn,
            Ok(_) => Outcome::Complete,
            Err(error) if Refused::of(&error).is_some_and(Refused::is_gone) => Outcome::Complete,
            Err(_) => Outcome::Broken,
        }
    }

    async fn drain(&mut self, output: Response) -> Outcome {
        let mut lines = Lines::new(self.numbering());
        let (engine, container, end) = (self.engine.clone(), self.container.clone(), self.end.clone());
        let since = {
            let (progress, low) = (self.progress.clone(), lines.numbering.low());
            move || Numbering::new(progress.read(), low).since()
        };
        let asked = async {
            end.cancelled().await;
            engine.logs(&container, since(), false).await
        };
        let mut asked = std::pin::pin!(asked);
        let mut rest = None;
        let ended = {
            let mut follow = std::pin::pin!(self.take_all(output, &mut lines));
            loop {
                tokio::select! {
                    ended = &mut follow => break ended,
                    answer = &mut asked, if rest.is_none() => rest = Some(answer),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(container, error = format!("{error:#}"), "output ended");
        }
        let rest = match rest {
            Some(Ok(rest)) => Ok(rest),
            _ => engine.logs(&container, since(), false).await,
        };
        let output = match rest {
            Ok(output) => output,
            Err(error) => {
                let outcome = self.refusal(&error).await;
                if outcome == Outcome::Complete {
                    self.finish(&mut lines).await;
                }
                return outcome;
            }
        };
        let mut lines = Lines::new(self.numbering());
        if let Err(error) = self.take_all(output, &mut lines).await {
            tracing::debug!(container, error = format!("{error:#}"), "output broke off");
            return Outcome::Broken;
        }
        let outcome = self.state().await;
        if outcome == Outcome::Complete {
            self.finish(&mut lines).await;
        }
        outcome
    }

    async fn take_all(&mut self, mut output: Response, lines: &mut Lines) -> Result<()> {
        let (mut frames, mut parts, mut new) = (Frames::new(), Vec::new(), Vec::new());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                bytes = output.chunk() => {
                    let Some(bytes) = bytes? else { return Ok(()) };
                    last = Instant::now();
                    frames.push(&bytes);
                    frames.cut(&mut parts);
                    for part in parts.drain(..) {
                        match part {
                            Ok(part) => lines.take(part, &mut new),
                            Err(_) => self.dispatcher.note_container_error(),
                        }
                    }
                }
                _ = ticks.tick() => {
                    self.dispatcher.tick();
                    if last.elapsed() >= QUIET {
                        lines.numbering.give_up(&mut new);
                    }
                }
            }
            self.hand_on(&mut new).await;
        }
    }

    /// There is no more: what waits is complete.
    async fn finish(&mut self, lines: &mut Lines) {
        let mut new = Vec::new();
        lines.end(&mut new);
        self.hand_on(&mut new).await;
    }

    async fn hand_on(&mut self, new: &mut Vec<Numbered>) {
        for Numbered { message, ranges, end } in new.drain(..) {
            while let Some(until) = self.dispatcher.pause(self.job) {
                tokio::time::sleep_until(until.into()).await;
            }
            self.dispatcher.room().await;
            let labels = match message.stream {
                Stream::Stdout => &self.labels.stdout,
                Stream::Stderr => &self.labels.stderr,
            };
            let ticket = self.progress.open(end);
            if let Some(labels) = labels {
                self.dispatcher.note_container_line();
                let (stream, time) = (Some(message.stream), Some(message.time));
                let line = Line { text: message.text, stream, time, ranges };
                self.dispatcher.dispatch(self.job, line, labels, Some(&ticket));
            }
            ticket.done(1);
        }
    }
}

/// Joins parts to messages and numbers them.
struct Lines {
    numbering: Numbering,
    /// The message of each output whose end has not come yet.
    partial: [Option<Part>; 2],
}

impl Lines {
    fn new(numbering: Numbering) -> Self {
        Self { numbering, partial: [None, None] }
    }

    /// Takes a part of a message, or a whole one.
    fn take(&mut self, part: Part, new: &mut Vec<Numbered>) {
        let Part { stream, time, text } = part;
        // Parts of one message carry the same time.
        if self.partial[stream as usize].as_ref().is_some_and(|partial| partial.time != time) {
            self.complete(stream, new);
        }
        let mut text = &text[..];
        loop {
            let slot = &mut self.partial[stream as usize];
            let partial = slot.get_or_insert_with(|| Part { stream, time, text: Vec::new() });
            let (now, rest) = text.split_at(text.len().min(MAX_MESSAGE - partial.text.len()));
            partial.text.extend_from_slice(now);
            text = rest;
            if partial.text.ends_with(b"\n") || partial.text.len() >= MAX_MESSAGE {
                self.complete(stream, new);
            }
            if text.is_empty() {
                return;
            }
        }
    }

    fn complete(&mut self, stream: Stream, new: &mut Vec<Numbered>) {
        let Some(Part { time, text, .. }) = self.partial[stream as usize].take() else { return };
        let text = String::from_utf8_lossy(without_line_end(&text)).into_owned();
        self.numbering.push(Message { stream, time, text }, new);
    }

    /// Nothing follows.
    fn end(&mut self, new: &mut Vec<Numbered>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.complete(stream, new);
        }
        self.numbering.give_up(new);
    }
}

/// Without `\r` and `\n` at the end.
fn without_line_end(text: &[u8]) -> &[u8] {
    let last = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    &text[..last.map_or(0, |last| last + 1)]
}

#[cfg(test)]
mod tests;
