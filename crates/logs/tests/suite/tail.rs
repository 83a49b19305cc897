//! Live tails with a real WebSocket client.

use std::time::Duration;

use futures::StreamExt as _;
use http::StatusCode;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::running::{Running, eventually, get, now, of, push, send};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Listening {
    running: Running,
    address: std::net::SocketAddr,
    server: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

async fn listen(yaml: &str) -> Listening {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start_with(dir.path(), yaml).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = running.handle.router();
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Listening { running, address, server, _dir: dir }
}

impl Listening {
    async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
        self.running.stop().await;
    }

    async fn push(&self, tenant: &str, labels: &str, entries: &[(i64, &str)]) {
        let request = of(tenant, push(&[(labels, entries)]));
        let (status, body) = send(&self.running.handle.router(), request).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{}", String::from_utf8_lossy(&body));
    }

    /// Begins a tail; the path is the newer or the older one.
    async fn tail(
        &self,
        tenant: &str,
        path: &str,
        params: &[(&str, &str)],
        flags: &str,
    ) -> Result<Tail, u16> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let mut request = format!("ws://{}{path}?{query}", self.address).into_client_request().unwrap();
        request.headers_mut().insert("x-scope-orgid", tenant.parse().unwrap());
        request.headers_mut().insert("origin", "http://elsewhere.example".parse().unwrap());
        request.headers_mut().insert("x-loki-response-encoding-flags", flags.parse().unwrap());
        let stream = TcpStream::connect(self.address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Tail { socket }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    fn tails(&self) -> usize {
        self.running.handle.tails()
    }
}

struct Tail {
    socket: WebSocketStream<TcpStream>,
}

impl Tail {
    /// The next message that is no ping.
    async fn next(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match message.expect("nothing comes").expect("the tail ended").unwrap() {
                Message::Ping(_) => {}
                message => return message,
            }
        }
    }

    async fn frame(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Lines of frames until there are so many.
    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let frame = self.frame().await;
            let streams = frame["streams"].as_array().unwrap();
            let values = streams.iter().flat_map(|s| s["values"].as_array().unwrap());
            let mut values: Vec<String> = values.map(|v| v[1].as_str().unwrap().to_owned()).collect();
            assert!(values.len() <= 100, "a frame has {} lines", values.len());
            lines.append(&mut values);
        }
        lines
    }
}

const V1: &str = "/loki/api/v1/tail";
const AUTH: &str = "auth_enabled: true";

