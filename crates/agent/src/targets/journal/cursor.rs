//! How far a journal has been acknowledged, and what its entries are known by.
//!
//! An entry's cursor names the sequence that it belongs to (`s=`), its number there (`i=`) and the boot that wrote it (`b=`). Numbers
//! of a sequence rise, and no two entries have the same. So each sequence and boot is a source, whose id is made of a random one that
//! is kept with the cursor, and an entry is the range of its number.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use crate::progress::{Progress, Ticket};
use crate::source::{Ranges, Source, Unsaved};

/// How far one job has read the journal.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// What the ids of sources are made of.
    source: Source,
    unsaved: Arc<Unsaved>,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// Of the last entry that is acknowledged.
    acknowledged: Option<String>,
    /// Of entries that are not, which are when their progress has come so far.
    open: VecDeque<(Arc<Progress>, u64, String)>,
    sequences: Vec<Sequence>,
}

/// Entries of one sequence and boot.
#[derive(Debug)]
struct Sequence {
    name: String,
    progress: Arc<Progress>,
}

impl Cursor {
    /// Most sequences that are remembered.
    const MAX_SEQUENCES: usize = 64;

    /// A journal that is done up to an entry, or not begun.
    pub(crate) fn of_source(name: Option<String>, source: Source, unsaved: Arc<Unsaved>) -> Arc<Self> {
        let names = Names { acknowledged: name, ..Names::default() };
        Arc::new(Self { source, unsaved, names: Mutex::new(names) })
    }

    /// What the ids of its sources are made of.
    pub(crate) fn id(&self) -> u128 {
        self.source.id()
    }

    /// Whether that is on disk.
    pub(crate) fn is_durable(&self) -> bool {
        self.source.is_durable()
    }

    /// The sources, and what lies below what is acknowledged of each.
    pub(crate) fn lows(&self) -> Vec<(Arc<Progress>, u64)> {
        let names = self.names.lock();
        names.sequences.iter().map(|s| (s.progress.clone(), s.progress.acknowledged())).collect()
    }

    /// The id, the cursor and these are on disk.
    pub(crate) fn set_saved(&self, lows: &[(Arc<Progress>, u64)]) {
        self.source.set_saved(0);
        for (progress, low) in lows {
            if let Some(source) = progress.source() {
                source.set_saved(*low);
            }
        }
    }

    /// Opens a ticket for the next entry, which counts one for whoever opened it, and tells what the entry is known by.
    pub(crate) fn open(&self, name: String) -> (Arc<Ticket>, Ranges) {
        let mut names = self.names.lock();
        names.settle();
        let numbered = numbered(&name).and_then(|(sequence, number)| {
            let progress = names.sequence(&sequence, || self.sequence(&sequence));
            // A number that was there already names nothing.
            (progress.read() <= number).then_some((progress, number))
        });
        let (progress, end, ranges) = match numbered {
            Some((progress, number)) => (progress, number + 1, Ranges::one(number, number + 1)),
            None => (Progress::new(0), 1, Ranges::None),
        };
        names.open.push_back((progress.clone(), end, name));
        (progress.open(end), ranges)
    }

    fn sequence(&self, name: &str) -> Arc<Progress> {
        let id = xxh3_128(&[&self.id().to_be_bytes(), name.as_bytes()].concat());
        let source = Source::known(id, self.is_durable().then_some(0));
        Progress::of_lines(0, source, self.unsaved.clone())
    }

    /// The entry before which everything is done.
    pub(crate) fn acknowledged(&self) -> Option<String> {
        let mut names = self.names.lock();
        names.settle();
        names.acknowledged.clone()
    }

    /// The last entry that was read.
    pub(crate) fn read(&self) -> Option<String> {
        let names = self.names.lock();
        names.open.back().map(|(_, _, name)| name.clone()).or_else(|| names.acknowledged.clone())
    }

    /// Begins anew: the journal does not know the name.
    pub(crate) fn forget(&self) {
        *self.names.lock() = Names::default();
    }
}

impl Names {
    fn settle(&mut self) {
        while self.open.front().is_some_and(|(progress, end, _)| progress.acknowledged() >= *end) {
            self.acknowledged = self.open.pop_front().map(|(_, _, name)| name);
        }
    }

