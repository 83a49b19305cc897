//! For tests of targets: a job's inlets in front of a queue that the test empties.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service::config::{Problems, Value};

use super::{Inlets, TargetMetrics, Way};
use crate::client::Queue;
use crate::dispatch::Dispatcher;
use crate::entry::Entry;
use crate::metrics::{AgentMetrics, StageMetrics};
use crate::pipeline::Pipeline;
use crate::relabel::{Relabel, RelabelConfig};

/// The far end of a target.
pub(super) struct Bench {
    pub(super) inlets: Inlets,
    pub(super) queue: Arc<Queue>,
    pub(super) metrics: TargetMetrics,
}

impl Bench {
    /// With the job's relabel rules, and a queue of `bytes`.
    pub(super) fn new(rules: serde_json::Value, bytes: usize) -> Self {
        let rules: Vec<RelabelConfig> = serde_json::from_value(rules).unwrap();
        let rules = rules.iter().map(|rule| Relabel::compile(rule).unwrap()).collect();
        let queue = Arc::new(Queue::of_single_entries(bytes));
        let (queues, metrics) = (vec![queue.clone()], TargetMetrics::default());
        let dispatcher = Arc::new(move || {
            let stages =
                Pipeline::compile(&Value::default(), &StageMetrics::default(), &mut Problems::default());
            Dispatcher::new(vec![stages], queues.clone(), AgentMetrics::default())
        });
        let inlets = Inlets::new(Way { job: 0, rules, dispatcher }, metrics.clone());
        Self { inlets, queue, metrics }
    }

    /// With a rule that copies each label that begins with `prefix` into one without it.
    pub(super) fn mapping(prefix: &str) -> Self {
        let rule = serde_json::json!({"action": "labelmap", "regex": format!("{prefix}(.*)")});
        Self::new(serde_json::json!([rule]), 1 << 20)
    }

    /// The next entry; its tickets stay open.
    pub(super) async fn entry(&self) -> Arc<Entry> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(entry) = self.queue.pop() {
                return entry;
            }
            assert!(Instant::now() < deadline, "no entry came");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// `labels line` of the next entries.
    pub(super) async fn lines(&self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            let entry = self.entry().await;
            entry.tickets.done();
            lines.push(format!("{} {}", entry.labels, entry.line));
        }
        lines
    }
}
