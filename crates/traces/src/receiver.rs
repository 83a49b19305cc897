//! What OTLP's doors lead to: spans of the tenant that the request names.

use futures::future::BoxFuture;
use otlp::{Export, Sink};
use service::Failure;

use crate::ingest::Ingest;
use crate::tenancy::Tenancy;

/// Takes requests from OTLP over gRPC and HTTP.
pub(crate) struct Receiver {
    pub(crate) ingest: Ingest,
    pub(crate) tenancy: Tenancy,
}

impl Sink for Receiver {
    fn export(&self, request: Export) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let tenant = self.tenancy.writer(&request.headers)?;
            self.ingest.take(&tenant, request.body, request.counts).await
        })
    }
}
