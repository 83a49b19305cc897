//! A client's task: sends batches until the store has them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use service::{CancellationToken, Failure};

use super::batch::{Sealed, SealedStream};
use super::destination::{Destination, Prepared, Room};
use super::queue::{Next, Queue};
use crate::board::ClientStatus;
use crate::config::ClientConfig;
use crate::metrics::{AgentMetrics, AnswerLabels, HostLabels, LossLabels, TenantLabels};

/// Sends what a queue holds.
pub struct Sender {
    queue: Arc<Queue>,
    destination: Destination,
    config: ClientConfig,
    metrics: AgentMetrics,
    host: String,
    status: Arc<ClientStatus>,
    patience: Duration,
    room: Mutex<Room>,
}

/// Longest pause that a store's `Retry-After` makes, unless `max_period` is longer.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What came of a request.
enum Outcome {
    /// The store has it.
    Delivered,
    /// The store will never take it.
    Refused(Failure),
    /// It was tried as often as the configuration says.
    TriedEnough(Failure),
    /// The agent stops, and the store is away.
    GivenUp,
}

impl Sender {
    /// The task of one client.
    pub fn new(
        queue: Arc<Queue>,
        destination: Destination,
        config: ClientConfig,
        metrics: AgentMetrics,
    ) -> Self {
        let host = destination.host();
        let (status, room) = Default::default();
        let patience = Duration::MAX;
        Self { queue, destination, config, metrics, host, status, patience, room }
    }

    /// The same, and an answer is waited for no longer than that when the agent stops.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same, and `status` shows how it fares.
    pub(crate) fn with_status(self, status: Arc<ClientStatus>) -> Self {
        Self { status, ..self }
    }

