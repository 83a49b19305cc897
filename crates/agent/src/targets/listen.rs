//! The targets that listen: what tells one from another, so that a reload leaves alone what it does not change.

use anyhow::Result;

use super::{Inlets, gelf, push_api, syslog};
use crate::config::{GelfConfig, PushApiConfig, ScrapeConfig, SyslogConfig};
use crate::relabel::TargetLabels;
use crate::tasks::Tasks;

/// The configuration of a target that listens.
pub(crate) enum Listen<'a> {
    Syslog(&'a SyslogConfig),
    Push(&'a PushApiConfig),
    Gelf(&'a GelfConfig),
}

/// The listeners of a job, each with a text that is the same as long as it need not be bound anew.
pub(crate) fn listeners(scrape: &ScrapeConfig) -> Vec<(String, Listen<'_>)> {
    let key = |kind: &str, config: serde_json::Result<String>| {
        format!("{}/{kind}/{}", scrape.job_name, config.unwrap_or_default())
    };
    let syslog = scrape.syslog.iter().map(|c| (key("syslog", serde_json::to_string(c)), Listen::Syslog(c)));
    let push = scrape.loki_push_api.iter().map(|c| (key("push", serde_json::to_string(c)), Listen::Push(c)));
    let gelf = scrape.gelf.iter().map(|c| (key("gelf", serde_json::to_string(c)), Listen::Gelf(c)));
    syslog.chain(push).chain(gelf).collect()
}

impl Listen<'_> {
    /// Labels of everything that it receives.
    pub(crate) fn labels(&self) -> TargetLabels {
        match self {
            Self::Syslog(config) => config.labels.clone(),
            Self::Push(config) => config.labels.clone(),
            Self::Gelf(config) => config.labels.clone(),
        }
    }

    /// Binds it, for one task; its block's name, and where it listens.
    pub(crate) fn bind(
        &self,
        job: &str,
        inlets: Inlets,
        tasks: &mut Tasks,
    ) -> Result<(&'static str, String)> {
        Ok(match self {
            Self::Syslog(config) => {
                let target = syslog::SyslogTarget::bind(config, inlets)?;
                let is_udp = config.listen_protocol == syslog::SyslogProtocol::Udp;
                let address = format!("{} {}", if is_udp { "udp" } else { "tcp" }, target.address());
                tasks.task(format!("agent/{job}/syslog"), move |stop| target.run(stop));
                ("syslog", address)
            }
            Self::Push(config) => {
                let target = push_api::PushTarget::bind(config, inlets)?;
                let address = format!("http {}", target.address());
                tasks.task(format!("agent/{job}/loki_push_api"), move |stop| target.run(stop));
                ("loki_push_api", address)
            }
            Self::Gelf(config) => {
                let target = gelf::GelfTarget::bind(config, inlets)?;
                let address = format!("udp {}", target.address());
                tasks.task(format!("agent/{job}/gelf"), move |stop| target.run(stop));
                ("gelf", address)
            }
        })
    }
}
