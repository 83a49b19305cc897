//! The store dies, the agent dies, the file goes on growing: every line is there in the end, once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use model::Timestamp;
use serde_json::{Value, json};
use testkit::port;

use crate::fleet;
use crate::query::Loki;
use crate::service::{Service, until};

/// Lines that must arrive between two deaths.
const STEP: u64 = 400;

#[test]
fn the_store_dies() -> Result<()> {
    // The agent lives and knows when it read a line, so even lines without times of their own come once.
    story(false, |outage| {
        for _ in 0..3 {
            outage.arrive()?;
            outage.logs.kill()?;
            outage.grow()?;
            outage.rotate.store(true, Ordering::Relaxed);
            outage.grow()?;
            outage.logs.start()?;
        }
        Ok(())
    })
}

#[test]
fn the_agent_dies_too() -> Result<()> {
    // What the agent sends again has the time that stands in the line, and is the same line to the store.
    story(true, |outage| {
        outage.arrive()?;
        outage.agent.kill()?;
        outage.grow()?;
        outage.agent.start()?;
        outage.arrive()?;
        outage.logs.kill()?;
        outage.grow()?;
        outage.agent.kill()?;
        outage.grow()?;
        outage.agent.start()?;
        outage.logs.start()?;
        outage.arrive()?;
        outage.logs.kill()?;
        outage.agent.kill()?;
        outage.logs.start()?;
        outage.agent.start()
    })
}

/// What a story can do.
struct Outage<'a> {
    logs: Service,
    agent: Service,
    loki: Loki,
    start: i64,
    written: &'a AtomicU64,
    rotate: &'a AtomicBool,
}

fn story(own_times: bool, deaths: impl FnOnce(&mut Outage<'_>) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, path) = (port::free(), folder.path().join("app.log"));
    let fields = json!({"time": "time"});
    let mut stages = vec![json!({"json": {"expressions": fields}})];
    stages.extend(own_times.then(|| json!({"timestamp": {"source": "time", "format": "RFC3339Nano"}})));
    let labels = json!({"job": "app", "__path__": &path});
    let job = json!([{"job_name": "app", "static_configs": [{"labels": labels}], "pipeline_stages": stages}]);
    // A head of the smallest size, so that blocks are made on the way.
    let settings = json!({
        "ingester": {"head_max_size": "1MB"},
        "limits_config": {"max_entries_limit_per_query": 10_000_000},
    });
    let start = Timestamp::now().nanos();
    let written = AtomicU64::new(0);
    let (stop, rotate) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut outage = Outage {
        logs: fleet::logs_with(port, folder.path(), settings)?.started()?,
        agent: fleet::agent(port::free(), port, &job, folder.path())?.started()?,
        loki: Loki(fleet::url(port)),
        start,
        written: &written,
        rotate: &rotate,
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&path, start, &written, &rotate, &stop));
        let died = deaths(&mut outage);
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer does not panic")?;
        died
    })?;
    outage.check()?;
    outage.agent.stop()?;
    outage.logs.stop()?;
    outage.logs.start()?;
    outage.check()
}

/// The line of a number, with its time.
fn line(start: i64, number: u64) -> String {
    json!({"time": Timestamp(start + number as i64 * 1000).to_string(), "number": number, "pad": "~".repeat(200)})
        .to_string()
}

/// Lets the file grow until told to stop, now and then in the middle of a line. When told to rotate, it is renamed and
/// begun anew.
fn write(path: &Path, start: i64, written: &AtomicU64, rotate: &AtomicBool, stop: &AtomicBool) -> Result<()> {
    let mut file = File::create(path)?;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        if rotate.swap(false, Ordering::Relaxed) {
            std::fs::rename(path, path.with_extension(format!("log.{number}")))?;
            file = File::create(path)?;
        }
        for _ in 0..5 {
            let text = line(start, number) + "\n";
            let (head, tail) = text.split_at(if number % 7 == 0 { text.len() / 2 } else { 0 });
            file.write_all(head.as_bytes())?;
            file.write_all(tail.as_bytes())?;
            number += 1;
        }
        written.store(number, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(4));
    }
    Ok(())
}

impl Outage<'_> {
    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until the file has grown by a step.
    fn grow(&self) -> Result<()> {
        let enough = self.written() + STEP;
        until("the file grows", || {
            ensure!(self.written() >= enough);
            Ok(())
        })
    }

    /// Waits until what is written now, and a step more, is in the store.
    fn arrive(&self) -> Result<()> {
        let enough = self.written() + STEP;
        until("lines arrive", || {
            let counts =
                self.loki.vector(r#"sum(count_over_time({job="app"}[1h]))"#, "", Timestamp::now().nanos())?;
            let count = counts.values().sum::<f64>() as u64;
            ensure!(count >= enough, "{count} of {enough} lines");
            Ok(())
        })
    }

    /// Every line is there once, and nothing else.
    fn check(&self) -> Result<()> {
        let expected: BTreeMap<String, u64> = (0..self.written()).map(|n| (line(self.start, n), 1)).collect();
        until("all lines", || {
            let end = Timestamp::now().nanos() + 1_000_000_000;
            let lines = self.loki.lines_up_to(10_000_000, r#"{job="app"}"#, self.start, end)?;
            let mut found: BTreeMap<String, u64> = BTreeMap::new();
            lines.into_iter().for_each(|line| *found.entry(line.text).or_default() += 1);
            let missing: Vec<_> =
                expected.keys().filter(|line| !found.contains_key(*line)).map(|line| number(line)).collect();
            let extra: Vec<_> = found.iter().filter(|(line, n)| expected.get(*line) != Some(n)).collect();
            ensure!(
                missing.is_empty(),
                "{} lines are missing, such as {:?}",
                missing.len(),
                missing.iter().take(9)
            );
            ensure!(extra.is_empty(), "not once, or not written: {:?}", extra.iter().take(3));
            Ok(())
        })
    }
}

fn number(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?["number"].as_u64()
}
