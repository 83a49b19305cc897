//! Which lines of a container's output are new, and what place each has (see [`LinePlace`]).
//!
//! The engine is asked for all that is not older than the last line that was done, and some seconds before. It answers in the order in
//! which lines were written, so what comes before that last line was done too, and all that comes behind it is new, whatever its
//! time. If that line is not there any more (its file was rotated away), what is later than it is new.
//!
//! A line whose time is before that of the line before it on the same output (the clock was set back) has no place of its own
//! until the clock has caught up: it is handed on like any other, and comes again after a crash.

use model::Timestamp;

use crate::positions::LinePlace;
use crate::source::Ranges;
use crate::tail::Stream;

/// A whole line of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The output.
    pub(super) stream: Stream,
    /// When it was printed.
    pub(super) time: Timestamp,
    /// Without its line end.
    pub(super) text: String,
}

/// A line that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbered {
    /// The line.
    pub(super) message: Message,
    /// What it is known by.
    pub(super) ranges: Ranges,
    /// The position at which it is done.
    pub(super) end: u64,
}

/// Numbers what is read from a position on.
#[derive(Debug)]
pub(super) struct Numbering {
    /// The last line that is done, until it is met.
    sought: Option<LinePlace>,
    /// Lines later than that one that came before it was met.
    held: Vec<Numbered>,
    held_bytes: usize,
    /// Nothing below this has a place of its own.
    low: u64,
    /// Latest time of each output, and how many lines it has had.
    latest: [Option<(Timestamp, u64)>; 2],
}

impl Numbering {
    /// Most bytes that are held; they are some microseconds of output unless the line that is sought is gone.
    const MAX_HELD: usize = 4 << 20;

    /// Goes on at a position. Stores know that nothing below `low` will come.
    pub(super) fn new(position: u64, low: u64) -> Self {
        let low = low.max(LinePlace::low(position));
        Self { sought: LinePlace::before(position), held: Vec::new(), held_bytes: 0, low, latest: [None; 2] }
    }

    /// Nothing below this has a place of its own.
    pub(super) fn low(&self) -> u64 {
        self.low
    }

    /// From which time on lines have to be pushed.
    pub(super) fn since(&self) -> Timestamp {
        self.sought.map_or(Timestamp(0), LinePlace::since)
    }

    /// Takes the next line, and tells of those that are new.
    pub(super) fn push(&mut self, message: Message, new: &mut Vec<Numbered>) {
        let (place, is_own) = self.place(message.stream, message.time);
        let ranges = match is_own {
            true => Ranges::one(place.number(), place.end()),
            false => Ranges::None,
        };
        let numbered = Numbered { ranges, end: place.end(), message };
        let Some(sought) = self.sought else { return new.push(numbered) };
        if place == sought {
            (self.sought, self.held) = (None, Vec::new());
            return;
        }
        if place < sought {
            return;
        }
        let is_later = numbered.message.time.nanos() - sought.time().nanos() > SLACK_NANOS;
        self.held_bytes += numbered.message.text.len() + size_of::<Numbered>();
        self.held.push(numbered);
        if is_later || self.held_bytes > Self::MAX_HELD {
            self.give_up(new);
        }
    }

    /// The line that was sought does not come any more.
    pub(super) fn give_up(&mut self, new: &mut Vec<Numbered>) {
        if !self.held.is_empty() {
            self.sought = None;
            new.append(&mut self.held);
        }
    }

    fn place(&mut self, stream: Stream, time: Timestamp) -> (LinePlace, bool) {
        let latest = &mut self.latest[stream as usize];
        let number = match *latest {
            Some((before, _)) if time < before => return (LinePlace::new(time, stream, 0).0, false),
            Some((before, count)) if time == before => count,
            _ => 0,
        };
        *latest = Some((time, number + 1));
        let (place, is_own) = LinePlace::new(time, stream, number);
        (place, is_own && place.number() >= self.low)
    }
}

