//! LogQL: text to syntax tree to checked plan to evaluation over batches. Pure: no IO, no async, no clock.
//!
//! [`parse`] gives an [`Expr`]. A log query becomes a [`LogQuery`], a metric query a [`MetricQuery`]; both are fed
//! [`EntryBatch`]es of streams that satisfy their matchers and then asked for the answer. Parts of one query may
//! run in several places: [`LogQuery::fork`] / [`MetricQuery::fork`] start an empty part, `merge` joins it again.
//!
//! Sources of [shredded lines](shred::ShreddedLines) need not read all of them: `screen_columns` names the columns that tell which
//! rows matter, `screen` gives those rows, and only they are read in full and pushed. A metric query takes what it can out of the
//! screened batch at once and gives back only the rows that it could not decide.

pub mod ast;
pub mod batch;
mod binary;
mod columnar;
mod entry_filter;
mod error;
mod format;
mod labels;
mod log_query;
mod matrix;
mod metric_query;
mod names;
mod needs;
mod parse;
mod pipeline;
mod range;
mod row;
mod stages;
mod template;
mod vector;

pub use ast::{Expr, LogExpr, MetricExpr};
pub use batch::{EntryBatch, Metadata};
pub use entry_filter::EntryFilter;
pub use error::{EvalError, ParseError};
pub use format::pretty;
pub use labels::LabelSet;
pub use log_query::{Categories, Direction, LogParams, LogQuery, ResultEntry, ResultStream};
pub use metric_query::{
    Bucket, Counts, Leaf, MetricLimits, MetricParams, MetricQuery, QueryResult, Sample, Series,
};
pub use needs::{Equality, MetadataNeeds, Needs};
pub use parse::parse;
