//! A bounded queue before an exporter that tries again until the data is taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use service::{CancellationToken, Failure};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::data::{Consumer, Data};

/// How long to wait between tries.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// First pause.
    pub initial: Duration,
    /// Longest pause.
    pub max: Duration,
    /// Growth of the pause from try to try.
    pub multiplier: f64,
    /// Give up and drop after so long; `None` never.
    pub give_up: Option<Duration>,
}

impl Backoff {
    /// For data that was acknowledged and has no other home: never gives up.
    pub const STUBBORN: Self = Self {
        initial: Duration::from_millis(500),
        max: Duration::from_secs(30),
        multiplier: 1.5,
        give_up: None,
    };
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Requests that wait or are on their way.
    pub requests: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Requests on their way at the same time.
    pub workers: usize,
}

/// The queue. [`run`](Self::run) is its one task.
pub struct Queue {
    name: String,
    next: Arc<dyn Consumer>,
    limits: QueueLimits,
    backoff: Backoff,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Data>,
    /// Of what waits and what is on its way.
    requests: usize,
    bytes: usize,
    dropped_items: u64,
}

impl Queue {
    /// An empty queue called `name` in messages.
    pub fn new(
        name: impl Into<String>,
        next: Arc<dyn Consumer>,
        limits: QueueLimits,
        backoff: Backoff,
    ) -> Self {
        let (state, wake) = (Mutex::default(), Notify::new());
        Self { name: name.into(), next, limits, backoff, state, wake }
    }

    /// Whether there is room for more; the answer for the sender if not.
    pub fn admit(&self) -> Result<(), Failure> {
        let state = self.state.lock();
        if state.requests < self.limits.requests && state.bytes < self.limits.bytes {
            return Ok(());
        }
        let text =
            format!("{}: queue is full ({} requests, {} bytes wait)", self.name, state.requests, state.bytes);
        Err(Failure::unavailable(text, Some(Duration::from_secs(1))))
    }

    /// Takes data whatever the bounds say; ask [`admit`](Self::admit) before accepting its cause.
    pub fn push(&self, data: Data) {
        let mut state = self.state.lock();
        state.requests += 1;
        state.bytes += data.body.len();
        state.waiting.push_back(data);
        drop(state);
        self.wake.notify_one();
    }

    /// Requests and bytes that wait or are on their way, and items dropped so far.
    pub fn load(&self) -> (usize, usize, u64) {
        let state = self.state.lock();
        (state.requests, state.bytes, state.dropped_items)
    }

    /// Sends until `stop`, then sends what is left.
    pub async fn run(&self, stop: CancellationToken) {
        let workers = (0..self.limits.workers.max(1)).map(|_| self.work(&stop));
        futures::future::join_all(workers).await;
    }

    async fn work(&self, stop: &CancellationToken) {
        loop {
            let next = self.state.lock().waiting.pop_front();
            match next {
                Some(data) => self.send(data).await,
                None if stop.is_cancelled() => return,
                None => tokio::select! {
                    () = self.wake.notified() => {}
                    () = stop.cancelled() => {}
                },
            }
        }
    }

    async fn send(&self, data: Data) {
        let begun = Instant::now();
        let mut pause = self.backoff.initial;
        loop {
            let failure = match self.next.consume(data.clone()).await {
                Ok(()) => break,
                Err(failure) => failure,
            };
            let tired = self.backoff.give_up.is_some_and(|limit| begun.elapsed() >= limit);
            if !failure.is_retryable() || tired {
                self.state.lock().dropped_items += data.items;
                tracing::error!(queue = self.name, items = data.items, error = %failure, "data dropped");
                break;
            }
            let wait =
                failure.retry_after().unwrap_or_default().max(pause.mul_f64(0.5 + rand::random::<f64>()));
            tracing::debug!(queue = self.name, error = %failure, ?wait, "will try again");
            tokio::time::sleep(wait).await;
            pause = pause.mul_f64(self.backoff.multiplier).min(self.backoff.max);
        }
        let mut state = self.state.lock();
        state.requests -= 1;
        state.bytes -= data.body.len();
    }
}

/// A queue that acknowledges at once: the `sending_queue` of an exporter.
pub struct SendingQueue(pub Arc<Queue>);

impl Consumer for SendingQueue {
    fn consume(&self, data: Data) -> futures::future::BoxFuture<'_, Result<(), Failure>> {
        let taken = self.0.admit().map(|()| self.0.push(data));
        Box::pin(std::future::ready(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use wire::otlp::Signal;

    /// Fails so many times before it takes anything.
    struct Flaky(AtomicUsize, bool, Mutex<Vec<u64>>);

    impl Consumer for Flaky {
        fn consume(&self, data: Data) -> futures::future::BoxFuture<'_, Result<(), Failure>> {
            let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
            let result = match (left, self.1) {
                (true, true) => Err(Failure::unavailable("away", None)),
                (true, false) => Err(Failure::invalid("never")),
                (false, _) => {
                    self.2.lock().push(data.items);
                    Ok(())
                }
            };
            Box::pin(std::future::ready(result))
        }
    }

    async fn through(failures: usize, retryable: bool) -> (Vec<u64>, (usize, usize, u64)) {
        let flaky = Arc::new(Flaky(AtomicUsize::new(failures), retryable, Mutex::default()));
        let limits = QueueLimits { requests: 3, bytes: 100, workers: 1 };
        let queue = Queue::new("test", flaky.clone(), limits, Backoff::STUBBORN);
        for items in 1..=3 {
            queue.admit().unwrap();
            queue.push(Data { signal: Signal::Traces, body: bytes::Bytes::from_static(b"12345"), items });
        }
        assert!(queue.admit().unwrap_err().is_retryable());
        let stop = CancellationToken::new();
        stop.cancel();
        queue.run(stop).await;
        let taken = flaky.2.lock().clone();
        (taken, queue.load())
    }

    #[tokio::test(start_paused = true)]
    async fn tries_again_until_taken_and_drops_what_never_will_be() {
        assert_eq!(through(0, true).await, (vec![1, 2, 3], (0, 0, 0)));
        assert_eq!(through(20, true).await, (vec![1, 2, 3], (0, 0, 0)));
        assert_eq!(through(2, false).await, (vec![3], (0, 0, 3)));
    }
}
