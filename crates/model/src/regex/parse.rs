//! The parser of Go's regular expression syntax (package `regexp/syntax`, flags `Perl`).
//!
//! It yields Rust's intermediate form of a regular expression, from which `regex-automata` builds its
//! engines. The syntax is described in Go's documentation of `regexp/syntax`; errors are Go's word for
//! word, because users compare them. Groups are kept on an explicit stack, so depth costs no recursion.

use regex_syntax::hir::{Capture, Class, ClassUnicode, Dot, Hir, Look, Repetition};

use super::RegexError;
use super::class::{self, ClassBuilder};

/// Parentheses deeper than this are refused: what follows the parser recurses. Go allows about 1000.
const MAX_DEPTH: usize = 250;
/// Patterns longer than this many bytes are refused.
const MAX_PATTERN: usize = 1 << 20;
/// All classes of a pattern together may have this many ranges (8 bytes each).
const MAX_CLASS_RANGES: usize = 1 << 20;
/// The most that nested counted repetitions may multiply to, as in RE2.
const MAX_REPEAT: u32 = 1000;

/// A parsed pattern.
pub(super) struct Parsed {
    pub(super) hir: Hir,
    /// Names of the groups; index 0 is the whole match.
    pub(super) names: Vec<Option<String>>,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    fold_case: bool,
    multi_line: bool,
    dot_newline: bool,
    swap_greed: bool,
}

/// An expression and what its counted repetitions multiply to, which RE2 limits.
struct Item {
    hir: Hir,
    repeats: u32,
}

/// An open parenthesis, or the whole pattern.
struct Group {
    /// The group's index, if it captures.
    capture: Option<usize>,
    /// The flags to restore at its end.
    outer: Flags,
    /// Finished branches of its alternation.
    branches: Vec<Hir>,
    /// The branch being read.
    items: Vec<Item>,
    repeats: u32,
}

impl Group {
    fn new(capture: Option<usize>, outer: Flags) -> Self {
        Self { capture, outer, branches: Vec::new(), items: Vec::new(), repeats: 1 }
    }

    fn end_branch(&mut self) {
        self.repeats = self.items.iter().fold(self.repeats, |most, item| most.max(item.repeats));
        self.branches.push(Hir::concat(self.items.drain(..).map(|item| item.hir).collect()));
    }

    fn finish(mut self) -> Item {
        self.end_branch();
        Item { hir: Hir::alternation(self.branches), repeats: self.repeats }
    }
}

/// Parses a pattern; with `dot_newline` as if `(?s)` stood before it.
pub(super) fn parse(pattern: &str, dot_newline: bool) -> Result<Parsed, RegexError> {
    if pattern.len() > MAX_PATTERN {
        return Err(RegexError("expression too large".to_owned()));
    }
    let flags = Flags { dot_newline, ..Flags::default() };
    let parser = Parser {
        whole: pattern,
        rest: pattern,
        flags,
        outer: Vec::new(),
        group: Group::new(None, flags),
        names: vec![None],
        class_ranges: 0,
    };
    parser.run()
}

struct Parser<'p> {
    whole: &'p str,
    rest: &'p str,
    flags: Flags,
    /// The groups around the innermost one.
    outer: Vec<Group>,
    group: Group,
    names: Vec<Option<String>>,
    class_ranges: usize,
}

/// Go's error: what is wrong, and the part of the pattern where it is.
fn error<T>(what: &str, part: &str) -> Result<T, RegexError> {
    Err(RegexError(format!("{what}: `{part}`")))
}

/// The part of `before` that comes before `after`, its own end.
fn consumed<'p>(before: &'p str, after: &str) -> &'p str {
    &before[..before.len() - after.len()]
}

