//! Where a text can occur in the lines of a shape: told from the shape, once, instead of from every line.
//!
//! An occurrence lies in a literal (then every line of the shape has it), in the value of one gap (then the columns of values are
//! searched), or across a border. Across a border the text is cut into what the literal has and what a value must begin with, end
//! with or be; if it reaches over more than one value, the line is put together to make sure.

use std::borrow::Cow;

use memchr::memmem;
use shred::{Columns, Field, Holds, Kind, Shape, Source, Table, Texts};

use super::language::Rules;

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

/// Whether a value of this field can hold `text` in this way; `None` is a rest value.
fn can_hold(field: Option<&Field>, how: How, text: &str) -> bool {
    let Some(field) = field else { return true };
    let longer = |longest: usize| if how == How::Is { text.len() != longest } else { text.len() > longest };
    match (&field.holds, field.kind) {
        (holds, kind @ (Kind::Integer | Kind::Decimal { .. })) => {
            let minus = !matches!(holds, Holds::Numbers { least: 0.., .. });
            text.bytes().all(|b| match b {
                b'-' => minus,
                b'.' => kind != Kind::Integer,
                b => b.is_ascii_digit(),
            })
        }
        (_, Kind::Hex { bytes }) => {
            !longer(2 * usize::from(bytes)) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        }
        (Holds::Texts(Texts { all: Some(all), .. }), _) => all.iter().any(|value| how.holds(value, text)),
        (Holds::Texts(texts), _) => {
            text.len() <= texts.longest as usize
                && (how != How::Is || text.len() >= texts.shortest as usize)
                && text.bytes().all(|b| texts.bytes.contains(b))
        }
        (_, Kind::Dictionary | Kind::Text) => true,
    }
}

impl How {
    /// Whether a value relates to the text in this way.
    pub(super) fn holds(self, value: &str, text: &str) -> bool {
        match self {
            Self::Begins => value.starts_with(text),
            Self::Ends => value.ends_with(text),
            Self::Is => value == text,
            Self::Contains => value.contains(text),
        }
    }
}

impl Rules {
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
        table.fields.iter().map(|field| can_hold(Some(field), How::Contains, needle)).collect();
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

/// Whether a value of the shape that is kept among the rest can hold `needle`.
pub(super) fn rest_holds(shape: &Shape, needle: &str) -> bool {
    let rest = shape.gaps.iter().enumerate().filter(|(_, gap)| matches!(gap.source, Source::Rest(_)));
    rest.into_iter().any(|(at, _)| Rules::of(shape, at).allow(How::Contains, needle))
}

/// Where the text, which is not empty, occurs in lines of the shape.
pub(crate) fn occurs(table: &Table, shape: &Shape, finder: &memmem::Finder<'_>) -> Occurs {
    let bytes = finder.needle();
    // Values that are the same in all lines are as good as literals.
    let mut literals: Vec<Cow<'_, str>> = Vec::with_capacity(shape.literals.len());
    let mut gaps: Vec<usize> = Vec::with_capacity(shape.gaps.len());
    let mut joins = false;
    for (at, literal) in shape.literals.iter().enumerate() {
        match literals.last_mut().filter(|_| joins) {
            Some(last) => last.to_mut().push_str(literal),
            None => literals.push(Cow::Borrowed(literal)),
        }
        let Some(gap) = shape.gaps.get(at) else { continue };
        let constant = table.constant(*gap);
        joins = constant.is_some();
        match (constant, literals.last_mut()) {
            (Some(text), Some(last)) => last.to_mut().push_str(&text),
            _ => gaps.push(at),
        }
    }
    if literals
        .iter()
        .any(|literal| literal.len() >= bytes.len() && finder.find(literal.as_bytes()).is_some())
    {
        return Occurs::Always;
    }
    let literal = |at: usize| literals.get(at).map_or(&b""[..], |l| l.as_bytes());
    let mut conditions: Vec<Condition> = Vec::new();
    let mut add = |gap: usize, how: How, text: &[u8], verify: bool| {
        // A piece that is cut within a character can be no part of a value.
        let Ok(text) = std::str::from_utf8(text) else { return };
        if can_hold(table.field_of(shape.gaps[gap]), how, text) && Rules::of(shape, gap).allow(how, text) {
            conditions.push(Condition { gap, how, text: text.to_owned(), verify });
        }
    };
    for (at, gap) in gaps.iter().copied().enumerate() {
        let (before, after) = (literal(at), literal(at + 1));
        let last = at + 1 == gaps.len();
        if after.is_empty() && !last && bytes.len() > 1 {
            return Occurs::Perhaps;
        }
        // What follows a piece at the end of the value: all of it within the literal, or more.
        let continues = |rest: &[u8]| match rest.len() <= after.len() {
            true => after.starts_with(rest).then_some(false),
            false => (!last && rest.starts_with(after)).then_some(true),
        };
        // Numbers are written differently by different shapes, so they are not searched as columns.
        let kind = table.field_of(shape.gaps[gap]).map(|field| field.kind);
        if matches!(kind, Some(Kind::Integer | Kind::Decimal { .. })) {
            add(gap, How::Contains, bytes, false);
        }
        for cut in 1..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            // The first look at one byte each is what most cuts end with.
            if before.last() == head.last() && before.ends_with(head) {
                add(gap, How::Begins, tail, false);
                for end in 0..tail.len() {
                    if let Some(verify) = continues(&tail[end..]) {
                        add(gap, How::Is, &tail[..end], verify);
                    }
                }
            }
            if after.first() == tail.first()
                && let Some(verify) = continues(tail)
            {
                add(gap, How::Ends, head, verify);
            }
        }
    }
    if conditions.is_empty() { Occurs::Never } else { Occurs::If(conditions) }
}

