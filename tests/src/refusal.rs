//! What cannot be delivered is refused, so that the sender keeps it: failures travel back through the router.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testkit::{http, port};

use crate::clients;
use crate::fleet::{self, local, url};
use crate::query::{Loki, Tempo, metric};
use crate::service::{Service, until};

const TIME: &str = "1750000000000000000";
const TRACE: &str = "5b8efff798038103d269b633813fc60c";

fn spans() -> String {
    let span = json!({
        "traceId": TRACE, "spanId": "eee19b7ec3c1b174", "name": "lost", "kind": 1,
        "startTimeUnixNano": TIME, "endTimeUnixNano": TIME,
    });
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string()
}

fn records() -> String {
    let record = json!({"timeUnixNano": TIME, "body": {"stringValue": "lost"}});
    json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).to_string()
}

#[test]
fn a_store_that_is_away_is_told_to_the_sender() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (logs, traces, otlp) = (port::free(), port::free(), port::free());
    let (grpc, http, health, metrics) = (port::free(), port::free(), port::free(), port::free());
    let reader = json!({"host": "127.0.0.1", "port": metrics});
    let config = json!({
        "extensions": {"health_check": {"endpoint": local(health)}},
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": local(grpc)}, "http": {"endpoint": local(http)}}}},
        "exporters": {
            "otlp/traces": {"endpoint": local(otlp)},
            "otlphttp/logs": {"endpoint": format!("{}/otlp", url(logs))},
        },
        "service": {
            "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": reader}}}]}},
            "pipelines": {"traces": {"processors": ["batch"]}},
        },
    });
    let ready = url(health);
    let mut router =
        Service::new("timberline-router", "router.yaml", &config, folder.path(), ready)?.started()?;
    let post = |path: &str, content_type: &str, body: &[u8]| http::post(url(http) + path, content_type, body);

    // Nobody is there: try again.
    for (path, body) in [("/v1/traces", spans()), ("/v1/logs", records())] {
        let answer = post(path, "application/json", body.as_bytes())?;
        ensure!(answer.status == 503, "{path}: {} {}", answer.status, answer.text());
        let reason: Value = answer.json()?;
        ensure!(reason["message"].as_str().is_some_and(|m| !m.is_empty()), "{path}: no reason in {reason}");
    }
    let codes = clients::run("refused.py", &[local(grpc)])?;
    ensure!(codes == "traces UNAVAILABLE\nlogs UNAVAILABLE\n", "{codes}");
    let page = format!("{}/metrics", url(metrics));
    let refused = metric(&page, "otelcol_receiver_refused_spans_total", "")?;
    ensure!(refused == 2.0, "{refused} spans are counted as refused");

    // What nobody can read is not to be tried again.
    for path in ["/v1/traces", "/v1/logs"] {
        for (content_type, body) in [
            ("application/json", &b"{\"resourceSpans\": ["[..]),
            ("application/x-protobuf", b"\x0a\xff\xff\xff\xff\x0fnonsense"),
        ] {
            let answer = post(path, content_type, body)?;
            ensure!(answer.status == 400, "{path}, {content_type}: {} {}", answer.status, answer.text());
        }
    }

    // The stores come, and the sender that kept its data is rid of it.
    let mut logs_store = fleet::logs(logs, folder.path())?.started()?;
    let mut trace_store = fleet::traces(traces, otlp, port::free(), folder.path())?.started()?;
    for (path, body) in [("/v1/traces", spans()), ("/v1/logs", records())] {
        until(&format!("{path} is taken"), || {
            post(path, "application/json", body.as_bytes())?.ok().map(drop)
        })?;
    }
    ensure!(Tempo(url(traces)).trace(TRACE)?.len() == 1, "the span is not there once");
    let time: i64 = TIME.parse()?;
    let lines = Loki(url(logs)).lines(r#"{service_name="unknown_service"}"#, time, time + 1)?;
    ensure!(lines.len() == 1 && lines[0].text == "lost", "{lines:?}");
    for service in [&mut router, &mut logs_store, &mut trace_store] {
        service.stop()?;
    }
    Ok(())
}
