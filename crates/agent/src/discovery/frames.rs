//! What the engine sends of a container's output, cut into parts of messages.
//!
//! Without a terminal every part is a frame: a byte for the output, three zeros, the length in four bytes, and `time text`. With one
//! there is the text alone, `time text\n`, one after another. In both, a message of more than 16 KiB comes in several parts, each
//! with the time of the first in front; the last ends with a line end.

use model::Timestamp;

use crate::tail::Stream;

/// A part of a message, or a whole one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The output.
    pub(super) stream: Stream,
    /// Of the message.
    pub(super) time: Timestamp,
    /// With the line end, if it ends here.
    pub(super) text: Vec<u8>,
}

/// What could not be understood is left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUnderstood;

/// Cuts what the engine sends. Of a frame, or of a line of a terminal, no more than [`MAX_PART`](Self::MAX_PART) is kept at a time.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Shows at the first byte: a frame begins with a number, a line with a digit of its time.
    has_terminal: Option<bool>,
    /// What is left of a frame that was too long.
    skip: usize,
    /// The rest of the line has no time.
    skip_line: bool,
    /// The message that is being cut from a terminal's output: its time, and how that was written.
    line: Option<(Timestamp, Vec<u8>)>,
}

impl Frames {
    /// Largest part.
    pub(super) const MAX_PART: usize = 256 << 10;
    /// Longest time in front of a text, with the space behind it.
    const MAX_TIME: usize = 40;
    const HEADER: usize = 8;

    /// Those of a container from the beginning of an answer.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), has_terminal: None, skip: 0, skip_line: false, line: None }
    }

    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Cuts what is complete and hands it over.
    pub(super) fn cut(&mut self, parts: &mut Vec<Result<Part, NotUnderstood>>) {
        let Some(first) = self.bytes.first() else { return };
        let has_terminal = *self.has_terminal.get_or_insert(*first > 3);
        let mut at = 0;
        while let Some((count, part)) = if has_terminal { self.of_terminal(at) } else { self.frame(at) } {
            at += count;
            parts.extend(part);
        }
        self.bytes.drain(..at);
    }

    /// How many bytes at an offset are dealt with, and what they come to; `None` if there are not enough.
    fn frame(&mut self, at: usize) -> Option<(usize, Option<Result<Part, NotUnderstood>>)> {
        let bytes = &self.bytes[at..];
        if self.skip > 0 {
            let count = bytes.len().min(self.skip);
            self.skip -= count;
            return (count > 0).then_some((count, None));
        }
        let header = bytes.first_chunk::<{ Self::HEADER }>()?;
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let kept = length.min(Self::MAX_PART);
        let payload = bytes.get(Self::HEADER..Self::HEADER + kept)?;
        self.skip = length - kept;
        let stream = match header[0] {
            0 | 1 => Some(Stream::Stdout),
            2 => Some(Stream::Stderr),
            // An error of the engine's own.
            _ => None,
        };
        let part = stream.zip(split_time(payload)).map(|(stream, (time, text))| {
            let mut text = text.to_vec();
            // Nothing of what is cut off says that the message goes on.
            if self.skip > 0 {
                text.push(b'\n');
            }
            Part { stream, time, text }
        });
        Some((Self::HEADER + kept, Some(part.ok_or(NotUnderstood))))
    }

    fn of_terminal(&mut self, at: usize) -> Option<(usize, Option<Result<Part, NotUnderstood>>)> {
        let bytes = &self.bytes[at..];
        if bytes.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', bytes).map(|end| end + 1);
        if self.skip_line {
            self.skip_line = end.is_none();
            return Some((end.unwrap_or(bytes.len()), None));
        }
        let Some((time, written)) = &self.line else {
            let Some(space) = memchr::memchr(b' ', &bytes[..bytes.len().min(Self::MAX_TIME)]) else {
                if end.is_none() && bytes.len() < Self::MAX_TIME {
                    return None;
                }
                self.skip_line = true;
                return Some((0, Some(Err(NotUnderstood))));
            };
            match split_time(&bytes[..=space]) {
                Some((time, _)) => self.line = Some((time, bytes[..=space].to_vec())),
                None => self.skip_line = true,
            }
            return match self.skip_line {
                true => Some((0, Some(Err(NotUnderstood)))),
                false => Some((space + 1, None)),
            };
        };
        // The time of a further part could begin in the last bytes.
        let count = match end {
            Some(end) => end.min(Self::MAX_PART),
            None if bytes.len() >= Self::MAX_PART => Self::MAX_PART - written.len(),
            None => return None,
        };
        let count = match memchr::memmem::find(&bytes[..count], written) {
            Some(0) => {
                let count = written.len();
                return Some((count, None));
            }
            Some(before) => before,
            None if end.is_some_and(|end| end > count) => count - written.len(),
            None => count,
        };
        let part = Part { stream: Stream::Stdout, time: *time, text: bytes[..count].to_vec() };
        if part.text.ends_with(b"\n") {
            self.line = None;
        }
        Some((count, Some(Ok(part))))
    }
}

