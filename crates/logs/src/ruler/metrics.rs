//! The metrics by which dashboards of Loki and Prometheus know rulers.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use service::Metrics;

use crate::ruler::group::GroupId;

/// Labels of a group's metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfGroup {
    user: String,
    rule_group: String,
}

/// Labels of an Alertmanager's metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfAlertmanager {
    pub(crate) user: String,
    pub(crate) alertmanager: String,
}

/// Labels of a remote write destination's metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfRemote {
    pub(crate) remote_name: String,
    pub(crate) url: String,
}

/// Labels of dropped samples.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Dropped {
    pub(crate) remote_name: String,
    pub(crate) url: String,
    pub(crate) reason: &'static str,
}

/// Labels of a tenant's metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfTenant {
    pub(crate) user: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct RulerMetrics {
    without_group: bool,
    pub(crate) evaluations: Family<OfGroup, Counter>,
    pub(crate) failures: Family<OfGroup, Counter>,
    pub(crate) evaluation_seconds: Histogram,
    pub(crate) iterations: Family<OfGroup, Counter>,
    pub(crate) missed: Family<OfGroup, Counter>,
    pub(crate) interval: Family<OfGroup, Seconds>,
    pub(crate) last_duration: Family<OfGroup, Seconds>,
    pub(crate) last_evaluation: Family<OfGroup, Seconds>,
    pub(crate) last_samples: Family<OfGroup, Gauge>,
    pub(crate) rules: Family<OfGroup, Gauge>,
    pub(crate) sent: Family<OfAlertmanager, Counter>,
    pub(crate) errors: Family<OfAlertmanager, Counter>,
    pub(crate) dropped: Family<OfTenant, Counter>,
    pub(crate) queue_length: Gauge,
    pub(crate) queue_capacity: Gauge,
    pub(crate) reloads: Family<OfTenant, Counter>,
    pub(crate) reload_successful: Family<OfTenant, Gauge>,
    pub(crate) appended: Counter,
    pub(crate) append_failures: Counter,
    pub(crate) remote_samples: Family<OfRemote, Counter>,
    pub(crate) remote_failed: Family<OfRemote, Counter>,
    pub(crate) remote_retried: Family<OfRemote, Counter>,
    pub(crate) remote_dropped: Family<Dropped, Counter>,
    pub(crate) remote_pending: Family<OfRemote, Gauge>,
    pub(crate) remote_bytes: Family<OfRemote, Counter>,
    pub(crate) remote_highest: Family<OfRemote, Seconds>,
}

