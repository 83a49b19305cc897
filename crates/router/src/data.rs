//! What flows through pipelines, and what it flows into.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use service::Failure;
use wire::otlp::Signal;

/// One request of one signal: checked OTLP protobuf bytes.
#[derive(Debug, Clone)]
pub struct Data {
    /// Traces or logs.
    pub signal: Signal,
    /// `ExportTraceServiceRequest` or `ExportLogsServiceRequest`.
    pub body: Bytes,
    /// Spans or log records in it.
    pub items: u64,
}

/// Takes data: a processor, an exporter, or several of them.
///
/// `Ok` means that the consumer owns the data now, as far as its kind can promise; an error travels
/// back to the sender, who may try again where it is retryable.
pub trait Consumer: Send + Sync {
    /// Takes one request.
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>>;
}

/// Hands the same data to several consumers; all of them must take it.
pub struct Fanout(pub Vec<Arc<dyn Consumer>>);

impl Fanout {
    /// One consumer for a list; a single one stays as it is.
    pub fn of(mut consumers: Vec<Arc<dyn Consumer>>) -> Arc<dyn Consumer> {
        match (consumers.len(), consumers.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                consumers.extend(last);
                Arc::new(Self(consumers))
            }
        }
    }
}

impl Consumer for Fanout {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let all = self.0.iter().map(|consumer| consumer.consume(data.clone()));
            futures::future::join_all(all).await.into_iter().collect()
        })
    }
}
