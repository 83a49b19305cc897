//! JSON or console logs with trace context, and OTLP export of traces and logs, for Rust services.
//!
//! Write `tracing` spans and events as ever; [`init`] makes of them, on standard error, lines like
//!
//! ```json
//! {"timestamp":"2026-11-21T12:00:00.123456Z","level":"info","service":"checkout","target":"checkout::pay","message":"paid","order":17,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","trace_sampled":true}
//! ```
//!
//! and, where the environment or [`Settings`] name a collector, exports spans and events over OTLP. See the README for the
//! variables that are obeyed. Export runs on a thread of its own behind a bounded queue: a collector that is slow or dead costs
//! the application nothing but the spans and records it could not take, which are counted ([`Guard::dropped`]).

mod environment;
mod export;
mod fields;
mod lines;
mod logs;
pub mod propagation;

use std::{fmt, io::Write, sync::Arc, time::Duration};

use tracing::{Metadata, Subscriber, level_filters::LevelFilter, subscriber::DefaultGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::dynamic_filter_fn, layer::SubscriberExt, reload,
    util::SubscriberInitExt,
};

use environment::{Environment, Plan};
use export::Export;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// `ts=… level=… msg=…`.
    Logfmt,
    /// Text for people.
    Console,
}

/// What [`init`] needs to know. The environment's `OTEL_*` and `RUST_LOG` variables win over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    service: String,
    version: Option<String>,
    format: Format,
    level: Option<String>,
    endpoint: Option<String>,
}

impl Settings {
    /// Settings for a service of this name: JSON lines, level `info`, export only if the environment asks for it.
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
    #[error(
        "`{0}` is not a log level: use trace, debug, info, warn, error, off, or directives such as `info,h2=warn`"
    )]
    Level(String),
    /// Something else installed a subscriber first.
    #[error("a tracing subscriber is already installed")]
    AlreadyInstalled,
    /// The export thread could not be started.
    #[error("cannot start the export thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Checks that `directives` are a level (`debug`) or a list of directives (`info,h2=warn`).
pub fn check_level(directives: &str) -> Result<(), InitError> {
    filter(directives).map(|_| ())
}

/// Targets that say much at low levels and nothing about the application, unless asked for by name. The SDK's own complaints
/// are off: [`export`] says once what they would say for every batch.
const QUIET: [&str; 8] = [
    "opentelemetry=off",
    "h2=info",
    "hyper=info",
    "hyper_util=info",
    "tonic=info",
    "tower=info",
    "reqwest=info",
    "rustls=info",
];

fn filter(directives: &str) -> Result<EnvFilter, InitError> {
    let wrong = || InitError::Level(directives.to_owned());
    let mut all: Vec<&str> = directives.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    for part in &all {
        // A word alone would be taken as a target, all of whose levels are on.
        let level = part.rsplit_once('=').map_or(*part, |(_, level)| level);
        if !part.contains('[') && level.parse::<LevelFilter>().is_err() {
            return Err(wrong());
        }
    }
    for quiet in QUIET {
        let target = quiet.split('=').next().unwrap_or(quiet);
        if !all.iter().any(|part| part.starts_with(target)) {
            all.push(quiet);
        }
    }
    EnvFilter::builder()
        .with_default_directive(LevelFilter::ERROR.into())
        .parse(all.join(","))
        .map_err(|_| wrong())
}

type SetFilter = dyn Fn(EnvFilter, EnvFilter) + Send + Sync;

/// Reads and changes the log level of a running process. Cheap to clone.
#[derive(Clone)]
pub struct LevelHandle {
    current: Arc<std::sync::RwLock<String>>,
    set: Arc<SetFilter>,
}

impl fmt::Debug for LevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LevelHandle").field(&self.get()).finish()
    }
}

impl LevelHandle {
    /// The directives in force, as they were given.
    pub fn get(&self) -> String {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Replaces the directives.
    pub fn set(&self, directives: &str) -> Result<(), InitError> {
        (self.set)(filter(directives)?, filter(directives)?);
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = directives.to_owned();
        Ok(())
    }
}

/// Keeps telemetry alive. Dropping it exports what is queued, for up to two seconds; [`Guard::shutdown`] does so with a time of
/// your choice.
#[derive(Debug)]
#[must_use = "dropping the guard ends export"]
pub struct Guard {
    level: LevelHandle,
    export: Option<Export>,
    /// Tests install for one thread only.
    _local: Option<DefaultGuard>,
}

impl Guard {
    /// The handle to change the level while running.
    pub fn level(&self) -> LevelHandle {
        self.level.clone()
    }

    /// Spans and log records that could not be exported since the start.
    pub fn dropped(&self) -> u64 {
        self.export.as_ref().map_or(0, Export::dropped)
    }

    /// Exports what is queued and ends export; waits no longer than `timeout`. `true` if all was handed over.
    pub fn shutdown(mut self, timeout: Duration) -> bool {
        self.export.take().is_none_or(|export| export.end(timeout))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(export) = self.export.take() {
            export.end(Duration::from_secs(2));
        }
    }
}

/// Installs the global `tracing` subscriber (and takes in records of the `log` crate). Keep the guard until the end of `main`.
pub fn init(settings: Settings) -> Result<Guard, InitError> {
    let plan = environment::plan(settings, &Environment::of_process());
    let remarks = plan.remarks.clone();
    let (subscriber, guard) = assemble(plan, Arc::new(standard_error))?;
    subscriber.try_init().map_err(|_| InitError::AlreadyInstalled)?;
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    Ok(guard)
}

/// Takes a finished line. Must not block for long: every thread that logs calls it.
type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

fn standard_error(line: &[u8]) {
    // There is no one left to tell if standard error is gone.
    let _ = std::io::stderr().lock().write_all(line);
}

fn assemble(plan: Plan, sink: Sink) -> Result<(impl Subscriber + Send + Sync, Guard), InitError> {
    let (lines_filter, lines_handle) = reload::Layer::new(filter(&plan.level)?);
    let (logs_filter, logs_handle) = reload::Layer::new(filter(&plan.level)?);
    let export = match plan.export.is_on() {
        true => Some(Export::start(&plan)?),
        false => None,
    };
    let lines = lines::Lines::new(plan.service.clone(), plan.format, sink).with_filter(lines_filter);
    let spans = (!plan.disabled).then(|| {
        // Spans exist apart from the level of the lines, so that a quiet service still has traces.
        let wanted =
            |metadata: &Metadata<'_>| metadata.is_span() && *metadata.level() <= tracing::Level::INFO;
        let wanted = dynamic_filter_fn(move |metadata, _| wanted(metadata) && !export::is_exporting());
        let tracer = export::tracer(&plan, export.as_ref());
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(wanted.with_max_level_hint(LevelFilter::INFO))
    });
    let logs = export
        .as_ref()
        .and_then(|export| logs::Logs::new(&plan, export))
        .map(|logs| logs.with_filter(logs_filter));
    let subscriber = Registry::default().with(lines).with(spans).with(logs);
    let level = LevelHandle {
        current: Arc::new(std::sync::RwLock::new(plan.level)),
        set: Arc::new(move |lines, logs| {
            // Fails only when the subscriber is gone.
            let _ = lines_handle.reload(lines);
            let _ = logs_handle.reload(logs);
        }),
    };
    Ok((subscriber, Guard { level, export, _local: None }))
}

#[cfg(test)]
mod tests;
