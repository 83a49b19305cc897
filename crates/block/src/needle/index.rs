//! The needle index as it is stored, and how a granule is asked.
//!
//! All integers little-endian. Version (1 byte); number of columns of fixed length (1 byte), per column length (2) and set of bytes
//! (16); number of granules (4), per granule flags (1), seed (1), longest number (1), columns (8), bytes of the filter (4); the
//! filters.

use bytes::Bytes;

use super::ribbon;
use super::search::{Part, Search};

const VERSION: u8 = 1;
/// Anything may be in the granule.
pub(super) const ANYTHING: u8 = 1;
/// Texts of the granule have hexadecimal tokens of 16 to 31 bytes.
pub(super) const HAS_HEX: u8 = 2;
/// … of 32 bytes and more.
pub(super) const HAS_LONG_HEX: u8 = 4;
/// … long tokens with digits and other letters.
pub(super) const HAS_MIXED: u8 = 8;
/// … escapes that stand for ordinary characters, so that a value may be written in other ways.
pub(super) const ESCAPES: u8 = 16;

const FIXED_BYTES: usize = 18;
const GRANULE_BYTES: usize = 15;

/// A column whose values all have one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) length: u16,
    /// The ASCII bytes that occur; bit 0 for all others.
    pub(super) bytes: u128,
}

/// What is known of a granule beside its filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Granule {
    pub(super) flags: u8,
    pub(super) seed: u8,
    /// Bytes of the longest number.
    pub(super) numbers: u8,
    /// Which columns of fixed length have values.
    pub(super) fixed: u64,
    /// Bytes of the filter.
    pub(super) length: u32,
}

/// Why bytes are no needle index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NeedleError {
    /// From a newer program, or something else.
    #[error("unknown version {0} of the needle index")]
    Version(u8),
    /// The bytes end too early or too late.
    #[error("the needle index does not have the size that it should")]
    Size,
}

/// The needle index of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeedleIndex {
    pub(super) fixed: Vec<Fixed>,
    /// With the place of its filter.
    granules: Vec<(Granule, u32)>,
    filters: Bytes,
}

/// Bytes of an index.
pub(super) fn size(fixed: &[Fixed], granules: &[Granule], filters: &[u8]) -> usize {
    6 + fixed.len() * FIXED_BYTES + granules.len() * GRANULE_BYTES + filters.len()
}

pub(super) fn encode(fixed: &[Fixed], granules: &[Granule], filters: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(size(fixed, granules, filters));
    out.extend([VERSION, fixed.len() as u8]);
    for column in fixed {
        out.extend(column.length.to_le_bytes());
        out.extend(column.bytes.to_le_bytes());
    }
    out.extend((granules.len() as u32).to_le_bytes());
    for granule in granules {
        out.extend([granule.flags, granule.seed, granule.numbers]);
        out.extend(granule.fixed.to_le_bytes());
        out.extend(granule.length.to_le_bytes());
    }
    out.extend_from_slice(filters);
    out
}

impl NeedleIndex {
    /// Reads an index; the filters stay where they are. No bytes: no granules.
    pub fn decode(bytes: Bytes) -> Result<Self, NeedleError> {
        let mut rest = &bytes[..];
        let Some(version) = rest.first() else { return Ok(Self::default()) };
        if *version != VERSION {
            return Err(NeedleError::Version(*version));
        }
        let [_, columns] = take(&mut rest)?;
        let mut fixed = Vec::with_capacity(usize::from(columns));
        for _ in 0..columns {
            let (length, set) = (take(&mut rest)?, take(&mut rest)?);
            fixed.push(Fixed { length: u16::from_le_bytes(length), bytes: u128::from_le_bytes(set) });
        }
        let count = u32::from_le_bytes(take(&mut rest)?) as usize;
        if count > rest.len() / GRANULE_BYTES {
            return Err(NeedleError::Size);
        }
        let mut granules = Vec::with_capacity(count);
        let mut place = 0u32;
        for _ in 0..count {
            let [flags, seed, numbers] = take(&mut rest)?;
            let (columns, length) = (take(&mut rest)?, take(&mut rest)?);
            let (fixed, length) = (u64::from_le_bytes(columns), u32::from_le_bytes(length));
            granules.push((Granule { flags, seed, numbers, fixed, length }, place));
            place = place.checked_add(length).ok_or(NeedleError::Size)?;
        }
        if rest.len() != place as usize {
            return Err(NeedleError::Size);
        }
        let filters = bytes.slice(bytes.len() - rest.len()..);
        Ok(Self { fixed, granules, filters })
    }

    /// How many granules there are.
    pub fn len(&self) -> usize {
        self.granules.len()
    }

    /// Whether there is no granule.
    pub fn is_empty(&self) -> bool {
        self.granules.is_empty()
    }

    /// Which granules can hold a row with everything that is searched for. A granule beyond the index may: it is not in the answer,
    /// which has as many items as there are granules.
    pub fn find(&self, search: &Search) -> Vec<bool> {
        let clauses = search.prepare(&self.fixed);
        let possible = |(granule, place): &(Granule, u32)| {
            let filter = &self.filters[*place as usize..(*place + granule.length) as usize];
            let contains = |hash: &u64| ribbon::contains(filter, granule.seed, *hash);
            let part = |part: &Part| part.is_possible(granule, contains);
            granule.flags & ANYTHING != 0
                || clauses.iter().all(|clause| {
                    clause.iter().any(|needle| {
                        (needle.is_value && granule.flags & ESCAPES != 0) || needle.parts.iter().all(part)
                    })
                })
        };
        self.granules.iter().map(possible).collect()
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NeedleError> {
    let (head, tail) = rest.split_first_chunk().ok_or(NeedleError::Size)?;
    *rest = tail;
    Ok(*head)
}
