//! The state machine: spans in, time in, released spans out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use model::TraceId;

use super::condition::{Bits, Conditions};
use super::config::TailSamplingConfig;
use super::decided::Decided;
use super::limit::Nanos;
use super::policy::{Decision, Facts, Policies};

/// The resource and scope that spans came under, as slices of the request's body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The `Resource` message; empty where the request had none.
    pub resource: Bytes,
    /// `schema_url` of the resource.
    pub resource_schema_url: Bytes,
    /// The `InstrumentationScope` message; empty where the request had none.
    pub scope: Bytes,
    /// `schema_url` of the scope.
    pub scope_schema_url: Bytes,
}

/// Spans of one trace and one origin.
#[derive(Debug, Clone)]
pub struct Group {
    /// Where they come from; groups of one request share it.
    pub origin: Arc<Origin>,
    /// `Span` messages, as slices of the request's body.
    pub spans: Vec<Bytes>,
}

impl Group {
    fn bytes(&self) -> u64 {
        self.spans.iter().map(|s| s.len() as u64).sum()
    }
}

/// What the conditions must know of a span; the driver reads it out of the span once.
#[derive(Debug, Clone, Copy)]
pub struct SpanFacts {
    /// Conditions that the span or its resource passes.
    pub(super) bits: Bits,
    /// ns since the epoch.
    pub(super) start: u64,
    /// ns since the epoch.
    pub(super) end: u64,
    /// Whether a span has no parent.
    pub(super) root: bool,
}

impl SpanFacts {
    /// Facts of no span at all: adds nothing to others.
    pub(super) const NONE: Self = Self { bits: 0, start: u64::MAX, end: 0, root: false };

    /// Facts of several spans together.
    pub(super) fn join(self, other: Self) -> Self {
        Self {
            bits: self.bits | other.bits,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
            root: self.root || other.root,
        }
    }
}

/// Spans to hand on.
#[derive(Debug)]
pub struct Release {
    /// The trace that was kept.
    pub trace: TraceId,
    /// Its spans.
    pub groups: Vec<Group>,
}

/// Counts since the start, and gauges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SamplerStats {
    /// Traces seen for the first time.
    pub new_traces: u64,
    /// Decisions by policy name (empty: none) and outcome.
    pub decided: HashMap<(String, Decision), u64>,
    /// Traces decided before their time because of `num_traces` or `max_memory_mib`.
    pub evicted_decided: u64,
    /// Traces dropped because of `maximum_trace_size_bytes`.
    pub too_large: u64,
    /// Spans handed on after their trace had been kept.
    pub late_kept: u64,
    /// Spans discarded after their trace had been dropped.
    pub late_dropped: u64,
    /// Spans discarded with their trace by a decision.
    pub spans_dropped: u64,
    /// Traces that wait.
    pub waiting: usize,
    /// Protobuf bytes that wait.
    pub waiting_bytes: u64,
}

#[derive(Debug)]
struct Waiting {
    due: Nanos,
    facts: Facts,
    groups: Vec<Group>,
}

/// Holds spans until their trace is decided. Times are nanoseconds of one monotonic clock.
#[derive(Debug)]
pub struct Sampler {
    config: Limits,
    policies: Policies,
    waiting: HashMap<TraceId, Waiting>,
    due: BTreeSet<(Nanos, TraceId)>,
    decided: Decided,
    stats: SamplerStats,
}

#[derive(Debug)]
struct Limits {
    wait: Nanos,
    wait_after_root: Option<Nanos>,
    traces: usize,
    bytes: u64,
    trace_bytes: Option<u64>,
    refuse_on_overflow: bool,
    drop_on_shutdown: bool,
}

/// The sampler is full and configured to refuse new traces rather than decide early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{traces} traces wait for their sampling decision: raise num_traces or unset block_on_overflow")]
pub struct Full {
    /// How many traces wait.
    pub traces: usize,
}

