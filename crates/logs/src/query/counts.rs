//! Counts without rows: minutes of a stream, and runs and chunks of it, that lie in the same windows of a range aggregation.
//!
//! Only what no window border spares is left to be read.

use logql::{Bucket, Counts, EvalError, MetadataNeeds, MetricQuery};

use crate::query::plan::{BlockSource, Part, Plan, Source, StreamPlan};
use crate::query::window::{Window, weight, windows};
use crate::store::index::{BlockIndex, Bucket as Minute};

/// A leaf that adds up entries or bytes.
pub(crate) struct Counting<'a> {
    pub(crate) query: &'a mut MetricQuery,
    pub(crate) leaf: usize,
    pub(crate) counts: Counts,
    /// Metadata that must be absent for entries to be alike.
    pub(crate) metadata: MetadataNeeds,
    /// Weight of a window that is left.
    pub(crate) limit: u64,
}

impl Counting<'_> {
    /// Counts what can be counted in `first..=last`. The windows that are left must be read.
    pub(crate) fn run(&mut self, plan: &Plan, first: i64, last: i64) -> Result<Vec<Window>, EvalError> {
        let mut left = Vec::new();
        for stream in &plan.streams {
            let mut buckets = Vec::new();
            for stretch in windows(stream, first, last, u64::MAX) {
                let (first, last) = (stretch.first, stretch.last);
                if stretch.is_whole() {
                    left.extend(windows(stream, first, last, self.limit));
                    continue;
                }
                for source in &stream.sources {
                    let Some(bounds) = source.bounds(first, last) else { continue };
                    match source {
                        Source::Block(block) if self.is_countable(block) => {
                            self.block(stream, block, (first, last), &mut buckets, &mut left);
                        }
                        _ => match self.chunk(source, (first, last)) {
                            Some(bucket) => buckets.push(bucket),
                            None => left.extend(windows(stream, bounds.0, bounds.1, self.limit)),
                        },
                    }
                }
            }
            if !buckets.is_empty() {
                self.query.push_counts(self.leaf, &stream.labels, &buckets)?;
            }
        }
        Ok(left)
    }

    fn is_countable(&self, source: &BlockSource) -> bool {
        source.keeps_all() && !may_have(source.block.index(), &self.metadata)
    }

    /// A chunk of a head that lies in the same windows.
    fn chunk(&self, source: &Source, (first, last): (i64, i64)) -> Option<Bucket> {
        let Source::Memory(chunk) = source else { return None };
        let entries = &chunk.entries;
        let has_metadata = entries.metadata.rest.is_some()
            || entries.metadata.columns.iter().any(|(name, _)| self.metadata.wants(name));
        let (from, to) = (entries.first(), entries.last());
        let inside = first <= from && to <= last && self.query.bucket_fits(self.leaf, from, to);
        let bucket = Bucket { end: to, entries: entries.len() as u64, bytes: chunk.line_bytes as u64 };
        (inside && !has_metadata).then_some(bucket)
    }

    fn block(
        &self,
        stream: &StreamPlan,
        source: &BlockSource,
        stretch: (i64, i64),
        buckets: &mut Vec<Bucket>,
        left: &mut Vec<Window>,
    ) {
        let minutes = source.stream().histogram.iter();
        let fitting = minutes.filter(|minute| self.minute(source, minute, stretch).is_some()).count();
        // Where windows are finer than minutes, shorter stretches may still fit.
        if fitting * 2 < source.stream().histogram.iter().filter(|m| meets(m, stretch)).count()
            || fitting == 0
        {
            self.by_runs(stream, source, stretch, buckets, left);
        } else {
            self.by_minutes(stream, source, stretch, buckets, left);
        }
    }

    /// The entries of a minute, if all of them lie in the stretch and in the same windows.
    fn minute(&self, source: &BlockSource, minute: &Minute, (first, last): (i64, i64)) -> Option<Bucket> {
        let from = minute.first.max(source.stream().first());
        let to = minute.last.min(source.stream().last());
        let fits = first <= from && to <= last && self.query.bucket_fits(self.leaf, from, to);
        fits.then_some(Bucket { end: to, entries: minute.entries, bytes: minute.bytes })
    }

    fn by_minutes(
        &self,
        stream: &StreamPlan,
        source: &BlockSource,
        stretch: (i64, i64),
        buckets: &mut Vec<Bucket>,
        left: &mut Vec<Window>,
    ) {
        // Stretches that are left, each of neighbouring minutes.
        let mut rest: Vec<(i64, i64)> = Vec::new();
        let mut counted = true;
        for minute in source.stream().histogram.iter().filter(|minute| meets(minute, stretch)) {
            match self.minute(source, &minute, stretch) {
                Some(bucket) => {
                    buckets.push(bucket);
                    counted = true;
                }
                None => {
                    let (from, to) = (minute.first.max(stretch.0), minute.last.min(stretch.1));
                    match rest.last_mut() {
                        Some(last) if !counted => last.1 = to,
                        _ => rest.push((from, to)),
                    }
                    counted = false;
                }
            }
        }
        rest.into_iter().for_each(|(from, to)| left.extend(windows(stream, from, to, self.limit)));
    }

    /// Of runs the number of entries is known, of granules their bytes too. They are told apart by rows, for their times may touch.
    fn by_runs(
        &self,
        stream: &StreamPlan,
        source: &BlockSource,
        (first, last): (i64, i64),
        buckets: &mut Vec<Bucket>,
        left: &mut Vec<Window>,
    ) {
        let index = source.stream();
        let (mut ranges, mut bytes, mut held) = (Vec::new(), 0, 0);
        let mut end = |ranges: &mut Vec<std::ops::Range<u64>>, bytes: &mut u64| {
            let rows = std::mem::take(ranges).into_iter().collect();
            let part = Part::Block { block: source.number, rows, bytes: std::mem::take(bytes) };
            left.push(Window::of_rows(stream, first, last, part));
        };
        let fits =
            |from: i64, to: i64| first <= from && to <= last && self.query.bucket_fits(self.leaf, from, to);
        for (at, part) in source.parts(first, last) {
            let rows = index.part_rows(at);
            if fits(part.first, part.last) {
                let entries = rows.end - rows.start;
                buckets.push(Bucket { end: part.last, entries, bytes: part.bytes });
                continue;
            }
            for run in index.runs_of(at).into_iter().filter(|run| run.first <= last && run.last >= first) {
                let entries = run.rows.end - run.rows.start;
                if self.counts == Counts::Entries && fits(run.first, run.last) {
                    buckets.push(Bucket { end: run.last, entries, bytes: 0 });
                    continue;
                }
                let share = part.bytes * entries / (rows.end - rows.start);
                held += weight(entries, share);
                bytes += share;
                ranges.push(run.rows);
                if held >= self.limit {
                    end(&mut ranges, &mut bytes);
                    held = 0;
                }
            }
        }
        if !ranges.is_empty() {
            end(&mut ranges, &mut bytes);
        }
    }
}

fn meets(minute: &Minute, (first, last): (i64, i64)) -> bool {
    minute.first <= last && minute.last >= first
}

/// Whether entries of the block may have metadata that matters.
fn may_have(index: &BlockIndex, metadata: &MetadataNeeds) -> bool {
    match metadata {
        MetadataNeeds::All => !index.columns.is_empty() || !index.rest.is_empty(),
        MetadataNeeds::Names(names) => {
            names.iter().any(|name| index.columns.contains(name) || index.rest.may_hold(name))
        }
    }
}
