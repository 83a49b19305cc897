//! From lines to entries in the clients' queues: labels, pipeline, accounting.

use std::sync::Arc;
use std::time::Instant;

use model::{Labels, Timestamp};
use service::CancellationToken;

use crate::client::Queue;
use crate::entry::{Entry, Tickets};
use crate::metrics::{AgentMetrics, PathLabels};
use crate::pipeline::Pipeline;
use crate::progress::Ticket;
use crate::tail::Line;

/// The pipelines of all jobs and the queues behind them. Each reader has its own, for stages have state.
pub(crate) struct Dispatcher {
    pipelines: Vec<Pipeline>,
    queues: Vec<Arc<Queue>>,
    metrics: AgentMetrics,
    /// What came out of a pipeline; room that is used again.
    ready: Vec<Entry>,
}

impl Dispatcher {
    /// Pipelines by index of their job.
    pub(crate) fn new(pipelines: Vec<Pipeline>, queues: Vec<Arc<Queue>>, metrics: AgentMetrics) -> Self {
        Self { pipelines, queues, metrics, ready: Vec::new() }
    }

    /// Runs a line through its job's pipeline and queues what comes out.
    pub(crate) fn dispatch(&mut self, job: usize, line: Line, labels: &Labels, ticket: Option<&Arc<Ticket>>) {
        let mut entry = Entry::new(line.time.unwrap_or_else(Timestamp::now), line.text, labels.clone());
        entry.docker = line.stream;
        entry.tickets = ticket.map(Tickets::open).unwrap_or_default();
        self.enter(job, entry);
    }

    /// Runs an entry through its job's pipeline and queues what comes out.
    pub(crate) fn enter(&mut self, job: usize, entry: Entry) {
        match self.pipelines.get_mut(job) {
            Some(pipeline) => pipeline.run(entry, Instant::now(), &mut self.ready),
            None => entry.tickets.done(),
        }
        self.queue_ready();
    }

    /// Queues what has waited in a pipeline long enough for more lines. To be called a few times a second.
    pub(crate) fn tick(&mut self) {
        let now = Instant::now();
        self.pipelines.iter_mut().for_each(|pipeline| pipeline.tick(now, &mut self.ready));
        self.queue_ready();
    }

    /// Queues everything that waits in a pipeline: there will be no more lines.
    pub(crate) fn finish(&mut self) {
        let now = Instant::now();
        self.pipelines.iter_mut().for_each(|pipeline| pipeline.finish(now, &mut self.ready));
        self.queue_ready();
    }

    /// Until when a job's pipeline wants no more lines, because `limit` slows it down.
    pub(crate) fn pause(&self, job: usize) -> Option<Instant> {
        self.pipelines.get(job)?.pause().filter(|until| *until > Instant::now())
    }

    fn queue_ready(&mut self) {
        for mut entry in self.ready.drain(..) {
            entry.settle_tenant();
            entry.tickets.share(self.queues.len());
            let entry = Arc::new(entry);
            for queue in &self.queues {
                queue.push(entry.clone());
            }
        }
    }

    /// Has the clients send what is queued at once: somebody waits for its delivery.
    pub(crate) fn urge(&self) {
        self.queues.iter().for_each(|queue| queue.urge());
    }

    /// Waits on this thread until every queue has room; `false` if `stop` came first.
    pub(crate) fn wait_for_room(&self, stop: &CancellationToken) -> bool {
        self.queues.iter().all(|queue| queue.wait_for_room(stop))
    }

    /// Waits until every queue has room.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let queues = self.queues.clone();
        async move {
            for queue in &queues {
                queue.room().await;
            }
        }
    }

    /// Counts what was read of a file.
    pub(crate) fn note_read(&self, path: &str, lines: &[Line]) {
        if !lines.is_empty() {
            let labels = PathLabels { path: path.to_owned() };
            self.metrics.read_lines.get_or_create(&labels).inc_by(lines.len() as u64);
            let bytes: usize = lines.iter().map(|l| l.text.len() + 1).sum();
            self.metrics.read_bytes.get_or_create(&labels).inc_by(bytes as i64);
        }
    }

    /// Counts a line read over the engine's API.
    pub(crate) fn note_container_line(&self) {
        self.metrics.docker_entries.inc();
    }

    /// Forgets the counts of a file that is gone.
    pub(crate) fn forget(&self, path: &str) {
        let labels = PathLabels { path: path.to_owned() };
        self.metrics.read_lines.remove(&labels);
        self.metrics.read_bytes.remove(&labels);
    }
}
