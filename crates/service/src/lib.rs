//! How a process lives: configuration, command line, tasks, HTTP and gRPC servers, health, metrics, shutdown.
//!
//! A binary is a ten-line `main.rs`, and a library with a config and a `build`:
//!
//! ```ignore
//! // main.rs
//! //! The `timberline-logs` binary.
//! use std::process::ExitCode;
//!
//! static PROGRAM: service::Program = service::program!("timberline-logs");
//!
//! fn main() -> ExitCode {
//!     service::start::<service::Cli, logs::Config>(&PROGRAM, async |cli, config, process| {
//!         logs::build(&cli, config, process).await
//!     })
//! }
//! ```
//!
//! ```ignore
//! // config.rs: each component declares its section beside its code.
//! #[derive(Debug, Clone, Serialize, Deserialize)]
//! #[serde(default)]
//! pub struct Config {
//!     pub server: ServerConfig,
//!     pub ingester: IngesterConfig, // again `#[serde(default)]`, with Default
//! }
//!
//! impl Default for Config {
//!     // The defaults written here hold also for keys left out of a section that the file does have.
//!     fn default() -> Config {
//!         Config { server: ServerConfig::on_ports(3100, 9095), ingester: IngesterConfig::default() }
//!     }
//! }
//!
//! impl service::config::Config for Config {
//!     fn unneeded() -> Unneeded {
//!         Unneeded::new(&["schema_config", "common.ring"])
//!             .with("server", ServerConfig::unneeded())
//!             .with("ingester", Unneeded::new(&["lifecycler", "chunk_encoding"]))
//!     }
//!     fn check(&self, problems: &mut Problems) {
//!         self.server.check("server", problems);
//!         if self.ingester.head.get() == 0 {
//!             problems.add("ingester.head", "must not be 0");
//!         }
//!     }
//!     fn logging(&self) -> Logging {
//!         self.server.logging()
//!     }
//!     fn grace(&self) -> std::time::Duration {
//!         self.server.graceful_shutdown_timeout.get()
//!     }
//! }
//! ```
//!
//! ```ignore
//! // lib.rs: `build` touches the world (opens, binds) and starts nothing; the process owns and runs every task.
//! pub async fn build(cli: &Cli, config: Config, process: &mut Process) -> anyhow::Result<()> {
//!     let roles = cli.roles(&[("distributor", Role::Distributor), ("ingester", Role::Ingester)])?;
//!     let health = process.health().scope("logs"); // the all-in-one has several scopes
//!     let http = config.server.listen_http()?; // `address in use` ends here, naming the key
//!     let ingester = health.component("ingester"); // starting: /ready says 503 until .ready()
//!     let store = Arc::new(Store::open(&config.ingester)?);
//!
//!     let standard = Standard::new(&health, process.metrics())
//!         .config(&config)
//!         .build_info("/loki/api/v1/status/buildinfo", BuildInfo::new(process.program(), "3.7.0"));
//!     let routes = Router::new().route("/loki/api/v1/push", post(push)).with_state(store.clone());
//!     let server = Server::new("logs-http")
//!         .http(standard.router().merge(routes))
//!         .grpc(tonic::service::Routes::new(pusher)) // same port; or a second Server on listen_grpc()
//!         .limits(config.server.limits())
//!         .metrics(&process.metrics().prefixed("loki"));
//!
//!     let commit = store.clone();
//!     process.thread("logs/commit", Phase::Stop, move |stop| commit.run(stop)); // ends last
//!     process.at(Phase::Flush, "logs/flush", move || async move { Ok(store.flush().await?) });
//!     process.task("logs/ingester", Phase::Finish, move |stop| async move {
//!         ingester.ready();
//!         stop.cancelled().await;
//!         Ok(())
//!     });
//!     process.task("logs/http", Phase::Drain, move |drain| server.serve(http, drain));
//!     Ok(())
//! }
//! ```
//!
//! Handlers return `Result<impl IntoResponse, Failure>`: [`failure`] holds the one map to status codes.
//! Tests drive the same `build` with port 0 and [`Listener::address`], and end it through [`Process::shutdown`].

pub mod cli;
pub mod config;
pub mod failure;
pub mod grpc;
pub mod health;
pub mod http;
pub mod listen;
mod memory;
pub mod metrics;
mod probe;
pub mod process;
mod program;
pub mod routes;
pub mod server;
mod signals;
mod start;
pub mod trust;

pub use cli::Cli;
pub use failure::Failure;
pub use health::{ComponentHealth, Health};
pub use http::{Limits, Server};
pub use listen::{ListenError, Listener, TlsConfig};
pub use metrics::Metrics;
pub use process::{Phase, Process, ProcessError, Shutdown};
pub use program::{BuildInfo, Program};
pub use routes::{Configs, Standard};
pub use server::ServerConfig;
pub use start::{read, remarks, start};
pub use telemetry::LevelHandle;
// The versions that signatures of this crate are made of.
pub use {axum, clap, prometheus_client, tokio_util::sync::CancellationToken, tonic};
