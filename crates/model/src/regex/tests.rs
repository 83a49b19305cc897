use proptest::prelude::*;

use super::*;

fn find(pattern: &str, text: &str) -> Option<(usize, usize)> {
    Regex::new(pattern).unwrap().find(text)
}

#[test]
fn go_syntax() {
    let check = |pattern: &str, text: &str, expect: Option<(usize, usize)>| {
        assert_eq!(find(pattern, text), expect, "{pattern} over {text}");
    };
    check(r#"{"a"#, r#"x{"a":1}"#, Some((1, 4)));
    check("a{,3}", "a{,3}", Some((0, 5)));
    check(r"\w+", "né", Some((0, 1)));
    check(r"\s", "\u{a0}\x0b", None);
    check("[a&&b]+", "a&b", Some((0, 3)));
    check(r"\Qa.b\E+", "xa.bb", Some((1, 5)));
    check(r"\101", "A", Some((0, 1)));
    check(r"(?i)\w+", "\u{212a}", Some((0, 3)));
    check(r"(?i)\W", "\u{212a}", None);
    check(r"\B", "日", Some((0, 0)));
    check(r"日\B", "日", Some((0, 3)));
}
