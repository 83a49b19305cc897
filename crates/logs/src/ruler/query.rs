//! The seam between rules and the querier.

use std::sync::Arc;

use futures::future::BoxFuture;
use logql::{MetricExpr, MetricLimits, MetricParams, QueryResult};
use model::{TenantId, Timestamp};
use service::Failure;

use crate::overrides::Overrides;
use crate::query::run::{Querier, QueryContext, within};
use crate::query::stats::QueryStats;
use crate::ruler::eval::Vector;

/// Answers the queries of rules.
pub(crate) trait Query: Send + Sync {
    /// Evaluates an expression at an instant, as a tenant.
    fn instant<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a MetricExpr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vector, Failure>>;
}

/// The querier of this process, under the tenant's limits.
pub(crate) struct OwnQuerier {
    pub(crate) querier: Arc<Querier>,
    pub(crate) limits: Overrides,
}

impl Query for OwnQuerier {
    fn instant<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a MetricExpr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vector, Failure>> {
        Box::pin(async move {
            let limits = self.limits.of(tenant);
            let context = QueryContext {
                tenants: vec![tenant.clone()],
                stats: Arc::new(QueryStats::default()),
                max_bytes: limits.max_query_bytes_read.get(),
            };
            let params = MetricParams { start: at.nanos(), end: at.nanos(), step: 1, instant: true };
            let bounds = MetricLimits { max_series: limits.max_query_series, ..MetricLimits::default() };
            let query = self.querier.metric_query(&context, expr, params, bounds);
            Ok(match within(limits.query_timeout.get(), query).await? {
                QueryResult::Vector(samples) => samples
                    .into_iter()
                    .map(|sample| {
                        let labels = sample.labels.iter().filter(|(_, value)| !value.is_empty());
                        (labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(), sample.value)
                    })
                    .collect(),
                QueryResult::Scalar(_, value) => vec![(Default::default(), value)],
                QueryResult::Matrix(_) => return Err(Failure::internal("an instant query gave a matrix")),
            })
        })
    }
}
