//! Shapes as text: what the `shape` column of a block holds, readable without this program.
//!
//! A letter for the syntax (`J`, `L`, `T`), then the literals with a mark for each gap between them: byte 1, the name of the field,
//! byte 2. With byte 3 and a number behind the name, the value is written with so many digits after the point. Byte 3 and a number
//! without a name is a place in the list of rest values. Lines that hold one of these bytes are not taken apart.

use std::fmt::Write;
use std::sync::Arc;

use crate::{Form, Gap, Shape, Source, Syntax, Table};

/// Begins a gap.
pub const GAP_START: char = '\u{1}';
/// Ends a gap.
pub const GAP_END: char = '\u{2}';
/// Stands before a number within a gap.
pub const GAP_NUMBER: char = '\u{3}';

/// Why a text is not a shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The first letter is none of a syntax.
    #[error("a shape begins with J, L or T")]
    Syntax,
    /// A gap is not closed, or a mark stands where none can be.
    #[error("marks of gaps do not pair")]
    Marks,
    /// A gap names a field that the table does not have.
    #[error("unknown field '{0}'")]
    Field(String),
    /// A number of a gap is none, or too large.
    #[error("invalid number '{0}' in a gap")]
    Number(String),
}

impl Syntax {
    /// The letter that stands for the syntax.
    pub fn letter(self) -> char {
        match self {
            Self::Json => 'J',
            Self::Logfmt => 'L',
            Self::Text => 'T',
        }
    }
}

impl Shape {
    /// The text form; the table says the names of fields.
    pub fn to_text(&self, table: &Table) -> String {
        let mut text = String::with_capacity(self.literals.iter().map(|l| l.len() + 16).sum());
        text.push(self.syntax.letter());
        for (at, literal) in self.literals.iter().enumerate() {
            text.push_str(literal);
            let Some(gap) = self.gaps.get(at) else { continue };
            text.push(GAP_START);
            // Writing to a string cannot fail.
            let _ = match (gap.source, gap.form) {
                (Source::Rest(place), _) => write!(text, "{GAP_NUMBER}{place}"),
                (Source::Field(id), form) => {
                    text.push_str(table.fields.get(id.0 as usize).map_or("", |f| &f.name));
                    match form {
                        Form::Plain => Ok(()),
                        Form::Decimals(digits) => write!(text, "{GAP_NUMBER}{digits}"),
                    }
                }
            };
            text.push(GAP_END);
        }
        text
    }

    /// Reads the text form.
    pub fn parse(text: &str, table: &Table) -> Result<Self, ShapeError> {
        let mut letters = text.chars();
        let syntax = match letters.next() {
            Some('J') => Syntax::Json,
            Some('L') => Syntax::Logfmt,
            Some('T') => Syntax::Text,
            _ => return Err(ShapeError::Syntax),
        };
        let (mut literals, mut gaps) = (Vec::new(), Vec::new());
        let mut rest = letters.as_str();
        while let Some((literal, after)) = rest.split_once(GAP_START) {
            let (gap, after) = after.split_once(GAP_END).ok_or(ShapeError::Marks)?;
            literals.push(literal_of(literal)?);
            gaps.push(Gap::parse(gap, table)?);
            rest = after;
        }
        literals.push(literal_of(rest)?);
        Ok(Self { syntax, literals, gaps })
    }

    /// Bytes of the literals together.
    pub fn literal_bytes(&self) -> usize {
        self.literals.iter().map(|l| l.len()).sum()
    }
}

fn literal_of(text: &str) -> Result<Arc<str>, ShapeError> {
    if text.contains([GAP_START, GAP_END, GAP_NUMBER]) { Err(ShapeError::Marks) } else { Ok(text.into()) }
}

impl Gap {
    fn parse(text: &str, table: &Table) -> Result<Self, ShapeError> {
        let (name, number) = match text.split_once(GAP_NUMBER) {
            None => (text, None),
            Some((name, number)) => (name, Some(number)),
        };
        let invalid = || ShapeError::Number(number.unwrap_or_default().to_owned());
        if let (true, Some(place)) = (name.is_empty(), number) {
            let place = place.parse().map_err(|_| invalid())?;
            return Ok(Self { source: Source::Rest(place), form: Form::Plain });
        }
        let id = table.field(name).ok_or_else(|| ShapeError::Field(name.to_owned()))?;
        let form = match number {
            None => Form::Plain,
            Some(digits) => Form::Decimals(digits.parse().map_err(|_| invalid())?),
        };
        Ok(Self { source: Source::Field(id), form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Field, FieldId, Kind};

    #[test]
    fn text_and_back() {
        let table = Table {
            shapes: Vec::new(),
            fields: vec![
                Field::new("level", Kind::Dictionary),
                Field::new("amount", Kind::Decimal { scale: 2 }),
            ],
        };
        let gap = |source, form| Gap { source, form };
        let shape = Shape {
            syntax: Syntax::Json,
            literals: ["{\"level\":\"", "\",\"amount\":", ",\"x\":", "}"].map(Arc::from).to_vec(),
            gaps: vec![
                gap(Source::Field(FieldId(0)), Form::Plain),
                gap(Source::Field(FieldId(1)), Form::Decimals(1)),
                gap(Source::Rest(7), Form::Plain),
            ],
        };
        let text = shape.to_text(&table);
        assert_eq!(
            text,
            "J{\"level\":\"\u{1}level\u{2}\",\"amount\":\u{1}amount\u{3}1\u{2},\"x\":\u{1}\u{3}7\u{2}}"
        );
        assert_eq!(Shape::parse(&text, &table), Ok(shape));
        for (bad, error) in [
            ("", ShapeError::Syntax),
            ("X{}", ShapeError::Syntax),
            ("J\u{1}level", ShapeError::Marks),
            ("J\u{2}", ShapeError::Marks),
            ("J\u{1}no\u{2}", ShapeError::Field("no".to_owned())),
            ("J\u{1}\u{3}x\u{2}", ShapeError::Number("x".to_owned())),
        ] {
            assert_eq!(Shape::parse(bad, &table), Err(error), "{bad:?}");
        }
    }
}