const SLACK_NANOS: i64 = LinePlace::SLACK.as_nanos() as i64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGIN: i64 = 1_800_000_000_000_000_000;

    fn message(stream: Stream, nanos: i64, text: impl ToString) -> Message {
        Message { stream, time: Timestamp(BEGIN + nanos), text: text.to_string() }
    }

    /// What is new of a file from a position on.
    fn read(file: &[Message], position: u64) -> Vec<Numbered> {
        let (mut numbering, mut new) = (Numbering::new(position, 0), Vec::new());
        let since = numbering.since();
        // The engine tells what is not older.
        file.iter().filter(|m| m.time >= since).for_each(|m| numbering.push(m.clone(), &mut new));
        numbering.give_up(&mut new);
        new
    }

    /// Two outputs whose times never go back, and which overtake each other.
    fn files() -> impl Strategy<Value = Vec<Message>> {
        let step = prop_oneof![4 => Just(0_i64), 4 => 1_i64..4, 1 => Just(3_000_000_000)];
        proptest::collection::vec((any::<bool>(), step), 1..60).prop_map(|lines| {
            let mut times = [0_i64; 2];
            let line = |(i, (is_error, step)): (usize, (bool, i64))| {
                let (stream, place) = if is_error { (Stream::Stderr, 1) } else { (Stream::Stdout, 0) };
                times[place] += step;
                let other = times[1 - place];
                // As far as writers may part.
                times[place] = times[place].max(other - SLACK_NANOS / 2);
                message(stream, times[place], i)
            };
            lines.into_iter().enumerate().map(line).collect()
        })
    }

    proptest! {
        #[test]
        fn reading_on_finds_the_rest_under_the_same_places(file in files(), at: proptest::sample::Index) {
            let whole = read(&file, 0);
            prop_assert_eq!(whole.iter().map(|n| &n.message).collect::<Vec<_>>(), file.iter().collect::<Vec<_>>());
            let done = at.index(file.len());
            // Lines beyond the seventh of a time are read again with those that follow them.
            prop_assume!(whole[done].ranges != Ranges::None);
            prop_assert_eq!(&read(&file, whole[done].end)[..], &whole[done + 1..]);
        }

        #[test]
        fn no_two_lines_have_one_place(file in files()) {
            let mut ranges: Vec<_> = read(&file, 0).into_iter().map(|n| n.ranges).filter(|r| *r != Ranges::None).collect();
            let count = ranges.len();
            ranges.sort_unstable_by_key(|range| range.as_slice()[0].start);
            ranges.dedup();
            prop_assert_eq!(ranges.len(), count);
        }

        #[test]
        fn of_a_file_that_lost_its_beginning_what_is_later_is_new(file in files(), at: proptest::sample::Index, lost in 1_usize..60) {
            let whole = read(&file, 0);
            let done = at.index(file.len());
            let lost = (done + lost).min(file.len());
            // A file does not end between two lines of one time and output.
            let last = &file[done];
            prop_assume!(!file[lost..].iter().any(|m| (m.stream, m.time) == (last.stream, last.time)));
            let found = read(&file[lost..], whole[done].end);
            let late = file[lost..].iter().filter(|m| m.time > file[done].time).count();
            prop_assert!(found.len() >= late, "{} of {}", found.len(), late);
        }

        #[test]
        fn whatever_clocks_do_nothing_is_left_out(times in proptest::collection::vec((any::<bool>(), -20_i64..20), 1..60), at: proptest::sample::Index) {
            let stream = |is_error| if is_error { Stream::Stderr } else { Stream::Stdout };
            let file: Vec<_> = times.iter().enumerate().map(|(i, (e, t))| message(stream(*e), *t, i)).collect();
            let whole = read(&file, 0);
            prop_assert_eq!(whole.len(), file.len());
            let done = at.index(file.len());
            let again: Vec<_> = read(&file, whole[done].end).into_iter().map(|n| n.message).collect();
            let rest = &file[done + 1..];
            // A place that is not its own may be met too early: then more comes again, never less.
            prop_assert!(rest.iter().all(|m| again.contains(m)) , "{again:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back() {
        let out = |nanos, text| message(Stream::Stdout, nanos, text);
        let file = [out(10, "a"), out(20, "b"), out(15, "c"), out(20, "d"), out(21, "e")];
        let whole = read(&file, 0);
        let own: Vec<_> = whole.iter().map(|n| n.ranges != Ranges::None).collect();
        assert_eq!(own, [true, true, false, true, true]);
        assert_eq!(read(&file, whole[2].end)[..], whole[3..]);
        assert_eq!(read(&file, whole[3].end)[..], whole[4..]);
    }

    #[test]
    fn what_lies_below_what_stores_were_told_has_no_place() {
        let (mut numbering, mut new) =
            (Numbering::new(0, LinePlace::at_nanos((BEGIN + 100) as u64)), Vec::new());
        numbering.push(message(Stream::Stdout, 99, "early"), &mut new);
        numbering.push(message(Stream::Stdout, 101, "late"), &mut new);
        assert_eq!((&new[0].ranges, new[1].ranges.as_slice().len()), (&Ranges::None, 1));
    }
}
