//! Grams: which pieces of a token are put into the filter.
//!
//! Of every `window` neighbouring grams of `size` bytes the one of the least hash is chosen (a minimizer). A part of the token of
//! `size + window - 1` bytes holds a whole window, and the same one is chosen whether the part is looked at alone or in its token.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How grams of a kind of tokens are chosen. Part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scheme {
    /// Bytes of a gram, at most 16.
    size: usize,
    /// Grams of which one is chosen.
    window: usize,
}

/// Every part of 8 bytes.
pub(super) const WORDS: Scheme = Scheme { size: 6, window: 3 };
/// Every part of 16 bytes of a hexadecimal id.
pub(super) const HEX: Scheme = Scheme { size: 12, window: 5 };
/// Every part of 32 bytes of a long hexadecimal id.
pub(super) const LONG_HEX: Scheme = Scheme { size: 16, window: 17 };
/// Every part of 16 bytes of an id with other letters.
pub(super) const MIXED: Scheme = Scheme { size: 10, window: 7 };

/// The hash of a whole value.
pub(super) fn value_hash(value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, 0x6e65_6564_6c65)
}

impl Scheme {
    /// The shortest part that holds a chosen gram.
    pub(super) const fn guarantee(self) -> usize {
        self.size + self.window - 1
    }

    /// Calls with the hash of each chosen gram; the same one may come again. Shorter tokens have none.
    pub(super) fn choose(self, token: &[u8], mut chosen: impl FnMut(u64)) {
        if token.len() < self.guarantee() {
            return;
        }
        let hash = |at: usize| self.hash(&token[at..at + self.size]);
        let (mut least, mut place) = (u64::MAX, usize::MAX);
        let mut given = usize::MAX;
        for first in 0..=token.len() - self.guarantee() {
            let newest = first + self.window - 1;
            if place == usize::MAX || place < first {
                // The least one left the window: look through all of it.
                (least, place) = (u64::MAX, first);
                for at in first..=newest {
                    let hash = hash(at);
                    if hash < least {
                        (least, place) = (hash, at);
                    }
                }
            } else {
                let hash = hash(newest);
                if hash < least {
                    (least, place) = (hash, newest);
                }
            }
            if given != place {
                given = place;
                chosen(least);
            }
        }
    }

    /// Two multiplications over up to 16 bytes; the size is mixed in, so grams of different schemes do not meet.
    fn hash(self, gram: &[u8]) -> u64 {
        let (low, high) = match gram {
            [a, b, c, d, e, f] => (u64::from_le_bytes([*a, *b, *c, *d, *e, *f, 0, 0]), 0),
            _ => {
                let (first, second) = gram.split_at(8);
                let mut rest = [0; 8];
                rest[..second.len()].copy_from_slice(second);
                let first: [u8; 8] = first.try_into().unwrap_or_default();
                (u64::from_le_bytes(first), u64::from_le_bytes(rest))
            }
        };
        let salt = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(self.size as u64);
        fold(fold(low ^ salt, 0xa076_1d64_78bd_642f) ^ high, 0xe703_7ed1_a0b4_28db)
    }
}

/// Both halves of a product, folded.
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn chosen(scheme: Scheme, token: &[u8]) -> HashSet<u64> {
        let mut set = HashSet::new();
        scheme.choose(token, |hash| {
            set.insert(hash);
        });
        set
    }

    proptest! {
        #[test]
        fn a_part_chooses_what_the_whole_does(token in "[a-c0-9]{0,80}", from: prop::sample::Index, to: prop::sample::Index) {
            let token = token.as_bytes();
            let (from, to) = (from.index(token.len() + 1), to.index(token.len() + 1));
            let part = &token[from.min(to)..from.max(to)];
            for scheme in [WORDS, HEX, LONG_HEX, MIXED] {
                let (whole, of_part) = (chosen(scheme, token), chosen(scheme, part));
                prop_assert!(of_part.is_subset(&whole));
                prop_assert_eq!(of_part.is_empty(), part.len() < scheme.guarantee());
            }
        }
    }
}
