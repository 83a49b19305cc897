//! `memory_limiter`: refuses data, with a retryable error, while the process holds too much memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use service::config::Duration;
use service::{CancellationToken, Failure};

use crate::data::{Consumer, Data};

/// `processors.memory_limiter`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryLimiterConfig {
    /// How often memory is measured; must be above 0.
    pub check_interval: Duration,
    /// Memory of the process that must not be passed.
    pub limit_mib: u64,
    /// Headroom below the limit in which data is refused already; 0 means a fifth of the limit.
    pub spike_limit_mib: u64,
    /// The limit as a share of the machine's or container's memory, where `limit_mib` is not given.
    pub limit_percentage: u64,
    /// The headroom as a share.
    pub spike_limit_percentage: u64,
}

impl MemoryLimiterConfig {
    /// Bytes from which data is refused; the problem if the configuration gives none.
    pub fn soft_limit(&self) -> Result<u64, String> {
        if self.check_interval.is_zero() {
            return Err("check_interval: must be above 0, such as 1s".to_owned());
        }
        let of_total = |percent: u64| total_memory() / 100 * percent.min(100);
        let (limit, spike) = match (self.limit_mib, self.limit_percentage) {
            (0, 0) => return Err("limit_mib: set it, or limit_percentage".to_owned()),
            (0, percent) => (of_total(percent), of_total(self.spike_limit_percentage)),
            (mib, _) => (mib << 20, self.spike_limit_mib << 20),
        };
        let spike = if spike == 0 { limit / 5 } else { spike };
        if spike >= limit {
            return Err("spike_limit_mib: must be below the limit".to_owned());
        }
        Ok(limit - spike)
    }
}

/// The processor. [`run`](Self::run) is its one task.
pub struct MemoryLimiter {
    interval: std::time::Duration,
    soft_limit: u64,
    over: AtomicBool,
    next: Arc<dyn Consumer>,
}

impl MemoryLimiter {
    /// A processor before `next`.
    pub fn new(config: &MemoryLimiterConfig, next: Arc<dyn Consumer>) -> Result<Self, String> {
        let (interval, soft_limit) = (config.check_interval.get(), config.soft_limit()?);
        Ok(Self { interval, soft_limit, over: AtomicBool::new(false), next })
    }

    /// Measures until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let over = resident_memory().is_some_and(|bytes| bytes > self.soft_limit);
            if over != self.over.swap(over, Ordering::Relaxed) {
                tracing::warn!(refusing = over, soft_limit = self.soft_limit, "memory limit");
            }
        }
    }
}

impl Consumer for MemoryLimiter {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        if self.over.load(Ordering::Relaxed) {
            let text = format!("memory_limiter: more than {} bytes are in use", self.soft_limit);
            return Box::pin(std::future::ready(Err(Failure::unavailable(text, None))));
        }
        self.next.consume(data)
    }
}

fn resident_memory() -> Option<u64> {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<u64>().ok()? * PAGE)
}

/// Memory of the container (cgroup v2, then v1) or of the machine, in bytes.
fn total_memory() -> u64 {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
    });
    let machine = machine.unwrap_or(u64::MAX);
    let cgroup =
        number("/sys/fs/cgroup/memory.max").or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    cgroup.unwrap_or(machine).min(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limit_leaves_headroom() {
        let config = |limit_mib, spike_limit_mib| MemoryLimiterConfig {
            check_interval: Duration::from_secs(1),
            limit_mib,
            spike_limit_mib,
            ..MemoryLimiterConfig::default()
        };
        assert_eq!(config(100, 0).soft_limit(), Ok(80 << 20));
        assert_eq!(config(100, 30).soft_limit(), Ok(70 << 20));
        assert!(config(100, 100).soft_limit().is_err());
        assert!(config(0, 0).soft_limit().is_err());
        assert!(MemoryLimiterConfig { limit_mib: 1, ..MemoryLimiterConfig::default() }.soft_limit().is_err());
    }
}
