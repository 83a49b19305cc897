//! JSON or console logs with trace context, and OTLP export of traces and logs, for Rust services.
//!
//! ```no_run
//! let guard = telemetry::init(telemetry::Settings::new("checkout").version("1.4.0"))?;
//! tracing::info!(order = 17, "ready");
//! drop(guard); // flushes what is queued, bounded in time
//! # Ok::<(), telemetry::InitError>(())
//! ```
#![allow(unused)]
pub mod propagation;
use std::time::Duration;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// Text for people.
    Console,
}

/// What [`init`] needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) service: String,
    pub(crate) version: Option<String>,
    pub(crate) format: Format,
    pub(crate) level: Option<String>,
    pub(crate) endpoint: Option<String>,
}

impl Settings {
    /// Settings for a service of this name: JSON lines on standard error, level `info`, export only if the environment asks for it.
    pub fn new(service: impl Into<String>) -> Settings {
        Settings { service: service.into(), version: None, format: Format::Json, level: None, endpoint: None }
    }
    /// Sets `service.version`.
    pub fn version(mut self, version: impl Into<String>) -> Settings {
        self.version = Some(version.into());
        self
    }
    /// Sets the format of the lines.
    pub fn format(mut self, format: Format) -> Settings {
        self.format = format;
        self
    }
    /// Sets the level used when neither `RUST_LOG` nor `OTEL_LOG_LEVEL` says one: `debug`, or directives such as `info,h2=warn`.
    pub fn level(mut self, level: impl Into<String>) -> Settings {
        self.level = Some(level.into());
        self
    }
    /// Exports traces and logs over OTLP/gRPC to this endpoint (`http://host:4317`) unless the environment names another.
    pub fn otlp_endpoint(mut self, endpoint: impl Into<String>) -> Settings {
        self.endpoint = Some(endpoint.into());
        self
    }
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The level is not one.
    #[error("log level `{0}` is not valid: use trace, debug, info, warn, error, or directives such as `info,h2=warn`")]
    Level(String),
    /// Something else installed a subscriber first.
    #[error("a tracing subscriber is already installed")]
    AlreadyInstalled,
}

/// Reads and changes the log level of a running process.
#[derive(Clone, Debug)]
pub struct LevelHandle {}
impl LevelHandle {
    /// The directives in force.
    pub fn get(&self) -> String {
        String::new()
    }
    /// Replaces the directives.
    pub fn set(&self, directives: &str) -> Result<(), InitError> {
        Ok(())
    }
}

/// Keeps telemetry alive; flushes on drop.
#[derive(Debug)]
pub struct Guard {}
impl Guard {
    /// The handle to change the level while running.
    pub fn level(&self) -> LevelHandle {
        LevelHandle {}
    }
    /// Spans and log records that could not be exported since the start.
    pub fn dropped(&self) -> u64 {
        0
    }
    /// Exports what is queued and ends export; waits no longer than `timeout`. `true` if all went out.
    pub fn shutdown(self, timeout: Duration) -> bool {
        true
    }
}

/// Installs the global subscriber.
pub fn init(settings: Settings) -> Result<Guard, InitError> {
    Ok(Guard {})
}

/// Checks that `directives` are a level or a list of directives.
pub fn check_level(directives: &str) -> Result<(), InitError> {
    tracing_subscriber::EnvFilter::try_new(directives)
        .map(|_| ())
        .map_err(|_| InitError::Level(directives.to_owned()))
}