impl RulerMetrics {
    /// Registers them; `metrics` has the prefix `loki`.
    pub(crate) fn register(metrics: &Metrics, without_group: bool) -> Self {
        const BUCKETS: [f64; 10] = [0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];
        let own = Self {
            without_group,
            evaluations: Family::default(),
            failures: Family::default(),
            evaluation_seconds: Histogram::new(BUCKETS),
            iterations: Family::default(),
            missed: Family::default(),
            interval: Family::default(),
            last_duration: Family::default(),
            last_evaluation: Family::default(),
            last_samples: Family::default(),
            rules: Family::default(),
            sent: Family::default(),
            errors: Family::default(),
            dropped: Family::default(),
            queue_length: Gauge::default(),
            queue_capacity: Gauge::default(),
            reloads: Family::default(),
            reload_successful: Family::default(),
            appended: Counter::default(),
            append_failures: Counter::default(),
            remote_samples: Family::default(),
            remote_failed: Family::default(),
            remote_retried: Family::default(),
            remote_dropped: Family::default(),
            remote_pending: Family::default(),
            remote_bytes: Family::default(),
            remote_highest: Family::default(),
        };
        let rule = metrics.prefixed("prometheus_rule");
        rule.register("evaluations", "Evaluations of rules", own.evaluations.clone());
        rule.register("evaluation_failures", "Evaluations of rules that failed", own.failures.clone());
        rule.register(
            "evaluation_duration_seconds",
            "Duration of evaluations of rules",
            own.evaluation_seconds.clone(),
        );
        let group = metrics.prefixed("prometheus_rule_group");
        group.register("iterations", "Evaluations of groups that were due", own.iterations.clone());
        group.register(
            "iterations_missed",
            "Those that were passed over because one before took too long",
            own.missed.clone(),
        );
        group.register("interval_seconds", "Interval of the group", own.interval.clone());
        group.register(
            "last_duration_seconds",
            "Duration of the last evaluation of the group",
            own.last_duration.clone(),
        );
        group.register(
            "last_evaluation_timestamp_seconds",
            "Time of the last evaluation of the group",
            own.last_evaluation.clone(),
        );
        group.register(
            "last_evaluation_samples",
            "Samples that the last evaluation of the group gave",
            own.last_samples.clone(),
        );
        group.register("rules", "Rules of the group", own.rules.clone());
        let notifications = metrics.prefixed("prometheus_notifications");
        notifications.register("sent", "Alerts sent, by Alertmanager", own.sent.clone());
        notifications.register(
            "errors",
            "Requests with alerts that failed, by Alertmanager",
            own.errors.clone(),
        );
        notifications.register(
            "dropped",
            "Alerts that no Alertmanager took, or that found the queue full",
            own.dropped.clone(),
        );
        notifications.register("queue_length", "Alerts that wait to be sent", own.queue_length.clone());
        notifications.register(
            "queue_capacity",
            "Alerts that may wait to be sent",
            own.queue_capacity.clone(),
        );
        let ruler = metrics.prefixed("ruler");
        ruler.register(
            "config_updates",
            "Changes of the rules of a tenant that were put to work",
            own.reloads.clone(),
        );
        ruler.register(
            "config_last_reload_successful",
            "Whether the rules of a tenant could be read when last looked at",
            own.reload_successful.clone(),
        );
        let wal = metrics.prefixed("ruler_wal");
        wal.register(
            "samples_appended",
            "Recorded samples written to the queue on disk",
            own.appended.clone(),
        );
        wal.register(
            "append_failures",
            "Attempts to do so that failed; their samples are lost",
            own.append_failures.clone(),
        );
        let remote = metrics.prefixed("ruler_wal_prometheus_remote_storage");
        remote.register("samples", "Samples that a destination took", own.remote_samples.clone());
        remote.register(
            "samples_failed",
            "Samples that a destination refused for good",
            own.remote_failed.clone(),
        );
        remote.register(
            "samples_retried",
            "Samples in requests that are tried again",
            own.remote_retried.clone(),
        );
        remote.register("samples_dropped", "Samples dropped unsent, by reason", own.remote_dropped.clone());
        remote.register("samples_pending", "Samples that wait to be sent", own.remote_pending.clone());
        remote.register("bytes", "Bytes of requests that a destination took", own.remote_bytes.clone());
        remote.register(
            "queue_highest_sent_timestamp_seconds",
            "Time of the newest sample that a destination took",
            own.remote_highest.clone(),
        );
        own
    }

    /// The labels of a group.
    pub(crate) fn group(&self, id: &GroupId) -> OfGroup {
        let name = if self.without_group { String::new() } else { format!("{};{}", id.namespace, id.name) };
        OfGroup { user: id.tenant.to_string(), rule_group: name }
    }

    /// Takes out what is said of a group that is gone.
    pub(crate) fn forget(&self, id: &GroupId) {
        if self.without_group {
            return;
        }
        let labels = self.group(id);
        for counters in [&self.evaluations, &self.failures, &self.iterations, &self.missed] {
            counters.remove(&labels);
        }
        for gauges in [&self.interval, &self.last_duration, &self.last_evaluation] {
            gauges.remove(&labels);
        }
        self.last_samples.remove(&labels);
        self.rules.remove(&labels);
    }
}