#[tokio::test(flavor = "multi_thread")]
async fn history_first_then_what_comes() {
    let server = listen(AUTH).await;
    let now = now();
    let old: Vec<(i64, String)> = (0..250).map(|n| (now - 1_000_000_000 + n, format!("old {n}"))).collect();
    let old: Vec<(i64, &str)> = old.iter().map(|(t, l)| (*t, l.as_str())).collect();
    server.push("t", "app=a", &old).await;
    server.push("t", "app=b", &[(now - 5, "another app")]).await;
    for path in [V1, "/api/prom/tail"] {
        let mut tail = server
            .tail("t", path, &[("query", r#"{app="a"} |= "old""#), ("limit", "150")], "")
            .await
            .unwrap();
        let expect: Vec<String> = (100..250).map(|n| format!("old {n}")).collect();
        assert_eq!(tail.lines(150).await, expect, "{path}");
    }
    let query = r#"{app="a"} |= "new" | logfmt | line_format "{{.n}}""#;
    let mut tail = server.tail("t", V1, &[("query", query)], "").await.unwrap();
    let mut other = server.tail("u", V1, &[("query", query)], "").await.unwrap();
    server.push("t", "app=a", &[(now, "new n=1"), (now + 1, "none n=2"), (now + 2, "new n=3")]).await;
    server.push("t", "app=c", &[(now, "new n=4")]).await;
    server.push("t", "app=a", &[(now + 3, "new n=5")]).await;
    assert_eq!(tail.lines(3).await, ["1", "3", "5"]);
    // Another tenant sees its own and nothing else.
    server.push("u", "app=a", &[(now, "new n=6")]).await;
    assert_eq!(other.lines(1).await, ["6"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn categories_and_delay() {
    let server = listen(AUTH).await;
    let now = now();
    let params = [("query", r#"{app="a"} | logfmt"#), ("delay_for", "1")];
    let mut tail = server.tail("t", V1, &params, "categorize-labels").await.unwrap();
    let begun = std::time::Instant::now();
    server.push("t", "app=a", &[(now + 5, "n=2")]).await;
    server.push("t", "app=a", &[(now, "n=1")]).await;
    let frame = tail.frame().await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let stream = &frame["streams"][0];
    assert_eq!(stream["stream"]["app"], "a");
    // What came late is in its place.
    assert_eq!(stream["values"][0][1], "n=1");
    assert_eq!(stream["values"][0][2]["parsed"]["n"], "1");
    assert_eq!(stream["values"][0][2]["structuredMetadata"]["detected_level"], "unknown");
    assert_eq!(frame["encodingFlags"][0], "categorize-labels");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_what_it_lost() {
    let server = listen(AUTH).await;
    let mut tail = server.tail("t", V1, &[("query", r#"{app="a"}"#)], "").await.unwrap();
    // Nobody reads, and far more comes than sockets and buffers hold.
    let line = "x".repeat(1000);
    let start = now();
    let total = 60_000i64;
    for batch in 0..total / 2000 {
        let entries: Vec<(i64, &str)> =
            (0..2000).map(|n| (start + batch * 2000 + n, line.as_str())).collect();
        server.push("t", "app=a", &entries).await;
    }
    let (mut got, mut dropped) = (0, 0);
    server.push("t", "app=a", &[(start + total, "the last")]).await;
    // Reading again, the client catches up: what is pushed after that arrives.
    let mut pushed = 1;
    'frames: loop {
        let frame = tail.frame().await;
        let values =
            frame["streams"].as_array().unwrap().iter().flat_map(|s| s["values"].as_array().unwrap());
        for value in values {
            got += 1;
            if value[0].as_str().unwrap().parse::<i64>().unwrap() >= start + total {
                break 'frames;
            }
        }
        if let Some(list) = frame.get("dropped_entries") {
            let list = list.as_array().unwrap();
            assert!(
                list.len() <= 1000
                    && list.iter().all(|e| e["labels"].is_object() && e["timestamp"].is_string())
            );
            dropped += list.len();
            server.push("t", "app=a", &[(start + total + pushed, "after")]).await;
            pushed += 1;
        }
    }
    assert!(dropped > 0 && got < total, "{dropped} dropped, {got} read");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tails_end() {
    let server = listen("auth_enabled: true\nquerier: {tail_max_duration: 300ms}").await;
    let query = [("query", r#"{app="a"}"#)];
    let mut tail = server.tail("t", V1, &query, "").await.unwrap();
    assert_eq!(server.tails(), 1);
    match tail.next().await {
        Message::Close(Some(frame)) => {
            assert_eq!(u16::from(frame.code), 1011);
            assert!(frame.reason.contains("tail max duration"), "{}", frame.reason);
        }
        other => panic!("{other:?}"),
    }
    eventually("the tail is let go", async || server.tails() == 0).await;
    server.stop().await;

    let server = listen("auth_enabled: true\nlimits_config: {max_concurrent_tail_requests: 2}").await;
    let mut first = server.tail("t", V1, &query, "").await.unwrap();
    let second = server.tail("t", V1, &query, "").await.unwrap();
    assert_eq!(server.tail("t", V1, &query, "").await.err(), Some(400));
    assert!(server.tail("u", V1, &query, "").await.is_ok());
    // Gone with a goodbye, and without.
    first.socket.close(None).await.unwrap();
    drop(second);
    eventually("tails of clients that left are let go", async || server.tails() == 0).await;
    assert!(server.tail("t", V1, &query, "").await.is_ok());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tails_are_refused() {
    let server = listen(AUTH).await;
    let selector = ("query", r#"{app="a"}"#);
    for params in [
        vec![("query", r#"rate({app="a"}[1m])"#)],
        vec![("query", "{app=")],
        vec![],
        vec![selector, ("delay_for", "6")],
        vec![selector, ("delay_for", "x")],
        vec![selector, ("limit", "0")],
        vec![selector, ("limit", "5001")],
        vec![selector, ("start", "yesterday")],
    ] {
        assert_eq!(server.tail("t", V1, &params, "").await.err(), Some(400), "{params:?}");
    }
    assert_eq!(server.tail("t|u", V1, &[selector], "").await.err(), Some(400));
    let (status, _) = send(&server.running.handle.router(), of("t", get(V1, &[selector]))).await;
    assert!(status.is_client_error(), "{status}");
    assert_eq!(server.tails(), 0);
    server.stop().await;
}
