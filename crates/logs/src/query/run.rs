//! Runs queries: plans them, shares windows out among workers, and stops when no window can matter any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{Manifest, Store};
use logql::{
    Categories, Direction, EntryBatch, EvalError, LogExpr, LogParams, LogQuery, MetadataNeeds, Needs,
    ResultStream,
};
use model::{Matcher, TenantId};
use parking_lot::Mutex;
use service::Failure;
use shred::{Columns, Table};
use tokio::task::JoinSet;

use crate::compact::{Retention, Retentions};
use crate::deletes::{Deletes, TenantMask};
use crate::query::apart::Apart;
use crate::query::frontier::Frontier;
use crate::query::gate::{Cancel, Gate};
use crate::query::plan::Plan;
use crate::query::read::arrow_failure;
use crate::query::stats::QueryStats;
use crate::query::task::{Consumer, TaskContext};
use crate::query::view::View;
use crate::query::window::{self, Window};
use crate::store::signal::LogsSignal;
use crate::tenancy::{self, Selection};

/// What a task weighs at most, in rows.
const TASK_WEIGHT: u64 = 64 << 10;
/// What a task of a log query weighs at least: smaller ones are not worth a thread.
const LEAST_WEIGHT: u64 = 8 << 10;
/// The first slab of a log query that filters holds so many rows for each of its limit.
const SELECTIVITY: u64 = 16;
/// Each slab of a log query is so much larger than the one before.
const GROWTH: u64 = 4;
/// Memory for the rows of all queries, unless said otherwise.
const MEMORY: u64 = 256 << 20;

/// Evaluates queries, a bounded number of tasks at a time. Cheap to clone; clones share their bounds.
#[derive(Clone)]
pub struct Querier {
    store: Arc<Store<LogsSignal>>,
    pub(crate) gate: Gate,
    parallel: usize,
    hiding: Hiding,
    apart: Arc<Apart>,
    /// What a task weighs at most, in rows.
    pub(crate) task_weight: u64,
}

/// What is hidden from queries: lines to be deleted, and those that are expired.
#[derive(Clone, Default)]
pub(crate) struct Hiding {
    deletes: Option<Arc<Deletes>>,
    retentions: Option<Retentions>,
}

impl Hiding {
    pub(crate) fn mask(&self, tenant: &TenantId, manifest: &Manifest) -> Result<Arc<TenantMask>, Failure> {
        self.deletes.as_ref().map_or_else(|| Ok(Arc::default()), |deletes| deletes.mask(tenant, manifest))
    }

    pub(crate) fn retention(&self, tenant: &TenantId) -> Arc<Retention> {
        self.retentions.as_ref().map(|retentions| retentions.of(tenant)).unwrap_or_default()
    }
}

/// Whose query it is and what it may cost.
#[derive(Clone)]
pub struct QueryContext {
    /// The tenant; of several, the streams gain the label that tells whose they are.
    pub tenants: Vec<TenantId>,
    /// Counters of the answer.
    pub stats: Arc<QueryStats>,
    /// Most bytes it may read; 0 for any.
    pub max_bytes: u64,
}

impl Consumer for LogQuery {
    fn columns(&self, table: &Table) -> Columns {
        self.columns(table)
    }

    fn screen_columns(&self, table: &Table) -> Option<Columns> {
        self.screen_columns(table)
    }

    fn screen_metadata(&self) -> MetadataNeeds {
        self.screen_metadata()
    }

    fn screen(&mut self, batch: &EntryBatch) -> Result<Vec<u32>, EvalError> {
        Ok(self.screen(batch))
    }

    fn push(&mut self, batch: &EntryBatch) -> Result<(), EvalError> {
        self.push(batch)
    }
}

impl Querier {
    /// A querier that evaluates `parallel` tasks at a time. Nothing is hidden.
    pub fn new(store: Arc<Store<LogsSignal>>, parallel: usize) -> Self {
        let parallel = parallel.max(1);
        Self {
            store,
            gate: Gate::new(parallel, MEMORY),
            parallel,
            hiding: Hiding::default(),
            apart: Arc::default(),
            task_weight: TASK_WEIGHT,
        }
    }

