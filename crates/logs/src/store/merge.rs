//! Puts entries of one stream into time order and drops duplicates.
//!
//! An entry is a duplicate if time, line and structured metadata are equal; of several the first to arrive stays. Entries of
//! equal time keep their order of arrival: the order of the pieces, then of the rows.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, MapArray, StringArray};
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;
use hashbrown::HashMap;
use logql::Metadata;
use shred::Lines;
use xxhash_rust::xxh3::Xxh3Default;

use crate::store::entries::{Entries, map_builder, relayout, rest_pairs};

/// Merges pieces (in order of arrival, each in any order of time) into one ascending piece without duplicates.
pub fn merge(mut pieces: Vec<Entries>) -> Result<Entries, ArrowError> {
    if pieces.iter().any(|p| p.lines.len() != p.len()) {
        return Err(ArrowError::InvalidArgumentError("rows are merged without their lines".to_owned()));
    }
    if pieces.len() == 1 && strictly_ascending(&pieces[0]) {
        return Ok(pieces.remove(0));
    }
    for piece in &mut pieces {
        if let Lines::Shredded(lines) = &piece.lines {
            piece.lines = Lines::Text(lines.to_text());
        }
    }
    align(&mut pieces);
    let mut order: Vec<(i64, u32, u32)> = Vec::with_capacity(pieces.iter().map(Entries::len).sum());
    for (piece, entries) in pieces.iter().enumerate() {
        order.extend(
            entries.timestamps.values().iter().enumerate().map(|(row, t)| (*t, piece as u32, row as u32)),
        );
    }
    order.sort_unstable();
    drop_duplicates(&pieces, &mut order);
    take(&pieces, &order)
}

fn strictly_ascending(entries: &Entries) -> bool {
    entries.timestamps.values().windows(2).all(|w| w[0] < w[1])
}

/// Gives all pieces the same metadata columns.
fn align(pieces: &mut [Entries]) {
    let mut names: Vec<Arc<str>> = Vec::new();
    for name in pieces.iter().flat_map(|p| p.metadata.columns.iter().map(|(n, _)| n)) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    for piece in pieces {
        piece.metadata = relayout(&piece.metadata, piece.len(), &names);
    }
}

fn drop_duplicates(pieces: &[Entries], order: &mut Vec<(i64, u32, u32)>) {
    if order.windows(2).all(|w| w[0].0 != w[1].0) {
        return;
    }
    let mut seen: HashMap<u64, Vec<(u32, u32)>> = HashMap::new();
    let mut time = None;
    let mut keep = Vec::with_capacity(order.len());
    for (i, &(t, piece, row)) in order.iter().enumerate() {
        let alone = order.get(i + 1).is_none_or(|next| next.0 != t) && (i == 0 || order[i - 1].0 != t);
        if alone {
            keep.push(order[i]);
            continue;
        }
        if time != Some(t) {
            seen.clear();
            time = Some(t);
        }
        let same = seen.entry(fingerprint(&pieces[piece as usize], row as usize)).or_default();
        let here = (&pieces[piece as usize], row as usize);
        if !same.iter().any(|&(p, r)| equal(here, (&pieces[p as usize], r as usize))) {
            same.push((piece, row));
            keep.push(order[i]);
        }
    }
    *order = keep;
}

fn fingerprint(entries: &Entries, row: usize) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(line(entries, row).as_bytes());
    for (_, values) in &entries.metadata.columns {
        if values.is_valid(row) {
            hash.update(values.value(row).as_bytes());
        }
        hash.update(&[0xff]);
    }
    hash.digest()
}

/// The line of a row of a piece whose lines are texts.
fn line(entries: &Entries, row: usize) -> &str {
    entries.lines.text().map_or("", |lines| lines.value(row))
}

/// Whether two rows of aligned pieces hold the same line and metadata.
fn equal((a, i): (&Entries, usize), (b, j): (&Entries, usize)) -> bool {
    let value = |values: &StringArray, row: usize| values.is_valid(row).then(|| values.value(row).to_owned());
    line(a, i) == line(b, j)
        && a.metadata
            .columns
            .iter()
            .zip(&b.metadata.columns)
            .all(|((_, x), (_, y))| value(x, i) == value(y, j))
        && rest(a, i) == rest(b, j)
}

fn rest(entries: &Entries, row: usize) -> Vec<(&str, &str)> {
    let mut pairs: Vec<_> = entries.metadata.rest.iter().flat_map(|rest| rest_pairs(rest, row)).collect();
    pairs.sort_unstable();
    pairs
}

