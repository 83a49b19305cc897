//! What targets count, under Promtail's names where it has one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::Metrics;

use crate::metrics::ReasonLabels;

/// What was wrong with an entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ErrorLabels {
    /// Such as `no_message`.
    pub(crate) error: &'static str,
}

/// A spool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SpoolLabels {
    /// Its job.
    pub(crate) job: String,
}

/// A spool, and a client that reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SpoolClientLabels {
    /// The spool's job.
    pub(crate) job: String,
    /// The client; empty if it is the only one.
    pub(crate) client: String,
}

/// What a target lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LostLabels {
    /// `syslog`, `gelf` or `spool`.
    pub(crate) target: &'static str,
    /// Such as `queue_full` or `shutdown`.
    pub(crate) reason: &'static str,
}

/// All counters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetMetrics {
    pub(crate) syslog_entries: Counter,
    pub(crate) syslog_parsing_errors: Counter,
    pub(crate) syslog_empty_messages: Counter,
    pub(crate) syslog_cut_messages: Counter,
    pub(crate) gelf_entries: Counter,
    pub(crate) gelf_parsing_errors: Counter,
    pub(crate) journal_lines: Counter,
    pub(crate) journal_parsing_errors: Family<ErrorLabels, Counter>,
    pub(crate) push_entries: Counter,
    pub(crate) push_unacknowledged: Counter,
    pub(crate) lost: Family<LostLabels, Counter>,
    pub(crate) file_sd_errors: Counter,
    pub(crate) kubernetes_errors: Counter,
    targets_failed: Family<ReasonLabels, Counter>,
    spool_lines: Family<SpoolLabels, Counter>,
    spool_bytes: Family<SpoolLabels, Gauge>,
    spool_lag: Family<SpoolClientLabels, Gauge>,
}

impl TargetMetrics {
    /// Registers the counters.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let all = Self::default();
        let promtail = metrics.prefixed("promtail");
        let counters = [
            ("syslog_target_entries", "Messages received over syslog", &all.syslog_entries),
            (
                "syslog_target_parsing_errors",
                "Syslog messages that are none, passed on as they came, and connections that were cut for it",
                &all.syslog_parsing_errors,
            ),
            ("syslog_empty_messages", "Syslog messages without a text", &all.syslog_empty_messages),
            (
                "syslog_target_cut_messages",
                "Syslog messages longer than max_message_length, of which the beginning was kept",
                &all.syslog_cut_messages,
            ),
            ("gelf_target_entries", "Messages received over GELF", &all.gelf_entries),
            ("gelf_target_parsing_errors", "Datagrams that are no GELF message", &all.gelf_parsing_errors),
            ("journal_target_lines", "Entries read of the journal", &all.journal_lines),
            ("push_target_entries", "Lines received by push", &all.push_entries),
            (
                "push_target_unacknowledged",
                "Pushes answered with 503 because the clients did not deliver them in time",
                &all.push_unacknowledged,
            ),
            ("file_sd_read_errors", "Files of file_sd_configs that could not be read", &all.file_sd_errors),
            ("kubernetes_sd_errors", "Failed requests to the Kubernetes API server", &all.kubernetes_errors),
        ];
        for (name, help, counter) in counters {
            promtail.register(name, help, counter.clone());
        }
        promtail.register(
            "journal_target_parsing_errors",
            "Entries of the journal that were not sent, by what is wrong with them",
            all.journal_parsing_errors.clone(),
        );
        promtail.register(
            "target_lost_messages",
            "Messages that a target took in and could not keep, by target and reason",
            all.lost.clone(),
        );
        promtail.register(
            "spool_lines",
            "Lines that were received and are on disk, by job",
            all.spool_lines.clone(),
        );
        promtail.register(
            "spool_bytes",
            "Bytes on disk of what was received and is not delivered, by job",
            all.spool_bytes.clone(),
        );
        promtail.register(
            "spool_lag_bytes",
            "Bytes of the files that hold what a client has not delivered of a spool, by job and client",
            all.spool_lag.clone(),
        );
        promtail.register(
            "targets_failed",
            "Discovered targets that are not read, by reason",
            all.targets_failed.clone(),
        );
        all
    }

    /// Counts a discovered target that is not read.
    pub(crate) fn failed(&self, reason: &str) {
        self.targets_failed.get_or_create(&ReasonLabels { reason: reason.to_owned() }).inc();
    }

    /// The lines that came to be in a job's spool.
    pub(crate) fn spool_lines(&self, job: &str) -> Counter {
        self.spool_lines.get_or_create_owned(&SpoolLabels { job: job.to_owned() })
    }

    /// The bytes of a job's spool.
    pub(crate) fn spool_bytes(&self, job: &str) -> Gauge {
        self.spool_bytes.get_or_create_owned(&SpoolLabels { job: job.to_owned() })
    }

    /// How far a client is behind.
    pub(crate) fn set_spool_lag(&self, labels: &SpoolClientLabels, bytes: u64) {
        self.spool_lag.get_or_create(labels).set(bytes as i64);
    }

    /// A client does not read a spool any more.
    pub(crate) fn forget_spool_lag(&self, labels: &SpoolClientLabels) {
        self.spool_lag.remove(labels);
    }

    /// A job has no spool any more.
    pub(crate) fn forget_spool(&self, job: &str) {
        let labels = SpoolLabels { job: job.to_owned() };
        self.spool_lines.remove(&labels);
        self.spool_bytes.remove(&labels);
    }

    /// Counts messages that could not be kept.
    pub(crate) fn lost(&self, target: &'static str, reason: &'static str, messages: u64) {
        self.lost.get_or_create(&LostLabels { target, reason }).inc_by(messages);
    }
}
