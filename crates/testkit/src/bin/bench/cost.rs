//! What a process has cost: CPU seconds and memory from `/proc`, bytes on disk.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// CPU seconds (user and system) of a process so far.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
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
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).context("/proc/pid/status has no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("VmHWM has no value")?.parse()?;
    Ok(kib / 1024.0)
}

/// Bytes of all files below a folder, by whether `count` wants them.
pub(crate) fn disk_bytes(folder: &Path, count: &dyn Fn(&Path) -> bool) -> Result<u64> {
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
