//! Indexes that were written come back, and any bytes are read or refused.

use model::Labels;
use proptest::prelude::*;

use block::needle::{Needle, Search};

use super::*;

const G: u64 = GRANULE_ROWS;

fn text(stream: usize, row: u64) -> String {
    let word = |n: usize| ["zero", "one", "two", "three", "four", "many"][n.min(5)];
    format!("stream-{}.row-{}", word(stream), word(row as usize / 1000))
}

/// Streams of some rows each, ten nanoseconds apart, with lines of seven bytes.
fn index(rows: &[u64]) -> Bytes {
    let mut builder = IndexBuilder::new();
    for (at, rows) in rows.iter().enumerate() {
        builder.stream(Labels::from_pairs([("app", at.to_string())]));
        for row in 0..*rows {
            builder.row(row as i64 * 10, 7);
            if row % 1000 == 0 {
                builder.text(&text(at, row));
            }
        }
    }
    let rest = RestNames::new(vec!["y".into(), "x".into(), "y".into()]);
    builder.finish(&Table::default(), &["detected_level".into()], &rest)
}

#[test]
fn comes_back() {
    let bytes = index(&[10, 2 * G - 10 + 1, G - 1]);
    let index = BlockIndex::decode(&bytes).unwrap();
    assert_eq!(index.columns, ["detected_level".into()]);
    assert!(index.rest.may_hold("x") && !index.rest.may_hold("z"));
    let rows: Vec<_> = index.streams.iter().map(|s| s.rows.clone()).collect();
    assert_eq!(rows, [0..10, 10..2 * G + 1, 2 * G + 1..3 * G]);
    assert_eq!(index.streams[1].parts.len(), 3);
    assert_eq!(index.streams[1].granules(), 0..3);
    assert_eq!(index.needles.len(), 3);
    let found = |needle: &str| index.needles.find(&Search::new([vec![Needle::text(needle)]]));
    assert_eq!(found("stream-zero.row"), [true, false, false]);
    assert_eq!(found("stream-one.row-many"), [false, true, false]);
    assert_eq!(found("stream-two.row-one"), [false, false, true]);
    let entries: u64 = index.streams[1].histogram.iter().map(|b| b.entries).sum();
    assert_eq!(entries, 2 * G - 9);
}

#[test]
fn amounts_of_a_time_range() {
    let index = BlockIndex::decode(&index(&[10, 2 * G + 11])).unwrap();
    let stream = &index.streams[1];
    let all = stream.amount(0, i64::MAX);
    assert_eq!(all, Amount { entries: 2 * G + 11, bytes: 7 * (2 * G + 11), parts: 3 });
    let last = stream.parts[0].last;
    assert_eq!(
        stream.amount(0, last / 2),
        Amount { entries: (G - 10) / 2, bytes: 7 * (G - 10) / 2, parts: 1 }
    );
    assert_eq!(stream.amount(i64::MAX, i64::MAX), Amount::default());
}

proptest! {
    #[test]
    fn rows_within_hold_all_that_lie_in_the_range_and_few_others(
        steps in prop::collection::vec(prop_oneof![Just(0i64), 0i64..5, 0i64..1_000_000], 1..40),
        repeat in 1usize..400, before in 0u64..9000, from in 0i64..20_000_000, length in 0i64..20_000_000,
    ) {
        let times: Vec<i64> = steps.iter().cycle().take(steps.len() * repeat).scan(-500i64, |time, step| {
            *time += step;
            Some(*time)
        }).collect();
        let mut builder = IndexBuilder::new();
        builder.stream(Labels::from_pairs([("app", "before")]));
        (0..before).for_each(|i| builder.row(i as i64, 1));
        builder.stream(Labels::from_pairs([("app", "this")]));
        times.iter().for_each(|t| builder.row(*t, 1));
        let index = BlockIndex::decode(&builder.finish(&Table::default(), &[], &RestNames::default())).unwrap();
        let stream = index.streams.last().unwrap();
        prop_assert_eq!(&stream.rows, &(before..before + times.len() as u64));
        let last = from + length;
        let rows = stream.rows_within(from, last);
        for (at, time) in times.iter().enumerate() {
            if (from..=last).contains(time) {
                prop_assert!(rows.contains(&(before + at as u64)), "{} of {:?}", at, rows);
            }
        }
        for part in 0..stream.parts.len() {
            for run in stream.runs_of(part) {
                prop_assert!(!run.rows.is_empty() && run.rows.end - run.rows.start <= 256);
                let times = &times[(run.rows.start - before) as usize..(run.rows.end - before) as usize];
                prop_assert!(times.iter().all(|t| run.first <= *t && *t <= run.last));
            }
        }
        // Where time goes evenly, no more than a run at each end is too much.
        if steps.iter().all(|s| *s == steps[0]) && steps[0] > 0 {
            let wanted = times.iter().filter(|t| (from..=last).contains(t)).count() as u64;
            prop_assert!(rows.end - rows.start <= wanted + 2 * 257, "{:?} for {}", rows, wanted);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>) {
        bytes.insert(0, VERSION);
        let _ = BlockIndex::decode(&bytes.into());
    }

    #[test]
    fn cut_indexes_are_refused(cut: prop::sample::Index) {
        let bytes = index(&[10, 5000, 300]);
        prop_assert!(BlockIndex::decode(&bytes.slice(..cut.index(bytes.len()))).is_err());
    }
}
