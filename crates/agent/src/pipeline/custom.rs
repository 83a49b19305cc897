//! Metrics that the `metrics` stage makes: named by the configuration, with the labels of the lines they are made of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use model::Labels;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// All such metrics of a process; several pipelines may count on one. Cheap to clone.
///
/// A metric is there as long as a stage counts on it. When a reload makes it one of another kind, there are two for a while,
/// and the later one is shown.
#[derive(Debug, Clone, Default)]
pub struct CustomMetrics(Arc<Mutex<BTreeMap<String, Vec<Weak<Metric>>>>>);

/// What a metric is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets, ascending.
    Histogram(Vec<f64>),
}

/// One metric with a series for each label set.
#[derive(Debug)]
pub(super) struct Metric {
    description: String,
    kind: Kind,
    /// A series that is not touched for so long vanishes.
    max_idle: Duration,
    series: Mutex<HashMap<Labels, Series>>,
}

#[derive(Debug)]
struct Series {
    value: f64,
    /// Histograms: entries by bucket, the last one without a bound.
    buckets: Vec<u64>,
    touched: Instant,
}

/// Series of one metric; beyond it new ones are not made.
const MAX_SERIES: usize = 100_000;

impl CustomMetrics {
    /// The metric of this name and kind, made if it is new; and whether another stage has one of another kind, which it hides.
    pub(super) fn metric(
        &self,
        name: &str,
        description: &str,
        kind: Kind,
        max_idle: Duration,
    ) -> (Arc<Metric>, bool) {
        let mut all = self.0.lock();
        let metrics = all.entry(name.to_owned()).or_default();
        let alive: Vec<Arc<Metric>> = metrics.iter().filter_map(Weak::upgrade).collect();
        let hides = alive.iter().any(|metric| metric.kind != kind);
        let metric = alive.into_iter().rfind(|metric| metric.kind == kind).unwrap_or_else(|| {
            let (description, series) = (description.to_owned(), Mutex::default());
            Arc::new(Metric { description, kind, max_idle, series })
        });
        metrics.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), &raw const *metric));
        metrics.push(Arc::downgrade(&metric));
        (metric, hides)
    }
}

impl Metric {
    /// Adds to the series of these labels. Counters never fall.
    pub(super) fn add(&self, labels: &Labels, value: f64, now: Instant) {
        if self.kind != Kind::Counter || value >= 0.0 {
            self.touch(labels, now, |series| series.value += value);
        }
    }

    /// Sets the series of these labels.
    pub(super) fn set(&self, labels: &Labels, value: f64, now: Instant) {
        self.touch(labels, now, |series| series.value = value);
    }

    /// Counts a value into its bucket.
    pub(super) fn observe(&self, labels: &Labels, value: f64, now: Instant) {
        let Kind::Histogram(bounds) = &self.kind else { return };
        // What is no number is in none of the buckets but the last.
        let at = bounds.partition_point(|bound| value.is_nan() || *bound < value);
        self.touch(labels, now, |series| {
            series.buckets[at] += 1;
            series.value += value;
        });
    }

    fn touch(&self, labels: &Labels, now: Instant, change: impl FnOnce(&mut Series)) {
        let without_internal;
        let labels = if labels.iter().any(|(name, _)| name.starts_with("__")) {
            without_internal = Labels::from_pairs(labels.iter().filter(|(name, _)| !name.starts_with("__")));
            &without_internal
        } else {
            labels
        };
        let mut all = self.series.lock();
        if all.len() >= MAX_SERIES && !all.contains_key(labels) {
            return;
        }
        let buckets = if let Kind::Histogram(bounds) = &self.kind { bounds.len() + 1 } else { 0 };
        let new = || Series { value: 0.0, buckets: vec![0; buckets], touched: now };
        let series = all.entry_ref(labels).or_insert_with(new);
        series.touched = now;
        change(series);
    }
}

impl Collector for CustomMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = Instant::now();
        let mut metrics = self.0.lock();
        metrics.retain(|_, versions| {
            versions.retain(|metric| metric.strong_count() > 0);
            !versions.is_empty()
        });
        let shown =
            metrics.iter().filter_map(|(name, all)| Some((name, all.iter().rev().find_map(Weak::upgrade)?)));
        for (name, metric) in shown {
            let mut all = metric.series.lock();
            all.retain(|_, series| now.saturating_duration_since(series.touched) <= metric.max_idle);
            if all.is_empty() {
                continue;
            }
            // OpenMetrics appends `_total` to counters; a name without it would change, so those go without a type.
            let total = name.strip_suffix("_total").filter(|_| metric.kind == Kind::Counter);
            let kind = match &metric.kind {
                Kind::Counter if total.is_some() => MetricType::Counter,
                Kind::Counter => MetricType::Unknown,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram(_) => MetricType::Histogram,
            };
            let name = total.unwrap_or(name);
            let mut family = encoder.encode_descriptor(name, &metric.description, None, kind)?;
            for (labels, series) in all.iter() {
                let labels: Vec<(&str, &str)> = labels.iter().collect();
                let mut encoder = family.encode_family(&labels)?;
                match &metric.kind {
                    Kind::Counter if total.is_some() => {
                        encoder.encode_counter::<NoLabelSet, _, f64>(&series.value, None)?;
                    }
                    Kind::Counter | Kind::Gauge => encoder.encode_gauge(&series.value)?,
                    Kind::Histogram(bounds) => {
                        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
                        let buckets: Vec<(f64, u64)> = bounds.zip(series.buckets.iter().copied()).collect();
                        let count = series.buckets.iter().sum();
                        encoder.encode_histogram::<NoLabelSet>(series.value, count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
