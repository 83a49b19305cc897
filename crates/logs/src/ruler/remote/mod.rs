//! Recorded samples on their way to Prometheus: on disk first, then to every destination, in order.
//!
//! Samples of an evaluation are cut into batches, encoded series of one tenant. A writer appends them to a log on disk and to the
//! queue of every destination; each destination sends its queue from the front, with one request under way, so that the samples of
//! a series arrive in order. How far each one is, is written beside the log, which is trimmed below the last of them. After a crash
//! some batches are sent twice; Prometheus refuses or ignores the second.

mod queue;
mod send;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use model::{TenantId, Timestamp};
use parking_lot::Mutex;
use service::CancellationToken;
use tokio::sync::mpsc;
use wire::prometheus::remote::{Sample, encode_series, stale};
use wire::prometheus::rules::Pairs;
use wire::proto::Writer;

use crate::ruler::config::RulerConfig;
use crate::ruler::metrics::RulerMetrics;
use crate::ruler::remote::queue::{Batch, Queue};
use crate::ruler::remote::send::Destination;

/// Samples of a batch at most; a request may join several.
const BATCH_SAMPLES: usize = 500;
/// Evaluations that may wait for the disk.
const WAITING: usize = 64;
/// How often progress is written down.
const PROGRESS: std::time::Duration = std::time::Duration::from_secs(1);

/// Takes samples and sends them.
pub(crate) struct RemoteWrite {
    sender: Mutex<Option<mpsc::Sender<Vec<Batch>>>>,
    receiver: Mutex<Option<mpsc::Receiver<Vec<Batch>>>>,
    queue: Arc<Queue>,
    destinations: Vec<Arc<Destination>>,
    metrics: RulerMetrics,
}

impl RemoteWrite {
    /// Opens the log in `dir` and queues what it still holds.
    pub(crate) fn open(config: &RulerConfig, dir: &Path, metrics: RulerMetrics) -> anyhow::Result<Self> {
        let mut destinations = Vec::new();
        for (id, client) in config.remote_write.destinations() {
            let made = Destination::new(&id, client, config, metrics.clone());
            destinations.push(Arc::new(made.with_context(|| format!("ruler.remote_write.clients.{id}"))?));
        }
        let ids = destinations.iter().map(|d| d.id().to_owned()).collect();
        let queue = Queue::open(dir, ids, config.wal.max_size.get())
            .with_context(|| format!("cannot open the queue of recorded samples in {}", dir.display()))?;
        let (sender, receiver) = mpsc::channel(WAITING);
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            receiver: Mutex::new(Some(receiver)),
            queue: Arc::new(queue),
            destinations,
            metrics,
        })
    }

    /// Takes the samples of one evaluation; waits while the disk is behind. `None` marks the end of a series.
    pub(crate) async fn append(&self, tenant: &TenantId, at: Timestamp, samples: Vec<(Pairs, Option<f64>)>) {
        if samples.is_empty() {
            return;
        }
        let timestamp_ms = at.nanos() / 1_000_000;
        let batches = samples.chunks(BATCH_SAMPLES).map(|chunk| {
            let mut out = Writer::default();
            for (labels, value) in chunk {
                let labels = labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                encode_series(
                    &mut out,
                    labels,
                    &[Sample { timestamp_ms, value: value.unwrap_or_else(stale) }],
                );
            }
            let series = Bytes::from(out.finish());
            Batch { tenant: tenant.clone(), timestamp_ms, samples: chunk.len() as u32, series }
        });
        let batches: Vec<Batch> = batches.collect();
        let sender = self.sender.lock().clone();
        let lost = match sender {
            Some(sender) => sender.send(batches).await.is_err(),
            None => true,
        };
        if lost {
            self.metrics.append_failures.inc();
        }
    }

    /// No more samples come: the writer ends when it has written what it has.
    pub(crate) fn close(&self) {
        self.sender.lock().take();
    }

    /// Writes until closed, and sends until told to end.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        let sends = self.destinations.iter().enumerate().map(|(at, destination)| {
            let (queue, cancel) = (self.queue.clone(), cancel.clone());
            async move { destination.run(&queue, at, cancel).await }
        });
        futures::future::join(self.write(), futures::future::join_all(sends)).await;
    }

    async fn write(&self) {
        let Some(mut receiver) = self.receiver.lock().take() else { return };
        let mut tick = tokio::time::interval(PROGRESS);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut taken = Vec::new();
        loop {
            let open = tokio::select! {
                count = receiver.recv_many(&mut taken, WAITING) => count > 0,
                _ = tick.tick() => true,
            };
            let batches: Vec<Batch> = taken.drain(..).flatten().collect();
            let samples: u64 = batches.iter().map(|batch| u64::from(batch.samples)).sum();
            let queue = self.queue.clone();
            let done = tokio::task::spawn_blocking(move || match batches.is_empty() {
                true => queue.save_progress().map(|()| Vec::new()),
                false => queue.append(batches),
            });
            match done.await {
                Ok(Ok(dropped)) => {
                    self.metrics.appended.inc_by(samples);
                    for (destination, count) in dropped {
                        self.destinations[destination].count_dropped("queue_full", count);
                    }
                }
                Ok(Err(error)) => {
                    self.metrics.append_failures.inc();
                    tracing::error!(%error, samples, "recorded samples cannot be written to disk");
                }
                Err(error) => tracing::error!(%error, "writing recorded samples died"),
            }
            if !open {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
