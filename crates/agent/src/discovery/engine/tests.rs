//! Hosts, answers, and an engine behind TLS that wants to know who asks.

use parking_lot::Mutex;
use serde_json::json;
use service::axum::Router;
use service::axum::extract::Request;
use service::axum::response::IntoResponse as _;
use service::{CancellationToken, Listener, Server};

use super::*;

#[test]
fn hosts() {
    let good = |host: &str| host.parse::<Host>().unwrap();
    assert_eq!(good("unix:///var/run/docker.sock"), Host::Unix("/var/run/docker.sock".into()));
    assert_eq!(good("tcp://10.0.0.1:2375"), Host::Tcp("10.0.0.1:2375".into()));
    assert_eq!(good("http://proxy:80/"), Host::Web("http://proxy:80".parse().unwrap()));
    assert_eq!(good("https://host:2376"), Host::Web("https://host:2376".parse().unwrap()));
    assert_eq!(good("https://host:443"), Host::Web("https://host".parse().unwrap()));
    for (host, says) in [
        ("/var/run/docker.sock", "write unix:///var/run"),
        ("unix://docker.sock", "is absolute"),
        ("tcp://10.0.0.1", "2375"),
        ("tcp://", "2375"),
        ("https://host", "2376"),
        ("http://host:2375/path", "2375"),
        ("ssh://me@host", "ssh -L"),
        ("npipe:////./pipe/docker_engine", "named pipes are Windows'"),
        ("fd://", "write unix:///var/run"),
    ] {
        let error = host.parse::<Host>().unwrap_err();
        assert!(error.contains(says) && error.contains(host), "{error}");
    }
}

#[test]
fn what_engines_leave_empty() {
    let text = r#"{"Id":"c","Names":null,"Labels":null,"Ports":null,"State":"paused","HostConfig":{},
        "NetworkSettings":{"Networks":null}}"#;
    let container: Container = serde_json::from_str(text).unwrap();
    assert!(container.runs() && container.labels.is_empty() && container.ports.is_empty());
}

/// An engine that answers everything with `answer` and remembers what it was asked.
async fn asked(
    answer: &'static str,
    tls: Option<service::TlsConfig>,
    config: impl FnOnce(u16) -> String,
    ask: impl AsyncFnOnce(Engine),
) -> Vec<(String, HeaderMap)> {
    let tls = tls.unwrap_or_default();
    let listener = Listener::bind("127.0.0.1:0", "the test", &tls).unwrap();
    let config: DockerSdConfig = serde_json::from_str(&config(listener.address().port())).unwrap();
    let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let log = requests.clone();
    let router = Router::new().fallback(async move |request: Request| {
        log.lock().push((request.uri().to_string(), request.headers().clone()));
        answer.into_response()
    });
    let server = tokio::spawn(Server::new("engine").http(router).serve(listener, stop.clone()));
    ask(Engine::new(&config).unwrap()).await;
    stop.cancel();
    server.await.unwrap().unwrap();
    std::mem::take(&mut *requests.lock())
}

fn file(name: &str) -> String {
    format!("{}/src/targets/syslog/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn an_engine_behind_tls_that_knows_its_clients() {
    let tls = || service::TlsConfig {
        cert_file: file("server.pem"),
        key_file: file("server.key"),
        client_ca_file: file("ca.pem"),
    };
    let section = |port: u16, cert: bool| {
        let mut tls = json!({"ca_file": file("ca.pem")});
        if cert {
            tls = json!({"ca_file": file("ca.pem"), "cert_file": file("client.pem"), "key_file": file("client.key")});
        }
        json!({"host": format!("tcp://127.0.0.1:{port}"), "tls_config": tls, "bearer_token": "t",
            "headers": {"X-Own": "a"}, "http_headers": {"X-More": {"values": ["b"], "secrets": ["c"]}}})
        .to_string()
    };
    let requests = asked(
        "[]",
        Some(tls()),
        |port| section(port, true),
        async |engine| {
            assert_eq!(engine.containers(&Filters::new()).await.unwrap().len(), 0);
        },
    );
    let requests = requests.await;
    let (uri, headers) = &requests[0];
    assert_eq!(uri, "/containers/json?all=1&filters=%7B%7D");
    assert!(headers["authorization"] == "Bearer t" && headers["x-own"] == "a", "{headers:?}");
    assert_eq!(headers.get_all("x-more").iter().collect::<Vec<_>>(), ["b", "c"]);

    let refused = asked(
        "[]",
        Some(tls()),
        |port| section(port, false),
        async |engine| {
            engine.networks().await.unwrap_err();
        },
    );
    assert!(refused.await.is_empty());
}

#[tokio::test]
async fn what_happens_is_told_in_lines() {
    let events = concat!(
        r#"{"Type":"container","Action":"create","Actor":{"ID":"c1","Attributes":{"image":"x"}}}"#,
        "\n\n",
        r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c2","name":"b"}}}"#,
        "\n",
        r#"{"Type":"network","Action":"create","Actor":{"ID":"n2","Attributes":null}}"#,
        "\n",
        r#"{"Type":"container","Action":"die","Actor":{"ID":"c1"}}"#,
        "\nthis is no event\n",
    );
    let host = |port| json!({"host": format!("http://127.0.0.1:{port}")}).to_string();
    let requests = asked(events, None, host, async |engine| {
        let mut events = engine.events().await.unwrap();
        let mut told = Vec::new();
        while let Some(Event { action, container }) = events.next().await {
            told.push(format!("{action} {container}"));
        }
        assert_eq!(told, ["create c1", "connect c2", "die c1"]);
    });
    assert!(requests.await[0].0.starts_with("/events?filters="));
}

#[tokio::test]
async fn a_refusal_says_what_it_is() {
    let config =
        DockerSdConfig { host: "unix:///nowhere/at/all.sock".to_owned(), ..DockerSdConfig::default() };
    let error = Engine::new(&config).unwrap().root().await.unwrap_err();
    assert!(Refused::of(&error).is_none());
    let refused = |status, text: &str| Refused {
        status: http::StatusCode::from_u16(status).unwrap(),
        text: text.to_owned(),
    };
    assert!(refused(404, "").is_gone() && refused(409, "").is_gone() && !refused(500, "").is_gone());
    let unsupported = "configured logging driver does not support reading";
    assert!(refused(501, "").is_unsupported() && refused(500, unsupported).is_unsupported());
}
