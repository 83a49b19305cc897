//! The vocabulary of logs and traces: tenants, labels, matchers, ids, time, sizes.
//!
//! Everything here is a validated value: whoever holds a [`TenantId`], a [`Labels`] or a
//! [`Matcher`] need not check it again. Nothing here does IO, logs, or knows of a wire format.

pub mod duration;
pub mod gotime;
mod id;
mod labels;
mod matcher;
pub mod regex;
pub mod relabel;
pub mod size;
mod tenant;
mod time;

pub use id::{IdError, SpanId, TraceId};
pub use labels::{Labels, LabelsBuilder, LabelsError, StreamId, is_label_name, quote};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use tenant::{TenantError, TenantId};
pub use time::Timestamp;
