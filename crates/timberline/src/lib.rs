//! All four services in one process on a local folder.
//!
//! The router owns the OTLP ports and hands on in process, and so does the agent; what each of them
//! promises is what it promises alone.

mod config;
mod join;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use service::{Cli, Process};

pub use config::Config;

/// The command line.
#[derive(Debug, Clone, clap::Parser)]
pub struct Args {
    #[command(flatten)]
    cli: Cli,
    /// Folder that everything is kept in
    #[arg(long, value_name = "DIR", default_value = "./data")]
    data: PathBuf,
}

impl AsRef<Cli> for Args {
    fn as_ref(&self) -> &Cli {
        &self.cli
    }
}

/// What the router does when nothing is configured: keep everything.
const ROUTER: &str = "
receivers: {otlp: {protocols: {grpc: , http: }}}
exporters: {embedded: }
extensions: {health_check: }
service:
  extensions: [health_check]
  pipelines:
    traces: {receivers: [otlp], exporters: [embedded]}
    logs: {receivers: [otlp], exporters: [embedded]}
";

/// Builds all services into a process: opens the stores, binds the listeners, starts nothing.
pub async fn build(args: Args, config: Config, process: &mut Process) -> Result<()> {
    let Config { agent, logs, traces, router } = config.under(&args.data);
    let data = args.data.display().to_string();
    // Roles are those of single services; here all run.
    let cli = Cli::default();
    let (logs_at, traces_at) = (address(&logs.server), address(&traces.server));
    let logs = logs::build(&cli, logs, process).await?;
    let traces = traces::Traces::open(traces, process.metrics()).await?;
    let traces = traces.register(process, traces::Receivers::HandedOn)?;
    let router = match router.is_unconfigured() {
        true => service::config::from_text::<router::Config>(ROUTER)?.config,
        false => router,
    };
    let embedded = router::Embedded {
        traces: Arc::new(join::TracesSink(traces)),
        logs: Arc::new(join::LogsSink(logs.clone())),
    };
    let otlp = router::build(&cli, router, Some(embedded), process)?;
    let reread: agent::Reread = Arc::new(move || {
        let loaded = service::read::<Config>(&args.cli)?;
        Ok(loaded.config.under(&args.data).agent)
    });
    let (store, args) = (Arc::new(join::LogsStore(logs)), agent::Args::default());
    let agent_at = agent::build_with(&args, agent, Some(store), Some(reread), process)?;
    let list = |addresses: &[std::net::SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    println!(
        "timberline keeps its data in {}\n\
         \x20 logs    http://{logs_at}  as Loki\n\
         \x20 traces  http://{traces_at}  as Tempo\n\
         \x20 OTLP    {} (gRPC)  {} (HTTP)\n\
         \x20 agent   http://{agent_at}  reads this host's containers\n\
         \x20 router  http://{}  metrics",
        data,
        list(&otlp.grpc),
        list(&otlp.http),
        otlp.metrics.map(|a| a.to_string()).unwrap_or_default(),
    );
    Ok(())
}

fn address(server: &service::ServerConfig) -> String {
    format!("{}:{}", server.http_listen_address, server.http_listen_port)
}
