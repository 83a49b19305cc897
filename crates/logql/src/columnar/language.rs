//! Which texts the values of a gap can be, as far as that is known without reading them.

use std::sync::Arc;

use model::regex::{Automaton, State};
use shred::{ByteSet, Gap, Holds, Kind, Shape, Syntax, Table, Texts};

/// Texts of at most this length are counted byte by byte.
const MAX_COUNTED: u32 = 16;

/// What the syntax of a line keeps out of the value of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rules {
    /// A quote only behind a backslash.
    Quoted,
    /// No white space, `=` or quote.
    Bare,
    /// Letters, digits, `_`, `.`, `-`, and what is not ASCII; never empty.
    Word,
    Anything,
}

impl Rules {
    pub(super) fn of(shape: &Shape, gap: usize) -> Self {
        let literal = |at: usize| shape.literals.get(at).map_or("", |literal| literal);
        let quoted = literal(gap).ends_with('"') && literal(gap + 1).starts_with('"');
        match shape.syntax {
            Syntax::Json | Syntax::Logfmt if quoted => Self::Quoted,
            Syntax::Json => Self::Anything,
            Syntax::Logfmt => Self::Bare,
            Syntax::Text => Self::Word,
        }
    }

    /// The bytes of values.
    fn bytes(self) -> ByteSet {
        match self {
            Self::Quoted | Self::Anything => ByteSet::ALL,
            Self::Bare => ByteSet::of(|b| !matches!(b, b' ' | b'\t' | b'=' | b'"')),
            Self::Word => {
                ByteSet::of(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | 0x80..))
            }
        }
    }
}

/// The texts that a value can be; perhaps more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Language {
    /// These.
    Texts(Vec<Arc<str>>),
    /// Numbers.
    Number {
        /// Whether some are negative.
        minus: bool,
        /// Digits after the point.
        digits: usize,
    },
    /// So many lower-case hex digits.
    Hex(usize),
    /// Any texts of these bytes.
    Free {
        bytes: ByteSet,
        shortest: u32,
        longest: u32,
        /// A quote stands only behind a backslash.
        quoted: bool,
    },
}

impl Language {
    pub(super) fn of(table: &Table, shape: &Shape, at: usize) -> Self {
        let (gap, rules): (Gap, Rules) = (shape.gaps[at], Rules::of(shape, at));
        let Some(field) = table.field_of(gap) else { return Self::free(rules, None) };
        match (&field.holds, field.kind) {
            (_, Kind::Hex { bytes }) => Self::Hex(usize::from(bytes) * 2),
            (Holds::Texts(Texts { all: Some(all), .. }), _) => Self::Texts(all.clone()),
            (holds, Kind::Integer | Kind::Decimal { .. }) => match (table.constant(gap), holds) {
                (Some(text), _) => Self::Texts(vec![text.into()]),
                (None, Holds::Numbers { least, .. }) => {
                    Self::Number { minus: *least < 0, digits: gap.form.digits() }
                }
                (None, _) => Self::Number { minus: true, digits: gap.form.digits() },
            },
            (Holds::Texts(texts), _) => Self::free(rules, Some(texts)),
            (_, Kind::Dictionary | Kind::Text) => Self::free(rules, None),
        }
    }

    fn free(rules: Rules, texts: Option<&Texts>) -> Self {
        let least = u32::from(rules == Rules::Word);
        let (bytes, shortest, longest) = match texts {
            None => (ByteSet::ALL, least, u32::MAX),
            Some(texts) => (texts.bytes, texts.shortest.max(least), texts.longest),
        };
        let bytes = bytes.and(rules.bytes());
        Self::Free { bytes, shortest, longest, quoted: rules == Rules::Quoted && bytes.contains(b'"') }
    }

