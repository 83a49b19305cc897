//! `cri`: lines of the container runtime interface, `<time> <stream> <flags> <content>`; partial ones are joined.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use model::Labels;
use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Value};

use super::compile::Compile;
use super::fudge::Fudge;
use super::label_cache::LabelCache;
use super::timestamp::read_rfc3339;
use super::{Hold, Stage};
use crate::entry::Entry;
use crate::extracted::Extract;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
struct CriConfig {
    /// Label sets that may have an open line; 0 means the default.
    max_partial_lines: usize,
    /// Bytes of a joined line; 0 means no bound of the user's own.
    max_partial_line_size: ByteSize,
    /// Cut lines longer than that.
    max_partial_line_size_truncate: bool,
}

impl Default for CriConfig {
    fn default() -> Self {
        Self {
            max_partial_lines: 100,
            max_partial_line_size: ByteSize(0),
            max_partial_line_size_truncate: false,
        }
    }
}

/// Bytes of one joined line, whatever is configured: beyond it the line is handed on in pieces.
const MAX_BYTES: usize = 4 << 20;
/// Bytes of all open lines: beyond it they are handed on as they are.
const MAX_ALL_BYTES: usize = 16 << 20;
/// The runtime writes the parts of a line at once; what is open for so long will not be continued.
const MAX_AGE: Duration = Duration::from_secs(10);

struct Cri {
    config: CriConfig,
    names: [Arc<str>; 4],
    labels: LabelCache,
    fudge: Fudge,
    open: HashMap<Labels, (Entry, Instant)>,
    bytes: usize,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let mut config: CriConfig = compile.read(body)?;
    if config.max_partial_lines == 0 {
        config.max_partial_lines = CriConfig::default().max_partial_lines;
    }
    Stage::hold(Cri {
        config,
        names: ["time", "stream", "flags", "content"].map(Into::into),
        labels: LabelCache::default(),
        fudge: Fudge::default(),
        open: HashMap::new(),
        bytes: 0,
    })
}

/// Time, stream, flags and content of a line.
fn split(line: &str) -> Option<[&str; 4]> {
    let (time, rest) = line.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    let (flags, content) = rest.split_once(' ')?;
    let word = |text: &str| !text.is_empty() && !text.contains(['\t', '\n', '\x0c', '\r']);
    let known = matches!(stream, "stdout" | "stderr") && word(time) && word(flags);
    known.then_some([time, stream, flags, content])
}

impl Cri {
    /// Takes the line apart; whether it is a part that others follow.
    fn open(&mut self, entry: &mut Entry) -> bool {
        let line = std::mem::take(&mut entry.line);
        let Some(parts) = split(&line) else {
            entry.line = line;
            self.fudge.apply(None, entry);
            return false;
        };
        let [time, stream, flags, content] = parts;
        for (name, value) in self.names.iter().zip(parts) {
            entry.extracted.set(name, Extract::Text(value));
        }
        self.labels.begin();
        self.labels.value(Some(stream));
        entry.labels = self.labels.apply(&entry.labels, |labels| {
            labels.set("stream", stream);
        });
        self.fudge.apply(read_rfc3339(time), entry);
        let partial = flags == "P";
        entry.line = content.to_owned();
        partial
    }

    fn cut(&self, line: &mut String) {
        let max = self.config.max_partial_line_size.as_usize();
        if max > 0 && self.config.max_partial_line_size_truncate && line.len() > max {
            line.truncate(line.floor_char_boundary(max));
        }
    }

    fn release_all(&mut self, out: &mut Vec<Entry>) {
        self.bytes = 0;
        out.extend(self.open.drain().map(|(_, (entry, _))| entry));
    }
}

impl Hold for Cri {
    fn take(&mut self, mut entry: Entry, now: Instant, out: &mut Vec<Entry>) {
        let partial = self.open(&mut entry);
        if partial && self.open.len() >= self.config.max_partial_lines {
            self.release_all(out);
        }
        if !self.open.is_empty()
            && let Some((before, _)) = self.open.remove(&entry.labels)
        {
            self.bytes -= before.line.len();
            // Parts are appended where the first ones lie, so that many of them cost no more than their bytes.
            let part = std::mem::replace(&mut entry.line, before.line);
            entry.line.push_str(&part);
            let mut tickets = before.tickets;
            tickets.join(std::mem::take(&mut entry.tickets));
            entry.tickets = tickets;
            self.cut(&mut entry.line);
        } else if partial {
            self.cut(&mut entry.line);
        }
        if !partial || entry.line.len() > MAX_BYTES {
            out.push(entry);
            return;
        }
        self.bytes += entry.line.len();
        self.open.insert(entry.labels.clone(), (entry, now));
        if self.bytes > MAX_ALL_BYTES {
            self.release_all(out);
        }
    }

    fn release(&mut self, now: Option<Instant>, out: &mut Vec<Entry>) {
        let due = |since: &Instant| now.is_none_or(|now| now.duration_since(*since) >= MAX_AGE);
        for (_, (entry, _)) in self.open.extract_if(|_, (_, since)| due(since)) {
            self.bytes -= entry.line.len();
            out.push(entry);
        }
    }
}
