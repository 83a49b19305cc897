//! The agent as a process, on real files, with a real store behind it: what is written arrives, every line once.
//!
//! Lines are numbered and most have no time of their own: one that was sent twice would get two times, and be there twice. Each
//! way of writing is a *case*, with a folder and a job of its own and the label `case`.

mod backlog;
mod disks;
mod files;
mod kills;
mod many;
mod pen;
mod reloads;
mod spool;
mod traps;
mod ways;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use model::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::port;

use crate::fleet;
use crate::query::{Loki, metric};
use crate::service::{Service, until};

/// When nothing has arrived for so long, nothing more will.
const STALL: Duration = Duration::from_secs(20);
const SECOND: i64 = 1_000_000_000;
/// How far lines may lie from now.
const HOURS: i64 = 24 * 3600 * SECOND;

/// An agent, its store, and the folder that both work in.
struct Rig {
    logs: Service,
    agent: Service,
    loki: Loki,
    agent_port: u16,
    // Goes last: the processes work in it.
    folder: TempDir,
}

/// How an agent is told to work.
#[derive(Default)]
struct Setup {
    /// `scrape_configs`
    jobs: Vec<Value>,
    /// The positions file, unless it lies in the folder.
    positions: Option<PathBuf>,
    /// Where the store keeps its data, unless it is in the folder.
    data: Option<PathBuf>,
    /// URLs of clients after the store.
    more_clients: Vec<String>,
    /// Whether what listeners take in is kept on disk.
    spools: bool,
    /// Whether it may be told to read its configuration again.
    reloads: bool,
}

impl Rig {
    /// Both processes, not started. Jobs may name files below [`path`](Self::path).
    fn new(folder: TempDir, setup: Setup) -> Result<Self> {
        let (logs_port, agent_port) = (port::free(), port::free());
        let path = folder.path();
        let agent = agent(path, agent_port, &format!("{}/loki/api/v1/push", fleet::url(logs_port)), &setup)?;
        Ok(Self {
            logs: store(path, logs_port, &setup.data.unwrap_or_else(|| path.join("logs")))?,
            agent,
            loki: Loki(fleet::url(logs_port)),
            agent_port,
            folder,
        })
    }

    /// As [`new`](Self::new), with both started.
    fn started(folder: TempDir, setup: Setup) -> Result<Self> {
        let mut rig = Self::new(folder, setup)?;
        rig.logs.start()?;
        rig.agent.start()?;
        Ok(rig)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A metric of the agent, summed over series with this text in their labels.
    fn agent_metric(&self, name: &str, part: &str) -> Result<f64> {
        metric(&format!("{}/metrics", fleet::url(self.agent_port)), name, part)
    }

    /// Waits until each case has at least the lines that were written, and tells what is missing or there more than once.
    fn check<'a>(&self, cases: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Result<()> {
        check(&self.loki, cases)
    }

    /// Ends both well and starts them again, the store first.
    fn restart(&mut self) -> Result<()> {
        self.agent.stop()?;
        self.logs.stop()?;
        self.logs.start()?;
        self.agent.start()
    }
}

/// A store on this port. Its head is of the smallest size, so that blocks are made on the way.
fn store(folder: &Path, port: u16, data: &Path) -> Result<Service> {
    let settings = json!({
        "server": {"http_listen_address": "127.0.0.1", "http_listen_port": port, "grpc_listen_port": 0},
        "common": {"path_prefix": data},
        "ingester": {"head_max_size": "1MB"},
        "limits_config": {"max_entries_limit_per_query": 10_000_000, "max_line_size": "4MB"},
    });
    Service::new("timberline-logs", "logs.yaml", &settings, folder, format!("{}/ready", fleet::url(port)))
}

/// An agent on this port, sending to `push` first.
fn agent(folder: &Path, port: u16, push: &str, setup: &Setup) -> Result<Service> {
    let client = |url: &str| {
        let backoff = json!({"min_period": "50ms", "max_period": "200ms"});
        json!({"url": url, "batchwait": "50ms", "timeout": "5s", "backoff_config": backoff})
    };
    let urls = std::iter::once(push).chain(setup.more_clients.iter().map(String::as_str));
    let positions = setup.positions.clone().unwrap_or_else(|| folder.join("positions/positions.yaml"));
    let mut target_config = json!({"sync_period": "100ms"});
    if setup.spools {
        target_config["spool"] = json!({"dir": folder.join("spool"), "max_bytes": "256MB"});
    }
    let config = json!({
        "server": {
            "http_listen_address": "127.0.0.1",
            "http_listen_port": port,
            "grpc_listen_port": 0,
            "enable_runtime_reload": setup.reloads,
        },
        "positions": {"filename": positions, "sync_period": "100ms"},
        "target_config": target_config,
        "clients": urls.map(client).collect::<Value>(),
        "scrape_configs": setup.jobs,
    });
    // It is up when it answers; whether its targets are ready is another question.
    Service::new("timberline-agent", "agent.yaml", &config, folder, format!("{}/metrics", fleet::url(port)))
}

