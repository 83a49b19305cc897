//! Runs metric queries: the windows of each range aggregation are shared out among workers, each with a part of the query.

use logql::{
    EntryBatch, EvalError, MetadataNeeds, MetricExpr, MetricLimits, MetricParams, MetricQuery, QueryResult,
};
use service::Failure;
use shred::{Columns, Table};

use crate::query::counts::Counting;
use crate::query::gate::{Cancel, within_bytes};
use crate::query::run::{Querier, QueryContext, eval_failure, on_thread};
use crate::query::simplify::simplify;
use crate::query::stats::QueryStats;
use crate::query::task::{Consumer, TaskContext};
use crate::query::window::{self, Window, windows};

/// A range aggregation of a part of a metric query.
struct LeafPart {
    query: MetricQuery,
    leaf: usize,
    metadata: MetadataNeeds,
}

impl Consumer for LeafPart {
    fn columns(&self, table: &Table) -> Columns {
        self.query.columns(self.leaf, table)
    }

    fn screen_columns(&self, table: &Table) -> Option<Columns> {
        self.query.screen_columns(self.leaf, table)
    }

    fn screen_metadata(&self) -> MetadataNeeds {
        self.metadata.clone()
    }

    fn screen(&mut self, batch: &EntryBatch) -> Result<Vec<u32>, EvalError> {
        self.query.screen(self.leaf, batch)
    }

    fn push(&mut self, batch: &EntryBatch) -> Result<(), EvalError> {
        self.query.push(self.leaf, batch)
    }
}

impl Querier {
    /// Runs a metric query.
    pub async fn metric_query(
        &self,
        context: &QueryContext,
        expr: &MetricExpr,
        params: MetricParams,
        limits: MetricLimits,
    ) -> Result<QueryResult, Failure> {
        let mut query = MetricQuery::new(&simplify(expr), params, limits).map_err(eval_failure)?;
        let leaves = query.leaves().to_vec();
        for (at, leaf) in leaves.into_iter().enumerate() {
            let (first, last) = (leaf.start.saturating_add(1), leaf.end);
            if first > last {
                continue;
            }
            let plan = self.plan(context, leaf.matchers, leaf.needs.clone(), (first, last), true).await?;
            let (counts, metadata) = (leaf.counts_only, leaf.needs.metadata.clone());
            let (planned, weight) = (plan.clone(), self.task_weight);
            let timeless = leaf.timeless && query.bucket_fits(at, first, last);
            let count = move || {
                let left: Vec<Window> = match counts {
                    None if timeless => {
                        let streams = planned.streams.iter();
                        streams.flat_map(|s| window::timeless(s, first, last, weight)).collect()
                    }
                    None => planned.streams.iter().flat_map(|s| windows(s, first, last, weight)).collect(),
                    Some(counts) => {
                        let mut counting =
                            Counting { query: &mut query, leaf: at, counts, metadata, limit: weight };
                        counting.run(&planned, first, last).map_err(eval_failure)?
                    }
                };
                Ok((query, left))
            };
            let mut left;
            (query, left) = on_thread(count).await?;
            // In the order of the files: a task then opens the columns of one block or two, and not those of all.
            left.sort_by_cached_key(Window::place);
            if left.is_empty() {
                continue;
            }
            QueryStats::add(&context.stats.chunks_planned, left.len() as u64);
            // Everything that is planned is read, so there is no need to begin what is too much.
            within_bytes(
                context.stats.bytes() + left.iter().map(|w| w.bytes).sum::<u64>(),
                context.max_bytes,
            )?;
            let cancel = Cancel::new();
            let (needs, gate) = (leaf.needs.clone(), self.gate.clone());
            let mut task = TaskContext::new(plan, needs, context.clone(), gate, cancel.flag());
            if timeless {
                task = task.timeless(&left, last);
            }
            let fork = || LeafPart { query: query.fork(), leaf: at, metadata: leaf.needs.metadata.clone() };
            let parts = self.share_out(&task, left, weight, fork).await?;
            for part in parts {
                query.merge(part.query).map_err(eval_failure)?;
            }
        }
        on_thread(move || query.finish().map_err(eval_failure)).await
    }
}
