//! The way in: what a target has received, through its job's relabelling and pipeline into the clients' queues.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use model::{Labels, Timestamp};
use parking_lot::Mutex;
use service::CancellationToken;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{TargetMetrics, stream_labels};
use crate::dispatch::Dispatcher;
use crate::entry::{Entry, Tickets};
use crate::progress::Ticket;
use crate::relabel::{Relabel, TargetLabels, relabel};
use crate::source::Ranges;
use crate::spool::{Batch, Spool, SpoolError};

/// Makes a pipeline of every job, with its queues.
pub(crate) type MakeDispatcher = Arc<dyn Fn() -> Dispatcher + Send + Sync>;

/// Where the messages of one job go.
#[derive(Clone)]
pub(crate) struct Way {
    /// Index of the job.
    pub(crate) job: usize,
    /// The job's rules.
    pub(crate) rules: Arc<[Relabel]>,
    /// Makes a pipeline of the job, with its queues.
    pub(crate) dispatcher: MakeDispatcher,
    /// Where lines lie until clients read them; without it they go into the pipeline.
    pub(crate) spool: Option<Arc<Spool>>,
}

/// Makes the inlets of one target. Cheap to clone.
///
/// A target outlives a reload that does not change it; its inlets then lead elsewhere ([`lead`](Self::lead)).
#[derive(Clone)]
pub(crate) struct Inlets {
    shared: Arc<Shared>,
    /// What targets count.
    pub(crate) metrics: TargetMetrics,
}

struct Shared {
    /// Counts the ways, so that those who wait for room see a new one.
    turns: watch::Sender<u64>,
    ways: Mutex<Ways>,
}

struct Ways {
    way: Way,
    /// The inlets that were made.
    lanes: Vec<Arc<Mutex<Lane>>>,
}

/// One inlet's own pipeline: stages remember lines.
struct Lane {
    job: usize,
    rules: Arc<[Relabel]>,
    dispatcher: Dispatcher,
}

impl Lane {
    fn new(way: &Way) -> Self {
        Self { job: way.job, rules: way.rules.clone(), dispatcher: (way.dispatcher)() }
    }
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
    lane: Arc<Mutex<Lane>>,
    shared: Arc<Shared>,
}

impl Inlets {
    /// The inlets of a target.
    pub(crate) fn new(way: Way, metrics: TargetMetrics) -> Self {
        let ways = Mutex::new(Ways { way, lanes: Vec::new() });
        Self { shared: Arc::new(Shared { turns: watch::Sender::new(0), ways }), metrics }
    }

    /// Where lines lie until clients read them, if the job wants that.
    pub(crate) fn spool(&self) -> Option<Arc<Spool>> {
        self.shared.ways.lock().way.spool.clone()
    }

    /// The labels of a stream after relabelling; `None` if it is dropped.
    pub(crate) fn labels(&self, labels: TargetLabels) -> Option<Labels> {
        let rules = self.shared.ways.lock().way.rules.clone();
        relabel(&rules, labels).map(|labels| stream_labels(&labels))
    }

    /// Takes what `messages` bring until all senders are gone, to where the job wants it.
    pub(crate) async fn pump(self, target: &'static str, messages: Messages, stop: CancellationToken) {
        match self.spool() {
            Some(spool) => self.pump_into(&spool, target, messages, stop).await,
            None => self.open().pump(target, messages, self.metrics.clone(), stop).await,
        }
    }

