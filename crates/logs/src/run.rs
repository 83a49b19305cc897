//! The service as a whole: opened, then handed to a process that runs it.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use blob::Blob;
use block::{DiskIngestLog, Store, StoreTasks};
use bytes::Bytes;
use disk::LogOptions;
use futures::future::BoxFuture;
use model::TenantId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use service::{BuildInfo, CancellationToken, Cli, Failure, Metrics, Phase, Process, Server, Standard};
use wire::loki::PushRequest;
use wire::otlp::Format;

use crate::api::{self, App, Control, INTERFACE_VERSION, NO_AUTH_TENANT};
use crate::compact::{Compactor, CompactorMetrics, Retentions};
use crate::config::Config;
use crate::deletes::Deletes;
use crate::ingest::Ingest;
use crate::metrics::{IngestMetrics, LiveMetrics, SourceMetrics};
use crate::overrides::Overrides;
use crate::patterns::Patterns;
use crate::query::run::Querier;
use crate::ruler::{Places, Ruler};
use crate::runtime_config::RuntimeConfig;
use crate::store::signal::LogsSignal;

/// Size of a segment of the ingest log.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The service, opened but not running.
pub struct Logs {
    config: Arc<Config>,
    handle: LogsHandle,
    tasks: StoreTasks<LogsSignal>,
    compactor: Compactor,
    runtime_config: RuntimeConfig,
}

/// A hand on the service for others in the same process. Cheap to clone.
#[derive(Clone)]
pub struct LogsHandle {
    app: Arc<App>,
}

impl LogsHandle {
    /// Takes an `ExportLogsServiceRequest`. When this returns, the good records are durable and the next query sees them; the
    /// failure tells of the others.
    pub async fn push_otlp(&self, tenant: &TenantId, body: Bytes, format: Format) -> Result<(), Failure> {
        self.app.ingest.push_otlp(tenant, body, format).await
    }

    /// Takes a push, under the same promise.
    pub async fn push(&self, tenant: &TenantId, request: PushRequest) -> Result<(), Failure> {
        self.app.ingest.push(tenant, request).await
    }

    /// Makes blocks of everything in memory.
    pub async fn flush(&self) -> Result<(), Failure> {
        self.app.store.flush().await.map_err(|e| Failure::unavailable(e.to_string(), None))
    }

    /// How many live tails there are.
    pub fn tails(&self) -> usize {
        self.app.ingest.tails().count()
    }

    /// The tenant of data that names none.
    pub fn default_tenant() -> TenantId {
        TenantId::parse(NO_AUTH_TENANT).expect("a plain word is a tenant id")
    }

    /// Loki's API.
    pub fn router(&self) -> Router {
        api::router(self.app.clone())
    }
}

