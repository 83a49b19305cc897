//! RFC 6587: how messages follow each other on a connection. Each has its length before it, or a line end (or a zero byte, as
//! Python writes it) after it; the first byte of the connection tells which. Relays mix what they get from several senders, so a
//! message that plainly begins the other way is taken that way.

/// Cuts the bytes of a connection into messages of at most a given length.
#[derive(Debug)]
pub(super) struct Framer {
    max: usize,
    mode: Option<Mode>,
    bytes: Vec<u8>,
    /// How many bytes, or what is left of a line, belong to a message that was cut.
    skip: Skip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Counted,
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    Nothing,
    Bytes(u64),
    Line,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its text; bytes that are not UTF-8 are U+FFFD.
    pub(super) text: String,
    /// Whether its end is missing because it was too long.
    pub(super) is_cut: bool,
}

/// What follows can not be told apart any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    /// The first byte is neither `<` nor a digit.
    #[error("a connection must begin with '<' or with the length of a message, not with {0:?}")]
    Start(char),
    /// A message is not preceded by its length.
    #[error("a length of at most {} digits and a space must precede each message", Framer::LENGTH_DIGITS)]
    Length,
}

impl Framer {
    const LENGTH_DIGITS: usize = 10;

    /// Messages beyond `max` bytes are cut.
    pub(super) fn new(max: usize) -> Self {
        Self { max, mode: None, bytes: Vec::new(), skip: Skip::Nothing }
    }

    /// Adds what was received. It holds at most what one message may have and one read brings.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message that is complete.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FramingError> {
        loop {
            if !self.skip() {
                return Ok(None);
            }
            if self.mode.is_some() {
                // Empty lines, and line ends that some senders write after counted messages and do not count.
                let blank = self.bytes.iter().take_while(|b| matches!(b, b'\n' | b'\r' | 0)).count();
                self.bytes.drain(..blank);
            }
            let Some(first) = self.bytes.first().copied() else { return Ok(None) };
            let mode = match (self.mode, first) {
                (_, b'<') => Mode::Lines,
                (None | Some(Mode::Counted), b'1'..=b'9') => Mode::Counted,
                (None, other) => return Err(FramingError::Start(char::from(other))),
                (Some(Mode::Counted), _) => return Err(FramingError::Length),
                (Some(Mode::Lines), _) => match is_counted(&self.bytes) {
                    Some(true) => Mode::Counted,
                    Some(false) => Mode::Lines,
                    None => return Ok(None),
                },
            };
            self.mode.get_or_insert(mode);
            let frame = match mode {
                Mode::Counted => self.counted()?,
                Mode::Lines => self.line(),
            };
            match frame {
                // A message of line ends only is nothing.
                Some(frame) if frame.text.is_empty() => {}
                frame => return Ok(frame),
            }
        }
    }

    /// What is left when the connection ends: a line without its end, or the error that a counted message is not whole.
    pub(super) fn finish(&mut self) -> Result<Option<Frame>, FramingError> {
        let rest = std::mem::take(&mut self.bytes);
        let begins_as_line = rest.first() == Some(&b'<');
        match (self.mode, self.skip) {
            (Some(mode), Skip::Nothing) if mode == Mode::Lines || begins_as_line => {
                Ok(Some(frame(&rest, false)).filter(|frame| !frame.text.is_empty()))
            }
            (Some(Mode::Counted), Skip::Nothing) if !rest.trim_ascii().is_empty() => {
                Err(FramingError::Length)
            }
            _ => Ok(None),
        }
    }

    /// Passes over what is left of a message that was cut; `false` if there is more of it to come.
    fn skip(&mut self) -> bool {
        match self.skip {
            Skip::Nothing => return true,
            Skip::Bytes(count) => {
                let now = self.bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                self.bytes.drain(..now);
                let left = count - now as u64;
                self.skip = if left == 0 { Skip::Nothing } else { Skip::Bytes(left) };
            }
            Skip::Line => match memchr::memchr2(b'\n', 0, &self.bytes) {
                Some(end) => {
                    self.bytes.drain(..=end);
                    self.skip = Skip::Nothing;
                }
                None => self.bytes.clear(),
            },
        }
        self.skip == Skip::Nothing
    }

    fn counted(&mut self) -> Result<Option<Frame>, FramingError> {
        let digits = self.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
        let length =
            std::str::from_utf8(&self.bytes[..digits]).ok().and_then(|text| text.parse::<u64>().ok());
        match self.bytes.get(digits) {
            _ if digits > Self::LENGTH_DIGITS => return Err(FramingError::Length),
            None => return Ok(None),
            Some(b' ') if digits > 0 => {}
            Some(_) => return Err(FramingError::Length),
        }
        let length = length.ok_or(FramingError::Length)?;
        let begin = digits + 1;
        let keep = self.max.min(usize::try_from(length).unwrap_or(usize::MAX));
        if self.bytes.len() < begin + keep {
            return Ok(None);
        }
        let cut = length - keep as u64;
        let frame = frame(&self.bytes[begin..begin + keep], cut > 0);
        self.bytes.drain(..begin + keep);
        if cut > 0 {
            self.skip = Skip::Bytes(cut);
        }
        Ok(Some(frame))
    }

    fn line(&mut self) -> Option<Frame> {
        let within = self.bytes.len().min(self.max + 1);
        match memchr::memchr2(b'\n', 0, &self.bytes[..within]) {
            Some(end) => {
                let frame = frame(&self.bytes[..end], false);
                self.bytes.drain(..=end);
                Some(frame)
            }
            None if self.bytes.len() > self.max => {
                let frame = frame(&self.bytes[..self.max], true);
                self.bytes.drain(..self.max);
                self.skip = Skip::Line;
                Some(frame)
            }
            None => None,
        }
    }
}

