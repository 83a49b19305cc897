//! Pushes to servers on loopback: with credentials, over TLS, through redirects.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::{Value, json};
use service::axum::Router;
use service::axum::response::{IntoResponse, Response};
use service::{CancellationToken, Listener, Server, TlsConfig as ServerTls};

use crate::client::destination::Room;
use crate::client::{Answer, Destination, Remote};
use crate::config::ClientConfig;

/// Answers with what it was told to, then with 204; keeps what it was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Response>>>,
    asked: Arc<Mutex<Vec<(Method, HeaderMap, Bytes)>>>,
}

struct Fixture {
    script: Script,
    address: SocketAddr,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Fixture {
    fn start(tls: &ServerTls) -> Self {
        let script = Script::default();
        let seen = script.clone();
        let any = async move |method: Method, _: Uri, headers: HeaderMap, body: Bytes| {
            seen.asked.lock().push((method, headers, body));
            seen.answers.lock().pop_front().unwrap_or_else(|| StatusCode::NO_CONTENT.into_response())
        };
        let listener = Listener::bind("127.0.0.1:0", "the test", tls).unwrap();
        let (address, stop) = (listener.address(), CancellationToken::new());
        let server = Server::new("store").http(Router::new().fallback(any));
        let running = tokio::spawn(server.serve(listener, stop.clone()));
        Self { script, address, stop, running }
    }

    fn plain() -> Self {
        Self::start(&ServerTls::default())
    }

    /// Answers once with this.
    fn answer(&self, answer: impl IntoResponse) {
        self.script.answers.lock().push_back(answer.into_response());
    }

    /// A header of each request so far; empty where it was not there.
    fn asked(&self, header: &str) -> Vec<String> {
        let value = |headers: &HeaderMap| headers.get(header).map_or("", |v| v.to_str().unwrap()).to_owned();
        self.script.asked.lock().iter().map(|(_, headers, _)| value(headers)).collect()
    }

    /// Pushes with a client of this configuration, `url` besides.
    async fn push(&self, scheme: &str, more: Value) -> Answer {
        push(&format!("{scheme}://{}/push", self.address), more).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn client(url: &str, more: Value) -> Destination {
    let mut config = json!({"url": url, "timeout": "5s"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: ClientConfig = serde_json::from_value(config).unwrap();
    Destination::Remote(Box::new(Remote::new(&config).unwrap()))
}

async fn push(url: &str, more: Value) -> Answer {
    push_by(&client(url, more)).await
}

async fn push_by(client: &Destination) -> Answer {
    let request = client.prepare(&mut Room::default()).unwrap();
    client.push("t1", &request).await
}

fn testdata(name: &str) -> String {
    format!("{}/src/targets/syslog/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn credentials() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "from file\n").unwrap();
    let store = Fixture::plain();
    let cases = [
        (json!({}), ""),
        (json!({"basic_auth": {"username": "u", "password": "p"}}), "Basic dTpw"),
        (json!({"basic_auth": {"username": "u", "password_file": file}}), "Basic dTpmcm9tIGZpbGU="),
        (json!({"bearer_token": "x"}), "Bearer x"),
        (json!({"bearer_token_file": file}), "Bearer from file"),
        (json!({"authorization": {"credentials": "x"}}), "Bearer x"),
        (json!({"authorization": {"type": "Token", "credentials_file": file}}), "Token from file"),
        (json!({"headers": {"Authorization": "own"}}), "own"),
    ];
    for (more, want) in cases {
        store.push("http", more.clone()).await.result.unwrap();
        assert_eq!(store.asked("authorization").last().unwrap(), want, "{more}");
    }
    assert_eq!(store.asked("x-scope-orgid").last().unwrap(), "t1");
    let of_url = format!("http://me:pw@{}/push", store.address);
    push(&of_url, json!({"bearer_token": "x"})).await.result.unwrap();
    assert_eq!(store.asked("authorization").last().unwrap(), "Basic bWU6cHc=");

    // The file is read for each push; without it nothing is sent, and nothing is lost.
    let client = client(&format!("http://{}/push", store.address), json!({"bearer_token_file": file}));
    std::fs::write(&file, "renewed").unwrap();
    push_by(&client).await.result.unwrap();
    assert_eq!(store.asked("authorization").last().unwrap(), "Bearer renewed");
    std::fs::remove_file(&file).unwrap();
    let before = store.asked("host").len();
    assert!(push_by(&client).await.result.unwrap_err().is_retryable());
    assert_eq!(store.asked("host").len(), before);
    store.end().await;
}

#[tokio::test]
async fn tokens_are_had_renewed_and_kept() {
    let (store, provider) = (Fixture::plain(), Fixture::plain());
    let grant = |token: &str, expires: Value| json!({"access_token": token, "token_type": "bearer", "expires_in": expires});
    let json_of = |value: Value| service::axum::Json(value);
    let oauth2 = json!({"oauth2": {
        "client_id": "me&", "client_secret": "hush", "scopes": ["a", "b"],
        "endpoint_params": {"audience": "logs"}, "token_url": format!("http://{}/token", provider.address),
    }});
    let client = client(&format!("http://{}/push", store.address), oauth2);

    // A provider that wants the secret in the form; the token is used again.
    provider.answer((StatusCode::UNAUTHORIZED, "no header here: hush"));
    provider.answer(json_of(grant("one", json!(3600))));
    for _ in 0..2 {
        push_by(&client).await.result.unwrap();
    }
    assert_eq!(store.asked("authorization"), ["Bearer one", "Bearer one"]);
    let forms: Vec<_> = provider.script.asked.lock().iter().map(|(_, _, body)| body.clone()).collect();
    let plain = "grant_type=client_credentials&scope=a+b&audience=logs";
    assert_eq!(forms, [plain.to_owned(), format!("{plain}&client_id=me%26&client_secret=hush")]);
    assert_eq!(provider.asked("authorization"), ["Basic bWUlMjY6aHVzaA==", ""]);

    // The store does not take it any more: another one is had at once. It runs out soon, so it is not kept.
    store.answer(StatusCode::UNAUTHORIZED);
    for token in ["two", "three"] {
        provider.answer(json_of(grant(token, json!("9"))));
        push_by(&client).await.result.unwrap();
    }
    assert_eq!(store.asked("authorization")[2..], ["Bearer one", "Bearer two", "Bearer three"]);

    // No token, no loss; and no word of secrets.
    for bad in ["{\"error\": \"invalid_client\"}", "hush", &"x".repeat(2 << 20)] {
        provider.answer((StatusCode::BAD_REQUEST, bad.to_owned()));
        provider.answer((StatusCode::BAD_REQUEST, bad.to_owned()));
        let failure = push_by(&client).await.result.unwrap_err();
        assert!(failure.is_retryable() && !failure.message().contains("hush"), "{failure}");
    }
    let before = store.asked("host").len();
    assert_eq!(before, 5);
    store.end().await;
    provider.end().await;
}

#[tokio::test]
async fn servers_and_clients_with_certificates() {
    let tls = |client_ca: &str| ServerTls {
        cert_file: testdata("server.pem"),
        key_file: testdata("server.key"),
        client_ca_file: if client_ca.is_empty() { String::new() } else { testdata(client_ca) },
    };
    let authority = std::fs::read_to_string(testdata("ca.pem")).unwrap();
    let open = Fixture::start(&tls(""));
    for (tls, is_good) in [
        (json!({}), false),
        (json!({"insecure_skip_verify": true}), true),
        (json!({"ca_file": testdata("ca.pem")}), true),
        (json!({"ca": authority}), true),
        (json!({"ca_file": testdata("ca.pem"), "min_version": "TLS13"}), true),
        (json!({"ca_file": testdata("ca.pem"), "max_version": "TLS12"}), true),
        (json!({"ca_file": testdata("ca.pem"), "server_name": "localhost"}), true),
        (json!({"ca_file": testdata("ca.pem"), "server_name": "127.0.0.1"}), true),
        (json!({"ca_file": testdata("ca.pem"), "server_name": "other.example"}), false),
    ] {
        let answer = open.push("https", json!({"tls_config": tls})).await;
        assert_eq!(answer.result.is_ok(), is_good, "{tls}: {:?}", answer.result);
        // What is wrong with TLS may be mended.
        assert!(answer.result.is_ok() || answer.result.unwrap_err().is_retryable());
    }
    assert!(open.asked("host").iter().all(|host| *host == open.address.to_string()));
    open.end().await;

    let closed = Fixture::start(&tls("ca.pem"));
    let (ca, cert, key) = (testdata("ca.pem"), testdata("client.pem"), testdata("client.key"));
    let known = json!({"tls_config": {"ca_file": ca, "cert_file": cert, "key_file": key}});
    closed.push("https", known).await.result.unwrap();
    assert!(closed.push("https", json!({"tls_config": {"ca_file": ca}})).await.result.is_err());
    closed.end().await;
}

#[tokio::test]
async fn redirects_that_keep_a_push_are_followed() {
    let (first, second) = (Fixture::plain(), Fixture::plain());
    let target = format!("http://{}/there", second.address);
    for (status, follows, more) in [
        (307, true, json!({})),
        (308, true, json!({})),
        (301, false, json!({})),
        (302, false, json!({})),
        (303, false, json!({})),
        (307, false, json!({"follow_redirects": false})),
    ] {
        let before = second.asked("host").len();
        first.answer((StatusCode::from_u16(status).unwrap(), [("location", target.clone())]));
        let answer = first.push("http", more).await;
        assert_eq!(answer.result.is_ok(), follows, "{status}");
        assert!(follows || answer.result.unwrap_err().is_retryable(), "nothing was said about the lines");
        assert_eq!(second.asked("host").len() - before, usize::from(follows), "{status}");
    }
    assert!(second.script.asked.lock().iter().all(|(method, ..)| *method == Method::POST));
    // In circles.
    let here = format!("http://{}/push", first.address);
    for _ in 0..20 {
        first.answer((StatusCode::TEMPORARY_REDIRECT, [("location", here.clone())]));
    }
    assert!(first.push("http", json!({})).await.result.unwrap_err().is_retryable());
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_proxy_is_asked_instead() {
    let proxy = Fixture::plain();
    let through = |more: Value| {
        let mut all = json!({"proxy_url": format!("http://u:hush@{}", proxy.address)});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    push("http://store.example/push", through(json!({}))).await.result.unwrap();
    assert_eq!(proxy.asked("host"), ["store.example"]);
    assert_eq!(proxy.asked("proxy-authorization"), ["Basic dTpodXNo"]);
    let around = push("http://localhost:1/push", through(json!({"no_proxy": "localhost"}))).await;
    assert!(around.result.unwrap_err().is_retryable());
    assert_eq!(proxy.asked("host").len(), 1);
    // To a server with TLS the proxy is asked for a way, with headers of its own.
    let headers = json!({"proxy_connect_header": {"X-Way": ["in"]}});
    push("https://store.example/push", through(headers)).await.result.unwrap_err();
    assert_eq!(proxy.asked("x-way"), ["", "in"]);
    proxy.end().await;
}
