//! Windows: stretches of time of one stream that are read and evaluated independently of each other.
//!
//! All rows of a window, wherever they are, are read together. Where sources meet in time the same entry may be in two of them:
//! such a window is read whole, put into order and freed of duplicates. Others are taken as they are, column by column.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use block::RowRanges;
use model::Labels;

use crate::deletes::TenantMask;
use crate::query::plan::{BlockSource, Part, Runs, Source, StreamPlan};

/// What a row weighs at least in bytes of its line: windows and tasks are bounded by rows, and by bytes where lines are long.
const ROW_BYTES: u64 = 512;

/// A stretch of time of one stream.
#[derive(Clone)]
pub struct Window {
    /// The stream.
    pub labels: Labels,
    /// First instant.
    pub first: i64,
    /// Last instant.
    pub last: i64,
    /// Where its rows may be, in order of arrival.
    pub parts: Vec<Part>,
    /// How many rows the parts have.
    pub rows: u64,
    /// Bytes of their lines, about.
    pub bytes: u64,
    /// Whether parts may share an instant, so that entries may be there twice and must be compared whole.
    pub overlaps: bool,
    /// What is hidden of it, if anything is.
    pub mask: Option<Arc<TenantMask>>,
    /// All rows of the parts lie in the window, and the query makes no difference between their times: none need be read.
    pub timeless: bool,
}

impl Window {
    /// The rows of a stream in a stretch of time; `None` if there is none.
    pub fn new(stream: &StreamPlan, first: i64, last: i64) -> Option<Self> {
        let (first, last) = (first.max(stream.first), last.min(stream.last));
        let parts: Vec<Part> = stream.sources.iter().filter_map(|source| source.part(first, last)).collect();
        if parts.is_empty() {
            return None;
        }
        let (rows, bytes) = size(&parts);
        let mask = stream.mask.clone().filter(|mask| mask.touches(&stream.labels, first, last));
        let labels = stream.labels.clone();
        let overlaps = !stream.meetings(first, last).is_empty();
        Some(Self { labels, first, last, parts, rows, bytes, overlaps, mask, timeless: false })
    }

    /// Whether all of its rows must be read with all columns: to tell entries apart, or to find those that are hidden.
    pub fn is_whole(&self) -> bool {
        self.overlaps || self.mask.is_some()
    }

    /// Number of the first block it has rows in, and the first of them; windows of heads alone come last.
    pub(crate) fn place(&self) -> (usize, u64) {
        let places = self.parts.iter().filter_map(|part| match part {
            Part::Block { block, rows, .. } => Some((*block, rows.iter().next()?.start)),
            Part::Memory(_) => None,
        });
        places.min().unwrap_or((usize::MAX, 0))
    }

    /// Given rows of one source of a stream, which no other source meets in the stretch.
    pub fn of_rows(stream: &StreamPlan, first: i64, last: i64, part: Part) -> Self {
        let ((rows, bytes), labels) = (part.size(), stream.labels.clone());
        Self {
            labels,
            first,
            last,
            parts: vec![part],
            rows,
            bytes,
            overlaps: false,
            mask: stream.mask.clone(),
            timeless: false,
        }
    }

    /// With other parts.
    pub(crate) fn with_parts(self, parts: Vec<Part>) -> Self {
        let (rows, bytes) = size(&parts);
        Self { parts, rows, bytes, ..self }
    }

    /// What it costs, in rows.
    pub fn weight(&self) -> u64 {
        weight(self.rows, self.bytes)
    }
}

impl Part {
    /// Rows, and bytes of their lines.
    fn size(&self) -> (u64, u64) {
        match self {
            Self::Block { rows, bytes, .. } => (rows.rows(), *bytes),
            Self::Memory(chunk) => (chunk.entries.len() as u64, chunk.line_bytes as u64),
        }
    }
}

fn size(parts: &[Part]) -> (u64, u64) {
    parts.iter().map(Part::size).fold((0, 0), |(all, sum), (rows, bytes)| (all + rows, sum + bytes))
}

/// What rows cost, in rows of ordinary length.
pub(crate) fn weight(rows: u64, bytes: u64) -> u64 {
    rows.max(bytes / ROW_BYTES)
}

/// The windows of a stream in `first..=last`, each of about `limit` by weight, ascending. Where sources begin or cease to meet in time
/// there is a cut: so only what they have in common, often a little at their ends, is compared whole.
pub fn windows(stream: &StreamPlan, first: i64, last: i64, limit: u64) -> Vec<Window> {
    let (first, last) = (first.max(stream.first), last.min(stream.last));
    if first > last {
        return Vec::new();
    }
    cuts(stream, first, last, limit)
        .into_iter()
        .filter_map(|(first, last)| Window::new(stream, first, last))
        .collect()
}

/// A stretch of time of a stream.
pub(crate) struct Stretch {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Whether its rows must be read: sources may share an instant, or some of it is hidden.
    pub(crate) is_whole: bool,
}

