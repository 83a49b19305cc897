//! Loki's `compactor`, as far as it has a meaning here.

use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Duration, Problems, Unneeded};

/// Merging, retention and deletes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompactorConfig {
    /// How often blocks are looked through: to be merged, expired, rewritten.
    pub compaction_interval: Duration,
    /// Whether entries expire, and whether delete requests are taken.
    pub retention_enabled: bool,
    /// How long the objects of blocks that were replaced or expired stay, for queries that began before. (Loki: 2h)
    pub retention_delete_delay: Duration,
    /// How long a delete request can be cancelled; after that lines are removed.
    pub delete_request_cancel_period: Duration,
    /// Longest `max_interval` that a delete request may give; 0 for any.
    pub delete_max_interval: Duration,
    /// Size of the objects that small blocks are merged to. (Ours.)
    pub target_size: ByteSize,
    /// Most raw bytes of such an object, however small they become. (Ours.)
    pub max_merge_size: ByteSize,
}

impl Default for CompactorConfig {
    fn default() -> Self {
        Self {
            compaction_interval: Duration::from_secs(600),
            retention_enabled: false,
            retention_delete_delay: Duration::from_secs(600),
            delete_request_cancel_period: Duration::from_secs(24 * 3600),
            delete_max_interval: Duration::from_secs(24 * 3600),
            target_size: ByteSize::mib(64),
            max_merge_size: ByteSize::mib(2048),
        }
    }
}

impl CompactorConfig {
    /// Keys of Loki's that have no meaning here.
    pub fn unneeded() -> Unneeded {
        Unneeded::new(&[
            "working_directory",
            "apply_retention_interval",
            "retention_delete_worker_count",
            "retention_table_timeout",
            "retention_backoff_config",
            "delete_request_store",
            "delete_request_store_key_prefix",
            "delete_request_store_db_type",
            "backup_delete_request_store_db_type",
            "delete_batch_size",
            "max_compaction_parallelism",
            "upload_parallelism",
            "compactor_ring",
            "tables_to_compact",
            "skip_latest_n_tables",
            "shared_store",
            "shared_store_key_prefix",
            "horizontal_scaling_mode",
            "worker_config",
            "jobs_config",
            "deletion_mode",
            "allow_deletes",
        ])
    }

    /// Checks what types cannot.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        if self.compaction_interval.is_zero() {
            problems.add(format!("{path}.compaction_interval"), "must not be 0");
        }
        for (key, size) in [("target_size", self.target_size), ("max_merge_size", self.max_merge_size)] {
            if size.get() < 1 << 20 {
                problems.add(format!("{path}.{key}"), "must be at least 1MB");
            }
        }
    }
}