    /// With so many bytes of memory for the rows of all queries under way.
    pub fn with_memory(self, bytes: u64) -> Self {
        Self { gate: Gate::new(self.parallel, bytes), ..self }
    }

    /// Hides what is to be deleted and what is expired.
    pub fn hiding(self, deletes: Arc<Deletes>, retentions: Retentions) -> Self {
        Self { hiding: Hiding { deletes: Some(deletes), retentions: Some(retentions) }, ..self }
    }

    /// With tasks of at most this weight, in rows.
    #[cfg(test)]
    pub(crate) fn with_task_weight(self, task_weight: u64) -> Self {
        Self { task_weight, ..self }
    }

    /// What bounds the queries of the process.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Opens what a query over `first..=last` sees.
    pub async fn view(&self, tenant: &TenantId, first: i64, last: i64) -> Result<Arc<View>, Failure> {
        Ok(Arc::new(View::open(&self.store, &self.hiding, tenant, first, last).await?))
    }

    /// Finds the streams of a query and where their rows are. With `compare`, since everything will be read anyway, blocks that meet
    /// in time are compared.
    pub(crate) async fn plan(
        &self,
        context: &QueryContext,
        matchers: Vec<Matcher>,
        needs: Needs,
        (first, last): (i64, i64),
        compare: bool,
    ) -> Result<Arc<Plan>, Failure> {
        let started = Instant::now();
        let mut joined = Plan::default();
        for Selection { tenant, matchers } in tenancy::select(&context.tenants, &matchers)? {
            let view = self.view(&tenant, first, last).await?;
            let (needs, stats) = (needs.clone(), context.stats.clone());
            let several = (context.tenants.len() > 1).then_some(tenant);
            let owner = several.clone();
            let plan = on_thread(move || {
                Plan::new(&view, owner.as_ref(), &matchers, &needs, first, last, &stats)
                    .map_err(arrow_failure)
            });
            let plan = plan.await?;
            match several {
                None => joined = plan,
                Some(tenant) => joined.join(plan, &tenant),
            }
        }
        if compare {
            self.apart.learn(&joined, &self.gate, &context.stats).await?;
        }
        self.apart.note(&mut joined);
        let plan = Arc::new(joined);
        QueryStats::add(&context.stats.plan_nanos, started.elapsed().as_nanos() as u64);
        Ok(plan)
    }

    /// Runs a log query.
    pub async fn log_query(
        &self,
        context: &QueryContext,
        expr: &LogExpr,
        params: LogParams,
        categories: Categories,
    ) -> Result<Vec<ResultStream>, Failure> {
        let mut query = LogQuery::new(expr, params).map_err(eval_failure)?;
        let (first, last) = (params.start, params.start.max(params.end.saturating_sub(1)));
        let (matchers, needs) = (query.matchers().to_vec(), query.needs().clone());
        let plan = self.plan(context, matchers, needs, (first, last), false).await?;
        let cancel = Cancel::new();
        let (needs, gate) = (query.needs().clone(), self.gate.clone());
        let task = TaskContext::new(plan.clone(), needs, context.clone(), gate, cancel.flag());
        let limit = params.limit as u64;
        let filters = plan.any_table().is_some_and(|table| query.screen_columns(table).is_some());
        let mut weight =
            if filters { limit.saturating_mul(SELECTIVITY).max(LEAST_WEIGHT) } else { limit.max(512) };
        let direction = params.direction;
        let planned = plan.clone();
        let mut frontier = on_thread(move || Ok(Frontier::new(&planned, direction, first, last))).await?;
        loop {
            let (cutoff, planned, weights) = (query.cutoff(), plan.clone(), (weight, self.task_weight));
            let next = move || {
                let slab = slab(&planned, &mut frontier, direction, cutoff, weights);
                Ok((frontier, slab))
            };
            let slab;
            (frontier, slab) = on_thread(next).await?;
            let Some(slab) = slab else { break };
            QueryStats::add(&context.stats.chunks_planned, slab.len() as u64);
            let heavy: u64 = slab.iter().map(Window::weight).sum();
            let least = LEAST_WEIGHT.min(self.task_weight);
            let share = (heavy / self.parallel as u64 + 1).clamp(least, self.task_weight);
            let parts = self.share_out(&task, slab, share, || query.fork()).await?;
            for part in parts {
                query.merge(part).map_err(eval_failure)?;
            }
            weight = weight
                .saturating_mul(GROWTH)
                .min(self.task_weight * self.parallel as u64 * GROWTH)
                .max(weight);
        }
        on_thread(move || Ok(query.finish(categories))).await
    }

