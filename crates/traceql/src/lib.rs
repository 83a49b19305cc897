//! TraceQL: text to syntax tree to checked plan to evaluation over batches. Pure.
//!
//! [`parse`] gives a checked [`Query`]. [`Query::fields`] tells which columns a [`SpanBatch`] must hold,
//! [`Query::conditions`] what a block may be skipped by. [`Search`] and [`Metrics`] then take batches of
//! whole traces, in any order, and give what Tempo answers to `/api/search` and `/api/metrics/…`.
//! [`parse_lenient`] and [`parse_field`] serve autocompletion.

pub mod ast;
pub mod batch;
mod error;
mod eval;
mod filter;
mod metrics;
mod parser;
mod plan;
mod print;
mod search;
mod tags;
mod value;

pub use ast::{Field, Intrinsic, Query, Scope};
pub use batch::{AttributeColumn, EventColumns, LinkColumns, SpanBatch};
pub use error::{EvalError, ParseError, ParseErrorKind};
pub use filter::{Filter, field_values, parse_lenient};
pub use metrics::{Exemplar, Metrics, MetricsAnswer, MetricsParams, TimeSeries};
pub use parser::{parse, parse_field};
pub use plan::{Condition, ConditionOp, Conditions, FieldSet};
pub use search::{
    ROOT_NOT_RECEIVED, Search, SearchParams, ServiceStats, SpanResult, SpanSetResult, TraceResult,
};
pub use value::{Kind, Status, Value, ValueRef};
