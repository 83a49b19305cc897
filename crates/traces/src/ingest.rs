//! Spans on their way in: checked, decoded, made durable, then visible to the next query.

use std::sync::Arc;

use block::{AppendError, Store};
use bytes::Bytes;
use model::TenantId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use service::Failure;
use service::metrics::Metrics;
use wire::otlp::{Counts, Format, Signal};

use crate::record::{Record, RecordError};
use crate::signal::TraceSignal;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TenantLabel {
    tenant: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    tenant: String,
    reason: &'static str,
}

/// Takes spans.
#[derive(Clone)]
pub(crate) struct Ingest {
    store: Arc<Store<TraceSignal>>,
    spans: Family<TenantLabel, Counter>,
    bytes: Family<TenantLabel, Counter>,
    discarded: Family<ReasonLabel, Counter>,
}

impl Ingest {
    pub(crate) fn new(store: Arc<Store<TraceSignal>>, metrics: &Metrics) -> Self {
        let ingest =
            Self { store, spans: Family::default(), bytes: Family::default(), discarded: Family::default() };
        let metrics = metrics.prefixed("tempo");
        metrics.register("distributor_spans_received", "Spans accepted, by tenant", ingest.spans.clone());
        metrics.register(
            "distributor_bytes_received",
            "Bytes of requests accepted, by tenant",
            ingest.bytes.clone(),
        );
        metrics.register("discarded_spans", "Spans refused, by tenant and reason", ingest.discarded.clone());
        ingest
    }

    /// Takes all spans of an encoded request, or none. When this returns they are durable and the next query sees them.
    pub(crate) async fn push(&self, tenant: &TenantId, body: Bytes, format: Format) -> Result<(), Failure> {
        let (body, counts) = otlp::decode(Signal::Traces, body, format).await?;
        self.take(tenant, body, counts).await
    }

    /// The same for a request that has been checked.
    pub(crate) async fn take(&self, tenant: &TenantId, body: Bytes, counts: Counts) -> Result<(), Failure> {
        if counts.without_trace_id > 0 {
            return Err(invalid(RecordError::TraceId(0)));
        }
        if counts.without_span_id > 0 {
            return Err(invalid(RecordError::SpanId(0)));
        }
        let size = body.len();
        let max_text = self.store.signal().max_attribute_bytes;
        let undecoded = body.clone();
        let decode = move || Record::decode(&undecoded, max_text).map_err(invalid);
        let record = otlp::off_thread(size, decode).await?;
        let spans = record.spans() as u64;
        if spans == 0 {
            return Ok(());
        }
        let label = || TenantLabel { tenant: tenant.to_string() };
        match self.store.append(tenant, body, record).await {
            Ok(_durable) => {
                self.spans.get_or_create(&label()).inc_by(spans);
                self.bytes.get_or_create(&label()).inc_by(size as u64);
                Ok(())
            }
            Err(error) => {
                let reason = match error {
                    AppendError::Full { .. } => "unflushed_limit",
                    AppendError::Unavailable(_) => "log_unavailable",
                    AppendError::Closed => "shutting_down",
                };
                let label = ReasonLabel { tenant: tenant.to_string(), reason };
                self.discarded.get_or_create(&label).inc_by(spans);
                let after = match &error {
                    AppendError::Full { retry_after, .. } => Some(*retry_after),
                    _ => None,
                };
                Err(Failure::unavailable(error.to_string(), after))
            }
        }
    }
}

/// The client's mistake, in Tempo's words where it has some.
fn invalid(error: RecordError) -> Failure {
    Failure::invalid(error.to_string())
}
