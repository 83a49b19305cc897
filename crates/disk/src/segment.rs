//! The bytes of a log segment: its name, its header, the framing of records, and the scan that finds
//! every intact record of a damaged file.
//!
//! ```text
//! name    {first position:020}-{salt:016x}.log
//! header  "TLLOG001"
//! record  length u32 | position u64 | crc32 u32 | payload      (little endian)
//! ```
//! The checksum covers salt, length, position and payload. The salt is drawn for each segment and
//! stands in the name: a record copied into the payload of another one (log lines are untrusted) cannot pass for
//! a record of this segment when the scan looks for the next intact one after damage.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

/// Bytes of a record's header.
pub(crate) const RECORD_HEADER: usize = 16;
/// What every segment starts with.
pub(crate) const MAGIC: &[u8; 8] = b"TLLOG001";
/// The largest payload of one record: 256 MiB.
pub(crate) const MAX_RECORD: usize = 256 << 20;

/// What the name of a segment tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// The position of its first record.
    pub(crate) first: u64,
    salt: u64,
}

impl SegmentName {
    /// A name for a new segment.
    pub(crate) fn new(first: u64) -> Self {
        // The standard library seeds this from the operating system: random enough for a salt.
        Self { first, salt: RandomState::new().hash_one(first) }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (first, salt) = name.strip_suffix(".log")?.split_once('-')?;
        if first.len() != 20 || salt.len() != 16 {
            return None;
        }
        Some(Self { first: first.parse().ok()?, salt: u64::from_str_radix(salt, 16).ok()? })
    }

    pub(crate) fn file_name(self) -> String {
        format!("{:020}-{:016x}.log", self.first, self.salt)
    }

    fn checksum(self, length: u32, position: u64, parts: &[&[u8]]) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.salt.to_le_bytes());
        crc.update(&length.to_le_bytes());
        crc.update(&position.to_le_bytes());
        for part in parts {
            crc.update(part);
        }
        crc.finalize()
    }

    /// Appends one record, whose payload is the concatenation of `parts`, to `out`.
    pub(crate) fn encode(self, position: u64, parts: &[&[u8]], out: &mut Vec<u8>) {
        let length: usize = parts.iter().map(|p| p.len()).sum();
        let length = u32::try_from(length).expect("callers refuse payloads above MAX_RECORD");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
        out.extend_from_slice(&self.checksum(length, position, parts).to_le_bytes());
        for part in parts {
            out.extend_from_slice(part);
        }
    }

    /// Bytes of the record that begins here, header included, if its header is one of `position` or later.
    pub(crate) fn record_bytes(bytes: &[u8], position: u64) -> Option<usize> {
        let header = bytes.get(..RECORD_HEADER)?;
        let length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
        let found = u64::from_le_bytes(header[4..12].try_into().ok()?);
        (length <= MAX_RECORD && found >= position).then_some(RECORD_HEADER + length)
    }

    /// The record at `at`, if an intact one stands there: its position, and its payload.
    pub(crate) fn record(self, bytes: &Bytes, at: usize) -> Option<(u64, Bytes)> {
        let found = self.decode(bytes, at)?;
        Some((found.position, bytes.slice(found.start..found.end)))
    }

    /// The record at `at`, if an intact one stands there.
    fn decode(self, bytes: &[u8], at: usize) -> Option<Found> {
        let header = bytes.get(at..at.checked_add(RECORD_HEADER)?)?;
        let length = u32::from_le_bytes(header[..4].try_into().ok()?);
        let position = u64::from_le_bytes(header[4..12].try_into().ok()?);
        let crc = u32::from_le_bytes(header[12..].try_into().ok()?);
        let start = at + RECORD_HEADER;
        let payload = bytes.get(start..start.checked_add(length as usize)?)?;
        (self.checksum(length, position, &[payload]) == crc).then_some(Found {
            position,
            start,
            end: start + length as usize,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Found {
    position: u64,
    start: usize,
    end: usize,
}

/// Walks the intact records of one segment in order, stepping over damage.
#[derive(Debug)]
pub(crate) struct Scan {
    name: SegmentName,
    bytes: Bytes,
    at: usize,
    next: u64,
    /// Where the last intact record ends: what follows at the end of the scan is a torn tail.
    pub(crate) intact_end: usize,
    /// Damaged stretches that have an intact record behind them.
    pub(crate) damaged: u64,
    /// Bytes of those stretches.
    pub(crate) damaged_bytes: u64,
}

impl Scan {
    pub(crate) fn new(name: SegmentName, bytes: Bytes) -> Self {
        let intact = bytes.starts_with(MAGIC);
        let at = if intact { MAGIC.len() } else { 0 };
        Self { name, bytes, at, next: name.first, intact_end: at, damaged: 0, damaged_bytes: 0 }
    }

    /// The position after the last intact record seen so far.
    pub(crate) fn next_position(&self) -> u64 {
        self.next
    }

    /// Bytes behind the last intact record.
    pub(crate) fn tail(&self) -> u64 {
        (self.bytes.len() - self.intact_end) as u64
    }

    /// Finds the next intact record at or after `self.at` by trying every byte. Positions only grow and each
    /// record needs a header's room, which rules out almost every offset before a checksum is computed.
    fn resynchronise(&self) -> Option<(usize, Found)> {
        let last_start = self.bytes.len().checked_sub(RECORD_HEADER)?;
        let most = self.next.saturating_add((self.bytes.len() / RECORD_HEADER) as u64);
        (self.at..=last_start).find_map(|at| {
            let position = u64::from_le_bytes(self.bytes[at + 4..at + 12].try_into().ok()?);
            if position < self.next || position > most {
                return None;
            }
            Some((at, self.name.decode(&self.bytes, at)?))
        })
    }
}

impl Iterator for Scan {
    type Item = (u64, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let found = match self.name.decode(&self.bytes, self.at) {
            Some(found) if found.position >= self.next => found,
            _ => {
                let (at, found) = self.resynchronise()?;
                self.damaged += 1;
                self.damaged_bytes += (at - self.at) as u64;
                found
            }
        };
        self.next = found.position + 1;
        self.at = found.end;
        self.intact_end = found.end;
        Some((found.position, self.bytes.slice(found.start..found.end)))
    }
}