    /// Evaluates windows in as many workers as there may be; each takes windows of `share` by weight at a time, in their order, and
    /// reads the next ones while it evaluates.
    pub(crate) async fn share_out<C: Consumer + Sync>(
        &self,
        task: &TaskContext,
        windows: Vec<Window>,
        share: u64,
        fork: impl Fn() -> C,
    ) -> Result<Vec<C>, Failure> {
        let heavy: u64 = windows.iter().map(Window::weight).sum();
        let workers = usize::try_from(heavy.div_ceil(share)).unwrap_or(usize::MAX).clamp(1, self.parallel);
        let queue: Arc<Mutex<VecDeque<Window>>> = Arc::new(Mutex::new(windows.into()));
        let mut running = JoinSet::new();
        for _ in 0..workers {
            let (task, queue, pattern, mut consumer) = (task.clone(), queue.clone(), fork(), fork());
            running.spawn(async move {
                let take = || window::take(&mut queue.lock(), share);
                let mut windows = take();
                if windows.is_empty() {
                    return Ok::<_, Failure>(consumer);
                }
                let mut loaded = task.load(windows, &pattern).await?;
                loop {
                    windows = take();
                    if windows.is_empty() {
                        return task.evaluate(loaded, consumer).await;
                    }
                    let evaluated = task.evaluate(loaded, consumer);
                    (consumer, loaded) = futures::try_join!(evaluated, task.load(windows, &pattern))?;
                }
            });
        }
        let mut parts = Vec::with_capacity(workers);
        while let Some(part) = running.join_next().await {
            parts.push(part.map_err(|e| Failure::internal(format!("a query worker died: {e}")))??);
        }
        Ok(parts)
    }
}

/// The windows of the next slab that has any, in the direction of the query. `None` if nothing that is left can be in the answer: all
/// of it lies behind the cutoff.
fn slab(
    plan: &Plan,
    frontier: &mut Frontier,
    direction: Direction,
    cutoff: Option<i64>,
    (weight, window_weight): (u64, u64),
) -> Option<Vec<Window>> {
    loop {
        let (mut first, mut last) = frontier.slab(weight)?;
        match (cutoff, direction) {
            (Some(cutoff), Direction::Backward) => first = first.max(cutoff),
            (Some(cutoff), Direction::Forward) => last = last.min(cutoff),
            (None, _) => {}
        }
        if first > last {
            return None;
        }
        let streams = plan.streams.iter();
        let mut windows: Vec<Window> =
            streams.flat_map(|stream| window::windows(stream, first, last, window_weight)).collect();
        match direction {
            Direction::Forward => windows.sort_by_key(|w| w.first),
            Direction::Backward => windows.sort_by_key(|w| std::cmp::Reverse(w.last)),
        }
        if !windows.is_empty() {
            return Some(windows);
        }
    }
}

/// Runs what takes its time on a thread for it.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Failure::internal(format!("a part of a query died: {e}"))))
}

/// Ends a query after `limit` with the text on which clients retry.
pub async fn within<T>(
    limit: Duration,
    query: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, query).await {
        Ok(result) => result,
        Err(_) => Err(Failure::timeout(format!(
            "request timed out, decrease the duration of the request or add more label matchers (prefer exact match over regex \
             match) to reduce the amount of data processed (query timeout {limit:?})"
        ))),
    }
}

/// The class of an evaluation error.
pub(crate) fn eval_failure(error: EvalError) -> Failure {
    match &error {
        EvalError::Matching(_) | EvalError::NotEvaluable(_) => Failure::internal(error.to_string()),
        _ => Failure::invalid(error.to_string()),
    }
}
