//! A whole service: configuration, one route, a background task. `cargo run -p service --example minimal -- --help`

use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use service::{
    Cli, Failure, Phase, Process, Program, Server, ServerConfig, Standard,
    axum::routing::get,
    config::{self, Duration, Logging, Problems, Unneeded},
};

static PROGRAM: Program = service::program!("minimal");

fn main() -> ExitCode {
    service::start::<Cli, Config>(&PROGRAM, async |_cli, config, process| build(config, process))
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    server: ServerConfig,
    linger: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { server: ServerConfig::on_ports(3100, 9095), linger: Duration::default() }
    }
}

impl config::Config for Config {
    fn unneeded() -> Unneeded {
        Unneeded::new(&["schema_config"]).with("server", ServerConfig::unneeded())
    }

    fn check(&self, problems: &mut Problems) {
        self.server.check("server", problems);
        if self.linger.get() > self.grace() {
            problems.add("linger", "must not be longer than server.graceful_shutdown_timeout");
        }
    }

    fn logging(&self) -> Logging {
        self.server.logging()
    }

    fn grace(&self) -> std::time::Duration {
        self.server.graceful_shutdown_timeout.get()
    }
}

fn build(config: Config, process: &mut Process) -> anyhow::Result<()> {
    let listener = config.server.listen_http()?;
    let worker = process.health().component("worker");
    let standard = Standard::new(process.health(), process.metrics()).config(&config);
    let routes = standard.router().route("/limited", get(limited));
    let server = Server::new("http")
        .http(config.server.mount(routes))
        .limits(config.server.limits())
        .metrics(&process.metrics().prefixed("minimal"));
    process.task("worker", Phase::Finish, move |stop| async move {
        worker.ready();
        stop.cancelled().await;
        tokio::time::sleep(config.linger.get()).await;
        Ok(())
    });
    process.task("http", Phase::Drain, move |drain| server.serve(listener, drain));
    Ok(())
}

async fn limited() -> Result<&'static str, Failure> {
    Err(Failure::limited("come back later", Some(std::time::Duration::from_secs(2))))
}
