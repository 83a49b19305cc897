//! Which blocks hold no instant of a stream in common, though they meet in time.
//!
//! Clients push side by side, so the end of one block and the beginning of the next are woven into each other. Only entries of the
//! same instant can be there twice; where there is no such instant the blocks can be read, and counted, as if they did not meet. The
//! times of two blocks are compared once, for blocks never change.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use block::{BlockId, RowRanges};
use model::Labels;
use parking_lot::Mutex;
use service::Failure;

use crate::query::cost::Cost;
use crate::query::gate::Gate;
use crate::query::plan::{Block, BlockSource, Plan, Source, StreamPlan};
use crate::query::read::{BlockRows, Fetched};
use crate::query::run::on_thread;
use crate::query::stats::QueryStats;
use crate::store::schema::Projection;

/// Pairs that are remembered; beyond that all are forgotten.
const MOST_PAIRS: usize = 16 << 10;
/// Of more rows in common two blocks are not compared: that would cost more than the query that asks.
const MOST_ROWS: u64 = 1 << 20;

/// Streams that have an instant in both blocks.
type Shared = Arc<HashSet<Labels>>;

/// What is known of pairs of blocks. The first block of a pair is the one of the smaller name.
#[derive(Debug, Default)]
pub(crate) struct Apart(Mutex<HashMap<(BlockId, BlockId), Shared>>);

/// The stretch of time of a stream in which two of its blocks meet, and their rows in it.
struct Meeting {
    labels: Labels,
    time: (i64, i64),
    rows: [Range<u64>; 2],
}

impl Apart {
    /// Tells each stream of a plan which of its sources are known to share no instant.
    pub(crate) fn note(&self, plan: &mut Plan) {
        let known = self.0.lock();
        let mut pairs: HashMap<(usize, usize), Option<Shared>> = HashMap::new();
        for stream in &mut plan.streams {
            let mut apart = BTreeSet::new();
            for (i, j) in meeting(stream) {
                let (Some(one), Some(other)) = (of_block(stream, i), of_block(stream, j)) else { continue };
                let shared = pairs
                    .entry((one.number, other.number))
                    .or_insert_with(|| known.get(&key(&one.block, &other.block)).cloned());
                if shared.as_ref().is_some_and(|shared| !shared.contains(&one.stream().labels)) {
                    apart.insert((i.min(j), i.max(j)));
                }
            }
            stream.apart = apart;
        }
    }

    /// Compares the blocks of a plan that meet and were not compared before.
    pub(crate) async fn learn(
        &self,
        plan: &Plan,
        gate: &Gate,
        stats: &Arc<QueryStats>,
    ) -> Result<(), Failure> {
        for (one, other) in self.unknown(plan) {
            let meetings = meetings(&one, &other);
            let rows = |side: usize| meetings.iter().map(|m| m.rows[side].clone()).collect::<RowRanges>();
            let sides = [(&one, rows(0)), (&other, rows(1))];
            if sides.iter().map(|(_, rows)| rows.rows()).sum::<u64>() > MOST_ROWS {
                continue;
            }
            let projection = Projection::times();
            let mut cost = Cost::default();
            sides.iter().for_each(|(block, rows)| cost.join(Cost::new(block, &projection.columns, rows)));
            let reserved = gate.reserve(cost.memory, stats).await?;
            stats.fetched(cost);
            let [(_, first), (_, second)] = sides;
            let fetched = (
                Fetched::read(&one, &projection, first).await?,
                Fetched::read(&other, &projection, second).await?,
            );
            let permit = gate.processor(stats).await?;
            let shared = on_thread(move || {
                let (_reserved, _permit) = (reserved, permit);
                let rows = [fetched.0.rows()?, fetched.1.rows()?];
                let shared = meetings.into_iter().filter(|meeting| share_instant(meeting, &rows));
                Ok(shared.map(|meeting| meeting.labels).collect::<HashSet<_>>())
            });
            let shared = shared.await?;
            let mut known = self.0.lock();
            if known.len() >= MOST_PAIRS {
                known.clear();
            }
            known.insert(key(&one, &other), Arc::new(shared));
        }
        Ok(())
    }

    /// Pairs of blocks that meet in a stream of the plan, and of which nothing is known.
    fn unknown(&self, plan: &Plan) -> Vec<(Arc<Block>, Arc<Block>)> {
        let known = self.0.lock();
        let mut pairs = BTreeMap::new();
        for stream in &plan.streams {
            for (i, j) in meeting(stream) {
                let (Some(one), Some(other)) = (of_block(stream, i), of_block(stream, j)) else { continue };
                let pair =
                    if one.block.meta().id < other.block.meta().id { (one, other) } else { (other, one) };
                pairs
                    .entry((pair.0.number, pair.1.number))
                    .or_insert_with(|| (pair.0.block.clone(), pair.1.block.clone()));
            }
        }
        pairs.into_values().filter(|(one, other)| !known.contains_key(&key(one, other))).collect()
    }
}

fn key(one: &Block, other: &Block) -> (BlockId, BlockId) {
    let (one, other) = (one.meta().id, other.meta().id);
    (one.min(other), one.max(other))
}

fn of_block(stream: &StreamPlan, source: usize) -> Option<&BlockSource> {
    match stream.sources.get(source)? {
        Source::Block(block) => Some(block),
        Source::Memory(_) => None,
    }
}

/// Pairs of a stream's blocks that meet in time, by the places of their sources.
fn meeting(stream: &StreamPlan) -> Vec<(usize, usize)> {
    let blocks = (0..stream.sources.len()).filter_map(|at| Some((at, of_block(stream, at)?.stream())));
    let mut bounds: Vec<(i64, i64, usize)> = blocks.map(|(at, s)| (s.first(), s.last(), at)).collect();
    bounds.sort_unstable();
    let (mut open, mut pairs): (Vec<(i64, usize)>, Vec<_>) = Default::default();
    for (first, last, at) in bounds {
        open.retain(|(end, _)| *end >= first);
        // So many at once are no ends that are woven into each other.
        if open.len() > MOST_OPEN {
            return Vec::new();
        }
        pairs.extend(open.iter().map(|(_, other)| (*other, at)));
        open.push((last, at));
    }
    pairs
}

/// Blocks of one stream that meet at one instant, at most, for them to be compared.
const MOST_OPEN: usize = 16;

/// Where streams have rows in both blocks.
fn meetings(one: &Block, other: &Block) -> Vec<Meeting> {
    let others: HashMap<&Labels, _> = other.index().streams.iter().map(|s| (&s.labels, s)).collect();
    let meeting = |stream: &crate::store::index::IndexStream| {
        let other = others.get(&stream.labels)?;
        let (first, last) = (stream.first().max(other.first()), stream.last().min(other.last()));
        let rows = [stream.rows_within(first, last), other.rows_within(first, last)];
        (first <= last).then(|| Meeting { labels: stream.labels.clone(), time: (first, last), rows })
    };
    one.index().streams.iter().filter_map(meeting).collect()
}

/// Whether both blocks have a row of the same instant.
fn share_instant(meeting: &Meeting, rows: &[BlockRows; 2]) -> bool {
    let times = |side: usize| -> Vec<i64> {
        let pieces = rows[side].within(meeting.rows[side].clone(), meeting.time.0, meeting.time.1);
        pieces.flat_map(|(_, entries)| entries.timestamps.values().to_vec()).collect()
    };
    let (one, other) = (times(0), times(1));
    let mut others = other.iter().peekable();
    one.iter().any(|time| {
        while others.next_if(|other| *other < time).is_some() {}
        others.peek() == Some(&time)
    })
}
