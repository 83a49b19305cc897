//! A whole agent over real files that are treated as files are: every line carries a number, none may be lost and none come twice.

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

#[tokio::test]
async fn lines_that_are_appended_in_pieces() {
    let mut scene = Scene::new("*.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    let (first, second) = (scene.line(), scene.line());
    let mut file = scene.open("app.log");
    let whole = format!("{first}\n{second}\n");
    for piece in whole.as_bytes().chunks(25) {
        file.write_all(piece).unwrap();
        let size = file.metadata().unwrap().len();
        scene.until_bytes("promtail_read_bytes_total", "app.log", |read| read >= size).await;
    }
    scene.expect_all().await;
    // A new file, a new folder's none, and a last line without end.
    scene.write("other.log", 10);
    let last = scene.line();
    file.write_all(last.as_bytes()).unwrap();
    scene.end().await;
}

#[tokio::test]
async fn renamed_twice_while_the_store_is_away() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    let mut old = scene.open("app.log");
    scene.rename("app.log", "app.log.1");
    scene.write_to(&mut old, 20);
    scene.write("app.log", 50);
    // The clock of whoever rotates may be far off.
    scene.open("app.log").set_modified(SystemTime::UNIX_EPOCH).unwrap();
    scene.until_open(&["app.log"]).await;
    scene.rename("app.log.1", "app.log.2");
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 50);
    scene.write_to(&mut old, 20);
    scene.bring_store_back();
    scene.end().await;
}

#[tokio::test]
async fn rotated_faster_than_anybody_looks() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 10);
    scene.start();
    scene.expect_all().await;
    for generation in (1..=9).rev() {
        scene.rename("app.log", &format!("app.log.{generation}"));
        scene.write("app.log", 10);
    }
    scene.end().await;
}

#[tokio::test]
async fn rotated_names_that_the_glob_matches_too() {
    let mut scene = Scene::new("app.log*", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    for _ in 0..3 {
        for generation in (1..3).rev() {
            let (from, to) = (format!("app.log.{generation}"), format!("app.log.{}", generation + 1));
            if scene.path(&from).exists() {
                scene.rename(&from, &to);
            }
        }
        scene.rename("app.log", "app.log.1");
        scene.write("app.log", 100);
        scene.expect_all().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn rotated_and_compressed_while_the_agent_is_away() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    scene.stop().await;
    scene.write("app.log", 100);
    // What was read in part is compressed, what nobody has seen lies in between.
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 100);
    scene.rename("app.log.1", "app.log.2");
    gzip(&scene, "app.log.2", "app.log.2.gz");
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 100);
    scene.bring_store_back();
    scene.start();
    scene.expect_all().await;
    // And nothing comes again.
    scene.stop().await;
    scene.start();
    scene.write("app.log", 1);
    scene.end().await;
}

#[tokio::test]
async fn moved_while_the_agent_is_away() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    scene.stop().await;
    scene.write("app.log", 5);
    scene.rename("app.log", "kept-under-another-name");
    scene.bring_store_back();
    scene.start();
    scene.end().await;
}

async fn copytruncate(glob: &str, compress: bool) {
    let mut scene = Scene::new(glob, "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    // The queue is small against what is written now, so part of it is unread when the file is truncated.
    scene.write("app.log", 100_000);
    std::fs::copy(scene.path("app.log"), scene.path("app.log.1")).unwrap();
    File::options().write(true).open(scene.path("app.log")).unwrap().set_len(0).unwrap();
    if compress {
        gzip(&scene, "app.log.1", "app.log.1.gz");
    }
    // It grows beyond what was read of it before.
    scene.write("app.log", 110_000);
    scene.until_open(&["app.log.1", "app.log.1 (deleted)", "app.log.1.gz"]).await;
    scene.bring_store_back();
    scene.end().await;
}

#[tokio::test]
async fn copied_and_truncated() {
    copytruncate("app.log", false).await;
}

#[tokio::test]
async fn copied_and_truncated_where_the_glob_matches_the_copy() {
    copytruncate("app.log*", false).await;
}

#[tokio::test]
async fn copied_and_truncated_and_compressed() {
    copytruncate("app.log", true).await;
}

#[tokio::test]
async fn deleted_unread_and_made_again() {
    let mut scene = Scene::new("*.log", "");
    scene.write("app.log", 10);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    for _ in 0..3 {
        scene.write("app.log", 1000);
        scene.until_open(&["app.log"]).await;
        std::fs::remove_file(scene.path("app.log")).unwrap();
    }
    scene.write("app.log", 10);
    scene.bring_store_back();
    scene.end().await;
}

#[tokio::test]
async fn copied_and_truncated_twice_while_the_store_is_away() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    // More than the queue takes.
    for (copy, lines) in [("app.log.2", 100_000), ("app.log.1", 1000)] {
        scene.write("app.log", lines);
        let size = scene.path("app.log").metadata().unwrap().len();
        // The generation before it was larger: the agent must have seen this one before it is gone.
        scene.until_bytes("promtail_file_bytes_total", "app.log", |seen| seen == size).await;
        std::fs::copy(scene.path("app.log"), scene.path(copy)).unwrap();
        File::options().write(true).open(scene.path("app.log")).unwrap().set_len(0).unwrap();
        scene.until_open(&[copy]).await;
    }
    scene.write("app.log", 10);
    scene.bring_store_back();
    scene.end().await;
}

