//! From lines to entries in the clients' queues: labels, pipeline, accounting.

use std::sync::Arc;
use std::time::Instant;

use model::{Labels, Timestamp};

use crate::client::Queue;
use crate::entry::{Entry, Tickets};
use crate::limits::LineLimits;
use crate::metrics::{AgentMetrics, PathLabels};
use crate::pipeline::Pipeline;
use crate::progress::Ticket;
use crate::tail::Line;

/// The pipelines of all jobs and the queues behind them. Each reader has its own, for stages have state.
pub(crate) struct Dispatcher {
    pipelines: Vec<Pipeline>,
    queues: Vec<Arc<Queue>>,
    metrics: AgentMetrics,
    limits: Option<Arc<LineLimits>>,
    /// What came out of a pipeline; room that is used again.
    ready: Vec<Entry>,
    /// What was queued, in order.
    #[cfg(test)]
    pub(crate) heard: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Dispatcher {
    /// Pipelines by index of their job.
    pub(crate) fn new(pipelines: Vec<Pipeline>, queues: Vec<Arc<Queue>>, metrics: AgentMetrics) -> Self {
        Self {
            pipelines,
            queues,
            metrics,
            limits: None,
            ready: Vec::new(),
            #[cfg(test)]
            heard: Arc::default(),
        }
    }

    /// The same, within bounds.
    pub(crate) fn with_limits(self, limits: Arc<LineLimits>) -> Self {
        Self { limits: Some(limits), ..self }
    }

    /// Runs a line through its job's pipeline and queues what comes out.
    pub(crate) fn dispatch(&mut self, job: usize, line: Line, labels: &Labels, ticket: Option<&Arc<Ticket>>) {
        let mut entry = Entry::new(line.time.unwrap_or_else(Timestamp::now), line.text, labels.clone());
        entry.docker = line.stream;
        entry.tickets = ticket.map(|ticket| Tickets::of_bytes(ticket, line.ranges)).unwrap_or_default();
        self.enter(job, entry);
    }

    /// Runs an entry through its job's pipeline and queues what comes out.
    pub(crate) fn enter(&mut self, job: usize, entry: Entry) {
        let now = Instant::now();
        match self.pipelines.get_mut(job) {
            Some(pipeline) => pipeline.run(entry, now, &mut self.ready),
            None => entry.tickets.done(),
        }
        self.queue_ready(now);
    }

    /// Queues what has waited in a pipeline long enough for more lines. To be called a few times a second.
    pub(crate) fn tick(&mut self) {
        let now = Instant::now();
        self.pipelines.iter_mut().for_each(|pipeline| pipeline.tick(now, &mut self.ready));
        self.queue_ready(now);
    }

    /// Queues everything that waits in a pipeline: there will be no more lines.
    pub(crate) fn finish(&mut self) {
        let now = Instant::now();
        self.pipelines.iter_mut().for_each(|pipeline| pipeline.finish(now, &mut self.ready));
        self.queue_ready(now);
    }

    /// Until when a job's pipeline wants no more lines, because `limit` slows it down.
    pub(crate) fn pause(&self, job: usize) -> Option<Instant> {
        let now = Instant::now();
        let stage = self.pipelines.get(job).and_then(Pipeline::pause);
        let rate = self.limits.as_ref().and_then(|limits| limits.pause(now));
        stage.max(rate).filter(|until| *until > now)
    }

    fn queue_ready(&mut self, now: Instant) {
        for mut entry in self.ready.drain(..) {
            entry.settle_tenant();
            if self.limits.as_ref().is_some_and(|limits| !limits.admit(&mut entry, now)) {
                continue;
            }
            #[cfg(test)]
            self.heard.lock().push(entry.line.clone());
            entry.tickets.share(self.queues.len());
            self.queues.iter().for_each(|queue| queue.push(&entry));
        }
    }

    /// Has the clients send what is queued at once: somebody waits for its delivery.
    pub(crate) fn urge(&self) {
        self.queues.iter().for_each(|queue| queue.urge());
    }

    /// Whether every queue has room.
    pub(crate) fn has_room(&self) -> bool {
        self.queues.iter().all(|queue| queue.has_room())
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
        }
    }

    /// Counts a line read over the engine's API.
    pub(crate) fn note_container_line(&self) {
        self.metrics.docker_entries.inc();
    }

    /// Counts output of a container that could not be understood.
    pub(crate) fn note_container_error(&self) {
        self.metrics.docker_parsing_errors.inc();
    }

    /// Forgets the counts of a file that is gone.
    pub(crate) fn forget(&self, path: &str) {
        let labels = PathLabels { path: path.to_owned() };
        self.metrics.read_lines.remove(&labels);
    }
}
