//! The first look at the lines of a block: which values they hold, and which columns those deserve.

use hashbrown::{DefaultHashBuilder, HashSet};
use std::hash::BuildHasher;

use crate::shredder::Shredder;
use crate::trie::Trie;
use crate::value::{decimal, integer};
use crate::{Field, Holds, Kind};

/// Columns of a block, at most.
const MAX_FIELDS: usize = 256;
/// A value gets a column if at least one of this many lines has it.
const RARE: u64 = 1024;
/// Distinct values that are told apart per field.
const MAX_DISTINCT: usize = 4096;
/// Bytes from the beginning that are compared with the text before.
const MAX_PREFIX: usize = 64;
/// Of this many values one may be of another kind than its column.
const STRAY: u64 = 32;
/// Digits after the point that a column of decimals keeps.
const MAX_DIGITS: u8 = 9;
/// Bytes of a column of hex ids.
const HEX_BYTES: std::ops::RangeInclusive<usize> = 4..=64;

/// Counts what lines hold. A sample does, if it is taken evenly over all of them.
#[derive(Debug)]
pub struct Survey {
    trie: Trie,
    gaps: Vec<(u32, u32)>,
    /// By skeleton.
    seen: Vec<u32>,
    /// By path.
    values: Vec<Tally>,
    lines: u64,
    hasher: DefaultHashBuilder,
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    integers: u64,
    /// Decimals and integers.
    decimals: u64,
    digits: u8,
    /// Texts of hex digits of the first length that was met.
    hex: u64,
    hex_len: usize,
    distinct: HashSet<u64>,
    last: i64,
    ascents: u64,
    lengths: Option<(usize, usize)>,
    before: Vec<u8>,
    shared: u64,
}

/// What is known of a field's values beforehand: helps to choose how they are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profile {
    /// How many different values the sample held; `None` if too many to count.
    pub distinct: Option<usize>,
    /// Whether numbers mostly grow from line to line.
    pub grows: bool,
    /// The length that all texts have, if they have one.
    pub length: Option<usize>,
    /// How many bytes on average a text shares with the one before, from the beginning.
    pub prefix: usize,
}

impl Default for Survey {
    fn default() -> Self {
        Self::new()
    }
}

impl Survey {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self {
            trie: Trie::new(),
            gaps: Vec::new(),
            seen: Vec::new(),
            values: Vec::new(),
            lines: 0,
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Counts a line.
    pub fn add(&mut self, line: &str) {
        self.lines += 1;
        let Some(skeleton) = self.trie.find(line, &mut self.gaps) else { return };
        self.seen.resize(self.trie.skeletons.len(), 0);
        self.values.resize_with(self.trie.paths.len(), Tally::default);
        self.seen[skeleton as usize] += 1;
        for (path, &(start, end)) in self.trie.skeletons[skeleton as usize].paths.iter().zip(&self.gaps) {
            let Some(path) = path else { continue };
            let text = &line.as_bytes()[start as usize..end as usize];
            self.values[*path as usize].add(text, &self.hasher);
        }
    }

    /// Chooses the columns.
    pub fn finish(self) -> Shredder {
        self.shredder(RARE, 2)
    }

    /// `rare`: see [`RARE`]; `min_seen`: how often a structure must have been seen to become a shape.
    pub(crate) fn shredder(self, rare: u64, min_seen: u32) -> Shredder {
        let mut paths: Vec<usize> = (0..self.values.len()).collect();
        paths.retain(|path| self.values[*path].count.saturating_mul(rare) >= self.lines.max(1));
        paths.sort_by_key(|path| (std::cmp::Reverse(self.values[*path].count), *path));
        paths.truncate(MAX_FIELDS);
        let fields = paths.iter().map(|path| {
            let tally = &self.values[*path];
            let distinct = (tally.distinct.len() < MAX_DISTINCT).then_some(tally.distinct.len());
            let profile = Profile {
                distinct,
                grows: tally.ascents * 8 > tally.count * 7,
                length: tally.lengths.filter(|(least, most)| least == most).map(|(least, _)| least),
                prefix: (tally.shared / tally.count.max(1)) as usize,
            };
            let kind = tally.kind();
            (Field { name: self.trie.paths[*path].clone(), kind, holds: Holds::nothing(kind) }, profile)
        });
        let fields: Vec<_> = fields.collect();
        let (mut trie, mut seen) = (self.trie, self.seen);
        if trie.is_crowded() {
            // Room for what comes, and for what came more than once.
            let (kept, numbers) = trie.retain(|number| seen[number] > 1);
            trie = kept;
            seen = numbers.into_iter().map(|number| seen[number]).collect();
        }
        Shredder::new(trie, seen, fields, min_seen)
    }
}

impl Tally {
    fn add(&mut self, text: &[u8], hasher: &DefaultHashBuilder) {
        self.count += 1;
        if let Some(value) = integer(text) {
            self.integers += 1;
            self.decimals += 1;
            self.ascents += u64::from(value > self.last);
            self.last = value;
        } else if let Some((_, digits)) = decimal(text, MAX_DIGITS) {
            self.decimals += 1;
            self.digits = self.digits.max(digits);
        }
        if HEX_BYTES.contains(&(text.len() / 2))
            && text.len().is_multiple_of(2)
            && (self.hex == 0 || text.len() == self.hex_len)
            && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            self.hex += 1;
            self.hex_len = text.len();
        }
        let (least, most) = self.lengths.unwrap_or((text.len(), text.len()));
        self.lengths = Some((least.min(text.len()), most.max(text.len())));
        self.shared += text.iter().zip(&self.before).take_while(|(a, b)| a == b).count() as u64;
        self.before.clear();
        self.before.extend_from_slice(&text[..text.len().min(MAX_PREFIX)]);
        if self.distinct.len() < MAX_DISTINCT {
            self.distinct.insert(hasher.hash_one(text));
        }
    }

    fn kind(&self) -> Kind {
        let mostly = |count: u64| count > 0 && (self.count - count) * STRAY <= self.count;
        // Few different values: of a dictionary, queries look at each only once.
        let distinct = self.distinct.len();
        let repeats = distinct < MAX_DISTINCT && distinct as u64 * 2 <= self.count;
        if mostly(self.integers) {
            Kind::Integer
        } else if mostly(self.decimals) && self.digits > 0 {
            Kind::Decimal { scale: self.digits }
        } else if repeats {
            Kind::Dictionary
        } else if mostly(self.hex) {
            Kind::Hex { bytes: (self.hex_len / 2) as u8 }
        } else {
            Kind::Text
        }
    }
}
