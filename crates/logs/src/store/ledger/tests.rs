//! The ledger against a set of bytes per source that never forgets and never joins.

#![allow(clippy::single_range_in_vec_init, reason = "rows have one range or several")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use model::Labels;
use proptest::collection::vec;
use proptest::prelude::*;
use wire::loki::Source;

use super::*;
use crate::store::record;
use crate::store::rows::StreamRows;

fn tenant(n: usize) -> TenantId {
    TenantId::parse(["a", "b"][n]).unwrap()
}

/// A row: the place of its source and its ranges.
type Row = (u32, Vec<Range<u64>>);

fn push(sources: &[(u128, u64)], streams: &[Vec<Row>]) -> Rows {
    let mut line = 0;
    let streams = streams.iter().enumerate().map(|(n, rows)| {
        let mut stream = StreamRows::new(Labels::from_pairs([("stream", n.to_string())]));
        for (source, ranges) in rows {
            stream.push(line, &line.to_string());
            stream.set_metadata("n", &(line % 3).to_string());
            if !ranges.is_empty() {
                stream.set_origin(ranges.iter().map(|r| Piece {
                    source: *source,
                    start: r.start,
                    end: r.end,
                }));
            }
            line += 1;
        }
        stream
    });
    let streams: Vec<_> = streams.filter(|stream| !stream.is_empty()).collect();
    let sources = sources.iter().map(|&(id, low)| Source { id, low }).collect();
    let origins = Origins::of(sources, &streams);
    Rows { streams, origins }
}

