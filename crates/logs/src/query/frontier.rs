//! The order in which a log query looks at time: slabs over all streams, from its end of the range to the other, small ones first.
//!
//! A slab is chosen by what the indexes say of rows and times, so that it holds about as much as is wanted, whether one stream or
//! ten thousand have it.

use std::collections::BinaryHeap;

use logql::Direction;

use crate::query::plan::{Plan, Runs};
use crate::query::window::weight;

/// What is left of the range.
pub(crate) struct Frontier {
    backward: bool,
    /// Of what is left.
    first: i64,
    last: i64,
    sources: Vec<Runs>,
    /// The next run of each source: the time at which it begins in the direction of the query (negated if forward), its source and weight.
    heap: BinaryHeap<(i64, usize, u64)>,
    done: bool,
}

impl Frontier {
    /// Of all streams of a plan.
    pub(crate) fn new(plan: &Plan, direction: Direction, first: i64, last: i64) -> Self {
        let backward = direction == Direction::Backward;
        let runs = plan.streams.iter().flat_map(|stream| {
            let (first, last) = (first.max(stream.first), last.min(stream.last));
            stream.sources.iter().map(move |source| Runs::new(source, first, last, backward))
        });
        let sources: Vec<Runs> = runs.collect();
        let mut this = Self { backward, first, last, heap: BinaryHeap::new(), sources, done: false };
        (0..this.sources.len()).for_each(|at| this.advance(at));
        this
    }

    fn advance(&mut self, at: usize) {
        if let Some((run, bytes)) = self.sources[at].next() {
            let key = if self.backward { run.last } else { !run.first };
            self.heap.push((key, at, weight(run.rows.end - run.rows.start, bytes)));
        }
    }

    /// First and last instant of the next slab, which weighs about `limit` or is all that is left.
    pub(crate) fn slab(&mut self, limit: u64) -> Option<(i64, i64)> {
        if self.done || self.first > self.last || self.heap.is_empty() {
            return None;
        }
        let mut held = 0;
        while let Some((key, at, weight)) = self.heap.pop() {
            held += weight;
            self.advance(at);
            let Some((next, ..)) = self.heap.peek() else { break };
            // The slab ends before the next run begins, unless that is where it starts.
            let time = if self.backward { *next } else { !*next };
            let is_past = if self.backward { time < self.last } else { time > self.first };
            if held >= limit && is_past && *next != key {
                return Some(if self.backward {
                    let slab = (time.max(self.first.saturating_sub(1)) + 1, self.last);
                    self.last = slab.0 - 1;
                    slab
                } else {
                    let slab = (self.first, time.min(self.last.saturating_add(1)) - 1);
                    self.first = slab.1 + 1;
                    slab
                });
            }
        }
        self.done = true;
        Some((self.first, self.last))
    }
}
