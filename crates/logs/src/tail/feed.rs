//! The way from pushes to tails: a queue per tail, bounded in bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hashbrown::HashMap;
use logql::EntryBatch;
use model::{Labels, Matcher, TenantId};
use parking_lot::{Mutex, RwLock};
use service::Failure;
use tokio::sync::Notify;

use crate::query::read::arrow_failure;
use crate::store::head::LogsHead;
use crate::store::record;
use crate::store::rows::Rows;

/// Bytes of records that wait for one tail.
const MAX_WAITING: usize = 16 << 20;
/// Tails of all tenants.
const MAX_TAILS: usize = 1000;

/// All tails.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    count: AtomicUsize,
    by_tenant: RwLock<HashMap<TenantId, Vec<Arc<Feed>>>>,
}

/// A push.
#[derive(Debug)]
pub(crate) struct Batch {
    record: Bytes,
    /// The rows, as soon as the first tail asks for them.
    head: OnceLock<Result<LogsHead, String>>,
}

/// The queue of one tail.
#[derive(Debug, Default)]
struct Feed {
    matchers: Vec<Matcher>,
    waiting: Mutex<Waiting>,
    /// Something waits.
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// Pushes that did not fit.
    missed: usize,
}

/// A tail's hold on its queue; what waits is let go with it.
#[derive(Debug)]
pub(crate) struct Subscription {
    tails: Arc<Tails>,
    tenant: TenantId,
    feed: Arc<Feed>,
}

impl Tails {
    /// Whether there is any tail, of whatever tenant.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// How many tails there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Begins a tail of streams that satisfy `matchers`, if the tenant has fewer than `most` (0 for any number).
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        tenant: &TenantId,
        matchers: &[Matcher],
        most: usize,
    ) -> Result<Subscription, Failure> {
        let mut by_tenant = self.by_tenant.write();
        let own = by_tenant.get(tenant).map_or(0, Vec::len);
        if most > 0 && own >= most {
            return Err(Failure::invalid(format!(
                "max concurrent tail requests limit exceeded, count > limit ({} > {most}): end a tail or raise \
                 limits_config.max_concurrent_tail_requests",
                own + 1
            )));
        }
        if self.count() >= MAX_TAILS {
            return Err(Failure::unavailable("too many tails of all tenants", None));
        }
        let feed = Arc::new(Feed { matchers: matchers.to_vec(), ..Feed::default() });
        by_tenant.entry(tenant.clone()).or_default().push(feed.clone());
        self.count.fetch_add(1, Ordering::Release);
        Ok(Subscription { tails: self.clone(), tenant: tenant.clone(), feed })
    }

    /// Queues an acknowledged push for the tails of its tenant. `streams` are those of the push, if they are known.
    pub(crate) fn publish(&self, tenant: &TenantId, record: &Bytes, streams: Option<&[Labels]>) {
        let by_tenant = self.by_tenant.read();
        let Some(feeds) = by_tenant.get(tenant) else { return };
        let batch = Arc::new(Batch::new(record.clone()));
        let concerns = |feed: &Feed| {
            streams.is_none_or(|all| all.iter().any(|l| feed.matchers.iter().all(|m| m.matches_labels(l))))
        };
        feeds.iter().filter(|feed| concerns(feed)).for_each(|feed| feed.put(&batch));
    }
}

impl Feed {
    fn put(&self, batch: &Arc<Batch>) {
        let mut waiting = self.waiting.lock();
        let size = batch.record.len();
        // A push larger than all the room is taken when nothing else waits.
        if waiting.bytes > 0 && waiting.bytes + size > MAX_WAITING {
            waiting.missed += 1;
        } else {
            waiting.bytes += size;
            waiting.batches.push_back(batch.clone());
        }
        drop(waiting);
        self.news.notify_one();
    }
}

