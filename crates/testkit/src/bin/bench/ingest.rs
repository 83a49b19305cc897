//! `ingest`: what storing a workload costs the server.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testkit::http;
use testkit::port;
use testkit::process::{Launch, Process};
use testkit::workload::{Body, LogLoad, TraceLoad, log_bodies, trace_bodies};

use testkit::cost::{cpu_seconds, disk_bytes, peak_mib};

/// Long enough for a slow machine to start and flush.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut which, mut megabytes, mut spans) = (None, 400_u64, 600_000_u64);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number =
            || args.next().and_then(|n| n.parse().ok()).with_context(|| format!("{arg} needs a number"));
        match arg.as_str() {
            "logs" | "traces" => which = Some(arg.as_str()),
            "--mb" => megabytes = number()?,
            "--spans" => spans = number()?,
            other => bail!("'{other}' is not understood"),
        }
    }
    println!(
        "{:8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "rows", "raw MiB", "acked CPU", "CPU s", "peak MiB", "disk MiB", "zstd CPU", "zstd MiB"
    );
    if which != Some("traces") {
        logs(megabytes)?;
    }
    if which != Some("logs") {
        traces(spans)?;
    }
    Ok(())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Starts a log store that works below `folder` and waits until it is ready; its address.
pub(crate) fn logs_server(folder: &Path) -> Result<(Process, String)> {
    let port = port::free();
    let (config, data) = (folder.join("logs.yaml"), folder.join("data"));
    let text = format!(
        "auth_enabled: false\nserver: {{http_listen_port: {port}, grpc_listen_port: 0}}\ncommon: {{path_prefix: {}}}\n",
        data.display()
    );
    fs::write(&config, text)?;
    serve("timberline-logs", &config, format!("http://127.0.0.1:{port}"))
}

fn serve(binary: &str, config: &Path, base: String) -> Result<(Process, String)> {
    let mut process = Launch::workspace(binary)?.arg("--config").arg(config).start()?;
    process.wait_for_http(&format!("{base}/ready"), PATIENCE)?;
    Ok((process, base))
}

/// A load of lines that lie `step` nanoseconds apart and end about now, and its end.
pub(crate) fn log_load(megabytes: u64, step: i64) -> (LogLoad, i64) {
    // Fewer than there will be bytes for, so that no line lies in the future.
    let lines = (megabytes << 20) / 100;
    let end = now();
    let start = end - (lines as i64 + 1) * step;
    (LogLoad { bytes: megabytes << 20, body_bytes: 1 << 20, start, step, seed: 7 }, end)
}

fn logs(megabytes: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (process, base) = logs_server(folder.path())?;
    measure(Server {
        name: "logs",
        process,
        data: &folder.path().join("data"),
        push: format!("{base}/loki/api/v1/push"),
        base,
        bodies: &mut log_bodies(log_load(megabytes, 10_000_000).0),
    })
}

fn traces(spans: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, grpc, http) = (port::free(), port::free(), port::free());
    let config = folder.path().join("traces.yaml");
    let data = folder.path().join("data");
    fs::write(
        &config,
        format!(
            "server: {{http_listen_port: {port}, grpc_listen_port: 0}}\n\
             distributor: {{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, http: {{endpoint: '127.0.0.1:{http}'}}}}}}}}}}\n\
             storage: {{trace: {{backend: local, wal: {{path: {data}/wal}}, local: {{path: {data}/blocks}}}}}}\n",
            data = data.display()
        ),
    )?;
    let step = 100_000_000;
    let start = (now() - (spans as i64 / 10 + 1) * step) as u64;
    let load = TraceLoad { spans, body_spans: 2000, start, step: step as u64, seed: 11 };
    let (process, base) = serve("timberline-traces", &config, format!("http://127.0.0.1:{port}"))?;
    measure(Server {
        name: "traces",
        process,
        data: &data,
        base,
        push: format!("http://127.0.0.1:{http}/v1/traces"),
        bodies: &mut trace_bodies(load),
    })
}

struct Server<'a> {
    name: &'a str,
    process: Process,
    data: &'a Path,
    base: String,
    push: String,
    bodies: &'a mut dyn Iterator<Item = Body>,
}

fn measure(server: Server<'_>) -> Result<()> {
    let mut process = server.process;
    let (pid, begun) = (process.id(), Instant::now());
    let (mut rows, mut raw_bytes, mut zstd_cpu) = (0, 0, 0.0);
    let mut zstd = zstd::stream::write::Encoder::new(Counter(0), 3)?;
    for body in server.bodies {
        http::post(&server.push, "application/x-protobuf", body.bytes)?.ok()?;
        rows += body.rows;
        raw_bytes += body.raw.len();
        let before = cpu_seconds(std::process::id())?;
        zstd.write_all(&body.raw)?;
        zstd_cpu += cpu_seconds(std::process::id())? - before;
    }
    let acked = cpu_seconds(pid)?;
    let flushed = http::Request::new("POST", format!("{}/flush", server.base)).timeout(PATIENCE).send()?;
    flushed.ok().context("flush")?;
    let cpu = cpu_seconds(pid)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let blocks = disk_bytes(server.data, &|path| path.components().any(|c| c.as_os_str() == "blocks"))?;
    println!(
        "{:8} {rows:9} {:9.1} {acked:9.2} {cpu:9.2} {:9.1} {:9.1} {zstd_cpu:9.2} {:9.1}   {:.1} s",
        server.name,
        mib(raw_bytes as u64),
        peak_mib(pid)?,
        mib(blocks),
        mib(zstd.finish()?.0),
        begun.elapsed().as_secs_f64(),
    );
    process.terminate(PATIENCE)?;
    Ok(())
}

/// Counts what is written to it.
pub(crate) struct Counter(pub(crate) u64);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
