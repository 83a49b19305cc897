//! Line filters over shredded lines: shapes, dictionaries and values are searched, lines are put together only to make sure.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, StringArray};
use hashbrown::HashMap;
use memchr::memmem;
use shred::{FieldId, Form, Gap, ShreddedLines, Source, Table, Values};

use super::Tri;
use super::cells::{gap_text, is_read};
use super::decide::known_field;
use super::occurs::{Condition, Occurs, holders, occurs, rest_holds};

/// What a search has found out that other batches can use.
#[derive(Debug, Clone, Default)]
pub(crate) struct SearchState {
    /// The table that `shapes` is of.
    table: Option<Arc<Table>>,
    /// By shape; `None` if not asked yet.
    shapes: Vec<Option<Arc<Occurs>>>,
    /// By field: whether a value can hold the text.
    holders: Vec<bool>,
    /// By field: the dictionary searched last, and which of its entries hold the text.
    dictionaries: HashMap<u32, (ArrayRef, Vec<bool>)>,
}

impl SearchState {
    fn occurs(
        &mut self,
        lines: &ShreddedLines,
        shape: usize,
        finder: &memmem::Finder<'_>,
    ) -> Option<&Occurs> {
        let found = self.shapes.get_mut(shape)?;
        let shape = lines.table.shapes.get(shape)?;
        Some(found.get_or_insert_with(|| Arc::new(occurs(&lines.table, shape, finder))))
    }
}

/// Which of the rows (ascending) hold the text. [`Tri::Odd`] where the line would have to be put together and cannot, because
/// not all of its values were read.
pub(crate) fn contains(
    finder: &memmem::Finder<'_>,
    lines: &ShreddedLines,
    rows: &[u32],
    state: &mut SearchState,
) -> Vec<Tri> {
    let needle = std::str::from_utf8(finder.needle()).unwrap_or_default();
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { return Vec::new() };
    if needle.is_empty() {
        return vec![Tri::Pass; rows.len()];
    }
    if !state.table.as_ref().is_some_and(|table| Arc::ptr_eq(table, &lines.table)) {
        state.table = Some(lines.table.clone());
        state.shapes = vec![None; lines.table.shapes.len()];
        state.holders = holders(&lines.table, needle);
    }
    let base = first as usize;
    let mut marks = vec![Tri::Drop; last as usize - base + 1];
    for (at, values) in lines.fields.iter().enumerate() {
        let Some(values) = values.as_ref().filter(|_| state.holders.get(at) == Some(&true)) else { continue };
        match values {
            Values::Dictionary(array) => {
                let (dictionary, hits) = state
                    .dictionaries
                    .entry(at as u32)
                    .or_insert_with(|| (array.values().clone(), Vec::new()));
                if hits.is_empty() || !Arc::ptr_eq(dictionary, array.values()) {
                    let entries = array.values().as_string::<i32>();
                    *hits = vec![false; entries.len()];
                    each_hit(finder, entries, 0, entries.len(), |entry| hits[entry] = true);
                    *dictionary = array.values().clone();
                }
                if hits.iter().any(|hit| *hit) {
                    let keys = array.keys();
                    for (row, mark) in (base..).zip(&mut marks) {
                        if keys.is_valid(row) && hits[keys.value(row) as usize] {
                            *mark = Tri::Pass;
                        }
                    }
                }
            }
            Values::Text(array) => {
                each_hit(finder, array, base, last as usize + 1, |row| marks[row - base] = Tri::Pass);
            }
            Values::Hex(array) => {
                let gap = Gap { source: Source::Field(FieldId(at as u32)), form: Form::Plain };
                let mut text = String::new();
                for (row, mark) in (base..).zip(&mut marks).filter(|(row, _)| array.is_valid(*row)) {
                    text.clear();
                    lines.append_value(row, gap, &mut text);
                    if finder.find(text.as_bytes()).is_some() {
                        *mark = Tri::Pass;
                    }
                }
            }
            // Among the conditions of shapes.
            Values::Integer(_) => {}
        }
    }
    if let Some(rest) = &lines.rest {
        let (offsets, values) = (rest.value_offsets(), rest.values().as_string::<i32>());
        let (from, to) = (offsets[base] as usize, offsets[last as usize + 1] as usize);
        let mut row = base;
        each_hit(finder, values, from, to, |value| {
            while offsets[row + 1] as usize <= value {
                row += 1;
            }
            marks[row - base] = Tri::Pass;
        });
    }
    if let Some(raw) = &lines.raw {
        each_hit(finder, raw, base, last as usize + 1, |row| marks[row - base] = Tri::Pass);
    }
    // Shapes with a value that can hold the text and was not read are blind.
    let holders = state.holders.clone();
    let unread = |gap: &Gap| match gap.source {
        Source::Field(field) => {
            holders.get(field.0 as usize) == Some(&true)
                && lines.fields.get(field.0 as usize).is_none_or(Option::is_none)
        }
        Source::Rest(_) => false,
    };
    let mut verdicts: Vec<Option<Verdict>> = vec![None; lines.table.shapes.len()];
    let verdict = |shape: usize, state: &mut SearchState| {
        let of = lines.table.shapes.get(shape)?;
        Some(match state.occurs(lines, shape, finder) {
            Some(Occurs::Always) => Verdict::Sure(Tri::Pass),
            _ if of.gaps.iter().any(unread) || lines.rest.is_none() && rest_holds(of, needle) => {
                Verdict::Sure(Tri::Odd)
            }
            None | Some(Occurs::Never) => Verdict::Sure(Tri::Drop),
            Some(Occurs::Perhaps) => Verdict::Search,
            Some(Occurs::If(_)) => Verdict::Ask,
        })
    };
    let unshaped = if lines.raw.is_some() { Tri::Drop } else { Tri::Odd };
    let mut text = String::new();
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let at = *row as usize;
        if marks[at - base] == Tri::Pass {
            found.push(Tri::Pass);
            continue;
        }
        if lines.shapes.is_null(at) {
            found.push(unshaped);
            continue;
        }
        let shape = lines.shapes.value(at) as usize;
        let known = match verdicts.get(shape) {
            Some(Some(known)) => *known,
            Some(None) => {
                let known = verdict(shape, state).unwrap_or(Verdict::Sure(Tri::Drop));
                verdicts[shape] = Some(known);
                known
            }
            None => Verdict::Sure(Tri::Drop),
        };
        let tri = match known {
            Verdict::Sure(tri) => tri,
            Verdict::Search => Tri::Odd,
            Verdict::Ask => ask(state.shapes[shape].as_deref(), lines, shape, at, &mut text),
        };
        found.push(match (tri, known) {
            (Tri::Odd, Verdict::Search | Verdict::Ask) => {
                test_line(lines, *row, &mut text, |line| finder.find(line.as_bytes()).is_some())
            }
            (tri, _) => tri,
        });
    }
    found
}

