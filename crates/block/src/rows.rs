//! Sets of rows of a block, as ranges.

use std::ops::Range;

/// Sorted, disjoint, non-empty ranges of row numbers of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowRanges {
    ranges: Vec<Range<u64>>,
}

impl RowRanges {
    /// No rows.
    pub fn none() -> Self {
        Self::default()
    }

    /// The rows `0..rows`.
    pub fn all(rows: u64) -> Self {
        std::iter::once(0..rows).collect()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().cloned()
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a row is among them.
    pub fn contains(&self, row: u64) -> bool {
        let after = self.ranges.partition_point(|r| r.start <= row);
        after > 0 && row < self.ranges[after - 1].end
    }

    /// Adds a range that lies behind all others.
    pub(crate) fn push(&mut self, range: Range<u64>) {
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }

    /// The rows that are in both.
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        let mut ranges = Vec::new();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            let both = x.start.max(y.start)..x.end.min(y.end);
            if !both.is_empty() {
                ranges.push(both);
            }
            if x.end <= y.end {
                a.next()
            } else {
                b.next()
            };
        }
        Self { ranges }
    }

    /// The rows that are in either.
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }

    /// The rows within one range.
    pub fn within(&self, range: Range<u64>) -> Self {
        self.intersect(&std::iter::once(range).collect())
    }
}

/// Ranges in any order, overlapping or empty.
impl FromIterator<Range<u64>> for RowRanges {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut all: Vec<_> = ranges.into_iter().filter(|r| !r.is_empty()).collect();
        all.sort_unstable_by_key(|r| r.start);
        let mut ranges: Vec<Range<u64>> = Vec::with_capacity(all.len());
        for range in all {
            match ranges.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        Self { ranges }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(ranges: &RowRanges) -> Vec<bool> {
        (0..64).map(|row| ranges.contains(row)).collect()
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(
            a in prop::collection::vec((0u64..60, 0u64..8), 0..8),
            b in prop::collection::vec((0u64..60, 0u64..8), 0..8),
        ) {
            let make = |v: &[(u64, u64)]| v.iter().map(|&(s, n)| s..(s + n).min(64)).collect::<RowRanges>();
            let (x, y) = (make(&a), make(&b));
            let expected: Vec<_> = (0..64).map(|r| a.iter().any(|&(s, n)| (s..s + n).contains(&r))).collect();
            prop_assert_eq!(bits(&x), expected);
            let and: Vec<_> = bits(&x).iter().zip(bits(&y)).map(|(p, q)| *p && q).collect();
            let or: Vec<_> = bits(&x).iter().zip(bits(&y)).map(|(p, q)| *p || q).collect();
            prop_assert_eq!(bits(&x.intersect(&y)), and);
            prop_assert_eq!(bits(&x.union(&y)), or);
            prop_assert_eq!(x.rows(), bits(&x).iter().filter(|b| **b).count() as u64);
            prop_assert!(x.ranges.windows(2).all(|w| w[0].end < w[1].start));
        }
    }
}
