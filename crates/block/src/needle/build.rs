//! Builds the needle index of a block, granule by granule.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use super::gram::{HEX, LONG_HEX, MIXED, WORDS, value_hash};
use super::index::{ANYTHING, ESCAPES, Fixed, Granule, HAS_HEX, HAS_LONG_HEX, HAS_MIXED, encode, size};
use super::ribbon;
use super::token::{Kind, tokens, words};

/// Columns of values of one length that are told apart; one bit each in a granule's mask.
const MAX_FIXED: usize = 64;
/// A granule with more items is not indexed: anything may be in it. A block of noise would else have an index larger than itself.
const MAX_ITEMS: usize = 48 << 10;

/// A column whose values all have one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedId(u8);

/// Takes the texts of granule after granule.
#[derive(Debug, Default)]
pub struct NeedleBuilder {
    fixed: Vec<Fixed>,
    granules: Vec<Granule>,
    filters: Vec<u8>,
    items: HashSet<u64, BuildHasherDefault<Hashed>>,
    granule: Granule,
}

/// The items are hashes already.
#[derive(Debug, Default, Clone, Copy)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl NeedleBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a column of many different values that all have `length` bytes as text. `None` if there are too many such columns:
    /// give their values as text.
    pub fn fixed(&mut self, length: usize) -> Option<FixedId> {
        let length = u16::try_from(length).ok()?;
        if self.fixed.len() == MAX_FIXED {
            return None;
        }
        self.fixed.push(Fixed { length, bytes: 0 });
        Some(FixedId(self.fixed.len() as u8 - 1))
    }

    /// Text of the granule. The same text need not be given twice.
    pub fn text(&mut self, text: &[u8]) {
        if self.granule.flags & ESCAPES == 0 {
            let escape = |pair: &[u8]| pair[0] == b'\\' && matches!(pair[1], b'u' | b'/' | b'\'');
            if memchr::memchr(b'\\', text).is_some() && text.windows(2).any(escape) {
                self.granule.flags |= ESCAPES;
            }
        }
        if self.granule.flags & ANYTHING != 0 {
            return;
        }
        let (items, flags) = (&mut self.items, &mut self.granule.flags);
        let mut add = |hash| {
            items.insert(hash);
        };
        for token in tokens(text) {
            match Kind::of(token) {
                Kind::Plain => WORDS.choose(token, &mut add),
                Kind::Hex => {
                    *flags |= HAS_HEX;
                    HEX.choose(token, &mut add);
                }
                Kind::LongHex => {
                    *flags |= HAS_LONG_HEX;
                    LONG_HEX.choose(token, &mut add);
                }
                Kind::Mixed => {
                    *flags |= HAS_MIXED;
                    MIXED.choose(token, &mut add);
                    words(token).for_each(|word| WORDS.choose(word, &mut add));
                }
            }
        }
        self.check_size();
    }

    /// A value of a column of values of one length, as text. A value of another length is taken as text.
    pub fn value(&mut self, column: FixedId, value: &[u8]) {
        let Some(fixed) = self.fixed.get_mut(usize::from(column.0)) else { return };
        if value.len() != usize::from(fixed.length) {
            return self.text(value);
        }
        // Columns of hexadecimal digits, by far the most, are soon known.
        if !value.iter().all(|b| *b < 0x80 && fixed.bytes >> *b & 1 == 1) {
            for byte in value {
                if *byte >= 0x80 {
                    fixed.bytes |= NOT_ASCII;
                } else {
                    fixed.bytes |= 1 << byte;
                }
            }
        }
        if fixed.bytes >> b'\\' & 1 == 1 && value.contains(&b'\\') {
            self.granule.flags |= ESCAPES;
        }
        self.granule.fixed |= 1 << column.0;
        if self.granule.flags & ANYTHING == 0 {
            self.items.insert(value_hash(value));
            self.check_size();
        }
    }

    /// A value of such a column, given as bytes that are written as twice as many lower-case hexadecimal digits.
    pub fn hex(&mut self, column: FixedId, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 2 * 64];
        let Some(text) = text.get_mut(..2 * bytes.len()) else {
            let digits =
                bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
            return self.value(column, &digits.collect::<Vec<_>>());
        };
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        self.value(column, text);
    }

    /// The granule holds numbers whose values are not given: integers and decimals, written with digits, `-` and `.`, the
    /// longest of them `longest` bytes long or less.
    pub fn numbers(&mut self, longest: usize) {
        let longest = u8::try_from(longest).unwrap_or(u8::MAX);
        self.granule.numbers = self.granule.numbers.max(longest);
    }

    /// Ends the granule.
    pub fn end_granule(&mut self) {
        let mut granule = std::mem::take(&mut self.granule);
        if granule.flags & ANYTHING == 0 {
            let items: Vec<u64> = self.items.iter().copied().collect();
            let (seed, filter) = ribbon::build(&items);
            granule.seed = seed;
            granule.length = filter.len() as u32;
            self.filters.extend_from_slice(&filter);
        }
        self.items.clear();
        self.granules.push(granule);
    }

    /// How many granules have ended.
    pub fn granules(&self) -> usize {
        self.granules.len()
    }

    /// Bytes that the granules that have ended take.
    pub fn size(&self) -> usize {
        size(&self.fixed, &self.granules, &self.filters)
    }

    /// The index of all granules that have ended.
    pub fn finish(self) -> Vec<u8> {
        encode(&self.fixed, &self.granules, &self.filters)
    }

    fn check_size(&mut self) {
        if self.items.len() > MAX_ITEMS {
            self.granule.flags |= ANYTHING;
            self.items.clear();
        }
    }
}

/// In a set of bytes: all that are not ASCII. NUL shares the bit, which is never wrong.
pub(super) const NOT_ASCII: u128 = 1;