impl<'p> Parser<'p> {
    fn run(mut self) -> Result<Parsed, RegexError> {
        // Where the operator just read began; a second one right behind it is an error.
        let mut last_repeat: Option<&str> = None;
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            let mut repeat = None;
            match c {
                '(' if before.starts_with("(?") => self.perl_group()?,
                '(' => {
                    self.rest = &before[1..];
                    self.open_capture(None)?;
                }
                '|' => {
                    self.rest = &before[1..];
                    self.group.end_branch();
                }
                ')' => {
                    self.rest = &before[1..];
                    self.close()?;
                }
                '^' | '$' => {
                    self.rest = &before[1..];
                    self.push(Hir::look(match (c, self.flags.multi_line) {
                        ('^', false) => Look::Start,
                        ('^', true) => Look::StartLF,
                        (_, false) => Look::End,
                        (_, true) => Look::EndLF,
                    }));
                }
                '.' => {
                    self.rest = &before[1..];
                    let any = if self.flags.dot_newline { Dot::AnyChar } else { Dot::AnyCharExceptLF };
                    self.push(Hir::dot(any));
                }
                '[' => self.bracket()?,
                '*' | '+' | '?' => {
                    self.rest = &before[1..];
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(min, max, before, last_repeat)?;
                    repeat = Some(before);
                }
                '{' => match counts(before) {
                    // What is no repetition stands for itself.
                    None => self.literal(),
                    Some((min, max, after)) => {
                        let valid =
                            min <= MAX_REPEAT && max.is_none_or(|max| min <= max && max <= MAX_REPEAT);
                        if !valid {
                            return error("invalid repeat count", consumed(before, after));
                        }
                        self.rest = after;
                        self.repeat(min, max, before, last_repeat)?;
                        if min.max(max.unwrap_or(0)) >= 2
                            && self.group.items.last().is_some_and(|item| item.repeats > MAX_REPEAT)
                        {
                            return error("invalid repeat count", consumed(before, self.rest));
                        }
                        repeat = Some(before);
                    }
                },
                '\\' => self.escape()?,
                _ => self.literal(),
            }
            last_repeat = repeat;
        }
        if !self.outer.is_empty() {
            return error("missing closing )", self.whole);
        }
        Ok(Parsed { hir: self.group.finish().hir, names: self.names })
    }

    fn push(&mut self, hir: Hir) {
        self.group.items.push(Item { hir, repeats: 1 });
    }

    fn push_class(&mut self, class: ClassBuilder) -> Result<(), RegexError> {
        self.count_ranges(class.len())?;
        self.push(Hir::class(Class::Unicode(class.finish())));
        Ok(())
    }

    fn count_ranges(&mut self, more: usize) -> Result<(), RegexError> {
        self.class_ranges += more;
        if self.class_ranges > MAX_CLASS_RANGES {
            return error("expression too large", self.whole);
        }
        Ok(())
    }

    /// The next character stands for itself.
    fn literal(&mut self) {
        let mut chars = self.rest.chars();
        if let Some(c) = chars.next() {
            self.rest = chars.as_str();
            self.push_char(u32::from(c));
        }
    }

    fn push_char(&mut self, code: u32) {
        let mut class = ClassBuilder::default();
        if self.flags.fold_case {
            class.push_folded(code, code);
        } else {
            class.push(code, code);
        }
        self.push(Hir::class(Class::Unicode(class.finish())));
    }

    fn repeat(
        &mut self,
        min: u32,
        max: Option<u32>,
        before: &'p str,
        last_repeat: Option<&'p str>,
    ) -> Result<(), RegexError> {
        let mut greedy = !self.flags.swap_greed;
        if let Some(after) = self.rest.strip_prefix('?') {
            self.rest = after;
            greedy = !greedy;
        }
        if let Some(last) = last_repeat {
            return error("invalid nested repetition operator", consumed(last, self.rest));
        }
        let Some(Item { hir, repeats }) = self.group.items.pop() else {
            return error("missing argument to repetition operator", consumed(before, self.rest));
        };
        let count = if max == Some(0) { None } else { Some(max.unwrap_or(min).max(1)) };
        let repeats = count.map_or(1, |count| repeats.saturating_mul(count));
        let hir = Hir::repetition(Repetition { min, max, greedy, sub: Box::new(hir) });
        self.group.items.push(Item { hir, repeats });
        Ok(())
    }

    fn open(&mut self, capture: Option<usize>) -> Result<(), RegexError> {
        if self.outer.len() >= MAX_DEPTH {
            return error("expression nests too deeply", self.whole);
        }
        let inner = Group::new(capture, self.flags);
        self.outer.push(std::mem::replace(&mut self.group, inner));
        Ok(())
    }

    fn open_capture(&mut self, name: Option<&str>) -> Result<(), RegexError> {
        let index = self.names.len();
        self.names.push(name.map(str::to_owned));
        self.open(Some(index))
    }

    fn close(&mut self) -> Result<(), RegexError> {
        let Some(outer) = self.outer.pop() else {
            return error("unexpected )", self.whole);
        };
        let group = std::mem::replace(&mut self.group, outer);
        self.flags = group.outer;
        let capture = group.capture.map(u32::try_from);
        let Item { hir, repeats } = group.finish();
        let hir = match capture {
            // Names stay with us: Go lets two groups share one, the engine does not.
            Some(Ok(index)) => Hir::capture(Capture { index, name: None, sub: Box::new(hir) }),
            _ => hir,
        };
        self.group.items.push(Item { hir, repeats });
        Ok(())
    }

    /// `(?flags)`, `(?flags:…)`, `(?P<name>…)` or `(?<name>…)`.
    fn perl_group(&mut self) -> Result<(), RegexError> {
        let before = self.rest;
        let named = before.strip_prefix("(?P<").or_else(|| before.strip_prefix("(?<"));
        if let Some(named) = named.filter(|rest| !rest.is_empty()) {
            let Some((name, after)) = named.split_once('>') else {
                return error("invalid named capture", before);
            };
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return error("invalid named capture", consumed(before, after));
            }
            self.rest = after;
            return self.open_capture(Some(name));
        }
        let mut flags = self.flags;
        let (mut value, mut saw_flag) = (true, false);
        let mut chars = before[2..].chars();
        loop {
            match chars.next() {
                Some('i') => flags.fold_case = value,
                Some('m') => flags.multi_line = value,
                Some('s') => flags.dot_newline = value,
                Some('U') => flags.swap_greed = value,
                Some('-') if value => {
                    (value, saw_flag) = (false, false);
                    continue;
                }
                Some(end @ (':' | ')')) if value || saw_flag => {
                    self.rest = chars.as_str();
                    if end == ':' {
                        self.open(None)?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => return error("invalid or unsupported Perl syntax", consumed(before, chars.as_str())),
            }
            saw_flag = true;
        }
    }

    /// A backslash outside of brackets.
    fn escape(&mut self) -> Result<(), RegexError> {
        let before = self.rest;
        let look = match before[1..].chars().next() {
            Some('A') => Some(Look::Start),
            Some('z') => Some(Look::End),
            Some('b') => Some(Look::WordAscii),
            Some('B') => Some(Look::WordAsciiNegate),
            Some('C') => return error("invalid escape sequence", r"\C"),
            Some('Q') => {
                let (quoted, after) = before[2..].split_once(r"\E").unwrap_or((&before[2..], ""));
                quoted.chars().for_each(|c| self.push_char(u32::from(c)));
                self.rest = after;
                return Ok(());
            }
            _ => None,
        };
        if let Some(look) = look {
            self.rest = &before[2..];
            self.push(Hir::look(look));
            return Ok(());
        }
        let mut class = ClassBuilder::default();
        if self.class_escape(&mut class)? {
            return self.push_class(class);
        }
        let code = self.char_escape()?;
        self.push_char(code);
        Ok(())
    }

    /// Reads `\d` or `\pN` and the like, if one is next, into `class`.
    fn class_escape(&mut self, class: &mut ClassBuilder) -> Result<bool, RegexError> {
        let Some(letter) = self.rest.strip_prefix('\\').and_then(|rest| rest.chars().next()) else {
            return Ok(false);
        };
        let (set, negate) = if let Some(perl) = class::perl(letter) {
            self.rest = &self.rest[2..];
            perl
        } else if matches!(letter, 'p' | 'P') {
            self.unicode_class(letter == 'P')?
        } else {
            return Ok(false);
        };
        let set = if self.flags.fold_case { class::folded(set) } else { set };
        self.add_set(class, set, negate)?;
        Ok(true)
    }

    fn add_set(
        &mut self,
        class: &mut ClassBuilder,
        set: ClassUnicode,
        negate: bool,
    ) -> Result<(), RegexError> {
        let set = if negate { class::negated(set) } else { set };
        self.count_ranges(set.ranges().len())?;
        class.extend(&set);
        Ok(())
    }

    /// `\pN`, `\p{Greek}`, `\P{^Lu}`: the class and whether it is negated.
    fn unicode_class(&mut self, mut negate: bool) -> Result<(ClassUnicode, bool), RegexError> {
        let before = self.rest;
        let mut chars = before[2..].chars();
        let (mut name, after) = match chars.next() {
            Some('{') => match before[3..].split_once('}') {
                Some(split) => split,
                None => return error("invalid character class range", before),
            },
            _ => (consumed(&before[2..], chars.as_str()), chars.as_str()),
        };
        if let Some(rest) = name.strip_prefix('^') {
            (name, negate) = (rest, !negate);
        }
        self.rest = after;
        match class::unicode(name) {
            Some(class) => Ok((class, negate)),
            None => error("invalid character class range", consumed(before, after)),
        }
    }

    /// An escape that stands for one character, as its code point.
    fn char_escape(&mut self) -> Result<u32, RegexError> {
        let before = self.rest;
        let mut chars = before[1..].chars();
        let octal = |chars: &std::str::Chars<'_>| chars.clone().next().and_then(|c| c.to_digit(8));
        let code = match chars.next() {
            None => return error("trailing backslash at end of expression", ""),
            // A single digit other than 0 would be a back-reference.
            Some(first @ '0'..='7') if first == '0' || octal(&chars).is_some() => {
                let mut code = u32::from(first) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit) = octal(&chars) else { break };
                    code = code * 8 + digit;
                    chars.next();
                }
                Some(code)
            }
            Some('x') => hex(&mut chars),
            Some('a') => Some(0x07),
            Some('f') => Some(0x0c),
            Some('n') => Some(0x0a),
            Some('r') => Some(0x0d),
            Some('t') => Some(0x09),
            Some('v') => Some(0x0b),
            Some(c) if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            Some(_) => None,
        };
        self.rest = chars.as_str();
        match code {
            Some(code) => Ok(code),
            None => error("invalid escape sequence", consumed(before, self.rest)),
        }
    }

    /// A class in brackets.
    fn bracket(&mut self) -> Result<(), RegexError> {
        let whole = self.rest;
        self.rest = &whole[1..];
        let negate = self.rest.starts_with('^');
        if negate {
            self.rest = &self.rest[1..];
        }
        let mut class = ClassBuilder::default();
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if self.posix_class(&mut class)? || self.class_escape(&mut class)? {
                continue;
            }
            let range = self.rest;
            let low = self.class_char(whole)?;
            let mut high = low;
            // A dash before the end stands for itself.
            if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                high = self.class_char(whole)?;
                if high < low {
                    return error("invalid character class range", consumed(range, self.rest));
                }
            }
            if self.flags.fold_case {
                class.push_folded(low, high);
            } else {
                class.push(low, high);
            }
        }
        self.rest = &self.rest[1..];
        self.count_ranges(class.len())?;
        let class = class.finish();
        let class = if negate { class::negated(class) } else { class };
        self.push(Hir::class(Class::Unicode(class)));
        Ok(())
    }

    fn class_char(&mut self, whole: &str) -> Result<u32, RegexError> {
        let mut chars = self.rest.chars();
        match chars.next() {
            None => error("missing closing ]", whole),
            Some('\\') => self.char_escape(),
            Some(c) => {
                self.rest = chars.as_str();
                Ok(u32::from(c))
            }
        }
    }

    /// Reads `[:alpha:]` or `[:^alpha:]`, if one is next, into `class`.
    fn posix_class(&mut self, class: &mut ClassBuilder) -> Result<bool, RegexError> {
        let before = self.rest;
        let Some((name, after)) = before.strip_prefix("[:").and_then(|rest| rest.split_once(":]")) else {
            return Ok(false);
        };
        let (plain, negate) = name.strip_prefix('^').map_or((name, false), |plain| (plain, true));
        let Some(set) = class::posix(plain) else {
            return error("invalid character class range", consumed(before, after));
        };
        self.rest = after;
        let set = if self.flags.fold_case { class::folded(set) } else { set };
        self.add_set(class, set, negate)?;
        Ok(true)
    }
}

