//! The whole grammar as a table: which queries are valid, and why the others are not.

use traceql::{ParseErrorKind, parse};

#[test]
fn every_verdict_agrees() {
    let mut failures = Vec::new();
    let mut counts = [0; 4];
    for line in include_str!("data/verdicts.txt").lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let (verdict, rest) = line.split_once(' ').expect("verdict and query");
        let (query, note) = rest.split_once(" ##").unwrap_or((rest, ""));
        let query = if query.trim() == "(empty text)" { "" } else { query };
        let (index, kind) = match verdict {
            "ok" => (0, None),
            "P" => (1, Some(ParseErrorKind::Syntax)),
            "V" => (2, Some(ParseErrorKind::Invalid)),
            "U" => (3, Some(ParseErrorKind::Unsupported)),
            other => panic!("verdict {other}"),
        };
        counts[index] += 1;
        let got = parse(query);
        let got_kind = got.as_ref().err().map(|e| e.kind);
        if got_kind != kind {
            failures
                .push(format!("{verdict} {query}: got {:?}", got.map(|_| "ok").map_err(|e| e.to_string())));
            continue;
        }
        // Columns must be near those noted.
        if let (Err(error), "P") = (got, verdict)
            && let Some(column) = note.trim().split([':', ' ']).nth(1).and_then(|c| c.parse::<u32>().ok())
        {
            let (_, at) = error.position.expect("a position");
            if at.abs_diff(column) > 4 {
                failures.push(format!("P {query}: column {at}, noted {column}: {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(counts, [105, 67, 40, 9]);
}

#[test]
fn hostile_text_is_refused_without_harm() {
    for text in [
        "{".repeat(100_000),
        "(".repeat(100_000),
        format!("{{ {} }}", "!".repeat(50_000)),
        format!("{{ {} }}", "-".repeat(50_000)),
        format!("{{ .a{} }}", " || .a".repeat(10_000)),
        format!("{{ 2{} }}", "^2".repeat(10_000)),
        format!("{}{{}}", "{} && ".repeat(10_000)),
        format!("count(){} > 1", " + count()".repeat(10_000)),
        format!("{{ .a = \"{}\" }}", "x".repeat(1 << 20)),
    ] {
        assert!(parse(&text).is_err());
    }
}

#[test]
fn error_texts_name_the_place_and_the_cause() {
    for (query, expect) in [
        ("}", "parse error at line 1, col 1: syntax error: unexpected }"),
        ("{ span.a = \"x }", "parse error at line 1, col 12: literal not terminated"),
        ("{ name > 3 && }", "parse error at line 1, col 15: syntax error: unexpected }"),
        ("{ foo.bar = 1 }", "parse error at line 1, col 3: unknown identifier: foo"),
        ("", "parse error : syntax error: unexpected $end"),
        ("{ duration > \"1s\" }", "binary operations must operate on the same type: duration > `1s`"),
        ("{ .a =~ \"[\" }", "invalid regex: `[`"),
        ("{ .a =~ .b }", "invalid type for =~ or !~: .b"),
        ("{ true + 1 = 2 }", "binary operations must operate on the same type: true + 1"),
        ("{ span:parentID = nil }", "span:parentID=nil is not valid because intrinsics cannot be nil"),
        (
            "{ .a = 1 } | avg(name) > 1",
            "aggregate field expressions must resolve to a number type: avg(name)",
        ),
        (
            "{ .a } | rate() | count() > 1",
            "parse error at line 1, col 19: syntax error: unexpected count, expecting topk or bottomk",
        ),
    ] {
        assert_eq!(parse(query).expect_err(query).to_string(), expect);
    }
}

proptest::proptest! {
    #[test]
    fn any_text_parses_or_errs(text in "[ {}()|&<>=!~.a-c0-9\"`+*/^,-]{0,60}|\\PC{0,40}") {
        let _ = parse(&text);
        let _ = traceql::parse_lenient(&text);
        let _ = traceql::parse_field(&text);
    }
}
