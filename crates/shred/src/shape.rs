//! Shapes: what lines have in common, and where their values go.

use std::sync::Arc;

use crate::Holds;

/// Place of a shape in a [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShapeId(pub u32);

/// Place of a field in a [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldId(pub u32);

/// The syntax by which a line was taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// One JSON object with members of distinct names, nothing but white space around it. Every scalar member value, at any depth
    /// of objects, is a gap: of a string the text between the quotes, as it stands (escapes included); of a number, `true`, `false`
    /// or `null` the whole word. Arrays are gaps as a whole, from `[` to `]`.
    Json,
    /// `key=value` pairs; every value is a gap, of a quoted one the text between the quotes, as it stands.
    Logfmt,
    /// Any other line: words with digits are gaps.
    Text,
}

/// A line with gaps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// How it was found.
    pub syntax: Syntax,
    /// The text around the gaps: one more than there are gaps; may be empty.
    pub literals: Vec<Arc<str>>,
    /// The gaps in order of the line.
    pub gaps: Vec<Gap>,
}

/// A place for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gap {
    /// Where the value of a row is found.
    pub source: Source,
    /// How a value becomes text.
    pub form: Form,
}

/// Where the value of a gap is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// In the column of a field.
    Field(FieldId),
    /// In the row's list of rest values, at this place.
    Rest(u32),
}

/// How a stored value is written. It is chosen so that the bytes come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As it is stored: text, an integer in its shortest form, lower-case hex digits.
    Plain,
    /// A decimal number with this many digits after the point.
    Decimals(u8),
}

/// A column of values: all gaps that share a key path (or, of texts, a position).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// The key path with dots between its parts, made unique; the name of the column.
    pub name: Arc<str>,
    /// The type of its values.
    pub kind: Kind,
    /// What is known of its values.
    pub holds: Holds,
}

/// The type of a field's values. Texts that do not fit the kind of their field are kept among the rest values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text that repeats: a dictionary.
    Dictionary,
    /// Text that does not.
    Text,
    /// Integers of 64 bits that are written in their shortest form.
    Integer,
    /// Decimal numbers, stored as integers of 10^-`scale`, of at most 18 digits. A gap's [`Form::Decimals`] says how many digits are written.
    Decimal {
        /// Digits after the point that are stored.
        scale: u8,
    },
    /// Exactly this many bytes, written as twice as many lower-case hex digits.
    Hex {
        /// The bytes.
        bytes: u8,
    },
}

/// The shapes and fields of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// By [`ShapeId`].
    pub shapes: Vec<Shape>,
    /// By [`FieldId`].
    pub fields: Vec<Field>,
}
