//! `tail_sampling` in a pipeline: drives the [`Sampler`] with the clock and hands on what it releases.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use service::{CancellationToken, Failure};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};
use wire::otlp::Signal;

use crate::data::{Consumer, Data};
use crate::metrics::SamplingMetrics;
use crate::queue::Queue;
use crate::sampling::{Conditions, Release, Sampler, SamplerStats, TailSamplingConfig, assemble, split};

/// Bytes of one request of released spans: OTLP receivers take 4 MiB over gRPC unless told otherwise.
const REQUEST_BYTES: usize = 2 << 20;
/// How late a decision may be.
const TICK: Duration = Duration::from_millis(50);

/// The processor. [`run`](Self::run) is its one task; released spans leave through a queue that
/// holds on to them until the next stage has them, because their senders were answered long ago.
pub struct TailSampling {
    sampler: Mutex<Sampler>,
    conditions: Arc<Conditions>,
    outbox: Arc<Queue>,
    metrics: SamplingMetrics,
    begun: Instant,
    wake: Notify,
}

impl TailSampling {
    /// A processor that releases into `outbox`; all problems of the configuration come back together.
    pub fn new(
        config: &TailSamplingConfig,
        outbox: Arc<Queue>,
        metrics: SamplingMetrics,
    ) -> Result<Self, Vec<String>> {
        let sampler = Sampler::new(config)?;
        let conditions = sampler.conditions();
        let (begun, wake) = (Instant::now(), Notify::new());
        Ok(Self { sampler: Mutex::new(sampler), conditions, outbox, metrics, begun, wake })
    }

    /// Decides what is due until `stop`, and then everything that waits.
    pub async fn run(&self, stop: CancellationToken) {
        let mut counted = SamplerStats::default();
        while !stop.is_cancelled() {
            let mut released = Vec::new();
            let (next, stats) = {
                let mut sampler = self.sampler.lock();
                sampler.tick(self.now(), &mut released);
                (sampler.next_due(), sampler.stats().clone())
            };
            self.release(released);
            self.metrics.update(&counted, &stats);
            counted = stats;
            let pause = next.map(|due| Duration::from_nanos(due.saturating_sub(self.now())).max(TICK));
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                () = self.wake.notified(), if pause.is_none() => {}
            }
        }
        let mut released = Vec::new();
        let stats = {
            let mut sampler = self.sampler.lock();
            sampler.finish(self.now(), &mut released);
            sampler.stats().clone()
        };
        self.release(released);
        self.metrics.update(&counted, &stats);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn release(&self, released: Vec<Release>) {
        for (body, items) in assemble(released, REQUEST_BYTES) {
            self.outbox.push(Data { signal: Signal::Traces, body, items });
        }
    }

    fn take(&self, data: &Data) -> Result<(), Failure> {
        if data.signal != Signal::Traces {
            return Err(Failure::internal("tail_sampling takes traces only"));
        }
        self.outbox.admit()?;
        let pieces = split(&self.conditions, &data.body).map_err(|e| Failure::invalid(e.to_string()))?;
        let mut released = Vec::new();
        {
            let now = self.now();
            let mut sampler = self.sampler.lock();
            sampler.admit().map_err(|full| Failure::unavailable(full.to_string(), None))?;
            for piece in pieces {
                sampler.add(now, piece.trace, piece.group, piece.facts, &mut released);
            }
        }
        self.wake.notify_one();
        self.release(released);
        Ok(())
    }
}

impl Consumer for TailSampling {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(std::future::ready(self.take(&data)))
    }
}
