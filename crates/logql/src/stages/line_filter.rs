//! Line filters: over one line, and over a whole column of lines at once.

use arrow_array::StringArray;
use memchr::memmem;
use model::regex::Regex;

use super::StageError;
use super::ip::IpSet;
use super::pattern::PatternFilter;
use crate::ast::{self, LineOp, LineOperand};

/// A compiled line filter.
#[derive(Debug, Clone)]
pub(crate) struct LineFilter {
    negative: bool,
    tests: Vec<Test>,
}

#[derive(Debug, Clone)]
enum Test {
    Contains(memmem::Finder<'static>),
    Regex { regex: Regex, literal: Option<memmem::Finder<'static>> },
    Pattern(PatternFilter),
    Ip(IpSet),
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
                    Test::Regex { regex, literal }
                }
                LineOp::Pattern | LineOp::NotPattern => Test::Pattern(PatternFilter::compile(text)?),
            })
        };
        let tests = filter.operands.iter().map(test).collect::<Result<_, _>>()?;
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
            return select_containing(finder, lines, rows);
        }
        rows.retain(|row| self.passes(lines.value(*row as usize)));
    }

    /// Texts that every passing line contains.
    pub(crate) fn needles(&self, out: &mut Vec<String>) {
        let [test] = &self.tests[..] else { return };
        if self.negative {
            return;
        }
        match test {
            Test::Contains(finder) => {
                out.extend(std::str::from_utf8(finder.needle()).ok().map(str::to_owned))
            }
            Test::Regex { literal: Some(finder), .. } => {
                out.extend(std::str::from_utf8(finder.needle()).ok().map(str::to_owned));
            }
            Test::Pattern(pattern) => out.extend(pattern.needles().map(str::to_owned)),
            Test::Regex { literal: None, .. } | Test::Ip(_) => {}
        }
        out.retain(|needle| !needle.is_empty());
    }
}

impl Test {
    fn is_match(&self, line: &str) -> bool {
        match self {
            Self::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Self::Regex { regex, literal } => {
                literal.as_ref().is_none_or(|l| l.find(line.as_bytes()).is_some()) && regex.is_match(line)
            }
            Self::Pattern(pattern) => pattern.is_match(line),
            Self::Ip(set) => set.occurs_in(line),
        }
    }
}

/// Searches the column's buffer as one text and maps hits to rows; a hit across two rows is none.
fn select_containing(finder: &memmem::Finder<'_>, lines: &StringArray, rows: &mut Vec<u32>) {
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { return };
    let offsets = lines.value_offsets();
    let text = lines.value_data();
    let mut at = offsets[first as usize] as usize;
    let end = offsets[last as usize + 1] as usize;
    let mut kept = 0;
    let mut next = 0;
    while next < rows.len() {
        let Some(found) = finder.find(&text[at..end]) else { break };
        let hit = at + found;
        // The row the hit starts in.
        while next < rows.len() && (offsets[rows[next] as usize + 1] as usize) <= hit {
            next += 1;
        }
        let Some(&row) = rows.get(next) else { break };
        let (start, stop) = (offsets[row as usize] as usize, offsets[row as usize + 1] as usize);
        if hit < start {
            at = start;
        } else if hit + finder.needle().len() <= stop {
            rows[kept] = row;
            kept += 1;
            next += 1;
            at = stop;
        } else {
            at = hit + 1;
        }
    }
    rows.truncate(kept);
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
