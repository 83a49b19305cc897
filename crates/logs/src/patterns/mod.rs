//! Log patterns: templates found in lines as they come, counted per level and ten seconds, kept in memory for some hours.
//!
//! Some lines of each push are chosen (`sample`), cut into words (`tokens`) and clustered per stream and level (`drain`). All of it
//! is bounded: lines per second, clusters per stream, bytes per tenant and in all; what was seen longest ago goes first.

mod drain;
mod sample;
mod tokens;

use std::collections::{BTreeMap, HashMap as StdMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use model::{Labels, Matcher, TenantId, Timestamp};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Duration};

use crate::limits::Limits;
use crate::patterns::drain::{Drain, SLOT};
pub use crate::patterns::sample::{Sample, SampleBudget, Sampler, Sampling};
use crate::patterns::tokens::Words;

/// Levels of a stream that are told apart.
const MAX_LEVELS: usize = 12;
/// What a stream costs beside its clusters.
const STREAM_BYTES: usize = 512;
/// How often old counts are let go, in nanoseconds.
const FORGET_EVERY: i64 = 60_000_000_000;
/// Patterns of an answer.
const MAX_ANSWER: usize = 1000;

/// Loki's `pattern_ingester`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PatternConfig {
    /// Whether patterns are looked for. (Loki: false)
    pub enabled: bool,
    /// Most patterns of a stream and level.
    pub max_clusters: usize,
    /// How long counts are kept.
    pub retain_for: Duration,
    /// Memory for the patterns of a tenant. (Ours.)
    pub max_tenant_size: ByteSize,
    /// Memory for all patterns. (Ours.)
    pub max_size: ByteSize,
}

impl Default for PatternConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_clusters: 300,
            retain_for: Duration::from_secs(3 * 3600),
            max_tenant_size: ByteSize::mib(32),
            max_size: ByteSize::mib(96),
        }
    }
}

/// A pattern of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The text, which `|>` takes.
    pub pattern: String,
    /// The level of its lines.
    pub level: String,
    /// Second and lines of each step that has any, ascending.
    pub samples: Vec<(i64, u64)>,
}

/// The patterns of all tenants.
#[derive(Debug)]
pub struct Patterns {
    config: PatternConfig,
    tenants: RwLock<HashMap<TenantId, Arc<Tenant>>>,
    budget: Arc<SampleBudget>,
}

#[derive(Debug, Default)]
struct Tenant {
    streams: Mutex<Streams>,
    bytes: AtomicUsize,
    seen: AtomicI64,
}

#[derive(Debug, Default)]
struct Streams {
    by_labels: HashMap<Labels, Stream>,
    bytes: usize,
    forgot: i64,
    /// Where lines are cut, kept for its memory.
    words: Words,
}

#[derive(Debug, Default)]
struct Stream {
    seen: i64,
    levels: Vec<(Box<str>, Drain)>,
}

impl Patterns {
    /// No patterns yet.
    pub fn new(config: PatternConfig) -> Self {
        Self { config, tenants: RwLock::default(), budget: Arc::default() }
    }

    /// Bounds how many lines are looked at.
    pub fn budget(&self) -> &Arc<SampleBudget> {
        &self.budget
    }

