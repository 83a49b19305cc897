//! Reloads of a whole agent, with numbered lines and a store in the process: none lost, none twice.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use service::{CancellationToken, Failure};
use testkit::sink::Sink;
use wire::loki::PushRequest;

use crate::client::LocalStore;
use crate::config::Config;
use crate::metrics::{AgentMetrics, HostLabels};
use crate::outlets::World;
use crate::run::{Agent, InForce, Reloads, Reread};
use crate::targets::TargetMetrics;

/// Keeps how often each `labels line` was pushed.
#[derive(Default)]
pub(crate) struct Store {
    lines: Mutex<BTreeMap<String, usize>>,
    pub(crate) is_away: AtomicBool,
}

impl LocalStore for Store {
    fn push(&self, _: &str, request: PushRequest) -> BoxFuture<'_, Result<(), Failure>> {
        if self.is_away.load(Ordering::Relaxed) {
            return Box::pin(async { Err(Failure::unavailable("the store is away", None)) });
        }
        let mut lines = self.lines.lock();
        for stream in &request.streams {
            for entry in &stream.entries {
                *lines.entry(format!("{} {}", stream.labels, entry.line.as_str())).or_default() += 1;
            }
        }
        Box::pin(async { Ok(()) })
    }
}

impl Store {
    /// Lines that were pushed, and how often the one that came most often.
    pub(crate) fn counts(&self, with: &str) -> (usize, usize) {
        let lines = self.lines.lock();
        let of = || lines.iter().filter(|(line, _)| line.contains(with)).map(|(_, count)| *count);
        (of().count(), of().max().unwrap_or(0))
    }

    /// Waits until so many different lines with this text have come, and none of them twice.
    pub(crate) async fn expect(&self, with: &str, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.counts(with).0 < count {
            assert!(Instant::now() < deadline, "{count} lines with {with}: {:?}", self.lines.lock());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.counts(with), (count, 1), "{with}");
    }
}

/// A running agent whose configuration the test writes.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Arc<Store>,
    pub(crate) live: InForce,
    pub(crate) reloads: Reloads,
    pub(crate) metrics: AgentMetrics,
    pub(crate) config: Arc<Mutex<String>>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Bench {
    /// Starts with `jobs`, the YAML of `scrape_configs` in flow style; `{0}` in it is the folder.
    pub(crate) fn start(jobs: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::default());
        let metrics = AgentMetrics::default();
        let world = World {
            metrics: metrics.clone(),
            target_metrics: TargetMetrics::default(),
            local: Some(store.clone()),
            dry_run: false,
            inspect: false,
        };
        let text = Arc::new(Mutex::new(Self::yaml(folder.path(), jobs)));
        let source = text.clone();
        let read = move || {
            let loaded = service::config::from_text::<Config>(&source.lock());
            loaded.map(|loaded| loaded.config).map_err(|problems| problems.to_string())
        };
        let config = read().unwrap();
        let reread: Reread = Arc::new(read);
        let (agent, live, reloads) = Agent::build(config, world, Some(reread)).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(agent.run(stop.clone()));
        Self { folder, store, live, reloads, metrics, config: text, stop, running }
    }

    fn yaml(folder: &Path, jobs: &str) -> String {
        let head = "positions: {filename: '{0}/positions.yaml'}\ntarget_config: {sync_period: 100ms}\n";
        format!("{head}scrape_configs: {jobs}\n").replace("{0}", &folder.display().to_string())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts other jobs in force.
    pub(crate) async fn reload(&self, jobs: &str) -> Result<(), String> {
        *self.config.lock() = Self::yaml(self.folder.path(), jobs);
        self.reloads.reload().await
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// Writes numbered lines until told to stop; how many.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Writer {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    number += 1;
                    writeln!(file, "number-{number:06}-").unwrap();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            number
        });
        Self { stop, thread }
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

