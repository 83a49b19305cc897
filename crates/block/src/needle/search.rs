//! What a needle demands of a granule.

use super::build::NOT_ASCII;
use super::gram::{HEX, LONG_HEX, MIXED, Scheme, WORDS, value_hash};
use super::index::{Fixed, Granule, HAS_HEX, HAS_LONG_HEX, HAS_MIXED};
use super::token::{VERY_LONG, has_digit, is_hex, is_numeric, tokens};

/// What is to be found: texts, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle {
    texts: Vec<String>,
    is_value: bool,
}

impl Needle {
    /// Rows whose text contains this, byte for byte.
    pub fn text(text: impl Into<String>) -> Self {
        Self::all([text])
    }

    /// Rows whose texts contain all of these.
    pub fn all(texts: impl IntoIterator<Item: Into<String>>) -> Self {
        Self { texts: texts.into_iter().map(Into::into).collect(), is_value: false }
    }

    /// The same, though ordinary characters may be written as escapes (`\u0041`, `\/`).
    pub fn or_escaped(self) -> Self {
        Self { is_value: true, ..self }
    }

    fn tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.texts.iter().flat_map(|text| tokens(text.as_bytes()))
    }
}

/// Needles of which rows must hold some: of each of the clauses at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    clauses: Vec<Vec<Needle>>,
}

impl Search {
    /// Rows that hold at least one needle of each clause. Clauses that cannot rule out anything are left out.
    pub fn new(clauses: impl IntoIterator<Item = Vec<Needle>>) -> Self {
        let tells = |clause: &Vec<Needle>| clause.iter().all(|n| n.tokens().next().is_some());
        Self { clauses: clauses.into_iter().filter(tells).collect() }
    }

    /// Whether nothing can be ruled out.
    pub fn is_empty(&self) -> bool {
        self.clauses.is_empty()
    }

    pub(super) fn prepare(&self, fixed: &[Fixed]) -> Vec<Vec<Prepared>> {
        let needle = |needle: &Needle| Prepared {
            is_value: needle.is_value,
            parts: needle.tokens().map(|token| Part::new(token, fixed)).collect(),
        };
        self.clauses.iter().map(|clause| clause.iter().map(needle).collect()).collect()
    }
}

/// A needle as one block is asked for it.
pub(super) struct Prepared {
    pub(super) is_value: bool,
    /// All of them must be possible.
    pub(super) parts: Vec<Part>,
}

/// A token of a needle: the part of a token of a row's text, or of a value. Each field is a place where it may be.
pub(super) struct Part {
    /// In a word: these grams.
    words: Vec<u64>,
    /// In a hexadecimal token of 16 to 31 bytes; `None` if it cannot be, no grams if it is too short to tell.
    hex: Option<Vec<u64>>,
    /// In a longer one.
    long_hex: Option<Vec<u64>>,
    /// In a long token with digits; `None` if it is in no other than words are.
    mixed: Option<Vec<u64>>,
    /// In a value of these columns, which are longer.
    within: u64,
    /// As a value of these columns.
    whole: u64,
    value: u64,
    /// In a number of at least so many bytes.
    number: Option<u8>,
}

impl Part {
    fn new(token: &[u8], fixed: &[Fixed]) -> Self {
        let grams = |scheme: Scheme| {
            let mut hashes = Vec::new();
            scheme.choose(token, |hash| hashes.push(hash));
            hashes
        };
        let is_hex = is_hex(token);
        let set = token.iter().fold(0u128, |set, b| set | if *b < 0x80 { 1 << b } else { NOT_ASCII });
        let columns = |fits: &dyn Fn(usize) -> bool| {
            let fixed = fixed.iter().enumerate();
            let fitting = fixed.filter(|(_, f)| f.bytes & set == set && fits(usize::from(f.length)));
            fitting.fold(0u64, |mask, (at, _)| mask | 1 << at.min(63))
        };
        Self {
            words: grams(WORDS),
            hex: (is_hex && token.len() < VERY_LONG).then(|| grams(HEX)),
            long_hex: is_hex.then(|| grams(LONG_HEX)),
            // Without digits it lies in a word of such a token.
            mixed: has_digit(token).then(|| grams(MIXED)),
            within: columns(&|length| length > token.len()),
            whole: columns(&|length| length == token.len()),
            value: value_hash(token),
            number: is_numeric(token).then(|| u8::try_from(token.len()).unwrap_or(u8::MAX)),
        }
    }

    /// Whether the granule may hold it; `contains` asks the granule's filter.
    pub(super) fn is_possible(&self, granule: &Granule, contains: impl Fn(&u64) -> bool) -> bool {
        let has = |flag: u8, grams: &Option<Vec<u64>>| {
            granule.flags & flag != 0 && grams.as_ref().is_some_and(|grams| grams.iter().all(&contains))
        };
        granule.fixed & self.within != 0
            || self.number.is_some_and(|length| length <= granule.numbers)
            || granule.fixed & self.whole != 0 && contains(&self.value)
            || self.words.iter().all(&contains)
            || has(HAS_HEX, &self.hex)
            || has(HAS_LONG_HEX, &self.long_hex)
            || has(HAS_MIXED, &self.mixed)
    }
}
