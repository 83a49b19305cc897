//! Targets that receive or follow something else than files: syslog, the push API, GELF, the journal.
//!
//! Each is built into tasks of the process. What it takes in goes through an [`Inlet`]: the job's relabelling, its pipeline, and
//! the clients' queues.

mod check;
mod gelf;
mod inlet;
mod journal;
mod metrics;
mod push_api;
mod syslog;
#[cfg(test)]
mod testing;

use model::Labels;
use service::{Phase, Process};

pub(crate) use check::check;
pub use gelf::GelfConfig;
pub(crate) use inlet::{Inlets, Received};
pub use journal::JournalConfig;
pub(crate) use metrics::TargetMetrics;
pub use push_api::PushApiConfig;
pub use syslog::SyslogConfig;

use crate::config::ScrapeConfig;
use crate::entry::TENANT_LABEL;
use crate::positions::Positions;
use crate::relabel::TargetLabels;

/// The labels that lines carry after relabelling: all but those that begin with two underscores, and the tenant, which is taken
/// out of them at the end of the pipeline.
pub(crate) fn stream_labels(labels: &TargetLabels) -> Labels {
    let stay = |name: &str| !name.starts_with("__") || name == TENANT_LABEL;
    Labels::from_pairs(labels.iter().filter(|(name, _)| stay(name)))
}

/// Builds the receiving target of a job into the process, if it has one: binds its listener, starts nothing.
pub(crate) fn build(
    scrape: &ScrapeConfig,
    inlets: Inlets,
    positions: &std::sync::Arc<Positions>,
    process: &mut Process,
) -> anyhow::Result<()> {
    let name = |kind: &str| format!("agent/{}/{kind}", scrape.job_name);
    if let Some(config) = &scrape.syslog {
        let target = syslog::SyslogTarget::bind(config, inlets.clone())?;
        process.task(name("syslog"), Phase::Drain, move |stop| target.run(stop));
    }
    if let Some(config) = &scrape.loki_push_api {
        let target = push_api::PushTarget::bind(config, inlets.clone())?;
        process.task(name("loki_push_api"), Phase::Drain, move |stop| target.run(stop));
    }
    if let Some(config) = &scrape.gelf {
        let target = gelf::GelfTarget::bind(config, inlets.clone())?;
        process.task(name("gelf"), Phase::Drain, move |stop| target.run(stop));
    }
    if let Some(config) = &scrape.journal {
        let cursor = positions.open_journal(&scrape.job_name);
        let target = journal::JournalTarget::new(config, cursor, inlets)?;
        process.task(name("journal"), Phase::Drain, move |stop| target.run(stop));
    }
    Ok(())
}
