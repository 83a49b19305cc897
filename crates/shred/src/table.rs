//! Tables as bytes, for the index of a block.
//!
//! All numbers are varints. Version; fields: count, per field its name, kind and parameter, and what it holds (from version 2 on:
//! 0; or 1, the set of bytes, shortest, longest and 0 or one more than the number of texts and the texts; or 2 and the least and
//! greatest number of eight bytes each, lowest first); literals: count, texts; shapes: count, per
//! shape its syntax, its number of gaps, the numbers of its literals, and two numbers per gap. A literal that many shapes share is
//! written once and shared in memory. Whatever the bytes say, no more is allocated than they can back.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::{ByteSet, Field, FieldId, Form, Gap, Holds, Kind, Shape, Source, Syntax, Table, Texts};

const VERSION: u8 = 2;
/// Without what fields hold.
const BARE: u8 = 1;
/// Fields of a table, at most.
pub const MAX_FIELDS: usize = 1024;
/// Shapes of a table, at most.
pub const MAX_SHAPES: usize = 65_536;
/// Gaps of a shape, at most.
pub const MAX_GAPS: usize = 1024;
/// Gaps of all shapes, at most.
const MAX_ALL_GAPS: usize = 4 << 20;

/// Why bytes are not a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The bytes end too early, or a number has more than 64 bits.
    #[error("unexpected end of data")]
    Truncated,
    /// From a newer program, or something else.
    #[error("unknown version {0} of a table of shapes")]
    Version(u8),
    /// A value that cannot be.
    #[error("invalid {0} in a table of shapes")]
    Invalid(&'static str),
}

impl Table {
    /// The field of a name.
    pub fn field(&self, name: &str) -> Option<FieldId> {
        self.fields.iter().position(|f| &*f.name == name).map(|at| FieldId(at as u32))
    }