impl Subscription {
    /// The next push, and how many were missed before it.
    pub(crate) async fn next(&self) -> (Arc<Batch>, usize) {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.feed.news.notified().await;
        }
    }

    /// The next push, if one waits.
    pub(crate) fn try_next(&self) -> Option<(Arc<Batch>, usize)> {
        let mut waiting = self.feed.waiting.lock();
        let batch = waiting.batches.pop_front()?;
        waiting.bytes -= batch.record.len();
        Some((batch, std::mem::take(&mut waiting.missed)))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut by_tenant = self.tails.by_tenant.write();
        if let Some(feeds) = by_tenant.get_mut(&self.tenant) {
            feeds.retain(|feed| !Arc::ptr_eq(feed, &self.feed));
            if feeds.is_empty() {
                by_tenant.remove(&self.tenant);
            }
        }
        self.tails.count.fetch_sub(1, Ordering::Release);
    }
}

impl Batch {
    pub(crate) fn new(record: Bytes) -> Self {
        Self { record, head: OnceLock::new() }
    }

    /// The entries of streams that satisfy the matchers. CPU work.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Result<Vec<EntryBatch>, Failure> {
        let head = self.head.get_or_init(|| {
            let rows: Rows = record::decode(&self.record).map_err(|e| e.to_string())?;
            let head = LogsHead::default();
            head.insert(rows);
            Ok(head)
        });
        let head =
            head.as_ref().map_err(|e| Failure::internal(format!("a record cannot be read back: {e}")))?;
        let selected = head.select(matchers, i64::MIN, i64::MAX).map_err(arrow_failure)?;
        let batches = selected.into_iter().flat_map(|stream| {
            let labels = stream.labels;
            stream.chunks.into_iter().map(move |chunk| chunk.entries.clone().into_batch(labels.clone()))
        });
        Ok(batches.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows::StreamRows;
    use model::MatchOp;

    fn push(app: &str, line: &str) -> (Bytes, Vec<Labels>) {
        let labels = Labels::from_pairs([("app", app)]);
        let mut stream = StreamRows::new(labels.clone());
        stream.push(5, line);
        (record::encode(&Rows { streams: vec![stream], ..Rows::default() }), vec![labels])
    }

    fn matcher(app: &str) -> Vec<Matcher> {
        vec![Matcher::new("app", MatchOp::Equal, app).unwrap()]
    }

    #[test]
    fn pushes_reach_those_they_concern() {
        let tails = Arc::new(Tails::default());
        let (one, two) = (TenantId::parse("1").unwrap(), TenantId::parse("2").unwrap());
        assert!(!tails.any());
        let a = tails.subscribe(&one, &matcher("a"), 2).unwrap();
        let b = tails.subscribe(&one, &matcher("b"), 2).unwrap();
        assert!(tails.subscribe(&one, &matcher("b"), 2).unwrap_err().message().contains("(3 > 2)"));
        let other = tails.subscribe(&two, &matcher("a"), 2).unwrap();
        let (record, labels) = push("a", "x");
        tails.publish(&one, &record, Some(&labels));
        let (batch, missed) = a.try_next().unwrap();
        assert_eq!((batch.select(&matcher("a")).unwrap().len(), missed), (1, 0));
        assert!(a.try_next().is_none() && b.try_next().is_none() && other.try_next().is_none());
        // Without knowing the streams every tail of the tenant must look.
        tails.publish(&one, &record, None);
        assert!(b.try_next().unwrap().0.select(&matcher("b")).unwrap().is_empty());
        drop((a, b, other));
        assert!(!tails.any() && tails.by_tenant.read().is_empty());
    }

    #[test]
    fn queues_are_bounded() {
        let tails = Arc::new(Tails::default());
        let tenant = TenantId::parse("1").unwrap();
        let tail = tails.subscribe(&tenant, &[], 0).unwrap();
        let (record, labels) = push("a", &"x".repeat(MAX_WAITING / 4));
        for _ in 0..6 {
            tails.publish(&tenant, &record, Some(&labels));
        }
        let got: Vec<usize> = std::iter::from_fn(|| tail.try_next().map(|(_, missed)| missed)).collect();
        assert_eq!(got, [3, 0, 0]);
    }
}
