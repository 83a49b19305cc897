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
            let parts: Vec<Part> = sources.iter().filter_map(|source| source.part(first, last)).collect();
            if !parts.is_empty() {
                let rows = parts.iter().map(Part::rows).sum();
                windows.push(Window { labels: labels.clone(), first, last, parts, rows });
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
    fn part(&self, first: i64, last: i64) -> Option<Part> {
        match self {
            Self::Block(block, stream) => {
                let rows = stream.rows_within(first, last);
                (!rows.is_empty()).then_some(Part::Block { block: *block, rows })
            }
            Self::Memory(chunk) => {
                let meets = chunk.entries.first() <= last && chunk.entries.last() >= first;
                meets.then(|| Part::Memory(chunk.clone()))
            }
        }
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

/// Cuts a range where pieces begin, so that each cut holds about `rows` rows.
fn cuts(sources: &[Source<'_>], first: i64, last: i64, rows: u64) -> Vec<(i64, i64)> {
    let mut pieces = Vec::new();
    sources.iter().for_each(|source| source.pieces(first, last, &mut pieces));
    pieces.sort_unstable();
    let (mut out, mut start, mut held) = (Vec::new(), first, 0);
    for (time, count) in pieces {
        if held >= rows && time > start {
            out.push((start, time - 1));
            (start, held) = (time, 0);
        }
        held += count;
    }
    out.push((start, last));
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
