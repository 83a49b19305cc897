//! A line of a shape with a placeholder in each gap, and what parsers find in it.
//!
//! The structure that a JSON or logfmt parser sees does not depend on the values: lines are taken apart only if their values end
//! where the gaps end for every parser. So what a parser makes of the sample says where its labels come from in all lines of the
//! shape: from which gap, or from the literals.

use std::ops::Range;

use shred::{Gap, Shape, Syntax};

use crate::stages::{JsonScanner, JsonValue, LogfmtReader};

/// The placeholder: a value in both syntaxes.
const PLACEHOLDER: &str = "0";
/// Objects nested deeper than this are skipped, as the stage does.
const MAX_DEPTH: usize = 64;

/// The sample line of a shape.
pub(super) struct Sample<'s> {
    shape: &'s Shape,
    pub(super) line: String,
    /// Where the placeholders stand.
    gaps: Vec<usize>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Gap(Gap),
    /// A part of the sample without a gap.
    Literal(Range<usize>),
    /// Partly from gaps.
    Mixed,
}

/// A member of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Keys from the outermost object down.
    pub(super) path: Vec<Range<usize>>,
    pub(super) value: Origin,
    pub(super) quoted: bool,
}

/// A pair of logfmt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: Range<usize>,
    pub(super) value: Origin,
    pub(super) quoted: bool,
}

impl<'s> Sample<'s> {
    pub(super) fn new(shape: &'s Shape) -> Self {
        let (mut line, mut gaps) = (String::new(), Vec::with_capacity(shape.gaps.len()));
        for (at, literal) in shape.literals.iter().enumerate() {
            line.push_str(literal);
            if at < shape.gaps.len() {
                gaps.push(line.len());
                line.push_str(PLACEHOLDER);
            }
        }
        Self { shape, line, gaps }
    }

    fn origin(&self, range: Range<usize>) -> Origin {
        let first = self.gaps.partition_point(|at| *at < range.start);
        match self.gaps.get(first) {
            Some(at) if *at == range.start && range.end == at + PLACEHOLDER.len() => {
                Origin::Gap(self.shape.gaps[first])
            }
            Some(at) if *at < range.end => Origin::Mixed,
            _ => Origin::Literal(range),
        }
    }

    /// Whether no line of the shape is a JSON object, because of the first byte that is no white space.
    pub(super) fn is_no_object(&self) -> bool {
        let first = self.shape.literals.first().and_then(|l| l.bytes().find(|b| !b" \t\n\r".contains(b)));
        first.is_some_and(|b| b != b'{')
    }

    /// The members of the object and of those within it, if lines of the shape are JSON objects. Escaped keys do not occur.
    pub(super) fn members(&self) -> Option<Vec<Member>> {
        if self.shape.syntax != Syntax::Json {
            return None;
        }
        let mut members = Vec::with_capacity(self.gaps.len());
        let mut scanner = JsonScanner::new(&self.line);
        self.object(&mut scanner, &mut Vec::new(), &mut members)?;
        Some(members)
    }

    fn object(
        &self,
        scanner: &mut JsonScanner<'_>,
        path: &mut Vec<Range<usize>>,
        members: &mut Vec<Member>,
    ) -> Option<()> {
        let mut more = scanner.open().ok()?;
        while more {
            let (start, end, escaped) = scanner.key().ok()??;
            if escaped || path.len() + 1 >= MAX_DEPTH {
                return None;
            }
            path.push(start..end);
            if scanner.at_object() {
                self.object(scanner, path, members)?;
            } else {
                let (range, quoted) = match scanner.value().ok()? {
                    JsonValue::String { start, end, .. } => (start..end, true),
                    JsonValue::Scalar { start, end } => (start..end, false),
                    JsonValue::Null | JsonValue::Object { .. } | JsonValue::Array { .. } => return None,
                };
                members.push(Member { path: path.clone(), value: self.origin(range), quoted });
            }
            path.pop();
            more = scanner.next_member().ok()?;
        }
        Some(())
    }

    /// The pairs, if lines of the shape are logfmt.
    pub(super) fn pairs(&self) -> Option<Vec<Pair>> {
        if self.shape.syntax != Syntax::Logfmt {
            return None;
        }
        let mut reader = LogfmtReader::new(&self.line);
        let mut pairs = Vec::with_capacity(self.gaps.len());
        while let Some(pair) = reader.next() {
            let (key, value) = pair.ok()?.places();
            if self.origin(key.clone()) != Origin::Literal(key.clone()) {
                return None;
            }
            let quoted = value.start > 0 && self.line.as_bytes()[value.start - 1] == b'"';
            let value = if value.is_empty() { Origin::Literal(value) } else { self.origin(value) };
            pairs.push(Pair { key, value, quoted });
        }
        Some(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shred::{Form, Source};

    fn shape(syntax: Syntax, text: &str) -> Shape {
        let literals: Vec<_> = text.split('@').map(std::sync::Arc::from).collect();
        let gap = |i| Gap { source: Source::Rest(i), form: Form::Plain };
        let gaps = (0..literals.len() as u32 - 1).map(gap).collect();
        Shape { syntax, literals, gaps }
    }

    #[test]
    fn members_of_a_shape() {
        let shape = shape(Syntax::Json, r#"{"a":"@","b":{"c":@,"d":{}},"e":@}"#);
        let sample = Sample::new(&shape);
        let members = sample.members().unwrap();
        let shown: Vec<String> = members
            .iter()
            .map(|m| {
                let path: Vec<&str> = m.path.iter().map(|key| &sample.line[key.clone()]).collect();
                let Origin::Gap(Gap { source: Source::Rest(gap), .. }) = m.value else { panic!() };
                format!("{} {gap} {}", path.join("."), m.quoted)
            })
            .collect();
        assert_eq!(shown, ["a 0 true", "b.c 1 false", "e 2 false"]);
        assert!(!sample.is_no_object());
    }

    #[test]
    fn pairs_of_a_shape() {
        let shape = shape(Syntax::Logfmt, r#"a=@ msg="@" debug b="#);
        let sample = Sample::new(&shape);
        let shown: Vec<String> = sample
            .pairs()
            .unwrap()
            .iter()
            .map(|p| format!("{} {}", &sample.line[p.key.clone()], matches!(p.value, Origin::Gap(_))))
            .collect();
        assert_eq!(shown, ["a true", "msg true", "debug false", "b false"]);
    }
}
