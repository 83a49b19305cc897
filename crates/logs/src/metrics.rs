//! The metrics that dashboards of Loki know.

use std::sync::Arc;

use block::Store;
use model::TenantId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use service::Metrics;

use crate::ingest::Ingest;
use crate::patterns::Patterns;
use crate::store::signal::LogsSignal;

/// Labels of the counters of accepted data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTenant {
    tenant: String,
}

/// Labels of the counters of refused data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Discarded {
    reason: &'static str,
    tenant: String,
}

/// Figures of tails and patterns, read at each scrape.
pub(crate) struct LiveMetrics {
    /// Knows the tails.
    pub(crate) ingest: Arc<Ingest>,
    /// The patterns, unless they are switched off.
    pub(crate) patterns: Option<Arc<Patterns>>,
}

impl std::fmt::Debug for LiveMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LiveMetrics")
    }
}

impl Collector for LiveMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bytes = self.patterns.as_ref().map_or(0, |patterns| patterns.bytes());
        let gauges: [(&str, &str, usize); 2] = [
            ("loki_querier_tail_active", "Live tails", self.ingest.tails().count()),
            ("loki_pattern_ingester_memory_bytes", "Memory of log patterns", bytes),
        ];
        for (name, help, value) in gauges {
            let value = ConstGauge::new(value as f64);
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// Figures of what the store holds of sources, read at each scrape.
pub(crate) struct SourceMetrics {
    /// Holds them.
    pub(crate) store: Arc<Store<LogsSignal>>,
}

impl std::fmt::Debug for SourceMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SourceMetrics")
    }
}

impl Collector for SourceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.store.signal().ledger_counts();
        let gauges = [
            ("timberline_logs_sources", "Sources whose stored lines are remembered", counts.sources),
            ("timberline_logs_sources_bytes", "Memory for that", counts.bytes),
        ];
        for (name, help, value) in gauges {
            let value = ConstGauge::new(value as f64);
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let counters = [
            (
                "timberline_logs_repeated_entries",
                "Entries that were stored already when they were sent again",
                counts.repeated,
            ),
            ("timberline_logs_forgotten_sources", "Sources forgotten for want of memory", counts.forgotten),
        ];
        for (name, help, value) in counters {
            let value = ConstCounter::new(value as f64);
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

/// Counters of the distributor.
#[derive(Debug, Clone, Default)]
pub struct IngestMetrics {
    bytes: Family<OfTenant, Counter>,
    lines: Family<OfTenant, Counter>,
    discarded_samples: Family<Discarded, Counter>,
    discarded_bytes: Family<Discarded, Counter>,
}

impl IngestMetrics {
    /// Registers them; `metrics` has the prefix `loki`.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        let distributor = metrics.prefixed("distributor");
        distributor.register(
            "bytes_received",
            "Bytes of lines and structured metadata accepted, by tenant",
            own.bytes.clone(),
        );
        distributor.register("lines_received", "Lines accepted, by tenant", own.lines.clone());
        metrics.register(
            "discarded_samples",
            "Lines refused, by reason and tenant",
            own.discarded_samples.clone(),
        );
        metrics.register(
            "discarded_bytes",
            "Bytes of lines refused, by reason and tenant",
            own.discarded_bytes.clone(),
        );
        own
    }

    /// Counts accepted entries.
    pub fn received(&self, tenant: &TenantId, lines: u64, bytes: u64) {
        let labels = OfTenant { tenant: tenant.to_string() };
        self.bytes.get_or_create(&labels).inc_by(bytes);
        self.lines.get_or_create(&labels).inc_by(lines);
    }

    /// Counts refused entries.
    pub fn discarded(&self, tenant: &TenantId, reason: &'static str, entries: u64, bytes: u64) {
        let labels = Discarded { reason, tenant: tenant.to_string() };
        self.discarded_samples.get_or_create(&labels).inc_by(entries);
        self.discarded_bytes.get_or_create(&labels).inc_by(bytes);
    }
}