const APP: &str = "{job_name: app, static_configs: [{labels: {app: a, __path__: '{0}/app.log'}}]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_neither_lose_nor_repeat() {
    let bench = Bench::start(&format!("[{APP}}}]"));
    let writer = Writer::start(bench.path("app.log"));
    for round in 0..4 {
        let stage = format!("pipeline_stages: [{{static_labels: {{round: r{round}}}}}]");
        bench.reload(&format!("[{APP}, {stage}}}]")).await.unwrap();
        // Some lines of every round.
        let label = format!("round=\"r{round}\"");
        let deadline = Instant::now() + Duration::from_secs(60);
        while bench.store.counts(&label).0 == 0 {
            assert!(Instant::now() < deadline, "no line of {label}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let written = writer.end();
    bench.store.expect("number-", written).await;
    // The line is the same whatever labels it got.
    let numbers: std::collections::BTreeSet<String> = bench
        .store
        .lines
        .lock()
        .keys()
        .filter_map(|line| line.split(' ').next_back().map(str::to_owned))
        .collect();
    assert_eq!(numbers.len(), written);
    assert_eq!((bench.metrics.reload_success.get(), bench.metrics.reload_fail.get()), (4, 0));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_configurations_leave_the_old_one() {
    let bench = Bench::start(&format!("[{APP}}}]"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    std::fs::write(bench.path("app.log"), "one\n").unwrap();
    bench.store.expect(" one", 1).await;
    let refused = async |jobs: &str, want: &str| {
        let problem = bench.reload(jobs).await.unwrap_err();
        assert!(problem.contains(want), "{problem}");
    };
    refused("[{job_name: x, no_such_key: 1}]", "scrape_configs[0].no_such_key").await;
    refused(&format!("[{APP}, pipeline_stages: [{{regex: {{expression: '('}}}}]}}]"), "pipeline_stages[0]")
        .await;
    // It is found only when the old one has ended already, which is begun again.
    let push = format!("{{job_name: p, loki_push_api: {{server: {{http_listen_port: {port}}}}}}}");
    refused(&format!("[{APP}}}, {push}]"), &port.to_string()).await;
    let mut file = std::fs::File::options().append(true).open(bench.path("app.log")).unwrap();
    writeln!(file, "two").unwrap();
    bench.store.expect(" two", 1).await;
    bench.store.expect("", 2).await;
    assert_eq!((bench.metrics.reload_success.get(), bench.metrics.reload_fail.get()), (0, 3));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_and_come_back() {
    let other = "{job_name: other, static_configs: [{labels: {app: b, __path__: '{0}/other.log'}}]}";
    let bench = Bench::start(&format!("[{APP}}}, {other}]"));
    std::fs::write(bench.path("app.log"), "a1\n").unwrap();
    std::fs::write(bench.path("other.log"), "b1\n").unwrap();
    bench.store.expect("", 2).await;
    bench.reload(&format!("[{APP}}}]")).await.unwrap();
    let append = |name: &str, text: &str| {
        let mut file = std::fs::File::options().append(true).open(bench.path(name)).unwrap();
        writeln!(file, "{text}").unwrap();
    };
    append("other.log", "b2");
    append("app.log", "a2");
    bench.store.expect(" a2", 1).await;
    assert_eq!(bench.store.counts(" b2").0, 0);
    // What was written meanwhile is read from where it was left.
    bench.reload(&format!("[{other}, {APP}}}]")).await.unwrap();
    bench.store.expect("", 4).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_wait_through_a_reload_while_the_store_is_away() {
    let bench = Bench::start(&format!("[{APP}}}]"));
    bench.store.is_away.store(true, Ordering::Relaxed);
    std::fs::write(bench.path("app.log"), "a1\na2\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while bench.live.now().clients[0].state().last_error.is_none() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.reload(&format!("[{APP}, pipeline_stages: [{{static_labels: {{n: new}}}}]}}]")).await.unwrap();
    bench.store.is_away.store(false, Ordering::Relaxed);
    bench.store.expect("n=\"new\"", 2).await;
    bench.store.expect("", 2).await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_that_do_not_change_go_on() {
    let port = testkit::port::free();
    let syslog = format!(
        "{{job_name: s, syslog: {{listen_address: '127.0.0.1:{port}', labels: {{from: syslog}}}}, pipeline_stages: [STAGES]}}"
    );
    let bench = Bench::start(&format!("[{}]", syslog.replace("STAGES", "")));
    let mut sender = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut send = |text: &str| {
        let message = format!("<34>1 2026-01-02T03:04:05Z host app - - - {text}");
        sender.write_all(format!("{} {message}", message.len()).as_bytes()).unwrap();
    };
    send("before");
    bench.store.expect("before", 1).await;
    let stages = "{static_labels: {again: y}}";
    bench.reload(&format!("[{APP}}}, {}]", syslog.replace("STAGES", stages))).await.unwrap();
    // Over the same connection.
    send("after");
    bench.store.expect("again=\"y\", from=\"syslog\"} after", 1).await;
    bench.reload(&format!("[{APP}}}]")).await.unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "it does not listen any more");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_replaced_by_another() {
    let (first, second) = (Sink::start().unwrap(), Sink::start().unwrap());
    let jobs = |sink: &Sink| {
        let url = format!("{}/loki/api/v1/push", sink.url().trim_end_matches('/'));
        format!("[{APP}}}]\nclients: [{{url: '{url}', batchwait: 50ms}}]")
    };
    let bench = Bench::start(&jobs(&first));
    let sent = |sink: &Sink| {
        let url: reqwest::Url = sink.url().parse().unwrap();
        let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        bench.metrics.sent_entries.get_or_create(&HostLabels { host }).get()
    };
    let arrive = async |sink: &Sink, count: u64| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while sent(sink) < count {
            assert!(Instant::now() < deadline, "{} of {count}", sent(sink));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    std::fs::write(bench.path("app.log"), "1\n2\n3\n").unwrap();
    arrive(&first, 3).await;
    bench.reload(&jobs(&second)).await.unwrap();
    let mut file = std::fs::File::options().append(true).open(bench.path("app.log")).unwrap();
    writeln!(file, "4\n5").unwrap();
    arrive(&second, 2).await;
    assert_eq!((sent(&first), sent(&second)), (3, 2));
    bench.end().await;
}
