//! Where a line stands in the output of a container, as a number that is the same whenever and however it is read again.
//!
//! The engine tells the time of each line, ns since the epoch, and almost always no two lines have the same. Its own order is
//! nothing that can be counted on: it is that of the file only as long as nothing of the file is rotated away, and the two outputs
//! overtake each other in it. So the place is made of what belongs to the line alone: its time, its output, and which of the lines of that time
//! and output it is. The lines of one output are in the order of their times (one writer takes the time and writes), so those of
//! one time stand together, and whoever asks for all lines since a time, that time included, counts them alike.
//!
//! In 64 bits: ns since 2020 from bit 4, until 2056; the output in bit 3; the number below it, at most 7.

use model::Timestamp;

use crate::tail::Stream;

/// The place of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinePlace(u64);

impl LinePlace {
    /// 2020-01-01.
    const EPOCH: u64 = 1_577_836_800 * 1_000_000_000;
    const NUMBERS: u64 = 8;
    const SHIFT: u32 = 4;
    /// The two outputs may overtake each other by so much; a line that is later than that has no place of its own.
    pub(crate) const SLACK: std::time::Duration = std::time::Duration::from_secs(5);

    /// The place of a line that is the `number`th of its time and output, and whether it is the line's own.
    pub(crate) fn new(time: Timestamp, stream: Stream, number: u64) -> (Self, bool) {
        let since = u64::try_from(time.nanos()).ok().and_then(|nanos| nanos.checked_sub(Self::EPOCH));
        let fits = |since: &u64| *since > 0 && *since < 1 << (u64::BITS - Self::SHIFT);
        match since.filter(fits) {
            Some(since) => {
                let low = ((stream as u64) << 3) | number.min(Self::NUMBERS - 1);
                (Self(since << Self::SHIFT | low), number < Self::NUMBERS)
            }
            // A clock that was never set.
            None => (Self(0), false),
        }
    }

    /// The last line of which everything before this position is done; `None` at the beginning.
    pub(crate) fn before(position: u64) -> Option<Self> {
        position.checked_sub(1).map(Self)
    }

    /// Its number. The line is the range of one from there.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// The position at which this line is done.
    pub(crate) fn end(self) -> u64 {
        self.0.saturating_add(1)
    }

    /// When the line was printed; the epoch if nobody knows.
    pub(crate) fn time(self) -> Timestamp {
        let since = self.0 >> Self::SHIFT;
        let nanos = if since == 0 { 0 } else { since + Self::EPOCH };
        Timestamp(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// From where on lines have to be asked for to find everything that follows this one.
    pub(crate) fn since(self) -> Timestamp {
        let slack = i64::try_from(Self::SLACK.as_nanos()).unwrap_or(0);
        Timestamp((self.time().nanos() - slack).max(0))
    }

    /// Below this nothing that has a place of its own follows a position.
    pub(crate) fn low(position: u64) -> u64 {
        let slack = u64::try_from(Self::SLACK.as_nanos()).unwrap_or(0);
        position.saturating_sub(slack << Self::SHIFT)
    }

    /// The position at which everything of a time, ns since the epoch, is done.
    pub(crate) fn at_nanos(nanos: u64) -> u64 {
        let time = Timestamp(i64::try_from(nanos).unwrap_or(i64::MAX));
        Self::new(time, Stream::Stdout, 0).0.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_times() {
        let now = Timestamp(1_800_000_000_123_456_789);
        let place = |time: Timestamp, stream, number| LinePlace::new(time, stream, number).0;
        let first = place(now, Stream::Stdout, 0);
        assert_eq!((first.time(), first.since().nanos()), (now, now.nanos() - 5_000_000_000));
        assert_eq!(LinePlace::before(first.end()), Some(first));
        assert!(first < place(now, Stream::Stdout, 1));
        assert!(place(now, Stream::Stdout, 7) < place(now, Stream::Stderr, 0));
        assert!(place(now, Stream::Stderr, 7) < place(Timestamp(now.nanos() + 1), Stream::Stdout, 0));
        assert_eq!(LinePlace::new(now, Stream::Stdout, 8), (place(now, Stream::Stdout, 7), false));
        assert_eq!(LinePlace::low(first.end()), place(first.since(), Stream::Stdout, 0).end());
    }

    #[test]
    fn clocks_that_were_never_set() {
        let (place, is_own) = LinePlace::new(Timestamp(1_000), Stream::Stderr, 0);
        assert_eq!(
            (is_own, place.time(), place.since(), place.end()),
            (false, Timestamp(0), Timestamp(0), 1)
        );
        assert_eq!(LinePlace::before(0), None);
        assert_eq!(LinePlace::at_nanos(0), 1);
    }
}
