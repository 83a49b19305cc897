//! Against a small API server on loopback.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use service::axum::body::{Body, Bytes};
use service::axum::extract::{Query, State};
use service::axum::response::{IntoResponse, Response};
use service::axum::{Json, Router, routing::get};
use service::{CancellationToken, Listener, Server};
use tokio::sync::mpsc;

use super::config::{NamespacesConfig, SelectorConfig};
use super::*;
use crate::relabel::Relabel;
use crate::tail::Command;

/// What the server answers, one after the other, and what it was asked.
#[derive(Default)]
struct Script {
    lists: VecDeque<Value>,
    watches: VecDeque<Answer>,
    asked: Vec<BTreeMap<String, String>>,
}

enum Answer {
    /// 410 instead of a stream.
    Gone,
    /// Lines as they are sent; the stream ends with the sender.
    Stream(mpsc::Receiver<String>),
}

type Shared = Arc<Mutex<Script>>;

async fn pods(State(script): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let mut script = script.lock();
    script.asked.push(query.clone());
    if !query.contains_key("watch") {
        return match script.lists.pop_front() {
            Some(list) => Json(list).into_response(),
            None => http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
    }
    match script.watches.pop_front() {
        None => http::StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Some(Answer::Gone) => http::StatusCode::GONE.into_response(),
        Some(Answer::Stream(lines)) => {
            let chunks = futures::stream::unfold(lines, |mut lines| async move {
                let line = lines.recv().await?;
                Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), lines))
            });
            Body::from_stream(chunks).into_response()
        }
    }
}

