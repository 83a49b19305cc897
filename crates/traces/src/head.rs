//! The open window of one tenant's spans: requests as they came, and for each trace where its spans are.
//!
//! Nothing is decoded again until a query or the flush asks: the head costs little more than the
//! requests themselves. Readers take a [`Snapshot`] under a short lock and work on without it.

use std::sync::Arc;

use hashbrown::HashMap;
use model::TraceId;
use parking_lot::{Mutex, RwLock};

use crate::keys::Keys;
use crate::record::{Record, Row};
use crate::sorted::Sorted;

/// Marks the end of a chain of rows.
const NONE: u32 = u32::MAX;

/// Spans that are not in a block yet.
#[derive(Debug, Default)]
pub(crate) struct Head {
    inner: RwLock<Inner>,
    /// The last snapshot, good as long as nothing is added.
    snapshot: Mutex<Option<Snapshot>>,
}

/// All spans of a head at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The spans in order of trace, without copies of one span.
    pub sorted: Arc<Sorted>,
    /// Their attributes.
    pub keys: Arc<Keys>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Arc<Record>>,
    /// Number of rows before each record.
    firsts: Vec<u32>,
    /// For each row of the head the next row of its trace.
    next: Vec<u32>,
    traces: HashMap<TraceId, Chain>,
    keys: Keys,
    bytes: usize,
    min: i64,
    max: i64,
}

#[derive(Debug, Clone, Copy)]
struct Chain {
    first: u32,
    last: u32,
}

/// A span of the head: the record that holds it, and its row there.
pub(crate) type Spot = (Arc<Record>, Row);

impl Head {
    /// Adds the spans of one request.
    pub(crate) fn add(&self, record: Record) {
        let range = record.time_range();
        let mut inner = self.inner.write();
        let inner = &mut *inner;
        let mut record = record;
        inner.keys.merge(std::mem::take(&mut record.keys));
        if let Some((min, max)) = range {
            let empty = inner.next.is_empty();
            inner.min = if empty { min.0 } else { inner.min.min(min.0) };
            inner.max = if empty { max.0 } else { inner.max.max(max.0) };
        }
        let first = inner.next.len() as u32;
        for (i, row) in record.rows.iter().enumerate() {
            let at = first + i as u32;
            inner.next.push(NONE);
            let chain = inner.traces.entry(row.trace).or_insert(Chain { first: at, last: at });
            if chain.last != at {
                inner.next[chain.last as usize] = at;
                chain.last = at;
            }
        }
        inner.bytes += record.bytes() + record.rows.len() * 8;
        inner.firsts.push(first);
        inner.records.push(Arc::new(record));
    }

    /// Bytes held.
    pub(crate) fn size(&self) -> usize {
        let inner = self.inner.read();
        inner.bytes + inner.traces.len() * (size_of::<(TraceId, Chain)>() + 8)
    }

    /// Number of spans, copies counted.
    pub(crate) fn spans(&self) -> u64 {
        self.inner.read().next.len() as u64
    }

    /// First start and last end, ns; none while empty.
    pub(crate) fn time_range(&self) -> Option<(i64, i64)> {
        let inner = self.inner.read();
        (!inner.next.is_empty()).then_some((inner.min, inner.max))
    }

    /// Looks at the attributes.
    pub(crate) fn with_keys<R>(&self, look: impl FnOnce(&Keys) -> R) -> R {
        look(&self.inner.read().keys)
    }

    /// The spans of one trace, in order of arrival.
    pub(crate) fn trace(&self, id: &TraceId) -> Vec<Spot> {
        let inner = self.inner.read();
        let mut found = Vec::new();
        let mut at = inner.traces.get(id).map_or(NONE, |chain| chain.first);
        while at != NONE {
            let record = inner.firsts.partition_point(|first| *first <= at) - 1;
            let row = inner.records[record].rows[(at - inner.firsts[record]) as usize];
            found.push((inner.records[record].clone(), row));
            at = inner.next[at as usize];
        }
        found
    }

    /// All spans in order of trace. The first call after an insert sorts.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut kept = self.snapshot.lock();
        let (records, keys) = {
            let inner = self.inner.read();
            match &*kept {
                Some(snapshot) if snapshot.sorted.offered() == inner.next.len() => return snapshot.clone(),
                _ => (inner.records.clone(), inner.keys.clone()),
            }
        };
        let snapshot = Snapshot { sorted: Arc::new(Sorted::new(records)), keys: Arc::new(keys) };
        kept.insert(snapshot).clone()
    }
}
