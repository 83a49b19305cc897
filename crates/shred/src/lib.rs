//! Log lines as shapes and values.
//!
//! A shape is a line with gaps: the text around the values of a JSON object, of a logfmt line, or around the words with digits in
//! any other text. Lines of one program share few shapes, so a column of shapes (a dictionary) and typed columns of values take
//! less room than lines, and a query reads only the values it asks for. Filling the gaps gives back the exact bytes.
//!
//! This crate holds the representation ([`Shape`], [`Table`], [`Lines`]) that storage and query engine share, and takes lines
//! apart. It knows nothing of files or queries.

mod column;
mod holds;
mod json;
mod lines;
mod logfmt;
mod rebuild;
mod scan;
mod shape;
mod shredder;
mod survey;
mod table;
mod text;
mod trie;
mod value;
mod words;

pub use holds::{ByteSet, Holds, Texts};
pub use lines::{Columns, Lines, ShreddedLines, Values, rest_item};
pub use shape::{Field, FieldId, Form, Gap, Kind, Shape, ShapeId, Source, Syntax, Table};
pub use shredder::{Shredder, shred_all};
pub use survey::{Profile, Survey};
pub use table::{MAX_FIELDS, MAX_GAPS, MAX_SHAPES, TableError};
pub use text::{GAP_END, GAP_NUMBER, GAP_START, ShapeError};
pub use value::{number_len, push_hex};
