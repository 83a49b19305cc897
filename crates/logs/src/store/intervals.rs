//! A set of byte positions as the ranges that it consists of.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::ops::Range;

/// Ranges that neither overlap nor touch: joined, bytes that were read one after the other are one range, however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals(BTreeMap<u64, u64>);

impl Intervals {
    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<u64>> {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// Whether every byte of the range is in the set.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        self.0.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// Whether any byte of the range is in the set.
    pub fn meets(&self, range: &Range<u64>) -> bool {
        // Most ranges lie behind all others.
        self.0.last_key_value().is_some_and(|(_, end)| *end > range.start)
            && self.0.range(..range.end).next_back().is_some_and(|(_, end)| *end > range.start)
    }

    /// Adds a range; `new` is told the parts of it that were missing, ascending.
    pub fn insert(&mut self, range: Range<u64>, mut new: impl FnMut(Range<u64>)) {
        if range.is_empty() {
            return;
        }
        match self.0.last_entry() {
            Some(mut last) if *last.get() == range.start => {
                last.insert(range.end);
                return new(range);
            }
            Some(last) if *last.get() > range.start => {}
            _ => {
                self.0.insert(range.start, range.end);
                return new(range);
            }
        }
        let (mut start, mut end, mut done) = (range.start, range.end, range.start);
        if let Some((&before, &until)) = self.0.range(..=range.start).next_back()
            && until >= range.start
        {
            (start, end, done) = (before, end.max(until), until);
        }
        while let Some((&from, &until)) = self.0.range((Excluded(range.start), Included(range.end))).next() {
            if from > done {
                new(done..from);
            }
            (end, done) = (end.max(until), until);
            self.0.remove(&from);
        }
        if done < range.end {
            new(done..range.end);
        }
        self.0.insert(start, end);
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some((_, end)) = self.0.range_mut(..range.start).next_back()
            && *end > range.start
        {
            let until = std::mem::replace(end, range.start);
            if until > range.end {
                self.0.insert(range.end, until);
            }
        }
        while let Some((&from, &until)) = self.0.range(range.clone()).next() {
            self.0.remove(&from);
            if until > range.end {
                self.0.insert(range.end, until);
            }
        }
    }

    /// Takes everything below `low` out.
    pub fn cut_below(&mut self, low: u64) {
        while let Some(first) = self.0.first_entry()
            && *first.key() < low
        {
            let until = first.remove();
            if until > low {
                self.0.insert(low, until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn naive(intervals: &Intervals) -> BTreeSet<u64> {
        intervals.iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_bytes(steps in proptest::collection::vec((0..4u8, 0..60u64, 0..12u64), 0..60)) {
            let (mut intervals, mut model) = (Intervals::default(), BTreeSet::new());
            for (step, start, length) in steps {
                let range = start..start + length;
                match step {
                    0 | 1 => {
                        let mut new = Vec::new();
                        intervals.insert(range.clone(), |part| new.push(part));
                        prop_assert!(new.iter().all(|part| !part.is_empty()));
                        let new: Vec<u64> = new.into_iter().flatten().collect();
                        let missing: Vec<u64> = range.clone().filter(|byte| !model.contains(byte)).collect();
                        prop_assert_eq!(new, missing);
                        model.extend(range.clone());
                    }
                    2 => {
                        intervals.remove(range.clone());
                        model.retain(|byte| !range.contains(byte));
                    }
                    _ => {
                        intervals.cut_below(length);
                        model.retain(|byte| *byte >= length);
                    }
                }
                prop_assert_eq!(&naive(&intervals), &model);
                // Joined as far as possible.
                let all: Vec<_> = intervals.iter().collect();
                prop_assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start));
                if !range.is_empty() {
                    prop_assert_eq!(intervals.covers(&range), range.clone().all(|byte| model.contains(&byte)));
                    prop_assert_eq!(intervals.meets(&range), range.clone().any(|byte| model.contains(&byte)));
                }
            }
        }
    }

    #[test]
    fn reaches_to_the_end_of_64_bits() {
        let mut intervals = Intervals::default();
        intervals.insert(u64::MAX - 2..u64::MAX, |_| {});
        intervals.insert(0..u64::MAX - 2, |_| {});
        assert_eq!((intervals.len(), intervals.iter().next()), (1, Some(0..u64::MAX)));
        intervals.remove(0..u64::MAX);
        assert!(intervals.is_empty());
    }
}
