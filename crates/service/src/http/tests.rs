//! Over real sockets on port 0.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::routing::{get, post};
use futures::StreamExt as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::*;
use crate::{Health, Standard, config::from_text};

struct Running {
    address: SocketAddr,
    drain: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

fn run(server: Server) -> Running {
    let listener = Listener::loopback().unwrap();
    let (address, drain) = (listener.address(), CancellationToken::new());
    let server = tokio::spawn(server.serve(listener, drain.clone()));
    Running { address, drain, server }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(self.url(path)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Drains and waits; fails if it takes longer than anything here should.
    async fn end(self) {
        self.drain.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.server).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn standard_routes_and_unknown_paths() {
    let health = Health::default();
    let metrics = Metrics::with_process();
    let component = health.scope("logs").component("ingester");
    let config = crate::ServerConfig::default();
    let info = crate::BuildInfo::new(&crate::program!("timberline-test"), "3.7.0");
    let standard = Standard::new(&health, &metrics).config(&config).build_info("/api/status/buildinfo", info);
    let app = standard.router().route("/things/{name}/values", get(async || "things"));
    let server = run(Server::new("test").http(app).metrics(&metrics.prefixed("loki")));

    assert_eq!(server.get("/ready").await, (503, "logs/ingester is starting: starting\n".to_owned()));
    component.ready();
    assert_eq!(server.get("/ready").await, (200, "ready\n".to_owned()));
    let healthz = r#"{"components":{"logs/ingester":{"status":"ready"}},"status":"ready"}"#;
    assert_eq!(server.get("/healthz").await.0, 200);
    let body: serde_json::Value = serde_json::from_str(&server.get("/healthz").await.1).unwrap();
    assert_eq!(body, serde_json::from_str::<serde_json::Value>(healthz).unwrap());
    component.failing("disk is full");
    assert_eq!(server.get("/ready").await, (503, "logs/ingester is failing: disk is full\n".to_owned()));

    assert!(server.get("/config").await.1.contains("http_listen_port: 80"));
    let build: serde_json::Value =
        serde_json::from_str(&server.get("/api/status/buildinfo").await.1).unwrap();
    assert_eq!(build["version"], "3.7.0");
    assert!(build["goVersion"].is_string());

    assert_eq!(server.get("/nowhere").await, (404, "404 page not found\n".to_owned()));
    let response = reqwest::Client::new().post(server.url("/ready")).send().await.unwrap();
    assert_eq!(response.status(), 405);

    assert_eq!(server.get("/things/x/values").await.1, "things");
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    let count =
        r#"loki_request_duration_seconds_count{method="GET",route="things_name_values",status_code="200"} 1"#;
    for expected in
        [count, "process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "]
    {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(text.contains("process_start_time_seconds 1") || text.contains("process_start_time_seconds 2"));
    server.end().await;
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_ask() {
    let server = run(Server::new("test").http(Router::new().route("/", get(async || "long ".repeat(1000)))));
    let client = reqwest::Client::builder().no_gzip().build().unwrap();
    for (accept, encoding) in [("gzip", Some("gzip")), ("identity", None)] {
        let response = client.get(server.url("/")).header("accept-encoding", accept).send().await.unwrap();
        let header =
            response.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header.as_deref(), encoding);
        assert_eq!(response.bytes().await.unwrap().len() < 1000, encoding.is_some());
    }
    server.end().await;
}

#[tokio::test]
async fn panics_become_500() {
    let app = Router::new()
        .route("/panic", get(async || -> &'static str { panic!("boom {}", 7) }))
        .route("/fine", get(async || "fine"));
    let server = run(Server::new("test").http(app));
    let (status, text) = server.get("/panic").await;
    assert_eq!((status, text.contains("boom")), (500, false));
    assert_eq!(server.get("/fine").await, (200, "fine".to_owned()));
    server.end().await;
}

#[tokio::test]
async fn bodies_are_bounded() {
    let read =
        async |body: Body| -> Result<String, Failure> { Ok(read_body(body, 8).await?.len().to_string()) };
    let app = Router::new()
        .route("/own", post(read))
        .route("/all", post(async |body: Bytes| body.len().to_string()));
    let limits = Limits { body: 100, body_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = run(Server::new("test").http(app).limits(limits));
    let client = reqwest::Client::new();
    let send = async |path: &str, body: reqwest::Body| {
        let response = client.post(server.url(path)).body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(send("/all", "x".repeat(100).into()).await, (200, "100".to_owned()));
    let too_large = "request body is larger than the limit of 100 bytes".to_owned();
    assert_eq!(send("/all", "x".repeat(101).into()).await, (413, too_large));
    assert_eq!(send("/own", "x".repeat(8).into()).await, (200, "8".to_owned()));
    let too_large = "request body is larger than the limit of 8 bytes".to_owned();
    assert_eq!(send("/own", "x".repeat(9).into()).await, (413, too_large));
    // Without a length, the bytes themselves are counted.
    let chunks = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("0123456789")));
    assert_eq!(send("/all", reqwest::Body::wrap_stream(chunks)).await.0, 413);

    // A body that stalls.
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"POST /own HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab").await.unwrap();
    let mut answer = vec![0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 408");
    server.end().await;
}

#[tokio::test]
async fn requests_in_work_are_bounded_but_probes_pass() {
    let (entered, mut entrances) = mpsc::channel(8);
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let wait = get(move || async move {
        entered.send(()).await.unwrap();
        gate.notified().await;
        "done"
    });
    let standard = Standard::new(&Health::default(), &Metrics::default()).router();
    let limits = Limits { requests: 1, ..Limits::default() };
    let server = run(Server::new("test").http(standard.route("/wait", wait)).limits(limits));
    let first = tokio::spawn(reqwest::get(server.url("/wait")));
    entrances.recv().await.unwrap();
    let refused = reqwest::get(server.url("/wait")).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(server.get("/ready").await.0, 200);
    go.notify_one();
    assert_eq!(first.await.unwrap().unwrap().text().await.unwrap(), "done");
    server.end().await;
}

#[tokio::test]
async fn slow_answers_and_silent_clients_time_out() {
    let app = Router::new().route("/never", get(async || std::future::pending::<&'static str>().await));
    let limits = Limits {
        request_timeout: Some(Duration::from_millis(50)),
        header_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = run(Server::new("test").http(app).limits(limits));
    let (status, text) = server.get("/never").await;
    assert_eq!(status, 504);
    assert!(text.contains("timed out") && text.contains("timeout"), "{text}");
    for sent in [&b""[..], b"G", b"PRI * HT", b"GET / HTTP/1.1\r\nHost:"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        // Ends by the server closing, or this test hangs.
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.unwrap();
    }
    server.end().await;
}

#[tokio::test]
async fn draining_answers_what_was_taken_and_takes_nothing_new() {
    let (entered, mut entrances) = mpsc::channel(8);
    let app = Router::new().route(
        "/wait",
        get(move |axum::Extension(Draining(drain)): axum::Extension<Draining>| async move {
            entered.send(()).await.unwrap();
            drain.cancelled().await;
            "answered while draining"
        }),
    );
    let server = run(Server::new("test").http(app));
    // An idle connection must not hold us up.
    let idle = reqwest::Client::new();
    assert_eq!(idle.get(server.url("/")).send().await.unwrap().status(), 404);
    let taken = tokio::spawn(reqwest::get(server.url("/wait")));
    entrances.recv().await.unwrap();
    let address = server.address;
    server.end().await;
    assert_eq!(taken.await.unwrap().unwrap().text().await.unwrap(), "answered while draining");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn half_requests_do_not_hold_up_the_end() {
    let chunks = |count: usize| {
        futures::stream::unfold(0, move |n| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            (n < count).then(|| (Ok::<_, std::io::Error>("chunk"), n + 1))
        })
        .fuse()
    };
    let app = Router::new().route("/slow", get(async move || Body::from_stream(chunks(25))));
    let server = run(Server::new("test").http(app));
    let mut halves = Vec::new();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for sent in [&b""[..], b"G", b"PRI * HT", preface, b"GET / HTTP/1.1\r\nHost:"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        halves.push(stream);
    }
    // One that has been answered before.
    let mut used = TcpStream::connect(server.address).await.unwrap();
    used.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost").await.unwrap();
    let mut begun = [0; 12];
    used.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 404");
    // What is in work has its time, for each protocol.
    let mut slow = Vec::new();
    for client in [reqwest::Client::builder(), reqwest::Client::builder().http2_prior_knowledge()] {
        let response = client.build().unwrap().get(server.url("/slow")).send().await.unwrap();
        slow.push(tokio::spawn(response.text()));
    }
    server.end().await;
    for text in slow {
        assert_eq!(text.await.unwrap().unwrap(), "chunk".repeat(25));
    }
}

#[tokio::test]
async fn a_client_that_leaves_drops_its_handler() {
    struct Alive(Arc<AtomicUsize>, mpsc::Sender<()>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            let _ = self.1.try_send(());
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let (entered, mut entrances) = mpsc::channel(8);
    let (ended, mut ends) = mpsc::channel(8);
    let count = dropped.clone();
    let app = Router::new().route(
        "/wait",
        get(move || async move {
            let _alive = Alive(count, ended);
            entered.send(()).await.unwrap();
            std::future::pending::<&'static str>().await
        }),
    );
    let server = run(Server::new("test").http(app));
    for prior_knowledge in [false, true] {
        let client = reqwest::Client::builder();
        let client = if prior_knowledge { client.http2_prior_knowledge() } else { client }.build().unwrap();
        let request = tokio::spawn(client.get(server.url("/wait")).send());
        entrances.recv().await.unwrap();
        request.abort();
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), ends.recv()).await.unwrap();
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    server.end().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let app = Router::new().route("/", get(async || "hello"));
    let server = run(Server::new("test").http(app).limits(Limits { connections: 1, ..Limits::default() }));
    let first = TcpStream::connect(server.address).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let early = tokio::time::timeout(Duration::from_millis(100), second.read_to_string(&mut answer)).await;
    assert!(early.is_err(), "the second connection was served beside the first");
    drop(first);
    tokio::time::timeout(Duration::from_secs(5), second.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    server.end().await;
}

#[tokio::test]
async fn grpc_and_http_share_a_port() {
    let health = Health::default();
    let component = health.component("x");
    let mut process = crate::Process::new(&crate::program!("test"));
    process.set_grace(Duration::from_secs(5));
    let service = crate::grpc::health_service(&mut process, "test", &health);
    let listener = Listener::loopback().unwrap();
    let address = listener.address();
    let server = Server::new("test")
        .http(Router::new().route("/", get(async || "http")))
        .grpc(tonic::service::Routes::new(service))
        .metrics(&process.metrics().prefixed("tempo"));
    let metrics = process.metrics().clone();
    process.task("server", crate::Phase::Drain, |drain| server.serve(listener, drain));
    let shutdown = process.shutdown();
    let running = tokio::spawn(process.run());

    assert_eq!(reqwest::get(format!("http://{address}/")).await.unwrap().text().await.unwrap(), "http");
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    component.ready();
    let mut watch = client.watch(request).await.unwrap().into_inner();
    loop {
        let update =
            tokio::time::timeout(Duration::from_secs(5), watch.message()).await.unwrap().unwrap().unwrap();
        if update.status == tonic_health::ServingStatus::Serving as i32 {
            break;
        }
    }
    drop((watch, client));
    assert!(
        metrics.text().contains(r#"tempo_request_duration_seconds_count{method="gRPC""#),
        "{}",
        metrics.text()
    );
    shutdown.begin("test over");
    running.await.unwrap().unwrap();
}

#[test]
fn a_taken_port_names_address_and_key() {
    let first = Listener::loopback().unwrap();
    let address = first.address().to_string();
    let error = Listener::bind(&address, "server.http_listen_port", &crate::TlsConfig::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&address) && error.contains("server.http_listen_port") && error.contains("in use"),
        "{error}"
    );
    let tls = crate::TlsConfig { cert_file: "/no/cert.pem".to_owned(), ..Default::default() };
    let error = Listener::bind("127.0.0.1:0", "server.http_listen_port", &tls).unwrap_err().to_string();
    assert!(error.contains("/no/cert.pem"), "{error}");
    assert!(from_text::<Nothing>("server: {}").is_err());
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Nothing {}

impl crate::config::Config for Nothing {}
