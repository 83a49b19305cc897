//! The way in: what a target has received, through its job's relabelling and pipeline into the clients' queues.

use std::sync::Arc;
use std::time::Duration;

use model::{Labels, Timestamp};
use service::CancellationToken;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{TargetMetrics, stream_labels};
use crate::dispatch::Dispatcher;
use crate::entry::{Entry, Tickets};
use crate::progress::Ticket;
use crate::relabel::{Relabel, TargetLabels, relabel};

/// Makes the inlets of one job. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Inlets {
    /// Index of the job.
    pub(crate) job: usize,
    /// The job's rules.
    pub(crate) rules: Arc<[Relabel]>,
    /// Makes a pipeline of the job, with its queues.
    pub(crate) dispatcher: Arc<dyn Fn() -> Dispatcher + Send + Sync>,
    /// What targets count.
    pub(crate) metrics: TargetMetrics,
}

/// A message as a target has understood it.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// What is known of it, for relabelling.
    pub(crate) labels: TargetLabels,
    /// When it happened; now, if the target does not say.
    pub(crate) timestamp: Option<Timestamp>,
    /// Its text.
    pub(crate) line: String,
}

/// A job's pipeline, owned by one target.
pub(crate) struct Inlet {
    job: usize,
    rules: Arc<[Relabel]>,
    dispatcher: Dispatcher,
}

impl Inlets {
    /// A pipeline for a target of the job.
    pub(crate) fn open(&self) -> Inlet {
        Inlet { job: self.job, rules: self.rules.clone(), dispatcher: (self.dispatcher)() }
    }
}

impl Inlet {
    /// The labels of a stream after relabelling; `None` if it is dropped.
    pub(crate) fn labels(&self, labels: TargetLabels) -> Option<Labels> {
        relabel(&self.rules, labels).map(|labels| stream_labels(&labels))
    }

    /// Takes a message; a rule may drop it.
    pub(crate) fn take(&mut self, received: Received) {
        if let Some(labels) = self.labels(received.labels) {
            let timestamp = received.timestamp.unwrap_or_else(Timestamp::now);
            self.enter(Entry::new(timestamp, received.line, labels), None);
        }
    }

    /// Takes an entry whose labels are final; the ticket tells when every client has it.
    pub(crate) fn enter(&mut self, mut entry: Entry, ticket: Option<&Arc<Ticket>>) {
        entry.tickets = ticket.map(Tickets::open).unwrap_or_default();
        self.dispatcher.enter(self.job, entry);
    }

    /// Has what was handed on sent at once: somebody waits for its delivery.
    pub(crate) fn urge(&self) {
        self.dispatcher.urge();
    }

    /// Hands on what has waited long enough in the pipeline.
    pub(crate) fn tick(&mut self) {
        self.dispatcher.tick();
    }

    /// Hands on all that waits in the pipeline.
    pub(crate) fn finish(&mut self) {
        self.dispatcher.finish();
    }

    /// Resolves when every queue has room, and no stage asks for a pause.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let (room, pause) = (self.dispatcher.room(), self.dispatcher.pause(self.job));
        async move {
            if let Some(until) = pause {
                tokio::time::sleep_until(until.into()).await;
            }
            room.await;
        }
    }

    /// Takes what `messages` bring until all senders are gone; once `stop` came, what is left must find room within
    /// [`LAST_WAIT`].
    pub(crate) async fn pump(
        mut self,
        target: &'static str,
        mut messages: Messages,
        metrics: TargetMetrics,
        stop: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut deadline = None;
        loop {
            let message = tokio::select! {
                message = messages.0.recv() => message,
                _ = ticks.tick() => {
                    self.tick();
                    continue;
                }
            };
            let Some((message, _budget)) = message else { break };
            let mut room = std::pin::pin!(self.room());
            let has_room = tokio::select! {
                biased;
                () = &mut room => true,
                () = stop.cancelled() => {
                    let end = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + LAST_WAIT);
                    tokio::time::timeout_at(end, room).await.is_ok()
                }
            };
            if has_room {
                self.take(message);
            } else {
                metrics.lost(target, "shutdown", 1);
            }
        }
        self.finish();
    }
}

/// Messages on their way from a listener to its pipeline, bounded by their bytes.
pub(crate) fn mailbox() -> (Mailbox, Messages) {
    let (sender, messages) = mpsc::channel(MAILBOX_MESSAGES);
    (Mailbox { sender, budget: Arc::new(Semaphore::new(MAILBOX_BYTES as usize)) }, Messages(messages))
}

/// The listener's side of a [`mailbox`]. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mailbox {
    sender: mpsc::Sender<(Received, OwnedSemaphorePermit)>,
    budget: Arc<Semaphore>,
}

/// The pipeline's side of a [`mailbox`].
pub(crate) struct Messages(mpsc::Receiver<(Received, OwnedSemaphorePermit)>);

impl Mailbox {
    /// Waits for room; `false` if the pipeline is gone.
    pub(crate) async fn send(&self, message: Received) -> bool {
        match self.budget.clone().acquire_many_owned(message.weight()).await {
            Ok(budget) => self.sender.send((message, budget)).await.is_ok(),
            Err(_) => false,
        }
    }

    /// `false` if there is no room.
    pub(crate) fn try_send(&self, message: Received) -> bool {
        let budget = self.budget.clone().try_acquire_many_owned(message.weight());
        budget.is_ok_and(|budget| self.sender.try_send((message, budget)).is_ok())
    }
}

impl Received {
    /// What it counts against the mailbox. The largest message fits when nothing else is there.
    fn weight(&self) -> u32 {
        const FIXED: usize = 256;
        let labels: usize = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        u32::try_from(FIXED + labels + self.line.len()).unwrap_or(u32::MAX).min(MAILBOX_BYTES)
    }
}

/// Most messages in a mailbox.
const MAILBOX_MESSAGES: usize = 4096;
/// Most bytes in a mailbox.
const MAILBOX_BYTES: u32 = 4 << 20;

/// How often the stages that wait for more lines are asked.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// How long what was received may still wait for room when the agent stops.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What a `listen_address` comes to: `:1514` is every interface, of both families where the system has them.
pub(crate) fn addresses(listen: &str) -> std::io::Result<Vec<std::net::SocketAddr>> {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
    let Some(port) = listen.strip_prefix(':') else { return Ok(listen.to_socket_addrs()?.collect()) };
    let port: u16 = port.parse().map_err(std::io::Error::other)?;
    Ok(vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))])
}
