//! Figures of the store for `/metrics`, under the names that Tempo's dashboards know where there is one.

use std::fmt;
use std::sync::Arc;

use block::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::signal::TraceSignal;

/// Asks the store at every scrape.
pub(crate) struct StoreMetrics(pub(crate) Arc<Store<TraceSignal>>);

impl fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreMetrics")
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        let gauges = [
            ("tempodb_blocklist_length", "Blocks of all tenants", stats.blocks as i64),
            ("tempodb_blocklist_bytes", "Bytes of all blocks", stats.block_bytes as i64),
            ("tempo_ingester_live_spans", "Spans in no block yet", stats.head_rows as i64),
            (
                "tempo_ingester_unflushed_bytes",
                "Memory held for spans in no block yet",
                stats.unflushed_bytes as i64,
            ),
            (
                "tempo_ingester_flush_queue_length",
                "Heads waiting to become blocks",
                stats.frozen_heads as i64,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let counters = [
            ("tempo_ingester_blocks_flushed", "Heads made into blocks", stats.flushes),
            (
                "tempo_ingester_failed_flushes",
                "Flushes that failed and are tried again",
                stats.flush_failures,
            ),
            ("tempo_ingester_appended_bytes", "Bytes made durable", stats.appended_bytes),
            ("tempo_ingester_commits", "Commits to the ingest log", stats.commits),
            ("tempo_ingester_failed_commits", "Commits to the ingest log that failed", stats.commit_failures),
            (
                "tempo_ingester_replayed_records",
                "Requests brought back from the log at the start",
                stats.replayed_records,
            ),
            (
                "tempo_ingester_replay_undecodable",
                "Requests in the log that could not be read",
                stats.replay_undecodable,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}
