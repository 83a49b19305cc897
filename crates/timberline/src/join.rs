//! What joins the services inside one process, where there would be a network between them.

use agent::client::LocalStore;
use futures::future::BoxFuture;
use logs::LogsHandle;
use model::TenantId;
use router::data::{Consumer, Data};
use service::Failure;
use traces::TracesHandle;
use wire::loki::PushRequest;
use wire::otlp::Format;

/// The router's traces into the trace store.
pub(crate) struct TracesSink(pub(crate) TracesHandle);

impl Consumer for TracesSink {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move { self.0.push_otlp(&TracesHandle::default_tenant(), data.body).await })
    }
}

/// The router's log records into the log store.
pub(crate) struct LogsSink(pub(crate) LogsHandle);

impl Consumer for LogsSink {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(
            async move { self.0.push_otlp(&LogsHandle::default_tenant(), data.body, Format::Protobuf).await },
        )
    }
}

/// The agent's lines into the log store.
pub(crate) struct LogsStore(pub(crate) LogsHandle);

impl LocalStore for LogsStore {
    fn push(&self, tenant: &str, request: PushRequest) -> BoxFuture<'_, Result<(), Failure>> {
        let tenant = match tenant {
            "" => Ok(LogsHandle::default_tenant()),
            named => TenantId::parse(named).map_err(|e| Failure::invalid(e.to_string())),
        };
        Box::pin(async move { self.0.push(&tenant?, request).await })
    }
}
