//! The agent's metrics, under Promtail's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use service::Metrics;

use crate::pipeline::CustomMetrics;

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PathLabels {
    /// Its path.
    pub path: String,
}

/// What is known of each file. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct FileMetrics {
    size: Family<PathLabels, Gauge>,
    read: Family<PathLabels, Gauge>,
    acknowledged: Family<PathLabels, Gauge>,
    lag: Family<PathLabels, Gauge>,
}

/// What is known of one file.
#[derive(Clone, Debug, Default)]
pub struct FileGauges {
    size: Gauge,
    read: Gauge,
    acknowledged: Gauge,
    lag: Gauge,
}

impl FileMetrics {
    /// The file that lies at a path.
    pub fn of(&self, path: &str) -> FileGauges {
        let labels = PathLabels { path: path.to_owned() };
        FileGauges {
            size: self.size.get_or_create_owned(&labels),
            read: self.read.get_or_create_owned(&labels),
            acknowledged: self.acknowledged.get_or_create_owned(&labels),
            lag: self.lag.get_or_create_owned(&labels),
        }
    }

    /// Nothing is read there any more.
    pub fn forget(&self, path: &str) {
        let labels = PathLabels { path: path.to_owned() };
        for family in [&self.size, &self.read, &self.acknowledged, &self.lag] {
            family.remove(&labels);
        }
    }

    fn register(&self, promtail: &Metrics) {
        for (name, help, family) in [
            ("file_bytes_total", "Sizes of files that are followed", &self.size),
            ("read_bytes_total", "Bytes read, by file", &self.read),
            ("file_acknowledged_bytes", "Bytes that every store has taken, by file", &self.acknowledged),
            ("file_lag_bytes", "Bytes that some store has not taken yet, by file", &self.lag),
        ] {
            promtail.register(name, help, family.clone());
        }
    }
}

impl FileGauges {
    /// Sets all of them, in bytes.
    pub fn set(&self, size: u64, read: u64, acknowledged: u64) {
        self.size.set(size as i64);
        self.read.set(read as i64);
        self.acknowledged.set(acknowledged as i64);
        self.lag.set(size.saturating_sub(acknowledged) as i64);
    }
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

/// Which store and tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TenantLabels {
    /// Host and port of the client's URL.
    pub host: String,
    /// The tenant, or empty.
    pub tenant: String,
}

/// Which store, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnswerLabels {
    /// The HTTP status, `-1` where there was no answer.
    pub status_code: String,
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

/// Durations of requests, by answer.
pub type RequestSeconds = Family<AnswerLabels, Histogram, fn() -> Histogram>;

/// Go's default buckets, which Promtail's dashboards expect.
fn request_buckets() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

/// All counters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    /// Lines read.
    pub read_lines: Family<PathLabels, Counter>,
    /// What is known of each file.
    pub files: FileMetrics,
    /// Files that are followed.
    pub files_active: Gauge,
    /// Bytes of files that were truncated, or deleted and closed, before they were delivered.
    pub lost_bytes: Counter,
    /// Generations of files that came and went between two looks and were found, or of which nobody knows how they ended.
    pub missed_generations: Counter,
    /// What pipeline stages count.
    pub stages: StageMetrics,
    /// Lines the store has taken.
    pub sent_entries: Family<HostLabels, Counter>,
    /// Bytes of requests the store has taken.
    pub sent_bytes: Family<HostLabels, Counter>,
    /// Bytes of requests before they are sent, those that are sent again counted again.
    pub encoded_bytes: Family<HostLabels, Counter>,
    /// Lines the store will never take, or that a limit ended.
    pub dropped_entries: Family<LossLabels, Counter>,
    /// Bytes of such lines.
    pub dropped_bytes: Family<LossLabels, Counter>,
    /// Lines that a limit cut.
    pub mutated_entries: Family<LossLabels, Counter>,
    /// Bytes that were cut off.
    pub mutated_bytes: Family<LossLabels, Counter>,
    /// How long requests took.
    pub request_duration: RequestSeconds,
    /// Tries after the first.
    pub batch_retries: Family<TenantLabels, Counter>,
    /// Lines of files that a store cannot know again, because nothing can be written beside the positions.
    pub unidentified: Counter,
    /// Files with positions that were damaged when they were read.
    pub positions_damaged: Counter,
    /// Lines read of containers over the engine's API.
    pub docker_entries: Counter,
    /// Output of containers that could not be understood.
    pub docker_parsing_errors: Counter,
    /// Reloads that are in force.
    pub reload_success: Counter,
    /// Reloads that changed nothing, because of what is wrong with the new configuration.
    pub reload_fail: Counter,
}

