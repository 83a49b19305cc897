//! Plays Tempo: takes spans over OTLP, answers traces by id, TraceQL and tags over Tempo's HTTP and gRPC APIs.
//!
//! A request becomes durable in the ingest log, then visible in the head; a flush sorts the head by trace into a
//! Parquet block. Queries see heads and blocks as one.

mod api;
mod assemble;
mod columns;
pub mod config;
mod grpc;
mod head;
mod index;
mod ingest;
mod keys;
mod pick;
mod prune;
mod query;
mod receiver;
mod record;
mod scan;
mod schema;
mod shred;
mod signal;
mod sorted;
mod source;
mod stats;
mod tags;
mod tenancy;
mod tree;
mod unneeded;
mod value;

use std::sync::Arc;

use axum::Router;
use blob::Blob;
use block::{DiskIngestLog, Store, StoreOptions, StoreTasks};
use bytes::Bytes;
use disk::LogOptions;
use model::TenantId;
use service::metrics::Metrics;
use service::{BuildInfo, Cli, Failure, Listener, Phase, Process, Server, Standard};
use wire::otlp::Format;

pub use config::Config;

use api::Api;
use ingest::Ingest;
use otlp::Door;
use query::Querier;
use receiver::Receiver;
use signal::TraceSignal;
use tenancy::Tenancy;

/// The version of Tempo whose interface this is; Grafana decides features by it.
const INTERFACE: &str = "3.0.3";
/// Memory for spans in no block, at least.
const MIN_UNFLUSHED_BYTES: usize = 512 << 20;

/// Roles of the service, as `--role` and `-target` name them.
const ROLES: [&str; 6] = ["all", "distributor", "ingester", "querier", "compactor", "generator"];

/// The service, opened but not running.
pub struct Traces {
    config: Arc<Config>,
    handle: TracesHandle,
    tasks: StoreTasks<TraceSignal>,
}

/// A hand on the service for others in the same process. Cheap to clone.
#[derive(Clone)]
pub struct TracesHandle {
    ingest: Ingest,
    api: Api,
}

/// Whether the service listens for OTLP itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receivers {
    /// As the configuration says.
    Listen,
    /// No: another service of the process owns the ports, and hands on with [`TracesHandle::push_otlp`].
    HandedOn,
}

/// Opens the service and registers its tasks: what a binary's `main` needs.
pub async fn build(cli: &Cli, config: Config, process: &mut Process) -> anyhow::Result<TracesHandle> {
    check_roles(cli)?;
    Traces::open(config, process.metrics()).await?.register(process, Receivers::Listen)
}

/// Refuses roles that do not exist, and those that cannot run alone yet.
fn check_roles(cli: &Cli) -> anyhow::Result<()> {
    let known = ROLES.map(|role| (role, role));
    for role in cli.roles(&known[1..])? {
        let asked = cli.role.iter().any(|name| name.trim() == role);
        if asked && !cli.role.iter().any(|name| name.trim() == "all") {
            anyhow::bail!(
                "role `{role}` cannot run by itself yet: splitting the service needs the ingest log in the bucket, which \
                 is not built: run --role=all"
            );
        }
    }
    Ok(())
}

impl Traces {
    /// Opens the ingest log and the bucket and replays the log. Starts nothing.
    pub async fn open(config: Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let storage = &config.storage.trace;
        let (log, recovered) = DiskIngestLog::open(&storage.wal.path, LogOptions::default())?;
        let blob = Blob::from_config(&config.blob())?;
        let head_max_bytes = config.ingester.max_block_bytes.as_usize();
        let options = StoreOptions {
            head_max_bytes,
            head_max_age: config.ingester.max_block_duration.get(),
            max_unflushed_bytes: head_max_bytes.saturating_mul(4).max(MIN_UNFLUSHED_BYTES),
            ..StoreOptions::default()
        };
        let signal = TraceSignal { max_attribute_bytes: config.distributor.max_attribute_bytes.as_usize() };
        let (store, tasks) = Store::open(signal, options, blob, log, recovered).await?;
        metrics.collect(stats::StoreMetrics(store.clone()));
        let config = Arc::new(config);
        let tenancy = Tenancy { is_on: config.multitenancy_enabled };
        let ingest = Ingest::new(store.clone(), metrics);
        let api = Api { querier: Querier { store, config: config.clone() }, tenancy };
        Ok(Self { config, handle: TracesHandle { ingest, api }, tasks })
    }

    /// A handle for use in the same process.
    pub fn handle(&self) -> TracesHandle {
        self.handle.clone()
    }

    /// Runs the store without listeners until cancelled: for those who use only the handle. It does not flush; dropping it
    /// is like a crash.
    pub async fn run(self, cancel: service::CancellationToken) {
        self.tasks.run(cancel).await;
    }

