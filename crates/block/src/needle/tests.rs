//! The needle index says no only where it must.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// Builds an index of granules of texts and checks that a search finds every granule whose text contains the needle.
fn index(granules: &[Vec<String>]) -> NeedleIndex {
    let mut builder = NeedleBuilder::new();
    for granule in granules {
        granule.iter().for_each(|text| builder.text(text.as_bytes()));
        builder.end_granule();
    }
    NeedleIndex::decode(builder.finish().into()).unwrap()
}

fn search(needle: &str) -> Search {
    Search::new([vec![Needle::text(needle)]])
}

/// Texts with all kinds of tokens.
fn text() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        "[a-z]{1,20}",
        "[a-f0-9]{1,40}",
        "[A-Z0-9a-z_.-]{1,40}",
        "[0-9]{1,12}(\\.[0-9]{1,6})?",
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}",
        "(äöü|日本|x){1,9}",
        "[a-z]{9,12}[0-9][a-z]{9,12}",
    ];
    prop::collection::vec((token, prop_oneof![Just(" "), Just("="), Just("\""), Just("/"), Just("")]), 1..8)
        .prop_map(|parts| parts.into_iter().flat_map(|(token, gap)| [token, gap.to_owned()]).collect())
}

fn part(text: &str, from: &prop::sample::Index, to: &prop::sample::Index) -> String {
    let borders: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
    let (from, to) = (borders[from.index(borders.len())], borders[to.index(borders.len())]);
    text[from.min(to)..from.max(to)].to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_text_that_is_there_is_found(
        granules in prop::collection::vec(prop::collection::vec(text(), 1..4), 1..5),
        granule: prop::sample::Index, row: prop::sample::Index, from: prop::sample::Index, to: prop::sample::Index,
    ) {
        let rows = granule.get(&granules);
        let needle = part(&rows[row.index(rows.len())], &from, &to);
        let found = index(&granules).find(&search(&needle));
        prop_assert_eq!(found.len(), granules.len());
        for (granule, found) in granules.iter().zip(found) {
            prop_assert!(found || !granule.iter().any(|text| text.contains(&needle)), "{:?} in {:?}", needle, granule);
        }
    }

    #[test]
    fn a_value_that_is_there_is_found(
        length in 1usize..40,
        seeds in prop::collection::vec("[a-zA-Z0-9_ :\\\\-]{40}|[0-9a-f]{40}|(é|a|ß){40}", 1..6),
        which: prop::sample::Index, from: prop::sample::Index, to: prop::sample::Index,
    ) {
        let values: Vec<&str> = seeds.iter().map(|s| s.get(..length).unwrap_or(s)).collect();
        let mut builder = NeedleBuilder::new();
        let column = builder.fixed(length).unwrap();
        for value in &values {
            builder.value(column, value.as_bytes());
            builder.end_granule();
        }
        let index = NeedleIndex::decode(builder.finish().into()).unwrap();
        let needle = part(values[which.index(values.len())], &from, &to);
        for needle in [search(&needle), Search::new([vec![Needle::text(needle.as_str()).or_escaped()]])] {
            for (value, found) in values.iter().zip(index.find(&needle)) {
                prop_assert!(found || !value.contains(&part(values[which.index(values.len())], &from, &to)), "{:?} in {:?}", needle, value);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>, needle in text()) {
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        if let Ok(index) = NeedleIndex::decode(Bytes::from(bytes)) {
            prop_assert_eq!(index.find(&search(&needle)).len(), index.len());
        }
    }

    #[test]
    fn cut_indexes_are_refused(texts in prop::collection::vec(prop::collection::vec(text(), 1..3), 1..3), cut: prop::sample::Index) {
        let mut builder = NeedleBuilder::new();
        builder.fixed(8);
        for text in texts.iter().flatten() {
            builder.text(text.as_bytes());
            builder.end_granule();
        }
        let bytes = Bytes::from(builder.finish());
        let cut = 1 + cut.index(bytes.len() - 1);
        prop_assert!(NeedleIndex::decode(bytes.slice(..cut)).is_err());
    }
}

#[test]
fn clauses_and_alternatives() {
    let index = index(&[
        vec!["connection refused by upstream".into()],
        vec!["connection reset by peer-number-one".into()],
        vec!["a deadline exceeded".into()],
    ]);
    let check = |clauses: &[&[&str]], want: [bool; 3]| {
        let clauses = clauses.iter().map(|c| c.iter().map(|n| Needle::text(*n)).collect());
        assert_eq!(index.find(&Search::new(clauses)), want);
    };
    check(&[&["connection re"]], [true, true, false]);
    check(&[&["connection refused by upstream"]], [true, false, false]);
    check(&[&["onnectio"], &["peer-num"]], [false, true, false]);
    check(&[&["upstream", "exceeded"]], [true, false, true]);
    // Too short to tell, alone or as an alternative.
    check(&[&["peer"]], [true, true, true]);
    check(&[&["upstream", "a"]], [true, true, true]);
    check(&[&["not there"]], [true, true, true]);
    check(&[&["not_there"]], [false, false, false]);
    let all = |texts: &[&str]| Search::new([vec![Needle::all(texts.iter().copied())]]);
    assert_eq!(index.find(&all(&["connection", "upstream", "by"])), [true, false, false]);
    assert!(Search::new([vec![Needle::text("a b c")]]).is_empty());
}

#[test]
fn numbers_and_ids() {
    let mut builder = NeedleBuilder::new();
    let (trace, word) = (builder.fixed(32).unwrap(), builder.fixed(10).unwrap());
    builder.hex(trace, &[0xab; 16]);
    builder.numbers(9);
    builder.end_granule();
    builder.value(word, b"task-x\\ 01");
    builder.value(trace, b"of-another-length than the column has");
    builder.end_granule();
    let index = NeedleIndex::decode(builder.finish().into()).unwrap();
    let check = |needle: Needle, want: [bool; 2]| {
        assert_eq!(index.find(&Search::new([vec![needle.clone()]])), want, "{needle:?}");
    };
    check(Needle::text("ab".repeat(16)), [true, false]);
    check(Needle::text("ab".repeat(15) + "ac"), [false, false]);
    // Part of an id that is there, or could be; longer than any.
    check(Needle::text("abababab"), [true, false]);
    check(Needle::text("ab".repeat(17)), [false, false]);
    check(Needle::text("12345678"), [true, false]);
    check(Needle::text("-1234.678"), [true, false]);
    check(Needle::text("1234567890"), [false, false]);
    check(Needle::text("absentee"), [false, false]);
    // A backslash may stand for anything.
    check(Needle::text("absentee").or_escaped(), [false, true]);
    check(Needle::text("by-another"), [false, false]);
    check(Needle::text("another-length than"), [false, true]);
}

#[test]
fn noise_is_not_indexed() {
    let mut builder = NeedleBuilder::new();
    for line in 0..2000u64 {
        let text: String =
            (0..40).map(|i| format!("{:x}q", (line * 40 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        builder.text(text.as_bytes());
    }
    builder.end_granule();
    let bytes = builder.finish();
    assert!(bytes.len() < 100, "{}", bytes.len());
    let index = NeedleIndex::decode(bytes.into()).unwrap();
    assert_eq!(index.find(&search("certainly-absent")), [true]);
}
