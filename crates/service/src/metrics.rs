//! The process's metrics registry (prometheus-client): crates register their metrics, `/metrics` writes them out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, text},
    metrics::{family::Family, histogram::Histogram, info::Info},
    registry::{Metric, Registry},
};

mod process;

/// Registry of a process. Cheap to clone. Names get the prefix of the handle they are registered through; counters get
/// `_total` appended when written out, so register `lines_received` to see `loki_distributor_lines_received_total`.
///
/// ```ignore
/// let metrics = process.metrics().prefixed("loki_distributor");
/// let lines = Family::<TenantLabel, Counter>::default();
/// metrics.register("lines_received", "Lines accepted, by tenant", lines.clone());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Arc<Mutex<HashMap<String, RequestSeconds>>>,
    /// Help by name of all that was registered: families without a member are not in the text.
    names: Arc<Mutex<BTreeMap<String, String>>>,
    prefix: String,
}

/// Labels of a server's requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) status_code: String,
}

pub(crate) type RequestSeconds = Family<RequestLabels, Histogram>;

impl Metrics {
    /// A registry that already holds the `process_*` metrics.
    pub fn with_process() -> Metrics {
        let metrics = Metrics::default();
        metrics.collect(process::ProcessMetrics);
        metrics
    }

    /// A handle to the same registry whose names begin with `prefix` and an underscore.
    pub fn prefixed(&self, prefix: &str) -> Metrics {
        Metrics { prefix: format!("{}{prefix}_", self.prefix), ..self.clone() }
    }

    /// Adds a metric; keep a clone of it to count on. Help is written without a final period.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        let name = format!("{}{name}", self.prefix);
        self.names.lock().insert(name.clone(), help.to_owned());
        self.registry.lock().register(name, help, metric);
    }

    /// Adds a source that is asked at every scrape (sizes of queues, ages). It names its metrics itself, in full.
    pub fn collect(&self, source: impl Collector) {
        self.registry.lock().register_collector(Box::new(source));
    }

    /// Adds `build_info{version,revision} 1` under this handle's prefix (`loki_build_info`).
    pub fn build_info(&self, info: &crate::BuildInfo) {
        let labels = vec![("version", info.version.clone()), ("revision", info.revision.clone())];
        self.register("build", "Version and revision the binary was built from", Info::new(labels));
    }

    /// The request durations under this handle's prefix: registered once, shared by all servers that use it.
    pub(crate) fn request_seconds(&self) -> RequestSeconds {
        const BUCKETS: [f64; 13] =
            [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0];
        let mut requests = self.requests.lock();
        let family = requests.entry(self.prefix.clone()).or_insert_with(|| {
            let family = RequestSeconds::new_with_constructor(|| Histogram::new(BUCKETS));
            self.register(
                "request_duration_seconds",
                "Time (in seconds) spent serving requests",
                family.clone(),
            );
            family
        });
        family.clone()
    }

    /// Name and help of every metric, as `# HELP` lines have them: names without the suffix of their kind.
    pub fn describe(&self) -> BTreeMap<String, String> {
        let text = self.text();
        let help = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
        let found = help.map(|(name, help)| (name.to_owned(), help.trim_end_matches('.').to_owned()));
        found.chain(self.names.lock().clone()).collect()
    }

    /// All metrics as text, ended by `# EOF`.
    pub fn text(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry.lock()).expect("writing to a string cannot fail");
        out
    }
}
