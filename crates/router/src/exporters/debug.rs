//! `debug`: writes what passes to the log.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use service::Failure;

use crate::data::{Consumer, Data};

/// `exporters.debug`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DebugConfig {
    /// Accepted; one line a request is written.
    pub verbosity: String,
}

/// The exporter.
pub struct Debug;

impl Consumer for Debug {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        tracing::info!(signal = ?data.signal, items = data.items, bytes = data.body.len(), "exported");
        Box::pin(std::future::ready(Ok(())))
    }
}
