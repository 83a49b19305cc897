//! A backlog far larger than the agent's memory may be.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use testkit::cost;
use testkit::port;
use testkit::sink::Sink;
use testkit::workload::docker_lines;

use super::{Setup, agent, job};
use crate::fleet;
use crate::query::metric;

/// Bytes of the backlog.
const BYTES: u64 = 200 << 20;
/// MiB that the agent may take, however large the backlog is.
const MIB: f64 = 60.0;

#[test]
fn a_backlog_is_read_within_bounds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("c-json.log");
    let lines = docker_lines(&mut std::fs::File::create(&path)?, BYTES, 7)?;
    let (sink, port) = (Sink::start()?, port::free());
    let jobs = vec![job("backlog", &path, json!([{"docker": {}}]))];
    let begun = Instant::now();
    let agent = agent(folder.path(), port, sink.url(), &Setup { jobs, ..Setup::default() })?.started()?;
    let sent = || metric(&format!("{}/metrics", fleet::url(port)), "promtail_sent_entries_total", "");
    let patience = Duration::from_secs(120);
    while sent()? < lines as f64 {
        ensure!(begun.elapsed() < patience, "{} of {lines} lines sent within {patience:?}", sent()?);
        std::thread::sleep(Duration::from_millis(100));
    }
    let (cpu, peak) = (cost::cpu_seconds(agent.id()?)?, cost::peak_mib(agent.id()?)?);
    eprintln!("backlog: {} MiB in {:?}, {cpu:.1} CPU s, {peak:.0} MiB", BYTES >> 20, begun.elapsed());
    ensure!(sent()? == lines as f64, "{} entries sent of {lines} lines", sent()?);
    ensure!(peak < MIB, "{peak} MiB for a backlog of {BYTES} bytes");
    Ok(())
}
