//! Patterns as small automata: for those who want to know on which parts of a text a match depends.
//!
//! An automaton reads a text byte by byte. It answers as [`Regex::is_match`](super::Regex::is_match) does, of texts that are UTF-8.

use std::collections::HashMap;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_syntax::hir::{Hir, Look};

use super::parse;

/// More states than this are not small.
const MAX_STATES: usize = 1024;
/// What building one may take in memory, in bytes.
const SIZE_LIMIT: usize = 1 << 20;
/// Rounds of telling states apart; what takes longer is left as it is.
const MAX_ROUNDS: usize = 64;

/// Where an automaton is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State(u16);

impl State {
    /// There is a match, whatever follows.
    pub const MATCHED: Self = Self(0);
}

/// A deterministic automaton that finds out whether a pattern matches somewhere in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Automaton {
    /// Bytes that no state tells apart are of one class.
    class_of: Box<[u8; 256]>,
    classes: usize,
    /// By state and class.
    next: Vec<State>,
    /// By state: whether there is a match if the text ends here.
    at_end: Vec<bool>,
    start: State,
}

impl Automaton {
    /// Of a pattern that may match anywhere in a text; `None` if it does not compile, if it takes more than some hundred states, or if
    /// its empty matches depend on where characters begin.
    pub fn new(pattern: &str) -> Option<Self> {
        let hir = parse::parse(pattern, false).ok()?.hir;
        let words = hir.properties().look_set().iter().any(|look| {
            !matches!(
                look,
                Look::Start | Look::End | Look::StartLF | Look::EndLF | Look::StartCRLF | Look::EndCRLF
            )
        });
        if words && hir.properties().minimum_len().is_none_or(|least| least == 0) {
            return None;
        }
        Self::build(&hir)
    }

    fn build(hir: &Hir) -> Option<Self> {
        let config = thompson::Config::new()
            .nfa_size_limit(Some(SIZE_LIMIT))
            .which_captures(thompson::WhichCaptures::None);
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(hir).ok()?;
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .accelerate(false)
            .dfa_size_limit(Some(SIZE_LIMIT))
            .determinize_size_limit(Some(SIZE_LIMIT));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        let mut class_of = Box::new([0; 256]);
        let mut samples: Vec<u8> = Vec::new();
        for byte in 0..=u8::MAX {
            let class = dfa.byte_classes().get(byte);
            if usize::from(class) == samples.len() {
                samples.push(byte);
            }
            class_of[usize::from(byte)] = class;
        }
        let mut places: HashMap<StateID, u16> = HashMap::new();
        // The first one is never looked at: it is for matches.
        let mut states: Vec<StateID> = vec![StateID::ZERO];
        let mut place = |id: StateID, states: &mut Vec<StateID>| {
            if dfa.is_match_state(id) {
                return Some(State::MATCHED);
            }
            if dfa.is_quit_state(id) {
                return None;
            }
            let at = *places.entry(id).or_insert_with(|| {
                states.push(id);
                (states.len() - 1) as u16
            });
            (states.len() <= MAX_STATES).then_some(State(at))
        };
        let first = dfa.start_state(&start::Config::new()).ok()?;
        let start = place(first, &mut states)?;
        let (mut next, mut at_end) = (vec![State::MATCHED; samples.len()], vec![true]);
        while at_end.len() < states.len() {
            let state = states[at_end.len()];
            for byte in &samples {
                next.push(place(dfa.next_state(state, *byte), &mut states)?);
            }
            at_end.push(dfa.is_match_state(dfa.next_eoi_state(state)));
        }
        Some(Self { class_of, classes: samples.len(), next, at_end, start }.reduced())
    }

