//! `multiline`: lines that belong together become one entry.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use model::regex::Regex;
use model::{Labels, Timestamp};
use serde::{Deserialize, Serialize};
use service::config::{self, Value};

use super::compile::Compile;
use super::{Hold, Stage};
use crate::entry::{Entry, Tickets};

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
struct MultilineConfig {
    /// Matches the first line of a block.
    firstline: String,
    /// So long a block waits for its next line.
    max_wait_time: config::Duration,
    /// Lines of one block.
    max_lines: usize,
}

impl Default for MultilineConfig {
    fn default() -> Self {
        Self { firstline: String::new(), max_wait_time: config::Duration::from_secs(3), max_lines: 128 }
    }
}

/// Bytes of one block, and of all open ones: beyond it they are handed on.
const MAX_BYTES: usize = 4 << 20;
const MAX_ALL_BYTES: usize = 16 << 20;
/// A stream without a line for so long is forgotten.
const FORGET: Duration = Duration::from_secs(300);

struct Multiline {
    firstline: Regex,
    max_wait: Duration,
    max_lines: usize,
    /// Streams that have had a first line.
    streams: HashMap<Labels, Stream>,
    bytes: usize,
}

/// One stream's block. Its time and values are those of the last first line, also after the block was handed on.
struct Stream {
    block: Option<Entry>,
    lines: usize,
    timestamp: Timestamp,
    latest: Instant,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: MultilineConfig = compile.read(body)?;
    let firstline = compile.regex(body, "firstline", &config.firstline);
    if config.max_lines == 0 {
        return compile.problem(body, "max_lines", "must be at least 1");
    }
    if config.max_wait_time.is_zero() {
        return compile.problem(body, "max_wait_time", "must be more than 0");
    }
    Stage::hold(Multiline {
        firstline: firstline?,
        max_wait: config.max_wait_time.get(),
        max_lines: config.max_lines,
        streams: HashMap::new(),
        bytes: 0,
    })
}

impl Stream {
    /// Hands on the block, if there is one.
    fn emit(&mut self, bytes: &mut usize, out: &mut Vec<Entry>) {
        if let Some(block) = self.block.take() {
            *bytes -= block.line.len();
            out.push(block);
        }
        self.lines = 0;
    }

    /// Adds a line to the block, or begins one with it.
    fn add(&mut self, mut entry: Entry, bytes: &mut usize) {
        *bytes += entry.line.len();
        self.lines += 1;
        match &mut self.block {
            None => {
                entry.timestamp = self.timestamp;
                self.block = Some(entry);
            }
            Some(block) => {
                *bytes += 1;
                block.line.push('\n');
                block.line.push_str(&entry.line);
                block.tickets.join(std::mem::take::<Tickets>(&mut entry.tickets));
                for (name, value) in entry.metadata {
                    if !block.metadata.iter().any(|(n, _)| *n == name) {
                        block.metadata.push((name, value));
                    }
                }
            }
        }
    }
}

impl Hold for Multiline {
    fn take(&mut self, entry: Entry, now: Instant, out: &mut Vec<Entry>) {
        let Self { streams, bytes, .. } = self;
        let first = self.firstline.is_match(&entry.line);
        let stream = match streams.get_mut(&entry.labels) {
            Some(stream) => stream,
            // Lines before the first block begins pass as they are.
            None if !first => return out.push(entry),
            None => {
                let new = Stream { block: None, lines: 0, timestamp: entry.timestamp, latest: now };
                streams.entry(entry.labels.clone()).or_insert(new)
            }
        };
        if first {
            stream.emit(bytes, out);
            stream.timestamp = entry.timestamp;
        }
        stream.latest = now;
        stream.add(entry, bytes);
        let long = stream.block.as_ref().is_some_and(|block| block.line.len() > MAX_BYTES);
        if long || stream.lines >= self.max_lines {
            stream.emit(bytes, out);
        }
        if *bytes > MAX_ALL_BYTES {
            streams.values_mut().for_each(|stream| stream.emit(bytes, out));
        }
    }

    fn release(&mut self, now: Option<Instant>, out: &mut Vec<Entry>) {
        let (max_wait, bytes) = (self.max_wait, &mut self.bytes);
        self.streams.retain(|_, stream| {
            let quiet = now.map(|now| now.saturating_duration_since(stream.latest));
            if quiet.is_none_or(|quiet| quiet >= max_wait) {
                stream.emit(bytes, out);
            }
            quiet.is_none_or(|quiet| quiet < FORGET.max(max_wait))
        });
    }
}
