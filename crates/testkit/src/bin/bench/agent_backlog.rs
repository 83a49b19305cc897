//! `agent-backlog`: what it costs the agent to catch up with far more than its memory may hold.
//!
//! The backlog is made piece by piece, and what was sent is deleted, so that it may be larger than the disk.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::cost::{cpu_seconds, peak_mib};
use testkit::process::Launch;
use testkit::sink::Sink;
use testkit::workload::docker_lines;
use testkit::{http, port};

use crate::ingest::PATIENCE;

const GIB: u64 = 1 << 30;
/// Files of a piece, 1 GiB each.
const FILES: u64 = 2;
/// Nothing is sent for so long: something is wrong.
const STALL: Duration = Duration::from_secs(60);

pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut gib = 20;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--gb" => gib = args.next().and_then(|n| n.parse().ok()).context("--gb needs a number")?,
            other => bail!("'{other}' is not understood"),
        }
    }
    let folder = tempfile::tempdir()?;
    let (files, sink, port) = (folder.path().join("files"), Sink::start()?, port::free());
    fs::create_dir_all(&files)?;
    let config = folder.path().join("agent.yaml");
    fs::write(&config, configuration(port, &sink, folder.path(), &files))?;
    let metrics = format!("http://127.0.0.1:{port}/metrics");
    // The first piece waits for the agent; the others come while it runs.
    let mut lines = piece(&files, 0, gib.min(FILES))?;
    let mut agent = Launch::workspace("timberline-agent")?.arg("--config").arg(&config).start()?;
    agent.wait_for_http(&metrics, PATIENCE)?;
    let (mut made, mut busy) = (gib.min(FILES), Duration::ZERO);
    let mut cpu_before = 0.0;
    let mut cpu = 0.0;
    loop {
        let begun = Instant::now();
        drain(&metrics, lines)?;
        busy += begun.elapsed();
        cpu += cpu_seconds(agent.id())? - cpu_before;
        eprintln!(
            "{made} GiB: {:.1} s, {cpu:.1} CPU s, {:.1} MiB",
            busy.as_secs_f64(),
            peak_mib(agent.id())?
        );
        for file in fs::read_dir(&files)? {
            let path = file?.path();
            // The agent keeps a removed file open for a while, which would keep its bytes on the disk.
            File::options().write(true).open(&path)?.set_len(0)?;
            fs::remove_file(path)?;
        }
        if made == gib {
            break;
        }
        let more = FILES.min(gib - made);
        cpu_before = cpu_seconds(agent.id())?;
        lines += piece(&files, made, more)?;
        made += more;
    }
    let seconds = busy.as_secs_f64();
    println!(
        "{:>6} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "GiB", "lines", "seconds", "GiB/s", "CPU s", "peak MiB", "requests", "sent MiB"
    );
    println!(
        "{gib:6} {lines:12} {seconds:9.1} {:9.2} {cpu:9.1} {:9.1} {:9} {:9.1}",
        gib as f64 / seconds,
        peak_mib(agent.id())?,
        sink.requests(),
        sink.bytes() as f64 / f64::from(1 << 20)
    );
    agent.terminate(PATIENCE)?;
    Ok(())
}

fn configuration(port: u16, sink: &Sink, folder: &Path, files: &Path) -> String {
    format!(
        "server: {{http_listen_address: 127.0.0.1, http_listen_port: {port}, grpc_listen_port: 0}}\n\
         positions: {{filename: {}/positions.yaml}}\n\
         target_config: {{sync_period: 1s}}\n\
         clients: [{{url: '{}'}}]\n\
         scrape_configs:\n\
         - job_name: backlog\n  \
           static_configs: [{{labels: {{job: backlog, __path__: '{}/*.log'}}}}]\n  \
           pipeline_stages: [{{docker: {{}}}}]\n",
        folder.display(),
        sink.url(),
        files.display()
    )
}

/// Makes files of 1 GiB each; how many lines they hold.
fn piece(files: &Path, first: u64, count: u64) -> Result<u64> {
    let mut lines = 0;
    let part = |number: u64| files.join(format!("{number}.part"));
    for number in first..first + count {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(part(number))?);
        lines += docker_lines(&mut out, GIB, number)?;
        out.flush()?;
    }
    // All at once when all are whole, so that making them is not measured.
    for number in first..first + count {
        fs::rename(part(number), files.join(format!("{number}.log")))?;
    }
    Ok(lines)
}

/// Waits until this many lines were sent in all.
fn drain(metrics: &str, lines: u64) -> Result<()> {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let page = http::get(metrics)?.ok()?.text();
        let sent = page.lines().filter(|line| line.starts_with("promtail_sent_entries_total"));
        let sent: u64 = sent.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        ensure!(sent <= lines, "{sent} lines were sent where there are {lines}");
        if sent == lines {
            return Ok(());
        }
        if sent != before {
            (before, since) = (sent, Instant::now());
        }
        ensure!(since.elapsed() < STALL, "nothing was sent for {STALL:?}, after {sent} of {lines} lines");
        std::thread::sleep(Duration::from_millis(50));
    }
}
