//! The agent's metrics, under Promtail's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::Metrics;

use crate::pipeline::CustomMetrics;

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PathLabels {
    /// Its path.
    pub path: String,
}

/// Why lines ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// Such as `drop_stage`.
    pub reason: String,
}

/// Which label's lines ended by `limit`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DroppedByLabel {
    /// The label that lines are limited by.
    pub label_name: String,
    /// Its value.
    pub label_value: String,
}

/// What pipeline stages count. Cheap to clone; all pipelines of a process share it.
#[derive(Clone, Debug, Default)]
pub struct StageMetrics {
    /// Lines that stages dropped.
    pub dropped: Family<ReasonLabels, Counter>,
    /// Lines that `limit` dropped, by the label they are limited by.
    pub dropped_by_label: Family<DroppedByLabel, Counter>,
    /// Metrics of the `metrics` stage.
    pub custom: CustomMetrics,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HostLabels {
    /// Host and port of the client's URL.
    pub host: String,
}

/// Which store and tenant, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LossLabels {
    /// Host and port of the client's URL.
    pub host: String,
    /// The tenant, or empty.
    pub tenant: String,
    /// Such as `ingester_error`.
    pub reason: String,
}

/// All counters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AgentMetrics {
    /// Lines read.
    pub read_lines: Family<PathLabels, Counter>,
    /// Bytes read.
    pub read_bytes: Family<PathLabels, Gauge>,
    /// What pipeline stages count.
    pub stages: StageMetrics,
    /// Lines the store has taken.
    pub sent_entries: Family<HostLabels, Counter>,
    /// Bytes of requests the store has taken.
    pub sent_bytes: Family<HostLabels, Counter>,
    /// Lines the store will never take.
    pub dropped_entries: Family<LossLabels, Counter>,
    /// Tries after the first.
    pub batch_retries: Family<HostLabels, Counter>,
    /// Lines read of containers over the engine's API.
    pub docker_entries: Counter,
}

impl AgentMetrics {
    /// Registers the counters.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        let promtail = metrics.prefixed("promtail");
        promtail.register("read_lines", "Lines read, by file", all.read_lines.clone());
        promtail.register("read_bytes_total", "Bytes read, by file", all.read_bytes.clone());
        promtail.register("sent_entries", "Lines that the store has taken", all.sent_entries.clone());
        promtail.register("sent_bytes", "Bytes of requests that the store has taken", all.sent_bytes.clone());
        promtail.register(
            "dropped_entries",
            "Lines that the store will never take",
            all.dropped_entries.clone(),
        );
        promtail.register("batch_retries", "Tries of a batch after the first", all.batch_retries.clone());
        promtail.register(
            "docker_target_entries",
            "Lines read over the engine's API",
            all.docker_entries.clone(),
        );
        metrics.register(
            "logentry_dropped_lines",
            "Lines that stages dropped, by reason",
            all.stages.dropped.clone(),
        );
        metrics.register(
            "logentry_dropped_lines_by_label",
            "Lines that limit dropped, by the label they are limited by",
            all.stages.dropped_by_label.clone(),
        );
        metrics.collect(all.stages.custom.clone());
        all
    }
}
