//! Every recorded answer of Go's `regexp` and `time` packages, given to our own.
//!
//! Cases that do not pass yet are listed in `go_answers.pending`; the list may only shrink.

#![allow(clippy::unwrap_used, reason = "helpers of a test: a broken file shall end it")]

use std::fmt::Debug;

use model::Timestamp;
use model::duration::{format_go, parse_go};
use model::gotime::{Layout, Zone};
use model::regex::Regex;
use serde_json::Value;

type Outcome = (String, Result<(), String>);

#[test]
fn every_recorded_answer() {
    let Some(answers) = testkit::recorded::json::<Value>("go.json") else { return };
    let outcomes = [regexps(&answers), durations(&answers), times(&answers)].into_iter().flatten();
    testkit::pending::check(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/go_answers.pending"), outcomes);
}

fn same<T: PartialEq + Debug>(found: T, expect: T) -> Result<(), String> {
    if found == expect { Ok(()) } else { Err(format!("{found:?} instead of {expect:?}")) }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key}"))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn regexps(answers: &Value) -> Vec<Outcome> {
    let inputs: Vec<(&str, Vec<u8>)> = list(answers, "regexp_inputs")
        .iter()
        .map(|input| input.as_str().unwrap())
        .map(|input| (input, unescape(input)))
        .collect();
    let mut outcomes = Vec::new();
    for case in list(answers, "regexp") {
        let pattern = text(case, "pattern");
        let regex = Regex::new(pattern);
        let refused = case["error"].as_bool().unwrap_or(false);
        outcomes.push((format!("regexp {pattern}"), same(regex.is_err(), refused)));
        let Ok(regex) = regex else { continue };
        let names: Vec<&str> =
            regex.capture_names().iter().skip(1).map(|name| name.as_deref().unwrap_or_default()).collect();
        let expect: Vec<&str> =
            case["groups"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
        outcomes.push((format!("regexp {pattern} groups"), same(names, expect)));
        for (input, bytes) in &inputs {
            let found = regex.captures_bytes(bytes);
            let offset = |at: usize| i64::try_from(at).unwrap();
            let found = found.map(|found| {
                let group = |index| found.get(index).map_or([-1, -1], |(s, e)| [offset(s), offset(e)]);
                (0..found.len()).flat_map(group).collect::<Vec<_>>()
            });
            let expect = case["matches"][*input]
                .as_array()
                .map(|offsets| offsets.iter().map(|offset| offset.as_i64().unwrap()).collect());
            let matched = same(regex.is_match_bytes(bytes), expect.is_some());
            outcomes.push((format!("regexp {pattern} over {input}"), same(found, expect).and(matched)));
        }
    }
    outcomes
}

fn durations(answers: &Value) -> Vec<Outcome> {
    let parsed = list(answers, "duration_parse").iter().map(|case| {
        let written = text(case, "text");
        (format!("duration {written}"), same(parse_go(written).ok(), case["nanos"].as_i64()))
    });
    let written = list(answers, "duration_string").iter().map(|case| {
        let nanos = case["nanos"].as_i64().unwrap();
        (format!("duration of {nanos}"), same(format_go(nanos).as_str(), text(case, "text")))
    });
    parsed.chain(written).collect()
}

fn times(answers: &Value) -> Vec<Outcome> {
    let utc = Zone::utc();
    let now = Layout::named("RFC3339Nano").unwrap().read("2026-11-02T03:04:05.067Z", &utc).unwrap();
    let mut outcomes = Vec::new();
    for case in list(answers, "time_format_of_2026-11-02T03:04:05.067Z") {
        let layout = text(case, "Layout");
        let written = Layout::parse(layout).write(now, &utc);
        outcomes.push((format!("time by {layout}"), same(written.as_str(), text(case, "Text"))));
    }
    for case in list(answers, "time_parse") {
        let (layout, value) = (text(case, "layout"), text(case, "value"));
        // Go's nanoseconds wrap around in years that an i64 does not hold.
        let nanos = |(s, n): (i64, i64)| s.wrapping_mul(1_000_000_000).wrapping_add(n);
        let layout_read = Layout::parse(layout);
        let found = layout_read.read_unix(value, &utc).ok().map(nanos);
        let mut outcome = same(found, case["unix_nanos"].as_i64());
        if layout_read.has_year() {
            let time = layout_read.read(value, &utc).ok();
            outcome = outcome.and(same(time, case["unix_nanos"].as_i64().map(Timestamp)));
        }
        outcomes.push((format!("time {value} by {layout}"), outcome));
    }
    outcomes
}

/// Resolves Go's string escapes.
fn unescape(escaped: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = escaped;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let code = |digits: &str| u32::from_str_radix(digits, 16).unwrap();
        let taken = match after.as_bytes()[0] {
            b'x' => {
                bytes.push(u8::try_from(code(&after[1..3])).unwrap());
                3
            }
            b'u' => {
                bytes.extend_from_slice(char::from_u32(code(&after[1..5])).unwrap().to_string().as_bytes());
                5
            }
            other => {
                bytes.push(match other {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'v' => 0x0b,
                    b'"' | b'\\' => other,
                    _ => panic!("unknown escape in {escaped}"),
                });
                1
            }
        };
        rest = &after[taken..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
