//! Plays Promtail: tails container logs and files, runs pipelines, ships to the log store.
//!
//! One thread reads all files ([`tail`]); what it reads runs through the job's stages ([`pipeline`]) into the
//! clients' bounded queues ([`client`]). A file's position moves when every client has acknowledged
//! ([`progress`]), so the files are the queue: while the store is away, they wait.

pub mod client;
pub mod config;
mod discovery;
mod dispatch;
pub mod entry;
pub mod extracted;
pub mod metrics;
pub mod pipeline;
pub mod positions;
pub mod progress;
pub mod relabel;
pub mod tail;
mod targets;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, anyhow};
use service::config::{ByteSize, Problems};
use service::{BuildInfo, Cli, Phase, Process, Server, Standard};

use client::{Destination, LocalStore, Queue, Remote, Sender};
use config::ClientConfig;
pub use config::Config;
use discovery::{
    Announce, DockerDiscovery, DockerJob, FileDiscovery, FileJob, KubernetesDiscovery, NotRead, group,
};
use dispatch::Dispatcher;
use metrics::{AgentMetrics, StageMetrics};
use pipeline::{Pipeline, begins_with_docker};
use positions::Positions;
use relabel::Relabel;
use tail::{Poller, PollerOptions};
use targets::{Inlets, TargetMetrics};

/// Bytes that may wait for one client.
const QUEUE_BYTES: usize = 8 << 20;
/// Bytes after which a line is cut, unless configured.
const MAX_LINE: ByteSize = ByteSize::mib(1);
/// Commands from discovery that may wait for the reading thread.
const COMMANDS: usize = 1024;

/// Builds the agent into a process: opens positions, binds its listener and adds its tasks, starts nothing. Where `local`
/// is given and the configuration names no client, lines go there.
pub fn build(
    cli: &Cli,
    config: Config,
    local: Option<Arc<dyn LocalStore>>,
    process: &mut Process,
) -> Result<SocketAddr> {
    cli.roles(&[("agent", ())])?;
    let config = with_defaults(config, local.is_some())?;
    check_stages(&config)?;
    let metrics = AgentMetrics::new(process.metrics());
    let positions = Arc::new(Positions::load(&config.positions).context("positions.filename")?);

    let mut queues = Vec::new();
    for (i, (client, destination)) in destinations(&config, local)?.into_iter().enumerate() {
        let queue = Arc::new(Queue::new(QUEUE_BYTES));
        let sender = Sender::new(queue.clone(), destination, client, metrics.clone());
        process.task(format!("agent/client-{i}"), Phase::Finish, move |stop| async move {
            sender.run(stop).await;
            Ok(())
        });
        queues.push(queue);
    }

    let dispatcher = {
        let (config, queues, metrics) = (config.clone(), queues, metrics);
        Arc::new(move || {
            Dispatcher::new(pipelines(&config, &metrics.stages), queues.clone(), metrics.clone())
        })
    };
    let target_metrics = TargetMetrics::new(process.metrics());
    let (commands, received) = sync_channel(COMMANDS);
    let mut targets = Vec::new();
    for (job, scrape) in config.scrape_configs.iter().enumerate() {
        let place = || format!("scrape_configs[{job}]");
        let rules = scrape.relabel_configs.iter().map(Relabel::compile).collect::<Result<Vec<_>, _>>();
        let rules = rules.map_err(|e| anyhow!(e)).with_context(place)?;
        let docker = begins_with_docker(&scrape.pipeline_stages);
        let files = FileJob { job, rules: rules.clone(), docker };
        for labels in scrape.static_configs.iter().flat_map(group) {
            match files.target(labels) {
                Ok(target) if targets.contains(&target) => {}
                Ok(target) => targets.push(target),
                Err(why @ (NotRead::Dropped | NotRead::WrongHost)) => target_metrics.failed(why.reason()),
                Err(why) => return Err(anyhow!(why)).context("static_configs").with_context(place),
            }
        }
        for (i, sd) in scrape.file_sd_configs.iter().enumerate() {
            let name = format!("agent/{}/file-{i}", scrape.job_name);
            let announce = Announce::new(&name, commands.clone());
            let discovery = FileDiscovery::new(files.clone(), sd, announce, target_metrics.clone());
            let discovery = discovery.map_err(|e| anyhow!(e)).with_context(place)?;
            process.task(name, Phase::Drain, move |stop| discovery.run(stop));
        }
        for (i, sd) in scrape.kubernetes_sd_configs.iter().enumerate() {
            let name = format!("agent/{}/kubernetes-{i}", scrape.job_name);
            let announce = Announce::new(&name, commands.clone());
            let discovery = KubernetesDiscovery::new(files.clone(), sd, announce, target_metrics.clone());
            let discovery = discovery.context("kubernetes_sd_configs").with_context(place)?;
            process.task(name, Phase::Drain, move |stop| discovery.run(stop));
        }
        let inlets = Inlets {
            job,
            rules: rules.clone().into(),
            dispatcher: dispatcher.clone(),
            metrics: target_metrics.clone(),
        };
        targets::build(scrape, inlets, &positions, process).with_context(place)?;
        for (i, sd) in scrape.docker_sd_configs.iter().enumerate() {
            let docker = DockerJob { job, config: sd.clone(), rules: rules.clone() };
            let discovery =
                DockerDiscovery::new(docker, commands.clone(), positions.clone(), dispatcher.clone());
            let name = format!("agent/{}/docker-{i}", scrape.job_name);
            process.task(name, Phase::Drain, move |stop| discovery.run(stop));
        }
    }
    drop(commands);

    let max_line = if config.limits_config.max_line_size.get() == 0 {
        MAX_LINE
    } else {
        config.limits_config.max_line_size
    };
    let options = PollerOptions {
        poll: std::time::Duration::from_millis(250),
        sync_period: config.target_config.sync_period.get(),
        max_line: max_line.as_usize(),
    };
    let poller = Poller::new(options, targets, received, positions.clone(), dispatcher());
    process.thread("agent/tail", Phase::Drain, move |stop| {
        poller.run(&stop);
        Ok(())
    });

    let (saved, period) = (positions.clone(), config.positions.sync_period.get());
    process.task("agent/positions", Phase::Flush, move |stop| async move {
        let mut ticks = tokio::time::interval(period);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => break,
            }
            if let Err(error) = saved.save() {
                tracing::error!(error = format!("{error:#}"), "positions cannot be written");
            }
        }
        saved.save()
    });

    let health = process.health().scope("agent");
    let component = health.component("targets");
    component.ready();
    process.at(Phase::Stop, "agent/health", move || async move {
        component.stopping();
        Ok(())
    });
    let listener = config.server.listen_http()?;
    let address = listener.address();
    let info = BuildInfo::new(process.program(), "3.5.9");
    let standard = Standard::new(&health, process.metrics())
        .config(&config)
        .build_info("/api/v1/status/buildinfo", info);
    let server = Server::new("agent-http").http(standard.router()).limits(config.server.limits());
    process.task("agent/http", Phase::Stop, move |drain| server.serve(listener, drain));
    tracing::info!(%address, jobs = config.scrape_configs.len(), "agent listens");
    Ok(address)
}

