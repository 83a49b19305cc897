//! Takes windows apart in which sources meet in time.
//!
//! Only entries of the same instant can be there twice. So the times are read first; rows of instants that several sources hold are
//! compared whole, and all others, mostly all there are, are taken as if nothing met.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use service::Failure;

use crate::query::plan::Part;
use crate::query::read::BlockRows;
use crate::query::window::Window;
use crate::store::entries::Entries;
use crate::store::head::Chunk;

/// The rows of a window's parts that lie in it, and the times of those: pieces with their first row.
type Times = Vec<(u64, Entries)>;

/// Splits a window in which sources meet. `rows` holds the times of the blocks' rows, by number of the block.
pub(crate) fn split(window: Window, rows: &BTreeMap<usize, BlockRows>) -> Result<Vec<Window>, Failure> {
    let times: Vec<Times> = window.parts.iter().map(|part| times(&window, part, rows)).collect();
    let shared = shared(&times);
    if shared.is_empty() {
        return Ok(vec![Window { overlaps: false, ..window }]);
    }
    let mut alone = Vec::new();
    let mut met = Vec::new();
    for (part, times) in window.parts.iter().zip(&times) {
        let (one, other) = ranges(times, &shared);
        alone.extend(narrow(part, one));
        met.extend(narrow(part, other));
    }
    let of = |parts: Vec<Part>, overlaps: bool| {
        (!parts.is_empty()).then(|| Window { overlaps, ..window.clone().with_parts(parts) })
    };
    Ok(of(alone, false).into_iter().chain(of(met, true)).collect())
}

fn times(window: &Window, part: &Part, rows: &BTreeMap<usize, BlockRows>) -> Times {
    match part {
        Part::Memory(chunk) => {
            let times = chunk.entries.timestamps.values();
            let from = times.partition_point(|t| *t < window.first);
            let to = times.partition_point(|t| *t <= window.last).max(from);
            vec![(from as u64, chunk.entries.slice(from..to))]
        }
        Part::Block { block, rows: wanted, .. } => rows
            .get(block)
            .map(|read| {
                wanted.iter().flat_map(|range| read.within(range, window.first, window.last)).collect()
            })
            .unwrap_or_default(),
    }
}

/// Instants that several sources hold, ascending.
fn shared(sources: &[Times]) -> Vec<i64> {
    let mut all: Vec<i64> = Vec::new();
    for source in sources {
        let start = all.len();
        for time in source.iter().flat_map(|(_, entries)| entries.timestamps.values()) {
            if all.len() == start || all[all.len() - 1] != *time {
                all.push(*time);
            }
        }
    }
    // A merge of ascending runs.
    all.sort();
    let mut shared: Vec<i64> = all.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
    shared.dedup();
    shared
}

/// The rows whose instants are not shared, and those whose are.
fn ranges(times: &Times, shared: &[i64]) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let (mut alone, mut met) = (Vec::new(), Vec::new());
    let mut next = 0;
    for (first, entries) in times {
        for (row, time) in (*first..).zip(entries.timestamps.values()) {
            while shared.get(next).is_some_and(|t| t < time) {
                next += 1;
            }
            let list: &mut Vec<Range<u64>> =
                if shared.get(next) == Some(time) { &mut met } else { &mut alone };
            match list.last_mut() {
                Some(range) if range.end == row => range.end += 1,
                _ => list.push(row..row + 1),
            }
        }
    }
    (alone, met)
}

/// Some rows of a part.
fn narrow(part: &Part, ranges: Vec<Range<u64>>) -> Vec<Part> {
    match part {
        Part::Block { block, rows, bytes } => {
            let (all, narrowed) = (rows.rows().max(1), ranges.into_iter().collect::<block::RowRanges>());
            let bytes = (u128::from(*bytes) * u128::from(narrowed.rows()) / u128::from(all)) as u64;
            let part = Part::Block { block: *block, rows: narrowed.clone(), bytes };
            (!narrowed.is_empty()).then_some(part).into_iter().collect()
        }
        Part::Memory(chunk) => {
            let piece = |range: Range<u64>| {
                let entries = chunk.entries.slice(range.start as usize..range.end as usize);
                let line_bytes = entries.line_bytes();
                Part::Memory(Arc::new(Chunk { entries, line_bytes }))
            };
            ranges.into_iter().map(piece).collect()
        }
    }
}
