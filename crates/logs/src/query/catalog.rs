//! Questions about streams that read no data page: labels, series, stats, volume.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use model::{Labels, Matcher};

use crate::query::view::View;
use crate::store::index::Amount;

/// The streams that satisfy one of the selectors and meet the range, with how much of them lies in it. No selector: all streams.
pub fn streams(
    view: &View,
    selectors: &[Vec<Matcher>],
    range: RangeInclusive<i64>,
) -> BTreeMap<Labels, Amount> {
    let (first, last) = range.into_inner();
    let wanted = |labels: &Labels| {
        selectors.is_empty()
            || selectors.iter().any(|matchers| matchers.iter().all(|m| m.matches_labels(labels)))
    };
    let mut found: BTreeMap<Labels, Amount> = BTreeMap::new();
    for block in &view.blocks {
        for (_, stream) in block.index().select(&[], first, last).filter(|(_, s)| wanted(&s.labels)) {
            let amount = stream.amount(first.max(view.oldest(&stream.labels)), last);
            if amount.parts > 0 {
                found.entry(stream.labels.clone()).or_default().join(amount);
            }
        }
    }
    for head in &view.heads {
        for (labels, amount) in
            head.amounts(&[], first, last).into_iter().filter(|(labels, _)| wanted(labels))
        {
            found.entry(labels).or_default().join(amount);
        }
    }
    found
}
