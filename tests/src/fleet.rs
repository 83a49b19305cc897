//! The whole system, split into four processes or as one, with the shipped configurations on loopback and in a temporary
//! folder.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
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
    /// Its processes, those that send before those that take.
    services: Vec<Service>,
    // Goes last: the processes work in it.
    _folder: TempDir,
}

impl Fleet {
    /// Agent, router, logs and traces, each in a process of its own with its file of `compose/`, so with tail sampling. `jobs`
    /// are the agent's `scrape_configs`.
    pub(crate) fn split(jobs: &Value) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let (logs_port, traces_port, spans) = (port::free(), port::free(), port::free());
        let logs = logs(logs_port, path)?.started()?;
        let traces = traces(traces_port, spans, port::free(), path)?.started()?;
        let router = Router::new();
        let mut config = router.config();
        config["processors"] = json!({"tail_sampling": {"decision_wait": "3s"}});
        config["exporters"] = json!({
            "otlp/traces": {"endpoint": local(spans)},
            "otlphttp/logs": {"endpoint": format!("{}/otlp", url(logs_port))},
        });
        let agent = agent(port::free(), logs_port, jobs, path)?.started()?;
        let ready = router.ready();
        let sender = Service::new("timberline-router", "router.yaml", &config, path, ready)?.started()?;
        Ok(router.fleet(logs_port, traces_port, vec![agent, sender, traces, logs], folder))
    }

    /// All in one process, every trace kept.
    pub(crate) fn all_in_one(jobs: &Value) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let (logs, traces, router) = (port::free(), port::free(), Router::new());
        let config = json!({
            "logs": {"server": server(logs)},
            "traces": {"server": server(traces)},
            "router": router.config(),
            "agent": agent_config(port::free(), jobs, path),
        });
        let service =
            Service::new("timberline", "timberline.yaml", &config, path, format!("{}/ready", url(logs)))?;
        let data = path.join("data").display().to_string();
        let service = service.arg("--data").arg(data).started()?;
        Ok(router.fleet(logs, traces, vec![service], folder))
    }

    /// Kills everything on the spot, and starts it again.
    pub(crate) fn cut_power(&mut self) -> Result<()> {
        self.services.iter_mut().try_for_each(Service::kill)?;
        self.services.iter_mut().rev().try_for_each(Service::start)
    }

    /// Makes blocks of everything that the stores hold in memory.
    pub(crate) fn flush(&self) -> Result<()> {
        self.loki.flush()?;
        self.tempo.flush()
    }

    /// Ends everything in good order.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.services.iter_mut().try_for_each(Service::stop)
    }
}

/// Where a router listens.
struct Router {
    grpc: u16,
    http: u16,
    health: u16,
    metrics: u16,
}

impl Router {
    fn new() -> Self {
        Self { grpc: port::free(), http: port::free(), health: port::free(), metrics: port::free() }
    }

    fn config(&self) -> Value {
        let reader = json!({"host": "127.0.0.1", "port": self.metrics});
        json!({
            "extensions": {"health_check": {"endpoint": local(self.health)}},
            "receivers": {"otlp": otlp(self.grpc, self.http)},
            "service": {"telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": reader}}}]}}},
        })
    }

    fn ready(&self) -> String {
        url(self.health)
    }

    fn fleet(&self, logs: u16, traces: u16, services: Vec<Service>, folder: TempDir) -> Fleet {
        Fleet {
            loki: Loki(url(logs)),
            tempo: Tempo(url(traces)),
            otlp_grpc: local(self.grpc),
            otlp_http: local(self.http),
            router_metrics: format!("{}/metrics", url(self.metrics)),
            services,
            _folder: folder,
        }
    }
}

/// The log store on this port, with the shipped configuration.
pub(crate) fn logs(port: u16, folder: &Path) -> Result<Service> {
    logs_with(port, folder, json!({}))
}

/// The log store with more settings.
pub(crate) fn logs_with(port: u16, folder: &Path, mut settings: Value) -> Result<Service> {
    settings["server"] = server(port);
    settings["common"] = json!({"path_prefix": folder.join("logs")});
    Service::new("timberline-logs", "logs.yaml", &settings, folder, format!("{}/ready", url(port)))
}

/// The trace store on this port, with the shipped configuration; spans come in on the others.
pub(crate) fn traces(port: u16, grpc: u16, http: u16, folder: &Path) -> Result<Service> {
    traces_with(port, grpc, http, folder, json!({}))
}

/// The trace store with more settings.
pub(crate) fn traces_with(
    port: u16,
    grpc: u16,
    http: u16,
    folder: &Path,
    mut settings: Value,
) -> Result<Service> {
    let (wal, blocks) = (folder.join("traces/wal"), folder.join("traces/blocks"));
    settings["server"] = server(port);
    settings["distributor"] = json!({"receivers": {"otlp": otlp(grpc, http)}});
    settings["storage"] = json!({"trace": {"wal": {"path": wal}, "local": {"path": blocks}}});
    Service::new("timberline-traces", "traces.yaml", &settings, folder, format!("{}/ready", url(port)))
}

/// The agent on this port, sending to a log store.
pub(crate) fn agent(port: u16, logs: u16, jobs: &Value, folder: &Path) -> Result<Service> {
    let mut config = agent_config(port, jobs, folder);
    let backoff = json!({"min_period": "50ms", "max_period": "200ms"});
    let push = format!("{}/loki/api/v1/push", url(logs));
    config["clients"] = json!([{"url": push, "batchwait": "100ms", "backoff_config": backoff}]);
    Service::new("timberline-agent", "agent.yaml", &config, folder, format!("{}/ready", url(port)))
}

fn agent_config(port: u16, jobs: &Value, folder: &Path) -> Value {
    let mut server = server(port);
    // Tests begin before there is anything to read.
    server["health_check_target"] = json!(false);
    json!({
        "server": server,
        "positions": {"filename": folder.join("positions.yaml"), "sync_period": "100ms"},
        "target_config": {"sync_period": "100ms"},
        "scrape_configs": jobs,
    })
}

fn server(port: u16) -> Value {
    json!({"http_listen_address": "127.0.0.1", "http_listen_port": port, "grpc_listen_port": 0})
}

fn otlp(grpc: u16, http: u16) -> Value {
    json!({"protocols": {"grpc": {"endpoint": local(grpc)}, "http": {"endpoint": local(http)}}})
}

/// `host:port` on this machine.
pub(crate) fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The URL of a port on this machine.
pub(crate) fn url(port: u16) -> String {
    format!("http://{}", local(port))
}