/// The job of a case: the files that `glob` matches below `folder`, which may hold several patterns in braces.
fn job(case: &str, glob: &Path, stages: Value) -> Value {
    let labels = json!({"case": case, "__path__": glob});
    json!({"job_name": case, "static_configs": [{"labels": labels}], "pipeline_stages": stages})
}

fn counts(loki: &Loki) -> Result<BTreeMap<String, f64>> {
    let end = Timestamp::now().nanos() + HOURS;
    loki.vector(r#"sum by (case) (count_over_time({case=~".+"}[48h]))"#, "case", end)
}

fn check<'a>(loki: &Loki, cases: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Result<()> {
    let wrong = wrong(loki, cases)?;
    ensure!(wrong.is_empty(), "{}", wrong.into_values().collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// Waits until each case has at least the lines that were written, or no more come. Tells what is missing, there more than once
/// or never written, by the case.
fn wrong<'a>(
    loki: &Loki,
    cases: impl IntoIterator<Item = (&'a str, &'a [String])>,
) -> Result<BTreeMap<String, String>> {
    let cases: Vec<_> = cases.into_iter().collect();
    let (mut before, mut since) = (BTreeMap::new(), Instant::now());
    loop {
        let counts = counts(loki)?;
        let count = |case: &str| counts.get(case).copied().unwrap_or_default() as usize;
        let is_stalled = counts == before && since.elapsed() >= STALL;
        if is_stalled || cases.iter().all(|(case, written)| count(case) >= written.len()) {
            let (mut wrong, mut may_come) = (BTreeMap::new(), false);
            for (case, written) in &cases {
                let Some(found) = compare(case, written, loki)? else { continue };
                may_come |= found.is_missing;
                wrong.insert((*case).to_owned(), found.text);
            }
            if is_stalled || !may_come {
                return Ok(wrong);
            }
        }
        if counts != before {
            (before, since) = (counts, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What is wrong with a case.
struct Wrong {
    /// Lines are missing, which may yet come.
    is_missing: bool,
    text: String,
}

fn compare(case: &str, written: &[String], loki: &Loki) -> Result<Option<Wrong>> {
    let now = Timestamp::now().nanos();
    let query = format!("{{case=\"{case}\"}}");
    let lines = loki.lines_up_to(10_000_000, &query, now - HOURS, now + HOURS)?;
    let mut found: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    lines.iter().for_each(|line| found.entry(&line.text).or_default().push(line.time));
    let short = |text: &str| text.chars().take(40).collect::<String>();
    let missing: Vec<_> =
        written.iter().filter(|line| !found.contains_key(line.as_str())).map(|l| short(l)).collect();
    let twice: Vec<_> =
        found.iter().filter(|(_, times)| times.len() > 1).map(|(text, _)| short(text)).collect();
    let expected: std::collections::BTreeSet<&str> = written.iter().map(String::as_str).collect();
    let foreign: Vec<_> =
        found.keys().filter(|text| !expected.contains(*text)).map(|text| short(text)).collect();
    ensure!(expected.len() == written.len(), "{case}: the test wrote a line twice");
    if missing.is_empty() && twice.is_empty() && foreign.is_empty() {
        return Ok(None);
    }
    let some = |lines: &[String]| match lines {
        [] => "none".to_owned(),
        lines => format!("{} {:?}…{:?}", lines.len(), lines[0], lines[lines.len() - 1]),
    };
    let text = format!(
        "{case}: of {} lines written missing {}; there more than once {}; never written {}",
        written.len(),
        some(&missing),
        some(&twice),
        some(&foreign)
    );
    Ok(Some(Wrong { is_missing: !missing.is_empty(), text }))
}

/// Waits until at least this many lines of a case are stored.
fn stored(loki: &Loki, case: &str, lines: usize) -> Result<()> {
    until(&format!("{lines} lines of {case}"), || {
        let count = counts(loki)?.get(case).copied().unwrap_or_default();
        ensure!(count >= lines as f64, "{count} lines");
        Ok(())
    })
}
