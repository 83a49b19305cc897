//! Syntax, matching and hints, beyond what the recorded answers cover.

use proptest::prelude::*;

use super::*;

#[test]
fn go_syntax() {
    let check = |pattern: &str, text: &str, expect: Option<(usize, usize)>| {
        assert_eq!(Regex::new(pattern).unwrap().find(text), expect, "{pattern} over {text}");
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
    check(r"\x{D800}", "\u{fffd}", None);
    check(r"\p{old italic}", "\u{10300}", Some((0, 4)));
    check("a(?i)b*", "aBb", Some((0, 3)));
    check("(?i:a)A", "aA", Some((0, 2)));
    check("(?U)a+a+?", "aaa", Some((0, 3)));
    check("(a{0}|x)b", "xb", Some((0, 2)));
}

#[test]
fn errors_are_gos() {
    let check = |pattern: &str, expect: &str| {
        let error = Regex::new(pattern).unwrap_err().to_string();
        assert_eq!(error, format!("error parsing regexp: {expect}"));
        assert!(Regex::anchored(pattern).is_err());
    };
    check("a(b", "missing closing ): `a(b`");
    check("a)", "unexpected ): `a)`");
    check("[a", "missing closing ]: `[a`");
    check("[b-a]", "invalid character class range: `b-a`");
    check(r"\pQ", r"invalid character class range: `\pQ`");
    check("[[:foo:]]", "invalid character class range: `[:foo:]`");
    check("*", "missing argument to repetition operator: `*`");
    check("a|*?", "missing argument to repetition operator: `*?`");
    check("a**", "invalid nested repetition operator: `**`");
    check("a{1001}", "invalid repeat count: `{1001}`");
    check("(a{500}){3}?", "invalid repeat count: `{3}?`");
    check("(?P<n-x>a)", "invalid named capture: `(?P<n-x>`");
    check("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
    check(r"\u0041", r"invalid escape sequence: `\u`");
    check(r"a\", "trailing backslash at end of expression: ``");
    check(r"\pL{1000}", r"expression too large: `\pL{1000}`");
}

#[test]
fn limits() {
    let nested = |depth: usize| format!("{}x{}", "(?:a|(b".repeat(depth / 2), ")*c)+?".repeat(depth / 2));
    let deepest = Regex::new(&nested(250)).unwrap();
    assert!(deepest.is_match("abx") && deepest.captures("bxc").is_some());
    assert!(Regex::new(&nested(252)).unwrap_err().0.starts_with("expression nests too deeply"));
    assert!(Regex::new(&"(".repeat(1 << 20)).is_err());
    assert!(Regex::new(&"a".repeat((1 << 20) + 1)).is_err());
    assert!(Regex::new(&r"[\pL]".repeat(10_000)).unwrap_err().0.starts_with("expression too large"));
}

#[test]
fn anchored_is_the_whole_text() {
    let regex = Regex::anchored("foo|ba.").unwrap();
    assert_eq!(regex.as_str(), "foo|ba.");
    for (text, expect) in [("foo", true), ("bar", true), ("ba\n", true), ("foobar", false), ("xfoo", false)] {
        assert_eq!(regex.is_match(text), expect, "{text}");
    }
}

#[test]
fn groups_and_replacements() {
    let regex = Regex::new(r"(?P<key>\w+)=(?P<value>\w*)|(?P<key>#)").unwrap();
    let names: Vec<_> = regex.capture_names().iter().map(|n| n.as_deref()).collect();
    assert_eq!(names, [None, Some("key"), Some("value"), Some("key")]);
    let found = regex.captures("a=1").unwrap();
    assert_eq!((found.len(), found.get(1), found.get(3)), (4, Some((0, 1)), None));

    let check = |template: &str, expect: &str| assert_eq!(regex.replace_all("x a=1 #", template), expect);
    check("$2", "x 1 ");
    check("${key}:$value;", "x a:1; #:;");
    check("$1x|", "x | |");
    check("${1}x", "x ax x");
    check("$$1$", "x $1$ $1$");
    check("${key", "x ${key ${key");
    assert_eq!(Regex::new("a*").unwrap().replace_all("baac", "-"), "-b-c-");
    assert_eq!(regex.replace_all_with("a=1 b=2", |_, out| out.push('?')), "? ?");
}

#[test]
fn hints() {
    let check = |pattern: &str, required: Option<&str>, alternatives: Option<&[&str]>| {
        for regex in [Regex::new(pattern).unwrap(), Regex::anchored(pattern).unwrap()] {
            assert_eq!(regex.required_literal(), required, "{pattern}");
            let found = regex.alternatives().map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), alternatives, "{pattern}");
        }
    };
    check("error", Some("error"), Some(&["error"]));
    check(r"level=(\w+) msg", Some("level="), None);
    check(r#""trace_id":"(?P<id>4bf9)"#, Some(r#""trace_id":"4bf9"#), Some(&[r#""trace_id":"4bf9"#]));
    check("foo|ba[rz]", None, Some(&["foo", "bar", "baz"]));
    check("ab+c", Some("ab"), None);
    check("a?bc", Some("bc"), Some(&["abc", "bc"]));
    check("(?i)x1", Some("1"), Some(&["X1", "x1"]));
    check(".*", None, None);
    assert_eq!(Regex::new(r"\Qa.b\E").unwrap().as_literal(), Some("a.b"));
    assert_eq!(Regex::new("a|b").unwrap().as_literal(), None);
}

#[test]
fn bytes_that_are_not_utf8() {
    let found = Regex::new("^(.)(.)a").unwrap().captures_bytes(b"\xff\xfea").unwrap();
    assert_eq!((found.get(0), found.get(2)), (Some((0, 3)), Some((1, 2))));
    assert!(!Regex::new("^..$").unwrap().is_match_bytes(b"\xff\xfea"));
}

/// Patterns of pieces, most of which fit together.
fn patterns() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "é",
        "日",
        "{",
        ".",
        "^",
        "$",
        r"\b",
        r"\B",
        r"\d",
        r"\W",
        r"\pL",
        r"\P{Greek}",
        "[a-c]",
        "[^b]",
        "[[:alpha:]]",
        r"\Q*\E",
        r"\x41",
        "(?i)",
        "(?s-m:",
        "(",
        "(?:",
        "(?P<n>",
        ")",
        ")",
        "|",
        "*",
        "+?",
        "{2,3}",
        "{2}",
        "[",
        "]",
        r"\",
        "(?",
        "{1000}",
        "-",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Patterns of the syntax that means the same in Go and in Rust.
fn common_patterns() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "é",
        ".",
        "[ab]",
        "[^a]",
        "^",
        "$",
        r"\pL",
        "(?i)B",
        r"(?-u:\b)",
        r"(?-u:\d)",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join("|"))),
            (inner, prop::sample::select(vec!["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}"]))
                .prop_map(|(inner, operator)| format!("(?:{inner}){operator}")),
        ]
    })
}

