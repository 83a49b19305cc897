//! A whole agent over files that another program names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use service::{Cli, Failure, Process};
use wire::loki::PushRequest;

use crate::Config;
use crate::client::LocalStore;

static PROGRAM: service::Program = service::program!("agent-test");

/// Keeps `labels line` of all that is pushed.
#[derive(Default)]
struct Store(Mutex<Vec<String>>);

impl LocalStore for Store {
    fn push(&self, _: &str, request: PushRequest) -> BoxFuture<'_, Result<(), Failure>> {
        let mut lines = self.0.lock();
        for stream in &request.streams {
            lines.extend(stream.entries.iter().map(|e| format!("{} {}", stream.labels, e.line.as_str())));
        }
        Box::pin(async { Ok(()) })
    }
}

impl Store {
    /// Waits until this is all that was ever pushed.
    async fn expect(&self, want: &[String]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while *self.0.lock() != want {
            assert!(Instant::now() < deadline, "wanted {want:?}, got {:?}", self.0.lock());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn files_follow_their_targets() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let append = |name: &str, text: &str| {
        use std::io::Write as _;
        let mut file = std::fs::File::options().append(true).create(true).open(path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    // As programs should write it: at once.
    let announce = |app: &str, name: &str| {
        let group = serde_json::json!([{"labels": {"app": app, "__path__": path(name)}}]);
        std::fs::write(path("new"), group.to_string()).unwrap();
        std::fs::rename(path("new"), path("targets.json")).unwrap();
    };
    let line = |app: &str, name: &str, text: &str| {
        format!("{{app=\"{app}\", filename=\"{}\"}} {text}", path(name).display())
    };
    let yaml = format!(
        "server: {{http_listen_port: 0}}\npositions: {{filename: {0}/positions.yaml}}\nscrape_configs:\n\
         - {{job_name: j, file_sd_configs: [{{files: ['{0}/*.json']}}]}}\n",
        folder.path().display()
    );
    let config = service::config::from_text::<Config>(&yaml).unwrap().config;
    let store = Arc::new(Store::default());
    let mut process = Process::new(&PROGRAM);
    crate::build(&Cli::default(), config, Some(store.clone()), &mut process).unwrap();
    let shutdown = process.shutdown();
    let running = tokio::spawn(process.run());

    append("a.log", "one\n");
    announce("first", "a.log");
    let mut want = vec![line("first", "a.log", "one")];
    store.expect(&want).await;

    // Its labels change; what was read is not read again.
    announce("second", "a.log");
    append("b.log", "b\n");
    announce("third", "b.log");
    want.push(line("third", "b.log", "b"));
    store.expect(&want).await;

    // It is no target's now: what is added waits until it is one again.
    append("a.log", "two\n");
    append("b.log", "b again\n");
    want.push(line("third", "b.log", "b again"));
    store.expect(&want).await;
    announce("fourth", "a.log");
    want.push(line("fourth", "a.log", "two"));
    store.expect(&want).await;

    shutdown.begin("the test is over");
    running.await.unwrap().unwrap();
    store.expect(&want).await;
}
