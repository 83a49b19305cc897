//! Chooses the lines in which patterns are looked for, so that it costs next to nothing: every line of a quiet stream, fewer and fewer of
//! a loud one, and never more than a fixed number per second in all.
//!
//! A chosen line counts for all that came since the one before it. So the counts of all patterns sum up to the lines that came,
//! whatever share of them was looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use model::{Labels, Timestamp};

use crate::ingest::streams::Stream;
use crate::patterns::tokens::MAX_LINE;

/// Lines of a stream that are all looked at, each second.
const ALL: u32 = 8;
/// Lines looked at per second in the whole process, roughly.
const PER_SECOND: u32 = 2000;
/// The golden ratio: its multiples hit every period alike.
const GOLDEN: u32 = 0x9e37_79b9;

/// A line in which a pattern is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its stream.
    pub labels: Labels,
    /// When it was, in nanoseconds.
    pub timestamp: i64,
    /// Its level.
    pub level: Box<str>,
    /// As much of it as is looked at.
    pub line: Box<str>,
    /// How many lines it stands for.
    pub weight: u32,
}

impl Sample {
    /// A sample of a line.
    pub fn new(labels: &Labels, timestamp: i64, level: &str, line: &str, weight: u32) -> Self {
        // One byte more tells that something was cut.
        let line = &line[..line.ceil_char_boundary(MAX_LINE + 1)];
        Self { labels: labels.clone(), timestamp, level: level.into(), line: line.into(), weight }
    }
}

/// How many lines of this second were chosen in the whole process.
#[derive(Debug, Default)]
pub struct SampleBudget {
    second: AtomicI64,
    wanted: AtomicU32,
    /// Of this many lines that would be chosen one is.
    thinning: AtomicU32,
}

impl SampleBudget {
    fn begin(&self, now: Timestamp) {
        let second = now.nanos().div_euclid(1_000_000_000);
        let before = self.second.swap(second, Ordering::Relaxed);
        if before != second {
            let wanted = self.wanted.swap(0, Ordering::Relaxed);
            // After a pause the last second tells nothing.
            let wanted = if before + 1 == second { wanted } else { 0 };
            self.thinning.store(wanted / PER_SECOND, Ordering::Relaxed);
        }
    }

    fn take(&self) -> bool {
        let wanted = self.wanted.fetch_add(1, Ordering::Relaxed);
        let thinning = self.thinning.load(Ordering::Relaxed);
        (thinning == 0 || wanted.wrapping_mul(GOLDEN) < u32::MAX / (thinning + 1))
            && wanted / (thinning + 1) < 2 * PER_SECOND
    }
}

/// What is remembered of a stream from push to push.
#[derive(Debug, Default)]
pub struct Sampler {
    second: i64,
    /// Lines of this second.
    lines: u32,
    /// Lines since the last that was chosen.
    waiting: u32,
}

/// The choice among the lines of a stream in one push.
#[derive(Debug)]
pub struct Sampling {
    stream: Option<Arc<Stream>>,
    budget: Option<Arc<SampleBudget>>,
    lines: u32,
    waiting: u32,
}

impl Sampling {
    /// Begins to choose; without a budget nothing is chosen.
    pub fn begin(stream: &Arc<Stream>, budget: Option<&Arc<SampleBudget>>, now: Timestamp) -> Self {
        let Some(budget) = budget else { return Self { stream: None, budget: None, lines: 0, waiting: 0 } };
        budget.begin(now);
        let second = now.nanos().div_euclid(1_000_000_000);
        let mut sampler = stream.sampler.lock();
        if sampler.second != second {
            (sampler.second, sampler.lines) = (second, 0);
        }
        let waiting = std::mem::take(&mut sampler.waiting);
        Self { lines: sampler.lines, waiting, stream: Some(stream.clone()), budget: Some(budget.clone()) }
    }

    /// Whether the next line is chosen, and for how many it stands.
    #[inline]
    pub fn choose(&mut self) -> Option<u32> {
        let budget = self.budget.as_ref()?;
        self.waiting = self.waiting.saturating_add(1);
        let line = self.lines;
        self.lines = line.saturating_add(1);
        // Each time the lines double, half the share of them is chosen.
        let chosen = line < ALL || line.wrapping_mul(GOLDEN) >> (31 - (line / ALL).ilog2().min(30)) == 0;
        (chosen && budget.take()).then(|| std::mem::take(&mut self.waiting))
    }

    /// Hands back what the next push must know.
    pub fn end(self) {
        let Some(stream) = self.stream else { return };
        let mut sampler = stream.sampler.lock();
        sampler.lines = sampler.lines.max(self.lines);
        sampler.waiting = sampler.waiting.saturating_add(self.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn choices_stand_for_all() {
        let limits = Limits::default();
        let stream = Arc::new(Stream::new(Labels::from_pairs([("a", "b")]), "t", &limits).unwrap());
        let budget = Arc::new(SampleBudget::default());
        let check = |second: i64, lines: u32, most: u32| {
            let mut sampling = Sampling::begin(&stream, Some(&budget), Timestamp::from_seconds(second));
            let weights: Vec<u32> = (0..lines).filter_map(|_| sampling.choose()).collect();
            let waiting = sampling.waiting;
            sampling.end();
            assert!(weights.len() as u32 <= most && !weights.is_empty(), "{lines}: {}", weights.len());
            (weights.iter().sum::<u32>(), waiting)
        };
        assert_eq!(check(1, 5, 5), (5, 0));
        assert_eq!(check(2, 8, 8), (8, 0));
        let (sum, waiting) = check(3, 100_000, 120);
        assert_eq!(sum + waiting, 100_000);
        // What waits is counted with the first of the next second.
        let (more, _) = check(4, 1, 1);
        assert_eq!(more, waiting + 1);
        let none = Sampling::begin(&stream, None, Timestamp::from_seconds(5)).choose();
        assert_eq!(none, None);
    }

    #[test]
    fn the_process_has_a_bound() {
        let budget = SampleBudget::default();
        let mut taken = Vec::new();
        for second in 1..4 {
            budget.begin(Timestamp::from_seconds(second));
            taken.push((0..100_000).filter(|_| budget.take()).count());
        }
        assert!(
            taken.iter().all(|n| (PER_SECOND as usize / 4..=2 * PER_SECOND as usize).contains(n)),
            "{taken:?}"
        );
    }
}
