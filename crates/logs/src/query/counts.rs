//! Counts without rows: minutes of a stream, and runs and chunks of it, that lie in the same windows of a range aggregation.
//!
//! Only what no window border spares is left to be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use logql::{Bucket, Counts, EvalError, MetadataNeeds, MetricQuery};
use model::Labels;

use crate::ingest::level::DETECTED_LEVEL;
use crate::query::plan::{BlockSource, Part, Plan, Source, StreamPlan};
use crate::query::window::{Stretch, Window, stretches, weight, windows};
use crate::store::index::{BlockIndex, Bucket as Minute, Histogram};

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
            let mut buckets = Buckets::new();
            for Stretch { first, last, is_whole } in stretches(stream, first, last) {
                if is_whole {
                    left.extend(windows(stream, first, last, self.limit));
                    continue;
                }
                for source in &stream.sources {
                    let Some(bounds) = source.bounds(first, last) else { continue };
                    let alone = stream.of_source(source);
                    let alike = match source {
                        Source::Block(block) => self.alike(block).map(|alike| (block, alike)),
                        Source::Memory(_) => None,
                    };
                    if let Some((block, alike)) = alike {
                        self.block(&alone, (block, alike), (first, last), &mut buckets, &mut left);
                        continue;
                    }
                    match self.chunk(source, (first, last)) {
                        Some(bucket) => buckets.entry("").or_default().push(bucket),
                        None => left.extend(windows(&alone, bounds.0, bounds.1, self.limit)),
                    }
                }
            }
            for (level, buckets) in buckets {
                let labels = match level {
                    "" => stream.labels.clone(),
                    level => with_level(&stream.labels, level),
                };
                self.query.push_counts(self.leaf, &labels, &buckets)?;
            }
        }
        Ok(left)
    }

    /// Which entries of the stream in the block are alike, if any are.
    fn alike<'b>(&self, source: &'b BlockSource) -> Option<Alike<'b>> {
        let (index, stream) = (source.block.index(), source.stream());
        if !source.keeps_all() {
            return None;
        }
        if !may_have(index, &self.metadata, |_| true) {
            return Some(Alike::All(""));
        }
        // A stream's own label of that name hides that of its entries.
        let by_level = !may_have(index, &self.metadata, |name| name != DETECTED_LEVEL)
            && stream.labels.get(DETECTED_LEVEL).is_none();
        match stream.levels.constant() {
            _ if !by_level => None,
            Some(level) => Some(Alike::All(level)),
            None => stream.levels.several().map(Alike::ByLevel),
        }
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

    fn block<'b>(
        &self,
        stream: &StreamPlan,
        (source, alike): (&'b BlockSource, Alike<'b>),
        stretch: (i64, i64),
        buckets: &mut Buckets<'b>,
        left: &mut Vec<Window>,
    ) {
        let minutes = source.stream().histogram.iter();
        let fitting = minutes.filter(|minute| self.minute(source, minute, stretch).is_some()).count();
        // Where windows are finer than minutes, shorter stretches may still fit.
        let runs = fitting * 2 < source.stream().histogram.iter().filter(|m| meets(m, stretch)).count()
            || fitting == 0;
        match alike {
            Alike::All(level) if runs => {
                self.by_runs(stream, source, stretch, buckets.entry(level).or_default(), left);
            }
            Alike::All(level) => {
                let fits = |minute: &Minute| self.minute(source, minute, stretch);
                let minutes = source.stream().histogram.iter().filter(|minute| meets(minute, stretch));
                buckets.entry(level).or_default().extend(minutes.filter_map(|minute| fits(&minute)));
                self.unfit_minutes(stream, source, stretch, left);
            }
            Alike::ByLevel(levels) => {
                for (level, minutes) in levels {
                    let minutes = minutes.iter().filter(|minute| meets(minute, stretch));
                    let fitting = minutes.filter_map(|minute| self.minute(source, &minute, stretch));
                    buckets.entry(level).or_default().extend(fitting);
                }
                self.unfit_minutes(stream, source, stretch, left);
            }
        }
    }

    /// The entries of a minute, if all of them lie in the stretch and in the same windows.
    fn minute(&self, source: &BlockSource, minute: &Minute, (first, last): (i64, i64)) -> Option<Bucket> {
        let from = minute.first.max(source.stream().first());
        let to = minute.last.min(source.stream().last());
        let fits = first <= from && to <= last && self.query.bucket_fits(self.leaf, from, to);
        fits.then_some(Bucket { end: to, entries: minute.entries, bytes: minute.bytes })
    }

    /// The stretches that are left of neighbouring minutes that do not fit.
    fn unfit_minutes(
        &self,
        stream: &StreamPlan,
        source: &BlockSource,
        stretch: (i64, i64),
        left: &mut Vec<Window>,
    ) {
        let bounds = (source.stream().first().max(stretch.0), source.stream().last().min(stretch.1));
        let mut rest: Vec<(i64, i64)> = Vec::new();
        let mut fitted = true;
        for minute in source.stream().histogram.iter().filter(|minute| meets(minute, stretch)) {
            let fits = self.minute(source, &minute, stretch).is_some();
            if !fits {
                let (from, to) = (minute.first.max(bounds.0), minute.last.min(bounds.1));
                match rest.last_mut() {
                    Some(last) if !fitted => last.1 = to,
                    _ => rest.push((from, to)),
                }
            }
            fitted = fits;
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

/// The buckets of a stream by level.
type Buckets<'a> = BTreeMap<&'a str, Vec<Bucket>>;

/// Entries of a stream in a block that the query does not tell apart.
enum Alike<'a> {
    /// All of them; they have this level.
    All(&'a str),
    /// Those of the same level.
    ByLevel(&'a [(Arc<str>, Histogram)]),
}

fn with_level(labels: &Labels, level: &str) -> Labels {
    let mut builder = labels.to_builder();
    builder.set(DETECTED_LEVEL, level);
    builder.build()
}

fn meets(minute: &Minute, (first, last): (i64, i64)) -> bool {
    minute.first <= last && minute.last >= first
}

/// Whether entries of the block may have metadata that matters, of the names that are asked for.
fn may_have(index: &BlockIndex, metadata: &MetadataNeeds, asked: impl Fn(&str) -> bool) -> bool {
    match metadata {
        MetadataNeeds::All => index.columns.iter().any(|name| asked(name)) || !index.rest.is_empty(),
        MetadataNeeds::Names(names) => {
            let mut names = names.iter().filter(|name| asked(name));
            names.any(|name| index.columns.contains(name) || index.rest.may_hold(name))
        }
    }
}
