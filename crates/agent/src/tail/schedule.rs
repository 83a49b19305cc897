//! When files are looked at of whose changes the system does not tell: at first after the shortest pause, and while nothing happens
//! after longer and longer ones.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Files by when their turn is.
#[derive(Debug)]
pub(super) struct Schedule {
    shortest: Duration,
    longest: Duration,
    turns: BTreeSet<(Instant, u64)>,
    /// When each has its turn, and after which pause.
    files: HashMap<u64, (Instant, Duration)>,
}

impl Schedule {
    /// With pauses from `shortest` to `longest`.
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest: longest.max(shortest), turns: BTreeSet::new(), files: HashMap::new() }
    }

    /// Something happens to a file: it has a turn after the shortest pause, unless it has one before.
    pub(super) fn soon(&mut self, id: u64, now: Instant) {
        let at = now + self.shortest;
        let at = self.files.get(&id).map_or(at, |(before, _)| at.min(*before));
        self.put(id, at, self.shortest);
    }

    /// A file has had its turn, and has another after the shortest pause.
    pub(super) fn again(&mut self, id: u64, now: Instant) {
        self.set(id, now, self.shortest);
    }

    /// Nothing has happened to a file since its last turn: the next is after twice the pause, which grows to the longest, or to `most` if
    /// that is longer.
    pub(super) fn later(&mut self, id: u64, now: Instant, most: Duration) {
        let pause = self.files.get(&id).map_or(self.shortest, |(_, pause)| *pause * 2);
        self.set(id, now, pause.min(self.longest.max(most)));
    }

    fn set(&mut self, id: u64, now: Instant, pause: Duration) {
        // One that was asked for before comes no later for it.
        let at = match self.files.get(&id) {
            Some((at, before)) if *at > now && *before <= pause => *at,
            _ => now + pause,
        };
        self.put(id, at, pause);
    }

    fn put(&mut self, id: u64, at: Instant, pause: Duration) {
        self.forget(id);
        self.turns.insert((at, id));
        self.files.insert(id, (at, pause));
    }

    /// A file has no more turns.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some((at, _)) = self.files.remove(&id) {
            self.turns.remove(&(at, id));
        }
    }

    /// Files whose turn has come, the first first.
    pub(super) fn due(&self, now: Instant) -> Vec<u64> {
        self.turns.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    /// When the next turn is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.turns.first().map(|(at, _)| *at)
    }

    /// All files that have turns.
    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.files.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_happens() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut schedule = Schedule::new(second, 5 * second);
        schedule.soon(7, start);
        let (mut now, mut pauses) = (start, Vec::new());
        for turn in 0..7 {
            let next = schedule.next().unwrap();
            assert!(schedule.due(next - second / 2).is_empty());
            assert_eq!(schedule.due(next), [7]);
            pauses.push((next - now).as_secs());
            now = next;
            if turn == 4 { schedule.again(7, now) } else { schedule.later(7, now, Duration::ZERO) }
        }
        assert_eq!(pauses, [1, 2, 4, 5, 5, 1, 2]);
        // What is asked for again and again has its turn all the same.
        schedule.soon(8, now);
        schedule.soon(8, now + second / 2);
        assert_eq!(schedule.due(now + second), [8]);
        schedule.soon(8, now + 2 * second);
        assert_eq!(schedule.due(now + second), [8]);
        // And something that happens ends a long pause.
        schedule.soon(7, now);
        assert_eq!(schedule.due(now + second), [7, 8]);
        schedule.forget(7);
        schedule.forget(8);
        assert_eq!((schedule.next(), schedule.files().count()), (None, 0));
    }
}