proptest! {
    #[test]
    fn never_panics(pattern in patterns(), wild in "\\PC{0,12}", text in "[ab日é \n*]{0,12}", template in "[$a-c{}0-9n]{0,8}") {
        for pattern in [&pattern, &wild] {
            let Ok(regex) = Regex::new(pattern) else { continue };
            prop_assert!(Regex::anchored(pattern).is_ok());
            let _ = regex.replace_all(&text, &template);
            for found in regex.captures_iter(&text) {
                let (start, end) = found.whole();
                let part = &text[start..end];
                prop_assert!(regex.required_literal().is_none_or(|literal| part.contains(literal)));
                prop_assert!(regex.alternatives().is_none_or(|all| all.iter().any(|one| one == part)));
            }
        }
    }

    #[test]
    fn as_rust_where_the_syntax_is_the_same(pattern in common_patterns(), text in "[abB1é \n]{0,10}") {
        let rust = regex::Regex::new(&pattern).unwrap();
        let ours = Regex::new(&pattern.replace("(?-u:", "(?:")).unwrap();
        let expect = rust.captures(&text).map(|found| {
            found.iter().map(|group| group.map(|m| (m.start(), m.end()))).collect::<Vec<_>>()
        });
        let found = ours.captures(&text).map(|found| (0..found.len()).map(|i| found.get(i)).collect::<Vec<_>>());
        prop_assert_eq!(found, expect);
    }

    #[test]
    fn bytes_answer_as_text(pattern in common_patterns(), bytes: Vec<u8>) {
        let regex = Regex::new(&pattern.replace("(?-u:", "(?:")).unwrap();
        let found = regex.captures_bytes(&bytes);
        prop_assert_eq!(regex.is_match_bytes(&bytes), found.is_some());
        if let Some(found) = found {
            let (start, end) = found.whole();
            prop_assert!(start <= end && end <= bytes.len());
        }
    }
}
