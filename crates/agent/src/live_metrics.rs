//! Metrics that are counted when they are asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::run::InForce;

/// `promtail_targets_active_total` and `promtail_oldest_unacked_seconds`.
#[derive(Debug)]
pub(crate) struct LiveMetrics(pub(crate) InForce);

impl Collector for LiveMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let live = self.0.now();
        let name = "promtail_oldest_unacked_seconds";
        let help = "Age of the oldest line that was read and that the client's store does not have";
        let mut ages = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for client in &live.clients {
            let labels = [("host", client.host.as_str()), ("client", client.name.as_str())];
            let age = ConstGauge::new(client.oldest().as_secs_f64());
            age.encode(ages.encode_family(&labels)?)?;
        }
        let findings = live.board.findings();
        let found = findings.iter().flat_map(|(_, findings)| findings.found.values());
        let active = found.filter(|found| found.result.is_ok()).count();
        let name = "promtail_targets_active_total";
        let metric = encoder.encode_descriptor(name, "Targets that are read", None, MetricType::Gauge)?;
        ConstGauge::new(active as i64).encode(metric)
    }
}