    /// Where an automaton can be behind a value: ascending, once each.
    pub(super) fn ends(&self, automaton: &Automaton, from: State) -> Vec<State> {
        let mut ends = match self {
            Self::Texts(texts) => texts.iter().map(|text| automaton.run(from, text.as_bytes())).collect(),
            Self::Number { minus, digits } => {
                let digit = |states: &[State]| steps(automaton, states, |b| b.is_ascii_digit());
                let mut begin = vec![from];
                if *minus {
                    begin.push(automaton.step(from, b'-'));
                }
                let mut states = closure(digit(&begin), |states| digit(states));
                if *digits > 0 {
                    states = steps(automaton, &states, |b| b == b'.');
                    (0..*digits).for_each(|_| states = digit(&states));
                }
                states
            }
            Self::Hex(digits) => {
                let mut states = vec![from];
                for _ in 0..*digits {
                    states = steps(automaton, &states, |b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                }
                states
            }
            Self::Free { bytes, shortest, longest, quoted } => {
                free_ends(automaton, from, bytes, (*shortest, *longest), *quoted)
            }
        };
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

fn free_ends(
    automaton: &Automaton,
    from: State,
    bytes: &ByteSet,
    (shortest, longest): (u32, u32),
    quoted: bool,
) -> Vec<State> {
    if quoted {
        // Pairs of a state and whether a backslash stands in front.
        let mut seen = vec![(from, false)];
        let mut at = 0;
        while let Some((state, escaped)) = seen.get(at).copied() {
            at += 1;
            for byte in one_of_each(automaton, |b| bytes.contains(b) && b != b'"' && b != b'\\') {
                add(&mut seen, (automaton.step(state, byte), false));
            }
            if bytes.contains(b'\\') {
                add(&mut seen, (automaton.step(state, b'\\'), true));
            }
            if escaped {
                add(&mut seen, (automaton.step(state, b'"'), false));
            }
        }
        return seen.into_iter().map(|(state, _)| state).collect();
    }
    let more = one_of_each(automaton, |b| bytes.contains(b));
    let step = |states: &[State]| {
        let mut next = Vec::new();
        for state in states {
            more.iter().for_each(|byte| add(&mut next, automaton.step(*state, *byte)));
        }
        next
    };
    // What is longer than is counted can be of any length.
    let counted = shortest.min(MAX_COUNTED);
    let mut states = vec![from];
    for _ in 0..counted {
        states = step(&states);
    }
    if longest > MAX_COUNTED {
        return closure(states, step);
    }
    let mut ends = states.clone();
    for _ in counted..longest {
        states = step(&states);
        states.iter().for_each(|state| add(&mut ends, *state));
    }
    ends
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// A byte of each class of the automaton that has one for which `holds` is true.
fn one_of_each(automaton: &Automaton, holds: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut seen = [false; 256];
    let fresh =
        |byte: &u8| holds(*byte) && !std::mem::replace(&mut seen[usize::from(automaton.class(*byte))], true);
    (0..=u8::MAX).filter(fresh).collect()
}

fn steps(automaton: &Automaton, states: &[State], holds: impl Fn(u8) -> bool) -> Vec<State> {
    let bytes = one_of_each(automaton, holds);
    let mut next = Vec::new();
    for state in states {
        bytes.iter().for_each(|byte| add(&mut next, automaton.step(*state, *byte)));
    }
    next
}

/// The states and all that come after them.
fn closure(states: Vec<State>, step: impl Fn(&[State]) -> Vec<State>) -> Vec<State> {
    let mut all = states;
    let mut at = 0;
    while at < all.len() {
        let fresh = step(&all[at..=at]);
        fresh.into_iter().for_each(|state| add(&mut all, state));
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(language: &Language, pattern: &str, texts: &[String]) {
        let Some(automaton) = Automaton::new(pattern) else { return };
        let ends = language.ends(&automaton, automaton.start());
        for text in texts {
            let end = automaton.run(automaton.start(), text.as_bytes());
            assert!(ends.contains(&end), "{text:?} of {language:?} for {pattern}");
        }
    }

    const PATTERN: &str = "(\\^)?([ab0-9.é\\\\-]|\\[a-f\\]|a\\+|\"|\\\\\\\\|\\.\\*){1,6}(\\$)?";

    proptest! {
        #[test]
        fn no_value_is_forgotten(
            pattern in PATTERN,
            numbers in proptest::collection::vec(-50i64..2000, 4),
            ids in proptest::collection::vec("[0-9a-f]{6}", 4),
            words in proptest::collection::vec("[ab0.é-]{1,20}", 4),
            quoted in proptest::collection::vec("([ab ]|\\\\\\\\\"|\\\\\\\\\\\\\\\\){0,5}", 4),
        ) {
            let texts = |numbers: &[i64]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>();
            check(&Language::Number { minus: true, digits: 0 }, &pattern, &texts(&numbers));
            let decimals: Vec<String> = numbers.iter().map(|n| format!("{:.2}", *n as f64 / 7.0)).collect();
            check(&Language::Number { minus: true, digits: 2 }, &pattern, &decimals);
            check(&Language::Hex(6), &pattern, &ids);
            check(&Language::Texts(words.iter().map(|w| w.as_str().into()).collect()), &pattern, &words);
            check(&Language::free(Rules::Word, None), &pattern, &words);
            check(&Language::free(Rules::Quoted, None), &pattern, &quoted);
            let (mut bytes, mut lengths) = (ByteSet::default(), (u32::MAX, 0));
            for word in &words {
                word.bytes().for_each(|byte| bytes.insert(byte));
                lengths = (lengths.0.min(word.len() as u32), lengths.1.max(word.len() as u32));
            }
            let known = Language::Free { bytes, shortest: lengths.0, longest: lengths.1, quoted: false };
            check(&known, &pattern, &words);
        }
    }

    #[test]
    fn what_cannot_be_is_left_out() {
        let automaton = Automaton::new("-").unwrap();
        let ends = |language: &Language| language.ends(&automaton, automaton.start());
        assert_eq!(ends(&Language::Number { minus: false, digits: 1 }), [automaton.start()]);
        assert_eq!(ends(&Language::Number { minus: true, digits: 1 }).len(), 2);
        assert_eq!(ends(&Language::Hex(4)), [automaton.start()]);
        assert_eq!(ends(&Language::free(Rules::Word, None)).len(), 2);
    }
}