    fn sequence(&mut self, name: &str, new: impl FnOnce() -> Arc<Progress>) -> Arc<Progress> {
        if let Some(known) = self.sequences.iter().find(|known| known.name == name) {
            return known.progress.clone();
        }
        if self.sequences.len() >= Cursor::MAX_SEQUENCES
            && let Some(idle) = self.sequences.iter().position(|known| known.progress.is_idle())
        {
            self.sequences.remove(idle);
        }
        let progress = new();
        self.sequences.push(Sequence { name: name.to_owned(), progress: progress.clone() });
        progress
    }
}

/// The sequence and boot of an entry, and its number.
fn numbered(cursor: &str) -> Option<(String, u64)> {
    let part = |name: &str| cursor.split(';').find_map(|part| part.strip_prefix(name));
    let number = u64::from_str_radix(part("i=")?, 16).ok().filter(|number| *number < u64::MAX)?;
    Some((format!("{};{}", part("s=")?, part("b=")?), number))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "ranges are what is compared")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor(name: Option<&str>) -> Arc<Cursor> {
        Cursor::of_source(name.map(str::to_owned), Source::known(7, Some(0)), Arc::default())
    }

    fn entry(sequence: u8, boot: u8, number: u64) -> String {
        format!("s={sequence:x};i={number:x};b={boot:x};m=1;t=2;x=3")
    }

    #[test]
    fn names_follow_in_order() {
        let cursor = cursor(Some("old"));
        assert_eq!(cursor.read().as_deref(), Some("old"));
        let open = |number| cursor.open(entry(1, 1, number)).0;
        let (a, b, c) = (open(10), open(11), open(20));
        b.done(1);
        assert_eq!(cursor.acknowledged().as_deref(), Some("old"));
        assert_eq!(cursor.read(), Some(entry(1, 1, 20)));
        a.done(1);
        assert_eq!(cursor.acknowledged(), Some(entry(1, 1, 11)));
        c.done(1);
        assert_eq!((cursor.acknowledged(), cursor.read()), (Some(entry(1, 1, 20)), Some(entry(1, 1, 20))));
        cursor.forget();
        assert_eq!(cursor.read(), None);
    }

    #[test]
    fn an_entry_is_its_number_in_its_sequence() {
        let known = |cursor: &Cursor, name: String| {
            let (ticket, ranges) = cursor.open(name);
            (ticket.progress().source().map(Source::id), ranges.as_slice().to_vec())
        };
        let (first, again) = (cursor(None), cursor(None));
        let (id, ranges) = known(&first, entry(1, 1, 0x10));
        assert_eq!(ranges, [0x10..0x11]);
        assert_eq!(known(&first, entry(1, 1, 0x11)), (id, vec![0x11..0x12]));
        for other in [entry(2, 1, 0x10), entry(1, 2, 0x10)] {
            assert_ne!(known(&first, other).0, id);
        }
        assert_eq!(known(&again, entry(1, 1, 0x11)), (id, vec![0x11..0x12]));
        for unknown in
            [entry(1, 1, 0x11), "c1".into(), "s=1;i=x;b=1".into(), "s=1;i=ffffffffffffffff;b=1".into()]
        {
            assert_eq!(known(&first, unknown), (None, Vec::new()));
        }
    }

    #[test]
    fn what_is_not_on_disk_is_not_durable() {
        let cursor = Cursor::of_source(None, Source::new(), Arc::default());
        let (ticket, _) = cursor.open(entry(1, 1, 5));
        let source = ticket.progress().source().unwrap();
        assert!(!source.is_durable());
        ticket.done(1);
        cursor.set_saved(&cursor.lows());
        assert_eq!((source.is_durable(), source.low(), cursor.is_durable()), (true, 6, true));
    }

    proptest! {
        #[test]
        fn nothing_is_acknowledged_before_what_was_read_before_it(
            entries in proptest::collection::vec((0_u8..3, 0_u8..2, 0_u64..20), 1..40),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 40),
        ) {
            let cursor = cursor(None);
            let names: Vec<_> = entries.iter().enumerate().map(|(i, (s, b, n))| format!("{};n={i}", entry(*s, *b, *n))).collect();
            let mut open: Vec<_> = names.iter().enumerate().map(|(i, name)| (i, cursor.open(name.clone()).0)).collect();
            for index in order {
                if open.is_empty() { break; }
                open.remove(index.index(open.len())).1.done(1);
                let first = open.iter().map(|(i, _)| *i).min().unwrap_or(names.len());
                prop_assert_eq!(cursor.acknowledged(), first.checked_sub(1).map(|last| names[last].clone()));
            }
        }
    }
}
