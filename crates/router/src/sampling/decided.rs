//! What was decided about traces that are gone, so that late spans follow.

use std::collections::{HashMap, VecDeque};

use model::TraceId;

/// Remembers the newest decisions of each kind, first in, first out.
#[derive(Debug)]
pub(super) struct Decided {
    by_id: HashMap<TraceId, bool>,
    kept: VecDeque<TraceId>,
    dropped: VecDeque<TraceId>,
    kept_max: usize,
    dropped_max: usize,
}

impl Decided {
    /// Room for so many kept and so many dropped traces.
    pub(super) fn new(kept_max: usize, dropped_max: usize) -> Self {
        let (kept_max, dropped_max) = (kept_max.max(1), dropped_max.max(1));
        Self { by_id: HashMap::new(), kept: VecDeque::new(), dropped: VecDeque::new(), kept_max, dropped_max }
    }

    /// Whether the trace was kept, if it is remembered.
    pub(super) fn get(&self, id: &TraceId) -> Option<bool> {
        self.by_id.get(id).copied()
    }

    /// Remembers a decision and forgets the oldest of its kind where there is no room.
    pub(super) fn insert(&mut self, id: TraceId, kept: bool) {
        if self.by_id.insert(id, kept).is_some() {
            return;
        }
        let (queue, max) =
            if kept { (&mut self.kept, self.kept_max) } else { (&mut self.dropped, self.dropped_max) };
        queue.push_back(id);
        if queue.len() > max
            && let Some(oldest) = queue.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_of_a_kind() {
        let id = |n: u8| TraceId([n; 16]);
        let mut decided = Decided::new(2, 1);
        for n in 0..3 {
            decided.insert(id(n), true);
        }
        decided.insert(id(9), false);
        assert_eq!(decided.get(&id(0)), None);
        assert_eq!(decided.get(&id(2)), Some(true));
        assert_eq!(decided.get(&id(9)), Some(false));
    }
}
