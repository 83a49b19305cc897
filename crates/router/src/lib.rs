//! Plays the OpenTelemetry Collector: receives OTLP, samples whole traces, exports.
//!
//! A pipeline is a chain of [`data::Consumer`]s built from its end ([`graph`](self)). Requests stay the
//! bytes they came as; a consumer's error travels back to the sender.

pub mod components;
pub mod config;
pub mod data;
pub mod exporters;
mod graph;
pub mod metrics;
pub mod processors;
pub mod queue;
pub mod receiver;
pub mod sampling;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use otlp::Door;
use service::config::Problems;
use service::{Cli, Failure, Limits, Listener, Phase, Process, Server, Standard, TlsConfig};
use wire::otlp::Signal;

use components::{Components, HealthCheckConfig};
pub use config::Config;
use data::{Consumer, Data};
use metrics::ReceiverMetrics;
use receiver::{OtlpReceiver, OtlpReceiverConfig};

/// Bytes of a gRPC message unless configured: room for what batching SDKs and collectors send.
const GRPC_BYTES: usize = 16 << 20;

/// The stores of the same process, for the exporter type `embedded`.
#[derive(Clone)]
pub struct Embedded {
    /// Takes OTLP traces.
    pub traces: Arc<dyn Consumer>,
    /// Takes OTLP logs.
    pub logs: Arc<dyn Consumer>,
}

impl Consumer for Embedded {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        match data.signal {
            Signal::Traces => self.traces.consume(data),
            Signal::Logs => self.logs.consume(data),
        }
    }
}

/// Where the router listens, with real ports.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// OTLP over gRPC.
    pub grpc: Vec<SocketAddr>,
    /// OTLP over HTTP.
    pub http: Vec<SocketAddr>,
    /// Metrics.
    pub metrics: Option<SocketAddr>,
    /// Health.
    pub health: Option<SocketAddr>,
}

/// Builds the router into a process: binds its listeners and adds its tasks, starts nothing.
pub fn build(
    cli: &Cli,
    config: Config,
    embedded: Option<Embedded>,
    process: &mut Process,
) -> Result<Addresses> {
    cli.roles(&[("gateway", ()), ("sampler", ())]).context("the router has the roles gateway and sampler")?;
    let config = if config.is_unconfigured() { unconfigured()? } else { config };
    let mut problems = Problems::default();
    let components = Components::read(&config, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let entrances = graph::build(&components, embedded.as_ref(), process)?;
    let health = process.health().scope("router");
    let metrics = ReceiverMetrics::new(&process.metrics().prefixed("otelcol"));
    let mut addresses = Addresses::default();
    for (id, receiver) in &components.receivers {
        let entrance = |signal| entrances.get(&(id.clone(), signal)).cloned();
        let (traces, logs) = (entrance(Signal::Traces), entrance(Signal::Logs));
        if traces.is_some() || logs.is_some() {
            let sink = OtlpReceiver { id: id.clone(), traces, logs, metrics: metrics.clone() };
            listen(id, receiver, sink, process, &mut addresses)?;
        }
    }
    // Ready once every listener is bound: from here on the kernel holds connections for us.
    let component = health.component("pipelines");
    component.ready();
    process.at(Phase::Stop, "router/pipelines", move || async move {
        component.stopping();
        Ok(())
    });
    let standard = Standard::new(&health, process.metrics()).config(&config).router();
    if let Some(address) = config.service.telemetry.metrics.listen() {
        let listener = Listener::bind(&address, "service.telemetry.metrics.readers", &TlsConfig::default())?;
        addresses.metrics = Some(listener.address());
        let server = Server::new("router-metrics").http(standard.clone());
        process.task("router/metrics", Phase::Stop, move |drain| server.serve(listener, drain));
    }
    if let Some(HealthCheckConfig { endpoint, path }) = &components.health_check {
        let listener = Listener::bind(endpoint, "extensions.health_check.endpoint", &TlsConfig::default())?;
        addresses.health = Some(listener.address());
        let checked = health.clone();
        let answer = move || std::future::ready(health_answer(&checked));
        let server =
            Server::new("router-health").http(axum::Router::new().route(path, axum::routing::get(answer)));
        process.task("router/health", Phase::Stop, move |drain| server.serve(listener, drain));
    }
    tracing::info!(?addresses, pipelines = components.pipelines.len(), "router listens");
    Ok(addresses)
}

fn health_answer(health: &service::Health) -> Result<&'static str, Failure> {
    match health.obstacles() {
        obstacles if obstacles.is_empty() => Ok("{\"status\":\"Server available\"}\n"),
        obstacles => Err(Failure::unavailable(obstacles.join("\n"), None)),
    }
}

fn listen(
    id: &str,
    config: &OtlpReceiverConfig,
    sink: OtlpReceiver,
    process: &mut Process,
    addresses: &mut Addresses,
) -> Result<()> {
    let (traces, logs) = (sink.traces.is_some(), sink.logs.is_some());
    let door = Door { sink: Arc::new(sink), max_bytes: 0, traces, logs };
    if let Some(grpc) = &config.protocols.grpc.0 {
        let key = format!("receivers.{id}.protocols.grpc.endpoint");
        let listener = Listener::bind(&grpc.endpoint, &key, &grpc.tls)?;
        addresses.grpc.push(listener.address());
        let max_bytes =
            if grpc.max_recv_msg_size_mib == 0 { GRPC_BYTES } else { grpc.max_recv_msg_size_mib << 20 };
        let door = Door { max_bytes, ..door.clone() };
        let server = Server::new(format!("{id}-grpc")).grpc(otlp::routes(&door));
        process.task(format!("router/{id}/grpc"), Phase::Drain, move |drain| server.serve(listener, drain));
    }
    if let Some(http) = &config.protocols.http.0 {
        let key = format!("receivers.{id}.protocols.http.endpoint");
        let listener = Listener::bind(&http.endpoint, &key, &http.tls)?;
        addresses.http.push(listener.address());
        let door = Door { max_bytes: http.max_request_body_size, ..door };
        let limits = Limits { body: door.max_bytes, ..Limits::default() };
        let server = Server::new(format!("{id}-http")).http(otlp::router(&door)).limits(limits);
        process.task(format!("router/{id}/http"), Phase::Drain, move |drain| server.serve(listener, drain));
    }
    Ok(())
}

/// The configuration of a router that was given none.
pub fn unconfigured() -> Result<Config> {
    Ok(service::config::from_text::<Config>(Config::UNCONFIGURED)?.config)
}
