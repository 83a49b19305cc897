//! `agent`: what reading, working on and sending container logs costs the agent.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::cost::{cpu_seconds, peak_mib};
use testkit::process::Launch;
use testkit::sink::Sink;
use testkit::workload::container_lines;
use testkit::{http, port};

use crate::ingest::{Counter, PATIENCE};

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut lines, mut runs) = (1_000_000_u64, 1);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number =
            || args.next().and_then(|n| n.parse().ok()).with_context(|| format!("{arg} needs a number"));
        match arg.as_str() {
            "--lines" => lines = number()?,
            "--runs" => runs = number()?,
            other => bail!("'{other}' is not understood"),
        }
    }
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("0-json.log");
    let mut out = BufWriter::new(File::create(&log)?);
    container_lines(&mut out, lines, 7)?;
    out.into_inner()?.sync_all()?;
    let (raw, zstd_cpu) = zstd(&log)?;
    println!(
        "{:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "lines", "raw MB", "CPU s", "peak MiB", "sent MiB", "zstd CPU", "wall s"
    );
    for _ in 0..runs {
        let (cpu, peak, sent, wall) = measure(folder.path(), lines)?;
        println!(
            "{lines:9} {:9.1} {cpu:9.2} {peak:9.1} {:9.1} {zstd_cpu:9.2} {wall:9.1}",
            raw as f64 / 1e6,
            sent as f64 / f64::from(1 << 20),
        );
    }
    Ok(())
}

/// Bytes of a file, and CPU seconds of compressing them.
fn zstd(path: &Path) -> Result<(u64, f64)> {
    let mut zstd = zstd::stream::write::Encoder::new(Counter(0), 3)?;
    let before = cpu_seconds(std::process::id())?;
    let raw = std::io::copy(&mut File::open(path)?, &mut zstd)?;
    zstd.finish()?.flush()?;
    Ok((raw, cpu_seconds(std::process::id())? - before))
}

/// Has an agent read the folder's file from its beginning; CPU seconds, peak memory in MiB, bytes sent, seconds.
fn measure(folder: &Path, lines: u64) -> Result<(f64, f64, u64, f64)> {
    let (sink, port, config) = (Sink::start()?, port::free(), folder.join("agent.yaml"));
    let positions = tempfile::tempdir_in(folder)?;
    let text = format!(
        "server: {{http_listen_port: {port}, grpc_listen_port: 0}}\n\
         positions: {{filename: {positions}/positions.yaml}}\n\
         clients: [{{url: '{url}'}}]\n\
         scrape_configs:\n\
         - job_name: containers\n\
         \x20 static_configs: [{{labels: {{job: docker, __path__: {folder}/*-json.log}}}}]\n\
         \x20 pipeline_stages:\n\
         \x20 - docker: {{}}\n\
         \x20 - json: {{expressions: {{level: , service: , trace_id: }}}}\n\
         \x20 - labels: {{level: , service: }}\n\
         \x20 - structured_metadata: {{trace_id: }}\n",
        positions = positions.path().display(),
        folder = folder.display(),
        url = sink.url(),
    );
    std::fs::write(&config, text)?;
    let begun = Instant::now();
    let mut agent = Launch::workspace("timberline-agent")?.arg("--config").arg(&config).start()?;
    let metrics = format!("http://127.0.0.1:{port}/metrics");
    let sent = || -> Result<u64> {
        let text = http::get(&metrics)?.ok()?.text();
        let counts = text.lines().filter(|line| line.starts_with("promtail_sent_entries_total"));
        let count = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        Ok(counts.filter_map(count).sum())
    };
    agent.wait_for_http(&metrics, PATIENCE)?;
    while sent()? < lines {
        ensure!(begun.elapsed() < 5 * PATIENCE, "only {} of {lines} lines were sent", sent()?);
        std::thread::sleep(Duration::from_millis(200));
    }
    let (wall, cpu, peak) = (begun.elapsed().as_secs_f64(), cpu_seconds(agent.id())?, peak_mib(agent.id())?);
    agent.terminate(PATIENCE)?;
    Ok((cpu, peak, sink.bytes(), wall))
}
