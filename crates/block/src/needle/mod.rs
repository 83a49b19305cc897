//! The needle index of a block: which granules (runs of some thousand rows) can hold a text.
//!
//! Per granule there is one small filter, a set of hashes that may say "yes" wrongly (one time in 128) and never "no" wrongly. In
//! it are
//! - whole values of columns whose values all have one length, such as ids ([`NeedleBuilder::value`]): one item each;
//! - of all other text ([`NeedleBuilder::text`]) chosen grams of its tokens, so that any part of a token of eight bytes or more
//!   contains a chosen gram.
//!
//! A [`Needle`] is cut into its tokens in the same way; what it needs of a granule is asked of the filter. Parts of ids that are
//! shorter than the id cannot be told by the filter; such needles keep all granules that hold ids of that kind.
//!
//! The rule that makes it right: a token of a row's text never stretches over two of the texts and values given for the row. Whoever
//! takes a line apart inside of a token must give the line as a whole.
//!
//! The index is kept as bytes and asked in place: some memory touches per granule and question.

mod build;
mod gram;
mod index;
mod ribbon;
mod search;
mod token;

pub use build::{FixedId, NeedleBuilder};
pub use index::{NeedleError, NeedleIndex};
pub use search::{Needle, Search};
pub use token::is_token_byte;

#[cfg(test)]
mod tests;
