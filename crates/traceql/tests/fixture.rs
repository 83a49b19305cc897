//! One small trace on which every operator and stage is tried.

mod otlp;

use serde_json::{Value as Json, json};
use traceql::{Metrics, MetricsParams, Search, SearchParams, SpanBatch, SpanSetResult, Value, parse};

/// Start of the trace: within one minute.
const T: i64 = 1_700_000_000_000_000_000;
const MINUTE: i64 = 60_000_000_000;

fn batch() -> SpanBatch {
    let millis = 1_000_000;
    let span = |id: u8, parent: u8, name: &str, kind: u8, ms: i64, status: u8, n: Json, events: Json| {
        let start = T + i64::from(id) * millis;
        let mut span = json!({
            "traceId": "00000000000000000000000000ab1200",
            "spanId": format!("{id:016x}"),
            "name": name, "kind": kind, "status": { "code": status },
            "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + ms * millis).to_string(),
            "events": events,
        });
        if parent > 0 {
            span["parentSpanId"] = json!(format!("{parent:016x}"));
        }
        if !n.is_null() {
            span["attributes"] = json!([{ "key": "n", "value": n }]);
        }
        span
    };
    let resource = |service: &str, spans: Vec<Json>| {
        json!({
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": service } }] },
            "scopeSpans": [{ "scope": { "name": "lib" }, "spans": spans }],
        })
    };
    let event = |name: &str, level: &str| {
        json!({
            "name": name, "timeUnixNano": (T + 10 * millis).to_string(),
            "attributes": [{ "key": "level", "value": { "stringValue": level } }],
        })
    };
    let array = json!({ "arrayValue": { "values": [{ "intValue": "2" }, { "intValue": "5" }] } });
    let events = json!([event("exception", "warn"), event("retry", "info")]);
    let none = || json!([]);
    let otlp = json!({ "resourceSpans": [
        resource("gw", vec![span(1, 0, "GET /", 2, 100, 0, json!({ "intValue": "1" }), none())]),
        resource("cart", vec![
            span(2, 1, "call", 3, 60, 2, json!({ "intValue": "2" }), none()),
            span(5, 1, "calc", 1, 20, 0, Json::Null, none()),
        ]),
        resource("db", vec![
            span(3, 2, "query", 2, 50, 0, json!({ "stringValue": "2" }), none()),
            span(4, 3, "scan", 1, 10, 0, array, events),
        ]),
    ] });
    otlp::batches(&otlp, 10).remove(0)
}

const PARAMS: SearchParams =
    SearchParams { start: None, end: None, limit: 20, spans_per_spanset: 10, most_recent: false };

fn search(query: &str) -> Vec<SpanSetResult> {
    let mut search = Search::new(&parse(query).expect(query), PARAMS).expect(query);
    search.push(&batch()).expect(query);
    search.finish().into_iter().flat_map(|t| t.spansets).collect()
}

/// The spans of a set by letter.
fn letters(set: &SpanSetResult) -> String {
    set.spans.iter().map(|s| ['R', 'A', 'C', 'D', 'B'][usize::from(s.span_id.0[7]) - 1]).collect()
}

