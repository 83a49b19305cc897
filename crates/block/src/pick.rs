//! Which blocks are worth merging: neighbours in the order of arrival, small ones, several of about one size at a time.
//!
//! Rows of equal time keep their order of arrival, so only neighbours are merged. A row is rewritten each time its block
//! grows severalfold, not each time a small block joins a large one.

use std::ops::Range;
use std::time::Duration;

use crate::BlockMeta;

/// When blocks are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiers {
    /// Bytes of `data.parquet` that a block is to reach. One of half this size is left alone.
    pub target_bytes: u64,
    /// So many blocks of about one size are merged although they do not reach the target.
    pub fan_in: usize,
    /// Blocks merged at a time, at most.
    pub max_blocks: usize,
    /// Raw bytes of a merged block, at most. A block of half as many is left alone.
    pub max_raw_bytes: u64,
    /// The time that the rows of a merged block span, at most, unless those of one of the merged blocks span as much already: what
    /// expires together is to lie together.
    pub max_span: Option<Duration>,
}

impl Default for Tiers {
    fn default() -> Self {
        Self { target_bytes: 64 << 20, fan_in: 4, max_blocks: 64, max_raw_bytes: u64::MAX, max_span: None }
    }
}

/// The first run of blocks that should be merged now, as places in the manifest's order. `skip` leaves a block out for now.
pub fn pick(blocks: &[BlockMeta], tiers: &Tiers, skip: impl Fn(&BlockMeta) -> bool) -> Option<Range<usize>> {
    let is_small = |b: &BlockMeta| {
        b.size < tiers.target_bytes / 2 && b.summary.bytes < tiers.max_raw_bytes / 2 && !skip(b)
    };
    (0..blocks.len()).find_map(|start| {
        let run = blocks[start..].iter().take_while(|b| is_small(b)).take(tiers.max_blocks);
        let (mut total, mut raw, mut largest, mut best) = (0u64, 0u64, 0u64, None);
        let mut span = Span::default();
        for (count, block) in (1usize..).zip(run) {
            span.add(block);
            raw = raw.saturating_add(block.summary.bytes);
            if !span.fits(tiers.max_span) || raw > tiers.max_raw_bytes {
                break;
            }
            total += block.size;
            largest = largest.max(block.size);
            let is_full = total >= tiers.target_bytes;
            let is_even = count >= tiers.fan_in && largest.saturating_mul(2) <= total;
            if count > 1 && (is_full || is_even) {
                best = Some(start..start + count);
            }
            if is_full {
                break;
            }
        }
        best
    })
}

/// The time that some blocks span.
struct Span {
    min: i64,
    max: i64,
    widest: i64,
}

impl Default for Span {
    fn default() -> Self {
        Self { min: i64::MAX, max: i64::MIN, widest: 0 }
    }
}

impl Span {
    fn add(&mut self, block: &BlockMeta) {
        let (min, max) = (block.summary.min_time.nanos(), block.summary.max_time.nanos());
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        self.widest = self.widest.max(max.saturating_sub(min));
    }

    fn fits(&self, max: Option<Duration>) -> bool {
        let span = self.max.saturating_sub(self.min);
        max.is_none_or(|max| span <= self.widest || u128::from(span.unsigned_abs()) <= max.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::{BlockId, BlockSummary};

    fn block(size: u64, min: i64, max: i64) -> BlockMeta {
        let summary = BlockSummary {
            min_time: Timestamp(min),
            max_time: Timestamp(max),
            rows: size,
            bytes: size,
            detail: serde_json::Value::Null,
        };
        let created = Timestamp(0);
        BlockMeta { id: BlockId::random(), size, footer_size: 1, index_size: 1, level: 0, created, summary }
    }

    fn tiers() -> Tiers {
        Tiers { target_bytes: 64, max_blocks: 16, ..Tiers::default() }
    }

    #[test]
    fn neighbours_of_about_one_size() {
        let check = |sizes: &[u64], expect: Option<Range<usize>>| {
            let blocks: Vec<_> = sizes.iter().map(|s| block(*s, 0, 1)).collect();
            assert_eq!(pick(&blocks, &tiers(), |_| false), expect, "{sizes:?}");
        };
        check(&[], None);
        check(&[1, 1, 1], None);
        check(&[1, 1, 1, 1], Some(0..4));
        check(&[30, 1, 1, 1], None);
        check(&[30, 1, 1, 1, 1], Some(1..5));
        check(&[31, 31, 2, 2], Some(0..3));
        check(&[32, 31, 31], None);
        check(&[32, 31, 31, 31, 1], Some(1..4));
        check(&[100, 1, 100, 1, 100], None);
        check(&[1; 40], Some(0..16));
        let raw: Vec<_> = (0..4).map(|_| block(10, 0, 1)).collect();
        let bounded = |max_raw_bytes| Tiers { fan_in: 2, max_raw_bytes, ..tiers() };
        assert_eq!(pick(&raw, &bounded(35), |_| false), Some(0..3));
        assert_eq!(pick(&raw, &bounded(19), |_| false), None);
    }

    #[test]
    fn what_expires_together_lies_together() {
        let day = |n: i64| n * 86_400_000_000_000;
        let blocks: Vec<_> = (0..8).map(|n| block(1, day(n), day(n) + 1)).collect();
        let spans = |days: u64| Tiers { max_span: Some(Duration::from_secs(days * 86_400)), ..tiers() };
        assert_eq!(pick(&blocks, &spans(2), |_| false), None);
        assert_eq!(pick(&blocks, &spans(4), |_| false), Some(0..4));
        // Late rows make every block wide: then they are merged all the same.
        let wide: Vec<_> = (0..5).map(|n| block(1, n, day(9))).collect();
        assert_eq!(pick(&wide, &spans(2), |_| false), Some(0..5));
        assert_eq!(pick(&wide, &tiers(), |b| b.summary.min_time.nanos() == 4), Some(0..4));
    }

    proptest! {
        /// Merging ends, leaves few small blocks, and rewrites a byte a few times only.
        #[test]
        fn merging_settles(sizes in prop::collection::vec(1u64..40, 1..200)) {
            let mut blocks: Vec<BlockMeta> = Vec::new();
            let (mut written, mut taken) = (0u64, 0u64);
            for size in sizes {
                blocks.push(block(size, 0, 1));
                taken += size;
                while let Some(range) = pick(&blocks, &tiers(), |_| false) {
                    prop_assert!(range.len() > 1);
                    let size = blocks[range.clone()].iter().map(|b| b.size).sum();
                    written += size;
                    blocks.splice(range, [block(size, 0, 1)]);
                }
            }
            prop_assert_eq!(blocks.iter().map(|b| b.size).sum::<u64>(), taken);
            prop_assert!(written <= taken * 6, "{written} bytes written for {taken}");
            let small = blocks.iter().filter(|b| b.size < 32).count();
            let large = blocks.len() - small;
            prop_assert!(small <= 12 * (large + 1), "{small} small blocks beside {large}");
        }
    }
}
