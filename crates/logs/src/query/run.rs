//! Runs log queries: windows in the direction of the query, more at a time the longer it takes, until no window can matter.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use block::Store;
use logql::{
    Categories, Direction, EntryBatch, EvalError, LogExpr, LogParams, LogQuery, Needs, ResultStream,
};
use model::TenantId;
use service::Failure;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::query::plan::{self, Window};
use crate::query::read::{arrow_failure, load};
use crate::query::stats::QueryStats;
use crate::query::view::View;
use crate::store::index::GRANULE_ROWS;
use crate::store::signal::LogsSignal;

/// Rows of the first step of a log query.
const FIRST_ROWS: u64 = 2 * GRANULE_ROWS;
/// Rows of a task at most.
pub(crate) const TASK_ROWS: u64 = 16 * GRANULE_ROWS;

/// Evaluates queries, a bounded number of tasks at a time.
pub struct Querier {
    pub(crate) store: Arc<Store<LogsSignal>>,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) parallel: usize,
}

/// Whose query it is and what it may cost.
#[derive(Clone)]
pub struct QueryContext {
    /// The tenant.
    pub tenant: TenantId,
    /// Counters of the answer.
    pub stats: Arc<QueryStats>,
    /// Most bytes it may read; 0 for any.
    pub max_bytes: u64,
}

/// Tells tasks on blocking threads that nobody waits for them any more.
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Everything a task needs to run on its own.
#[derive(Clone)]
pub(crate) struct TaskContext {
    pub(crate) view: Arc<View>,
    pub(crate) needs: Arc<Needs>,
    pub(crate) query: QueryContext,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl TaskContext {
    /// Reads windows and hands their batches to `push` on a blocking thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        windows: Vec<Window>,
        mut state: T,
        mut push: impl FnMut(&mut T, &EntryBatch) -> Result<(), EvalError> + Send + 'static,
    ) -> Result<T, Failure> {
        let _permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Failure::unavailable("the querier is stopping", None))?;
        let loaded = load(&self.view, windows, &self.needs).await?;
        let (stats, cancelled) = (self.query.stats.clone(), self.cancelled.clone());
        QueryStats::add(&stats.tasks, 1);
        let max_bytes = self.query.max_bytes;
        let work = move || {
            for batches in loaded.batches(stats.clone()) {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(Failure::cancelled());
                }
                for batch in batches.map_err(arrow_failure)? {
                    push(&mut state, &batch).map_err(eval_failure)?;
                }
                if max_bytes > 0 && stats.bytes() > max_bytes {
                    let text = format!(
                        "the query would read too many bytes (query: more than {} bytes, limit: {max_bytes} bytes): narrow the \
                         selector or the time range, or raise limits_config.max_query_bytes_read",
                        stats.bytes()
                    );
                    return Err(Failure::invalid(text));
                }
            }
            Ok(state)
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|e| Err(Failure::internal(format!("a query task died: {e}"))))
    }
}

impl Querier {
    /// A querier that evaluates `parallel` tasks at a time.
    pub fn new(store: Arc<Store<LogsSignal>>, parallel: usize) -> Self {
        Self { store, permits: Arc::new(Semaphore::new(parallel)), parallel }
    }

    /// Opens what a query over `first..=last` sees.
    pub async fn view(&self, tenant: &TenantId, first: i64, last: i64) -> Result<Arc<View>, Failure> {
        Ok(Arc::new(View::open(&self.store, tenant, first, last).await?))
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
        let view = self.view(&context.tenant, first, last).await?;
        let mut windows = self.windows(&view, query.matchers().to_vec(), first, last, GRANULE_ROWS).await?;
        QueryStats::add(&context.stats.chunks_planned, windows.len() as u64);
        match params.direction {
            Direction::Forward => windows.sort_by_key(|w| w.first),
            Direction::Backward => windows.sort_by_key(|w| std::cmp::Reverse(w.last)),
        }
        let mut windows: VecDeque<Window> = windows.into();
        let cancel = Cancel::new();
        let task = TaskContext {
            view,
            needs: Arc::new(query.needs().clone()),
            query: context.clone(),
            permits: self.permits.clone(),
            cancelled: cancel.flag(),
        };
        let mut rows = FIRST_ROWS;
        loop {
            if let Some(cutoff) = query.cutoff() {
                windows.retain(|w| match params.direction {
                    Direction::Forward => w.first <= cutoff,
                    Direction::Backward => w.last >= cutoff,
                });
            }
            let width = if rows <= FIRST_ROWS { 1 } else { self.parallel };
            let mut tasks = JoinSet::new();
            for _ in 0..width {
                let taken = plan::take(&mut windows, rows.min(TASK_ROWS));
                if taken.is_empty() {
                    break;
                }
                let (task, part) = (task.clone(), query.fork());
                tasks.spawn(async move { task.run(taken, part, LogQuery::push).await });
            }
            if tasks.is_empty() {
                break;
            }
            while let Some(part) = tasks.join_next().await {
                let part = part.map_err(|e| Failure::internal(format!("a query task died: {e}")))??;
                query.merge(part).map_err(eval_failure)?;
            }
            rows *= 4;
        }
        drop(cancel);
        Ok(query.finish(categories))
    }

    /// Plans on a blocking thread: matching thousands of streams takes its time.
    pub(crate) async fn windows(
        &self,
        view: &Arc<View>,
        matchers: Vec<model::Matcher>,
        first: i64,
        last: i64,
        rows: u64,
    ) -> Result<Vec<Window>, Failure> {
        let view = view.clone();
        let plan = move || plan::windows(&view, &matchers, first, last, rows).map_err(arrow_failure);
        tokio::task::spawn_blocking(plan)
            .await
            .unwrap_or_else(|e| Err(Failure::internal(format!("planning died: {e}"))))
    }
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