impl Logs {
    /// Opens the bucket and the ingest log and replays the log. Starts nothing.
    pub async fn open(config: Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let blob = Blob::from_config(&config.blob()).context("cannot open the object store")?;
        let wal = config.wal_dir();
        std::fs::create_dir_all(&wal).with_context(|| format!("cannot make the folder {}", wal.display()))?;
        let (log, recovered) = DiskIngestLog::open(&wal, LogOptions { segment_bytes: SEGMENT_BYTES })
            .with_context(|| format!("cannot open the ingest log in {}", wal.display()))?;
        let (store, tasks) =
            Store::open(LogsSignal::default(), config.store_options(), blob.clone(), log, recovered).await?;
        let metrics = metrics.prefixed("loki");
        metrics.collect(StoreMetrics { store: store.clone() });
        metrics.collect(SourceMetrics { store: store.clone() });
        let limits = Overrides::fixed(config.limits_config.clone());
        let mut runtime_config = RuntimeConfig::new(&config, limits.clone(), &metrics);
        runtime_config.load().await?;
        let patterns =
            config.pattern_ingester.enabled.then(|| Arc::new(Patterns::new(config.pattern_ingester.clone())));
        let compacting = CompactorMetrics::register(&metrics);
        let deletes = Deletes::new(store.clone(), limits.clone(), &config.compactor, compacting.clone());
        let deletes = Arc::new(deletes);
        let retentions = Retentions::new(limits.clone(), config.compactor.retention_enabled);
        let compactor = Compactor::new(
            store.clone(),
            retentions.clone(),
            deletes.clone(),
            config.compactor.clone(),
            compacting,
        );
        let max_body = config.distributor.max_decompressed_size.as_usize();
        let ingest = Ingest::new(store.clone(), limits.clone(), IngestMetrics::register(&metrics), max_body);
        let ingest = Arc::new(ingest.with_patterns(patterns.clone()));
        metrics.collect(LiveMetrics { ingest: ingest.clone(), patterns: patterns.clone() });
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let parallel = if config.querier.max_concurrent == 0 { cores } else { config.querier.max_concurrent };
        let (files, files_only) = config.rule_files();
        let places = Places { files: &files, files_only, wal: &config.ruler_wal_dir() };
        // Rules have permits of their own, so that neither they nor people's queries wait for the others.
        let querier = || Querier::new(store.clone(), parallel).hiding(deletes.clone(), retentions.clone());
        let ruler = Ruler::open(&config.ruler, &places, blob, Arc::new(querier()), limits.clone(), &metrics)
            .context("cannot open the ruler")?;
        let app = App {
            ruler: Arc::new(ruler),
            ingest,
            querier: querier(),
            store,
            deletes,
            limits,
            auth_enabled: config.auth_enabled.unwrap_or(false),
            max_body: config.distributor.max_recv_msg_size.as_usize(),
            patterns,
            multi_tenant_queries: config.querier.multi_tenant_queries_enabled,
            tail_max_duration: config.querier.tail_max_duration.get(),
            control: Control::default(),
        };
        let handle = LogsHandle { app: Arc::new(app) };
        Ok(Self { config: Arc::new(config), handle, tasks, compactor, runtime_config })
    }

    /// A handle for use in the same process.
    pub fn handle(&self) -> LogsHandle {
        self.handle.clone()
    }

    /// The work behind the store, for those who run it themselves; see [`Logs::register`].
    pub fn into_tasks(self) -> impl FnOnce(CancellationToken) -> BoxFuture<'static, ()> {
        let ruler = self.handle.app.ruler.clone();
        move |cancel| {
            Box::pin(async move {
                let overrides = self.runtime_config.run(cancel.clone());
                let compactor = self.compactor.run(cancel.clone());
                tokio::join!(ruler.run(cancel.clone()), overrides, compactor, self.tasks.run(cancel));
            })
        }
    }

    /// Binds the listener and gives every task to the process: the store runs until all else has ended, and is flushed before.
    pub fn register(self, process: &mut Process) -> anyhow::Result<LogsHandle> {
        let Self { config, handle, tasks, compactor, runtime_config } = self;
        let health = process.health().scope("logs");
        handle.app.control.attach(&health, process);
        let component = health.component("ingester");
        let listener = config.server.listen_http()?;
        let standard = Standard::new(&health, process.metrics()).config(&*config).build_info(
            "/loki/api/v1/status/buildinfo",
            BuildInfo::new(process.program(), INTERFACE_VERSION),
        );
        let mut routes = standard.router().merge(handle.router());
        let prefix = config.server.http_path_prefix.trim_end_matches('/');
        if !prefix.is_empty() {
            routes = Router::new().nest(prefix, routes);
        }
        let server = Server::new("logs-http")
            .http(routes)
            .limits(config.server.limits())
            .metrics(&process.metrics().prefixed("loki"));
        tracing::info!(address = %listener.address(), data = %config.data_dir().display(), "logs are taken and queried here");
        process.task("logs/store", Phase::Stop, move |stop| async move {
            tasks.run(stop).await;
            Ok(())
        });
        process.task("logs/overrides", Phase::Finish, move |stop| async move {
            runtime_config.run(stop).await;
            Ok(())
        });
        process.task("logs/compactor", Phase::Finish, move |stop| async move {
            compactor.run(stop).await;
            Ok(())
        });
        let store = handle.app.store.clone();
        process.at(Phase::Flush, "logs/flush", move || async move { Ok(store.flush().await?) });
        process.task("logs/ingester", Phase::Finish, move |stop| async move {
            component.ready();
            stop.cancelled().await;
            Ok(())
        });
        let ruler = handle.app.ruler.clone();
        process.task("logs/ruler", Phase::Finish, move |stop| async move {
            ruler.run(stop).await;
            Ok(())
        });
        process.task("logs/http", Phase::Drain, move |drain| server.serve(listener, drain));
        Ok(handle)
    }
}