impl Sampler {
    /// Makes a sampler; all problems of the configuration come back together.
    pub fn new(config: &TailSamplingConfig) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if config.sampling_strategy != "trace-complete" {
            problems.push(format!(
                "sampling_strategy: '{}' is not built; use trace-complete",
                config.sampling_strategy
            ));
        }
        if config.num_traces == 0 {
            problems.push("num_traces: must be above 0".to_owned());
        }
        let policies = Policies::compile(&config.policies, config.sample_on_first_match);
        let policies = match policies {
            Ok(policies) if problems.is_empty() => policies,
            Ok(_) => return Err(problems),
            Err(more) => return Err(problems.into_iter().chain(more).collect()),
        };
        let nanos = |d: &service::config::Duration| u64::try_from(d.get().as_nanos()).unwrap_or(u64::MAX);
        let after_root = nanos(&config.decision_wait_after_root_received);
        let remembered = |configured: usize| {
            if configured > 0 { configured } else { config.num_traces.saturating_mul(10) }
        };
        let cache = &config.decision_cache;
        Ok(Self {
            config: Limits {
                wait: nanos(&config.decision_wait),
                wait_after_root: (after_root > 0).then_some(after_root),
                traces: config.num_traces,
                bytes: config.max_memory_mib.saturating_mul(1 << 20),
                trace_bytes: (config.maximum_trace_size_bytes > 0).then_some(config.maximum_trace_size_bytes),
                refuse_on_overflow: config.block_on_overflow,
                drop_on_shutdown: config.drop_pending_traces_on_shutdown,
            },
            policies,
            waiting: HashMap::new(),
            due: BTreeSet::new(),
            decided: Decided::new(
                remembered(cache.sampled_cache_size),
                remembered(cache.non_sampled_cache_size),
            ),
            stats: SamplerStats::default(),
        })
    }

    /// The conditions that the policies need to know of each span.
    pub fn conditions(&self) -> Arc<Conditions> {
        self.policies.conditions.clone()
    }

    /// Whether there is room for a request that may bring new traces; see `block_on_overflow`.
    pub fn admit(&self) -> Result<(), Full> {
        let full = self.config.refuse_on_overflow
            && (self.waiting.len() >= self.config.traces || self.stats.waiting_bytes >= self.config.bytes);
        if full { Err(Full { traces: self.waiting.len() }) } else { Ok(()) }
    }

    /// Takes spans of one trace. What is to be handed on at once (late spans of a kept trace, traces
    /// decided early to make room) is appended to `out`.
    pub fn add(&mut self, now: Nanos, id: TraceId, group: Group, facts: SpanFacts, out: &mut Vec<Release>) {
        match self.decided.get(&id) {
            Some(true) => {
                self.stats.late_kept += group.spans.len() as u64;
                out.push(Release { trace: id, groups: vec![group] });
                return;
            }
            Some(false) => {
                self.stats.late_dropped += group.spans.len() as u64;
                return;
            }
            None => {}
        }
        let bytes = group.bytes();
        let limits = &self.config;
        let trace = self.waiting.entry(id).or_insert_with(|| {
            self.stats.new_traces += 1;
            let due = now.saturating_add(limits.wait);
            self.due.insert((due, id));
            let facts = Facts { id, bits: 0, start: u64::MAX, end: 0, spans: 0, bytes: 0 };
            Waiting { due, facts, groups: Vec::new() }
        });
        trace.facts.bits |= facts.bits;
        trace.facts.start = trace.facts.start.min(facts.start);
        trace.facts.end = trace.facts.end.max(facts.end);
        trace.facts.spans += group.spans.len() as u64;
        trace.facts.bytes += bytes;
        trace.groups.push(group);
        self.stats.waiting_bytes += bytes;
        if let (true, Some(wait)) = (facts.root, limits.wait_after_root) {
            let due = trace.due.min(now.saturating_add(wait));
            self.due.remove(&(trace.due, id));
            self.due.insert((due, id));
            trace.due = due;
        }
        if limits.trace_bytes.is_some_and(|max| trace.facts.bytes > max) {
            self.drop_large(id);
        }
        while self.waiting.len() > self.config.traces || self.stats.waiting_bytes > self.config.bytes {
            self.stats.evicted_decided += 1;
            self.decide_next(now, out);
        }
        self.stats.waiting = self.waiting.len();
    }

    /// Decides what is due and appends kept traces to `out`.
    pub fn tick(&mut self, now: Nanos, out: &mut Vec<Release>) {
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            self.decide_next(now, out);
        }
        self.stats.waiting = self.waiting.len();
    }

    /// When [`tick`](Self::tick) has work next.
    pub fn next_due(&self) -> Option<Nanos> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Decides everything that waits with what is there, or drops it where configured so.
    pub fn finish(&mut self, now: Nanos, out: &mut Vec<Release>) {
        if self.config.drop_on_shutdown {
            self.stats.spans_dropped += self.waiting.values().map(|w| w.facts.spans).sum::<u64>();
            self.waiting.clear();
            self.due.clear();
            self.stats.waiting_bytes = 0;
        }
        while !self.due.is_empty() {
            self.decide_next(now, out);
        }
        self.stats.waiting = 0;
    }

    /// Counts and gauges.
    pub fn stats(&self) -> &SamplerStats {
        &self.stats
    }

    fn decide_next(&mut self, now: Nanos, out: &mut Vec<Release>) {
        let Some((_, id)) = self.due.pop_first() else { return };
        let Some(trace) = self.waiting.remove(&id) else { return };
        self.stats.waiting_bytes -= trace.facts.bytes;
        let (decision, policy) = self.policies.decide(now, &trace.facts);
        let count = (policy.unwrap_or_default().to_owned(), decision);
        *self.stats.decided.entry(count).or_default() += 1;
        let kept = decision == Decision::Sampled;
        self.decided.insert(id, kept);
        if kept {
            out.push(Release { trace: id, groups: trace.groups });
        } else {
            self.stats.spans_dropped += trace.facts.spans;
        }
    }

    fn drop_large(&mut self, id: TraceId) {
        if let Some(trace) = self.waiting.remove(&id) {
            self.due.remove(&(trace.due, id));
            self.stats.waiting_bytes -= trace.facts.bytes;
            self.stats.too_large += 1;
            self.stats.spans_dropped += trace.facts.spans;
            self.decided.insert(id, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    fn sampler(config: serde_json::Value) -> Sampler {
        Sampler::new(&serde_json::from_value(config).unwrap()).unwrap()
    }

    fn id(n: u8) -> TraceId {
        TraceId([n; 16])
    }

    fn group(bytes: usize) -> Group {
        Group { origin: Arc::default(), spans: vec![Bytes::from(vec![0; bytes])] }
    }

    fn facts(root: bool, error: bool) -> SpanFacts {
        SpanFacts { bits: u128::from(error), start: 0, end: 0, root }
    }

    /// Adds one span and returns how many spans come out at once.
    fn add(sampler: &mut Sampler, now: Nanos, trace: u8, bytes: usize, facts: SpanFacts) -> usize {
        let mut out = Vec::new();
        sampler.add(now, id(trace), group(bytes), facts, &mut out);
        spans(&out)
    }

    fn tick(sampler: &mut Sampler, now: Nanos) -> usize {
        let mut out = Vec::new();
        sampler.tick(now, &mut out);
        spans(&out)
    }

    fn spans(out: &[Release]) -> usize {
        out.iter().flat_map(|r| &r.groups).map(|g| g.spans.len()).sum()
    }

    fn always() -> serde_json::Value {
        serde_json::json!([{"name": "all", "type": "always_sample"}])
    }

    fn errors() -> serde_json::Value {
        serde_json::json!([{"name": "e", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}])
    }

    #[test]
    fn late_spans_follow_the_decision() {
        let mut kept = sampler(serde_json::json!({"decision_wait": "10s", "policies": always()}));
        assert_eq!(add(&mut kept, 0, 1, 10, facts(true, false)), 0);
        assert_eq!(tick(&mut kept, 10 * S - 1), 0);
        assert_eq!(tick(&mut kept, 10 * S), 1);
        assert_eq!(add(&mut kept, 12 * S, 1, 10, facts(false, false)), 1);

        let mut dropped = sampler(serde_json::json!({"decision_wait": "10s", "policies": errors()}));
        add(&mut dropped, 0, 1, 10, facts(true, false));
        assert_eq!(tick(&mut dropped, 10 * S), 0);
        assert_eq!(add(&mut dropped, 12 * S, 1, 10, facts(false, true)), 0);
        assert_eq!(tick(&mut dropped, 60 * S), 0);
        assert_eq!(dropped.stats().late_dropped, 1);
    }

    #[test]
    fn a_root_brings_the_decision_forward_but_never_back() {
        let config = serde_json::json!({"decision_wait": "10s", "decision_wait_after_root_received": "2s", "policies": always()});
        let mut soon = sampler(config.clone());
        add(&mut soon, 0, 1, 10, facts(false, false));
        add(&mut soon, S, 1, 10, facts(true, false));
        add(&mut soon, 5 * S / 2, 1, 10, facts(false, false));
        assert_eq!(soon.next_due(), Some(3 * S));
        assert_eq!(tick(&mut soon, 3 * S), 3);
        let mut planned = sampler(config);
        add(&mut planned, 0, 1, 10, facts(false, false));
        add(&mut planned, 19 * S / 2, 1, 10, facts(true, false));
        assert_eq!(planned.next_due(), Some(10 * S));
    }

    #[test]
    fn overflow_decides_early_and_loses_nothing() {
        let mut sampler =
            sampler(serde_json::json!({"decision_wait": "10s", "num_traces": 2, "policies": always()}));
        add(&mut sampler, 0, 1, 10, facts(true, false));
        add(&mut sampler, S, 2, 10, facts(true, false));
        assert_eq!(add(&mut sampler, 2 * S, 3, 10, facts(true, false)), 1);
        assert_eq!(sampler.stats().evicted_decided, 1);
        assert_eq!(tick(&mut sampler, 11 * S), 1);
        assert_eq!(tick(&mut sampler, 12 * S), 1);
    }

    #[test]
    fn refuses_when_told_to() {
        let config = serde_json::json!({"num_traces": 1, "block_on_overflow": true, "policies": always()});
        let mut sampler = sampler(config);
        assert_eq!(sampler.admit(), Ok(()));
        add(&mut sampler, 0, 1, 10, facts(true, false));
        assert_eq!(sampler.admit(), Err(Full { traces: 1 }));
        tick(&mut sampler, 60 * S);
        assert_eq!(sampler.admit(), Ok(()));
    }

    #[test]
    fn large_traces_are_dropped_and_freed_at_once() {
        let config = serde_json::json!({"maximum_trace_size_bytes": 1000, "policies": always()});
        let mut sampler = sampler(config);
        add(&mut sampler, 0, 1, 600, facts(true, false));
        add(&mut sampler, 1, 1, 600, facts(false, false));
        assert_eq!(sampler.stats().waiting_bytes, 0);
        assert_eq!(add(&mut sampler, 2, 1, 100, facts(false, false)), 0);
        assert_eq!((sampler.stats().too_large, sampler.stats().late_dropped), (1, 1));
    }

    #[test]
    fn finish_decides_or_drops() {
        let finish = |drop: bool| {
            let config = serde_json::json!({"drop_pending_traces_on_shutdown": drop, "policies": errors()});
            let mut sampler = sampler(config);
            add(&mut sampler, 0, 1, 10, facts(true, true));
            let mut out = Vec::new();
            sampler.finish(5 * S, &mut out);
            assert_eq!(sampler.stats().waiting_bytes, 0);
            spans(&out)
        };
        assert_eq!((finish(false), finish(true)), (1, 0));
    }
}