/// Adds the columns that are looked at to find the text, up to putting lines together.
pub(crate) fn columns(table: &Table, finder: &memmem::Finder<'_>, wanted: &mut Wants) {
    let needle = std::str::from_utf8(finder.needle()).unwrap_or_default();
    if needle.is_empty() {
        return;
    }
    for ((field, holds), wanted) in table.fields.iter().zip(holders(table, needle)).zip(&mut wanted.fields) {
        *wanted |= holds && !matches!(field.kind, Kind::Integer | Kind::Decimal { .. });
    }
    wanted.raw = true;
    for shape in &table.shapes {
        wanted.rest |= rest_holds(shape, needle);
        if let Occurs::If(conditions) = occurs(table, shape, finder) {
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
    use shred::{ByteSet, FieldId, Form, Gap, Syntax};

    #[test]
    fn borders_and_rules() {
        let check = |syntax: Syntax, text: &str, needle: &str, want: &str| {
            let literals: Vec<Arc<str>> = text.split('@').map(Arc::from).collect();
            let gap = |i| Gap { source: Source::Rest(i), form: Form::Plain };
            let gaps = (0..literals.len() as u32 - 1).map(gap).collect();
            let finder = memmem::Finder::new(needle);
            let shown = match occurs(&Table::default(), &Shape { syntax, literals, gaps }, &finder) {
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

    #[test]
    fn what_fields_hold_matters() {
        let texts = |all: &[&str]| {
            let mut bytes = ByteSet::default();
            all.iter().flat_map(|text| text.bytes()).for_each(|byte| bytes.insert(byte));
            let lengths = all.iter().map(|text| text.len() as u32);
            let (shortest, longest) = (lengths.clone().min().unwrap(), lengths.max().unwrap());
            (bytes, shortest, longest)
        };
        let field = |all: &[&str], listed: bool| {
            let (bytes, shortest, longest) = texts(all);
            let all = listed.then(|| all.iter().map(|text| Arc::from(*text)).collect());
            let holds = Holds::Texts(Texts { bytes, shortest, longest, all });
            Field { holds, ..Field::new("f", Kind::Dictionary) }
        };
        let check = |field: Field, needle: &str, want: bool| {
            let gaps = vec![Gap { source: Source::Field(FieldId(0)), form: Form::Plain }];
            let shape =
                Shape { syntax: Syntax::Json, literals: vec!["{\"m\":\"".into(), "\"}".into()], gaps };
            let table = Table { shapes: vec![shape], fields: vec![field] };
            assert_eq!(holders(&table, needle), [want], "{needle}");
            occurs(&table, &table.shapes[0], &memmem::Finder::new(needle))
        };
        let few = || field(&["connection refused", "ok"], true);
        check(few(), "refused", true);
        check(few(), "connection ok", false);
        check(field(&["connection refused", "ok"], false), "connection ok", true);
        check(field(&["connection refused", "ok"], false), "connections", true);
        check(field(&["connection refused", "ok"], false), "x", false);
        check(field(&["conn", "ok"], false), "connection", false);
        assert_eq!(check(few(), "\"m\":\"oh", false), Occurs::Never);
        assert_eq!(check(field(&["ok"], true), "\":\"ok\"}", false), Occurs::Always);
    }
}