/// Opens the service and registers its tasks: what a binary's `main` needs.
pub async fn build(cli: &Cli, mut config: Config, process: &mut Process) -> anyhow::Result<LogsHandle> {
    check_roles(cli, &config)?;
    // In a file an absent key means what it means to Loki.
    config.auth_enabled.get_or_insert(!cli.config.is_empty());
    Logs::open(config, process.metrics()).await?.register(process)
}

/// All roles in one process is what there is so far.
fn check_roles(cli: &Cli, config: &Config) -> anyhow::Result<()> {
    const ROLES: [(&str, &str); 5] = [
        ("distributor", "distributor"),
        ("ingester", "ingester"),
        ("querier", "querier"),
        ("compactor", "compactor"),
        ("ruler", "ruler"),
    ];
    let mut cli = cli.clone();
    if cli.role.is_empty() {
        cli.role = config.target.split(',').map(|role| role.trim().to_owned()).collect();
    }
    if let [role] = cli.role.as_slice()
        && matches!(role.as_str(), "all" | "")
    {
        return Ok(());
    }
    let roles = cli.roles(&ROLES)?;
    if roles.len() < ROLES.len() {
        anyhow::bail!(
            "role {} cannot run alone: splitting needs the ingest log in the bucket, which is not built yet: use --role=all",
            roles.join(",")
        );
    }
    Ok(())
}

/// Figures of the store, read at each scrape.
struct StoreMetrics {
    store: Arc<Store<LogsSignal>>,
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreMetrics")
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.store.stats();
        let streams: usize = self.store.tenants().iter().map(|tenant| self.memory_streams(tenant)).sum();
        let gauges: [(&str, &str, f64); 6] = [
            ("loki_ingester_memory_streams", "Streams in memory", streams as f64),
            ("loki_ingester_head_rows", "Rows that are in no block yet", stats.head_rows as f64),
            (
                "loki_ingester_unflushed_bytes",
                "Memory of rows that are in no block yet",
                stats.unflushed_bytes as f64,
            ),
            ("loki_ingester_frozen_heads", "Heads waiting to be made into blocks", stats.frozen_heads as f64),
            ("loki_store_blocks", "Blocks of all tenants", stats.blocks as f64),
            ("loki_store_block_bytes", "Bytes of all blocks", stats.block_bytes as f64),
        ];
        for (name, help, value) in gauges {
            ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?)?;
        }
        let counters: [(&str, &str, f64); 7] = [
            ("loki_ingester_wal_records", "Records written to the ingest log", stats.appended_records as f64),
            ("loki_ingester_wal_bytes", "Bytes of those records", stats.appended_bytes as f64),
            ("loki_ingester_wal_commits", "Commits of the ingest log", stats.commits as f64),
            (
                "loki_ingester_wal_commit_failures",
                "Commits of the ingest log that failed",
                stats.commit_failures as f64,
            ),
            (
                "loki_ingester_wal_replayed_records",
                "Records read back at the start",
                stats.replayed_records as f64,
            ),
            ("loki_ingester_flushes", "Heads made into blocks", stats.flushes as f64),
            ("loki_ingester_flush_failures", "Attempts to do so that failed", stats.flush_failures as f64),
        ];
        for (name, help, value) in counters {
            ConstCounter::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Counter,
            )?)?;
        }
        let labels = vec![("version", INTERFACE_VERSION), ("revision", env!("CARGO_PKG_VERSION"))];
        let mut family =
            encoder.encode_descriptor("loki_build_info", "What runs here", None, MetricType::Gauge)?;
        ConstGauge::new(1i64).encode(family.encode_family(&labels)?)
    }
}

impl StoreMetrics {
    fn memory_streams(&self, tenant: &TenantId) -> usize {
        self.store.snapshot(tenant).heads.last().map_or(0, |head| head.streams())
    }
}
