//! Against real journal files, where systemd's tools are there to make and read them.

use std::io::Write as _;
use std::process::Command;

use super::*;
use crate::source::Source;
use crate::targets::testing::Bench;

/// Makes journal files.
const WRITER: &str = "/usr/lib/systemd/systemd-journal-remote";

fn tools() -> bool {
    let journalctl = std::process::Command::new("journalctl").arg("--version").output().is_ok();
    let are_there = journalctl && Path::new(WRITER).exists();
    if !are_there {
        eprintln!(
            "journalctl or systemd-journal-remote is not installed: the journal is not tested against real files"
        );
    }
    are_there
}

/// Writes a journal file of entries numbered from `first`, one for each number of µs.
fn write(folder: &Path, file: &str, first: usize, times: &[i64]) {
    let mut export = String::new();
    for (i, micros) in times.iter().enumerate() {
        let n = first + i;
        export += &format!(
            "__CURSOR=s=0123456789abcdef0123456789abcdef;i={n:x};b=00000000000000000000000000000001;m={n:x};t={micros:x};x={n:x}\n\
             __REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={n}\n_BOOT_ID=00000000000000000000000000000001\n\
             _SYSTEMD_UNIT=u{}.service\nPRIORITY={}\nMESSAGE=line {n}\n\n",
            n % 2,
            n % 8,
        );
    }
    let mut child = Command::new(WRITER)
        .arg(format!("--output={}", folder.join(file).display()))
        .args(["--split-mode=none", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(export.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

struct Fixture {
    bench: Bench,
    cursor: Arc<Cursor>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<()>>,
}

impl Fixture {
    fn start(config: &JournalConfig, cursor: Option<String>) -> Self {
        let rules = serde_json::json!([
            {"source_labels": ["__journal__systemd_unit"], "target_label": "unit"},
            {"source_labels": ["__journal_priority_keyword"], "target_label": "priority"},
        ]);
        let bench = Bench::new(rules, 1 << 20);
        let cursor = Cursor::of_source(cursor, Source::known(7, Some(0)), Arc::default());
        let target = JournalTarget::new(config, cursor.clone(), bench.inlets.clone()).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(target.run(stop.clone()));
        Self { bench, cursor, stop, running }
    }

    async fn end(self) -> Option<String> {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.running).await.unwrap().unwrap().unwrap();
        self.cursor.acknowledged()
    }
}

#[tokio::test]
async fn a_journal_is_read_followed_and_taken_up_again() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::now().nanos() / 1_000;
    let hour = 3_600_000_000;
    // The first is older than max_age.
    write(folder.path(), "a.journal", 1, &[now - 9 * hour, now - 2 * hour, now - hour, now - hour + 1]);
    let config = JournalConfig {
        path: folder.path().to_string_lossy().into_owned(),
        labels: BTreeMap::from([("job".into(), "j".into())]),
        ..JournalConfig::default()
    };
    let fixture = Fixture::start(&config, None);
    let first = fixture.bench.entry().await;
    assert_eq!(first.labels.to_string(), r#"{job="j", priority="crit", unit="u0.service"}"#);
    assert_eq!((first.line.as_str(), first.timestamp), ("line 2", Timestamp((now - 2 * hour) * 1_000)));
    first.tickets.done();
    assert!(fixture.bench.lines(1).await[0].ends_with(" line 3"));
    // The fourth is read and not acknowledged.
    let fourth = fixture.bench.entry().await;
    assert_eq!(fourth.line, "line 4");
    let origin = |entry: &Entry| {
        let (progress, ranges) = entry.tickets.origin().unwrap();
        (progress.source().unwrap().id(), ranges.to_vec())
    };
    let known_as = origin(&fourth);
    let cursor = fixture.end().await.unwrap();
    assert!(cursor.contains(&format!("t={:x}", now - hour)), "{cursor}");

    // It comes again, and what is written meanwhile or later comes too, also if the clock was set back.
    write(folder.path(), "b.journal", 5, &[now - 1_000, now - 500]);
    let fixture = Fixture::start(&config, Some(cursor));
    let again = fixture.bench.entry().await;
    assert_eq!((again.line.as_str(), origin(&again)), ("line 4", known_as));
    again.tickets.done();
    let shown = fixture.bench.lines(2).await;
    let texts: Vec<_> = shown.iter().map(|line| line.split_once("} ").unwrap().1).collect();
    assert_eq!(texts, ["line 5", "line 6"]);
    write(folder.path(), "c.journal", 7, &[now]);
    assert!(fixture.bench.lines(1).await[0].ends_with(" line 7"));
    fixture.end().await;
}

#[tokio::test]
async fn matches_json_and_cursors_of_another_journal() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::now().nanos() / 1_000;
    write(folder.path(), "a.journal", 1, &[now - 4, now - 3, now - 2, now - 1]);
    let config = JournalConfig {
        path: folder.path().to_string_lossy().into_owned(),
        json: true,
        matches: "_SYSTEMD_UNIT=u0.service PRIORITY=4".into(),
        ..JournalConfig::default()
    };
    let fixture = Fixture::start(&config, Some("no cursor at all".into()));
    let entry = fixture.bench.entry().await;
    let json: serde_json::Value = serde_json::from_str(&entry.line).unwrap();
    assert_eq!(json["MESSAGE"], "line 4");
    assert_eq!(json.as_object().unwrap().keys().find(|key| key.starts_with("__")), None);
    entry.tickets.done();
    assert!(fixture.end().await.is_some());
}

#[tokio::test]
async fn a_reader_that_ends_is_started_again_after_the_last_entry() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("journalctl");
    let log = folder.path().join("arguments");
    // Writes an entry whose number counts its starts, and ends.
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}\nn=$(wc -l < {0})\nprintf '__CURSOR=c%s\\nMESSAGE=start %s\\n\\n' $n $n\n",
        log.display()
    );
    std::fs::write(&program, script).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let bench = Bench::new(serde_json::json!([{"target_label": "job", "replacement": "j"}]), 1 << 20);
    let target = JournalTarget {
        program,
        config: JournalConfig::default(),
        cursor: Cursor::of_source(None, Source::new(), Arc::default()),
        inlet: bench.inlets.open(),
        metrics: bench.metrics.clone(),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(target.run(stop.clone()));
    assert_eq!(bench.lines(2).await, [r#"{job="j"} start 1"#, r#"{job="j"} start 2"#]);
    stop.cancel();
    running.await.unwrap().unwrap();
    let arguments = std::fs::read_to_string(&log).unwrap();
    let starts: Vec<&str> = arguments.lines().collect();
    assert!(starts[0].contains("--since=@") && starts[1].contains("--after-cursor=c1"), "{arguments}");
}

#[test]
fn entries_that_cannot_be_sent_are_counted_and_done() {
    let bench =
        Bench::new(serde_json::json!([{"source_labels": ["__journal_x"], "target_label": "x"}]), 1 << 20);
    let cursor = Cursor::of_source(None, Source::new(), Arc::default());
    let mut target = JournalTarget {
        program: PathBuf::new(),
        config: JournalConfig::default(),
        cursor: cursor.clone(),
        inlet: bench.inlets.open(),
        metrics: bench.metrics.clone(),
    };
    let fields =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    target.take(fields(&[("__CURSOR", "c1"), ("X", "1")]));
    target.take(fields(&[("__CURSOR", "c2"), ("MESSAGE", "no labels")]));
    target.take(fields(&[("MESSAGE", "no cursor")]));
    assert_eq!(cursor.acknowledged().as_deref(), Some("c2"));
    let count = |error| {
        bench
            .metrics
            .journal_parsing_errors
            .get_or_create(&crate::targets::metrics::ErrorLabels { error })
            .get()
    };
    assert_eq!((count("no_message"), count("empty_labels")), (1, 1));
    assert!(bench.queue.pop().is_none());
}

#[test]
fn cursors_and_mistakes() {
    assert_eq!(time_of("s=1;i=2;b=3;m=4;t=ff;x=6"), Some(255));
    assert_eq!(time_of("SJ1:00"), None);
    let check = |matches: &str, is_fine: bool| {
        let mut problems = Problems::default();
        JournalConfig { matches: matches.into(), ..JournalConfig::default() }.check("journal", &mut problems);
        assert_eq!(problems.is_empty(), is_fine, "{problems}");
    };
    check("_SYSTEMD_UNIT=a.service  PRIORITY=3", true);
    check("", true);
    for bad in ["--file=/etc/passwd", "+", "/bin/sh", "unit=x", "=x"] {
        check(bad, false);
    }
}
