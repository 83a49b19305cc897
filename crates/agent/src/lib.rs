//! Plays Promtail: tails container logs and files, runs pipelines, ships to the log store.
//!
//! For each client one thread reads all files ([`tail`]); what it reads runs through the job's stages ([`pipeline`]) into the
//! client's bounded queue ([`client`]). A file's position moves when its client has the lines acknowledged ([`progress`]), so the
//! files are the queue: while one store is away, they wait for it, and the other clients go on. Every line names the bytes it
//! came from ([`source`]), so that our store takes it once.
//!
//! What one configuration comes to is in two parts, `inputs` (what reads) and `outlets` (stages, limits, clients); `run` holds
//! both and replaces them at a reload. The pages and `explain` look at it through `board`.

mod args;
mod board;
pub mod client;
pub mod config;
mod discovery;
mod dispatch;
mod dry_run;
pub mod entry;
mod explain;
pub mod extracted;
mod inputs;
mod inspect;
mod json_text;
mod limits;
mod live_metrics;
pub mod metrics;
mod outlets;
mod pages;
pub mod pipeline;
pub mod positions;
pub mod progress;
mod run;
pub mod source;
mod spool;
mod stdin;
pub mod tail;
mod targets;
mod tasks;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
pub use model::relabel;
use service::config::Loaded;
use service::{BuildInfo, Cli, Phase, Process, Program, Server};

pub use args::Args;
use client::LocalStore;
pub use config::Config;
use metrics::AgentMetrics;
use outlets::World;
use run::Agent;
pub use run::Reread;
use targets::TargetMetrics;

/// The version of Promtail whose configuration and metrics these are.
const PROMTAIL: &str = "3.5.9";

/// The whole of the agent's `main`.
pub fn main(program: &'static Program) -> ExitCode {
    // Flags that cannot be read are reported by the start of the service.
    if let Ok(args) = service::cli::parse::<Args>(program.name, std::env::args_os()) {
        match args.explain() {
            Ok(None) => {}
            Ok(Some(file)) => return explain::command(&args, &file, program),
            Err(problem) => {
                eprintln!("{}: {problem}", program.name);
                return ExitCode::from(2);
            }
        }
        // What is wrong only where lines are read, and where there is no other store in the process.
        if let (true, Ok(Loaded { mut config, .. })) = (args.cli.check, service::read::<Config>(&args.cli)) {
            args.apply(&mut config);
            if let Some(problem) = config.idle_job().or(config.lacks_client()) {
                eprintln!("{}: {problem}", program.name);
                return ExitCode::FAILURE;
            }
        }
    }
    service::start::<Args, Config>(program, async |args, mut config, process| {
        args.apply(&mut config);
        if args.log_config_reverse_order {
            service::config::print(&config).lines().rev().for_each(|line| tracing::info!("{line}"));
        }
        let again = args.clone();
        let reread: Reread = Arc::new(move || {
            let mut loaded = service::read::<Config>(&again.cli)?;
            for remark in service::remarks(&loaded) {
                tracing::warn!("{remark}");
            }
            again.apply(&mut loaded.config);
            Ok(loaded.config)
        });
        build_with(&args, config, None, Some(reread), process).map(drop)
    })
}

/// Builds the agent into a process: opens positions, binds its listener and adds its tasks, starts nothing. Where `local`
/// is given and the configuration names no client, lines go there.
pub fn build(
    cli: &Cli,
    config: Config,
    local: Option<Arc<dyn LocalStore>>,
    process: &mut Process,
) -> Result<SocketAddr> {
    let args = Args { cli: cli.clone(), ..Args::default() };
    build_with(&args, config, local, None, process)
}

/// As [`build`], with all flags, and a way to read the configuration again: SIGHUP and `/reload` take it. The address is
/// 0.0.0.0:0 where the configuration wants no listener.
pub fn build_with(
    args: &Args,
    config: Config,
    local: Option<Arc<dyn LocalStore>>,
    reread: Option<Reread>,
    process: &mut Process,
) -> Result<SocketAddr> {
    args.cli.roles(&[("agent", ())])?;
    let world = World {
        metrics: AgentMetrics::new(process.metrics()),
        target_metrics: TargetMetrics::new(process.metrics()),
        local,
        dry_run: args.dry_run,
        inspect: args.inspect,
    };
    const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    if config.target_config.stdin {
        stdin::build(config, &world, process)?;
        return Ok(NOWHERE);
    }
    let is_default = config.is_unconfigured();
    let config = with_defaults(config, world.local.is_some()).map_err(anyhow::Error::msg)?;
    let (server, jobs) = (config.server.clone(), config.scrape_configs.len());
    let (can_reload, has_store) = (reread.is_some(), world.local.is_some());
    let settled = |reread: Reread| Arc::new(move || with_defaults(reread()?, has_store)) as Reread;
    let reread = reread.map(settled);
    let (agent, live, reloads) = Agent::build(config, world, reread)?;
    process.metrics().collect(live_metrics::LiveMetrics(live.clone()));
    process.metrics().prefixed("promtail").build_info(&BuildInfo::new(process.program(), PROMTAIL));
    process.task("agent", Phase::Drain, move |stop| agent.run(stop));
    if can_reload {
        let asked = reloads.clone();
        process.on_reload("agent", move || asked.ask());
    }

    let health = process.health().scope("agent");
    let component = health.component("targets");
    component.ready();
    process.at(Phase::Stop, "agent/health", move || async move {
        component.stopping();
        Ok(())
    });
    if server.disable == Some(true) {
        tracing::info!(jobs, "agent runs without a listener");
        return Ok(NOWHERE);
    }
    let listener = server.listen_http()?;
    let address = listener.address();
    let wants_target = !is_default && server.health_check_target != Some(false);
    let reloads = (server.enable_runtime_reload == Some(true)).then_some(reloads);
    let pages = pages::router(live, reloads, wants_target, &health, process);
    let http = Server::new("agent-http").http(server.mount(pages)).limits(server.limits());
    process.task("agent/http", Phase::Stop, move |drain| http.serve(listener, drain));
    tracing::info!(%address, jobs, "agent listens");
    Ok(address)
}

/// What is to be read where nothing was configured, and where it goes unless there is a store in the process.
fn with_defaults(mut config: Config, has_store: bool) -> Result<Config, String> {
    if config.is_unconfigured() {
        let defaults = service::config::from_text::<Config>(Config::UNCONFIGURED);
        let defaults = defaults.map_err(|problems| problems.to_string())?.config;
        config.scrape_configs = defaults.scrape_configs;
        if !has_store {
            config.clients = defaults.clients;
        }
    }
    match config.idle_job() {
        Some(problem) => Err(problem),
        None => Ok(config),
    }
}
