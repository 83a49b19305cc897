//! Which rows a query reads, in pieces that can be read and evaluated independently.
//!
//! The range of each matching stream is cut into windows of time of a bounded number of rows. All rows of a window, wherever they
//! are, are read together, put into order and freed of duplicates; so windows need nothing of each other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::ArrowError;
use model::{Labels, Matcher};

use crate::query::view::View;
use crate::store::head::Chunk;
use crate::store::index::IndexStream;

/// A stretch of time of one stream.
#[derive(Debug, Clone)]
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
    /// Whether the parts meet in time, so that entries may be there twice and must be compared whole.
    pub overlaps: bool,
}

/// A place with rows of a window, and maybe with others around them.
#[derive(Debug, Clone)]
pub enum Part {
    /// Rows of a block, by its place in the view.
    Block {
        /// The block.
        block: usize,
        /// The rows.
        rows: Range<u64>,
    },
    /// A chunk of a head.
    Memory(Arc<Chunk>),
}

/// A stream's rows in one block or chunk.
enum Source<'a> {
    Block(usize, &'a IndexStream),
    Memory(Arc<Chunk>),
}

/// The windows of all matching streams in `first..=last`, each of about `window_rows` rows; stream by stream, ascending.
pub fn windows(
    view: &View,
    matchers: &[Matcher],
    first: i64,
    last: i64,
    window_rows: u64,
) -> Result<Vec<Window>, ArrowError> {
    let mut streams: BTreeMap<Labels, Vec<Source<'_>>> = BTreeMap::new();
    for (at, block) in view.blocks.iter().enumerate() {
        for (_, stream) in block.index().select(matchers, first, last) {
            streams.entry(stream.labels.clone()).or_default().push(Source::Block(at, stream));
        }
    }
    for head in &view.heads {
        for selection in head.select(matchers, first, last)? {
            let sources = streams.entry(selection.labels).or_default();
            sources.extend(selection.chunks.into_iter().map(Source::Memory));
        }
    }
    let mut windows = Vec::new();
    for (labels, sources) in streams {
        for (first, last) in cuts(&sources, first, last, window_rows) {
            let (mut parts, mut bounds) = (Vec::new(), Vec::new());
            for (part, bound) in sources.iter().filter_map(|source| source.part(first, last)) {
                parts.push(part);
                bounds.push(bound);
            }
            if !parts.is_empty() {
                let rows = parts.iter().map(Part::rows).sum();
                let overlaps = meet(bounds);
                windows.push(Window { labels: labels.clone(), first, last, parts, rows, overlaps });
            }
        }
    }
    Ok(windows)
}

impl Part {
    fn rows(&self) -> u64 {
        match self {
            Self::Block { rows, .. } => rows.end - rows.start,
            Self::Memory(chunk) => chunk.entries.len() as u64,
        }
    }
}

impl Source<'_> {
    /// The rows that may lie in a window, and between which times they do.
    fn part(&self, first: i64, last: i64) -> Option<(Part, (i64, i64))> {
        let (part, from, to) = match self {
            Self::Block(block, stream) => {
                let rows = stream.rows_within(first, last);
                let mut parts = stream.parts.iter().filter(|p| p.first <= last && p.last >= first);
                let from = parts.next()?;
                let to = parts.next_back().unwrap_or(from);
                (Part::Block { block: *block, rows }, from.first, to.last)
            }
            Self::Memory(chunk) => {
                let (from, to) = (chunk.entries.first(), chunk.entries.last());
                if from > last || to < first {
                    return None;
                }
                (Part::Memory(chunk.clone()), from, to)
            }
        };
        Some((part, (from.max(first), to.min(last))))
    }

    /// First time and number of rows of each piece that meets the range.
    fn pieces(&self, first: i64, last: i64, out: &mut Vec<(i64, u64)>) {
        match self {
            Self::Block(_, stream) => {
                let parts = stream.parts().filter(|(_, p)| p.first <= last && p.last >= first);
                out.extend(parts.map(|(rows, part)| (part.first, rows.end - rows.start)));
            }
            Self::Memory(chunk) => out.push((chunk.entries.first(), chunk.entries.len() as u64)),
        }
    }
}

/// Whether two of the intervals have an instant in common.
fn meet(mut bounds: Vec<(i64, i64)>) -> bool {
    bounds.sort_unstable();
    bounds.windows(2).any(|w| w[1].0 <= w[0].1)
}

/// Cuts a range into pieces of about `rows` rows, and where sources begin or cease to meet in time: so only what they have in
/// common, often a little at their ends, is compared whole.
fn cuts(sources: &[Source<'_>], first: i64, last: i64, rows: u64) -> Vec<(i64, i64)> {
    let mut pieces = Vec::new();
    sources.iter().for_each(|source| source.pieces(first, last, &mut pieces));
    let bounds =
        sources.iter().filter_map(|source| source.part(first, last)).map(|(_, bounds)| bounds).collect();
    let common = common(bounds);
    // Of equal times a forced cut comes first.
    let forced =
        common.iter().flat_map(|(from, to)| [*from, to.saturating_add(1)]).map(|time| (time, 0, true));
    let mut pieces: Vec<(i64, u64, bool)> =
        pieces.into_iter().map(|(time, count)| (time, count, false)).collect();
    pieces.extend(forced);
    pieces.sort_unstable_by_key(|(time, _, forced)| (*time, !forced));
    let (mut out, mut start, mut held) = (Vec::new(), first, 0);
    for (time, count, forced) in pieces {
        if (held >= rows || forced) && time > start && time <= last {
            out.push((start, time - 1));
            (start, held) = (time, 0);
        }
        held += count;
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

/// Takes windows off the front until they have `rows` rows.
pub fn take(windows: &mut std::collections::VecDeque<Window>, rows: u64) -> Vec<Window> {
    let (mut taken, mut held) = (Vec::new(), 0);
    while held < rows {
        let Some(window) = windows.pop_front() else { break };
        held += window.rows;
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
