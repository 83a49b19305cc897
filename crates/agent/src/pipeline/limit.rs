//! `limit`: so many entries a second; what is beyond waits or is dropped.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;
use crate::metrics::DroppedByLabel;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct LimitConfig {
    /// Entries a second.
    rate: f64,
    /// Entries at once.
    burst: u32,
    drop: bool,
    by_label_name: String,
    max_distinct_labels: usize,
}

/// The least number of label values that are told apart.
const MIN_DISTINCT: usize = 10_000;

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: LimitConfig = compile.read(body)?;
    if config.rate.is_nan() || config.rate <= 0.0 || config.burst == 0 {
        return compile.problem(body, "", "rate and burst must be more than 0");
    }
    if !config.by_label_name.is_empty() && !config.drop {
        return compile.problem(
            body,
            "by_label_name",
            "needs drop: true, lines of one label cannot wait alone",
        );
    }
    let bucket = Bucket { rate: config.rate, burst: f64::from(config.burst), tokens: None };
    if !config.drop {
        return Stage::edit(Pace { bucket, until: None });
    }
    let dropped = compile.dropped("ratelimit_drop_stage");
    if config.by_label_name.is_empty() {
        return Stage::edit(Limit { bucket, dropped });
    }
    Stage::edit(LimitByLabel {
        name: config.by_label_name,
        max_distinct: config.max_distinct_labels.max(MIN_DISTINCT),
        new: bucket,
        buckets: HashMap::new(),
        dropped,
        by_label: compile.metrics.dropped_by_label.clone(),
    })
}

/// Tokens that come with time.
#[derive(Debug, Clone)]
struct Bucket {
    rate: f64,
    burst: f64,
    /// How many there were, and when; none: it is full.
    tokens: Option<(f64, Instant)>,
}

impl Bucket {
    fn available(&self, now: Instant) -> f64 {
        let Some((tokens, at)) = self.tokens else { return self.burst };
        (tokens + now.saturating_duration_since(at).as_secs_f64() * self.rate).min(self.burst)
    }

    /// Takes a token if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let tokens = self.available(now);
        let taken = tokens >= 1.0;
        self.tokens = Some((if taken { tokens - 1.0 } else { tokens }, now));
        taken
    }

    /// Takes a token that may not be there yet; when it will be.
    fn owe(&mut self, now: Instant) -> Option<Instant> {
        let tokens = self.available(now) - 1.0;
        self.tokens = Some((tokens, now));
        (tokens < 0.0).then(|| now + Duration::from_secs_f64((-tokens / self.rate).min(3600.0)))
    }
}

/// Lets everything pass, and asks for a pause in reading until the rate allows more.
struct Pace {
    bucket: Bucket,
    until: Option<Instant>,
}

impl Edit for Pace {
    fn edit(&mut self, _: &mut Entry, now: Instant) -> Verdict {
        self.until = self.bucket.owe(now);
        Verdict::Keep
    }

    fn pause(&self) -> Option<Instant> {
        self.until
    }
}

/// Drops what is beyond the rate.
struct Limit {
    bucket: Bucket,
    dropped: Counter,
}

impl Edit for Limit {
    fn edit(&mut self, _: &mut Entry, now: Instant) -> Verdict {
        if self.bucket.take(now) {
            return Verdict::Keep;
        }
        self.dropped.inc();
        Verdict::Drop
    }
}

/// Drops what is beyond the rate of each value of a label.
struct LimitByLabel {
    name: String,
    max_distinct: usize,
    new: Bucket,
    buckets: HashMap<String, Bucket>,
    dropped: Counter,
    by_label: Family<DroppedByLabel, Counter>,
}

impl Edit for LimitByLabel {
    fn edit(&mut self, entry: &mut Entry, now: Instant) -> Verdict {
        let Some(value) = entry.labels.get(&self.name) else { return Verdict::Keep };
        if self.buckets.len() >= self.max_distinct && !self.buckets.contains_key(value) {
            // Full buckets are as good as none.
            let used = |bucket: &Bucket| bucket.available(now) < bucket.burst;
            let keep = self.buckets.values().filter(|bucket| used(bucket)).count() <= self.max_distinct / 2;
            for (value, _) in self.buckets.extract_if(|_, bucket| !keep || !used(bucket)) {
                // What is forgotten leaves no series behind.
                self.by_label.remove(&DroppedByLabel { label_name: self.name.clone(), label_value: value });
            }
        }
        if self.buckets.entry_ref(value).or_insert_with(|| self.new.clone()).take(now) {
            return Verdict::Keep;
        }
        self.dropped.inc();
        let labels = DroppedByLabel { label_name: self.name.clone(), label_value: value.to_owned() };
        self.by_label.get_or_create(&labels).inc();
        Verdict::Drop
    }
}
