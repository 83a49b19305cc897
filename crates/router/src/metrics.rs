//! The router's metrics, under the Collector's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::Metrics;
use wire::otlp::Signal;

use crate::sampling::{Decision, SamplerStats};

/// Which receiver.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReceiverLabels {
    /// Id.
    pub receiver: String,
    /// `grpc` or `http`.
    pub transport: String,
}

/// Which exporter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExporterLabels {
    /// Id.
    pub exporter: String,
}

/// Which decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    /// The policy that gave it; empty if none did.
    pub policy: String,
    /// Whether the trace was kept: `true` or `false`.
    pub sampled: String,
    /// `sampled`, `not_sampled` or `dropped`.
    pub decision: String,
}

/// One counter for each signal.
#[derive(Clone, Debug)]
struct PerSignal<L> {
    spans: Family<L, Counter>,
    log_records: Family<L, Counter>,
}

impl<L: Clone + std::fmt::Debug + PartialEq + Eq + std::hash::Hash + EncodeLabelSet + Send + Sync + 'static>
    PerSignal<L>
{
    fn register(metrics: &Metrics, name: &str, help: &str) -> Self {
        let both = Self { spans: Family::default(), log_records: Family::default() };
        metrics.register(&format!("{name}_spans"), &format!("Spans {help}"), both.spans.clone());
        metrics.register(
            &format!("{name}_log_records"),
            &format!("Log records {help}"),
            both.log_records.clone(),
        );
        both
    }

    fn add(&self, signal: Signal, labels: &L, count: u64) {
        let family = match signal {
            Signal::Traces => &self.spans,
            Signal::Logs => &self.log_records,
        };
        family.get_or_create(labels).inc_by(count);
    }
}

/// Counts of receivers.
#[derive(Clone, Debug)]
pub struct ReceiverMetrics {
    accepted: PerSignal<ReceiverLabels>,
    refused: PerSignal<ReceiverLabels>,
    failed: PerSignal<ReceiverLabels>,
}

impl ReceiverMetrics {
    /// Registers the counters; `metrics` has the prefix `otelcol`.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            accepted: PerSignal::register(metrics, "receiver_accepted", "taken by a pipeline"),
            refused: PerSignal::register(metrics, "receiver_refused", "that a pipeline did not take"),
            failed: PerSignal::register(
                metrics,
                "receiver_failed",
                "in requests that could not be read, one a request",
            ),
        }
    }

    /// Counts a request that was read.
    pub fn count(&self, signal: Signal, labels: &ReceiverLabels, items: u64, taken: bool) {
        let counter = if taken { &self.accepted } else { &self.refused };
        counter.add(signal, labels, items);
    }

    /// Counts a request that could not be read.
    pub fn failed(&self, signal: Signal, labels: &ReceiverLabels) {
        self.failed.add(signal, labels, 1);
    }
}

/// Counts of exporters.
#[derive(Clone, Debug)]
pub struct ExporterMetrics {
    sent: PerSignal<ExporterLabels>,
    send_failed: PerSignal<ExporterLabels>,
}

impl ExporterMetrics {
    /// Registers the counters; `metrics` has the prefix `otelcol`.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            sent: PerSignal::register(metrics, "exporter_sent", "that the destination took"),
            send_failed: PerSignal::register(
                metrics,
                "exporter_send_failed",
                "in tries that the destination did not take",
            ),
        }
    }

    /// Counts a try.
    pub fn count(&self, signal: Signal, labels: &ExporterLabels, items: u64, taken: bool) {
        let counter = if taken { &self.sent } else { &self.send_failed };
        counter.add(signal, labels, items);
    }
}

/// Counts of `tail_sampling`, brought up to date from the sampler's own.
#[derive(Clone, Debug)]
pub struct SamplingMetrics {
    decisions: Family<DecisionLabels, Counter>,
    new_traces: Counter,
    evicted: Counter,
    too_large: Counter,
    late_kept: Counter,
    late_dropped: Counter,
    spans_dropped: Counter,
    waiting: Gauge,
    waiting_bytes: Gauge,
}

impl SamplingMetrics {
    /// Registers the counters; `metrics` has the prefix `otelcol_processor_tail_sampling`.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self {
            decisions: Family::default(),
            new_traces: Counter::default(),
            evicted: Counter::default(),
            too_large: Counter::default(),
            late_kept: Counter::default(),
            late_dropped: Counter::default(),
            spans_dropped: Counter::default(),
            waiting: Gauge::default(),
            waiting_bytes: Gauge::default(),
        };
        metrics.register("count_traces_sampled", "Decisions, by policy and outcome", all.decisions.clone());
        metrics.register("new_trace_id_received", "Traces seen for the first time", all.new_traces.clone());
        metrics.register("evicted_decided", "Traces decided early to make room", all.evicted.clone());
        metrics.register(
            "traces_dropped_too_large",
            "Traces over maximum_trace_size_bytes",
            all.too_large.clone(),
        );
        metrics.register(
            "late_spans_kept",
            "Spans handed on after their trace was kept",
            all.late_kept.clone(),
        );
        metrics.register(
            "late_spans_dropped",
            "Spans discarded after their trace was dropped",
            all.late_dropped.clone(),
        );
        metrics.register("spans_dropped", "Spans discarded by a decision", all.spans_dropped.clone());
        metrics.register("sampling_traces_on_memory", "Traces that wait for a decision", all.waiting.clone());
        metrics.register(
            "waiting_bytes",
            "Bytes of spans that wait for a decision",
            all.waiting_bytes.clone(),
        );
        all
    }

    /// Adds what happened between two looks at the sampler.
    pub fn update(&self, before: &SamplerStats, now: &SamplerStats) {
        for ((policy, decision), count) in &now.decided {
            let old = before.decided.get(&(policy.clone(), *decision)).copied().unwrap_or_default();
            let (sampled, decision) = match decision {
                Decision::Sampled => ("true", "sampled"),
                Decision::NotSampled => ("false", "not_sampled"),
                Decision::Dropped => ("false", "dropped"),
            };
            let labels =
                DecisionLabels { policy: policy.clone(), sampled: sampled.into(), decision: decision.into() };
            self.decisions.get_or_create(&labels).inc_by(count - old);
        }
        self.new_traces.inc_by(now.new_traces - before.new_traces);
        self.evicted.inc_by(now.evicted_decided - before.evicted_decided);
        self.too_large.inc_by(now.too_large - before.too_large);
        self.late_kept.inc_by(now.late_kept - before.late_kept);
        self.late_dropped.inc_by(now.late_dropped - before.late_dropped);
        self.spans_dropped.inc_by(now.spans_dropped - before.spans_dropped);
        self.waiting.set(now.waiting as i64);
        self.waiting_bytes.set(now.waiting_bytes as i64);
    }
}