/// Whether bytes begin with the length of a message and its priority, as in `23 <13>`; `None` if they may yet.
fn is_counted(bytes: &[u8]) -> Option<bool> {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let length = digits(bytes);
    let mut rest = &bytes[length..];
    if !(1..=Framer::LENGTH_DIGITS).contains(&length) || bytes[0] == b'0' {
        return Some(false);
    }
    for expected in b" <" {
        match rest.split_first() {
            None => return None,
            Some((byte, after)) if byte == expected => rest = after,
            Some(_) => return Some(false),
        }
    }
    let priority = digits(rest);
    match rest.get(priority) {
        _ if priority > 3 => Some(false),
        None => None,
        Some(end) => Some(priority > 0 && *end == b'>'),
    }
}

/// A message from a datagram, of at most `max` bytes: one of its own, whether its length stands before it or not.
pub(super) fn datagram(bytes: &[u8], max: usize) -> Option<Frame> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let bytes = match &bytes[digits..] {
        [b' ', message @ ..] if digits > 0 && message.first() == Some(&b'<') => message,
        _ => bytes,
    };
    let kept = &bytes[..bytes.len().min(max)];
    Some(frame(kept, kept.len() < bytes.len())).filter(|frame| !frame.text.is_empty())
}

/// The text of a message, without a line end that came with it, nor half of a character where it was cut.
fn frame(mut bytes: &[u8], is_cut: bool) -> Frame {
    if let Err(error) = std::str::from_utf8(bytes)
        && is_cut
        && error.error_len().is_none()
    {
        bytes = &bytes[..error.valid_up_to()];
    }
    let end = bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r' | 0)).map_or(0, |last| last + 1);
    Frame { text: String::from_utf8_lossy(&bytes[..end]).into_owned(), is_cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `bytes` in pieces of each size; the messages (cut ones end with `…`) and how it ended.
    fn check(bytes: &[u8], want: &[&str], error: Option<FramingError>) {
        for size in [1, 2, 7, 1000] {
            let mut framer = Framer::new(10);
            let (mut seen, mut failed) = (Vec::new(), None);
            for piece in bytes.chunks(size) {
                framer.push(piece);
                loop {
                    match framer.next() {
                        Ok(Some(frame)) => seen.push(frame.text + if frame.is_cut { "…" } else { "" }),
                        Ok(None) => break,
                        Err(error) => {
                            failed.get_or_insert(error);
                            break;
                        }
                    }
                }
            }
            if failed.is_none() {
                match framer.finish() {
                    Ok(frame) => seen.extend(frame.map(|f| f.text)),
                    Err(error) => failed = Some(error),
                }
            }
            assert_eq!(
                (seen.iter().map(String::as_str).collect::<Vec<_>>(), failed),
                (want.to_vec(), error.clone()),
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn messages_with_their_length() {
        check(b"5 <1>ab4 <2>c", &["<1>ab", "<2>c"], None);
        check(b"5 <1>a\n5 <1>b\n\n3 <1>\n", &["<1>a", "<1>b", "<1>"], None);
        check(b"12 <1>3456789AB3 <2>", &["<1>3456789…", "<2>"], None);
        check(b"3 <1>x", &["<1>"], Some(FramingError::Length));
        check(b"9 <1>", &[], Some(FramingError::Length));
        check(b"12345678901 <1>", &[], Some(FramingError::Length));
    }

    #[test]
    fn messages_with_a_line_end() {
        check(b"<1>a\n\r\n<2>b\r\n<3>c", &["<1>a", "<2>b", "<3>c"], None);
        check(b"<1>a\n12 is no length\n", &["<1>a", "12 is no l…"], None);
        check(b"<1>a\0<2>b\0\n<3>345678901234\0<4>", &["<1>a", "<2>b", "<3>3456789…", "<4>"], None);
        check(b"<1>3456789\n<1>345678901234\n<2>\n", &["<1>3456789", "<1>3456789…", "<2>"], None);
        check(b"<1>\xff\n", &["<1>\u{fffd}"], None);
    }

    #[test]
    fn messages_of_both_kinds() {
        check(b"<1>a\n4 <2>b<3>c\n5 <4>d\n12", &["<1>a", "<2>b", "<3>c", "<4>d", "12"], None);
        check(b"4 <1>a<2>b\n4 <3>c<4>d", &["<1>a", "<2>b", "<3>c", "<4>d"], None);
        check(
            b"<1>a\n4 <init>\n4 <x>\n1 <1234>\n1 <2",
            &["<1>a", "4 <init>", "4 <x>", "1 <1234>", "1 <2"],
            None,
        );
    }

    #[test]
    fn characters_are_not_cut_in_half() {
        check("<1>56789é\n<1>56789é0\n".as_bytes(), &["<1>56789é", "<1>56789é…"], None);
        check("<1>567890é\n".as_bytes(), &["<1>567890…"], None);
        assert_eq!(datagram("<1>567890é".as_bytes(), 10).unwrap().text, "<1>567890");
    }

    #[test]
    fn other_connections() {
        check(b"GET / HTTP/1.1\r\n", &[], Some(FramingError::Start('G')));
        check(b"0 <1>", &[], Some(FramingError::Start('0')));
        check(b"", &[], None);
    }

    #[test]
    fn datagrams() {
        let check = |bytes: &[u8], want: Option<(&str, bool)>| {
            let frame = datagram(bytes, 10);
            assert_eq!(frame.as_ref().map(|f| (f.text.as_str(), f.is_cut)), want);
        };
        check(b"<1>a\nb\n\0", Some(("<1>a\nb", false)));
        check(b"5 <1>ab", Some(("<1>ab", false)));
        check(b"<1>345678901", Some(("<1>3456789", true)));
        check(b"12 monkeys", Some(("12 monkeys", false)));
        check(b"\n", None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_pile_up(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20), begin in "(<|[1-9]{1,12} )?") {
            let mut framer = Framer::new(16);
            framer.push(begin.as_bytes());
            for piece in pieces {
                framer.push(&piece);
                while let Ok(Some(frame)) = framer.next() {
                    prop_assert!(frame.text.chars().count() <= 16);
                }
                if framer.next().is_err() {
                    return Ok(());
                }
                prop_assert!(framer.bytes.len() <= 16 + 16);
            }
            framer.finish().ok();
        }
    }
}
