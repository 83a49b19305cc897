//! Pipelines over shredded lines, column by column.
//!
//! Everything here is a shortcut: what it says of a row is what the pipeline would say of the row's text, or else it says that it
//! does not know ([`Tri::Odd`]), and the row's text goes through the pipeline.

mod cells;
mod decide;
mod language;
mod measure;
mod occurs;
mod pattern;
mod program;
mod sample;
mod search;
mod walk;

pub(crate) use cells::is_measured;
pub(crate) use decide::{Known, Label, Memory, ProgramState};
pub(crate) use occurs::{Wants, columns};
pub(crate) use program::Program;
pub(crate) use search::{SearchState, contains, retain_containing, test_line};
pub(crate) use walk::{WalkState, walk, walk_columns};

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tri {
    /// It does not pass.
    Drop,
    /// It passes, without an error.
    Pass,
    /// Its text must be asked.
    Odd,
}