    /// Appends messages to the spool, as many at a time as have come. What it does not take now is tried again; once `stop` came,
    /// for [`LAST_WAIT`].
    async fn pump_into(
        self,
        spool: &Spool,
        target: &'static str,
        mut messages: Messages,
        stop: CancellationToken,
    ) {
        const AT_ONCE: usize = 1024;
        const PAUSE: Duration = Duration::from_secs(1);
        let mut received = Vec::new();
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WAIT).await;
        };
        let late = late.shared();
        while messages.0.recv_many(&mut received, AT_ONCE).await > 0 {
            let mut batch = Batch::default();
            let mut budgets = Vec::with_capacity(received.len());
            for (message, budget) in received.drain(..) {
                budgets.push(budget);
                if let Some(labels) = self.labels(message.labels) {
                    let timestamp = message.timestamp.unwrap_or_else(Timestamp::now);
                    batch.add(&Entry::new(timestamp, message.line, labels));
                }
            }
            let records = batch.finish();
            let stored = async {
                loop {
                    match spool.append(&records, None, ()).await {
                        Ok(()) => return true,
                        Err(SpoolError::TooLarge { .. }) => return false,
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                }
            };
            let lost = tokio::select! {
                biased;
                stored = stored => (!stored).then_some("too_large"),
                () = late.clone() => Some("shutdown"),
            };
            if let Some(reason) = lost {
                self.metrics.lost(target, reason, budgets.len() as u64);
            }
        }
    }

    /// A pipeline for a target of the job.
    pub(crate) fn open(&self) -> Inlet {
        let mut ways = self.shared.ways.lock();
        let lane = Arc::new(Mutex::new(Lane::new(&ways.way)));
        // Those that only we know are closed.
        ways.lanes.retain(|lane| Arc::strong_count(lane) > 1);
        ways.lanes.push(lane.clone());
        Inlet { lane, shared: self.shared.clone() }
    }

    /// Leads all inlets elsewhere. What waits in the old pipelines goes into the old queues first; after this nothing does.
    pub(crate) fn lead(&self, way: Way) {
        let mut ways = self.shared.ways.lock();
        for lane in &ways.lanes {
            let mut lane = lane.lock();
            lane.dispatcher.finish();
            *lane = Lane::new(&way);
        }
        ways.way = way;
        self.shared.turns.send_modify(|turn| *turn += 1);
    }
}

impl Inlet {
    /// The labels of a stream after relabelling; `None` if it is dropped.
    pub(crate) fn labels(&self, labels: TargetLabels) -> Option<Labels> {
        let rules = self.lane.lock().rules.clone();
        relabel(&rules, labels).map(|labels| stream_labels(&labels))
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
        self.pass(entry);
    }

    /// The same of an entry that stores will know again by `ranges`.
    pub(crate) fn enter_from(&mut self, mut entry: Entry, ticket: &Arc<Ticket>, ranges: Ranges) {
        entry.tickets = Tickets::of_bytes(ticket, ranges);
        self.pass(entry);
    }

    fn pass(&self, entry: Entry) {
        let lane = &mut *self.lane.lock();
        lane.dispatcher.enter(lane.job, entry);
    }

    /// Has what was handed on sent at once: somebody waits for its delivery.
    pub(crate) fn urge(&self) {
        self.lane.lock().dispatcher.urge();
    }

    /// Hands on what has waited long enough in the pipeline.
    pub(crate) fn tick(&mut self) {
        self.lane.lock().dispatcher.tick();
    }

    /// Hands on all that waits in the pipeline.
    pub(crate) fn finish(&mut self) {
        self.lane.lock().dispatcher.finish();
    }

    /// Resolves when every queue has room, and no stage asks for a pause.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let (lane, mut turns) = (self.lane.clone(), self.shared.turns.subscribe());
        async move {
            loop {
                turns.borrow_and_update();
                let (room, pause) = {
                    let lane = lane.lock();
                    (lane.dispatcher.room(), lane.dispatcher.pause(lane.job))
                };
                let wait = async {
                    if let Some(until) = pause {
                        tokio::time::sleep_until(until.into()).await;
                    }
                    room.await;
                };
                tokio::select! {
                    () = wait => return,
                    // The room that was waited for is not where the message goes.
                    Ok(()) = turns.changed() => {}
                }
            }
        }
    }

    /// Takes what `messages` bring until all senders are gone; once `stop` came, what is left must find room within
    /// [`LAST_WAIT`].
    async fn pump(
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
