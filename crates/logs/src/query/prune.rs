//! Leaves out granules that cannot hold an entry that passes.

use std::sync::Arc;

use block::needle::{Needle, Search};
use logql::{Equality, Needs};
use model::Labels;

use crate::store::index::BlockIndex;

/// What every passing entry holds, as questions to needle indexes.
pub(crate) struct Pruner {
    /// What every line contains.
    lines: Search,
    /// What entries contain of streams that lack a label.
    equalities: Vec<Labelled>,
}

struct Labelled {
    label: Arc<str>,
    search: Search,
    /// The entry has metadata of this name: its line cannot help.
    metadata_only: bool,
}

/// Which granules of a block can hold entries that pass.
pub(crate) struct Kept {
    lines: Option<Arc<[bool]>>,
    /// By label, for streams without it; of granules.
    equalities: Vec<(Arc<str>, Arc<[bool]>)>,
}

impl Pruner {
    /// The questions of a query.
    pub(crate) fn new(needs: &Needs) -> Self {
        let clauses = needs.needles.iter();
        let clauses = clauses.map(|texts| texts.iter().map(|text| Needle::text(text.as_str())).collect());
        Self { lines: Search::new(clauses), equalities: needs.equalities.iter().map(Labelled::new).collect() }
    }

    /// Whether anything can be ruled out.
    pub(crate) fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.equalities.iter().all(|e| e.search.is_empty() && !e.metadata_only)
    }

    /// Asks the index of a block.
    pub(crate) fn ask(&self, index: &BlockIndex) -> Kept {
        let find = |search: &Search| -> Arc<[bool]> { index.needles.find(search).into() };
        let equality = |e: &Labelled| {
            let absent =
                e.metadata_only && !index.columns.contains(&e.label) && !index.rest.may_hold(&e.label);
            let granules = match absent {
                true => Some(vec![false; granules(index)].into()),
                false => (!e.search.is_empty()).then(|| find(&e.search)),
            };
            Some((e.label.clone(), granules?))
        };
        Kept {
            lines: (!self.lines.is_empty()).then(|| find(&self.lines)),
            equalities: self.equalities.iter().filter_map(equality).collect(),
        }
    }
}

/// How many granules a block has.
fn granules(index: &BlockIndex) -> usize {
    index.streams.last().map_or(0, |stream| stream.granules().end as usize)
}

impl Labelled {
    fn new(equality: &Equality) -> Self {
        let metadata = Needle::text(equality.value.as_str());
        let needles = match &equality.line {
            None => vec![metadata],
            Some(line) => vec![metadata, Needle::all(line.iter().map(String::as_str)).or_escaped()],
        };
        Self {
            label: equality.label.clone(),
            search: Search::new([needles]),
            metadata_only: equality.line.is_none(),
        }
    }
}

impl Kept {
    /// Which granules can hold entries of a stream that pass; `None` for all. A granule beyond the list can.
    pub(crate) fn of(&self, labels: &Labels) -> Option<Arc<[bool]>> {
        let equalities = self.equalities.iter().filter(|(label, _)| labels.get(label).is_none());
        let mut kept = self.lines.clone();
        for (_, granules) in equalities {
            kept = Some(match kept {
                None => granules.clone(),
                Some(kept) => both(&kept, granules),
            });
        }
        kept
    }
}

fn both(a: &[bool], b: &[bool]) -> Arc<[bool]> {
    let at = |list: &[bool], i: usize| list.get(i).copied().unwrap_or(true);
    (0..a.len().max(b.len())).map(|i| at(a, i) && at(b, i)).collect()
}