/// `2024-01-02T03:04:05.123456789Z text` into its two parts.
fn split_time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let space = memchr::memchr(b' ', &bytes[..bytes.len().min(Frames::MAX_TIME)])?;
    let time = std::str::from_utf8(&bytes[..space]).ok()?;
    let layout = model::gotime::Layout::named("RFC3339Nano")?;
    Some((layout.read(time, &model::gotime::Zone::utc()).ok()?, &bytes[space + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: &str = "2026-01-02T03:04:05.000000001Z ";
    const LATER: &str = "2026-01-02T03:04:05.000000002Z ";

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[kind, 0, 0, 0], &(payload.len() as u32).to_be_bytes()[..], payload].concat()
    }

    /// Output, last digit of the time, and text of every part; `?` of what was not understood.
    fn parts(bytes: &[u8], piece: usize) -> Vec<String> {
        let (mut frames, mut parts) = (Frames::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            frames.push(piece);
            frames.cut(&mut parts);
            assert!(frames.bytes.len() <= Frames::MAX_PART + Frames::HEADER + piece.len());
        }
        let show = |part: Result<Part, NotUnderstood>| {
            part.map_or("?".to_owned(), |part| {
                let text = String::from_utf8_lossy(&part.text).into_owned();
                format!("{} {} {text}", part.stream.as_str(), part.time.nanos() % 10)
            })
        };
        parts.into_iter().map(show).collect()
    }

    #[test]
    fn frames_of_both_outputs() {
        let stream = [
            frame(1, format!("{TIME}one\n").as_bytes()),
            frame(2, format!("{TIME}two").as_bytes()),
            frame(3, b"an error of the engine"),
            frame(1, b"no time\n"),
            frame(2, format!("{LATER}\n").as_bytes()),
            frame(1, &[TIME.as_bytes(), &vec![b'x'; Frames::MAX_PART]].concat()),
            frame(0, format!("{LATER}after\n").as_bytes()),
        ]
        .concat();
        for piece in [1, 7, 1 << 20] {
            let mut parts = parts(&stream, piece);
            let long = parts.remove(5);
            assert!(long.ends_with("x\n") && long.len() < Frames::MAX_PART, "{}", long.len());
            let want = ["stdout 1 one\n", "stderr 1 two", "?", "?", "stderr 2 \n", "stdout 2 after\n"];
            assert_eq!(parts, want, "pieces of {piece}");
        }
    }

    #[test]
    fn lines_of_a_terminal() {
        let long = "y".repeat(16 << 10);
        let stream =
            format!("{TIME}one\r\n{TIME}{long}{TIME}{long}{TIME}end\nbad\nworse {TIME}\n{LATER}\n{LATER}z");
        for piece in [1, 7, 1 << 20] {
            let parts = parts(stream.as_bytes(), piece);
            let whole: String =
                parts[1..4].iter().map(|part| part.strip_prefix("stdout 1 ").unwrap()).collect();
            assert_eq!(whole, format!("{long}{long}end\n"));
            assert_eq!(parts[0], "stdout 1 one\r\n");
            assert_eq!(parts[4..], ["?", "?", "stdout 2 \n"], "pieces of {piece}");
        }
    }

    #[test]
    fn a_terminal_without_line_ends_is_kept_in_bounds() {
        let text = "z".repeat(3 * Frames::MAX_PART);
        let stream = format!("{TIME}{text}\n{LATER}next\n");
        for piece in [1000, 1 << 20] {
            let parts = parts(stream.as_bytes(), piece);
            let (last, long) = parts.split_last().unwrap();
            let whole: String = long.iter().map(|part| part.strip_prefix("stdout 1 ").unwrap()).collect();
            assert_eq!((whole.trim_end(), last.as_str()), (text.as_str(), "stdout 2 next\n"));
            assert!(long.iter().all(|part| part.len() < Frames::MAX_PART + 20));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(pieces in proptest::collection::vec(proptest::collection::vec(
            prop_oneof![Just(vec![0_u8]), Just(b"\n".to_vec()), Just(vec![1, 0, 0, 0, 0, 0, 0]), Just(TIME.as_bytes().to_vec()), any::<u8>().prop_map(|b| vec![b])], 0..20), 0..10)) {
            let (mut frames, mut parts) = (Frames::new(), Vec::new());
            for piece in pieces {
                frames.push(&piece.concat());
                frames.cut(&mut parts);
            }
        }
    }
}
