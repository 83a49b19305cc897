//! Behaviour of stages that a line of example does not show: faults of configuration, time, acknowledgement, any bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Labels, Timestamp};
use proptest::prelude::*;
use service::Metrics;
use service::config::{Problems, Value};

use super::Pipeline;
use super::examples::{compile, entry, run, show};
use crate::entry::{Entry, Tickets};
use crate::metrics::{AgentMetrics, StageMetrics};
use crate::progress::{Progress, Ticket};
use crate::source::{Ranges, Source, Unsaved};

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
        "- json: {expressions: {a: 'foo[',}}\n- regex: {expression: '('}\n- nope: {}\n- drop: {sourc: a}",
        &[
            "pipeline_stages[0].json.expressions.a: 'foo['",
            "pipeline_stages[1].regex.expression: '('",
            "pipeline_stages[2].nope: no pipeline stage is called 'nope'",
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
    faults("- multiline: {max_lines: 0}", &["multiline.firstline"]);
    faults(
        "- json: {expressions: {log-level: }}",
        &["json.expressions.log-level: 'log-level' is no JMESPath"],
    );
    for stage in [
        "json: {expressions: {a: }",
        "logfmt: {mapping: {a: }",
        "regex: {expression: a",
        "replace: {expression: a",
    ] {
        faults(&format!("- {stage}, source: ''}}"), &["source: name an extracted value"]);
    }
    faults("- docker", &["pipeline_stages[0]: expected a map of one stage, such as `- docker:`"]);
    faults("-\n- [a]", &["pipeline_stages[0]: expected a map", "pipeline_stages[1]: expected a map"]);
    faults("docker: {}", &["pipeline_stages: expected a list of stages"]);
    faults("- metrics:", &["metrics: give metrics by their names"]);
    faults("- tenant: {value: a, label: b}", &["exactly one"]);
    faults("- limit: {rate: 1, burst: 0}", &["rate and burst"]);
    faults("- limit: {rate: 1, burst: 1, by_label_name: a}", &["limit.by_label_name"]);
    faults("- sampling: {rate: 1.5}", &["sampling.rate"]);
    faults("- drop: {source: a, value: b, expression: c}", &["drop.value"]);
    faults("- drop: {value: b}", &["drop.value"]);
    faults("- labelallow: []", &["labelallow"]);
    faults("- geoip: {db: /x, source: ip, db_type: town}", &["geoip.db_type", "geoip: geoip databases"]);
    faults("- output: {}", &["output.source"]);
    faults("- logfmt: {}", &["logfmt.mapping"]);
    faults(
        "- metrics:\n    a: {type: counter, config: {action: no}}\n    b: {type: gauge, config: {action: }}\n    c: {type: histogram, config: {buckets: [.nan]}}\n    d: {type: x}\n    e: {type: counter, max_idle_duration: 1ms, config: {action: inc}}\n    f: {type: counter, config: {action: inc, match_all: true, count_entry_bytes: true}}",
        &[
            "metrics.a.config.action",
            "metrics.b.config.action",
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
fn what_promtail_takes_is_taken() {
    for stages in [
        "- {}",
        "- docker:",
        "- cri:",
        "- cri: {max_partial_lines: 0}",
        "- decolorize:",
        "- pack:",
        "- eventlogmessage:",
        "- labels: {}",
        "- labels: {a: null, b: ''}",
        "- static_labels: {a: 5, b: true, c: null, d: 1.50}",
        "- metrics: {}",
        "- metrics: {a: {type: HISTOGRAM}}",
        "- metrics: {a: {type: Counter, config: {match_all: true, action: INC, nope: 1}}}",
        "- multiline: {firstline: a, max_lines: 0, max_wait_time: 0s}",
        "- regex: {expression: a, labels_from_groups: true}",
        "- json: {expressions: {a: , 'b.c': , d: '\"e-f\"'}, whatever: {x: 1}}",
        "- match: {selector: '{}', stages: [{docker: }], pipeline_name: x}",
        "- match: {selector: '{a=\"b\"} |= `c`', action: drop}",
        "- sampling: {}",
        "- drop: {expression: ''}",
        "- drop: {source: a, value: 5}",
        "- drop: {source: [a, b], longer_than: 40, older_than: 1h}",
        "- replace: {expression: (a), replace: 1}",
        "- limit: {rate: 0.5, burst: 1, drop: true, by_label_name: a}",
        "- timestamp: {source: a, format: Unix, location: '', action_on_failure: skip}",
        "- template: {source: a, template: }",
        "- tenant: {value: 5}",
    ] {
        let problems = compile(stages, &StageMetrics::default()).err();
        assert_eq!(problems, None, "{stages}");
    }
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
    labelled(
        "- json: {expressions: {x.y: }}\n- template: {source: a, template: '{{ index . \"x.y\" }}'}",
        r#"{"x":{"y":"v"}}"#,
        r#"{a="v", app="shop"}"#,
    );
    labelled(
        "- json: {expressions: {a: o, b: n, c: 'n.x'}}",
        r#"{"o":{"f":1.0,"g":[1e21,0.0000001],"h":"<a&b>"},"n":1e-7}"#,
        r#"{a="{\"f\":1,\"g\":[1e+21,1e-7],\"h\":\"\\u003ca\\u0026b\\u003e\"}", app="shop", b="0.0000001"}"#,
    );
    labelled(
        "- json: {expressions: {a: , b: 'length(a)'}}",
        r#"{"a":"\ud83d!"}"#,
        "{a=\"\u{fffd}!\", app=\"shop\", b=\"2\"}",
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
    // One that is null is not compared, also beside others.
    check(
        "- json: {expressions: {a: , b: }}\n- drop: {source: [a, b], expression: '^x'}",
        "{\"a\":\"x\"}\n{\"a\":\"x\",\"b\":1}",
        r#"{app="shop"} {"a":"x"}"#,
    );
    // An empty value is none: the source alone decides.
    check("- drop: {source: app, value: ''}", "a", "");
    check("- drop: {source: app, value: shop, separator: x}", "a", "");
    check("- drop: {source: app, value: sho}", "a", r#"{app="shop"} a"#);
    check(
        "- json: {expressions: {a: }, drop_malformed: true}",
        "null\n[]\n{}",
        r#"{app="shop"} null
{app="shop"} {}"#,
    );
    check("- drop: {longer_than: 5b}", "12345\n123456", r#"{app="shop"} 12345"#);
    // Lines of tests are read in 1970.
    check("- drop: {older_than: 24h}", "a", "");
    check("- drop: {older_than: 24h, expression: b}", "a", r#"{app="shop"} a"#);
}

#[test]
fn corners() {
    // Labels are extracted values anew for stages that are pipelines to Promtail.
    check(
        "- static_labels: {x: y}\n- docker: {}\n- output: {source: x}",
        r#"{"log":"l","stream":"stdout","time":"2026-11-02T12:00:00Z"}"#,
        r#"2026-11-02T12:00:00Z {app="shop", stream="stdout", x="y"} y"#,
    );
    // A label that is no extracted value is not packed.
    check(
        "- static_labels: {x: y}\n- pack: {labels: [x, app], ingest_timestamp: false}",
        "<a> & b",
        r#"{x="y"} {"app":"shop","_entry":"\u003ca\u003e \u0026 b"}"#,
    );
    check("- static_labels: {app: }", "l", r#"{app="shop"} l"#);
    // Names of layouts are Promtail's; those that it does not know are layouts. A location is for layouts without a name.
    let time = |config: &str, text: &str, want: &str| {
        let stages =
            format!("- template: {{source: t, template: '{text}'}}\n- timestamp: {{source: t, {config}}}");
        check(&stages, "l", &format!("{want}{{app=\"shop\"}} l"));
    };
    time("format: Kitchen", "3:04PM", "");
    time("format: ANSIC, location: America/New_York", "Mon Nov  2 12:00:00 2026", "2026-11-02T12:00:00Z ");
    time(
        "format: 'Jan _2 15:04:05 2006', location: America/New_York",
        "Nov  2 12:00:00 2026",
        "2026-11-02T17:00:00Z ",
    );
    time("format: '2006-01-02 15:04:05,000'", "2026-11-02 12:00:00,250", "2026-11-02T12:00:00.25Z ");
    time("format: Unix", "1793620800.", "");
    time(
        "format: UnixMs, fallback_formats: [RFC1123Z]",
        "Mon, 02 Nov 2026 12:00:00 +0100",
        "2026-11-02T11:00:00Z ",
    );
    // Only joined lines are cut.
    check(
        "- cri: {max_partial_line_size: 3b, max_partial_line_size_truncate: true}",
        "2026-11-02T12:00:00Z stdout F abcdef",
        r#"2026-11-02T12:00:00Z {app="shop", stream="stdout"} abcdef"#,
    );
    // A fault ends the reading of all lines.
    check(
        "- replace: {expression: '(;)', replace: '{{ \"\\n\" }}'}\n- template: {source: e, template: '{{ .Entry }}'}\n- logfmt: {source: e, mapping: {a: , b: , c: }}\n- template: {source: e, template: '{{ .a }} {{ .b }} {{ .c }}'}\n- output: {source: e}",
        "a=1;b=2\na=1 b=\"2;c=3",
        "{app=\"shop\"} 1 2 <no value>\n{app=\"shop\"} 1 <no value> <no value>",
    );
    check(
        "- json: {expressions: {message: }}\n- eventlogmessage: {}\n- template: {source: o, template: '{{ .Message_type }}|{{ ._Security_ID }}|{{ ._st }}|{{ .app_extracted }}'}\n- output: {source: o}",
        r#"{"message":"Message type:\r\n\tSecurity ID:\t\tS-1-5\r\n1st: one\r\napp: winlogon\r\nnone"}"#,
        r#"{app="shop"} |S-1-5|one|winlogon"#,
    );
    // What a block was begun with counts for all of its pieces.
    check(
        "- regex: {expression: '^\\[(?P<n>\\d)\\]'}\n- multiline: {firstline: '^\\[', max_lines: 2}\n- labels: {n: }",
        "[1] a\nb\nc",
        "{app=\"shop\", n=\"1\"} [1] a\nb\n{app=\"shop\", n=\"1\"} c",
    );
}

#[test]
fn endless_labels_do_not_fill_the_memory() {
    let metrics = Metrics::default();
    let agent = AgentMetrics::new(&metrics);
    let stages =
        "- multiline: {firstline: '^A'}\n- limit: {rate: 0.001, burst: 1, drop: true, by_label_name: s}";
    let mut pipeline = compile(stages, &agent.stages).unwrap();
    let (progress, now) = (Progress::new(0), Instant::now());
    let ticket = progress.open(1);
    let mut out = Vec::new();
    for i in 0..25_000 {
        for _ in 0..2 {
            pipeline.run(at("A", &[("s", &i.to_string())], &ticket), now, &mut out);
        }
    }
    pipeline.finish(now, &mut out);
    ticket.done(1);
    assert_eq!(out.len(), 25_000);
    assert!(metrics.text().matches("logentry_dropped_lines_by_label_total{").count() <= 10_000);
    out.iter().for_each(|entry| entry.tickets.done());
    assert_eq!(progress.acknowledged(), 1);
}

#[test]
fn many_parts_and_many_keys_cost_no_more_than_their_bytes() {
    let parts = "2026-11-02T12:00:00Z stdout P ".to_owned() + &"x".repeat(100) + "\n";
    let lines = parts.repeat(30_000) + "2026-11-02T12:00:00Z stdout F end";
    assert_eq!(run("- cri: {}", &lines).unwrap().matches('x').count(), 3_000_000);
    let message: String = (0..100_000).map(|i| format!("k{i}: {i}\r\n")).collect();
    let line = serde_json::json!({ "message": message }).to_string();
    let stages = "- json: {expressions: {message: }}\n- eventlogmessage: {}\n- output: {source: k99999}";
    check(stages, &line, r#"{app="shop"} 99999"#);
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

#[test]
fn metrics_may_change_with_the_configuration() {
    let metrics = Metrics::default();
    let agent = AgentMetrics::new(&metrics);
    let stage = |buckets: &str| {
        let stages: Result<Value, _> = serde_json::from_str(&format!(
            r#"[{{"metrics": {{"s": {{"type": "histogram", "source": "n", "config": {{"buckets": [{buckets}]}}}}}}}}]"#
        ));
        let stages = stages.unwrap();
        let mut problems = Problems::default();
        (Pipeline::compile(&stages, &agent.stages, &mut problems), problems)
    };
    let run = |pipeline: &mut Pipeline| {
        let line = Entry::new(Timestamp(1), String::new(), Labels::from_pairs([("n", "0.5")]));
        pipeline.run(line, Instant::now(), &mut Vec::new());
        metrics.text()
    };
    let (mut old, problems) = stage("1");
    assert!(problems.is_empty());
    assert!(run(&mut old).contains("_bucket{le=\"1.0\",n=\"0.5\"} 1"));
    // What was only looked at changes nothing; what takes the old one's place is shown in its place.
    assert!(!stage("2").1.is_empty());
    assert!(run(&mut old).contains("_bucket{le=\"1.0\",n=\"0.5\"} 2"));
    let (mut new, _) = stage("3");
    drop(old);
    let text = run(&mut new);
    assert!(text.contains("_bucket{le=\"3.0\",n=\"0.5\"} 1") && !text.contains("le=\"1.0\""), "{text}");
    drop(new);
    assert!(!metrics.text().contains("promtail_custom_s"));
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

    /// Whatever the interleaving of streams and ticks, entries of one source have ranges that follow each other, and all of them
    /// together are the input.
    #[test]
    fn blocks_cover_their_source(
        steps in proptest::collection::vec((0..3_usize, any::<bool>(), 0..3_u64), 1..60),
        max_lines in 0..4_usize,
    ) {
        let stages = format!("- multiline: {{firstline: '^A', max_wait_time: 2s, max_lines: {max_lines}}}");
        let mut pipeline = compile(&stages, &StageMetrics::default()).unwrap();
        let sources: Vec<_> = (0..3).map(|_| Progress::of_source(0, Source::new(), Arc::<Unsaved>::default())).collect();
        let (mut ends, mut texts) = ([0_u64; 3], [const { String::new() }; 3]);
        let (mut now, mut out) = (Instant::now(), Vec::new());
        for (i, (source, first, seconds)) in steps.iter().enumerate() {
            now += Duration::from_secs(*seconds);
            pipeline.tick(now, &mut out);
            let line = format!("{}{i}", if *first { "A" } else { "b" });
            let (start, end) = (ends[*source], ends[*source] + line.len() as u64 + 1);
            let ticket = sources[*source].open(end);
            let mut entry = Entry::new(Timestamp(7), line.clone(), Labels::from_pairs([("s", source.to_string())]));
            entry.tickets = Tickets::of_bytes(&ticket, Ranges::one(start, end));
            ticket.done(1);
            pipeline.run(entry, now, &mut out);
            ends[*source] = end;
            texts[*source] += &(line + "\n");
        }
        // The last lines wait for more of them, and are handed on when none came.
        now += Duration::from_secs(2);
        pipeline.tick(now, &mut out);
        let through = out.len();
        pipeline.finish(now, &mut out);
        prop_assert_eq!(out.len(), through);
        let (mut next, mut got) = ([0_u64; 3], [const { String::new() }; 3]);
        for entry in &out {
            let source: usize = entry.labels.get("s").unwrap().parse().unwrap();
            let (progress, ranges) = entry.tickets.origin().unwrap();
            prop_assert!(Arc::ptr_eq(progress, &sources[source]));
            prop_assert_eq!(ranges.len(), 1);
            prop_assert_eq!(ranges[0].start, next[source]);
            prop_assert_eq!(ranges[0].end - ranges[0].start, entry.line.len() as u64 + 1);
            next[source] = ranges[0].end;
            got[source] += &(entry.line.clone() + "\n");
            let lines = entry.line.lines().count();
            prop_assert!(max_lines == 0 || lines <= max_lines);
            prop_assert!(entry.line.lines().skip(1).all(|line| line.starts_with('b')));
        }
        prop_assert_eq!(next, ends);
        prop_assert_eq!(got, texts);
        out.iter().for_each(|entry| entry.tickets.done());
        for (progress, end) in sources.iter().zip(ends) {
            prop_assert_eq!(progress.acknowledged(), end);
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
