//! What a process has cost: CPU seconds, memory and threads from `/proc`, bytes on disk.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// CPU seconds (user and system) of a process so far.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    /// `sysconf(_SC_CLK_TCK)` is 100 on every Linux that runs today.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).context("/proc/pid/stat is short");
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// Largest resident memory of a process so far, MiB.
pub fn peak_mib(pid: u32) -> Result<f64> {
    Ok(status(pid, "VmHWM:")? as f64 / 1024.0)
}

/// Threads of a process now.
pub fn threads(pid: u32) -> Result<u64> {
    status(pid, "Threads:")
}

/// A number of `/proc/<pid>/status`.
fn status(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).with_context(|| format!("/proc/{pid}/status has no {name}"))
}

/// Bytes of all files below a folder, by whether `count` wants them.
pub fn disk_bytes(folder: &Path, count: &dyn Fn(&Path) -> bool) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            bytes += disk_bytes(&path, count)?;
        } else if count(&path) {
            bytes += fs::metadata(&path)?.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert!(peak_mib(pid).unwrap() > 0.1);
        assert!(threads(pid).unwrap() >= 1);
        assert!(peak_mib(0).is_err());
    }
}