    /// Memory of all patterns, roughly.
    pub fn bytes(&self) -> usize {
        self.tenants.read().values().map(|tenant| tenant.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Looks for patterns in lines that came at `now`.
    pub fn observe(&self, tenant: &TenantId, limits: &Limits, samples: &[Sample], now: Timestamp) {
        if samples.is_empty() {
            return;
        }
        let known = self.tenants.read().get(tenant).cloned();
        let state = known.unwrap_or_else(|| self.tenants.write().entry(tenant.clone()).or_default().clone());
        state.seen.store(now.nanos(), Ordering::Relaxed);
        let bytes = state.streams.lock().observe(&self.config, &limits.pattern_fields(), samples, now);
        state.bytes.store(bytes, Ordering::Relaxed);
        self.shrink();
    }

    /// Lets go of tenants, those without lines for the longest time first, until all fit.
    fn shrink(&self) {
        let most = self.config.max_size.as_usize();
        while self.bytes() > most {
            let mut tenants = self.tenants.write();
            let idle =
                tenants.iter().min_by_key(|(_, t)| t.seen.load(Ordering::Relaxed)).map(|(id, _)| id.clone());
            let Some(idle) = idle else { return };
            tenants.remove(&idle);
        }
    }

    /// The patterns of streams that satisfy all matchers, most frequent first, with their lines in `start..=end` by `step`; all in
    /// nanoseconds.
    pub fn find(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        start: i64,
        end: i64,
        step: i64,
    ) -> Vec<Pattern> {
        let Some(state) = self.tenants.read().get(tenant).cloned() else { return Vec::new() };
        let step = step.max(SLOT).saturating_add(SLOT - 1) / SLOT * SLOT;
        let mut sums: StdMap<(String, String), BTreeMap<i64, u64>> = StdMap::new();
        let streams = state.streams.lock();
        let matching =
            streams.by_labels.iter().filter(|(labels, _)| matchers.iter().all(|m| m.matches_labels(labels)));
        for (level, drain) in matching.flat_map(|(_, stream)| &stream.levels) {
            for (pattern, counts) in drain.patterns() {
                let from = counts.partition_point(|c| (c.0 + 1) * SLOT <= start);
                let counts = counts[from..].iter().take_while(|c| c.0 * SLOT <= end);
                let mut counts = counts.peekable();
                if counts.peek().is_none() {
                    continue;
                }
                let sum = sums.entry((pattern, level.to_string())).or_default();
                for (slot, lines) in counts {
                    let bucket = (slot * SLOT).div_euclid(step) * step / 1_000_000_000;
                    *sum.entry(bucket).or_default() += u64::from(*lines);
                }
            }
        }
        drop(streams);
        in_order(sums)
    }
}

/// One list of the lists of several tenants.
pub fn join(lists: Vec<Vec<Pattern>>) -> Vec<Pattern> {
    let mut sums: StdMap<(String, String), BTreeMap<i64, u64>> = StdMap::new();
    for found in lists.into_iter().flatten() {
        let sum = sums.entry((found.pattern, found.level)).or_default();
        found.samples.iter().for_each(|(second, lines)| *sum.entry(*second).or_default() += lines);
    }
    in_order(sums)
}

/// The most frequent patterns, most frequent first.
fn in_order(sums: StdMap<(String, String), BTreeMap<i64, u64>>) -> Vec<Pattern> {
    let mut found: Vec<(u64, Pattern)> = sums
        .into_iter()
        .map(|((pattern, level), samples)| {
            let total = samples.values().sum();
            (total, Pattern { pattern, level, samples: samples.into_iter().collect() })
        })
        .collect();
    found
        .sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| (&x.pattern, &x.level).cmp(&(&y.pattern, &y.level))));
    found.truncate(MAX_ANSWER);
    found.into_iter().map(|(_, pattern)| pattern).collect()
}

impl Streams {
    /// Returns the bytes of all streams.
    fn observe(
        &mut self,
        config: &PatternConfig,
        fields: &[String],
        samples: &[Sample],
        now: Timestamp,
    ) -> usize {
        let retain = i64::try_from(config.retain_for.get().as_nanos()).unwrap_or(i64::MAX);
        let oldest = now.nanos().saturating_sub(retain);
        for sample in samples {
            // What is older would be forgotten at once; what lies ahead will be in time.
            if sample.timestamp >= oldest {
                self.add(config, fields, sample, now);
            }
        }
        if now.nanos().saturating_sub(self.forgot) > FORGET_EVERY {
            self.forgot = now.nanos();
            self.forget(oldest / SLOT);
        }
        let most = config.max_tenant_size.as_usize();
        if self.bytes > most {
            self.evict(most - most / 8);
        }
        self.bytes
    }

    fn add(&mut self, config: &PatternConfig, fields: &[String], sample: &Sample, now: Timestamp) {
        let stream = match self.by_labels.get_mut(&sample.labels) {
            Some(stream) => stream,
            None => {
                self.bytes += STREAM_BYTES;
                self.by_labels.entry(sample.labels.clone()).or_default()
            }
        };
        stream.seen = now.nanos();
        let level = if sample.level.is_empty() { "unknown" } else { &*sample.level };
        let known = stream.levels.iter().position(|(l, _)| **l == *level);
        let at = known.unwrap_or_else(|| {
            if stream.levels.len() < MAX_LEVELS {
                stream.levels.push((level.into(), Drain::default()));
            }
            stream.levels.len() - 1
        });
        let slot = sample.timestamp.div_euclid(SLOT);
        let drain = &mut stream.levels[at].1;
        let grown =
            drain.add(&sample.line, fields, &mut self.words, slot, sample.weight, config.max_clusters);
        self.bytes = self.bytes.saturating_add_signed(grown);
    }