/// What is to be read where nothing was configured, and where it goes unless there is a store in the process.
fn with_defaults(mut config: Config, has_store: bool) -> Result<Config> {
    if config.is_unconfigured() {
        let defaults = service::config::from_text::<Config>(Config::UNCONFIGURED)?.config;
        config.scrape_configs = defaults.scrape_configs;
        if !has_store {
            config.clients = defaults.clients;
        }
    }
    Ok(config)
}

/// The configured clients; the store of the process where none is.
fn destinations(
    config: &Config,
    local: Option<Arc<dyn LocalStore>>,
) -> Result<Vec<(ClientConfig, Destination)>> {
    let remote = |(i, client): (usize, &ClientConfig)| {
        let remote = Remote::new(client).with_context(|| format!("clients[{i}]"))?;
        Ok((client.clone(), Destination::Remote(Box::new(remote))))
    };
    let remotes = config.all_clients().enumerate().map(remote).collect::<Result<Vec<_>>>()?;
    match (remotes.is_empty(), local) {
        (false, _) => Ok(remotes),
        (true, Some(store)) => Ok(vec![(ClientConfig::default(), Destination::Local(store))]),
        (true, None) => Err(anyhow!("clients: name at least one, with the url of the store")),
    }
}

/// Compiled stages of every job. What is wrong with them has been reported by [`check_stages`] before.
fn pipelines(config: &Config, metrics: &StageMetrics) -> Vec<Pipeline> {
    let compile = |scrape: &config::ScrapeConfig| {
        Pipeline::compile(&scrape.pipeline_stages, metrics, &mut Problems::default())
    };
    config.scrape_configs.iter().map(compile).collect()
}

/// Refuses faulty stages: lines that should have been dropped or changed must not pass as they are.
fn check_stages(config: &Config) -> Result<()> {
    let mut problems = Problems::default();
    let metrics = StageMetrics::default();
    for scrape in &config.scrape_configs {
        Pipeline::compile(&scrape.pipeline_stages, &metrics, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
}
