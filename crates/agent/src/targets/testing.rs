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
use crate::spool::Spool;

/// The far end of a target.
pub(crate) struct Bench {
    pub(crate) inlets: Inlets,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: TargetMetrics,
    way: Way,
}

impl Bench {
    /// With the job's relabel rules, and a queue of `bytes`.
    pub(crate) fn new(rules: serde_json::Value, bytes: usize) -> Self {
        let rules: Vec<RelabelConfig> = serde_json::from_value(rules).unwrap();
        let rules = rules.iter().map(|rule| Relabel::compile(rule).unwrap()).collect();
        let queue = Arc::new(Queue::of_single_entries(bytes));
        let (queues, metrics) = (vec![queue.clone()], TargetMetrics::default());
        let dispatcher = Arc::new(move || {
            let stages =
                Pipeline::compile(&Value::default(), &StageMetrics::default(), &mut Problems::default());
            Dispatcher::new(vec![stages], queues.clone(), AgentMetrics::default())
        });
        let way = Way { job: 0, rules, dispatcher, spool: None };
        let inlets = Inlets::new(way.clone(), metrics.clone());
        Self { inlets, queue, metrics, way }
    }

    /// The same, where lines go to a spool. Whoever reads it leads them here.
    pub(crate) fn spooled(&self, spool: Arc<Spool>) -> Inlets {
        Inlets::new(Way { spool: Some(spool), ..self.way.clone() }, self.metrics.clone())
    }

    /// With a rule that copies each label that begins with `prefix` into one without it.
    pub(crate) fn mapping(prefix: &str) -> Self {
        let rule = serde_json::json!({"action": "labelmap", "regex": format!("{prefix}(.*)")});
        Self::new(serde_json::json!([rule]), 1 << 20)
    }

    /// The next entry; its tickets stay open.
    pub(crate) async fn entry(&self) -> Arc<Entry> {
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
    pub(crate) async fn lines(&self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            let entry = self.entry().await;
            entry.tickets.done();
            lines.push(format!("{} {}", entry.labels, entry.line));
        }
        lines
    }
}
