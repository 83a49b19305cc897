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
use crate::extracted::Extracted;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
struct MultilineConfig {
    /// Matches the first line of a block.
    firstline: String,
    /// So long a block waits for its next line.
    max_wait_time: config::Duration,
    /// Lines of one block; 0 means any number.
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
/// Bytes of values that are remembered for the rest of a block that was handed on.
const MAX_VALUES: usize = 4096;
/// A stream without a line for so long is forgotten.
const FORGET: Duration = Duration::from_secs(300);
/// Streams that are remembered; beyond it those without an open block are forgotten, or all if they are few.
const MAX_STREAMS: usize = 10_000;

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
    /// The values, where a block was handed on that may go on.
    values: Extracted,
    latest: Instant,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: MultilineConfig = compile.read(body)?;
    let firstline = compile.regex(body, "firstline", &config.firstline);
    Stage::hold(Multiline {
        firstline: firstline?,
        max_wait: config.max_wait_time.get(),
        // None counts without a bound; bytes have theirs.
        max_lines: if config.max_lines == 0 { usize::MAX } else { config.max_lines },
        streams: HashMap::new(),
        bytes: 0,
    })
}

impl Stream {
    fn new(first: &Entry, now: Instant) -> Self {
        let (timestamp, values) = (first.timestamp, Extracted::default());
        Self { block: None, lines: 0, timestamp, values, latest: now }
    }

    /// Hands on the block, if there is one; lines that follow are of another.
    fn end(&mut self, bytes: &mut usize, out: &mut Vec<Entry>) {
        if let Some(block) = self.block.take() {
            *bytes -= block.line.len();
            out.push(block);
        }
        self.lines = 0;
    }

    /// Hands on the block, if there is one; lines that follow go on with it.
    fn cut(&mut self, bytes: &mut usize, out: &mut Vec<Entry>) {
        if let Some(block) = &self.block {
            let few = block.extracted.text_bytes() <= MAX_VALUES;
            self.values = if few { block.extracted.clone() } else { Extracted::default() };
        }
        self.end(bytes, out);
    }

    /// Adds a line to the block, or begins one with it.
    fn add(&mut self, mut entry: Entry, is_first: bool, bytes: &mut usize) {
        *bytes += entry.line.len();
        self.lines += 1;
        match &mut self.block {
            None => {
                if is_first {
                    self.timestamp = entry.timestamp;
                } else {
                    entry.timestamp = self.timestamp;
                    entry.extracted.clone_from(&self.values);
                }
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

impl Multiline {
    /// Makes room for another stream.
    fn forget(&mut self, out: &mut Vec<Entry>) {
        let keep = self.streams.values().filter(|stream| stream.block.is_some()).count() <= MAX_STREAMS / 2;
        let bytes = &mut self.bytes;
        self.streams.retain(|_, stream| {
            if !keep {
                stream.end(bytes, out);
            }
            stream.block.is_some()
        });
    }
}

impl Hold for Multiline {
    fn take(&mut self, entry: Entry, now: Instant, out: &mut Vec<Entry>) {
        let is_first = self.firstline.is_match(&entry.line);
        if !self.streams.contains_key(&entry.labels) {
            // Lines before the first block begins pass as they are.
            if !is_first {
                return out.push(entry);
            }
            if self.streams.len() >= MAX_STREAMS {
                self.forget(out);
            }
        }
        let Self { streams, bytes, max_lines, .. } = self;
        let stream = streams.entry_ref(&entry.labels).or_insert_with(|| Stream::new(&entry, now));
        if is_first {
            stream.end(bytes, out);
        }
        stream.latest = now;
        stream.add(entry, is_first, bytes);
        let long = stream.block.as_ref().is_some_and(|block| block.line.len() > MAX_BYTES);
        if long || stream.lines >= *max_lines {
            stream.cut(bytes, out);
        }
        if *bytes > MAX_ALL_BYTES {
            streams.values_mut().for_each(|stream| stream.cut(bytes, out));
        }
    }

    fn release(&mut self, now: Option<Instant>, out: &mut Vec<Entry>) {
        let (max_wait, bytes) = (self.max_wait, &mut self.bytes);
        self.streams.retain(|_, stream| {
            let quiet = now.map(|now| now.saturating_duration_since(stream.latest));
            if quiet.is_none_or(|quiet| quiet >= max_wait) {
                stream.cut(bytes, out);
            }
            quiet.is_none_or(|quiet| quiet < FORGET.max(max_wait))
        });
    }
}