    /// Writes the table.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.fields.len() as u64);
        for field in &self.fields {
            put_text(&mut out, &field.name);
            let (kind, parameter) = match field.kind {
                Kind::Dictionary => (0, 0),
                Kind::Text => (1, 0),
                Kind::Integer => (2, 0),
                Kind::Decimal { scale } => (3, scale),
                Kind::Hex { bytes } => (4, bytes),
            };
            out.extend([kind, parameter]);
            put_holds(&mut out, &field.holds);
        }
        let mut numbers: HashMap<&str, u64> = HashMap::new();
        let mut literals: Vec<&str> = Vec::new();
        for literal in self.shapes.iter().flat_map(|s| &s.literals) {
            numbers.entry(literal).or_insert_with(|| {
                literals.push(literal);
                literals.len() as u64 - 1
            });
        }
        put(&mut out, literals.len() as u64);
        literals.iter().for_each(|literal| put_text(&mut out, literal));
        put(&mut out, self.shapes.len() as u64);
        for shape in &self.shapes {
            out.push(shape.syntax.letter() as u8);
            put(&mut out, shape.gaps.len() as u64);
            shape.literals.iter().for_each(|l| put(&mut out, numbers.get(&**l).copied().unwrap_or_default()));
            for gap in &shape.gaps {
                match gap.source {
                    Source::Field(id) => put(&mut out, u64::from(id.0) << 1),
                    Source::Rest(place) => put(&mut out, u64::from(place) << 1 | 1),
                }
                match gap.form {
                    Form::Plain => out.push(0),
                    Form::Decimals(digits) => put(&mut out, u64::from(digits) + 1),
                }
            }
        }
        out
    }

    /// Reads a table.
    pub fn decode(bytes: &[u8]) -> Result<Self, TableError> {
        let mut reader = Reader(bytes);
        let holds = match reader.byte()? {
            VERSION => true,
            BARE => false,
            other => return Err(TableError::Version(other)),
        };
        let count = reader.count(MAX_FIELDS)?;
        let fields = (0..count).map(|_| reader.field(holds)).collect::<Result<Vec<_>, _>>()?;
        let count = reader.count(usize::MAX)?;
        let literals = (0..count).map(|_| reader.text().map(Arc::from)).collect::<Result<Vec<_>, _>>()?;
        let count = reader.count(MAX_SHAPES)?;
        let mut shapes = Vec::new();
        let mut gaps = 0;
        for _ in 0..count {
            let shape = reader.shape(&fields, &literals)?;
            gaps += shape.gaps.len();
            if gaps > MAX_ALL_GAPS {
                return Err(TableError::Invalid("number of gaps"));
            }
            shapes.push(shape);
        }
        if !reader.0.is_empty() {
            return Err(TableError::Invalid("end"));
        }
        Ok(Self { shapes, fields })
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_holds(out: &mut Vec<u8>, holds: &Holds) {
    match holds {
        Holds::Anything => out.push(0),
        Holds::Texts(Texts { bytes, shortest, longest, all }) => {
            out.push(1);
            bytes.0.iter().for_each(|word| out.extend(word.to_le_bytes()));
            put(out, u64::from(*shortest));
            put(out, u64::from(*longest));
            put(out, all.as_ref().map_or(0, |all| all.len() as u64 + 1));
            all.iter().flatten().for_each(|text| put_text(out, text));
        }
        Holds::Numbers { least, most } => {
            out.push(2);
            out.extend(least.to_le_bytes());
            out.extend(most.to_le_bytes());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, TableError> {
        let (first, rest) = self.0.split_first().ok_or(TableError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, TableError> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(TableError::Truncated)
    }

    /// A number of things of which each takes at least one of the bytes left.
    fn count(&mut self, most: usize) -> Result<usize, TableError> {
        let count = usize::try_from(self.number()?).map_err(|_| TableError::Truncated)?;
        match count {
            _ if count > most => Err(TableError::Invalid("count")),
            _ if count > self.0.len() => Err(TableError::Truncated),
            _ => Ok(count),
        }
    }

    fn text(&mut self) -> Result<&'a str, TableError> {
        let length = self.count(usize::MAX)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(TableError::Truncated)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| TableError::Invalid("text"))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], TableError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(TableError::Truncated)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn holds(&mut self, kind: Kind) -> Result<Holds, TableError> {
        let length =
            |reader: &mut Self| u32::try_from(reader.number()?).map_err(|_| TableError::Invalid("length"));
        let textual = matches!(kind, Kind::Dictionary | Kind::Text);
        Ok(match self.byte()? {
            0 => Holds::Anything,
            1 if textual => {
                let mut bytes = ByteSet::default();
                for word in &mut bytes.0 {
                    *word = u64::from_le_bytes(self.bytes()?);
                }
                let (shortest, longest) = (length(self)?, length(self)?);
                let all = match self.count(usize::MAX)? {
                    0 => None,
                    count => Some((1..count).map(|_| self.text().map(Arc::from)).collect::<Result<_, _>>()?),
                };
                Holds::Texts(Texts { bytes, shortest, longest, all })
            }
            2 if matches!(kind, Kind::Integer | Kind::Decimal { .. }) => Holds::Numbers {
                least: i64::from_le_bytes(self.bytes()?),
                most: i64::from_le_bytes(self.bytes()?),
            },
            _ => return Err(TableError::Invalid("summary of values")),
        })
    }

    fn field(&mut self, holds: bool) -> Result<Field, TableError> {
        let name = self.text()?.into();
        let kind = match (self.byte()?, self.byte()?) {
            (0, 0) => Kind::Dictionary,
            (1, 0) => Kind::Text,
            (2, 0) => Kind::Integer,
            (3, scale @ 1..=18) => Kind::Decimal { scale },
            (4, bytes @ 1..) => Kind::Hex { bytes },
            _ => return Err(TableError::Invalid("kind")),
        };
        let holds = if holds { self.holds(kind)? } else { Holds::Anything };
        Ok(Field { name, kind, holds })
    }

    fn shape(&mut self, fields: &[Field], literals: &[Arc<str>]) -> Result<Shape, TableError> {
        let syntax = match self.byte()? {
            b'J' => Syntax::Json,
            b'L' => Syntax::Logfmt,
            b'T' => Syntax::Text,
            _ => return Err(TableError::Invalid("syntax")),
        };
        let count = self.count(MAX_GAPS)?;
        let literal = |number: u64| {
            let literal = usize::try_from(number).ok().and_then(|n| literals.get(n)).cloned();
            literal.ok_or(TableError::Invalid("literal"))
        };
        let literals = (0..=count).map(|_| literal(self.number()?)).collect::<Result<_, _>>()?;
        let gaps = (0..count).map(|_| self.gap(fields)).collect::<Result<_, _>>()?;
        Ok(Shape { syntax, literals, gaps })
    }

    fn gap(&mut self, fields: &[Field]) -> Result<Gap, TableError> {
        let source = self.number()?;
        let number = u32::try_from(source >> 1).map_err(|_| TableError::Invalid("gap"))?;
        let source = if source & 1 == 1 { Source::Rest(number) } else { Source::Field(FieldId(number)) };
        let form = match self.byte()? {
            0 => Form::Plain,
            digits @ 1..=19 => Form::Decimals(digits - 1),
            _ => return Err(TableError::Invalid("form")),
        };
        // Only decimals have digits after the point, and no more than are stored.
        let fits = match (source, form) {
            (Source::Rest(place), Form::Plain) => (place as usize) < MAX_GAPS,
            (Source::Rest(_), Form::Decimals(_)) => false,
            (Source::Field(_), form) => match (fields.get(number as usize).map(|f| f.kind), form) {
                (None, _) | (Some(Kind::Decimal { .. }), Form::Plain) => false,
                (Some(Kind::Decimal { scale }), Form::Decimals(digits)) => digits <= scale,
                (Some(_), form) => form == Form::Plain,
            },
        };
        if fits { Ok(Gap { source, form }) } else { Err(TableError::Invalid("gap")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shredder::shred_all;
    use arrow_array::StringArray;
    use proptest::prelude::*;

    fn table() -> Table {
        let lines = StringArray::from(vec![
            r#"{"a":"x","n":17,"d":1.50,"id":"00112233445566778899aabbccddeeff"}"#,
            r#"{"a":"y","n":18,"d":2.5,"o":{"p":null}}"#,
            "a=1 msg=\"hello there\" d=",
        ]);
        shred_all(&lines).table.as_ref().clone()
    }

    #[test]
    fn comes_back() {
        let table = table();
        assert!(table.shapes.len() >= 3 && !table.fields.is_empty());
        assert_eq!(Table::decode(&table.encode()), Ok(table));
        assert_eq!(Table::decode(&[9]), Err(TableError::Version(9)));
        // As earlier programs wrote it.
        let bare = [BARE, 1, 1, b'a', 2, 0, 0, 0];
        let expect = Table { shapes: Vec::new(), fields: vec![Field::new("a", Kind::Integer)] };
        assert_eq!(Table::decode(&bare), Ok(expect));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            let _ = Table::decode(&bytes);
        }

        #[test]
        fn damaged_tables_are_read_or_refused(at: proptest::sample::Index, byte: u8, cut: proptest::sample::Index) {
            let mut bytes = table().encode();
            prop_assert!(Table::decode(&bytes[..cut.index(bytes.len())]).is_err());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Table::decode(&bytes);
        }
    }
}
