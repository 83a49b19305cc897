//! Behaviour of stages that a line of example does not show: faults of configuration, time, acknowledgement, any bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Labels, Timestamp};
use proptest::prelude::*;
use service::Metrics;

use super::examples::{compile, entry, run, show};
use crate::entry::{Entry, Tickets};
use crate::metrics::{AgentMetrics, StageMetrics};
use crate::progress::{Progress, Ticket};

/// What comes out is given an entry a line.
#[track_caller]
fn check(stages: &str, lines: &str, want: &str) {
    let got = run(stages, lines).unwrap();
    assert_eq!(got.trim_end(), want.trim_end(), "{stages}");
}

/// Every problem must be told, each with its place.
#[track_caller]
fn faults(stages: &str, want: &[&str]) {
    let problems = compile(stages, &StageMetrics::default()).err().unwrap_or_default();
    let told: Vec<&str> = problems.lines().collect();
    for want in want {
        assert!(told.iter().any(|line| line.contains(want)), "{want} is not told in\n{problems}");
    }
    assert_eq!(told.len(), want.len(), "{problems}");
}

#[test]
fn all_faults_are_told_with_their_place() {
    faults(
        "- json: {expressions: {a: 'foo['}}\n- regex: {expression: '('}\n- nope: {}\n- drop: {sourc: a}",
        &[
            "pipeline_stages[0].json.expressions.a: 'foo['",
            "pipeline_stages[1].regex.expression: '('",
            "pipeline_stages[2].nope: no pipeline stage is called 'nope'",
            "pipeline_stages[3].drop.sourc",
            "pipeline_stages[3].drop: give at least one of",
        ],
    );
    faults("- {json: {expressions: {a: }}, labels: {a: }}", &["a pipeline stage must contain only one key"]);
    faults("- match: {selector: '{a=\"b\"'}", &["match.selector", "match.stages"]);
    faults(
        "- match: {selector: '{a=\"b\"}', stages: [{labels: {a-b: }}]}",
        &["pipeline_stages[0].match.stages[0].labels.a-b: 'a-b' is not a name"],
    );
    faults(
        "- match: {selector: '{a=\"b\"}', action: drop, stages: [{output: {source: a}}]}",
        &["match.stages"],
    );
    faults("- match: {selector: '{a=\"b\"}', action: no}", &["match.action"]);
    faults(
        "- template: {source: a, template: '{{ nosuch . }}'}",
        &["template.template: template: pipeline_template:1: function \"nosuch\""],
    );
    faults("- template: {template: '{{ .x'}", &["template.source", "template.template"]);
    faults("- replace: {expression: '', replace: '{{'}", &["replace.expression", "replace.replace"]);
    faults(
        "- timestamp: {location: Nowhere, action_on_failure: no}",
        &["timestamp.source", "timestamp.format", "timestamp.location", "timestamp.action_on_failure"],
    );
    faults("- multiline: {max_lines: 0}", &["multiline.firstline", "multiline.max_lines"]);
    faults("- tenant: {value: a, label: b}", &["exactly one"]);
    faults("- limit: {rate: 1, burst: 0}", &["rate and burst"]);
    faults("- limit: {rate: 1, burst: 1, by_label_name: a}", &["limit.by_label_name"]);
    faults("- sampling: {rate: 1.5}", &["sampling.rate"]);
    faults("- sampling: {}", &["sampling.rate"]);
    faults("- drop: {source: a, value: b, expression: c}", &["drop.value"]);
    faults("- drop: {value: b}", &["drop.value"]);
    faults("- labelallow: []", &["labelallow"]);
    faults("- geoip: {db: /x, source: ip, db_type: town}", &["geoip.db_type", "geoip: geoip databases"]);
    faults("- cri: {max_partial_lines: 0}", &["cri.max_partial_lines"]);
    faults("- regex: {expression: a}", &["name at least one group"]);
    faults("- output: {}", &["output.source"]);
    faults("- logfmt: {}", &["logfmt.mapping"]);
    faults(
        "- metrics:\n    a: {type: counter, config: {action: no}}\n    b: {type: gauge, config: {action: inc, buckets: [1]}}\n    c: {type: histogram}\n    d: {type: x}\n    e: {type: counter, max_idle_duration: 1ms, config: {action: inc}}\n    f: {type: counter, config: {action: inc, match_all: true, count_entry_bytes: true}}",
        &[
            "metrics.a.config.action",
            "metrics.b.config.buckets",
            "metrics.c.config.buckets",
            "metrics.d.type",
            "metrics.e.max_idle_duration",
            "metrics.f.config.count_entry_bytes",
        ],
    );
    faults(
        "- metrics: {a: {type: counter, config: {action: inc}}}\n- metrics: {a: {type: gauge, config: {action: inc}}}",
        &["another stage has a metric"],
    );
}

