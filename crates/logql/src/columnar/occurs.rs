//! Where a text can occur in the lines of a shape: told from the shape, once, instead of from every line.
//!
//! An occurrence lies in a literal (then every line of the shape has it), in the value of one gap (then the columns of values are
//! searched), or across a border. Across a border the text is cut into what the literal has and what a value must begin with, end
//! with or be; if it reaches over more than one value, the line is put together to make sure.

use shred::{Columns, Kind, Shape, Source, Syntax, Table};

/// How the value of a gap must relate to a piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Begins,
    Ends,
    Is,
    Contains,
}

/// A condition on the value of one gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Place of the gap in the shape.
    pub(crate) gap: usize,
    pub(crate) how: How,
    /// The piece of the text.
    pub(crate) text: String,
    /// The condition is necessary but not enough: the line must be searched.
    pub(crate) verify: bool,
}

/// Occurrences of a text in the lines of a shape, but for those within the value of a gap whose text does not depend on the shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Occurs {
    Never,
    Always,
    /// If one of the conditions holds.
    If(Vec<Condition>),
    /// Every line must be searched.
    Perhaps,
}

/// Whether a value of this kind can hold `text` in this way; `None` is a rest value.
pub(crate) fn can_hold(kind: Option<Kind>, how: How, text: &str) -> bool {
    match kind {
        Some(Kind::Integer) => text.bytes().all(|b| b.is_ascii_digit() || b == b'-'),
        Some(Kind::Decimal { .. }) => text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.')),
        Some(Kind::Hex { bytes }) => {
            let fits = if how == How::Is {
                text.len() == 2 * bytes as usize
            } else {
                text.len() <= 2 * bytes as usize
            };
            fits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        }
        Some(Kind::Dictionary | Kind::Text) | None => true,
    }
}

/// What the syntax of a line keeps out of the value of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// A quote only behind a backslash.
    Quoted,
    /// No white space, `=` or quote.
    Bare,
    /// Letters, digits, `_`, `.`, `-`, and what is not ASCII.
    Word,
    Anything,
}

impl Rules {
    fn of(shape: &Shape, gap: usize) -> Self {
        let literal = |at: usize| shape.literals.get(at).map_or("", |literal| literal);
        let quoted = literal(gap).ends_with('"') && literal(gap + 1).starts_with('"');
        match shape.syntax {
            Syntax::Json | Syntax::Logfmt if quoted => Self::Quoted,
            Syntax::Json => Self::Anything,
            Syntax::Logfmt => Self::Bare,
            Syntax::Text => Self::Word,
        }
    }

    fn allow(self, how: How, text: &str) -> bool {
        let bytes = text.as_bytes();
        match self {
            Self::Anything => true,
            Self::Word => {
                bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | 0x80..))
            }
            Self::Bare => !bytes.iter().any(|b| matches!(b, b' ' | b'\t' | b'=' | b'"')),
            Self::Quoted => !bytes.iter().enumerate().any(|(at, b)| {
                // A backslash in front, perhaps one that is not part of the piece, may escape it.
                let free = match at {
                    0 => matches!(how, How::Begins | How::Is),
                    at => bytes[at - 1] != b'\\',
                };
                *b == b'"' && free
            }),
        }
    }
}

/// By field: whether a value can hold `needle` within itself.
pub(crate) fn holders(table: &Table, needle: &str) -> Vec<bool> {
    let mut holders = vec![false; table.fields.len()];
    let fits: Vec<bool> =
        table.fields.iter().map(|field| can_hold(Some(field.kind), How::Contains, needle)).collect();
    for shape in &table.shapes {
        for (at, gap) in shape.gaps.iter().enumerate() {
            let Source::Field(field) = gap.source else { continue };
            let field = field.0 as usize;
            if fits.get(field) == Some(&true) && !holders[field] {
                holders[field] = Rules::of(shape, at).allow(How::Contains, needle);
            }
        }
    }
    holders
}

