//! From lines to entries in the clients' queues: labels, pipeline, accounting.

use std::sync::Arc;

use model::{LabelsBuilder, Timestamp};
use service::CancellationToken;

use crate::client::Queue;
use crate::entry::Entry;
use crate::metrics::{AgentMetrics, PathLabels, ReasonLabels};
use crate::pipeline::{Pipeline, Verdict};
use crate::progress::Ticket;
use crate::tail::Line;

/// The pipelines of all jobs and the queues behind them. Each reader has its own, for stages have state.
pub(crate) struct Dispatcher {
    pipelines: Vec<Pipeline>,
    queues: Vec<Arc<Queue>>,
    metrics: AgentMetrics,
}

impl Dispatcher {
    /// Pipelines by index of their job.
    pub(crate) fn new(pipelines: Vec<Pipeline>, queues: Vec<Arc<Queue>>, metrics: AgentMetrics) -> Self {
        Self { pipelines, queues, metrics }
    }

    /// Runs a line through its job's pipeline and queues what comes out.
    pub(crate) fn dispatch(
        &mut self,
        job: usize,
        line: Line,
        labels: &LabelsBuilder,
        ticket: Option<&Arc<Ticket>>,
    ) {
        let mut entry = Entry::new(line.time.unwrap_or_else(Timestamp::now), line.text, labels.clone());
        entry.docker = line.stream;
        let Some(pipeline) = self.pipelines.get_mut(job) else { return };
        if let Verdict::Drop(reason) = pipeline.run(&mut entry) {
            self.metrics.stage_dropped.get_or_create(&ReasonLabels { reason: reason.to_owned() }).inc();
            return;
        }
        if let Some(ticket) = ticket {
            ticket.add(self.queues.len() as u32);
        }
        entry.ticket = ticket.cloned();
        let entry = Arc::new(entry);
        for queue in &self.queues {
            queue.push(entry.clone());
        }
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
