//! Line filters: over one line, and over a whole column of lines at once.

use std::sync::{Arc, OnceLock};

use arrow_array::StringArray;
use memchr::memmem;
use model::regex::{Automaton, Regex};
use shred::{ShreddedLines, Table};

use super::StageError;
use super::ip::IpSet;
use super::pattern::PatternFilter;
use crate::ast::{self, LineOp, LineOperand};
use crate::columnar::{
    SearchState, Tri, WalkState, Wants, columns, contains, retain_containing, test_line, walk, walk_columns,
};

/// A compiled line filter.
#[derive(Debug, Clone)]
pub(crate) struct LineFilter {
    negative: bool,
    tests: Vec<Test>,
}

#[derive(Debug, Clone)]
enum Test {
    Contains(memmem::Finder<'static>),
    Regex(RegexTest),
    Pattern(PatternFilter),
    Ip(IpSet),
}

#[derive(Debug, Clone)]
struct RegexTest {
    regex: Regex,
    literal: Option<memmem::Finder<'static>>,
    /// Built when shredded lines are met first; not every expression has one.
    automaton: Arc<OnceLock<Option<Automaton>>>,
}

impl RegexTest {
    fn automaton(&self) -> Option<&Automaton> {
        self.automaton.get_or_init(|| Automaton::new(self.regex.as_str())).as_ref()
    }
}

/// What a test has found out that other batches can use.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestState {
    search: SearchState,
    walk: WalkState,
}

impl LineFilter {
    pub(super) fn compile(filter: &ast::LineFilter) -> Result<Self, StageError> {
        let alone = filter.operands.len() == 1;
        let test = |operand: &LineOperand| {
            let text = match operand {
                LineOperand::Ip(pattern) if alone => {
                    if !matches!(filter.op, LineOp::Contains | LineOp::NotContains) {
                        return Err(StageError::Stage(
                            "ip: filter supports only \"|=\" and \"!=\"".to_owned(),
                        ));
                    }
                    let invalid =
                        || StageError::Stage(format!("ip: invalid pattern: {}", model::quote(pattern)));
                    return IpSet::parse(pattern).map(Test::Ip).ok_or_else(invalid);
                }
                // In a chain an address pattern is nothing but its text.
                LineOperand::Ip(text) | LineOperand::Text(text) => text,
            };
            Ok(match filter.op {
                LineOp::Contains | LineOp::NotContains => {
                    Test::Contains(memmem::Finder::new(text).into_owned())
                }
                LineOp::Regex | LineOp::NotRegex => {
                    let regex = Regex::new(text).map_err(|e| StageError::Stage(e.to_string()))?;
                    let literal = regex.required_literal().map(|l| memmem::Finder::new(l).into_owned());
                    Test::Regex(RegexTest { regex, literal, automaton: Arc::default() })
                }
                LineOp::Pattern | LineOp::NotPattern => Test::Pattern(PatternFilter::compile(text)?),
            })
        };
        let tests: Vec<Test> = filter.operands.iter().map(test).collect::<Result<_, _>>()?;
        let tests = tests.into_iter().flat_map(Test::simplified).collect();
        Ok(Self { negative: filter.op.is_negative(), tests })
    }

    pub(crate) fn passes(&self, line: &str) -> bool {
        self.tests.iter().any(|test| test.is_match(line)) != self.negative
    }

    /// Reduces the rows (ascending) to those whose line passes.
    pub(crate) fn select(&self, lines: &StringArray, rows: &mut Vec<u32>) {
        if let ([Test::Contains(finder)], false) = (&self.tests[..], self.negative)
            && let (Some(first), Some(last)) = (rows.first(), rows.last())
            && rows.len() * 2 > (last - first) as usize
            && !finder.needle().is_empty()
        {
            return retain_containing(finder, lines, rows);
        }
        rows.retain(|row| self.passes(lines.value(*row as usize)));
    }

    /// The same of shredded lines. Rows of which not enough was read go to `odd`.
    pub(crate) fn select_shredded(
        &self,
        lines: &ShreddedLines,
        rows: &mut Vec<u32>,
        odd: &mut Vec<u32>,
        states: &mut Vec<TestState>,
    ) {
        states.resize_with(self.tests.len(), TestState::default);
        let mut marks: Vec<Tri> = Vec::new();
        let mut text = String::new();
        for (test, state) in self.tests.iter().zip(states) {
            let (mut found, exact) = match (test.automaton(), test.literal()) {
                (Some(automaton), _) => (walk(automaton, lines, rows, &mut state.walk), true),
                (None, Some(finder)) => {
                    (contains(finder, lines, rows, &mut state.search), matches!(test, Test::Contains(_)))
                }
                (None, None) => (vec![Tri::Pass; rows.len()], false),
            };
            // A text is searched for in all that was read already.
            let final_odd = matches!(test, Test::Contains(_));
            for (at, found) in found.iter_mut().enumerate() {
                let unsure = match found {
                    Tri::Drop => false,
                    Tri::Pass => !exact,
                    Tri::Odd => !final_odd,
                };
                if unsure && marks.get(at) != Some(&Tri::Pass) {
                    *found = test_line(lines, rows[at], &mut text, |line| test.is_match(line));
                }
            }
            if marks.is_empty() {
                marks = found;
                continue;
            }
            for (mark, found) in marks.iter_mut().zip(found) {
                *mark = match (*mark, found) {
                    (Tri::Pass, _) | (_, Tri::Pass) => Tri::Pass,
                    (Tri::Odd, _) | (_, Tri::Odd) => Tri::Odd,
                    (Tri::Drop, Tri::Drop) => Tri::Drop,
                };
            }
        }
        marks.resize(rows.len(), Tri::Drop);
        let mut kept = 0;
        for (i, mark) in marks.into_iter().enumerate() {
            match mark {
                Tri::Odd => odd.push(rows[i]),
                mark if (mark == Tri::Pass) != self.negative => {
                    rows[kept] = rows[i];
                    kept += 1;
                }
                _ => {}
            }
        }
        rows.truncate(kept);
    }

