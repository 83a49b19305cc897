//! `metrics`: counters, gauges and histograms of what the lines say.

use std::sync::Arc;
use std::time::Instant;

use model::is_label_name;
use serde::{Deserialize, Serialize};
use service::config::{Duration, Value};

use super::compile::Compile;
use super::custom::{Kind, Metric};
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
struct MetricConfig {
    /// `counter`, `gauge` or `histogram`, in any case.
    r#type: String,
    description: String,
    source: Option<String>,
    prefix: String,
    max_idle_duration: Duration,
    config: Value,
}

impl Default for MetricConfig {
    fn default() -> Self {
        Self {
            r#type: String::new(),
            description: String::new(),
            source: None,
            prefix: "promtail_custom_".to_owned(),
            max_idle_duration: Duration::from_secs(300),
            config: Value::default(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct CounterConfig {
    action: String,
    value: Option<String>,
    match_all: bool,
    count_entry_bytes: bool,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct GaugeConfig {
    action: String,
    value: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct HistogramConfig {
    buckets: Vec<f64>,
    value: Option<String>,
}

/// Upper bounds where none are given: Prometheus' for seconds.
const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What is done with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Inc,
    Dec,
    Add,
    Sub,
    Set,
    Observe,
    /// Counts every line.
    CountLines,
    /// Counts the bytes of every line.
    CountBytes,
}

struct Rule {
    source: Arc<str>,
    action: Action,
    /// The source must be this.
    value: Option<String>,
    metric: Arc<Metric>,
}

struct MetricsStage(Vec<Rule>);

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    if !body.is_map() {
        return compile.problem(body, "", "give metrics by their names");
    }
    let mut rules = Vec::new();
    for (name, body) in body.entries() {
        rules.push(rule(name, &body, compile));
    }
    // Each rule has reported its own problems.
    Stage::edit(MetricsStage(rules.into_iter().flatten().collect()))
}

fn rule(name: &str, body: &Value, compile: &mut Compile<'_>) -> Option<Rule> {
    let config: MetricConfig = compile.read(body)?;
    let full_name =
        format!("{}{name}", if config.prefix.is_empty() { "promtail_custom_" } else { &config.prefix });
    if !is_label_name(&full_name.replace(':', "_")) {
        return compile.problem(body, "", &format!("'{full_name}' is not a name of a metric"));
    }
    if config.max_idle_duration.get() < std::time::Duration::from_secs(1) {
        return compile.problem(body, "max_idle_duration", "must be at least 1s");
    }
    let at = config.config;
    let (kind, action, value) = match config.r#type.to_lowercase().as_str() {
        "counter" => {
            let counter: CounterConfig = compile.read(&at)?;
            (Kind::Counter, counter_action(&counter, body, compile)?, counter.value)
        }
        "gauge" => {
            let gauge: GaugeConfig = compile.read(&at)?;
            let action = match gauge.action.to_lowercase().as_str() {
                "set" => Action::Set,
                "inc" => Action::Inc,
                "dec" => Action::Dec,
                "add" => Action::Add,
                "sub" => Action::Sub,
                other => {
                    let text = format!("'{other}' is none of set, inc, dec, add and sub");
                    return compile.problem(body, "config.action", &text);
                }
            };
            (Kind::Gauge, action, gauge.value)
        }
        "histogram" => {
            let histogram: HistogramConfig = compile.read(&at)?;
            let mut buckets = histogram.buckets;
            if buckets.iter().any(|bound| bound.is_nan()) {
                return compile.problem(body, "config.buckets", "upper bounds must be numbers");
            }
            // The last bucket has no bound in any case.
            buckets.retain(|bound| *bound != f64::INFINITY);
            if buckets.is_empty() {
                buckets.extend(DEFAULT_BUCKETS);
            }
            buckets.sort_by(f64::total_cmp);
            buckets.dedup();
            (Kind::Histogram(buckets), Action::Observe, histogram.value)
        }
        other => {
            return compile.problem(
                body,
                "type",
                &format!("'{other}' is none of counter, gauge and histogram"),
            );
        }
    };
    let (metric, hides) =
        compile.metrics.custom.metric(&full_name, &config.description, kind, config.max_idle_duration.get());
    if hides {
        let text = format!("another stage has a metric {full_name} of another type or with other buckets");
        compile.problem::<()>(body, "", &text);
    }
    let source = config.source.as_deref().filter(|s| !s.is_empty()).unwrap_or(name).into();
    Some(Rule { source, action, value, metric })
}

fn counter_action(config: &CounterConfig, body: &Value, compile: &mut Compile<'_>) -> Option<Action> {
    let action = match config.action.to_lowercase().as_str() {
        "inc" => Action::Inc,
        "add" => Action::Add,
        other => return compile.problem(body, "config.action", &format!("'{other}' is neither inc nor add")),
    };
    if config.match_all && config.value.is_some() {
        return compile.problem(body, "config.value", "match_all counts every line, whatever its value");
    }
    match (config.match_all, config.count_entry_bytes, action) {
        (true, true, Action::Add) => Some(Action::CountBytes),
        (_, true, _) => {
            compile.problem(body, "config.count_entry_bytes", "needs match_all: true and action: add")
        }
        (true, false, _) => Some(Action::CountLines),
        (false, false, action) => Some(action),
    }
}

impl Edit for MetricsStage {
    fn edit(&mut self, entry: &mut Entry, now: Instant) -> Verdict {
        for rule in &self.0 {
            let metric = &rule.metric;
            match rule.action {
                Action::CountLines => metric.add(&entry.labels, 1.0, now),
                Action::CountBytes => metric.add(&entry.labels, entry.line.len() as f64, now),
                _ => {
                    let Some(value) = entry.extracted.get(&rule.source) else { continue };
                    if rule.value.as_ref().is_some_and(|want| value.text().as_deref() != Some(want)) {
                        continue;
                    }
                    let labels = &entry.labels;
                    match (rule.action, value.number()) {
                        (Action::Inc, _) => metric.add(labels, 1.0, now),
                        (Action::Dec, _) => metric.add(labels, -1.0, now),
                        (Action::Add, Some(number)) => metric.add(labels, number, now),
                        (Action::Sub, Some(number)) => metric.add(labels, -number, now),
                        (Action::Set, Some(number)) => metric.set(labels, number, now),
                        (Action::Observe, Some(number)) => metric.observe(labels, number, now),
                        _ => {}
                    }
                }
            }
        }
        Verdict::Keep
    }
}