/// Where `needle`, which is not empty, occurs in lines of the shape.
pub(crate) fn occurs(table: &Table, shape: &Shape, needle: &str) -> Occurs {
    if shape.literals.iter().any(|literal| literal.contains(needle)) {
        return Occurs::Always;
    }
    let bytes = needle.as_bytes();
    let literal = |at: usize| shape.literals.get(at).map_or(&b""[..], |l| l.as_bytes());
    let kind = |gap: usize| match shape.gaps[gap].source {
        Source::Field(field) => table.fields.get(field.0 as usize).map(|f| f.kind),
        Source::Rest(_) => None,
    };
    let mut conditions: Vec<Condition> = Vec::new();
    let mut add = |gap: usize, how: How, text: &[u8], verify: bool| {
        // A piece that is cut within a character can be no part of a value.
        let Ok(text) = std::str::from_utf8(text) else { return };
        if can_hold(kind(gap), how, text) && Rules::of(shape, gap).allow(how, text) {
            conditions.push(Condition { gap, how, text: text.to_owned(), verify });
        }
    };
    for gap in 0..shape.gaps.len() {
        let (before, after) = (literal(gap), literal(gap + 1));
        let last = gap + 1 == shape.gaps.len();
        if after.is_empty() && !last && bytes.len() > 1 {
            return Occurs::Perhaps;
        }
        // What follows a piece at the end of the value: all of it within the literal, or more.
        let continues = |rest: &[u8]| match rest.len() <= after.len() {
            true => after.starts_with(rest).then_some(false),
            false => (!last && rest.starts_with(after)).then_some(true),
        };
        // Numbers are written differently by different shapes, so they are not searched as columns.
        if matches!(kind(gap), Some(Kind::Integer | Kind::Decimal { .. })) {
            add(gap, How::Contains, bytes, false);
        }
        for cut in 1..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            if before.ends_with(head) {
                add(gap, How::Begins, tail, false);
                for end in 0..tail.len() {
                    if let Some(verify) = continues(&tail[end..]) {
                        add(gap, How::Is, &tail[..end], verify);
                    }
                }
            }
            if let Some(verify) = continues(tail) {
                add(gap, How::Ends, head, verify);
            }
        }
    }
    if conditions.is_empty() { Occurs::Never } else { Occurs::If(conditions) }
}

/// Adds the columns that are looked at to find `needle`, up to putting lines together.
pub(crate) fn columns(table: &Table, needle: &str, wanted: &mut Wants) {
    for ((field, holds), wanted) in table.fields.iter().zip(holders(table, needle)).zip(&mut wanted.fields) {
        *wanted |= holds && !matches!(field.kind, Kind::Integer | Kind::Decimal { .. });
    }
    (wanted.rest, wanted.raw) = (true, true);
    for shape in &table.shapes {
        if let Occurs::If(conditions) = occurs(table, shape, needle) {
            conditions.iter().for_each(|condition| wanted.add(shape.gaps[condition.gap].source));
        }
    }
}

/// Columns of a table that are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wants {
    fields: Vec<bool>,
    rest: bool,
    pub(crate) raw: bool,
}

impl Wants {
    pub(crate) fn new(table: &Table) -> Self {
        Self { fields: vec![false; table.fields.len()], rest: false, raw: false }
    }

    pub(crate) fn add(&mut self, source: Source) {
        match source {
            Source::Field(field) => {
                if let Some(wanted) = self.fields.get_mut(field.0 as usize) {
                    *wanted = true;
                }
            }
            Source::Rest(_) => self.rest = true,
        }
    }

    pub(crate) fn into_columns(self) -> Columns {
        let fields = self.fields.iter().enumerate().filter(|(_, wanted)| **wanted);
        let fields = fields.map(|(at, _)| shred::FieldId(at as u32)).collect();
        Columns::Some { fields, rest: self.rest, raw: self.raw }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use shred::{Form, Gap};

    #[test]
    fn borders_and_rules() {
        let check = |syntax: Syntax, text: &str, needle: &str, want: &str| {
            let literals: Vec<Arc<str>> = text.split('@').map(Arc::from).collect();
            let gap = |i| Gap { source: Source::Rest(i), form: Form::Plain };
            let gaps = (0..literals.len() as u32 - 1).map(gap).collect();
            let shown = match occurs(&Table::default(), &Shape { syntax, literals, gaps }, needle) {
                Occurs::If(conditions) => {
                    let show = |c: &Condition| {
                        format!("{} {:?} {}{}", c.gap, c.how, c.text, if c.verify { " ?" } else { "" })
                    };
                    conditions.iter().map(show).collect::<Vec<_>>().join("; ")
                }
                other => format!("{other:?}"),
            };
            assert_eq!(shown, want, "{needle} in {text}");
        };
        let json = r#"{"level":"@","n":@,"s":"@"}"#;
        check(Syntax::Json, json, r#""level":"error""#, "0 Is error");
        check(Syntax::Json, json, r#""level":"err"#, "0 Begins err");
        check(Syntax::Json, json, r#"level":""#, "Always");
        check(Syntax::Json, json, r#"ror","n""#, "0 Ends ror");
        // A number's place can hold an array of anything.
        let within = r#"0 Is error ?; 1 Ends "level":"error","n":5"#;
        check(Syntax::Json, json, r#""level":"error","n":5,"#, within);
        check(Syntax::Json, json, "abc", "Never");
        check(Syntax::Logfmt, "a=@ b=@", "a=1 b", "0 Is 1");
        check(Syntax::Logfmt, "a=@ b=@", "x y", "Never");
        check(Syntax::Text, "took @ ms at @", "k 12 ms", "0 Is 12");
        check(Syntax::Text, "@@", "ab", "Perhaps");
    }
}