    /// Binds the listeners and gives every task to the process.
    pub fn register(self, process: &mut Process, receivers: Receivers) -> anyhow::Result<TracesHandle> {
        let Self { config, handle, tasks } = self;
        let health = process.health().scope("traces");
        let component = health.component("ingester");
        let metrics = process.metrics().prefixed("tempo");

        let standard = Standard::new(&health, process.metrics())
            .config(&*config)
            .build_info("/api/status/buildinfo", BuildInfo::new(process.program(), INTERFACE));
        let querier = || tonic::service::Routes::new(grpc::StreamingQuerier(handle.api.clone()));
        let mut http = Server::new("traces-http")
            .http(
                standard
                    .router()
                    .merge(status_pages(process.program().describe()))
                    .merge(handle.router())
                    .merge(handle.otlp_router()),
            )
            .limits(config.server.limits())
            .metrics(&metrics);
        if config.stream_over_http_enabled {
            http = http.grpc(querier());
        }
        let mut servers = vec![("traces/http", http, config.server.listen_http()?)];
        let grpc = Server::new("traces-grpc").grpc(querier()).limits(config.server.limits());
        servers.push(("traces/grpc", grpc, config.server.listen_grpc()?));
        if receivers == Receivers::Listen {
            servers.extend(handle.receivers(&config)?);
        }

        let store = handle.api.querier.store.clone();
        process.task("traces/store", Phase::Stop, move |stop| async move {
            tasks.run(stop).await;
            Ok(())
        });
        process.at(Phase::Flush, "traces/flush", move || async move { Ok(store.flush().await?) });
        process.task("traces/ingester", Phase::Finish, move |stop| async move {
            component.ready();
            stop.cancelled().await;
            Ok(())
        });
        for (name, server, listener) in servers {
            process.task(name, Phase::Drain, move |drain| server.serve(listener, drain));
        }
        Ok(handle)
    }
}

impl TracesHandle {
    /// Takes the spans of an encoded `ExportTraceServiceRequest`, all or none. When this returns they are durable, and the
    /// next query sees them.
    pub async fn push_otlp(&self, tenant: &TenantId, body: Bytes) -> Result<(), Failure> {
        self.ingest.push(tenant, body, Format::Protobuf).await
    }

    /// The tenant of data that names none.
    pub fn default_tenant() -> TenantId {
        tenancy::single()
    }

    /// Tempo's HTTP API.
    pub fn router(&self) -> Router {
        api::router(self.api.clone())
    }

    /// OTLP over HTTP: `POST /v1/traces`.
    pub fn otlp_router(&self) -> Router {
        otlp::router(&self.door(config::Http::default().max_request_body_size.as_usize()))
    }

    /// Makes blocks of everything taken so far.
    pub async fn flush(&self) -> Result<(), Failure> {
        let flushed = self.api.querier.store.flush().await;
        flushed.map_err(|e| Failure::unavailable(e.to_string(), None))
    }

    fn door(&self, max_bytes: usize) -> Door {
        let receiver = Receiver { ingest: self.ingest.clone(), tenancy: self.api.tenancy };
        Door { sink: Arc::new(receiver), max_bytes, traces: true, logs: false }
    }

    fn receivers(&self, config: &Config) -> anyhow::Result<Vec<(&'static str, Server, Listener)>> {
        const KEY: &str = "distributor.receivers.otlp.protocols";
        let protocols = config.protocols();
        let mut servers = Vec::new();
        if let Some(grpc) = protocols.grpc.0 {
            let routes = otlp::routes(&self.door(grpc.max_recv_msg_size_mib << 20));
            let server = Server::new("traces-otlp-grpc").grpc(routes).limits(config.server.limits());
            let listener = Listener::bind(&grpc.endpoint, &format!("{KEY}.grpc.endpoint"), &grpc.tls)?;
            servers.push(("traces/otlp-grpc", server, listener));
        }
        if let Some(http) = protocols.http.0 {
            let door = self.door(http.max_request_body_size.as_usize());
            let server =
                Server::new("traces-otlp-http").http(otlp::router(&door)).limits(config.server.limits());
            let listener = Listener::bind(&http.endpoint, &format!("{KEY}.http.endpoint"), &http.tls)?;
            servers.push(("traces/otlp-http", server, listener));
        }
        Ok(servers)
    }
}

/// `/status` and its parts that say something about this process.
fn status_pages(version: String) -> Router {
    let text = |body: String| axum::routing::get(async move || body);
    let all = format!("GET /status/version\n{version}\n");
    Router::new().route("/status", text(all)).route("/status/version", text(format!("{version}\n")))
}
