//! What happens between two looks: the poller is stepped by hand, so a test decides what it has not seen.

use super::*;
use crate::config::PositionsConfig;
use crate::dispatch::Dispatcher;
use crate::metrics::AgentMetrics;
use crate::positions::{IdentifiedBy, Positions};
use crate::tail::reading::Round;
use crate::tail::{Command, Poller, PollerOptions};

/// A folder of logs, and a reader of them. There is no store: what is read is delivered.
pub(super) struct Steps {
    pub(super) folder: tempfile::TempDir,
    pub(super) options: PollerOptions,
    pub(super) identity: IdentifiedBy,
    pub(super) positions: Arc<Positions>,
    pub(super) poller: Option<Poller>,
    pub(super) max_open: Option<usize>,
    glob: PathBuf,
    heard: Vec<Arc<Mutex<Vec<String>>>>,
    commands: Option<std::sync::mpsc::SyncSender<Command>>,
    /// How each file begins, though its first line has a number too.
    pub(super) header: String,
    pub(super) written: Vec<String>,
}

impl Steps {
    pub(super) fn new(glob: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        let poll = Duration::from_millis(20);
        let options = PollerOptions {
            poll: (poll, poll),
            sync_period: Duration::from_secs(3600),
            max_line: 100_000,
            from_end: false,
            ignore_older: None,
            readers: 1,
            jobs: Vec::new(),
            metrics: AgentMetrics::default(),
        };
        let glob = folder.path().join("logs").join(glob);
        let positions = Arc::new(Self::load(folder.path(), IdentifiedBy::Auto));
        let (identity, heard, written) = (IdentifiedBy::Auto, Vec::new(), Vec::new());
        Self {
            folder,
            options,
            identity,
            positions,
            poller: None,
            max_open: None,
            glob,
            heard,
            commands: None,
            header: String::new(),
            written,
        }
    }

