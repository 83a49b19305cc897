//! `batch`: joins what arrives while the next stage is busy, and answers senders with its result.
//!
//! The Collector acknowledges data when it enters a batch and loses it when the export fails. Here a
//! sender is answered after the next stage has taken its data, so nobody is made to wait for a timer:
//! a batch goes out as soon as the one before it is done, up to `send_batch_size` items at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use service::config::Duration;
use service::{CancellationToken, Failure};
use tokio::sync::{Notify, oneshot};
use wire::otlp::{Signal, encode};

use crate::data::{Consumer, Data};

/// `processors.batch`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct BatchConfig {
    /// Accepted; batches never wait for a timer.
    pub timeout: Duration,
    /// Items that end a batch.
    pub send_batch_size: u64,
    /// Items that a batch may hold at most unless one request alone has more; 0 means no bound.
    pub send_batch_max_size: u64,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(200), send_batch_size: 8192, send_batch_max_size: 0 }
    }
}

/// Bytes that may wait; beyond it senders are told to come back.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Bytes of one batch: OTLP receivers take 4 MiB over gRPC unless told otherwise.
const MAX_BATCH_BYTES: usize = 3 << 20;

/// The processor. [`run`](Self::run) is its one task.
pub struct Batch {
    config: BatchConfig,
    next: Arc<dyn Consumer>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

struct Waiting {
    data: Data,
    answer: oneshot::Sender<Result<(), Failure>>,
}

impl Batch {
    /// A processor before `next`.
    pub fn new(config: BatchConfig, next: Arc<dyn Consumer>) -> Self {
        Self { config, next, state: Mutex::default(), wake: Notify::new() }
    }

    /// Sends batches until `stop`, and then what still waits.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                self.send(batch).await;
            } else if stop.is_cancelled() {
                return;
            } else {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// The next batch: requests of one signal in order of arrival, within the bounds.
    fn take(&self) -> Vec<Waiting> {
        let mut state = self.state.lock();
        let (mut batch, mut items, mut bytes) = (Vec::new(), 0, 0);
        let mut signal: Option<Signal> = None;
        while let Some(first) = state.waiting.front() {
            let more = items + first.data.items;
            let too_many = self.config.send_batch_max_size > 0 && more > self.config.send_batch_max_size;
            let other = signal.is_some_and(|s| s != first.data.signal);
            if signal.is_some() && (other || too_many || bytes + first.data.body.len() > MAX_BATCH_BYTES) {
                break;
            }
            let Some(first) = state.waiting.pop_front() else { break };
            state.bytes -= first.data.body.len();
            bytes += first.data.body.len();
            items = more;
            signal = Some(first.data.signal);
            batch.push(first);
            if items >= self.config.send_batch_size {
                break;
            }
        }
        batch
    }

    async fn send(&self, batch: Vec<Waiting>) {
        let bodies: Vec<_> = batch.iter().map(|w| w.data.body.clone()).collect();
        let items = batch.iter().map(|w| w.data.items).sum();
        let data = Data { signal: batch[0].data.signal, body: encode::concat(&bodies), items };
        let result = self.next.consume(data).await;
        for waiting in batch {
            // A sender that has gone away needs no answer.
            let _ = waiting.answer.send(result.clone());
        }
    }
}

impl Consumer for Batch {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (answer, result) = oneshot::channel();
            {
                let mut state = self.state.lock();
                if state.bytes >= MAX_WAITING_BYTES {
                    let text = format!("batch: {} bytes wait already", state.bytes);
                    return Err(Failure::unavailable(text, None));
                }
                state.bytes += data.body.len();
                state.waiting.push_back(Waiting { data, answer });
            }
            self.wake.notify_one();
            result.await.unwrap_or_else(|_| Err(Failure::unavailable("the router is stopping", None)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// Notes what it takes, and fails when told to.
    #[derive(Default)]
    struct Notes(Mutex<Vec<(u64, usize)>>, bool);

    impl Consumer for Notes {
        fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
            self.0.lock().push((data.items, data.body.len()));
            let result = if self.1 { Err(Failure::unavailable("away", None)) } else { Ok(()) };
            Box::pin(std::future::ready(result))
        }
    }

    async fn run(fail: bool, items: &[u64]) -> (Vec<(u64, usize)>, Vec<Result<(), Failure>>) {
        let notes = Arc::new(Notes(Mutex::default(), fail));
        let config = BatchConfig { send_batch_size: 10, ..BatchConfig::default() };
        let batch = Batch::new(config, notes.clone());
        let stop = CancellationToken::new();
        let data = |items| Data { signal: Signal::Logs, body: Bytes::from_static(b"abc"), items };
        let senders = futures::future::join_all(items.iter().map(|n| batch.consume(data(*n))));
        let sent = async {
            let results = senders.await;
            stop.cancel();
            results
        };
        let (results, ()) = tokio::join!(sent, batch.run(stop.clone()));
        let seen = notes.0.lock().clone();
        (seen, results)
    }

    #[tokio::test]
    async fn joins_what_waits_and_answers_everybody() {
        let (seen, results) = run(false, &[4, 4, 4, 4]).await;
        assert_eq!(seen, [(12, 9), (4, 3)]);
        assert!(results.iter().all(Result::is_ok));
        let (_, results) = run(true, &[1, 2]).await;
        assert!(results.iter().all(|r| r.as_ref().is_err_and(Failure::is_retryable)));
    }
}
