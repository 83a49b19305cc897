//! The whole system, split into four processes or as one, with the shipped configurations on loopback and a folder of its own.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;
use testkit::port;

use crate::query::{Loki, Tempo};
use crate::service::Service;

/// A running system. Dropping it kills its processes and removes its folder.
pub(crate) struct Fleet {
    /// The log store.
    pub(crate) loki: Loki,
    /// The trace store.
    pub(crate) tempo: Tempo,
    /// `host:port` of OTLP over gRPC.
    pub(crate) otlp_grpc: String,
    /// `host:port` of OTLP over HTTP.
    pub(crate) otlp_http: String,
    /// The router's page of metrics.
    pub(crate) router_metrics: String,
    /// Its processes, the ones that send first.
    pub(crate) services: Vec<Service>,
    // Goes last: the processes work in it.
    _folder: TempDir,
}

/// The places where a fleet listens.
struct Ports {
    logs: u16,
    traces: u16,
    traces_otlp: u16,
    grpc: u16,
    http: u16,
    health: u16,
    metrics: u16,
    agent: u16,
}

impl Ports {
    fn free() -> Self {
        let free = port::free;
        let (logs, traces, traces_otlp, agent) = (free(), free(), free(), free());
        Self { logs, traces, traces_otlp, grpc: free(), http: free(), health: free(), metrics: free(), agent }
    }

    /// What is laid over the log store's configuration.
    fn logs(&self, folder: &Path) -> String {
        let server = server(self.logs);
        format!("server: {server}\ncommon: {{path_prefix: {}}}\n", folder.join("logs").display())
    }

    /// What is laid over the trace store's configuration.
    fn traces(&self, folder: &Path) -> String {
        let (wal, blocks) = (folder.join("traces/wal"), folder.join("traces/blocks"));
        format!(
            "server: {}\n\
             distributor: {{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{}'}}, http: {{endpoint: '127.0.0.1:0'}}}}}}}}}}\n\
             storage: {{trace: {{wal: {{path: {}}}, local: {{path: {}}}}}}}\n",
            server(self.traces),
            self.traces_otlp,
            wal.display(),
            blocks.display()
        )
    }

    /// What is laid over the router's configuration, but for its exporters.
    fn router(&self) -> String {
        format!(
            "extensions: {{health_check: {{endpoint: '127.0.0.1:{}'}}}}\n\
             receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{}'}}, http: {{endpoint: '127.0.0.1:{}'}}}}}}}}\n",
            self.health, self.grpc, self.http,
        ) + &telemetry(self.metrics)
    }

    /// What is laid over the agent's configuration, but for where lines go.
    fn agent(&self, folder: &Path, jobs: &str) -> String {
        format!(
            "server: {}\npositions: {{filename: {}, sync_period: 100ms}}\ntarget_config: {{sync_period: 100ms}}\n{jobs}",
            server(self.agent),
            folder.join("positions.yaml").display()
        )
    }

    fn fleet(&self, services: Vec<Service>, folder: TempDir) -> Fleet {
        Fleet {
            loki: Loki(url(self.logs)),
            tempo: Tempo(url(self.traces)),
            otlp_grpc: format!("127.0.0.1:{}", self.grpc),
            otlp_http: format!("127.0.0.1:{}", self.http),
            router_metrics: format!("{}/metrics", url(self.metrics)),
            services,
            _folder: folder,
        }
    }
}

impl Fleet {
    /// Agent, router, logs and traces, each in a process of its own with its file of `compose/`, so with tail sampling. `jobs`
    /// is the agent's `scrape_configs`.
    pub(crate) fn split(jobs: &str) -> Result<Self> {
        let (folder, ports) = (tempfile::tempdir()?, Ports::free());
        let path = folder.path();
        let logs = logs(ports.logs, &ports.logs(path), path)?.started()?;
        let ready = ready(ports.traces);
        let traces = Service::new("timberline-traces", Some("traces.yaml"), &ports.traces(path), path, ready)?.started()?;
        let router = ports.router()
            + &format!(
                "processors: {{tail_sampling: {{decision_wait: 2s}}}}\n\
                 exporters: {{otlp/traces: {{endpoint: '127.0.0.1:{}'}}, otlphttp/logs: {{endpoint: '{}/otlp'}}}}\n",
                ports.traces_otlp,
                url(ports.logs)
            );
        let health = url(ports.health);
        let router = Service::new("timberline-router", Some("router.yaml"), &router, path, health)?.started()?;
        let agent = agent(ports.agent, &ports.agent(path, &(client(ports.logs) + jobs)), path)?.started()?;
        Ok(ports.fleet(vec![agent, router, logs, traces], folder))
    }

    /// All in one process, every trace kept.
    pub(crate) fn all_in_one(jobs: &str) -> Result<Self> {
        let (folder, ports) = (tempfile::tempdir()?, Ports::free());
        let path = folder.path();
        let router = format!(
            "{}exporters: {{embedded: }}\n\
             service:\n  \
               extensions: [health_check]\n  \
               pipelines:\n    \
                 traces: {{receivers: [otlp], exporters: [embedded]}}\n    \
                 logs: {{receivers: [otlp], exporters: [embedded]}}\n{}",
            ports.router().replace(&telemetry(ports.metrics), ""),
            indent(&telemetry(ports.metrics).replace("service:\n", ""))
        );
        let sections = [
            ("logs", format!("server: {}\n", server(ports.logs))),
            ("traces", format!("server: {}\n", server(ports.traces))),
            ("router", router),
            ("agent", ports.agent(path, jobs)),
        ];
        let sections = sections.map(|(name, section)| format!("{name}:\n{}", indent(&section)));
        let service = Service::new("timberline", None, &sections.concat(), path, ready(ports.logs))?;
        let service = service.arg("--data").arg(path.join("data").display().to_string()).started()?;
        Ok(ports.fleet(vec![service], folder))
    }
}