/// What the shape of a row says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Sure(Tri),
    /// The line must be searched.
    Search,
    /// The conditions must be asked.
    Ask,
}

/// Whether one of the conditions holds; [`Tri::Odd`] if the line must be searched to know, or if too little was read.
fn ask(occurs: Option<&Occurs>, lines: &ShreddedLines, shape: usize, row: usize, text: &mut String) -> Tri {
    let Some(Occurs::If(conditions)) = occurs else { return Tri::Odd };
    let mut answer = Tri::Drop;
    for condition in conditions {
        // Nothing is known of what was not read.
        if known_field(lines, lines.table.shapes[shape].gaps[condition.gap]).is_none() {
            return Tri::Odd;
        }
        if holds(condition, lines, shape, row, text) {
            if !condition.verify {
                return Tri::Pass;
            }
            answer = Tri::Odd;
        }
    }
    answer
}

/// Tests the whole line of a row, if all of it was read.
pub(crate) fn test_line(
    lines: &ShreddedLines,
    row: u32,
    buffer: &mut String,
    test: impl FnOnce(&str) -> bool,
) -> Tri {
    let row = row as usize;
    let passes = match lines.shape(row) {
        None => match &lines.raw {
            Some(raw) if raw.is_valid(row) => test(raw.value(row)),
            _ => return Tri::Odd,
        },
        Some(shape) if is_read(lines, shape) => {
            buffer.clear();
            lines.line(row, buffer);
            test(buffer)
        }
        Some(_) => return Tri::Odd,
    };
    if passes { Tri::Pass } else { Tri::Drop }
}

fn holds(
    condition: &Condition,
    lines: &ShreddedLines,
    shape: usize,
    row: usize,
    buffer: &mut String,
) -> bool {
    let gap = lines.table.shapes[shape].gaps[condition.gap];
    let Some(value) = gap_text(lines, gap, row, buffer) else { return false };
    condition.how.holds(value, &condition.text)
}

/// Calls `hit` for each value among `from..to` that holds the text, ascending, once each. One search runs over all of them.
fn each_hit(
    finder: &memmem::Finder<'_>,
    values: &StringArray,
    from: usize,
    to: usize,
    mut hit: impl FnMut(usize),
) {
    let (offsets, text) = (values.value_offsets(), values.value_data());
    if from >= to {
        return;
    }
    let end = offsets[to] as usize;
    let (mut at, mut next) = (offsets[from] as usize, from);
    while let Some(found) = text.get(at..end).and_then(|text| finder.find(text)) {
        let start = at + found;
        // The value the hit begins in; few values lie between two hits, or very many.
        let near = offsets[next + 1..=to].iter().take(8).position(|stop| *stop as usize > start);
        next += match near {
            Some(near) => near,
            None => offsets[next + 1..=to].partition_point(|stop| *stop as usize <= start),
        };
        if next >= to {
            return;
        }
        let stop = offsets[next + 1] as usize;
        if start + finder.needle().len() <= stop {
            if values.is_valid(next) {
                hit(next);
            }
            at = stop;
            next += 1;
            if next >= to {
                return;
            }
        } else {
            // Across a border.
            at = start + 1;
        }
    }
}

/// Keeps the rows of a column of texts that hold the text.
pub(crate) fn retain_containing(finder: &memmem::Finder<'_>, lines: &StringArray, rows: &mut Vec<u32>) {
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { return };
    let (mut next, mut kept) = (0, 0);
    each_hit(finder, lines, first as usize, last as usize + 1, |hit| {
        while next < rows.len() && (rows[next] as usize) < hit {
            next += 1;
        }
        if next < rows.len() && rows[next] as usize == hit {
            rows[kept] = rows[next];
            kept += 1;
            next += 1;
        }
    });
    rows.truncate(kept);
}
