//! The `process_*` metrics that every Prometheus dashboard knows, read from `/proc` at each scrape.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks per second of `/proc/self/stat`: the kernel's interface fixes it at 100 on every architecture we run on.
const TICKS: f64 = 100.0;

/// Source of `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
/// `process_threads`, `process_open_fds`, `process_max_fds` and `process_start_time_seconds`; silent where there is no `/proc`.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

/// Fields of `/proc/self/stat` behind the command name, which may hold anything.
struct Stat {
    cpu: f64,
    threads: i64,
    start: f64,
    virtual_bytes: i64,
}

fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    // Numbered from 3 (state) in proc(5).
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(Stat {
        cpu: (field(14)? + field(15)?) / TICKS,
        threads: field(20)? as i64,
        start: field(22)? / TICKS,
        virtual_bytes: field(23)? as i64,
    })
}

/// A line `name: 123 kB` of a `/proc` file, in its own unit.
fn line(text: &str, name: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            None => Ok(()),
            Some(value) => {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)
            }
        };
        let stat = read("/proc/self/stat").and_then(|text| stat(&text));
        let stat = stat.as_ref();
        let resident =
            read("/proc/self/status").and_then(|text| line(&text, "VmRSS:")).map(|kib| kib as f64 * 1024.0);
        gauge("process_resident_memory_bytes", "Resident memory size in bytes", resident)?;
        let size = stat.map(|s| s.virtual_bytes as f64);
        gauge("process_virtual_memory_bytes", "Virtual memory size in bytes", size)?;
        gauge("process_threads", "Number of threads", stat.map(|s| s.threads as f64))?;
        let open = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
        gauge("process_open_fds", "Number of open file descriptors", open)?;
        let max = read("/proc/self/limits").and_then(|text| line(&text, "Max open files")).map(|n| n as f64);
        gauge("process_max_fds", "Maximum number of open file descriptors", max)?;
        let boot = read("/proc/stat").and_then(|text| line(&text, "btime"));
        let start = stat.zip(boot).map(|(s, boot)| s.start + boot as f64);
        gauge("process_start_time_seconds", "Start time of the process since the epoch in seconds", start)?;
        if let Some(stat) = stat {
            let help = "Total user and system CPU time spent in seconds";
            let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(stat.cpu).encode(metric)?;
        }
        Ok(())
    }
}
