//! A client's task: gathers batches and sends each until the store has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use service::{CancellationToken, Failure};
use tokio::time::Instant;

use super::batch::{Batch, weight};
use super::destination::Destination;
use super::queue::Queue;
use crate::config::ClientConfig;
use crate::metrics::{AgentMetrics, HostLabels, LossLabels};

/// Sends what a queue holds.
pub struct Sender {
    queue: Arc<Queue>,
    destination: Destination,
    config: ClientConfig,
    metrics: AgentMetrics,
}

impl Sender {
    /// The task of one client.
    pub fn new(
        queue: Arc<Queue>,
        destination: Destination,
        config: ClientConfig,
        metrics: AgentMetrics,
    ) -> Self {
        Self { queue, destination, config, metrics }
    }

    /// Sends until `stop`, then tries what is left once more. What the store never took stays unacknowledged: it is read
    /// from the files again at the next start.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let batches = self.gather(&stop).await;
            if batches.is_empty() && stop.is_cancelled() {
                return;
            }
            // Tenants do not wait for each other.
            let sends = batches.into_iter().map(|(tenant, batch)| self.send(tenant, batch, &stop));
            futures::future::join_all(sends).await;
        }
    }

    /// Takes entries until one tenant's batch is large enough, the first entry has waited long enough, or somebody waits for their
    /// delivery.
    async fn gather(&self, stop: &CancellationToken) -> BTreeMap<String, Batch> {
        let mut batches: BTreeMap<String, Batch> = BTreeMap::new();
        let mut deadline: Option<Instant> = None;
        let max_bytes = self.config.batchsize.as_usize();
        loop {
            while let Some(entry) = self.queue.pop() {
                let tenant = if entry.tenant.is_empty() { &self.config.tenant_id } else { &entry.tenant };
                let batch = batches.entry(tenant.clone()).or_default();
                batch.add(&entry, &self.config.external_labels);
                deadline.get_or_insert_with(|| Instant::now() + self.config.batchwait.get());
                if batch.bytes() + weight(&entry) > max_bytes {
                    return batches;
                }
            }
            let is_urgent = self.queue.take_urgency() && !batches.is_empty();
            if is_urgent || stop.is_cancelled() {
                return batches;
            }
            tokio::select! {
                () = self.queue.filled() => {}
                () = stop.cancelled() => {}
                () = sleep_until(deadline) => return batches,
            }
        }
    }

    async fn send(&self, tenant: String, mut batch: Batch, stop: &CancellationToken) {
        let host = HostLabels { host: self.destination.host() };
        let request = batch.take_request();
        let mut pause = self.config.backoff_config.min_period.get();
        loop {
            let failure = match self.destination.push(&tenant, &request).await {
                Ok(bytes) => {
                    self.metrics.sent_entries.get_or_create(&host).inc_by(batch.entries());
                    self.metrics.sent_bytes.get_or_create(&host).inc_by(bytes as u64);
                    batch.acknowledge();
                    return;
                }
                Err(failure) => failure,
            };
            if !failure.is_retryable() {
                self.lose(&tenant, batch, &failure);
                return;
            }
            if stop.is_cancelled() {
                tracing::warn!(client = self.config.name, error = %failure, "stopping before the store took everything");
                return;
            }
            let wait =
                failure.retry_after().unwrap_or_default().max(pause.mul_f64(1.0 + rand::random::<f64>()));
            tracing::warn!(client = self.config.name, error = %failure, ?wait, "the store did not take a batch: trying again");
            self.metrics.batch_retries.get_or_create(&host).inc();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(self.config.backoff_config.max_period.get());
        }
    }

    /// The store says that it will never take this batch (it may have taken the good entries of it).
    fn lose(&self, tenant: &str, batch: Batch, failure: &Failure) {
        tracing::error!(client = self.config.name, entries = batch.entries(), error = %failure, "the store refused a batch");
        let labels = LossLabels {
            host: self.destination.host(),
            tenant: tenant.to_owned(),
            reason: "ingester_error".to_owned(),
        };
        self.metrics.dropped_entries.get_or_create(&labels).inc_by(batch.entries());
        batch.acknowledge();
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => tokio::time::sleep(Duration::MAX).await,
    }
}
