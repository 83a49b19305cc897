//! The rows of a stream in a block: where they are in time.

use std::ops::Range;

use model::Labels;

use crate::store::codec::{CodecError, Reader, put_i64, put_str, put_u64};
use crate::store::index::histogram::Histogram;
use crate::store::index::levels::Levels;
use crate::store::index::{Amount, GRANULE_ROWS, OLDEST_VERSION};

/// Within a granule the time of every row at a multiple of this is known, roughly.
const MARK_ROWS: u64 = 256;
/// Marks of a whole granule: none at its start.
const MARKS: usize = (GRANULE_ROWS / MARK_ROWS) as usize - 1;

/// A stream of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexStream {
    /// Its labels.
    pub labels: Labels,
    /// Its rows in the file.
    pub rows: Range<u64>,
    /// A part per granule that the rows touch.
    pub parts: Vec<Part>,
    /// Per part and multiple of [`MARK_ROWS`] within it: the share of the part's time, in 65536ths rounded down, that lies before
    /// the time of that row.
    marks: Vec<[u16; MARKS]>,
    /// Entries and bytes per minute; empty if it was not worth keeping.
    pub histogram: Histogram,
    /// The same by level.
    pub levels: Levels,
}

/// The rows of a stream in one granule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First time.
    pub first: i64,
    /// Last time.
    pub last: i64,
    /// Bytes of the lines.
    pub bytes: u64,
}

/// A run of rows of a stream that needs no finer look: its rows and between which times they lie, roughly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The rows.
    pub rows: Range<u64>,
    /// No row is earlier.
    pub first: i64,
    /// No row is later.
    pub last: i64,
}

impl IndexStream {
    /// A stream whose rows have these times.
    pub(super) fn new(
        labels: Labels,
        start: u64,
        times: &[i64],
        parts: Vec<Part>,
        histogram: Histogram,
        levels: Levels,
    ) -> Self {
        let rows = start..start + times.len() as u64;
        let mut marks = vec![[0; MARKS]; parts.len()];
        for (at, (part, marks)) in parts.iter().zip(&mut marks).enumerate() {
            let granule = start / GRANULE_ROWS + at as u64;
            for (mark, row) in marked(granule, &rows) {
                let time = times[(row - start) as usize];
                marks[mark] =
                    (part.offset(time) << 16).checked_div(part.length()).unwrap_or(0).min(0xffff) as u16;
            }
        }
        Self { labels, rows, parts, marks, histogram, levels }
    }

    /// First time of the stream in this block.
    pub fn first(&self) -> i64 {
        self.parts.first().map_or(i64::MAX, |p| p.first)
    }

    /// Last time of the stream in this block.
    pub fn last(&self) -> i64 {
        self.parts.last().map_or(i64::MIN, |p| p.last)
    }

    /// The granules that the rows touch.
    pub fn granules(&self) -> Range<u64> {
        let first = self.rows.start / GRANULE_ROWS;
        first..first + self.parts.len() as u64
    }

    /// The parts that meet `first..=last`.
    pub fn parts_within(&self, first: i64, last: i64) -> Range<usize> {
        let from = self.parts.partition_point(|p| p.last < first);
        from..self.parts.partition_point(|p| p.first <= last).max(from)
    }

    /// The rows in one part.
    pub fn part_rows(&self, at: usize) -> Range<u64> {
        let granule = self.rows.start / GRANULE_ROWS + at as u64;
        self.rows.start.max(granule * GRANULE_ROWS)..self.rows.end.min((granule + 1) * GRANULE_ROWS)
    }