    fn load(folder: &std::path::Path, identity: IdentifiedBy) -> Positions {
        let filename = folder.join("positions.yaml").to_string_lossy().into_owned();
        let positions = Positions::load(&PositionsConfig { filename, ..PositionsConfig::default() }).unwrap();
        positions.identified_by(identity).of_jobs(["j".to_owned()])
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    /// The agent begins, with what was saved.
    pub(super) fn start(&mut self) {
        let labels = [("__path__".to_owned(), self.glob.to_string_lossy().into_owned())];
        let job =
            crate::discovery::FileJob { job: 0, rules: Vec::new(), docker: false, notes: Default::default() };
        let target = job.target(labels.into_iter().collect()).unwrap();
        self.positions = Arc::new(Self::load(self.folder.path(), self.identity));
        let pipelines = vec![crate::pipeline::Pipeline::default()];
        let dispatcher = Dispatcher::new(pipelines, Vec::new(), self.options.metrics.clone());
        self.heard.push(dispatcher.heard.clone());
        let (commands, received) = std::sync::mpsc::sync_channel(8);
        self.commands = Some(commands);
        let (options, positions) = (self.options.clone(), self.positions.clone());
        let poller = Poller::new(options, vec![target], received, positions, dispatcher);
        self.poller = Some(match self.max_open {
            Some(files) => poller.with_max_open(files),
            None => poller,
        });
        self.turns();
    }

    /// The agent is killed; positions are as they were saved last.
    pub(super) fn kill(&mut self) {
        self.poller = None;
    }

    pub(super) fn stop(&mut self) {
        self.turns();
        self.positions.save().unwrap();
        self.kill();
    }

    /// Everything is looked at, and what is there is read.
    pub(super) fn turns(&mut self) {
        let (stop, poller) = (service::CancellationToken::new(), self.poller.as_mut().unwrap());
        poller.find();
        poller.look_at_all();
        let mut idle = 0;
        while idle < 3 {
            idle = if poller.turn(&stop) == Round::Idle { idle + 1 } else { 0 };
        }
    }

    /// Appends numbered lines.
    pub(super) fn write(&mut self, name: &str, count: usize) {
        let mut file = File::options().append(true).create(true).open(self.path(name)).unwrap();
        let begin = self.written.len();
        if !self.header.is_empty() && file.metadata().unwrap().len() == 0 {
            self.written.push(format!("{}{begin:06}", self.header));
        }
        let lines = (begin..begin + count).map(|n| format!("{n:06} of {name} {}", "x".repeat(n % 90)));
        self.written.extend(lines);
        let text: String = self.written[begin..].iter().map(|line| format!("{line}\n")).collect();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// The last lines that were written are those that nobody can have read.
    fn lose(&mut self, count: usize) {
        self.written.truncate(self.written.len() - count);
        self.written.extend((0..count).map(|n| format!("lost {n}")));
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Copies and truncates.
    pub(super) fn copytruncate(&self, name: &str, copy: &str) {
        std::fs::copy(self.path(name), self.path(copy)).unwrap();
        File::options().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
    }

    fn gzip(&self, name: &str) {
        let content = std::fs::read(self.path(name)).unwrap();
        let to = File::create(self.path(&format!("{name}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(to, Default::default());
        encoder.write_all(&content).unwrap();
        encoder.finish().unwrap();
        std::fs::remove_file(self.path(name)).unwrap();
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.heard.iter().flat_map(|heard| heard.lock().clone()).collect()
    }

    /// Everything was read, and nothing twice.
    pub(super) fn expect_all(&mut self) {
        self.turns();
        let mut count: BTreeMap<String, i64> = BTreeMap::new();
        self.lines().into_iter().for_each(|line| *count.entry(line).or_default() += 1);
        let want = self.written.iter().filter(|line| !line.starts_with("lost"));
        want.for_each(|line| *count.entry(line.clone()).or_default() -= 1);
        count.retain(|_, n| *n != 0);
        let some: Vec<_> = count.iter().take(5).map(|(line, n)| (&line[..line.len().min(20)], n)).collect();
        assert!(count.is_empty(), "{} lines are wrong (+: repeated, -: lost): {some:?}", count.len());
    }

    pub(super) fn missed(&self) -> u64 {
        self.options.metrics.missed_generations.get()
    }
}

#[test]
fn a_copy_that_the_next_one_overwrites_is_counted() {
    for glob in ["app.log", "app.log*"] {
        let mut steps = Steps::new(glob);
        steps.write("app.log", 10);
        steps.start();
        steps.expect_all();
        // Nobody sees these, nor that there was a generation between.
        steps.write("app.log", 5);
        steps.lose(5);
        steps.copytruncate("app.log", "app.log.1");
        steps.write("app.log", 20);
        steps.copytruncate("app.log", "app.log.1");
        steps.write("app.log", 7);
        steps.expect_all();
        assert!(steps.missed() > 0, "{glob}");
        // And it is told once.
        let missed = steps.missed();
        steps.write("app.log", 1);
        steps.expect_all();
        steps.stop();
        steps.start();
        steps.expect_all();
        assert_eq!(steps.missed(), missed);
    }
}

#[test]
fn the_same_while_no_agent_runs() {
    for glob in ["app.log", "app.log*"] {
        let mut steps = Steps::new(glob);
        steps.write("app.log", 10);
        steps.start();
        steps.stop();
        steps.write("app.log", 5);
        steps.lose(5);
        steps.copytruncate("app.log", "app.log.1");
        steps.write("app.log", 20);
        steps.copytruncate("app.log", "app.log.1");
        steps.write("app.log", 7);
        steps.start();
        steps.expect_all();
        assert!(steps.missed() > 0, "{glob}");
    }
}

#[test]
fn a_copy_that_is_read_is_overwritten_by_the_next() {
    for glob in ["app.log", "app.log*"] {
        let mut steps = Steps::new(glob);
        steps.write("app.log", 10);
        steps.start();
        for _ in 0..4 {
            steps.write("app.log", 8);
            steps.copytruncate("app.log", "app.log.1");
            steps.write("app.log", 3);
            steps.expect_all();
        }
        assert_eq!((steps.missed(), steps.options.metrics.lost_bytes.get()), (0, 0), "{glob}");
        steps.stop();
        steps.start();
        steps.expect_all();
    }
}

#[test]
fn filled_again_to_the_very_size() {
    let mut steps = Steps::new("app.log");
    steps.written = vec!["one of nine".to_owned(), "two of nine".to_owned()];
    std::fs::write(steps.path("app.log"), "one of nine\n").unwrap();
    steps.start();
    std::fs::write(steps.path("app.log"), "two of nine\n").unwrap();
    steps.expect_all();
    // That nothing but its time changes is nothing.
    steps.poller.as_mut().unwrap().look_at_all();
    File::options().write(true).open(steps.path("app.log")).unwrap().set_modified(SystemTime::now()).unwrap();
    steps.expect_all();
}

#[test]
fn made_again_with_the_same_beginning() {
    let banner = "a banner that is always the same\n".repeat(10);
    for is_running in [true, false] {
        let mut steps = Steps::new("app.log");
        let write = |steps: &mut Steps, text: &str| {
            std::fs::write(steps.path("app.log"), format!("{banner}{text}\n")).unwrap();
            steps.written.extend(banner.lines().map(str::to_owned).chain([text.to_owned()]));
        };
        write(&mut steps, "first");
        steps.start();
        if !is_running {
            steps.stop();
        }
        // Its inode may well be the same.
        std::fs::remove_file(steps.path("app.log")).unwrap();
        write(&mut steps, "second and longer");
        if !is_running {
            steps.start();
        }
        steps.expect_all();
    }
}

#[test]
fn a_folder_that_is_replaced() {
    let mut steps = Steps::new("app/*.log");
    std::fs::create_dir(steps.path("app")).unwrap();
    steps.write("app/a.log", 10);
    steps.start();
    steps.write("app/a.log", 3);
    steps.rename("app", "app.before");
    steps.write("app.before/a.log", 3);
    std::fs::create_dir(steps.path("app")).unwrap();
    steps.write("app/a.log", 10);
    steps.expect_all();
    // What happens in the new one is told.
    steps.write("app/b.log", 1);
    let stop = service::CancellationToken::new();
    let told = (0..3).any(|_| {
        steps.poller.as_mut().unwrap().turn(&stop);
        steps.lines().len() == steps.written.len()
    });
    assert!(told);
    // A file in place of the folder, and back.
    std::fs::remove_dir_all(steps.path("app")).unwrap();
    std::fs::write(steps.path("app"), "").unwrap();
    steps.turns();
    std::fs::remove_file(steps.path("app")).unwrap();
    std::fs::create_dir(steps.path("app")).unwrap();
    steps.write("app/a.log", 4);
    steps.expect_all();
}

#[test]
fn what_is_no_file_hangs_nobody() {
    let mut steps = Steps::new("*.log");
    steps.write("app.log", 10);
    steps.start();
    steps.stop();
    std::fs::create_dir(steps.path("folder.log")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(steps.path("socket.log")).unwrap();
    std::os::unix::fs::symlink(steps.path("loop.log"), steps.path("loop.log")).unwrap();
    std::fs::remove_file(steps.path("app.log")).unwrap();
    let pipe = |name: &str| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, steps.path(name), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    pipe("app.log");
    pipe("pipe.log");
    assert!(crate::tail::Content::plain(&steps.path("pipe.log")).is_err());
    steps.start();
    steps.write("other.log", 3);
    steps.expect_all();
    // It becomes one while it is read.
    std::fs::remove_file(steps.path("other.log")).unwrap();
    std::fs::remove_file(steps.path("app.log")).unwrap();
    steps.write("app.log", 3);
    steps.expect_all();
}

#[test]
fn hard_links_are_one_file() {
    let mut steps = Steps::new("*.log");
    steps.write("a.log", 10);
    std::fs::hard_link(steps.path("a.log"), steps.path("b.log")).unwrap();
    steps.start();
    steps.expect_all();
    std::fs::remove_file(steps.path("a.log")).unwrap();
    steps.write("b.log", 5);
    steps.expect_all();
    steps.stop();
    steps.start();
    steps.write("b.log", 5);
    steps.expect_all();
}

/// One write makes all files known that are opened together, and one all those that get their first line together.
#[test]
fn files_are_bound_together() {
    use crate::tail::watch::{Change, Watch};
    const FILES: usize = 200;
    let mut steps = Steps::new("*.log");
    (0..FILES / 2).for_each(|n| steps.write(&format!("{n}.log"), 1));
    let root = steps.folder.path().canonicalize().unwrap();
    let mut watch = Watch::new();
    assert!(watch.watch(&root));
    let mut written = || {
        let mut changes = Vec::new();
        watch.changes(&mut changes);
        let state = Change::Written(root.join("positions.state.json.tmp"));
        changes.iter().filter(|change| **change == state).count()
    };
    steps.start();
    assert_eq!(written(), 1);
    // New files are met when they are empty.
    (0..FILES)
        .for_each(|n| drop(File::options().append(true).create(true).open(steps.path(&format!("{n}.log")))));
    steps.turns();
    assert_eq!(written(), 0);
    (0..FILES).for_each(|n| steps.write(&format!("{n}.log"), 1));
    steps.expect_all();
    assert_eq!(written(), 1);
}

#[test]
fn what_sleeps_is_not_forgotten() {
    let mut steps = Steps::new("*.log");
    steps.max_open = Some(10);
    (0..25).for_each(|n| steps.write(&format!("{n}.log"), 2));
    steps.start();
    for _ in 0..4 {
        steps.turns();
    }
    steps.expect_all();
    steps.positions.pass(30 * 3600);
    (0..25).for_each(|n| steps.write(&format!("{n}.log"), 1));
    for _ in 0..4 {
        steps.turns();
    }
    steps.expect_all();
}

#[test]
fn a_file_that_sleeps_is_copied_and_truncated() {
    for glob in ["*.log", "*.log*"] {
        let mut steps = Steps::new(glob);
        steps.max_open = Some(10);
        (0..20).for_each(|n| steps.write(&format!("{n}.log"), 3));
        steps.start();
        (0..4).for_each(|_| steps.turns());
        steps.expect_all();
        let files = steps.poller.as_ref().unwrap().files.values();
        let asleep = files.filter(|file| file.file().is_none()).map(|file| file.wanted.path.clone());
        let names = asleep.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
        for name in names.take(3).collect::<Vec<_>>() {
            steps.write(&name, 3);
            steps.copytruncate(&name, &format!("{name}.1"));
            steps.write(&name, 5);
        }
        (0..4).for_each(|_| steps.turns());
        steps.expect_all();
    }
}

#[test]
fn a_removed_file_that_its_writer_truncates() {
    let mut steps = Steps::new("*.log");
    steps.write("app.log", 10);
    let mut file = File::options().append(true).open(steps.path("app.log")).unwrap();
    steps.start();
    std::fs::remove_file(steps.path("app.log")).unwrap();
    steps.turns();
    file.set_len(0).unwrap();
    file.write_all(b"after all\n").unwrap();
    steps.written.push("after all".to_owned());
    steps.poller.as_mut().unwrap().schedule.files().collect::<Vec<_>>().into_iter().for_each(|id| {
        steps.poller.as_mut().unwrap().look_all([id]);
    });
    steps.expect_all();
}

/// Any order of what is done to logs, with looks now and then: every line once.
#[test]
fn whatever_is_done_to_logs() {
    for seed in 0..120 {
        let (mut random, mut made) = (0x9e37_79b9_7f4a_7c15_u64 ^ seed, 0);
        let mut next = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let glob = if seed % 2 == 0 { "app.log" } else { "app.log*" };
        let mut steps = Steps::new(glob);
        if seed % 3 == 0 {
            steps.header = "#Fields: date time ".repeat(20);
        }
        steps.write("app.log", 12);
        steps.start();
        let (mut log, mut is_running) = (vec![format!("seed {seed}")], true);
        for _ in 0..40 {
            let what = next(12);
            log.push(format!("{what}"));
            match what {
                0..=3 => steps.write("app.log", 1 + next(20) as usize),
                4 | 5 => {
                    for generation in (1..30).rev() {
                        let name = |n: u64, end: &str| format!("app.log.{n}{end}");
                        for end in ["", ".gz"] {
                            if steps.path(&name(generation, end)).exists() {
                                steps.rename(&name(generation, end), &name(generation + 1, end));
                            }
                        }
                    }
                    steps.rename("app.log", "app.log.1");
                    steps.write("app.log", 8 + next(20) as usize);
                }
                6 => {
                    made += 1;
                    steps.rename("app.log", &format!("app.log-202401{made:02}"));
                    steps.write("app.log", 8 + next(20) as usize);
                }
                7 => {
                    made += 1;
                    steps.copytruncate("app.log", &format!("app.log-202401{made:02}"));
                    steps.write("app.log", 8 + next(20) as usize);
                }
                8 if glob == "app.log" => {
                    let names: Vec<_> = (1..3).map(|n| format!("app.log.{n}")).collect();
                    names.iter().filter(|name| steps.path(name).exists()).for_each(|name| steps.gzip(name));
                }
                9 if is_running => {
                    steps.stop();
                    is_running = false;
                }
                _ if is_running => steps.turns(),
                _ => {
                    steps.start();
                    is_running = true;
                }
            }
        }
        if !is_running {
            steps.start();
        }
        let check = std::panic::AssertUnwindSafe(|| steps.expect_all());
        assert!(std::panic::catch_unwind(check).is_ok(), "{log:?}");
    }
}
