//! Cuts lines into words, and finds the text of a JSON line that is worth it.
//!
//! A word is a longest run of bytes that are no delimiters; a run without a letter or digit belongs to what stands between words. So
//! two lines have the same shape if the same bytes stand between their words, and what takes a word's place in one of them never holds
//! the delimiter that follows: that is what lets a pattern match, as `|>` does, every line it was made of.

use std::ops::Range;

/// Lines are looked at up to here; what follows is a placeholder.
pub(super) const MAX_LINE: usize = 3000;
/// Words are told apart up to here; what follows is a placeholder.
const MAX_WORDS: usize = 96;

/// A word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) start: u16,
    pub(super) end: u16,
    /// Of the word's bytes; never 0.
    pub(super) hash: u32,
    /// It has a digit or would be misread in a pattern: it tells nothing about what the line is.
    pub(super) is_value: bool,
}

/// The words of a line.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) list: Vec<Word>,
    /// Of what stands between the words.
    pub(super) shape: u64,
    /// Where the words end, if before the line does.
    pub(super) cut: Option<u16>,
}

const DELIMITER: u8 = 1;
const ALPHANUMERIC: u8 = 2;
const DIGIT: u8 = 4;
const ODD: u8 = 8;

/// What each byte is.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let delimiters = b" \t\r\n\x0b\x0c=,;\"'`()[]{}|/\\&?!";
    let mut i = 0;
    while i < delimiters.len() {
        table[delimiters[i] as usize] = DELIMITER;
        i += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_digit() {
            table[byte] = DIGIT | ALPHANUMERIC;
        } else if b.is_ascii_alphabetic() || b >= 0x80 {
            table[byte] = ALPHANUMERIC;
        } else if b == b'<' || b == b'>' {
            table[byte] = ODD;
        }
        byte += 1;
    }
    table
}

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl Words {
    /// Cuts a text, of which the first [`MAX_LINE`] bytes count.
    pub(super) fn read(&mut self, text: &str) {
        self.list.clear();
        let bytes = &text.as_bytes()[..text.len().min(MAX_LINE)];
        self.cut = (text.len() > MAX_LINE).then_some(MAX_LINE as u16);
        let (mut shape, mut at) = (MIX, 0);
        while at < bytes.len() {
            let start = at;
            let (mut seen, mut hash) = (0u8, 0u64);
            while at < bytes.len() && CLASS[usize::from(bytes[at])] & DELIMITER == 0 {
                seen |= CLASS[usize::from(bytes[at])];
                hash = (hash.rotate_left(5) ^ u64::from(bytes[at])).wrapping_mul(MIX);
                at += 1;
            }
            let is_word = seen & (ALPHANUMERIC | ODD) != 0;
            if is_word && self.list.len() == MAX_WORDS {
                self.cut = Some(start as u16);
                break;
            }
            if is_word {
                shape = (shape.rotate_left(7) ^ 1).wrapping_mul(MIX);
                let hash = ((hash >> 32) as u32).max(1);
                let is_value = seen & (DIGIT | ODD) != 0;
                self.list.push(Word { start: start as u16, end: at as u16, hash, is_value });
            } else {
                shape = (shape ^ hash).wrapping_mul(MIX);
            }
            if at < bytes.len() {
                shape = (shape.rotate_left(9) ^ u64::from(bytes[at])).wrapping_mul(MIX);
                at += 1;
            }
        }
        // A word that was cut, or that ends where the line was cut, is part of what follows.
        if let (Some(cut), Some(last)) = (self.cut, self.list.last())
            && last.end == cut
        {
            self.cut = Some(last.start);
            self.list.pop();
        }
        self.shape = shape ^ u64::from(self.cut.is_some());
    }
}

/// The place of the string that is the first of these members of a JSON object, as it is written, without its quotes. Only members of
/// the object itself count.
pub(super) fn json_text(line: &str, fields: &[String]) -> Option<Range<usize>> {
    let bytes = line.as_bytes();
    let begin = bytes.iter().position(|b| !b.is_ascii_whitespace()).filter(|at| bytes[*at] == b'{')?;
    let mut best: Option<(usize, Range<usize>)> = None;
    let (mut at, mut depth, mut key, mut colon) = (begin + 1, 1usize, None, false);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at + 1)?;
                let string = at + 1..end;
                at = end;
                match key.take() {
                    Some(rank) if colon => {
                        if let Some(rank) = rank
                            && !string.is_empty()
                            && best.as_ref().is_none_or(|(best, _)| rank < *best)
                        {
                            best = Some((rank, string));
                        }
                        if best.as_ref().is_some_and(|(rank, _)| *rank == 0) {
                            break;
                        }
                    }
                    _ if depth == 1 => {
                        key = Some(fields.iter().position(|field| *field == line[string.clone()]));
                    }
                    _ => {}
                }
                colon = false;
            }
            b':' => colon = true,
            b'{' | b'[' => (depth, key) = (depth + 1, None),
            b'}' | b']' => {
                depth -= 1;
                key = None;
                if depth == 0 {
                    break;
                }
            }
            b',' => key = None,
            _ => {}
        }
        at += 1;
    }
    best.map(|(_, place)| place)
}

/// Where the string that begins at `from` ends: the place of its closing quote.
fn string_end(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', bytes.get(from..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> (Vec<String>, u64) {
        let mut words = Words::default();
        words.read(text);
        let list = words.list.iter();
        let shown = list
            .map(|w| format!("{}{}", &text[w.start.into()..w.end.into()], if w.is_value { "#" } else { "" }));
        (shown.collect(), words.shape)
    }

    #[test]
    fn words_and_shapes() {
        let (list, shape) = words("GET /api/users/17 - 200, took=1.5ms <b>");
        assert_eq!(list, ["GET", "api", "users", "17#", "200#", "took", "1.5ms#", "<b>#"]);
        assert_eq!(shape, words("PUT /x/y/z - a, b=c d").1);
        assert_ne!(shape, words("PUT /x/y/z + a, b=c d").1);
        assert_ne!(shape, words("PUT /x/y/z - a, b=c  d").1);
        assert_ne!(shape, words("PUT /x/y/z - a, b=c d ").1);
        assert_eq!(words("— …").0, ["—", "…"]);
        assert_eq!(words(" == ").0, [""; 0]);
    }

    #[test]
    fn long_lines_are_cut_before_a_word() {
        let mut words = Words::default();
        words.read(&"ab ".repeat(200));
        assert_eq!((words.list.len(), words.cut), (MAX_WORDS, Some(3 * MAX_WORDS as u16)));
        let long = format!("head {}", "é".repeat(MAX_LINE));
        words.read(&long);
        assert_eq!((words.list.len(), words.cut), (1, Some(5)));
        assert!(long.is_char_boundary(5));
    }

    #[test]
    fn message_of_json() {
        let fields: Vec<String> = ["log", "message", "msg"].map(str::to_owned).into();
        let text = |line: &'static str| json_text(line, &fields).map(|place| &line[place]);
        assert_eq!(
            text(r#"{"level":"x","msg":"all \"is\" well","n":{"log":"y"}}"#),
            Some(r#"all \"is\" well"#)
        );
        assert_eq!(text(r#" {"msg":"a","message":"b"}"#), Some("b"));
        assert_eq!(text(r#"{"a":["msg","x"],"b":"msg"}"#), None);
        assert_eq!(text(r#"{"msg":5}"#), None);
        assert_eq!(text(r#"{"msg":""}"#), None);
        assert_eq!(text(r#"{"msg":"cut"#), None);
        assert_eq!(text("msg=x"), None);
    }
}
