//! Targets that receive or follow something else than files: syslog, the push API, GELF, the journal.
//!
//! What a target takes in goes through an [`Inlet`]: the job's relabelling, its pipeline, and
//! the clients' queues.

mod check;
mod gelf;
mod inlet;
mod journal;
mod listen;
mod metrics;
mod push_api;
mod syslog;
#[cfg(test)]
pub(crate) mod testing;

use model::Labels;

pub(crate) use check::{check, kinds};
pub use gelf::GelfConfig;
pub(crate) use inlet::{Inlet, Inlets, MakeDispatcher, Received, TICK, Way};
pub use journal::JournalConfig;
pub(crate) use journal::{Cursor, JournalTarget};
pub(crate) use listen::listeners;
#[cfg(test)]
pub(crate) use metrics::LostLabels;
pub(crate) use metrics::{SpoolClientLabels, TargetMetrics};
pub use push_api::PushApiConfig;
pub use syslog::SyslogConfig;

use crate::entry::TENANT_LABEL;
use crate::relabel::TargetLabels;

/// The labels that lines carry after relabelling: all but those that begin with two underscores, and the tenant, which is taken
/// out of them at the end of the pipeline.
pub(crate) fn stream_labels(labels: &TargetLabels) -> Labels {
    let stay = |name: &str| !name.starts_with("__") || name == TENANT_LABEL;
    Labels::from_pairs(labels.iter().filter(|(name, _)| stay(name)))
}