impl Default for AgentMetrics {
    fn default() -> Self {
        Self {
            read_lines: Family::default(),
            files: FileMetrics::default(),
            files_active: Gauge::default(),
            lost_bytes: Counter::default(),
            missed_generations: Counter::default(),
            stages: StageMetrics::default(),
            sent_entries: Family::default(),
            sent_bytes: Family::default(),
            encoded_bytes: Family::default(),
            dropped_entries: Family::default(),
            dropped_bytes: Family::default(),
            mutated_entries: Family::default(),
            mutated_bytes: Family::default(),
            request_duration: Family::new_with_constructor(request_buckets as fn() -> Histogram),
            batch_retries: Family::default(),
            unidentified: Counter::default(),
            positions_damaged: Counter::default(),
            docker_entries: Counter::default(),
            docker_parsing_errors: Counter::default(),
            reload_success: Counter::default(),
            reload_fail: Counter::default(),
        }
    }
}

impl AgentMetrics {
    /// The same for a reader whose lines another reader counts already, as all but the first client have one: what is read and what
    /// stages do is counted aside, what is sent is not.
    pub(crate) fn apart(&self) -> Self {
        let aside = Self::default();
        Self {
            read_lines: aside.read_lines,
            files: aside.files,
            files_active: aside.files_active,
            lost_bytes: aside.lost_bytes,
            missed_generations: aside.missed_generations,
            stages: aside.stages,
            docker_entries: aside.docker_entries,
            docker_parsing_errors: aside.docker_parsing_errors,
            ..self.clone()
        }
    }

    /// Registers the counters.
    pub fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        let promtail = metrics.prefixed("promtail");
        promtail.register("read_lines", "Lines read, by file", all.read_lines.clone());
        all.files.register(&promtail);
        promtail.register("files_active_total", "Files that are followed", all.files_active.clone());
        promtail.register("sent_entries", "Lines that the store has taken", all.sent_entries.clone());
        promtail.register("sent_bytes", "Bytes of requests that the store has taken", all.sent_bytes.clone());
        promtail.register("encoded_bytes", "Bytes of requests, by store", all.encoded_bytes.clone());
        promtail.register(
            "dropped_entries",
            "Lines that the store will never take, or that a limit ended, by reason",
            all.dropped_entries.clone(),
        );
        promtail.register("dropped_bytes", "Bytes of dropped lines, by reason", all.dropped_bytes.clone());
        promtail.register(
            "mutated_entries",
            "Lines that a limit cut, by reason",
            all.mutated_entries.clone(),
        );
        promtail.register("mutated_bytes", "Bytes cut off lines, by reason", all.mutated_bytes.clone());
        promtail.register(
            "request_duration_seconds",
            "Duration of requests to stores, by answer",
            all.request_duration.clone(),
        );
        promtail.register("batch_retries", "Tries of a batch after the first", all.batch_retries.clone());
        for (name, help, counter) in [
            ("file_lost_bytes", "Bytes of files that vanished before they were delivered", &all.lost_bytes),
            (
                "file_missed_generations",
                "Generations of files that came and went unseen and were found, or whose end is lost",
                &all.missed_generations,
            ),
            (
                "unidentified_entries",
                "Lines that may be stored twice after a crash, because positions cannot be written",
                &all.unidentified,
            ),
            (
                "positions_damaged",
                "Files with positions that were damaged when they were read; older ones were used",
                &all.positions_damaged,
            ),
            ("docker_target_entries", "Lines read over the engine's API", &all.docker_entries),
            (
                "docker_target_parsing_errors",
                "Output of containers that could not be understood",
                &all.docker_parsing_errors,
            ),
            ("config_reload_success", "Reloads of the configuration that are in force", &all.reload_success),
            (
                "config_reload_fail",
                "Reloads of the configuration that changed nothing, because something is wrong with it",
                &all.reload_fail,
            ),
        ] {
            promtail.register(name, help, counter.clone());
        }
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