/// A server, and a discovery that follows it.
struct Fixture {
    script: Shared,
    commands: Receiver<Command>,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Fixture {
    /// Waits until the server was asked so often.
    async fn asked(&self, times: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.script.lock().asked.len() < times {
            assert!(Instant::now() < deadline, "not asked {times} times");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn start(script: Script) -> Self {
        let rules = json!([
            {"source_labels": ["__meta_kubernetes_pod_uid", "__meta_kubernetes_pod_container_name"], "separator": "/",
             "target_label": "__path__", "replacement": "/var/log/pods/*$1/*.log"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ]);
        Self::with_rules(script, rules).await
    }

    async fn with_rules(script: Script, rules: Value) -> Self {
        let script = Arc::new(Mutex::new(script));
        let listener = Listener::loopback().unwrap();
        let routes =
            Router::new().route("/api/v1/namespaces/shop/pods", get(pods)).with_state(script.clone());
        let stop = CancellationToken::new();
        let config = KubernetesSdConfig {
            role: "pod".into(),
            api_server: format!("http://{}", listener.address()),
            namespaces: NamespacesConfig { names: vec!["shop".into()], own_namespace: false },
            selectors: vec![SelectorConfig { field: "spec.nodeName=n1".into(), ..SelectorConfig::default() }],
            ..KubernetesSdConfig::default()
        };
        let rules: Vec<crate::relabel::RelabelConfig> = serde_json::from_value(rules).unwrap();
        let rules = rules.iter().map(|rule| Relabel::compile(rule).unwrap()).collect();
        let (sender, commands) = sync_channel(100);
        let job = FileJob { job: 0, rules, docker: false, notes: Default::default() };
        let announce = Announce::new("sd", sender);
        let discovery = KubernetesDiscovery::new(job, &config, announce, TargetMetrics::default()).unwrap();
        let tasks = vec![
            tokio::spawn(Server::new("api").http(routes).serve(listener, stop.clone())),
            tokio::spawn(discovery.run(stop.clone())),
        ];
        Self { script, commands, stop, tasks }
    }

    /// Waits until these pods are announced.
    async fn expect(&self, want: &[&str]) {
        let labels: Vec<_> = want.iter().map(|pod| format!("{{pod=\"{pod}\"}}")).collect();
        self.expect_labels(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    /// Waits until targets with these labels are announced.
    async fn expect_labels(&self, want: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            while let Ok(command) = self.commands.try_recv() {
                let Command::Targets { source, targets } = command else { panic!("{command:?}") };
                assert_eq!(source, "sd/shop");
                seen.push(targets.iter().map(|t| t.labels.to_string()).collect::<Vec<_>>());
                if seen.last().is_some_and(|seen| seen == want) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{want:?} was not announced, but {seen:?}");
    }

    async fn end(self) -> Vec<BTreeMap<String, String>> {
        self.stop.cancel();
        for task in self.tasks {
            tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap().unwrap();
        }
        std::mem::take(&mut self.script.lock().asked)
    }
}

fn pod(name: &str, version: u32) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": version.to_string()},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"podIP": "10.0.0.1"},
    })
}

fn list(pods: &[Value], version: u32, next: &str) -> Value {
    json!({"metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": pods})
}

fn event(kind: &str, object: &Value) -> String {
    json!({"type": kind, "object": object}).to_string() + "\n"
}

#[tokio::test]
async fn pods_come_and_go_over_pages_reconnects_and_forgotten_versions() {
    let (first, lines) = mpsc::channel(10);
    let (second, more_lines) = mpsc::channel(10);
    let (third, last_lines) = mpsc::channel(10);
    let fixture = Fixture::start(Script {
        lists: [
            list(&[pod("a", 1)], 5, "page 2"),
            list(&[pod("b", 2)], 5, ""),
            list(&[pod("d", 20)], 21, ""),
        ]
        .into(),
        watches: [
            Answer::Stream(lines),
            Answer::Stream(more_lines),
            Answer::Gone,
            Answer::Stream(last_lines),
        ]
        .into(),
        asked: Vec::new(),
    })
    .await;
    fixture.expect(&["a", "b"]).await;

    // An event in two pieces, then two in one.
    let added = event("ADDED", &pod("c", 6));
    first.send(added[..20].to_owned()).await.unwrap();
    first.send(added[20..].to_owned()).await.unwrap();
    fixture.expect(&["a", "b", "c"]).await;
    let bookmark = event("BOOKMARK", &json!({"metadata": {"resourceVersion": "9"}}));
    first.send(event("DELETED", &pod("a", 7)) + &bookmark).await.unwrap();
    fixture.expect(&["b", "c"]).await;

    // The stream ends: it is taken up after the bookmark.
    drop(first);
    second.send(event("ADDED", &pod("a", 10))).await.unwrap();
    fixture.expect(&["a", "b", "c"]).await;

    // The version is forgotten, as an event and as an answer: everything is listed again.
    let gone = json!({"kind": "Status", "code": 410, "reason": "Expired"});
    fixture.script.lock().lists.push_front(list(&[pod("c", 11)], 12, ""));
    second.send(event("ERROR", &gone)).await.unwrap();
    fixture.expect(&["c"]).await;
    fixture.expect(&["d"]).await;
    third.send(event("MODIFIED", &pod("e", 22))).await.unwrap();
    fixture.expect(&["d", "e"]).await;

    let asked = fixture.end().await;
    let show = |q: &BTreeMap<String, String>| match (q.get("watch"), q.get("continue")) {
        (Some(_), _) => format!("watch {}", q["resourceVersion"]),
        (None, Some(next)) => format!("list {next}"),
        (None, None) => "list".to_owned(),
    };
    let shown: Vec<_> = asked.iter().map(show).collect();
    assert_eq!(shown, ["list", "list page 2", "watch 5", "watch 9", "list", "watch 12", "list", "watch 21"]);
    assert!(asked.iter().all(|q| q["fieldSelector"] == "spec.nodeName=n1"), "{asked:?}");
}

#[tokio::test]
async fn tls_and_credentials_of_a_kubeconfig() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/targets/syslog/testdata");
    let file = |name: &str| format!("{folder}/{name}");
    let tls = service::TlsConfig {
        cert_file: file("server.pem"),
        key_file: file("server.key"),
        client_ca_file: file("ca.pem"),
    };
    let listener = Listener::bind("127.0.0.1:0", "the test", &tls).unwrap();
    let kubeconfig = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'https://{}', certificate-authority: ca.pem}}}}]\n\
         users: [{{name: u, user: {{token: t, client-certificate: client.pem, client-key: {}}}}}]\n",
        listener.address(),
        file("client.key"),
    );
    let scratch = tempfile::tempdir().unwrap();
    std::fs::copy(file("ca.pem"), scratch.path().join("ca.pem")).unwrap();
    std::fs::copy(file("client.pem"), scratch.path().join("client.pem")).unwrap();
    std::fs::write(scratch.path().join("kubeconfig"), kubeconfig).unwrap();
    let config = KubernetesSdConfig {
        role: "pod".into(),
        kubeconfig_file: scratch.path().join("kubeconfig").to_string_lossy().into_owned(),
        ..KubernetesSdConfig::default()
    };
    let answer = get(async |headers: http::HeaderMap| match headers.get("authorization") {
        Some(token) if token == "Bearer t" => Json(json!({"seen": true})).into_response(),
        _ => (http::StatusCode::FORBIDDEN, Json(json!({"message": "who are you"}))).into_response(),
    });
    let stop = CancellationToken::new();
    let server = Server::new("api").http(Router::new().route("/x", answer)).serve(listener, stop.clone());
    let server = tokio::spawn(server);
    let access = Access::new(&config).unwrap();
    let body = access.get("/x", &[]).await.unwrap().text().await.unwrap();
    assert_eq!(body, r#"{"seen":true}"#);
    assert_eq!(access.own_namespace().unwrap(), "default");

    // Refusals carry the server's words and the remedy.
    let text =
        std::fs::read_to_string(scratch.path().join("kubeconfig")).unwrap().replace("token: t", "token: x");
    std::fs::write(scratch.path().join("kubeconfig"), text).unwrap();
    let refused = Access::new(&config).unwrap().get("/x", &[]).await.err().unwrap().to_string();
    assert!(refused.starts_with("403: who are you: allow the agent's service account"), "{refused}");
    drop(access);
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_with_a_certificate_of_another_name_and_a_token_that_is_renewed() {
    let file = |name: &str| format!("{}/src/targets/syslog/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    let tls = service::TlsConfig {
        cert_file: file("server.pem"),
        key_file: file("server.key"),
        ..service::TlsConfig::default()
    };
    let listener = Listener::bind("127.0.0.1:0", "the test", &tls).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let token = scratch.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let config = |tls: Value| -> KubernetesSdConfig {
        let server = format!("https://{}", listener.address());
        let all = json!({"role": "pod", "api_server": server, "bearer_token_file": token, "tls_config": tls});
        serde_json::from_value(all).unwrap()
    };
    let named = |name: &str| config(json!({"ca_file": file("ca.pem"), "server_name": name}));
    let (good, other, untrusted) = (named("localhost"), named("other.example"), config(json!({})));
    let echo = get(async |headers: http::HeaderMap| {
        headers.get("authorization").map_or("", |value| value.to_str().unwrap()).to_owned()
    });
    let stop = CancellationToken::new();
    let server = Server::new("api").http(Router::new().route("/x", echo)).serve(listener, stop.clone());
    let server = tokio::spawn(server);
    let access = Access::new(&good).unwrap();
    for expected in ["first", "renewed"] {
        std::fs::write(&token, expected).unwrap();
        let body = access.get("/x", &[]).await.unwrap().text().await.unwrap();
        assert_eq!(body, format!("Bearer {expected}"));
    }
    for wrong in [other, untrusted] {
        assert!(Access::new(&wrong).unwrap().get("/x", &[]).await.is_err());
    }
    drop(access);
    stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again_and_known_pods_stay() {
    let (lines, stream) = mpsc::channel(10);
    let fixture = Fixture::start(Script::default()).await;
    // Refused until there is something to answer.
    fixture.asked(1).await;
    fixture.script.lock().watches.push_back(Answer::Stream(stream));
    fixture.script.lock().lists.push_back(list(&[pod("a", 1)], 5, ""));
    fixture.expect(&["a"]).await;
    let before = fixture.script.lock().asked.len();
    lines.send("this is no JSON\n".to_owned()).await.unwrap();
    lines.send(event("ADDED", &pod("b", 6))).await.ok();
    // What cannot be understood makes it list again; that fails, and nothing is announced as gone.
    fixture.asked(before + 3).await;
    assert!(fixture.commands.try_recv().is_err());
    fixture.end().await;
}

#[tokio::test]
async fn containers_whose_ids_change_are_announced_again() {
    let (lines, stream) = mpsc::channel(10);
    let with = |version: u32, image: &str, id: Option<&str>| {
        let mut pod = pod("a", version);
        let statuses = id.map(|id| json!([{"name": "c", "containerID": id}]));
        pod["status"]["containerStatuses"] = statuses.unwrap_or_default();
        pod["metadata"]["labels"] = json!({"tier": image});
        pod
    };
    let script = Script {
        lists: [list(&[with(1, "one", None)], 5, "")].into(),
        watches: [Answer::Stream(stream)].into(),
        asked: Vec::new(),
    };
    let rules = json!([
        {"replacement": "/var/log/pods/*/*.log", "target_label": "__path__"},
        {"source_labels": ["__meta_kubernetes_pod_container_id"], "target_label": "pod"},
        {"source_labels": ["__meta_kubernetes_pod_container_id"], "regex": "gone://.*", "action": "drop"},
    ]);
    let fixture = Fixture::with_rules(script, rules).await;
    // One without a status is there, with an empty id.
    fixture.expect_labels(&["{}"]).await;
    for (version, id) in [(6, "containerd://1"), (7, "containerd://2")] {
        lines.send(event("MODIFIED", &with(version, "one", Some(id)))).await.unwrap();
        fixture.expect(&[id]).await;
    }
    lines.send(event("MODIFIED", &with(8, "one", Some("gone://3")))).await.unwrap();
    fixture.expect(&[]).await;
    fixture.end().await;
}
