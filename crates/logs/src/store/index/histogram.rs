//! Entries and bytes of a stream per minute, so that volumes and rates read no rows.
//!
//! Bucket k holds the entries of k minutes < time ≤ k + 1 minutes: open to the left, as LogQL's windows are.

use bytes::Bytes;

use crate::store::codec::{CodecError, Reader, put_i64, put_u64};

/// Width of a bucket in nanoseconds.
pub const BUCKET: i64 = 60_000_000_000;
/// Rows that a byte of histogram must stand for: about four in a minute, which itself are a hundred bytes or more of the block.
const ROWS_PER_BYTE: usize = 1;

/// The buckets of a stream that hold entries, as varints: number of the first; per bucket the distance to the one before less one (none
/// for the first), entries, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram(Bytes);

/// A minute of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Its first instant.
    pub first: i64,
    /// Its last instant.
    pub last: i64,
    /// Entries.
    pub entries: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

impl Histogram {
    /// The histogram of ascending times, each with the bytes of its line; empty if it would be large for so few rows.
    pub(super) fn new(times: &[i64], bytes: &[u32]) -> Self {
        let histogram = Self::of(times, bytes);
        if Self::is_worth(histogram.0.len(), times.len()) { histogram } else { Self::default() }
    }

    /// Whether so many rows are worth so many bytes.
    pub(super) fn is_worth(bytes: usize, rows: usize) -> bool {
        bytes * ROWS_PER_BYTE <= rows
    }

    /// The histogram, however large.
    pub(super) fn of(times: &[i64], bytes: &[u32]) -> Self {
        let mut out = Vec::new();
        let mut before: Option<i64> = None;
        let mut at = 0;
        while let Some(&time) = times.get(at) {
            let number = number_of(time);
            let count = times[at..].partition_point(|t| number_of(*t) <= number);
            let sum: u64 = bytes[at..at + count].iter().map(|b| u64::from(*b)).sum();
            match before {
                None => put_i64(&mut out, number),
                Some(before) => put_u64(&mut out, (number - before - 1) as u64),
            }
            put_u64(&mut out, count as u64);
            put_u64(&mut out, sum);
            before = Some(number);
            at += count;
        }
        Self(out.into())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let histogram = Self(Bytes::copy_from_slice(bytes));
        let mut reader = Reader::new(bytes);
        let mut before = None;
        while reader.remaining() > 0 {
            before = Some(read(&mut reader, before)?.0);
        }
        Ok(histogram)
    }

    /// The buckets, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Bucket> + '_ {
        let mut reader = Reader::new(&self.0);
        let mut before = None;
        std::iter::from_fn(move || {
            let (number, entries, bytes) = read(&mut reader, before).ok()?;
            before = Some(number);
            let first = number.saturating_mul(BUCKET).saturating_add(1);
            Some(Bucket { first, last: first.saturating_add(BUCKET - 1), entries, bytes })
        })
    }
}

fn read(reader: &mut Reader<'_>, before: Option<i64>) -> Result<(i64, u64, u64), CodecError> {
    let number = match before {
        None => reader.i64()?,
        Some(before) => {
            let step = i64::try_from(reader.u64()?).map_err(|_| CodecError::Overflow)?;
            before.checked_add(step).and_then(|n| n.checked_add(1)).ok_or(CodecError::Overflow)?
        }
    };
    Ok((number, reader.u64()?, reader.u64()?))
}

/// The number of the bucket of a time.
fn number_of(time: i64) -> i64 {
    time.saturating_sub(1).div_euclid(BUCKET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_entry_is_in_its_bucket(mut times in prop::collection::vec(0i64..200 * 1_000_000_000, 200..400)) {
            times.extend([0, 1, BUCKET, BUCKET + 1, 3 * BUCKET]);
            times.sort_unstable();
            let bytes: Vec<u32> = times.iter().map(|t| (t % 100) as u32).collect();
            let histogram = Histogram::new(&times, &bytes);
            prop_assert_eq!(&Histogram::decode(histogram.bytes()).unwrap(), &histogram);
            let buckets: Vec<Bucket> = histogram.iter().collect();
            prop_assert!(!buckets.is_empty());
            prop_assert!(buckets.windows(2).all(|w| w[0].last < w[1].first));
            prop_assert_eq!(buckets.iter().map(|b| b.entries).sum::<u64>(), times.len() as u64);
            for bucket in buckets {
                let inside = |t: &i64| bucket.first <= *t && *t <= bucket.last;
                prop_assert_eq!(bucket.last % BUCKET, 0);
                prop_assert_eq!(times.iter().filter(|t| inside(t)).count() as u64, bucket.entries);
                prop_assert_eq!(times.iter().filter(|t| inside(t)).map(|t| (t % 100) as u64).sum::<u64>(), bucket.bytes);
            }
        }
    }

    #[test]
    fn sparse_streams_have_none() {
        let times: Vec<i64> = (0..100).map(|i| i * BUCKET).collect();
        assert!(Histogram::new(&times, &[1; 100]).is_empty());
        assert!(Histogram::new(&[], &[]).is_empty());
    }
}
