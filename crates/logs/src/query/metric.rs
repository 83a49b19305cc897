//! Runs metric queries: the windows of each range aggregation are shared out among workers, each with a part of the query.

use std::collections::VecDeque;
use std::sync::Arc;

use logql::{MetricExpr, MetricLimits, MetricParams, MetricQuery, QueryResult};
use parking_lot::Mutex;
use service::Failure;
use tokio::task::JoinSet;

use crate::query::plan::{self, Window};
use crate::query::run::{Cancel, Querier, QueryContext, TASK_ROWS, TaskContext, eval_failure};
use crate::query::stats::QueryStats;

impl Querier {
    /// Runs a metric query.
    pub async fn metric_query(
        &self,
        context: &QueryContext,
        expr: &MetricExpr,
        params: MetricParams,
        limits: MetricLimits,
    ) -> Result<QueryResult, Failure> {
        let mut query = MetricQuery::new(expr, params, limits).map_err(eval_failure)?;
        let leaves = query.leaves().to_vec();
        for (at, leaf) in leaves.into_iter().enumerate() {
            let (first, last) = (leaf.start.saturating_add(1), leaf.end);
            if first > last {
                continue;
            }
            let view = self.view(&context.tenant, first, last).await?;
            let windows = self.windows(&view, leaf.matchers, first, last, TASK_ROWS).await?;
            QueryStats::add(&context.stats.chunks_planned, windows.len() as u64);
            let cancel = Cancel::new();
            let task = TaskContext {
                view,
                needs: Arc::new(leaf.needs),
                query: context.clone(),
                permits: self.permits.clone(),
                cancelled: cancel.flag(),
            };
            let queue: Arc<Mutex<VecDeque<Window>>> = Arc::new(Mutex::new(windows.into()));
            let mut workers = JoinSet::new();
            for _ in 0..self.parallel {
                let (task, queue, mut part) = (task.clone(), queue.clone(), query.fork());
                workers.spawn(async move {
                    loop {
                        let taken = plan::take(&mut queue.lock(), TASK_ROWS);
                        if taken.is_empty() {
                            return Ok::<_, Failure>(part);
                        }
                        part = task.run(taken, part, move |part, batch| part.push(at, batch)).await?;
                    }
                });
            }
            while let Some(part) = workers.join_next().await {
                let part = part.map_err(|e| Failure::internal(format!("a query worker died: {e}")))??;
                query.merge(part).map_err(eval_failure)?;
            }
            drop(cancel);
        }
        query.finish().map_err(eval_failure)
    }
}