/// Nothing is lost when a file that nobody has read is packed just now, whatever is there of it.
#[tokio::test]
async fn packed_while_it_is_looked_for() {
    for (has_plain, part) in [(true, 0), (true, 20), (true, 600), (false, 600)] {
        let mut scene = Scene::new("app.log", "");
        scene.write("app.log", 10);
        scene.start();
        scene.expect_all().await;
        scene.stop().await;
        scene.write("app.log", 2000);
        scene.rename("app.log", "app.log.1");
        scene.write("app.log", 10);
        let content = std::fs::read(scene.path("app.log.1")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        packed.write_all(&content).unwrap();
        let packed = packed.finish().unwrap();
        if !has_plain {
            std::fs::remove_file(scene.path("app.log.1")).unwrap();
        }
        let mut file = scene.open("app.log.1.gz");
        file.write_all(&packed[..part]).unwrap();
        scene.start();
        scene.until_open(&[if has_plain { "app.log.1" } else { "app.log.1.gz" }]).await;
        file.write_all(&packed[part..]).unwrap();
        if has_plain {
            std::fs::remove_file(scene.path("app.log.1")).unwrap();
        }
        scene.end().await;
    }
}

/// What is known under one rotated name is found under the next, though it was packed and its inode is another's.
#[tokio::test]
async fn shifted_and_packed_while_the_agent_is_away() {
    let mut scene = Scene::new("app.log*", "");
    scene.write("app.log", 10);
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 10);
    scene.start();
    scene.expect_all().await;
    scene.stop().await;
    scene.write("app.log.1", 100);
    scene.rename("app.log.1", "app.log.2");
    gzip(&scene, "app.log.2", "app.log.2.gz");
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 10);
    scene.start();
    scene.end().await;
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_after_a_restart() {
    let mut scene = Scene::new("links/*.log", "");
    for folder in ["links", "one", "two"] {
        std::fs::create_dir(scene.path(folder)).unwrap();
    }
    scene.write("one/0.log", 10);
    std::os::unix::fs::symlink(scene.path("one/0.log"), scene.path("links/a.log")).unwrap();
    scene.start();
    scene.expect_all().await;
    scene.stop().await;
    // Rotated twice and packed where it lies, and the link leads elsewhere.
    scene.write("one/0.log", 100);
    scene.rename("one/0.log", "one/0.log.20240102-030405");
    gzip(&scene, "one/0.log.20240102-030405", "one/0.log.20240102-030405.gz");
    scene.write("one/0.log", 10);
    scene.write("two/0.log", 10);
    std::fs::remove_file(scene.path("links/a.log")).unwrap();
    std::os::unix::fs::symlink(scene.path("two/0.log"), scene.path("links/a.log")).unwrap();
    scene.start();
    scene.end().await;
}

#[tokio::test]
async fn archives() {
    let mut scene = Scene::new("*", ", decompression: {enabled: true, format: gz}");
    for name in ["a", "b"] {
        scene.write(name, 1000);
        gzip(&scene, name, &format!("{name}.gz"));
    }
    scene.write("c", 1000);
    let packed = zstd::encode_all(&std::fs::read(scene.path("c")).unwrap()[..], 3).unwrap();
    std::fs::write(scene.path("d.zst"), packed).unwrap();
    std::fs::remove_file(scene.path("c")).unwrap();
    scene.write("plain.log", 10);
    scene.start();
    scene.expect_all().await;
    scene.stop().await;
    scene.start();
    // A file that is read to its end, then compressed in place.
    gzip(&scene, "plain.log", "plain.log.gz");
    scene.write("e", 10);
    gzip(&scene, "e", "e.gz");
    scene.end().await;
}

#[tokio::test]
async fn long_lines_and_bytes_that_are_no_text() {
    let mut scene = Scene::new("*.log", "");
    scene.start();
    let mut file = scene.open("app.log");
    for n in 0..5 {
        let line = scene.say(format!("{n} {}", "x".repeat((1 << 20) - 10)));
        writeln!(file, "{line}").unwrap();
    }
    file.write_all(b"a\xff\xfeb\r\n\n").unwrap();
    scene.say("a\u{fffd}\u{fffd}b\r".to_owned());
    scene.say(String::new());
    scene.write("app.log", 1);
    scene.end().await;
}

#[tokio::test]
async fn other_encodings() {
    let mut scene = Scene::new("*.log", ", encoding: utf-16");
    let mut file = scene.open("app.log");
    let mut put = |text: &str, mark: bool| {
        let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        file.write_all(&units.flat_map(u16::to_be_bytes).collect::<Vec<u8>>()).unwrap();
    };
    put(&format!("{}\n", scene.say("héllo \u{10a}\u{a0a}".to_owned())), true);
    scene.start();
    scene.expect_all().await;
    put(&format!("{}\n", scene.say("wörld".to_owned())), false);
    scene.end().await;
}

