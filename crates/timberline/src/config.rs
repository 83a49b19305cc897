//! The configuration of the all-in-one: a section for each service, in the words of the product that it plays.

use std::path::Path;

use serde::{Deserialize, Serialize};
use service::config::{Logging, Problems, Unneeded};

/// The whole file. Without one everything has its default, and data goes under `--data`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// As Promtail's file.
    pub agent: agent::Config,
    /// As Loki's file.
    pub logs: logs::Config,
    /// As Tempo's file.
    pub traces: traces::Config,
    /// As the Collector's file; the exporter type `embedded` leads to the stores of this process.
    pub router: router::Config,
}

impl service::config::Config for Config {
    fn unneeded() -> Unneeded {
        Unneeded::default()
            .with("agent", <agent::Config as service::config::Config>::unneeded())
            .with("logs", <logs::Config as service::config::Config>::unneeded())
            .with("traces", <traces::Config as service::config::Config>::unneeded())
            .with("router", <router::Config as service::config::Config>::unneeded())
    }

    fn check(&self, problems: &mut Problems) {
        problems.under("agent", |found| service::config::Config::check(&self.agent, found));
        problems.under("logs", |found| service::config::Config::check(&self.logs, found));
        problems.under("traces", |found| service::config::Config::check(&self.traces, found));
        problems.under("router", |found| service::config::Config::check(&self.router, found));
    }

    fn logging(&self) -> Logging {
        service::config::Config::logging(&self.logs)
    }
}

impl Config {
    /// Puts what has no place of its own under `data`.
    pub(crate) fn under(mut self, data: &Path) -> Self {
        let folder = |name: &str| data.join(name).to_string_lossy().into_owned();
        if self.logs.common.path_prefix == logs::Config::default().common.path_prefix {
            self.logs.common.path_prefix = folder("logs");
        }
        let (storage, default) = (&mut self.traces.storage.trace, traces::Config::default().storage.trace);
        if storage.local.path == default.local.path {
            storage.local.path = data.join("traces/blocks");
        }
        if storage.wal.path == default.wal.path {
            storage.wal.path = data.join("traces/wal");
        }
        if self.agent.positions.filename == agent::Config::default().positions.filename {
            self.agent.positions.filename = folder("agent/positions.yaml");
        }
        self
    }
}