#[test]
fn filters_and_operators_find_the_spans() {
    for (query, expect) in [
        ("{ span.n = 2 }", "AD"),
        // An element of the array differs from 2; that is how the recorded product answers.
        ("{ span.n != 2 }", "RD"),
        ("{ span.n > 4 }", "D"),
        ("{ span.n = nil }", "B"),
        ("{ span.n != nil }", "RACD"),
        ("{ span.n =~ \"2\" }", "C"),
        ("{ span.n !~ \"2\" }", ""),
        ("{ span.n + 1 = 3 }", "A"),
        ("{ 2 = span.n }", "AD"),
        ("{ 1 < span.n }", "AD"),
        ("{ !(span.n = 2) }", "RCB"),
        ("{ .n = 1 && resource.service.name = \"gw\" }", "R"),
        ("{ .service.name = \"gw\" }", "R"),
        ("{ event.level = \"warn\" && event:name = \"retry\" }", ""),
        ("{ event.level = \"warn\" && event:name = \"exception\" }", "D"),
        ("{ event.level = \"warn\" } && { event:name = \"retry\" }", "D"),
        ("{ event:timeSinceStart = 6ms }", "D"),
        ("{ event:timeSinceStart < duration }", "D"),
        ("{ event.nosuch = nil }", "D"),
        ("{ .level = \"info\" }", "D"),
        ("{ instrumentation:name = \"lib\" && instrumentation:version = \"\" }", "RACDB"),
        ("{ kind = server } > { kind = client }", "A"),
        ("{ kind = server } >> { kind = internal }", "DB"),
        ("{ kind = internal } << { kind = server }", "RC"),
        ("{ kind = internal } < { kind = server }", "RC"),
        ("{ name = \"call\" } ~ { }", "B"),
        ("{ } ~ { }", "AB"),
        ("{ name = \"call\" } !> { }", "RADB"),
        ("{ kind = server } !>> { }", "R"),
        ("{ name = \"nope\" } !>> { }", "RACDB"),
        ("{ kind = server } &>> { kind = client }", "RA"),
        ("{ name = \"call\" } &~ { }", "AB"),
        ("{ kind = server } > { kind = client } > { kind = server }", "C"),
        ("{ nestedSetParent < 0 }", "R"),
        ("{ nestedSetLeft = 2 && nestedSetRight = 7 && nestedSetParent = 1 }", "A"),
        ("{ span:childCount = 2 }", "R"),
        ("{ status = error } && { name = \"nope\" }", ""),
        ("{ status = error } || { name = \"scan\" }", "AD"),
        ("{ trace:id = \"ab1200\" && span:id = \"4\" }", "D"),
        ("{ span:id != \"4\" }", "RACB"),
        ("{ span:parentID = \"0000000000000001\" }", "AB"),
        ("{ traceDuration = 100ms && rootName = \"GET /\" && rootServiceName != \"db\" }", "RACDB"),
        ("{ name > \"d\" }", "CD"),
        ("{ duration * 2 > 100ms }", "RA"),
        ("{ } | max(duration) >= 100ms | { kind = internal }", "DB"),
        ("({ span.n = 1 } | count() = 1) && ({ name = \"scan\" } | { duration < 1s })", "RD"),
        ("{ false }", ""),
    ] {
        let found: Vec<String> = search(query).iter().map(letters).collect();
        assert_eq!(found.concat(), expect, "{query}");
    }
}

#[test]
fn queries_of_the_largest_size_are_evaluated() {
    let chain = |first: &str, next: &str, times: usize| format!("{first}{}", next.repeat(times));
    for (query, expect) in [
        (format!("{{ {} }}", chain(".n = 1", " || .n = 1", 480)), "R"),
        (format!("{{ {} }}", chain("name = `call`", " || name = `scan`", 480)), "AD"),
        (format!("{{ {} = 181 }}", chain(".n", " + .n", 180)), "R"),
        (chain("{ kind = server }", " && { kind = server }", 490), "RC"),
        (format!("{{ {}.n = 1{} }}", "(".repeat(60), ")".repeat(60)), "R"),
        (format!("{}{{ .n = 1 }}{}", "(".repeat(60), ")".repeat(60)), "R"),
    ] {
        let found: Vec<String> = search(&query).iter().map(letters).collect();
        assert_eq!(found.concat(), expect, "{query:.60}");
    }
    let deep = parse(&format!("{{ {} = 1 }}", chain(".n", " + .n", 900))).expect("valid");
    assert!(Search::new(&deep, PARAMS).is_err());
}

#[test]
fn stages_name_what_they_computed() {
    let attributes = |set: &SpanSetResult| -> Vec<String> {
        set.attributes.iter().map(|(k, v)| format!("{k} = {v}")).collect()
    };
    let sets: Vec<_> = search("{ } | by(resource.service.name) | count() > 1")
        .iter()
        .map(|s| (letters(s), attributes(s).join(", ")))
        .collect();
    assert_eq!(
        sets,
        [
            ("AB".to_owned(), "by(resource.service.name) = `cart`, count() = 2".to_owned()),
            ("CD".to_owned(), "by(resource.service.name) = `db`, count() = 2".to_owned()),
        ]
    );
    let sets: Vec<_> =
        search("{ } | by(span.n != nil)").iter().map(|s| (letters(s), attributes(s).join(", "))).collect();
    assert_eq!(
        sets,
        [
            ("RACD".to_owned(), "by(span.n != nil) = true".to_owned()),
            ("B".to_owned(), "by(span.n != nil) = false".to_owned()),
        ]
    );
    let sets = search("{ } | max(duration) >= 100ms | { kind = internal }");
    assert_eq!(attributes(&sets[0]), ["max(duration) = 100ms"]);
    let sets = search("{ } | by(name) | coalesce() | avg(span.n) > 1");
    assert_eq!(attributes(&sets[0]), ["avg(span.n) = 1.5"]);
}