#[tokio::test]
async fn links_as_kubernetes_makes_them() {
    let mut scene = Scene::new("containers/*.log", "");
    for folder in ["containers", "pods", "docker"] {
        std::fs::create_dir(scene.path(folder)).unwrap();
    }
    scene.write("docker/1.log", 10);
    let link = |from: &str, to: &str, scene: &Scene| {
        let _ = std::fs::remove_file(scene.path(to));
        std::os::unix::fs::symlink(scene.path(from), scene.path(to)).unwrap();
    };
    link("docker/1.log", "pods/0.log", &scene);
    link("pods/0.log", "containers/a.log", &scene);
    scene.start();
    scene.expect_all().await;
    scene.write("docker/1.log", 10);
    scene.expect_all().await;
    // The engine rotates; then a link in the middle leads to a new container.
    scene.rename("docker/1.log", "docker/1.log.1");
    scene.write("docker/1.log", 10);
    scene.expect_all().await;
    scene.write("docker/2.log", 10);
    link("docker/2.log", "pods/0.log", &scene);
    scene.end().await;
}

#[tokio::test]
async fn each_job_reads_a_file_for_itself() {
    let mut scene = Scene::new("*.log", "");
    scene.job += &scene.job.replace("job_name: j", "job_name: k").replace("labels: {", "labels: {app: k, ");
    scene.start();
    scene.write("app.log", 10);
    scene.written.extend_from_within(..);
    scene.expect_all().await;
    let with_label =
        scene.store.lines.lock().iter().filter(|(labels, _)| labels.contains("app=\"k\"")).count();
    assert_eq!(with_label, 10);
    scene.end().await;
}

/// Readers without stores: what is read is done.
#[test]
fn more_files_than_may_be_open() {
    const FILES: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let path = |n: usize| folder.path().join(format!("{n}.log"));
    let write = |n: usize| {
        let mut file = File::options().append(true).create(true).open(path(n)).unwrap();
        writeln!(file, "line of {n}").unwrap();
    };
    (0..FILES).for_each(write);
    let labels = [("__path__".to_owned(), folder.path().join("*.log").to_string_lossy().into_owned())];
    let job =
        crate::discovery::FileJob { job: 0, rules: Vec::new(), docker: false, notes: Default::default() };
    let target = job.target(labels.into_iter().collect()).unwrap();
    let filename = folder.path().join("positions.yaml").to_string_lossy().into_owned();
    let positions = crate::config::PositionsConfig { filename, ..Default::default() };
    let positions = crate::positions::Positions::load(&positions).unwrap().of_jobs(["j".to_owned()]);
    let metrics = crate::metrics::AgentMetrics::default();
    let options = super::PollerOptions {
        poll: Duration::from_millis(50),
        sync_period: Duration::from_millis(200),
        max_line: 1000,
        jobs: Vec::new(),
        metrics: metrics.clone(),
    };
    let pipelines = vec![crate::pipeline::Pipeline::default()];
    let dispatcher = crate::dispatch::Dispatcher::new(pipelines, Vec::new(), metrics.clone());
    let (_commands, received) = std::sync::mpsc::sync_channel(1);
    let poller = super::Poller::new(options, vec![target], received, Arc::new(positions), dispatcher);
    let stop = service::CancellationToken::new();
    let ends = stop.clone();
    let thread = std::thread::spawn(move || poller.with_max_open(100).run(&ends));
    let lines = |n: usize| {
        let path = path(n).to_string_lossy().into_owned();
        metrics.read_lines.get_or_create(&crate::metrics::PathLabels { path }).get()
    };
    for round in 1..=2 {
        let deadline = Instant::now() + Duration::from_secs(60);
        while (0..FILES).any(|n| lines(n) != round) {
            assert!(Instant::now() < deadline, "{:?}", (0..FILES).map(lines).collect::<Vec<_>>());
            std::thread::sleep(Duration::from_millis(20));
        }
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let open =
            open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(folder.path())));
        let open = open.count();
        assert!(open <= 100, "{open} are open");
        if round == 1 {
            (0..FILES).for_each(write);
        }
    }
    stop.cancel();
    thread.join().unwrap();
}

#[tokio::test]
async fn thousands_of_files() {
    let mut scene = Scene::new("**/*.log", "");
    scene.sync = "2s";
    for folder in 0..10 {
        std::fs::create_dir(scene.path(&format!("{folder}"))).unwrap();
        (0..500).for_each(|file| scene.write(&format!("{folder}/{file}.log"), 1));
    }
    scene.start();
    scene.expect_all().await;
    for file in 0..5000 {
        scene.write(&format!("{}/{}.log", file % 10, file / 10), 1);
    }
    scene.end().await;
}
