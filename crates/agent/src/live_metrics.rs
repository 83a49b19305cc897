//! Metrics that are counted when they are asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::run::InForce;

/// `promtail_targets_active_total`.
#[derive(Debug)]
pub(crate) struct LiveMetrics(pub(crate) InForce);

impl Collector for LiveMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let findings = self.0.now().board.findings();
        let found = findings.iter().flat_map(|(_, findings)| findings.found.values());
        let active = found.filter(|found| found.result.is_ok()).count();
        let name = "promtail_targets_active_total";
        let metric = encoder.encode_descriptor(name, "Targets that are read", None, MetricType::Gauge)?;
        ConstGauge::new(active as i64).encode(metric)
    }
}