#[test]
fn several_spansets_cannot_be_combined() {
    let query = parse("({ } | by(name)) && ({ } | count() > 0)").expect("valid");
    let mut search = Search::new(&query, PARAMS).expect("a search");
    assert!(search.push(&batch()).is_err());
    assert!(
        Search::new(
            &parse("{ span:id > \"4\" }").expect("valid"),
            SearchParams { start: None, end: None, limit: 1, spans_per_spanset: 1, most_recent: false }
        )
        .is_err()
    );
}

/// Series as text, the samples of the interval of the fixture only.
fn metrics(query: &str) -> Vec<String> {
    let params = MetricsParams {
        start: T - MINUTE,
        end: T + MINUTE,
        step: MINUTE,
        instant: false,
        exemplars: 10,
        max_series: 0,
    };
    let mut metrics = Metrics::new(&parse(query).expect(query), params).expect(query);
    metrics.push(&batch()).expect(query);
    let answer = metrics.finish();
    answer
        .series
        .iter()
        .map(|s| {
            let labels: Vec<String> = s.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let values: Vec<f64> = s.samples.iter().map(|(_, v)| *v).filter(|v| *v != 0.0).collect();
            format!("{} {values:.9?}", labels.join(","))
        })
        .collect()
}

#[test]
fn metrics_count_the_spans() {
    assert_eq!(metrics("{ } | rate()"), ["__name__=`rate` [0.083333333]"]);
    assert_eq!(
        metrics("{ } | count_over_time() by (span.n)"),
        [
            "span.n=1 [1.000000000]",
            "span.n=2 [1.000000000]",
            "span.n=[2,5] [1.000000000]",
            "span.n=`2` [1.000000000]",
            "span.n=`nil` [1.000000000]",
        ]
    );
    assert_eq!(
        metrics("{ } | histogram_over_time(duration)"),
        [
            "__bucket=0.016777216 [1.000000000]",
            "__bucket=0.033554432 [1.000000000]",
            "__bucket=0.067108864 [2.000000000]",
            "__bucket=0.134217728 [1.000000000]",
        ]
    );
    assert_eq!(
        metrics("{ } | quantile_over_time(duration, .5, .8, 1)"),
        ["p=0.5 [0.047453133]", "p=0.8 [0.067108864]", "p=1 [0.134217728]",]
    );
    assert_eq!(metrics("{ } | max_over_time(duration)"), ["__name__=`max_over_time` [0.100000000]"]);
    assert_eq!(
        metrics("{ } | count_over_time() by (resource.service.name) | topk(1)"),
        ["resource.service.name=`cart` [2.000000000]",]
    );
    assert_eq!(
        metrics("{ } | count_over_time() by (resource.service.name) > 1"),
        ["resource.service.name=`cart` [2.000000000]", "resource.service.name=`db` [2.000000000]",]
    );
    assert_eq!(metrics("{ kind = server } >> { } | sum_over_time(span.n) > 100"), Vec::<String>::new());
}

#[test]
fn answers_show_the_fields_asked_for() {
    let sets = search("{ span.n = 2 && name != \"x\" } | select(status, resource.service.name)");
    let shown: Vec<_> = sets[0].spans.iter().map(|s| (s.name.clone(), s.attributes.clone())).collect();
    let attributes = |service: &str, status| {
        vec![
            ("n".to_owned(), Value::Int(2)),
            ("service.name".to_owned(), Value::str(service)),
            ("status".to_owned(), Value::Status(status)),
        ]
    };
    assert_eq!(
        shown,
        [
            (Some("call".to_owned()), attributes("cart", traceql::Status::Error)),
            (Some("scan".to_owned()), attributes("db", traceql::Status::Unset)),
        ]
    );
}

#[test]
fn exemplars_carry_the_trace_and_a_value() {
    let params = MetricsParams {
        start: T - MINUTE,
        end: T + MINUTE,
        step: MINUTE,
        instant: false,
        exemplars: 5,
        max_series: 0,
    };
    for (query, expect) in [("{ } | rate()", 5.0 / 60.0), ("{ } | max_over_time(duration)", 0.1)] {
        let mut metrics = Metrics::new(&parse(query).expect(query), params.clone()).expect(query);
        metrics.push(&batch()).expect(query);
        let exemplars = metrics.finish().series.remove(0).exemplars;
        assert_eq!(exemplars.len(), 1, "one per trace");
        assert!((exemplars[0].value - expect).abs() < 1e-9, "{query}");
        assert!(exemplars[0].labels.contains(&("trace:id".to_owned(), Value::str("ab1200"))));
    }
}