/// The code after `\x`: two digits, or any number of them in braces.
fn hex(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    let first = chars.next()?;
    if first != '{' {
        let second = chars.next()?;
        return Some(first.to_digit(16)? * 16 + second.to_digit(16)?);
    }
    let (mut code, mut digits) = (0u32, 0);
    loop {
        match chars.next()? {
            '}' => return (digits > 0).then_some(code),
            c => code = code * 16 + c.to_digit(16)?,
        }
        if code > u32::from(char::MAX) {
            return None;
        }
        digits += 1;
    }
}

/// Reads `{2}`, `{2,}` or `{2,3}`; `None` if this is not a repetition. Numbers too big come back as `u32::MAX`.
fn counts(text: &str) -> Option<(u32, Option<u32>, &str)> {
    fn number(text: &str) -> Option<(u32, &str)> {
        let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        let (digits, after) = text.split_at(end);
        if digits.is_empty() || digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        Some((digits.parse().unwrap_or(u32::MAX), after))
    }
    let (min, rest) = number(text.strip_prefix('{')?)?;
    let (max, rest) = match rest.strip_prefix(',') {
        None => (Some(min), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => number(rest).map(|(max, rest)| (Some(max), rest))?,
    };
    Some((min, max, rest.strip_prefix('}')?))
}
