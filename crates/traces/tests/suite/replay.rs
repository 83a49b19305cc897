//! What was acknowledged is there after a crash: once.

use bytes::Bytes;
use model::{SpanId, TraceId};
use traces::TracesHandle;
use wire::otlp::encode::{ResourceGroup, ScopeGroup, request};
use wire::proto::Writer;

use crate::service::Service;

/// A request with `spans` spans of each of the traces.
fn body(traces: std::ops::Range<u8>, spans: std::ops::Range<u8>) -> Bytes {
    let span = |trace: u8, span: u8| {
        let mut w = Writer::default();
        w.bytes(1, &TraceId([trace + 1; 16]).0);
        w.bytes(2, &SpanId([span + 1; 8]).0);
        w.string(5, "work");
        w.fixed64(7, 1_700_000_000_000_000_000 + u64::from(span));
        w.fixed64(8, 1_700_000_000_000_001_000 + u64::from(span));
        Bytes::from(w.finish())
    };
    let items = traces.flat_map(|t| spans.clone().map(move |s| (t, s))).map(|(t, s)| span(t, s)).collect();
    let scopes = vec![ScopeGroup { scope: Bytes::new(), schema_url: Bytes::new(), items }];
    request(&[ResourceGroup { resource: Bytes::new(), schema_url: Bytes::new(), scopes }])
}

async fn spans_of(service: &Service, trace: u8) -> usize {
    let (status, body) = service.get(&format!("/api/v2/traces/{}", TraceId([trace + 1; 16]))).await;
    assert_eq!(status, 200);
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let resources = json["trace"]["resourceSpans"].as_array().cloned().unwrap_or_default();
    let scopes = resources.iter().flat_map(|r| r["scopeSpans"].as_array().unwrap());
    scopes.map(|s| s["spans"].as_array().unwrap().len()).sum()
}

async fn found(service: &Service) -> Vec<(usize, u64)> {
    let uri = "/api/search?q=%7B%7D&limit=100&spss=100&start=1699999000&end=1700001000";
    let (status, body) = service.get(uri).await;
    assert_eq!(status, 200, "{body:?}");
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let sets = |t: &serde_json::Value| {
        let set = &t["spanSets"][0];
        (set["spans"].as_array().unwrap().len(), set["matched"].as_u64().unwrap())
    };
    json["traces"].as_array().unwrap().iter().map(sets).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_spans_survive_crashes_once() {
    let folder = tempfile::tempdir().unwrap();
    let tenant = TracesHandle::default_tenant();

    // Half of every trace goes into a block, the other half only into the log; a few spans are sent twice.
    let service = Service::open(folder.path()).await;
    service.handle.push_otlp(&tenant, body(0..10, 0..4)).await.unwrap();
    service.handle.flush().await.unwrap();
    service.handle.push_otlp(&tenant, body(0..10, 3..8)).await.unwrap();
    service.handle.push_otlp(&tenant, body(0..3, 7..8)).await.unwrap();
    assert_eq!(spans_of(&service, 0).await, 8);
    service.crash().await;

    for round in 0..3 {
        let service = Service::open(folder.path()).await;
        for trace in 0..10 {
            assert_eq!(spans_of(&service, trace).await, 8, "trace {trace} in round {round}");
        }
        assert_eq!(found(&service).await, vec![(8, 8); 10], "round {round}");
        if round == 1 {
            service.handle.flush().await.unwrap();
            assert_eq!(found(&service).await, vec![(8, 8); 10], "after the flush");
        }
        service.crash().await;
    }
}
