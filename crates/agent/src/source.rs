//! What makes a line the same line when it is sent again: the source that it was cut from, and where.
//!
//! A source is one generation of one file as one reader reads it. It gets a random id when the file is opened first, and a new one when
//! the file was truncated and begins anew. The id is on disk, bound to the file's identity, before the first line under it is sent
//! (see [`crate::positions`]), so that after a crash the same bytes go out under the same id, and a store that knows origins
//! takes them once. Where nothing can be written lines go out without an origin: at least once, as with any other client.
//!
//! A container that is read over the engine's API is a source too; its lines are ranges of one, by their times
//! ([`crate::positions`]). So is each sequence of a journal, whose entries have numbers.
//!
//! What this cannot know is how lines were grouped: where a crash falls between delivery and the saving of positions, and an
//! unfinished line or a multi-line block was handed on by time before it and is longer after it, the longer one is new.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_128;

/// One generation of one file as one reader reads it, a container, or a sequence of a journal.
#[derive(Debug)]
pub struct Source {
    id: u128,
    /// Whether a crash from now on leaves the id known.
    is_durable: AtomicBool,
    /// The position that is durably saved.
    low: AtomicU64,
}

impl Source {
    /// A new one.
    pub fn new() -> Self {
        Self { id: rand::random(), is_durable: AtomicBool::new(false), low: AtomicU64::new(0) }
    }

    /// One that was met before, and the position that was saved with it if it was.
    pub fn known(id: u128, saved: Option<u64>) -> Self {
        Self { id, is_durable: AtomicBool::new(saved.is_some()), low: AtomicU64::new(saved.unwrap_or(0)) }
    }

    /// Nobody else's.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// The id under which a client sends. Each has another, so that two clients with different labels (`client` is what tells
    /// them apart) into one store do not hide each other's lines.
    pub fn id_on_wire(&self, client: &[u8]) -> u128 {
        let mut key = self.id.to_be_bytes().to_vec();
        key.extend_from_slice(client);
        xxh3_128(&key)
    }

    /// Whether lines may go out under it.
    pub fn is_durable(&self) -> bool {
        self.is_durable.load(Ordering::Acquire)
    }

    /// Nothing below this will be sent again.
    pub fn low(&self) -> u64 {
        self.low.load(Ordering::Acquire)
    }

    /// What is saved of it, if it is.
    pub fn saved(&self) -> Option<u64> {
        self.is_durable().then(|| self.low())
    }

    /// Id and position are on disk.
    pub fn set_saved(&self, low: u64) {
        self.low.fetch_max(low, Ordering::AcqRel);
        self.is_durable.store(true, Ordering::Release);
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

/// The raw records, line ends included, that went into an entry. Neighbours are one range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ranges {
    /// Not known.
    #[default]
    None,
    /// The usual case, which needs no memory of its own.
    One(Range<u64>),
    /// Where outputs take turns.
    Many(Vec<Range<u64>>),
}

impl Ranges {
    /// The bytes from `start` up to `end`.
    pub fn one(start: u64, end: u64) -> Self {
        if start < end { Self::One(start..end) } else { Self::None }
    }

    /// All of them in order.
    pub fn as_slice(&self) -> &[Range<u64>] {
        match self {
            Self::None => &[],
            Self::One(range) => std::slice::from_ref(range),
            Self::Many(ranges) => ranges,
        }
    }

    /// Adds what comes behind.
    pub fn join(&mut self, other: &Self) {
        for range in other.as_slice() {
            match self {
                Self::None => *self = Self::One(range.clone()),
                Self::One(last) if last.end == range.start => last.end = range.end,
                Self::One(last) => *self = Self::Many(vec![last.clone(), range.clone()]),
                Self::Many(all) => match all.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => all.push(range.clone()),
                },
            }
        }
    }
}

/// Acknowledged bytes whose positions are not on disk yet. When there are many of them it is time to save: a store
/// remembers of each source what lies above the saved position.
#[derive(Debug, Default)]
pub struct Unsaved {
    bytes: AtomicU64,
    due: Notify,
}

impl Unsaved {
    /// So many are too many.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// Counts acknowledged bytes.
    pub fn add(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before < Self::MAX_BYTES && before + bytes >= Self::MAX_BYTES {
            self.due.notify_one();
        }
    }

    /// Positions are being saved.
    pub fn clear(&self) {
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Resolves when there are too many.
    pub async fn due(&self) {
        self.due.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range() {
        let mut ranges = Ranges::one(0, 100);
        ranges.join(&Ranges::one(100, 150));
        assert_eq!(ranges, Ranges::One(0..150));
        ranges.join(&Ranges::one(200, 300));
        ranges.join(&Ranges::one(300, 310));
        assert_eq!(ranges.as_slice(), [0..150, 200..310]);
        ranges.join(&Ranges::None);
        assert_eq!(ranges.as_slice().len(), 2);
        assert_eq!(Ranges::one(5, 5), Ranges::None);
    }

    #[test]
    fn each_client_has_another_id() {
        let source = Source::known(7, Some(10));
        assert_ne!(source.id_on_wire(b"a"), source.id_on_wire(b"b"));
        assert_eq!(source.id_on_wire(b"a"), Source::known(7, None).id_on_wire(b"a"));
        source.set_saved(5);
        assert_eq!((source.low(), source.is_durable()), (10, true));
    }

    #[tokio::test]
    async fn many_unsaved_bytes_are_due() {
        let unsaved = Unsaved::default();
        unsaved.add(Unsaved::MAX_BYTES - 1);
        assert!(futures::poll!(std::pin::pin!(unsaved.due())).is_pending());
        unsaved.add(1);
        unsaved.due().await;
    }
}