    /// Adds the columns of shredded lines that are looked at to find out which lines may pass.
    pub(crate) fn columns(&self, table: &Table, wants: &mut Wants) {
        wants.raw = true;
        for test in &self.tests {
            match (test.automaton(), test.literal()) {
                (Some(automaton), _) => walk_columns(automaton, table, wants),
                (None, Some(finder)) => columns(table, finder, wants),
                (None, None) => {}
            }
        }
    }

    /// Whether looking at columns can drop lines without putting them together.
    pub(crate) fn is_searched(&self) -> bool {
        let exact = |test: &Test| matches!(test, Test::Contains(_)) || test.automaton().is_some();
        match self.negative {
            true => self.tests.iter().any(exact),
            false => self.tests.iter().all(|test| exact(test) || test.literal().is_some()),
        }
    }

    /// What every passing line contains: one text of each list.
    pub(crate) fn needles(&self, out: &mut Vec<Vec<String>>) {
        if self.negative {
            return;
        }
        if let [Test::Pattern(pattern)] = &self.tests[..] {
            out.extend(pattern.needles().map(|literal| vec![literal.to_owned()]));
            return;
        }
        let needle = |test: &Test| match test {
            Test::Contains(finder) | Test::Regex(RegexTest { literal: Some(finder), .. }) => {
                std::str::from_utf8(finder.needle()).ok().filter(|text| !text.is_empty()).map(str::to_owned)
            }
            Test::Pattern(pattern) => {
                pattern.needles().max_by_key(|literal| literal.len()).map(str::to_owned)
            }
            Test::Regex(RegexTest { literal: None, .. }) | Test::Ip(_) => None,
        };
        out.extend(self.tests.iter().map(needle).collect::<Option<Vec<String>>>());
    }
}

/// Regular expressions that are nothing but at most this many texts become searches for them.
const MAX_TEXTS: usize = 8;

impl Test {
    /// A regular expression that is a choice of a few texts becomes a search for each.
    fn simplified(self) -> Vec<Self> {
        match &self {
            Self::Regex(RegexTest { regex, .. }) => match regex.alternatives() {
                Some(texts) if texts.len() <= MAX_TEXTS => {
                    texts.iter().map(|text| Self::Contains(memmem::Finder::new(text).into_owned())).collect()
                }
                _ => vec![self],
            },
            _ => vec![self],
        }
    }

    /// A text that every matching line contains.
    fn literal(&self) -> Option<&memmem::Finder<'static>> {
        match self {
            Self::Contains(finder) => Some(finder),
            Self::Regex(test) => test.literal.as_ref(),
            Self::Pattern(pattern) => pattern.longest(),
            Self::Ip(_) => None,
        }
    }

    fn automaton(&self) -> Option<&Automaton> {
        match self {
            Self::Regex(test) => test.automaton(),
            _ => None,
        }
    }

    fn is_match(&self, line: &str) -> bool {
        match self {
            Self::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Regex(RegexTest { regex, literal, .. }) => {
                literal.as_ref().is_none_or(|l| l.find(line.as_bytes()).is_some()) && regex.is_match(line)
            }
            Self::Pattern(pattern) => pattern.is_match(line),
            Self::Ip(set) => set.occurs_in(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(op: LineOp, operands: &[&str]) -> LineFilter {
        let operands = operands.iter().map(|o| LineOperand::Text((*o).to_owned())).collect();
        LineFilter::compile(&ast::LineFilter { op, operands }).unwrap()
    }

    #[test]
    fn chains() {
        assert!(filter(LineOp::Contains, &["a", "b"]).passes("xb"));
        assert!(!filter(LineOp::NotContains, &["a", "b"]).passes("xb"));
        assert!(filter(LineOp::NotContains, &["a", "b"]).passes("x"));
        assert!(filter(LineOp::Contains, &[""]).passes("x"));
        assert!(!filter(LineOp::NotContains, &[""]).passes("x"));
        assert!(filter(LineOp::Regex, &["(?i)ERR"]).passes("an error"));
    }

    proptest! {
        #[test]
        fn column_search_agrees_with_line_search(
            lines in proptest::collection::vec("[ab]{0,6}", 0..12),
            needle in "[ab]{1,3}",
            keep in proptest::collection::vec(proptest::bool::weighted(0.8), 12),
        ) {
            let filter = filter(LineOp::Contains, &[&needle]);
            let array = StringArray::from(lines.clone());
            let rows: Vec<u32> = (0..lines.len() as u32).filter(|i| keep[*i as usize]).collect();
            let mut got = rows.clone();
            filter.select(&array, &mut got);
            let want: Vec<u32> = rows.into_iter().filter(|i| lines[*i as usize].contains(&needle)).collect();
            prop_assert_eq!(got, want);
        }
    }
}
