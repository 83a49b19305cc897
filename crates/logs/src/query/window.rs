//! Windows: stretches of time of one stream that are read and evaluated independently of each other.
//!
//! All rows of a window, wherever they are, are read together. Where sources meet in time the same entry may be in two of them:
//! such a window is read whole, put into order and freed of duplicates. Others are taken as they are, column by column.

use std::collections::VecDeque;
use std::sync::Arc;

use model::Labels;

use crate::deletes::TenantMask;
use crate::query::plan::{Part, Runs, Source, StreamPlan};

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
    /// Whether the parts meet in time, so that entries may be there twice and must be compared whole.
    pub overlaps: bool,
    /// What is hidden of it, if anything is.
    pub mask: Option<Arc<TenantMask>>,
}

impl Window {
    /// The rows of a stream in a stretch of time; `None` if there is none.
    pub fn new(stream: &StreamPlan, first: i64, last: i64) -> Option<Self> {
        let (first, last) = (first.max(stream.first), last.min(stream.last));
        let (mut parts, mut bounds) = (Vec::new(), Vec::new());
        for source in &stream.sources {
            if let (Some(bound), Some(part)) = (source.bounds(first, last), source.part(first, last)) {
                parts.push(part);
                bounds.push(bound);
            }
        }
        if parts.is_empty() {
            return None;
        }
        let (rows, bytes) = size(&parts);
        let mask = stream.mask.clone().filter(|mask| mask.touches(&stream.labels, first, last));
        let labels = stream.labels.clone();
        Some(Self { labels, first, last, parts, rows, bytes, overlaps: meet(bounds), mask })
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
    cuts(&stream.sources, first, last, limit)
        .into_iter()
        .filter_map(|(first, last)| Window::new(stream, first, last))
        .collect()
}

/// Whether two of the intervals have an instant in common.
fn meet(mut bounds: Vec<(i64, i64)>) -> bool {
    bounds.sort_unstable();
    bounds.windows(2).any(|w| w[1].0 <= w[0].1)
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
fn cuts(sources: &[Source], first: i64, last: i64, limit: u64) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    if limit < u64::MAX {
        sources.iter().for_each(|source| pieces(source, first, last, limit, &mut found));
    }
    let bounds = sources.iter().filter_map(|source| source.bounds(first, last)).collect();
    // Blocks are read one after the other, so a window is of one of them if it can.
    let blocks = sources.iter().filter(|source| matches!(source, Source::Block(_)));
    let begins = blocks.filter_map(|source| source.bounds(first, last)).map(|(from, _)| from);
    let common = common(bounds);
    let meets = common.iter().flat_map(|(from, to)| [*from, to.saturating_add(1)]);
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

/// The stretches that two or more of the intervals cover, disjoint and ascending.
fn common(mut bounds: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    bounds.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::new();
    let mut reached = i64::MIN;
    for (from, to) in bounds {
        if from <= reached {
            let upto = to.min(reached);
            match out.last_mut() {
                Some(before) if from <= before.1.saturating_add(1) => before.1 = before.1.max(upto),
                _ => out.push((from, upto)),
            }
        }
        reached = reached.max(to);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_in_common() {
        let check = |bounds: &[(i64, i64)], expect: &[(i64, i64)]| {
            assert_eq!(common(bounds.to_vec()), expect, "{bounds:?}")
        };
        check(&[(0, 5), (6, 9)], &[]);
        check(&[(0, 5), (5, 9)], &[(5, 5)]);
        check(&[(0, 9), (2, 4), (3, 6)], &[(2, 6)]);
        check(&[(0, 3), (2, 9), (5, 6), (8, 12)], &[(2, 3), (5, 6), (8, 9)]);
        assert!(meet(vec![(0, 5), (5, 9)]) && !meet(vec![(6, 9), (0, 5)]));
    }
}