#[test]
fn values() {
    let labelled = |stages: &str, line: &str, want: &str| {
        check(
            &format!("{stages}\n- labels: {{a: , b: , c: }}\n- output: {{source: none}}"),
            line,
            &format!("{want} {line}"),
        );
    };
    labelled(
        "- json: {expressions: {a: n, b: o, c: big}}",
        r#"{"n":1.50,"o":{"x":[1,"é"]},"big":123456789012}"#,
        r#"{a="1.5", app="shop", b="{\"x\":[1,\"é\"]}", c="123456789012"}"#,
    );
    labelled(
        "- json: {expressions: {a: x, b: x.y, c: 'x.z[1]'}}",
        r#"{"x":{"y":true,"z":[1,-2]}}"#,
        r#"{a="{\"y\":true,\"z\":[1,-2]}", app="shop", b="true", c="-2"}"#,
    );
    labelled("- json: {expressions: {a: , b: }}", r#"{"a":"1","a":"2","b":null}"#, r#"{a="2", app="shop"}"#);
    labelled(
        "- json: {expressions: {a: 'length(x)', b: 'x[?n>`1`].n | [0]', c: 'y || z'}}",
        r#"{"x":[{"n":1},{"n":2}],"z":"q"}"#,
        r#"{a="2", app="shop", b="2", c="q"}"#,
    );
    // One fault anywhere, and nothing counts.
    labelled("- json: {expressions: {a: }}", r#"{"a":"1","b":}"#, r#"{app="shop"}"#);
    labelled("- json: {expressions: {a: }}", r#"{"a":"1"} x"#, r#"{app="shop"}"#);
    labelled("- json: {expressions: {a: }}", r#"["a"]"#, r#"{app="shop"}"#);
    labelled("- regex: {expression: '(?P<a>x)|(?P<b>y)'}", "y", r#"{app="shop", b="y"}"#);
    labelled(
        "- json: {expressions: {m: }}\n- regex: {source: m, expression: '(?P<a>\\d+)'}",
        r#"{"m":"n 12"}"#,
        r#"{a="12", app="shop"}"#,
    );
    labelled(
        "- template: {source: a, template: '{{ .app }}/{{ .none }}'}",
        "l",
        r#"{a="shop/<no value>", app="shop"}"#,
    );
    labelled(
        "- template: {source: app, template: ''}\n- template: {source: a, template: '{{ if .app }}1{{ else }}0{{ end }}'}",
        "l",
        r#"{a="0", app="shop"}"#,
    );
    labelled(
        "- json: {expressions: {a: v}}\n- replace: {source: a, expression: '(b)', replace: 'B'}",
        r#"{"v":"abab"}"#,
        r#"{a="aBaB", app="shop"}"#,
    );
    labelled(
        "- match: {selector: '{app=\"shop\"}', stages: [{template: {source: app, template: x}}, {match: {selector: '{app=~\".+\"}', stages: [{template: {source: a, template: '{{ .app }}'}}]}}]}",
        "l",
        r#"{a="shop", app="shop"}"#,
    );
}

#[test]
fn drops() {
    check("- json: {expressions: {a: }, drop_malformed: true}", "{}\nx", r#"{app="shop"} {}"#);
    check("- json: {expressions: {a: }}\n- drop: {source: a}", "{\"a\":null}\nx", r#"{app="shop"} x"#);
    check("- drop: {source: [app, none], expression: shop}", "a", "");
    check("- drop: {source: none, expression: '.*'}", "a", r#"{app="shop"} a"#);
    check("- drop: {longer_than: 5b}", "12345\n123456", r#"{app="shop"} 12345"#);
    // Lines of tests are read in 1970.
    check("- drop: {older_than: 24h}", "a", "");
    check("- drop: {older_than: 24h, expression: b}", "a", r#"{app="shop"} a"#);
}

fn at(line: &str, labels: &[(&str, &str)], ticket: &Arc<Ticket>) -> Entry {
    let mut entry = Entry::new(Timestamp(7), line.to_owned(), Labels::from_pairs(labels.iter().copied()));
    entry.tickets = Tickets::open(ticket);
    entry
}

#[test]
fn held_lines_are_acknowledged_with_what_they_became() {
    let stages = "- cri: {}\n- multiline: {firstline: '^A', max_wait_time: 2s}\n- drop: {expression: secret}";
    let mut pipeline = compile(stages, &StageMetrics::default()).unwrap();
    let progress = Progress::new(0);
    let ticket = progress.open(10);
    let (start, mut out) = (Instant::now(), Vec::new());
    for line in ["P A", "F 1", "F b", "F A secret", "F c"] {
        let line = format!("2026-11-02T12:00:00Z stdout {line}");
        pipeline.run(at(&line, &[("f", "x")], &ticket), start, &mut out);
    }
    ticket.done(1);
    assert_eq!(out.iter().map(|e| e.line.as_str()).collect::<Vec<_>>(), ["A1\nb"]);
    out.iter().for_each(|entry| entry.tickets.done());
    // The block that was begun may still grow.
    pipeline.tick(start + Duration::from_secs(1), &mut out);
    assert_eq!((out.len(), progress.acknowledged()), (1, 0));
    // It ends by time, and the stage behind drops it: that counts as done.
    pipeline.tick(start + Duration::from_secs(3), &mut out);
    assert_eq!((out.len(), progress.acknowledged()), (1, 10));
}

#[test]
fn streams_do_not_mix() {
    let mut pipeline = compile("- multiline: {firstline: '^A'}", &StageMetrics::default()).unwrap();
    let ticket = Progress::new(0).open(10);
    let (now, mut out) = (Instant::now(), Vec::new());
    for (stream, line) in [("1", "A1"), ("2", "A2"), ("1", "b1"), ("2", "b2"), ("3", "b3")] {
        pipeline.run(at(line, &[("s", stream)], &ticket), now, &mut out);
    }
    pipeline.finish(now, &mut out);
    let mut lines: Vec<_> = out.iter().map(|e| e.line.as_str()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A1\nb1", "A2\nb2", "b3"]);
}

#[test]
fn open_parts_are_bounded_and_age() {
    let metrics = StageMetrics::default();
    let mut pipeline = compile("- cri: {max_partial_lines: 2}", &metrics).unwrap();
    let ticket = Progress::new(0).open(10);
    let (now, mut out) = (Instant::now(), Vec::new());
    for stream in ["1", "2", "3"] {
        let part = format!("2026-11-02T12:00:00Z stdout P {stream}");
        pipeline.run(at(&part, &[("s", stream)], &ticket), now, &mut out);
    }
    assert_eq!(out.len(), 2);
    pipeline.tick(now + Duration::from_secs(60), &mut out);
    assert_eq!(out.len(), 3);

    let stages = "- cri: {max_partial_line_size: 3b, max_partial_line_size_truncate: true}";
    check(
        stages,
        "2026-11-02T12:00:00Z stdout P ab\n2026-11-02T12:00:00Z stdout F cdé",
        "2026-11-02T12:00:00Z {app=\"shop\", stream=\"stdout\"} abc",
    );
}

#[test]
fn limits_refill_and_pause() {
    let stages = "- limit: {rate: 1, burst: 1, drop: true, by_label_name: s}";
    let metrics = StageMetrics::default();
    let mut pipeline = compile(stages, &metrics).unwrap();
    let ticket = Progress::new(0).open(10);
    let (start, mut out) = (Instant::now(), Vec::new());
    for (second, stream) in [(0, "1"), (0, "1"), (0, "2"), (1, "1"), (1, "1")] {
        pipeline.run(at("x", &[("s", stream)], &ticket), start + Duration::from_secs(second), &mut out);
    }
    assert_eq!(out.len(), 3);
    // What has no such label is not limited.
    pipeline.run(at("x", &[], &ticket), start, &mut out);
    assert_eq!(out.len(), 4);

    let mut pipeline = compile("- limit: {rate: 2, burst: 1}", &metrics).unwrap();
    let mut out = Vec::new();
    pipeline.run(entry("a"), start, &mut out);
    assert_eq!(pipeline.pause(), None);
    pipeline.run(entry("b"), start, &mut out);
    assert_eq!((out.len(), pipeline.pause()), (2, Some(start + Duration::from_millis(500))));
}

#[test]
fn metrics_are_exposed() {
    let metrics = Metrics::default();
    let agent = AgentMetrics::new(&metrics);
    let stages = r#"
- logfmt: {mapping: {dur: , level: , n: }}
- metrics:
    lines_total: {type: Counter, description: Lines, config: {match_all: true, action: inc}}
    bytes: {type: counter, prefix: my_, config: {match_all: true, count_entry_bytes: true, action: add}}
    errors_total: {type: counter, source: level, config: {value: error, action: inc}}
    seconds: {type: Histogram, source: dur, config: {buckets: [1, 0.1]}}
    depth: {type: Gauge, source: n, config: {action: set}}
    open: {type: gauge, source: n, config: {action: sub}}
- drop: {longer_than: 0b, drop_counter_reason: seen}
"#;
    let mut pipeline = compile(stages.trim(), &agent.stages).unwrap();
    for line in ["level=error dur=1.5s n=3", "level=info dur=50ms n=-1", "level=info n=x"] {
        pipeline.run(entry(line), Instant::now(), &mut Vec::new());
    }
    let text = metrics.text();
    for want in [
        "promtail_custom_lines_total{app=\"shop\"} 3.0",
        "my_bytes{app=\"shop\"} 62.0",
        "promtail_custom_errors_total{app=\"shop\"} 1.0",
        "promtail_custom_seconds_sum{app=\"shop\"} 1.55",
        "promtail_custom_seconds_bucket{le=\"0.1\",app=\"shop\"} 1",
        "promtail_custom_seconds_bucket{le=\"1.0\",app=\"shop\"} 1",
        "promtail_custom_seconds_bucket{le=\"+Inf\",app=\"shop\"} 2",
        "promtail_custom_depth{app=\"shop\"} -1.0",
        "promtail_custom_open{app=\"shop\"} -2.0",
        "logentry_dropped_lines_total{reason=\"seen\"} 3",
    ] {
        assert!(text.lines().any(|line| line == want), "{want} is not in\n{text}");
    }
}

/// All stages that read lines, in one pipeline after the other.
const EVERYTHING: &[&str] = &[
    "- docker: {}\n- json: {expressions: {a: , b: 'x.y[0]', c: 'keys(@)'}}\n- labels: {a: , b: }\n- structured_metadata: {c: , a: }",
    "- cri: {max_partial_lines: 3, max_partial_line_size: 8, max_partial_line_size_truncate: true}\n- multiline: {firstline: '^\\d', max_lines: 3}",
    "- logfmt: {mapping: {a: , b: }}\n- timestamp: {source: a, format: Unix, fallback_formats: [RFC3339, 'Jan _2 15:04:05', UnixMs]}\n- pack: {labels: [b]}",
    "- regex: {expression: '(?s)(?P<a>.)(?P<b>.*)'}\n- template: {source: a, template: '{{ .Value | trunc 3 }}{{ substr 1 2 .b }}{{ .b | snakecase | abbrev 5 }}{{ printf \"%5.1q\" .Entry }}'}\n- replace: {expression: '(\\w)(.?)', replace: '{{ .Value | upper }}'}\n- output: {source: b}",
    "- decolorize: {}\n- template: {source: message, template: '{{ .Entry }}'}\n- eventlogmessage: {}\n- tenant: {source: message}\n- match: {selector: '{app=~\".+\"} |~ \"a\"', stages: [{static_labels: {x: y}}, {labelallow: [x]}]}\n- drop: {source: [message], expression: '^b'}",
];

proptest! {
    #[test]
    fn no_stage_minds_any_text(texts in proptest::collection::vec(any::<String>(), 1..6), formed in formed()) {
        for stages in EVERYTHING {
            let mut pipeline = compile(stages, &StageMetrics::default()).unwrap();
            let progress = Progress::new(0);
            let ticket = progress.open(1);
            let mut out = Vec::new();
            for line in texts.iter().chain(&formed) {
                pipeline.run(at(line, &[("app", "shop")], &ticket), Instant::now(), &mut out);
            }
            pipeline.finish(Instant::now(), &mut out);
            ticket.done(1);
            prop_assert!(out.is_empty() || progress.acknowledged() == 0);
            out.iter().for_each(|entry| entry.tickets.done());
            // Whatever became of the lines, each is accounted for.
            prop_assert_eq!(progress.acknowledged(), 1);
        }
    }

    #[test]
    fn cri_parts_are_joined(lines in proptest::collection::vec((any::<bool>(), proptest::collection::vec("[a-c é]{0,5}", 1..4)), 1..8)) {
        let (mut input, mut want) = (String::new(), [Vec::new(), Vec::new()]);
        for (stderr, parts) in &lines {
            let stream = if *stderr { "stderr" } else { "stdout" };
            for (i, part) in parts.iter().enumerate() {
                let flag = if i + 1 == parts.len() { 'F' } else { 'P' };
                input += &format!("2026-11-02T12:00:00Z {stream} {flag} {part}\n");
            }
            want[usize::from(*stderr)].push(parts.concat());
        }
        let mut pipeline = compile("- cri: {}", &StageMetrics::default()).unwrap();
        let mut out = Vec::new();
        input.lines().for_each(|line| pipeline.run(entry(line), Instant::now(), &mut out));
        for (stream, want) in ["stdout", "stderr"].iter().zip(&want) {
            let got: Vec<_> = out.iter().filter(|e| e.labels.get("stream") == Some(stream)).map(|e| e.line.clone()).collect();
            prop_assert_eq!(&got, want);
        }
    }
}

/// Lines that look like what stages read.
fn formed() -> impl Strategy<Value = Vec<String>> {
    let json = "\\{\"(a|log|x)\":(\"[^\"]{0,8}\"|[0-9.e-]{0,6}|\\{\"y\":\\[[0-9,]{0,4}\\]\\}|null)(,\"(stream|time|b)\":\"[0-9T:Zé-]{0,22}\")?\\}";
    let cri = "[0-9T:.Z-]{1,20} (stdout|stderr) (P|F|X) \\PC{0,12}";
    let logfmt = "([ab]=(\"[^\"]{0,4}\"?|[0-9.]{0,12}|\"\\\\\\\\x\") ?){0,4}";
    let event = "([a-z 0-9]{0,4}:[^\r\n]{0,4}\r\n){0,4}";
    proptest::collection::vec(prop_oneof![json, cri, logfmt, event], 0..8)
}

#[test]
fn shows_metadata() {
    let mut entry = entry("x");
    entry.set_metadata(&"a".into(), "1");
    entry.set_metadata(&"a".into(), "2");
    assert_eq!(show(&entry), "{app=\"shop\"} [a=2] x");
}