    fn forget(&mut self, before: i64) {
        let mut freed = 0;
        self.by_labels.retain(|_, stream| {
            stream.levels.retain_mut(|(_, drain)| {
                freed += drain.forget(before);
                !drain.is_empty()
            });
            freed += if stream.levels.is_empty() { STREAM_BYTES } else { 0 };
            !stream.levels.is_empty()
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }

    /// Lets go of streams, those without lines for the longest time first, until `most` bytes are left.
    fn evict(&mut self, most: usize) {
        let mut by_age: Vec<(i64, Labels)> =
            self.by_labels.iter().map(|(labels, stream)| (stream.seen, labels.clone())).collect();
        by_age.sort_unstable_by_key(|(seen, _)| *seen);
        for (_, labels) in by_age {
            if self.bytes <= most {
                break;
            }
            if let Some(stream) = self.by_labels.remove(&labels) {
                let held: usize = stream.levels.iter().map(|(_, drain)| drain.bytes()).sum();
                self.bytes = self.bytes.saturating_sub(held + STREAM_BYTES);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MatchOp;

    const NOW: i64 = 1_700_000_000;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    /// Pattern, level, samples.
    type Shown = (String, String, Vec<(i64, u64)>);

    fn sample(app: &str, second: i64, level: &str, line: &str, weight: u32) -> Sample {
        let labels = Labels::from_pairs([("app", app)]);
        Sample::new(&labels, second * 1_000_000_000, level, line, weight)
    }

    fn find(patterns: &Patterns, name: &str, app: &str, step: i64) -> Vec<Shown> {
        let matcher = Matcher::new("app", MatchOp::Equal, app).unwrap();
        let second = 1_000_000_000;
        let found =
            patterns.find(&tenant(name), &[matcher], (NOW - 60) * second, NOW * second, step * second);
        found.into_iter().map(|p| (p.pattern, p.level, p.samples)).collect()
    }

    #[test]
    fn counts_by_step_level_and_tenant() {
        let patterns = Patterns::new(PatternConfig::default());
        let limits = Limits::default();
        let now = Timestamp::from_seconds(NOW);
        let samples = [
            sample("a", NOW - 35, "info", "took 1 ms", 1),
            sample("a", NOW - 34, "info", "took 2 ms", 3),
            sample("a", NOW - 3, "info", "took 3 ms", 1),
            sample("a", NOW - 3, "", "bad", 2),
            sample("b", NOW - 3, "info", "took 4 ms", 1),
            sample("a", NOW - 4 * 3600, "info", "took 3 ms", 1),
        ];
        patterns.observe(&tenant("t"), &limits, &samples, now);
        patterns.observe(&tenant("u"), &limits, &samples[..1], now);
        let took = |samples| ("took <_> ms".to_owned(), "info".to_owned(), samples);
        let bad = |at| ("bad".to_owned(), "unknown".to_owned(), vec![(at, 2)]);
        assert_eq!(find(&patterns, "t", "a", 1), [took(vec![(NOW - 40, 4), (NOW - 10, 1)]), bad(NOW - 10)]);
        // A step is rounded up to whole slots, and buckets begin at its multiples.
        assert_eq!(find(&patterns, "t", "a", 15), [took(vec![(NOW - 40, 4), (NOW - 20, 1)]), bad(NOW - 20)]);
        assert_eq!(find(&patterns, "u", "a", 1).len(), 1);
        assert_eq!((find(&patterns, "u", "b", 1).len(), find(&patterns, "v", "a", 1).len()), (0, 0));
    }

    #[test]
    fn memory_is_bounded_and_old_counts_go() {
        let config = PatternConfig {
            max_tenant_size: ByteSize::kib(64),
            max_size: ByteSize::kib(100),
            ..PatternConfig::default()
        };
        let patterns = Patterns::new(config);
        let limits = Limits::default();
        for n in 0..3000i64 {
            let name = ["t", "u", "v"][(n / 1000) as usize];
            let line = format!("{} {}", "x".repeat(1 + n as usize % 90), "=".repeat(n as usize % 7));
            let sample = sample(&format!("app{}", n % 500), NOW + n, "info", &line, 1);
            patterns.observe(&tenant(name), &limits, &[sample], Timestamp::from_seconds(NOW + n));
            assert!(patterns.bytes() <= 100 << 10, "{n}: {}", patterns.bytes());
        }
        assert!(patterns.bytes() > 30 << 10 && patterns.tenants.read().len() < 3);
        let later = NOW + 3000 + 5 * 3600;
        let one = [sample("z", later, "info", "x", 1)];
        patterns.observe(&tenant("v"), &limits, &one, Timestamp::from_seconds(later));
        let state = patterns.tenants.read()[&tenant("v")].clone();
        let streams = state.streams.lock();
        let held: usize =
            streams.by_labels.values().flat_map(|s| &s.levels).map(|(_, d)| d.bytes()).sum::<usize>();
        assert_eq!((streams.by_labels.len(), streams.bytes), (1, held + STREAM_BYTES));
    }
}
