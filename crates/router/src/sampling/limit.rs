//! Token buckets, and the hash that chooses a share of trace ids.

use model::TraceId;

/// Nanoseconds of a clock that only moves forward.
pub(super) type Nanos = u64;

/// A token bucket: refills at a rate, holds at most a burst. What costs more than the burst never passes.
#[derive(Debug)]
pub(super) struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Option<Nanos>,
}

impl TokenBucket {
    /// A full bucket; a burst of 0 means twice the rate.
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        let burst = if burst == 0 { per_second.saturating_mul(2) } else { burst } as f64;
        Self { per_second: per_second as f64, burst, tokens: burst, at: None }
    }

    /// Takes `cost` tokens if they are there; takes nothing otherwise.
    pub(super) fn take(&mut self, now: Nanos, cost: u64) -> bool {
        let passed = now.saturating_sub(self.at.unwrap_or(now)) as f64 / 1e9;
        self.at = Some(now.max(self.at.unwrap_or(now)));
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        let enough = self.tokens >= cost as f64;
        if enough {
            self.tokens -= cost as f64;
        }
        enough
    }
}

/// Spans kept within one second of the clock.
#[derive(Debug, Default)]
pub(super) struct PerSecond {
    second: u64,
    used: u64,
}

impl PerSecond {
    /// What was used in the second of `now`.
    pub(super) fn used(&mut self, now: Nanos) -> u64 {
        let second = now / 1_000_000_000;
        if second != self.second {
            *self = Self { second, used: 0 };
        }
        self.used
    }

    /// Counts `cost` as used in the current second.
    pub(super) fn add(&mut self, cost: u64) {
        self.used += cost;
    }
}

/// A share of all trace ids: FNV-1a-64 of salt and id, compared with a threshold, as the Collector does.
#[derive(Debug)]
pub(super) struct Share {
    salted: u64,
    threshold: Option<u64>,
}

impl Share {
    /// The Collector's salt where none is configured.
    pub(super) const DEFAULT_SALT: &str = "default-hash-seed";

    /// The share of `percent` (0 to 100) under a salt.
    pub(super) fn new(salt: &str, percent: f64) -> Self {
        let salt = if salt.is_empty() { Self::DEFAULT_SALT } else { salt };
        let threshold = match percent {
            p if p >= 100.0 => Some(u64::MAX),
            p if p > 0.0 => Some((p / 100.0 * u64::MAX as f64) as u64),
            _ => None,
        };
        Self { salted: fnv1a(0xcbf2_9ce4_8422_2325, salt.as_bytes()), threshold }
    }

    /// Whether the trace belongs to the share.
    pub(super) fn holds(&self, id: TraceId) -> bool {
        self.threshold.is_some_and(|t| fnv1a(self.salted, &id.0) <= t)
    }
}

fn fnv1a(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_collector() {
        let check = |id: &str, salt: &str, want: u64| {
            let share = Share::new(salt, 50.0);
            assert_eq!(fnv1a(share.salted, &TraceId::parse_hex(id).unwrap().0), want, "{id}");
        };
        check("ffffffffffffffffffffffffffffffff", "", 0x17be_c373_9634_fe2d);
        check("4bf92f3577b34da6a3ce929d0e0e4736", "", 0xa545_33ba_2e49_70b5);
        check("4bf92f3577b34da6a3ce929d0e0e4736", "s2", 0x2db6_dedb_4b4a_c00c);
        check("0102030405060708090a0b0c0d0e0f10", "", 0xdbcf_64d5_420f_4cad);
    }

    #[test]
    fn buckets_fill_and_empty() {
        let mut bucket = TokenBucket::new(10, 0);
        assert!(bucket.take(0, 15));
        assert!(!bucket.take(0, 10));
        assert!(bucket.take(0, 5));
        assert!(!bucket.take(3_600_000_000_000, 21));
        assert!(bucket.take(3_600_000_000_000, 20));
    }
}