fn take(pieces: &[Entries], order: &[(i64, u32, u32)]) -> Result<Entries, ArrowError> {
    let rows: Vec<(usize, usize)> =
        order.iter().map(|&(_, piece, row)| (piece as usize, row as usize)).collect();
    let strings =
        |arrays: Vec<&dyn Array>| interleave(&arrays, &rows).map(|array| StringArray::from(array.to_data()));
    let lines = pieces.iter().filter_map(|p| p.lines.text());
    let lines = Lines::Text(strings(lines.map(|lines| lines as &dyn Array).collect())?);
    let names = pieces.first().map(|p| p.metadata.columns.as_slice()).unwrap_or_default();
    let columns = names.iter().enumerate().map(|(i, (name, _))| {
        let values = strings(pieces.iter().map(|p| &p.metadata.columns[i].1 as &dyn Array).collect())?;
        Ok::<_, ArrowError>((name.clone(), values))
    });
    let columns = columns.collect::<Result<_, _>>()?;
    let rest = match pieces.iter().any(|p| p.metadata.rest.is_some()) {
        false => None,
        true => {
            let empty: Vec<Option<MapArray>> = pieces
                .iter()
                .map(|p| p.metadata.rest.is_none().then(|| empty_maps(p.len())).transpose())
                .collect::<Result<_, _>>()?;
            let maps = pieces.iter().zip(&empty).filter_map(|(p, e)| p.metadata.rest.as_ref().or(e.as_ref()));
            let array: ArrayRef = interleave(&maps.map(|m| m as &dyn Array).collect::<Vec<_>>(), &rows)?;
            Some(MapArray::from(array.to_data()))
        }
    };
    let timestamps = order.iter().map(|o| o.0).collect::<Vec<_>>().into();
    Ok(Entries { timestamps, lines, metadata: Metadata { columns, rest } })
}

/// A map column in which every row is empty.
pub(crate) fn empty_maps(rows: usize) -> Result<MapArray, ArrowError> {
    let mut map = map_builder();
    (0..rows).try_for_each(|_| map.append(true))?;
    Ok(map.finish())
}

/// Brings sources into order: each is a list of ascending pieces without duplicates, in itself and among them. Sources that
/// do not meet in time are taken as they are; those that do are merged, for which their lines and all metadata must be there.
pub fn merge_overlaps(mut sources: Vec<Vec<Entries>>) -> Result<Vec<Entries>, ArrowError> {
    sources.iter_mut().for_each(|pieces| pieces.retain(|p| !p.is_empty()));
    // Arrival is kept beside each source: where sources are merged it decides the order of equal times.
    let mut sources: Vec<(usize, Vec<Entries>)> =
        sources.into_iter().enumerate().filter(|(_, s)| !s.is_empty()).collect();
    sources.sort_by_key(|(_, pieces)| pieces[0].first());
    let mut out = Vec::new();
    let mut group: Vec<(usize, Vec<Entries>)> = Vec::new();
    let mut end = i64::MIN;
    for (arrival, pieces) in sources {
        if !group.is_empty() && pieces[0].first() > end {
            merge_group(&mut group, &mut out)?;
            end = i64::MIN;
        }
        end = end.max(pieces[pieces.len() - 1].last());
        group.push((arrival, pieces));
    }
    merge_group(&mut group, &mut out)?;
    Ok(out)
}

fn merge_group(group: &mut Vec<(usize, Vec<Entries>)>, out: &mut Vec<Entries>) -> Result<(), ArrowError> {
    group.sort_by_key(|(arrival, _)| *arrival);
    let is_one = group.len() == 1;
    let pieces = group.drain(..).flat_map(|(_, pieces)| pieces).collect::<Vec<_>>();
    if is_one {
        out.extend(pieces);
    } else if !pieces.is_empty() {
        out.push(merge(pieces)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entries::tests::{Row, entries, plain};
    use proptest::prelude::*;

    #[test]
    fn sorted_merged_and_without_duplicates() {
        let a = entries(&[(3, "c", &[]), (1, "a", &[("k", "v")]), (1, "a", &[("k", "v")]), (1, "b", &[])]);
        let b = entries(&[
            (1, "a", &[("k", "v")]),
            (1, "a", &[("k", "w")]),
            (2, "x", &[("l", "m")]),
            (3, "c", &[]),
        ]);
        let merged = plain(&merge(vec![a, b]).unwrap());
        let short: Vec<String> = merged.iter().map(|(t, l, m)| format!("{t}{l}{m:?}")).collect();
        assert_eq!(short, [r#"1a[("k", "v")]"#, "1b[]", r#"1a[("k", "w")]"#, r#"2x[("l", "m")]"#, "3c[]"]);
    }

    proptest! {
        #[test]
        fn overlapping_pieces_give_the_same_as_one_merge(
            given in proptest::collection::vec(proptest::collection::vec((0i64..20, "[ab]", "[xy]?"), 1..8), 1..6)
        ) {
            let pieces: Vec<Entries> = given.iter().map(|rows| {
                let pairs: Vec<[(&str, &str); 1]> = rows.iter().map(|(_, _, m)| [("m", m.as_str())]).collect();
                let rows: Vec<Row<'_>> = rows.iter().zip(&pairs).map(|((t, l, m), pair)| {
                    (*t, l.as_str(), if m.is_empty() { &[][..] } else { &pair[..] })
                }).collect();
                merge(vec![entries(&rows)]).unwrap()
            }).collect();
            let all = plain(&merge(pieces.clone()).unwrap());
            let parts: Vec<_> = merge_overlaps(pieces.into_iter().map(|p| vec![p]).collect()).unwrap().iter().flat_map(plain).collect();
            prop_assert_eq!(&parts, &all);
            let mut unique: Vec<_> = all.clone();
            unique.sort();
            unique.dedup();
            prop_assert_eq!(unique.len(), all.len());
            prop_assert!(all.windows(2).all(|w| w[0].0 <= w[1].0));
        }
    }
}