    /// With one state instead of several that give the same answers from there on.
    fn reduced(self) -> Self {
        let mut group: Vec<u16> = self.at_end.iter().map(|end| u16::from(!end)).collect();
        // The state of matches is alone in its group only if others are told apart; it stays the first one.
        let mut groups = 0;
        for _ in 0..MAX_ROUNDS {
            let mut keys: HashMap<(u16, Vec<u16>), u16> = HashMap::new();
            let refined: Vec<u16> = (0..self.at_end.len())
                .map(|state| {
                    let row = &self.next[state * self.classes..(state + 1) * self.classes];
                    let row = row.iter().map(|next| group[usize::from(next.0)]).collect();
                    let fresh = keys.len() as u16;
                    *keys.entry((group[state], row)).or_insert(fresh)
                })
                .collect();
            group = refined;
            if keys.len() == groups {
                break;
            }
            groups = keys.len();
            if groups == self.at_end.len() {
                return self;
            }
        }
        let stable = (0..self.at_end.len()).all(|a| {
            let first = group.iter().position(|g| *g == group[a]).unwrap_or(a);
            (0..self.classes).all(|class| {
                let next = |state: usize| group[usize::from(self.next[state * self.classes + class].0)];
                next(a) == next(first)
            }) && self.at_end[a] == self.at_end[first]
        });
        if !stable {
            return self;
        }
        let (mut next, mut at_end) = (Vec::new(), Vec::new());
        for (state, of) in group.iter().enumerate() {
            if usize::from(*of) == at_end.len() {
                let row = &self.next[state * self.classes..(state + 1) * self.classes];
                next.extend(row.iter().map(|next| State(group[usize::from(next.0)])));
                at_end.push(self.at_end[state]);
            }
        }
        let start = State(group[usize::from(self.start.0)]);
        Self { class_of: self.class_of, classes: self.classes, next, at_end, start }
    }

    /// Where it is before the first byte.
    pub fn start(&self) -> State {
        self.start
    }

    /// Where it is after a byte.
    #[inline]
    pub fn step(&self, state: State, byte: u8) -> State {
        self.next[usize::from(state.0) * self.classes + usize::from(self.class_of[usize::from(byte)])]
    }

    /// Where it is after more of the text.
    #[inline]
    pub fn run(&self, mut state: State, text: &[u8]) -> State {
        for byte in text {
            if state == State::MATCHED {
                break;
            }
            state = self.step(state, *byte);
        }
        state
    }

    /// Whether there is a match in a text that ends here.
    pub fn matches_at_end(&self, state: State) -> bool {
        self.at_end[usize::from(state.0)]
    }

    /// The class of a byte: bytes of one class lead to the same states.
    pub fn class(&self, byte: u8) -> u8 {
        self.class_of[usize::from(byte)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regex::Regex;
    use proptest::prelude::*;

    fn is_match(automaton: &Automaton, text: &str) -> bool {
        automaton.matches_at_end(automaton.run(automaton.start(), text.as_bytes()))
    }

    #[test]
    fn small_patterns() {
        let states = |pattern: &str| Automaton::new(pattern).map(|a| a.at_end.len());
        assert_eq!(states("abc"), Some(4));
        assert_eq!(states(""), Some(1));
        assert_eq!(states("[0-9]+"), Some(2));
        assert_eq!(states("("), None);
        assert_eq!(states(r"\B"), None);
        assert_eq!(states(&"[ab]c{3}".repeat(400)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn answers_as_the_engine(
            pattern in "(\\(\\?[im]\\))?(\\^|\\\\b)?([abK1é.]|\\[a-c\\]|\\[\\^b\\]|\\\\d|\\\\w|\\\\s|\\\\b|\\\\B|(a|b[c1])|(ab)?|1{2,3}|[a.][*+?]){0,6}(\\$|\\\\b)?",
            texts in proptest::collection::vec("[abcK1é \\n\u{212a}]{0,8}", 8),
        ) {
            if let (Ok(regex), Some(automaton)) = (Regex::new(&pattern), Automaton::new(&pattern)) {
                for text in texts {
                    prop_assert_eq!(is_match(&automaton, &text), regex.is_match(&text), "{} in {:?}", pattern, text);
                }
            }
        }
    }
}
