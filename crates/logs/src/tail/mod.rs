//! Live tails: what is pushed, handed to those who wait for it as soon as it is acknowledged.
//!
//! A push costs one look at a counter while nobody tails. Otherwise its record, which the ingest log has already made of it, is queued for
//! each tail of the tenant that it may concern; the tails of a tenant share the work of decoding it. A queue has a bound: what does
//! not fit is lost to that tail, which is told so.

mod feed;
mod outbox;

pub(crate) use crate::tail::feed::{Batch, Subscription, Tails};
pub(crate) use crate::tail::outbox::Outbox;

use logql::{Categories, Direction, LabelSet, LogExpr, LogParams, LogQuery, ResultEntry, ResultStream};
use service::Failure;

use crate::query::run::eval_failure;

/// An entry on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its stream, as the answer shows it.
    pub(crate) labels: LabelSet,
    /// The entry.
    pub(crate) entry: ResultEntry,
}

/// The pipeline of a tail.
pub(crate) struct Live {
    plan: LogQuery,
    categories: Categories,
}

impl Live {
    /// Plans it.
    pub(crate) fn new(expr: &LogExpr, categories: Categories) -> Result<Self, Failure> {
        let params = LogParams {
            start: i64::MIN,
            end: i64::MAX,
            limit: usize::MAX,
            direction: Direction::Forward,
            interval: 0,
        };
        Ok(Self { plan: LogQuery::new(expr, params).map_err(eval_failure)?, categories })
    }

    /// The entries of a push that pass, oldest first. CPU work.
    pub(crate) fn run(&self, batch: &Batch) -> Result<Vec<Line>, Failure> {
        let mut query = self.plan.fork();
        for entries in batch.select(self.plan.matchers())? {
            query.push(&entries).map_err(eval_failure)?;
        }
        Ok(in_order(query.finish(self.categories)))
    }
}

/// The entries of all streams, oldest first.
pub(crate) fn in_order(streams: Vec<ResultStream>) -> Vec<Line> {
    let lines = streams.into_iter().flat_map(|stream| {
        let labels = stream.labels;
        stream.entries.into_iter().map(move |entry| Line { labels: labels.clone(), entry })
    });
    let mut lines: Vec<Line> = lines.collect();
    lines.sort_by_key(|line| line.entry.timestamp);
    lines
}
