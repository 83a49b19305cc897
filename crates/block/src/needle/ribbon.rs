//! A static filter over hashes: a ribbon filter (Dillinger, Walzer: "Ribbon filter: practically smaller than Bloom and Xor", 2021).
//!
//! Each hash is a linear equation over GF(2): a stretch of 64 coefficients somewhere in a long vector of unknowns, and a result of
//! [`BITS`] bits. Solving all equations gives a table of hardly more than [`BITS`] bits per hash; a hash that was not among them
//! meets its result by chance only.

use super::gram::fold;

/// Bits of a result: wrong answers are one in 2^BITS.
pub(super) const BITS: usize = 7;
const WIDTH: usize = 64;
/// Bytes of [`WIDTH`] unknowns.
const GROUP: usize = BITS * WIDTH / 8;
/// Seeds tried before the table grows.
const SEEDS: u8 = 4;

/// The table of a set, and the seed that it is asked with. An empty set has an empty table.
pub(super) fn build(hashes: &[u64]) -> (u8, Vec<u8>) {
    if hashes.is_empty() {
        return (0, Vec::new());
    }
    // With less room to spare building takes longer, or fails.
    let mut groups = (hashes.len() + hashes.len() / 20 + 8).div_ceil(WIDTH);
    loop {
        for seed in 0..SEEDS {
            if let Some(table) = solve(hashes, seed, groups) {
                return (seed, table);
            }
        }
        groups += 1 + groups / 32;
    }
}

/// Whether the hash may be in the set.
pub(super) fn contains(table: &[u8], seed: u8, hash: u64) -> bool {
    let groups = table.len() / GROUP;
    if groups == 0 {
        return false;
    }
    let Equation { start, coefficients, result } = equation(hash, seed, groups);
    let (group, shift) = (start / WIDTH, start % WIDTH);
    let word = |group: usize, bit: usize| {
        let at = group * GROUP + bit * (WIDTH / 8);
        table.get(at..at + WIDTH / 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    for bit in 0..BITS {
        let mut row = word(group, bit) >> shift;
        if shift > 0 {
            row |= word(group + 1, bit) << (WIDTH - shift);
        }
        if (row & coefficients).count_ones() as u8 & 1 != result >> bit & 1 {
            return false;
        }
    }
    true
}

struct Equation {
    start: usize,
    /// The lowest is always set.
    coefficients: u64,
    result: u8,
}

fn equation(hash: u64, seed: u8, groups: usize) -> Equation {
    let mixed = fold(hash ^ (u64::from(seed) << 56), 0x9fb2_1c65_1e98_df25);
    let low = fold(mixed, 0xd6e8_feb8_6659_fd93);
    let places = (groups * WIDTH - WIDTH + 1) as u64;
    Equation {
        start: ((u128::from(mixed) * u128::from(places)) >> 64) as usize,
        coefficients: low | 1,
        result: (fold(low ^ mixed, 0x1656_67b1_9e37_79f9) >> (64 - BITS)) as u8,
    }
}

fn solve(hashes: &[u64], seed: u8, groups: usize) -> Option<Vec<u8>> {
    let unknowns = groups * WIDTH;
    // Row i, if any, begins with unknown i.
    let mut rows = vec![0u64; unknowns];
    let mut results = vec![0u8; unknowns];
    for &hash in hashes {
        let Equation { mut start, mut coefficients, mut result } = equation(hash, seed, groups);
        loop {
            let row = rows[start];
            if row == 0 {
                (rows[start], results[start]) = (coefficients, result);
                break;
            }
            coefficients ^= row;
            result ^= results[start];
            if coefficients == 0 {
                if result != 0 {
                    return None;
                }
                break;
            }
            let zeros = coefficients.trailing_zeros();
            start += zeros as usize;
            coefficients >>= zeros;
        }
    }
    // From the last unknown to the first: each is what its row leaves for it.
    let mut table = vec![0u8; groups * GROUP];
    let mut solved = [0u64; BITS];
    for at in (0..unknowns).rev() {
        let row = rows[at];
        for (bit, solved) in solved.iter_mut().enumerate() {
            *solved <<= 1;
            if row != 0 {
                let value = (*solved & row).count_ones() as u8 & 1 ^ results[at] >> bit & 1;
                *solved |= u64::from(value);
            }
        }
        if at.is_multiple_of(WIDTH) {
            for (bit, solved) in solved.iter().enumerate() {
                let place = at / WIDTH * GROUP + bit * (WIDTH / 8);
                table[place..place + WIDTH / 8].copy_from_slice(&solved.to_le_bytes());
            }
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(count: u64, salt: u64) -> Vec<u64> {
        (0..count).map(|i| fold(i ^ salt, 0x9e37_79b9_7f4a_7c15)).collect()
    }

    #[test]
    fn holds_all_and_little_else() {
        for count in [1, 2, 100, 128, 1000, 9000, 60_000] {
            let set = hashes(count, 1 << 40);
            let (seed, table) = build(&set);
            assert!(set.iter().all(|h| contains(&table, seed, *h)), "{count}");
            let wrong = hashes(20_000, 3 << 50).iter().filter(|h| contains(&table, seed, **h)).count();
            assert!((60..270).contains(&wrong), "{wrong} of 20000 at {count}");
            let bits = (table.len() * 8) as f64 / count as f64;
            assert!(count < 1000 || bits < 8.0, "{bits} bits per item at {count}");
        }
    }

    #[test]
    fn equal_hashes_and_nothing_at_all() {
        let (seed, table) = build(&[7; 300]);
        assert!(contains(&table, seed, 7));
        assert!(!contains(&[], 0, 7));
        // A damaged table gives answers, not panics.
        assert!(!(0..100).all(|h| contains(&[1; GROUP + 3], 9, h)));
    }
}