/// The stretches of `first..=last` in which a stream's sources may share an instant, and those between them.
pub(crate) fn stretches(stream: &StreamPlan, first: i64, last: i64) -> Vec<Stretch> {
    let (first, last) = (first.max(stream.first), last.min(stream.last));
    let hides =
        |first, last| stream.mask.as_ref().is_some_and(|mask| mask.touches(&stream.labels, first, last));
    let mut out = Vec::new();
    let mut add = |first: i64, last: i64, meets: bool| {
        if first <= last {
            out.push(Stretch { first, last, is_whole: meets || hides(first, last) });
        }
    };
    let mut next = first;
    for (from, to) in stream.meetings(first, last) {
        add(next, from.saturating_sub(1), false);
        add(from, to, true);
        next = to.saturating_add(1);
    }
    add(next, last, false);
    out
}

/// [`windows`] for a query to which all times of `first..=last` are one: rows of blocks that lie in it with all they hold of the stream
/// are cut by rows, not by times.
pub(crate) fn timeless(stream: &StreamPlan, first: i64, last: i64, limit: u64) -> Vec<Window> {
    let mut out = Vec::new();
    for stretch in stretches(stream, first, last) {
        let (from, to) = (stretch.first, stretch.last);
        if stretch.is_whole {
            out.extend(windows(stream, from, to, limit));
            continue;
        }
        for source in &stream.sources {
            let Some(bounds) = source.bounds(from, to) else { continue };
            match source {
                Source::Block(block) if from <= block.stream().first() && block.stream().last() <= to => {
                    out.extend(by_rows(stream, block, (first, last), limit));
                }
                _ => out.extend(windows(&stream.of_source(source), bounds.0, bounds.1, limit)),
            }
        }
    }
    out
}

/// All rows of a stream in a block, in windows of about `limit` by weight.
fn by_rows(stream: &StreamPlan, block: &BlockSource, (first, last): (i64, i64), limit: u64) -> Vec<Window> {
    let (mut out, mut ranges, mut bytes, mut held) = (Vec::new(), Vec::new(), 0, 0);
    let mut end = |ranges: &mut Vec<Range<u64>>, bytes: &mut u64| {
        let rows: RowRanges = std::mem::take(ranges).into_iter().collect();
        let part = Part::Block { block: block.number, rows, bytes: std::mem::take(bytes) };
        out.push(Window { timeless: true, ..Window::of_rows(stream, first, last, part) });
    };
    for (at, part) in block.parts(first, last) {
        let rows = block.stream().part_rows(at);
        held += weight(rows.end - rows.start, part.bytes);
        bytes += part.bytes;
        ranges.push(rows);
        if held >= limit {
            end(&mut ranges, &mut bytes);
            held = 0;
        }
    }
    if !ranges.is_empty() {
        end(&mut ranges, &mut bytes);
    }
    out
}

/// First time and weight of each piece of a source that meets the range: of granules, of runs where granules are too heavy.
fn pieces(source: &Source, first: i64, last: i64, limit: u64, out: &mut Vec<(i64, u64)>) {
    match source {
        Source::Memory(chunk) => {
            out.push((chunk.entries.first(), weight(chunk.entries.len() as u64, chunk.line_bytes as u64)));
        }
        Source::Block(block) => {
            let rows = |at: usize| block.stream().part_rows(at);
            let size = |at: usize| weight(rows(at).end - rows(at).start, block.stream().parts[at].bytes);
            if block.parts(first, last).any(|(at, _)| size(at) > limit) {
                let runs = Runs::new(source, first, last, false);
                out.extend(
                    runs.map(|(run, bytes)| (run.first, weight(run.rows.end - run.rows.start, bytes))),
                );
            } else {
                out.extend(block.parts(first, last).map(|(at, part)| (part.first, size(at))));
            }
        }
    }
}

/// Cuts a range into stretches of about `limit` by weight, where blocks begin, and where sources begin or cease to meet in time.
fn cuts(stream: &StreamPlan, first: i64, last: i64, limit: u64) -> Vec<(i64, i64)> {
    let (sources, mut found) = (&stream.sources, Vec::new());
    sources.iter().for_each(|source| pieces(source, first, last, limit, &mut found));
    // Blocks are read one after the other, so a window is of one of them if it can.
    let blocks = sources.iter().filter(|source| matches!(source, Source::Block(_)));
    let begins = blocks.filter_map(|source| source.bounds(first, last)).map(|(from, _)| from);
    let meetings = stream.meetings(first, last);
    let meets = meetings.iter().flat_map(|(from, to)| [*from, to.saturating_add(1)]);
    // Of equal times a forced cut comes first.
    let forced = begins.chain(meets).map(|time| (time, 0, true));
    let mut pieces: Vec<(i64, u64, bool)> =
        found.into_iter().map(|(time, weight)| (time, weight, false)).collect();
    pieces.extend(forced);
    pieces.sort_unstable_by_key(|(time, _, forced)| (*time, !forced));
    let (mut out, mut start, mut held) = (Vec::new(), first, 0);
    for (time, weight, forced) in pieces {
        if (held >= limit || forced) && time > start && time <= last {
            out.push((start, time - 1));
            (start, held) = (time, 0);
        }
        held += weight;
    }
    out.push((start, last));
    out
}

/// Takes windows off the front until they weigh `limit`.
pub fn take(windows: &mut VecDeque<Window>, limit: u64) -> Vec<Window> {
    let (mut taken, mut held) = (Vec::new(), 0);
    while held < limit {
        let Some(window) = windows.pop_front() else { break };
        held += window.weight();
        taken.push(window);
    }
    taken
}
