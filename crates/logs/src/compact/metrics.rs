//! Figures of the compactor, under the names that Loki's dashboards know where one exists.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use block::Compacted;
use model::{TenantId, Timestamp};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfUser {
    user: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    status: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Counters of merging, retention and deletes.
#[derive(Debug, Clone, Default)]
pub struct CompactorMetrics {
    running: Gauge,
    rounds: Family<Outcome, Counter>,
    last_round: Seconds,
    round_seconds: Seconds,
    retentions: Family<Outcome, Counter>,
    last_retention: Seconds,
    blocks_merged: Counter,
    blocks_written: Counter,
    blocks_expired: Counter,
    bytes_read: Counter,
    bytes_written: Counter,
    received: Family<OfUser, Counter>,
    processed: Family<OfUser, Counter>,
    lines_removed: Counter,
    pending: Gauge,
    oldest_pending: Seconds,
}

impl CompactorMetrics {
    /// Registers them; `metrics` has the prefix `loki`.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        let tables = metrics.prefixed("boltdb_shipper_compact_tables_operation");
        // The registry ends counters' names with `_total`; this one is nothing but its prefix.
        metrics.register(
            "boltdb_shipper_compact_tables_operation",
            "Rounds of the compactor, by status",
            own.rounds.clone(),
        );
        tables.register(
            "last_successful_run_timestamp_seconds",
            "When the compactor last finished a round",
            own.last_round.clone(),
        );
        tables.register("duration_seconds", "How long the last round took", own.round_seconds.clone());
        let compactor = metrics.prefixed("compactor");
        compactor.register("running", "Whether the compactor runs", own.running.clone());
        compactor.register(
            "apply_retention_operation",
            "Times that retention was applied to a tenant, by status",
            own.retentions.clone(),
        );
        compactor.register(
            "apply_retention_last_successful_run_timestamp_seconds",
            "When retention was last applied",
            own.last_retention.clone(),
        );
        compactor.register(
            "merged_blocks",
            "Blocks that were merged or rewritten",
            own.blocks_merged.clone(),
        );
        compactor.register("written_blocks", "Blocks that took their place", own.blocks_written.clone());
        compactor.register(
            "expired_blocks",
            "Blocks removed whole because all in them was expired",
            own.blocks_expired.clone(),
        );
        compactor.register("read_bytes", "Bytes of merged blocks", own.bytes_read.clone());
        compactor.register(
            "written_bytes",
            "Bytes of the blocks that took their place",
            own.bytes_written.clone(),
        );
        compactor.register(
            "delete_requests_received",
            "Delete requests taken, by user",
            own.received.clone(),
        );
        compactor.register(
            "delete_requests_processed",
            "Delete requests whose lines are gone, by user",
            own.processed.clone(),
        );
        compactor.register(
            "deleted_lines",
            "Lines that merging left out: deleted, expired, or there twice",
            own.lines_removed.clone(),
        );
        compactor.register(
            "pending_delete_requests_count",
            "Delete requests whose lines are to be removed now",
            own.pending.clone(),
        );
        compactor.register(
            "oldest_pending_delete_request_age_seconds",
            "Age of the oldest of them",
            own.oldest_pending.clone(),
        );
        own
    }

    pub(crate) fn running(&self, is: bool) {
        self.running.set(i64::from(is));
    }

    pub(crate) fn round(&self, is_well: bool, took: Duration) {
        self.rounds.get_or_create(&outcome(is_well)).inc();
        self.round_seconds.set(took.as_secs_f64());
        if is_well {
            self.last_round.set(now());
        }
    }

    pub(crate) fn retention(&self, is_well: bool) {
        self.retentions.get_or_create(&outcome(is_well)).inc();
        if is_well {
            self.last_retention.set(now());
        }
    }

    pub(crate) fn merged(&self, blocks: usize, done: &Compacted) {
        self.blocks_merged.inc_by(blocks as u64);
        self.blocks_written.inc_by(done.added.len() as u64);
        self.bytes_read.inc_by(done.size_before);
        self.bytes_written.inc_by(done.size());
        self.lines_removed.inc_by(done.rows_before.saturating_sub(done.rows()));
    }

    pub(crate) fn expired(&self, blocks: usize) {
        self.blocks_expired.inc_by(blocks as u64);
    }

    pub(crate) fn received(&self, tenant: &TenantId) {
        self.received.get_or_create(&OfUser { user: tenant.to_string() }).inc();
    }

    pub(crate) fn processed(&self, tenant: &TenantId) {
        self.processed.get_or_create(&OfUser { user: tenant.to_string() }).inc();
    }

    /// How many requests wait, and since when (nanoseconds) the oldest does.
    pub(crate) fn pending(&self, count: usize, oldest: Option<i64>) {
        self.pending.set(count as i64);
        self.oldest_pending.set(oldest.map_or(0.0, |at| (now() - at as f64 / 1e9).max(0.0)));
    }
}

fn outcome(is_well: bool) -> Outcome {
    Outcome { status: if is_well { "success" } else { "failure" } }
}

fn now() -> f64 {
    Timestamp::now().nanos() as f64 / 1e9
}