    /// Sends until `stop`, then tries what is left once more. What the store never took stays unacknowledged: it is read
    /// from the files again at the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut busy: HashSet<String> = HashSet::new();
        let mut sending = FuturesUnordered::new();
        let mut given_up = Vec::new();
        loop {
            let stopping = stop.is_cancelled();
            let next = match given_up.is_empty() {
                true => self.queue.next(|tenant| busy.contains(tenant), stopping),
                false => Next::Wait(None),
            };
            let due = match next {
                Next::Batch(batch) => {
                    busy.insert(batch.tenant().to_owned());
                    sending.push(self.send(batch, &stop));
                    continue;
                }
                Next::Wait(_) if stopping && sending.is_empty() => break,
                Next::Wait(due) => due,
            };
            tokio::select! {
                Some((batch, is_given_up)) = sending.next(), if !sending.is_empty() => {
                    if is_given_up {
                        given_up.push(batch);
                        continue;
                    }
                    busy.remove(batch.tenant());
                    self.queue.release(batch);
                }
                () = self.queue.filled() => {}
                () = stop.cancelled(), if !stopping => {}
                () = sleep_until(due) => {}
            }
        }
        // A client of the same name may take over.
        given_up.into_iter().rev().for_each(|batch| self.queue.put_back(batch));
    }

    /// Sends a batch until its lines are delivered or lost; or, if the second is true, until the agent stops.
    async fn send(&self, batch: Sealed, stop: &CancellationToken) -> (Sealed, bool) {
        let is_given_up = match self.deliver(&batch, batch.streams(), stop).await {
            Outcome::GivenUp => true,
            Outcome::Refused(failure) if batch.streams().len() > 1 && is_of_one_stream(&failure) => {
                self.send_apart(&batch, stop).await
            }
            outcome => {
                self.account(&batch, batch.streams(), outcome);
                false
            }
        };
        if !is_given_up {
            batch.acknowledge();
        }
        (batch, is_given_up)
    }

    /// Sends each stream of a refused batch by itself. The store may have taken some already; it knows them again, or drops what is the
    /// same as what it has.
    async fn send_apart(&self, batch: &Sealed, stop: &CancellationToken) -> bool {
        for stream in batch.streams().chunks(1) {
            match self.deliver(batch, stream, stop).await {
                Outcome::GivenUp => return true,
                outcome => self.account(batch, stream, outcome),
            }
        }
        false
    }

    /// Sends streams of a batch until the store has taken or refused them.
    async fn deliver(&self, batch: &Sealed, streams: &[SealedStream], stop: &CancellationToken) -> Outcome {
        let request = match self.prepare(batch, streams) {
            Ok(request) => request,
            Err(failure) => return Outcome::Refused(failure),
        };
        let backoff = &self.config.backoff_config;
        let mut pause = backoff.min_period.get();
        for tries in 1_u32.. {
            let answer = tokio::select! {
                answer = self.try_once(batch.tenant(), &request) => answer,
                () = self.stopped_long(stop) => {
                    tracing::warn!(client = self.config.name, "stopping before the store has answered");
                    return Outcome::GivenUp;
                }
            };
            let Err(failure) = answer else { return Outcome::Delivered };
            let is_limit = failure.status() == http::StatusCode::TOO_MANY_REQUESTS;
            if !failure.is_retryable() {
                return Outcome::Refused(failure);
            }
            if is_limit && self.config.drop_rate_limited_batches
                || backoff.max_retries.is_some_and(|max| max > 0 && tries >= max)
            {
                return Outcome::TriedEnough(failure);
            }
            if stop.is_cancelled() {
                self.status.waits(&failure);
                tracing::warn!(client = self.config.name, error = %failure, "stopping before the store took everything");
                return Outcome::GivenUp;
            }
            // A store that asks for a day does not mean it.
            let most = backoff.max_period.get().max(MAX_RETRY_AFTER);
            let wait = failure
                .retry_after()
                .unwrap_or_default()
                .min(most)
                .max(pause.mul_f64(1.0 + rand::random::<f64>()));
            tracing::warn!(client = self.config.name, error = %failure, ?wait, "the store did not take a batch: trying again");
            let labels = TenantLabels { host: self.host.clone(), tenant: batch.tenant().to_owned() };
            self.metrics.batch_retries.get_or_create(&labels).inc();
            self.status.waits(&failure);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(backoff.max_period.get());
        }
        Outcome::GivenUp
    }

    fn prepare(&self, batch: &Sealed, streams: &[SealedStream]) -> Result<Prepared, Failure> {
        let mut room = self.room.lock();
        batch.request(streams, &mut room.plain);
        self.destination.prepare(&mut room)
    }

    /// Resolves when the agent stops, and its patience is at its end.
    async fn stopped_long(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(self.patience).await;
    }

    async fn try_once(&self, tenant: &str, request: &Prepared) -> Result<(), Failure> {
        let host = HostLabels { host: self.host.clone() };
        self.metrics.encoded_bytes.get_or_create(&host).inc_by(request.bytes() as u64);
        let begun = Instant::now();
        let answer = self.destination.push(tenant, request).await;
        let status_code = answer.status.map_or("-1".to_owned(), |status| status.to_string());
        let labels = AnswerLabels { status_code, host: self.host.clone() };
        self.metrics.request_duration.get_or_create(&labels).observe(begun.elapsed().as_secs_f64());
        if answer.result.is_ok() {
            self.metrics.sent_bytes.get_or_create(&host).inc_by(request.bytes() as u64);
        }
        answer.result
    }

    /// Counts what became of streams.
    fn account(&self, batch: &Sealed, streams: &[SealedStream], outcome: Outcome) {
        let entries: u64 = streams.iter().map(|stream| stream.entries).sum();
        let failure = match outcome {
            Outcome::GivenUp => return,
            Outcome::Delivered => {
                let host = HostLabels { host: self.host.clone() };
                self.metrics.sent_entries.get_or_create(&host).inc_by(entries);
                self.status.sent();
                return;
            }
            Outcome::Refused(failure) | Outcome::TriedEnough(failure) => failure,
        };
        let is_limit = failure.status() == http::StatusCode::TOO_MANY_REQUESTS;
        self.status.refused(&failure);
        tracing::error!(client = self.config.name, entries, error = %failure, "lines are dropped: the store did not take them");
        let labels = LossLabels {
            host: self.host.clone(),
            tenant: batch.tenant().to_owned(),
            reason: if is_limit { "rate_limited" } else { "ingester_error" }.to_owned(),
        };
        self.metrics.dropped_entries.get_or_create(&labels).inc_by(entries);
        let bytes: usize = streams.iter().map(|stream| stream.bytes).sum();
        self.metrics.dropped_bytes.get_or_create(&labels).inc_by(bytes as u64);
    }
}

/// Whether one stream may be to blame, rather than the request as a whole.
fn is_of_one_stream(failure: &Failure) -> bool {
    matches!(failure.status().as_u16(), 400 | 413 | 422)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => tokio::time::sleep(Duration::MAX).await,
    }
}
