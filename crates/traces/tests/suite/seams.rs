//! Where spans lie makes no difference: scattered over blocks and the head, or together in one place.

use serde_json::{Value, json};

use crate::service::Service;

const START: u64 = 1_700_000_000_000_000_000;
const SPANS: usize = 9;

/// The n-th span of a trace: a tree in which span n hangs on span (n - 1) / 2.
fn span(trace: usize, n: usize) -> Value {
    let id = |n: usize| format!("{:016x}", trace * 100 + n + 1);
    let mut attributes = vec![json!({"key": "n", "value": {"intValue": n.to_string()}})];
    if (trace + n).is_multiple_of(3) {
        let color = ["red", "blue"][trace % 2];
        attributes.push(json!({"key": "color", "value": {"stringValue": color}}));
    }
    if (trace * n) % 7 == 1 {
        // The same name with another type.
        attributes.push(json!({"key": "color", "value": {"doubleValue": 0.5}}));
        attributes.push(json!({"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "2"}]}}}));
    }
    let start = START + (trace * 1_000_000_000 + n * 10_000_000) as u64;
    json!({
        "traceId": format!("{:032x}", (trace + 1) * 0x0123_4567_89ab_cdef),
        "spanId": id(n),
        "parentSpanId": if n == 0 { String::new() } else { id((n - 1) / 2) },
        "name": format!("op-{}", n % 4),
        "kind": n % 6,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": (start + 5_000_000 * (1 + n as u64)).to_string(),
        "attributes": attributes,
        "events": if n == 5 { json!([{"timeUnixNano": start.to_string(), "name": "boom", "attributes":
            [{"key": "why", "value": {"stringValue": "heat"}}]}]) } else { json!([]) },
        "status": {"code": if (trace + n) % 11 == 2 { 2 } else { 0 }},
    })
}

/// A request with the spans for which `choose(trace, n)` holds.
fn request(choose: impl Fn(usize, usize) -> bool) -> String {
    let service = |s: usize| {
        let spans = (0..40).flat_map(|t| (0..SPANS).map(move |n| (t, n)));
        let spans: Vec<Value> =
            spans.filter(|(t, n)| n % 3 == s && choose(*t, *n)).map(|(t, n)| span(t, n)).collect();
        json!({
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": format!("svc-{s}")}},
                {"key": "shard", "value": {"intValue": s.to_string()}},
            ]},
            "scopeSpans": [{"scope": {"name": "lib", "version": format!("{s}")}, "spans": spans}],
        })
    };
    json!({"resourceSpans": [service(0), service(1), service(2)]}).to_string()
}

const QUERIES: [&str; 20] = [
    "{ }",
    "{ name = \"op-1\" }",
    "{ span.n = 3 } && { span.n = 4 }",
    "{ span.n = 0 } >> { span.n = 8 && status = unset }",
    "{ status = error } && { span.color = \"red\" }",
    "{ span.color = 0.5 }",
    "{ span.color != nil && kind = server }",
    "{ .color = \"blue\" || .shard = 2 }",
    "{ span.tags = \"a\" }",
    "{ resource.service.name = \"svc-1\" && duration > 20ms }",
    "{ resource.shard > 1 }",
    "{ rootName = \"op-0\" && span.n > 6 }",
    "{ traceDuration > 80ms } | count() > 8",
    "{ event.why = \"heat\" }",
    "{ instrumentation:version = \"2\" } ~ { }",
    "{ nestedSetParent < 0 }",
    "{ span.n = 1 } !> { }",
    "{ span.missing = 1 }",
    "{ } | by(resource.service.name) | avg(duration) > 1ms",
    "{ span.n =~ \"x\" || name =~ \"op-[23]\" } | select(span.color)",
];

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn answers(service: &Service) -> Vec<(String, Value)> {
    const RANGE: &str = "start=1699999900&end=1700000100";
    let mut uris: Vec<String> = Vec::new();
    for query in QUERIES {
        uris.push(format!("/api/search?q={}&limit=100&spss=50&{RANGE}", encoded(query)));
    }
    for query in
        ["{ } | rate() by (resource.service.name)", "{ span.n > 2 } | quantile_over_time(duration, .5)"]
    {
        uris.push(format!("/api/metrics/query_range?q={}&step=10&{RANGE}", encoded(query)));
    }
    uris.push(format!("/api/search?tags=name%3Dop-2%20color%3Dred&limit=100&{RANGE}"));
    for path in [
        "tags?x=",
        "tag/span.color/values?x=",
        "tag/rootName/values?x=",
        "tag/.n/values?q=%7Bkind%3Dserver%7D",
    ] {
        uris.push(format!("/api/v2/search/{path}&{RANGE}"));
    }
    for trace in 0..5 {
        uris.push(format!("/api/v2/traces/{:032x}", (trace + 1) * 0x0123_4567_89ab_cdef_u64));
    }
    let mut answers = Vec::new();
    for uri in uris {
        let (status, body) = service.get(&uri).await;
        assert_eq!(status, 200, "{uri}: {body:?}");
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        answer.as_object_mut().unwrap().remove("metrics");
        for series in answer["series"].as_array_mut().into_iter().flatten() {
            series.as_object_mut().unwrap().remove("exemplars");
        }
        answers.push((uri, answer));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_do_not_depend_on_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(&folder.path().join("one")).await;
    assert_eq!(service.push("application/json", request(|_, _| true)).await.0, 200);
    let expected = answers(&service).await;
    let found =
        expected.iter().filter(|(_, a)| a["traces"].as_array().is_some_and(|t| !t.is_empty())).count();
    assert!(found > 15, "most of the queries find something: {found}");
    service.handle.flush().await.unwrap();
    for ((uri, want), (_, got)) in expected.iter().zip(answers(&service).await) {
        assert_eq!(*want, got, "in one block: {uri}");
    }
    service.stop().await;

    // Whole traces here and there, others in pieces; some spans twice.
    let service = Service::open(&folder.path().join("many")).await;
    let part = |t: usize, n: usize| if t.is_multiple_of(4) { t / 4 % 3 } else { (t * 7 + n * 5) % 3 };
    for place in 0..3 {
        let body = request(|t, n| part(t, n) == place || (t + n) % 13 == place);
        assert_eq!(service.push("application/json", body).await.0, 200);
        if place < 2 {
            service.handle.flush().await.unwrap();
        }
    }
    for state in ["two blocks and a head", "three blocks"] {
        for ((uri, want), (_, got)) in expected.iter().zip(answers(&service).await) {
            assert_eq!(*want, got, "in {state}: {uri}");
        }
        service.handle.flush().await.unwrap();
    }
    service.stop().await;
}