    /// Each part with its rows.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = (Range<u64>, Part)> + '_ {
        self.parts.iter().enumerate().map(move |(at, part)| (self.part_rows(at), *part))
    }

    /// Rows that hold all rows of the time `first..=last` and not many more; empty if there is none.
    pub fn rows_within(&self, first: i64, last: i64) -> Range<u64> {
        let Range { start: from, end: to } = self.parts_within(first, last);
        if from == to {
            return self.rows.start..self.rows.start;
        }
        let runs = |at| self.runs_of(at).into_iter();
        let start =
            runs(from).find(|run| run.last >= first).map_or(self.part_rows(from).start, |run| run.rows.start);
        let end = runs(to - 1)
            .rfind(|run| run.first <= last)
            .map_or(self.part_rows(to - 1).end, |run| run.rows.end);
        start..end.max(start)
    }

    /// The runs of one part, ascending.
    pub fn runs_of(&self, at: usize) -> Vec<Run> {
        let (Some(part), Some(marks)) = (self.parts.get(at), self.marks.get(at)) else { return Vec::new() };
        let rows = self.part_rows(at);
        let mut runs = vec![Run { rows: rows.clone(), first: part.first, last: part.last }];
        for (mark, row) in marked(rows.start / GRANULE_ROWS, &rows) {
            let Some(before) = runs.last_mut() else { continue };
            let low = part.time(marks[mark].into());
            before.rows.end = row;
            before.last = part.time(u64::from(marks[mark]) + 1);
            runs.push(Run { rows: row..rows.end, first: low, last: part.last });
        }
        runs
    }

    /// How much lies in `first..=last`.
    pub fn amount(&self, first: i64, last: i64) -> Amount {
        let mut sum = Amount::default();
        for (rows, part) in self.parts().filter(|(_, p)| p.first <= last && p.last >= first) {
            sum.add(rows.end - rows.start, part.bytes, share(part.first, part.last, first, last));
        }
        sum
    }

    /// Labels; rows; per part first time (difference to the last one before), last time (difference), bytes, marks; bytes of
    /// the histogram, and it; levels.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_str(out, &self.labels.to_string());
        put_u64(out, self.rows.end - self.rows.start);
        let mut before = 0i64;
        for (at, part) in self.parts.iter().enumerate() {
            put_i64(out, part.first.wrapping_sub(before));
            put_i64(out, part.last.wrapping_sub(part.first));
            put_u64(out, part.bytes);
            for (mark, _) in marked(self.rows.start / GRANULE_ROWS + at as u64, &self.rows) {
                out.extend(self.marks[at][mark].to_le_bytes());
            }
            before = part.last;
        }
        put_u64(out, self.histogram.bytes().len() as u64);
        out.extend_from_slice(self.histogram.bytes());
        self.levels.encode(out);
    }

    pub(super) fn decode(reader: &mut Reader<'_>, start: u64, version: u8) -> Result<Self, CodecError> {
        let labels = Labels::parse(reader.str()?).map_err(|_| CodecError::Invalid("labels"))?;
        let rows = start..start.checked_add(reader.u64()?).ok_or(CodecError::Overflow)?;
        if rows.is_empty() {
            return Err(CodecError::Invalid("rows"));
        }
        let granule = rows.start / GRANULE_ROWS;
        let count = (rows.end - 1) / GRANULE_ROWS - granule + 1;
        if count > reader.remaining() as u64 {
            return Err(CodecError::Truncated);
        }
        let mut parts = Vec::with_capacity(count as usize);
        let mut all_marks = Vec::with_capacity(count as usize);
        let mut before = 0i64;
        for at in 0..count {
            let first = before.wrapping_add(reader.i64()?);
            let last = first.wrapping_add(reader.i64()?);
            if last < first || at > 0 && first < before {
                return Err(CodecError::Invalid("times"));
            }
            parts.push(Part { first, last, bytes: reader.u64()? });
            let mut marks = [0; MARKS];
            for (mark, _) in marked(granule + at, &rows) {
                marks[mark] = u16::from_le_bytes(reader.take(2)?.try_into().unwrap_or_default());
            }
            all_marks.push(marks);
            before = last;
        }
        let length = reader.count()?;
        let histogram = Histogram::decode(reader.take(length)?)?;
        let levels = if version > OLDEST_VERSION { Levels::decode(reader)? } else { Levels::default() };
        Ok(Self { labels, rows, parts, marks: all_marks, histogram, levels })
    }
}

impl Part {
    fn length(&self) -> u128 {
        self.offset(self.last)
    }

    fn offset(&self, time: i64) -> u128 {
        (i128::from(time) - i128::from(self.first)).max(0) as u128
    }

    /// The time at so many 65536ths of the part; not later than its last.
    fn time(&self, share: u64) -> i64 {
        // Rounded up: a share was rounded down, so what it was made of is not before.
        let offset = (self.length() * u128::from(share)).div_ceil(1 << 16).min(self.length());
        (i128::from(self.first) + offset as i128) as i64
    }
}

/// The marks of the rows in a granule, each with its row: rows at multiples of [`MARK_ROWS`] but for the first row.
fn marked(granule: u64, rows: &Range<u64>) -> impl Iterator<Item = (usize, u64)> + use<> {
    let start = granule * GRANULE_ROWS;
    let (from, to) = (rows.start.max(start), rows.end.min(start + GRANULE_ROWS));
    let first = (from - start) / MARK_ROWS + 1;
    let end = (to - start).div_ceil(MARK_ROWS);
    (first..end).map(move |mark| (mark as usize - 1, start + mark * MARK_ROWS))
}

/// The share of `first..=last` that lies in `from..=to`.
pub fn share(first: i64, last: i64, from: i64, to: i64) -> f64 {
    if from <= first && last <= to {
        return 1.0;
    }
    let inside = last.min(to) as f64 - first.max(from) as f64;
    (inside / (last as f64 - first as f64).max(1.0)).clamp(0.0, 1.0)
}
