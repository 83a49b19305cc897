//! What can be asked: a trace by its id, searches, metrics, tags. Over HTTP and gRPC alike.

use std::sync::Arc;

use block::{BlockMeta, RowRanges, Store};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use model::{TenantId, TraceId};
use service::Failure;
use traceql::{Metrics, MetricsAnswer, MetricsParams, Query, Search, SearchParams, SpanBatch, TraceResult};

use crate::assemble::{Piece, assemble};
use crate::config::Config;
use crate::index::fingerprint;
use crate::scan::{Cost, Evaluate, Plan, ScanError, blocking, scan, whole_spans};
use crate::signal::TraceSignal;

/// Blocks that are looked into for one trace at a time.
const LOOKUPS: usize = 8;

/// Answers queries.
#[derive(Clone)]
pub(crate) struct Querier {
    pub(crate) store: Arc<Store<TraceSignal>>,
    pub(crate) config: Arc<Config>,
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        match &error {
            ScanError::Eval(_) => Failure::invalid(error.to_string()),
            ScanError::Block(_) | ScanError::Arrow(_) | ScanError::Interrupted => {
                tracing::error!(%error, "a query could not read what is stored");
                Failure::internal(error.to_string())
            }
        }
    }
}

/// A trace, found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Encoded `TracesData`; empty if there is no such trace.
    pub trace: Bytes,
    /// Whether spans were left out because of the limit.
    pub is_cut: bool,
    /// Bytes of its spans.
    pub bytes: usize,
}

impl Querier {
    /// Reads TraceQL, of a size that is allowed.
    pub(crate) fn parse(&self, text: &str) -> Result<Query, Failure> {
        self.check_size(text)?;
        traceql::parse(text).map_err(|e| Failure::invalid(format!("invalid TraceQL query: {e}")))
    }

    /// Refuses TraceQL that is too long.
    pub(crate) fn check_size(&self, text: &str) -> Result<(), Failure> {
        let max = self.config.query_frontend.max_query_expression_size_bytes;
        if text.len() > max {
            return Err(Failure::invalid(format!(
                "TraceQL expression exceeds the configured maximum size of {max} bytes, reduce the query \
                 expression size or contact your system administrator"
            )));
        }
        Ok(())
    }

    /// Everything there is of a trace; `range` (ns) narrows the blocks that are looked at. At most `limit` bytes of spans
    /// are answered, unless it is 0.
    pub(crate) async fn trace(
        &self,
        tenants: &[TenantId],
        id: TraceId,
        range: (i64, i64),
        limit: usize,
    ) -> Result<Found, Failure> {
        let mut pieces: Vec<Piece> = Vec::new();
        for tenant in tenants {
            let snapshot = self.store.snapshot(tenant);
            for head in &snapshot.heads {
                pieces
                    .extend(head.trace(&id).iter().filter_map(|(record, row)| Piece::from_head(record, row)));
            }
            let (from, to) = range;
            let blocks = snapshot.manifest.blocks.iter();
            let blocks =
                blocks.filter(|b| b.summary.min_time.0 <= to && b.summary.max_time.0 >= from).cloned();
            let look = |meta: BlockMeta| async move {
                let block = self.store.open_block(tenant, &meta).await?;
                let index = &block.index().0;
                let rows: RowRanges = index
                    .find(fingerprint(&id))
                    .map(|trace| index.trace_rows(trace))
                    .map(|rows| u64::from(rows.start)..u64::from(rows.end))
                    .collect();
                if rows.is_empty() { Ok(Vec::new()) } else { whole_spans(&block, &rows).await }
            };
            let found: Vec<Vec<Piece>> = stream::iter(blocks.collect::<Vec<_>>())
                .map(look)
                .buffered(LOOKUPS)
                .try_collect()
                .await
                .map_err(|e: ScanError| Failure::from(e))?;
            pieces.extend(found.into_iter().flatten().filter(|p| p.trace() == id));
        }
        let mut found = Found::default();
        if limit > 0 {
            pieces.retain(|piece| {
                found.is_cut |= found.bytes + piece.bytes() > limit;
                if !found.is_cut {
                    found.bytes += piece.bytes();
                }
                !found.is_cut
            });
        }
        if !pieces.is_empty() {
            found.trace = blocking(move || assemble(pieces)).await?;
        }
        Ok(found)
    }

    /// Searches.
    pub(crate) async fn search(
        &self,
        tenants: &[TenantId],
        query: &Query,
        params: SearchParams,
    ) -> Result<(Vec<TraceResult>, Cost), Failure> {
        let range = (params.start.unwrap_or(i64::MIN), params.end.unwrap_or(i64::MAX));
        let plan = Plan { fields: query.fields(), conditions: query.conditions(), range };
        let search = Search::new(query, params).map_err(ScanError::from)?;
        let (search, cost) = scan(&self.store, tenants, &plan, Searching(search)).await?;
        Ok((search.0.finish(), cost))
    }

    /// Counts.
    pub(crate) async fn metrics(
        &self,
        tenants: &[TenantId],
        query: &Query,
        params: MetricsParams,
    ) -> Result<(MetricsAnswer, Cost), Failure> {
        let metrics = Metrics::new(query, params).map_err(ScanError::from)?;
        let plan = Plan { fields: query.fields(), conditions: query.conditions(), range: metrics.range() };
        let (metrics, cost) = scan(&self.store, tenants, &plan, Counting(metrics)).await?;
        Ok((metrics.0.finish(), cost))
    }
}

struct Searching(Search);

impl Evaluate for Searching {
    fn push(&mut self, batch: &SpanBatch) -> Result<(), traceql::EvalError> {
        self.0.push(batch)
    }

    fn is_full(&self) -> bool {
        self.0.is_full()
    }
}

struct Counting(Metrics);

impl Evaluate for Counting {
    fn push(&mut self, batch: &SpanBatch) -> Result<(), traceql::EvalError> {
        self.0.push(batch)
    }
}
