//! What clients of the HTTP and gRPC APIs rely on beyond the recorded answers.

use std::io::Write;

use ::service::axum::body::Body;
use ::service::config::from_text;
use bytes::{Buf, BufMut, Bytes};
use http::{Request, StatusCode};
use prost::Message;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use traces::{Config, Receivers, Traces};
use wire::tempo::{SearchRequest, SearchResponse, SearchTagsV2Response, TraceByIdResponse};

use crate::service::Service;

const START: u64 = 1_700_000_000_000_000_000;

/// A request with one span: a server span of `shop` with a string attribute.
fn one_span(id: u8, key: &str, value: &str) -> String {
    let (trace, span) = (format!("{id:02x}").repeat(16), format!("{id:02x}").repeat(8));
    serde_json::json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeSpans": [{"spans": [{
            "traceId": trace, "spanId": span, "name": "pay", "kind": 2,
            "startTimeUnixNano": START.to_string(), "endTimeUnixNano": (START + 1_000_000).to_string(),
            "attributes": [{"key": key, "value": {"stringValue": value}}],
        }]}],
    }]})
    .to_string()
}

fn text(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

const RANGE: &str = "start=1699999000&end=1700001000";

#[tokio::test]
async fn traces_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path()).await;
    service.push("application/json", one_span(7, "a", "b")).await;
    let id = "07".repeat(16);

    let missing = "/api/traces/abc";
    assert_eq!(service.get(missing).await, (StatusCode::NOT_FOUND, Bytes::new()));
    let (status, body) = service.get("/api/v2/traces/abc").await;
    assert_eq!((status, text(&body)), (StatusCode::OK, r#"{"trace":{},"metrics":{}}"#.to_owned()));
    let request = Request::builder().uri("/api/v2/traces/abc").header("Accept", "application/protobuf");
    let (_, body) = service.request(request.body(Body::empty()).unwrap()).await;
    assert_eq!(TraceByIdResponse::decode(body).unwrap().trace, Some(Bytes::new()));

    for (uri, message) in [
        ("/api/traces/12x", "trace IDs can only contain hex characters: invalid character 'x' at position 3"),
        (&*format!("/api/traces/{}", "1".repeat(33)), "trace IDs can't be larger than 128 bits"),
        (
            &*format!("/api/traces/{id}?start=5&end=5"),
            "http parameter start must be before end. received start=5 end=5",
        ),
    ] {
        assert_eq!(service.get(uri).await, (StatusCode::BAD_REQUEST, Bytes::from(message)), "{uri}");
    }
    let (_, body) = service.get(&format!("/api/traces/{}", id.to_uppercase())).await;
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let span = &json["batches"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["kind"], &span["status"]), (&"SPAN_KIND_SERVER".into(), &serde_json::json!({})));
    assert_eq!(span["spanId"], "BwcHBwcHBwc=");
    service.stop().await;
}

#[tokio::test]
async fn large_traces_are_cut_and_long_attributes_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = "overrides: {defaults: {global: {max_bytes_per_trace: 2500}}}";
    let service = Service::with(from_text::<Config>(config).unwrap().config, folder.path()).await;
    service.push("application/json", one_span(1, "long", &"é".repeat(2000))).await;
    for place in ["head", "blocks"] {
        let (_, body) = service.get(&format!("/api/v2/traces/{}", "01".repeat(16))).await;
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let span = &json["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["attributes"][0]["value"]["stringValue"], "é".repeat(1024), "{place}");
        service.handle.flush().await.unwrap();
    }
    let other = one_span(1, "x", &"y".repeat(1000)).replace(&"01".repeat(8), &"02".repeat(8));
    let other = other.replace(&"02".repeat(16), &"01".repeat(16));
    service.push("application/json", other).await;
    let id = "01".repeat(16);
    let (status, body) = service.get(&format!("/api/traces/{id}")).await;
    assert_eq!((status.as_u16(), text(&body)), (422, "trace exceeds max size (max bytes: 2500)".to_owned()));
    let (status, body) = service.get(&format!("/api/v2/traces/{id}")).await;
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status.as_u16(), &json["status"]), (200, &"PARTIAL".into()));
    service.stop().await;
}

