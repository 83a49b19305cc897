//! A whole agent over real files that are treated as files are: every line carries a number, none may be lost and none come twice.

mod alike;
mod archives;
mod halves;
mod many;
mod options;
mod rotation;
mod steps;
mod text;
mod truncation;
mod unseen;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use service::{Cli, Failure, Process};
use wire::loki::PushRequest;

use crate::Config;
use crate::client::LocalStore;

static PROGRAM: service::Program = service::program!("agent-test");

/// Keeps all lines that are pushed, unless it is away.
#[derive(Default)]
struct Store {
    lines: Mutex<Vec<(String, String)>>,
    is_away: AtomicBool,
    refused: AtomicBool,
}

impl LocalStore for Store {
    fn push(&self, _: &str, request: PushRequest) -> BoxFuture<'_, Result<(), Failure>> {
        if self.is_away.load(Ordering::SeqCst) {
            self.refused.store(true, Ordering::SeqCst);
            return Box::pin(async { Err(Failure::unavailable("away", None)) });
        }
        let mut lines = self.lines.lock();
        for stream in &request.streams {
            let entries = stream.entries.iter().map(|e| (stream.labels.clone(), e.line.as_str().to_owned()));
            lines.extend(entries);
        }
        Box::pin(async { Ok(()) })
    }
}

/// A folder of logs, the store, and the agent while it runs.
struct Scene {
    folder: tempfile::TempDir,
    job: String,
    store: Arc<Store>,
    sync: &'static str,
    running: Option<(service::Shutdown, tokio::task::JoinHandle<Result<(), service::ProcessError>>)>,
    metrics: Option<service::Metrics>,
    written: Vec<String>,
}

impl Scene {
    /// One job over `logs/<glob>`, with more keys of it.
    fn new(glob: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        let path = folder.path().join("logs").join(glob);
        let job = format!(
            "- {{job_name: j, static_configs: [{{labels: {{__path__: '{}'}}}}]{more}}}\n",
            path.display()
        );
        Self {
            folder,
            job,
            store: Arc::default(),
            sync: "100ms",
            running: None,
            metrics: None,
            written: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    fn start(&mut self) {
        let (folder, sync) = (self.folder.path().display(), self.sync);
        let yaml = format!(
            "server: {{http_listen_port: 0}}\npositions: {{filename: {folder}/positions.yaml, sync_period: {sync}}}\n\
             target_config: {{sync_period: 1s}}\nscrape_configs:\n{}",
            self.job
        );
        let config = service::config::from_text::<Config>(&yaml).unwrap().config;
        let mut process = Process::new(&PROGRAM);
        crate::build(&Cli::default(), config, Some(self.store.clone()), &mut process).unwrap();
        self.metrics = Some(process.metrics().clone());
        self.running = Some((process.shutdown(), tokio::spawn(process.run())));
    }

    async fn stop(&mut self) {
        let (shutdown, running) = self.running.take().unwrap();
        shutdown.begin("the test wants it");
        running.await.unwrap().unwrap();
    }

    fn open(&self, name: &str) -> File {
        File::options().append(true).create(true).open(self.path(name)).unwrap()
    }

    /// Appends numbered lines.
    fn write(&mut self, name: &str, count: usize) {
        let mut file = self.open(name);
        self.write_to(&mut file, count);
    }

    fn write_to(&mut self, file: &mut File, count: usize) {
        let text: String = (0..count).map(|_| self.line() + "\n").collect();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// The next line that must arrive.
    fn line(&mut self) -> String {
        self.say(format!("{:08} {}", self.written.len(), "some text that makes it longer ".repeat(2)))
    }

    fn say(&mut self, line: String) -> String {
        self.written.push(line.clone());
        line
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    async fn until(&self, what: &str, condition: impl Fn(&Store) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition(&self.store) {
            let got = self.store.lines.lock().len();
            assert!(Instant::now() < deadline, "waited for {what}: {got} lines of {}", self.written.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the agent has a file of one of these names open; that of a removed one ends with ` (deleted)`.
    async fn until_open(&self, names: &[&str]) {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        let is_open = |_: &Store| {
            let mut open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            open.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| paths.contains(&to)))
        };
        self.until(&format!("{names:?} to be open"), is_open).await;
    }

    /// Waits until a metric of a path has reached a number of bytes.
    async fn until_bytes(&self, metric: &str, name: &str, holds: impl Fn(u64) -> bool) {
        let label = format!("path=\"{}\"", self.path(name).display());
        let is_read = |_: &Store| {
            let text = self.metrics.as_ref().unwrap().text();
            let mut lines = text.lines().filter(|line| line.starts_with(metric) && line.contains(&label));
            let value = lines.next().and_then(|line| line.rsplit(' ').next());
            value.is_some_and(|value| holds(value.parse::<f64>().unwrap() as u64))
        };
        self.until(&format!("{metric} of {name}"), is_read).await;
    }

    /// Waits until all lines are there, each once.
    async fn expect_all(&self) {
        let want = self.written.len();
        self.until("all lines", |store| store.lines.lock().len() >= want).await;
        self.compare();
    }

    fn compare(&self) {
        let mut count: BTreeMap<String, i64> = BTreeMap::new();
        self.store.lines.lock().iter().for_each(|(_, line)| *count.entry(line.clone()).or_default() += 1);
        self.written.iter().for_each(|line| *count.entry(line.clone()).or_default() -= 1);
        count.retain(|_, n| *n != 0);
        let some: Vec<_> = count.iter().take(5).map(|(line, n)| (&line[..line.len().min(40)], n)).collect();
        assert!(count.is_empty(), "{} lines are wrong (+: repeated, -: lost): {some:?}", count.len());
    }

    /// The store goes away, and has refused something before this returns.
    async fn take_store_away(&mut self, name: &str) {
        self.store.refused.store(false, Ordering::SeqCst);
        self.store.is_away.store(true, Ordering::SeqCst);
        self.write(name, 10);
        self.until("the store to refuse", |store| store.refused.load(Ordering::SeqCst)).await;
    }

    fn bring_store_back(&self) {
        self.store.is_away.store(false, Ordering::SeqCst);
    }

    /// Stops the agent, and compares once more: nothing may come late.
    async fn end(mut self) {
        self.expect_all().await;
        self.stop().await;
        self.compare();
    }
}

fn gzip(scene: &Scene, from: &str, to: &str) {
    let content = std::fs::read(scene.path(from)).unwrap();
    let mut encoder =
        flate2::write::GzEncoder::new(File::create(scene.path(to)).unwrap(), Default::default());
    encoder.write_all(&content).unwrap();
    encoder.finish().unwrap();
    std::fs::remove_file(scene.path(from)).unwrap();
}