/// The numbers of the rows that are left.
fn lines(rows: &Rows) -> Vec<i64> {
    for stream in &rows.streams {
        let metadata: Vec<String> = stream.columns[0].iter().map(|(_, value)| value.to_owned()).collect();
        for (row, metadata) in metadata.iter().enumerate() {
            assert_eq!(stream.line(row), stream.timestamps[row].to_string());
            assert_eq!(*metadata, (stream.timestamps[row] % 3).to_string());
        }
    }
    rows.streams.iter().flat_map(|stream| stream.timestamps.iter().copied()).collect()
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Naive(BTreeMap<(usize, u128), (u64, BTreeSet<u64>)>);

impl Naive {
    /// The numbers of the rows that are new.
    fn admit(&mut self, tenant: usize, sources: &[(u128, u64)], streams: &[Vec<Row>]) -> Vec<i64> {
        for &(id, low) in sources {
            let known = self.0.entry((tenant, id)).or_default();
            known.0 = known.0.max(low);
        }
        let mut new = Vec::new();
        for (line, (source, ranges)) in streams.iter().flatten().enumerate() {
            let (low, stored) = self.0.get_mut(&(tenant, sources[*source as usize].0)).unwrap();
            let mut bytes = ranges.iter().cloned().flatten();
            if ranges.is_empty() || !bytes.all(|byte| byte < *low || stored.contains(&byte)) {
                new.push(line as i64);
                stored.extend(ranges.iter().cloned().flatten());
            }
        }
        new
    }

    /// Marks are gone, positions stay: what a sender says of itself is true whatever became of its lines.
    fn take_back(&mut self, before: Self) {
        for (key, known) in &mut self.0 {
            known.1 = before.0.get(key).map_or_else(BTreeSet::new, |known| known.1.clone());
        }
    }

    fn same_as(&self, ledger: &Ledger) {
        let mut held = 0;
        for ((tenant_of, id), (low, stored)) in &self.0 {
            let known = &ledger.tenants[&tenant(*tenant_of)][id];
            let above: BTreeSet<u64> = stored.iter().copied().filter(|byte| byte >= low).collect();
            let theirs: BTreeSet<u64> = known.stored.iter().flatten().collect();
            assert_eq!((known.low, theirs), (*low, above));
            held += known.bytes();
        }
        let counts = ledger.counts();
        assert_eq!(counts.sources, self.0.len());
        assert_eq!(counts.bytes, held + TENANT_BYTES * ledger.tenants.len());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        tenant: usize,
        lows: [u64; 2],
        streams: Vec<Vec<Row>>,
    },
    /// The appends since the last time were stored, or not.
    Settle(bool),
    Restart,
    /// The log is trimmed.
    Checkpoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = (0u64..40, 1u64..6).prop_map(|(start, length)| start..start + length);
    let streams = vec(vec((0u32..2, vec(range, 0..3)), 0..4), 1..3);
    let low = prop_oneof![4 => Just(0u64), 1 => 0u64..30];
    let push = (0..2usize, [low.clone(), low], streams).prop_map(|(tenant, lows, streams)| Step::Push {
        tenant,
        lows,
        streams,
    });
    let step = prop_oneof![
        8 => push,
        3 => Just(Step::Settle(true)),
        1 => Just(Step::Settle(false)),
        1 => Just(Step::Restart),
        1 => Just(Step::Checkpoint),
    ];
    vec(step, 0..40)
}

proptest! {
    #[test]
    fn knows_what_is_stored(steps in steps()) {
        let now = Timestamp::from_seconds(1_000_000_000);
        let (mut ledger, mut naive) = (Ledger::new(usize::MAX), Naive::default());
        // The log, and what of it is not settled.
        let (mut log, mut open) = (Vec::new(), Vec::new());
        let (mut checkpoint, mut before) = (None, naive.clone());
        for step in steps {
            match step {
                Step::Push { tenant: n, lows, streams } => {
                    let sources = [(7, lows[0]), (8, lows[1])];
                    let mut rows = push(&sources, &streams);
                    let all = rows.len();
                    let dropped = ledger.admit(&tenant(n), &mut rows, now);
                    prop_assert_eq!(lines(&rows), naive.admit(n, &sources, &streams));
                    prop_assert_eq!(dropped, rows.len() < all);
                    open.push((n, record::encode(&rows)));
                }
                Step::Settle(stored) => {
                    ledger.settle(stored);
                    match stored {
                        true => log.append(&mut open),
                        false => naive.take_back(before),
                    }
                    open.clear();
                    before = naive.clone();
                }
                // Only between commits.
                Step::Checkpoint | Step::Restart if !open.is_empty() => {}
                Step::Checkpoint => {
                    checkpoint = ledger.checkpoint(now);
                    log.clear();
                }
                Step::Restart => {
                    let mut again = Ledger::new(usize::MAX);
                    if let Some(checkpoint) = &checkpoint {
                        again.restore(checkpoint).unwrap();
                    }
                    for (n, body) in &log {
                        again.recall(&tenant(*n), &record::origins(body).unwrap().unwrap(), now);
                    }
                    // A position that came with a push which was not stored may be unknown again.
                    for (key, known) in &mut naive.0 {
                        let own = again.tenants.get(&tenant(key.0)).and_then(|sources| sources.get(&key.1));
                        let low = own.map_or(0, |own| own.low);
                        prop_assert!(low <= known.0);
                        let lost = low..known.0;
                        let theirs = own.map_or_else(BTreeSet::new, |o| o.stored.iter().flatten().collect());
                        prop_assert!(known.1.iter().all(|b| lost.contains(b) || *b < low || theirs.contains(b)));
                        *known = (low, theirs);
                    }
                    naive.0.retain(|key, _| {
                        again.tenants.get(&tenant(key.0)).is_some_and(|sources| sources.contains_key(&key.1))
                    });
                    before = naive.clone();
                    ledger = again;
                }
            }
            naive.same_as(&ledger);
        }
    }

    #[test]
    fn damaged_checkpoints_are_refused(cut: prop::sample::Index, bit in 0..8u8, noise: Vec<u8>) {
        let mut ledger = Ledger::new(usize::MAX);
        ledger.admit(&tenant(0), &mut push(&[(7, 3)], &[vec![(0, vec![5..9, 20..30])]]), Timestamp::now());
        let good = ledger.checkpoint(Timestamp::now()).unwrap().to_vec();
        let at = cut.index(good.len());
        let mut again = Ledger::new(usize::MAX);
        prop_assert!(again.restore(&good[..at]).is_err());
        let mut flipped = good.clone();
        flipped[at] ^= 1 << bit;
        prop_assert!(again.restore(&flipped).is_err());
        // Also when the sum is right.
        let mut summed = good[..at].to_vec();
        summed.extend(noise);
        summed.extend(xxh3_64(&summed).to_le_bytes());
        if again.restore(&summed).is_err() {
            prop_assert_eq!(again.counts(), LedgerCounts::default());
        }
        prop_assert!(again.restore(&good).is_ok());
    }
}

fn one(id: u128, range: Range<u64>) -> Rows {
    push(&[(id, 0)], &[vec![(0, vec![range])]])
}

/// Whether the range is new.
fn is_new(ledger: &mut Ledger, id: u128, range: Range<u64>, second: i64) -> bool {
    let mut rows = one(id, range);
    ledger.admit(&tenant(0), &mut rows, Timestamp::from_seconds(second));
    ledger.settle(true);
    !rows.is_empty()
}

#[test]
fn the_sources_not_seen_longest_make_room() {
    let mut ledger = Ledger::new(100 * (SOURCE_BYTES + RANGE_BYTES) + TENANT_BYTES);
    for n in 0..100 {
        assert!(is_new(&mut ledger, n, 0..10, n as i64));
    }
    assert_eq!((ledger.counts().sources, ledger.counts().forgotten), (100, 0));
    // The first is seen again, so that the second is the one that was not for longest.
    assert!(!is_new(&mut ledger, 0, 0..10, 100));
    assert!(is_new(&mut ledger, 100, 0..10, 101));
    let counts = ledger.counts();
    assert!((10..20).contains(&counts.forgotten), "{counts:?}");
    assert_eq!(counts.sources as u64, 101 - counts.forgotten);
    assert!(counts.bytes <= ledger.budget);
    for id in [0, 99, 100] {
        assert!(!is_new(&mut ledger, id, 0..10, 102), "{id} is remembered");
    }
    assert!(is_new(&mut ledger, 1, 0..10, 103), "what is forgotten is stored again");
}

#[test]
fn one_push_beyond_the_budget_is_stored_and_forgotten() {
    let mut ledger = Ledger::new(50 * RANGE_BYTES);
    let rows = || push(&[(1, 0)], &[(0..100).map(|n| (0, vec![2 * n..2 * n + 1])).collect()]);
    for _ in 0..2 {
        let mut rows = rows();
        assert!(!ledger.admit(&tenant(0), &mut rows, Timestamp::from_seconds(1)));
        ledger.settle(false);
        assert_eq!((rows.len(), ledger.counts().bytes), (100, 0));
    }
    // In the same second, too.
    let mut ledger = Ledger::new(10 * (SOURCE_BYTES + RANGE_BYTES) + TENANT_BYTES);
    assert!((0..1000).all(|id| is_new(&mut ledger, id, 0..1, 1)));
    assert!((8..=10).contains(&ledger.counts().sources), "{:?}", ledger.counts());
}

#[test]
fn a_week_of_silence_is_enough() {
    let mut ledger = Ledger::new(usize::MAX);
    assert!(is_new(&mut ledger, 1, 0..10, 0) && is_new(&mut ledger, 2, 0..10, 100));
    let checkpoint = |ledger: &mut Ledger, second| ledger.checkpoint(Timestamp::from_seconds(second));
    assert!(checkpoint(&mut ledger, FORGET_SECONDS).is_some());
    assert_eq!(ledger.counts().sources, 2);
    assert!(checkpoint(&mut ledger, FORGET_SECONDS + 1).is_some());
    assert_eq!((ledger.counts().sources, ledger.counts().forgotten), (1, 0));
    assert!(is_new(&mut ledger, 1, 0..10, 100) && !is_new(&mut ledger, 2, 0..10, 100));
    assert_eq!(checkpoint(&mut ledger, 2 * FORGET_SECONDS), None);
    assert_eq!(ledger.counts().bytes, 0);
}

#[test]
fn tenants_do_not_know_of_each_other() {
    let mut ledger = Ledger::new(usize::MAX);
    for n in [0, 1] {
        for expect in [1, 0] {
            let mut rows = one(7, 0..10);
            ledger.admit(&tenant(n), &mut rows, Timestamp::now());
            assert_eq!(rows.len(), expect);
        }
    }
    assert_eq!(ledger.counts().repeated, 2);
}

#[test]
fn what_lies_below_the_position_counts_as_stored_and_takes_no_room() {
    let mut ledger = Ledger::new(usize::MAX);
    for n in 0..50 {
        assert!(is_new(&mut ledger, 7, 20 * n..20 * n + 10, 1));
    }
    assert_eq!(ledger.counts().bytes, TENANT_BYTES + SOURCE_BYTES + 50 * RANGE_BYTES);
    let mut rows = push(&[(7, 900)], &[vec![(0, vec![10..20]), (0, vec![895..905]), (0, vec![895..911])]]);
    assert!(ledger.admit(&tenant(0), &mut rows, Timestamp::now()));
    // 900..910 was stored before, 910 was not.
    assert_eq!(lines(&rows), [2]);
    assert_eq!(ledger.counts().bytes, TENANT_BYTES + SOURCE_BYTES + 5 * RANGE_BYTES);
    // A position that goes back is an older one.
    assert!(!is_new(&mut ledger, 7, 10..20, 1));
}