#[tokio::test]
async fn tags_of_any_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path()).await;
    service.push("application/json", one_span(1, "a/b \"ü\".c", "v 1")).await;
    service.push("application/json", one_span(2, "plain", "x")).await;
    let values = |body: Bytes| -> Vec<String> {
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        json["tagValues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["value"].as_str().unwrap().to_owned())
            .collect()
    };
    for place in ["head", "blocks"] {
        let tag = "span.%22a%2Fb%20%5C%22%C3%BC%5C%22.c%22";
        let (status, body) =
            service.get(&format!("/api/v2/search/tag/{tag}/values?tag=x&limit=9&{RANGE}")).await;
        assert_eq!((status, values(body)), (StatusCode::OK, vec!["v 1".to_owned()]), "{place}");
        // An unfinished filter is no error, a finished one filters.
        let filtered = |q: &str| format!("/api/v2/search/tag/.plain/values?q={q}&{RANGE}");
        let (_, body) = service.get(&filtered("%7Bspan.plain%3D")).await;
        assert_eq!(values(body), ["x"], "{place}");
        let (_, body) = service.get(&filtered("%7Bname%3D%22nope%22%7D")).await;
        assert_eq!(values(body), [""; 0], "{place}");
        let (_, body) = service.get(&format!("/api/search/tag/service.name/values?{RANGE}")).await;
        assert!(text(&body).starts_with(r#"{"tagValues":["shop"]"#), "{body:?}");
        let (status, body) = service.get(&format!("/api/v2/search/tag/plain/values?{RANGE}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text(&body).starts_with("please provide a valid tagName: "), "{body:?}");
        let q = "q=%7Bspan.plain%3D%22x%22%7D";
        let (_, body) = service.get(&format!("/api/v2/search/tags?scope=span&{q}&{RANGE}")).await;
        assert!(text(&body).starts_with(r#"{"scopes":[{"name":"span","tags":["plain"]}]"#), "{body:?}");
        service.handle.flush().await.unwrap();
    }
    let (status, body) = service.get(&format!("/api/search/tags?scope=x&{RANGE}")).await;
    assert_eq!((status, text(&body)), (StatusCode::BAD_REQUEST, "invalid scope: x".to_owned()));
    service.stop().await;
}

#[tokio::test]
async fn tenants_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let config = from_text::<Config>("multitenancy_enabled: true").unwrap().config;
    let service = Service::with(config, folder.path()).await;
    let ask = |method: &str, uri: &str, tenant: &str, body: String| {
        let request = Request::builder().method(method).uri(uri).header("Content-Type", "application/json");
        let request = if tenant.is_empty() { request } else { request.header("X-Scope-OrgID", tenant) };
        request.body(Body::from(body)).unwrap()
    };
    let push = |tenant: &str, id| ask("POST", "/v1/traces", tenant, one_span(id, "a", "b"));
    assert_eq!(service.request(push("a", 1)).await.0, StatusCode::OK);
    assert_eq!(service.request(push("b", 2)).await.0, StatusCode::OK);
    let (status, body) = service.request(push("", 3)).await;
    assert_eq!(
        (status, text(&body)),
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"code":14,"message":"no org id"}"#.to_owned())
    );
    assert_eq!(service.request(push("a|b", 3)).await.0, StatusCode::BAD_REQUEST);
    let search = format!("/api/search?q=%7B%7D&{RANGE}");
    for (tenant, traces) in [("a", 1), ("b", 1), ("c", 0), ("a|b", 2)] {
        let (_, body) = service.request(ask("GET", &search, tenant, String::new())).await;
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["traces"].as_array().unwrap().len(), traces, "{tenant}");
    }
    let (status, body) = service.request(ask("GET", &search, "", String::new())).await;
    assert_eq!((status, text(&body)), (StatusCode::UNAUTHORIZED, "no org id".to_owned()));
    assert_eq!(service.get("/api/echo").await, (StatusCode::OK, Bytes::from("echo\n")));
    service.stop().await;
}

#[tokio::test]
async fn bodies_in_every_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path()).await;
    let json = one_span(9, "a", "b");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(json.as_bytes()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(json.as_bytes()).unwrap();
    let bodies = [
        ("", json.clone().into_bytes(), 200),
        ("gzip", gzip.finish().unwrap(), 200),
        ("zlib", zlib.finish().unwrap(), 200),
        ("zstd", zstd::bulk::compress(json.as_bytes(), 1).unwrap(), 200),
        ("gzip", b"not gzip".to_vec(), 400),
        ("br", Vec::new(), 400),
    ];
    for (encoding, body, expect) in bodies {
        let request =
            Request::builder().method("POST").uri("/v1/traces").header("Content-Type", "application/json");
        let request = request.header("Content-Encoding", encoding).body(Body::from(body)).unwrap();
        let (status, answer) = service.request(request).await;
        assert_eq!(status.as_u16(), expect, "{encoding}: {answer:?}");
    }
    assert_eq!(service.push("text/plain", "x").await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(service.get("/v1/traces").await.0, StatusCode::METHOD_NOT_ALLOWED);
    service.stop().await;
}

/// Messages as bytes, for a client.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn call(port: u16, path: &'static str, message: Bytes, stream: bool) -> Result<Bytes, Status> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let mut client = tonic::client::Grpc::new(endpoint.connect().await.unwrap())
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    client.ready().await.unwrap();
    let (request, path) = (tonic::Request::new(message), http::uri::PathAndQuery::from_static(path));
    if stream {
        let mut answers = client.server_streaming(request, path, Raw).await?.into_inner();
        let answer = answers.message().await?.expect("one message");
        assert_eq!(answers.message().await?, None);
        return Ok(answer);
    }
    Ok(client.unary(request, path, Raw).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_on_real_ports() {
    static PROGRAM: ::service::Program = ::service::program!("test");
    let folder = tempfile::tempdir().unwrap();
    let ports: [u16; 4] = std::array::from_fn(|_| testkit::port::free());
    let [http, grpc, otlp_grpc, otlp_http] = ports;
    let config = format!(
        "server: {{http_listen_port: {http}, grpc_listen_port: {grpc}}}\n\
         distributor: {{receivers: {{otlp: {{protocols: {{\
         grpc: {{endpoint: '127.0.0.1:{otlp_grpc}'}}, http: {{endpoint: '127.0.0.1:{otlp_http}'}}}}}}}}}}"
    );
    let config = from_text::<Config>(&config).unwrap().config.in_folder(folder.path());
    let mut process = ::service::Process::new(&PROGRAM);
    let traces = Traces::open(config, process.metrics()).await.unwrap();
    traces.register(&mut process, Receivers::Listen).unwrap();
    let shutdown = process.shutdown();
    let running = tokio::spawn(process.run());

    const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let span =
        wire::otlp::json::to_protobuf(wire::otlp::Signal::Traces, one_span(5, "a", "b").as_bytes()).unwrap();
    call(otlp_grpc, EXPORT, span, false).await.unwrap();
    let error = call(otlp_grpc, EXPORT, Bytes::from_static(b"\xff\xff"), false).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let unknown = "/opentelemetry.proto.collector.trace.v1.TraceService/Nope";
    assert_eq!(call(otlp_grpc, unknown, Bytes::new(), false).await.unwrap_err().code(), Code::Unimplemented);

    let ask =
        SearchRequest { query: "{}".into(), start: 1_699_999_000, end: 1_700_001_000, ..Default::default() };
    for port in [http, grpc] {
        let ask = Bytes::from(ask.encode_to_vec());
        let answer = call(port, "/tempopb.StreamingQuerier/Search", ask, true).await.unwrap();
        let answer = SearchResponse::decode(answer).unwrap();
        assert_eq!(answer.traces.len(), 1);
        assert_eq!(answer.traces[0].root_service_name, "shop");
    }
    let ask =
        wire::tempo::SearchTagsRequest { start: 1_699_999_000, end: 1_700_001_000, ..Default::default() };
    let ask = Bytes::from(ask.encode_to_vec());
    let answer = call(http, "/tempopb.StreamingQuerier/SearchTagsV2", ask, true).await.unwrap();
    assert_eq!(SearchTagsV2Response::decode(answer).unwrap().scopes.len(), 3);
    let bad = SearchRequest { query: "{".into(), ..Default::default() };
    let error =
        call(grpc, "/tempopb.StreamingQuerier/Search", bad.encode_to_vec().into(), true).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);

    shutdown.begin("the test is over");
    running.await.unwrap().unwrap();
    // What was only in memory is in a block after an orderly end.
    let service = Service::open(folder.path()).await;
    assert_eq!(service.get(&format!("/api/traces/{}", "05".repeat(16))).await.0, StatusCode::OK);
    service.stop().await;
}
