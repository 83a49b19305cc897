//! `limits_config`: what ends or waits between the stages and the clients' queues.
//!
//! One object for all readers of a configuration, for its bounds are the agent's as a whole.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use model::Labels;
use parking_lot::Mutex;

use crate::config::{ClientConfig, LimitsConfig};
use crate::entry::Entry;
use crate::metrics::{AgentMetrics, LossLabels, ReasonLabels};

/// Bounds of lines, shared by all dispatchers.
pub(crate) struct LineLimits {
    config: LimitsConfig,
    /// Host of each client, for the counters, with its tenant and whether it gives every line a label.
    clients: Vec<Client>,
    metrics: AgentMetrics,
    rate: Option<Mutex<Bucket>>,
    streams: Mutex<HashMap<Labels, Instant>>,
}

struct Client {
    host: String,
    tenant: String,
    has_labels: bool,
}

/// A token bucket. It may owe tokens, which says how long to wait.
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A stream without a line for so long does not count against `max_streams`.
const STREAM_IDLE: Duration = Duration::from_secs(300);

impl LineLimits {
    /// The bounds of a configuration, in front of clients with their hosts.
    pub(crate) fn new<'a>(
        config: &LimitsConfig,
        clients: impl IntoIterator<Item = (&'a ClientConfig, String)>,
        metrics: AgentMetrics,
    ) -> Self {
        let client = |(config, host): (&ClientConfig, String)| Client {
            host,
            tenant: config.tenant_id.clone(),
            has_labels: !config.external_labels.is_empty(),
        };
        let full = || Mutex::new(Bucket { tokens: f64::from(config.readline_burst), at: Instant::now() });
        Self {
            config: config.clone(),
            clients: clients.into_iter().map(client).collect(),
            metrics,
            rate: config.readline_rate_enabled.then(full),
            streams: Mutex::default(),
        }
    }

    /// Whether an entry may go on; it may be cut. One that may not is counted, and what was read of it is done.
    pub(crate) fn admit(&self, entry: &mut Entry, now: Instant) -> bool {
        let admitted =
            self.in_rate(now) && self.has_labels(entry) && self.fits(entry) && self.has_stream(entry, now);
        if !admitted {
            entry.tickets.done();
        }
        admitted
    }

    /// Until when reading should wait, where lines beyond the rate are not dropped.
    pub(crate) fn pause(&self, now: Instant) -> Option<Instant> {
        let mut bucket = self.rate.as_ref().filter(|_| !self.config.readline_rate_drop)?.lock();
        self.refill(&mut bucket, now);
        let owed = -bucket.tokens;
        (owed > 0.0).then(|| now + Duration::from_secs_f64((owed / self.config.readline_rate).min(60.0)))
    }

    fn refill(&self, bucket: &mut Bucket, now: Instant) {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        let full = f64::from(self.config.readline_burst);
        bucket.tokens = (bucket.tokens + passed * self.config.readline_rate).min(full);
        bucket.at = bucket.at.max(now);
    }

    fn in_rate(&self, now: Instant) -> bool {
        let Some(bucket) = &self.rate else { return true };
        let mut bucket = bucket.lock();
        self.refill(&mut bucket, now);
        if self.config.readline_rate_drop && bucket.tokens < 1.0 {
            let reason = ReasonLabels { reason: "global_rate_limiter_drop".to_owned() };
            self.metrics.stages.dropped.get_or_create(&reason).inc();
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// A store refuses lines of no stream at all, and all that come with them.
    fn has_labels(&self, entry: &Entry) -> bool {
        if !entry.labels.is_empty() || self.clients.iter().any(|client| client.has_labels) {
            return true;
        }
        self.dropped(entry, "no_labels");
        false
    }

    fn fits(&self, entry: &mut Entry) -> bool {
        let max = self.config.max_line_size.as_usize();
        if max == 0 || entry.line.len() <= max {
            return true;
        }
        if !self.config.max_line_size_truncate {
            self.dropped(entry, "line_too_long");
            return false;
        }
        let end = entry.line.floor_char_boundary(max);
        let cut = (entry.line.len() - end) as u64;
        for labels in self.losses(entry, "line_too_long") {
            self.metrics.mutated_entries.get_or_create(&labels).inc();
            self.metrics.mutated_bytes.get_or_create(&labels).inc_by(cut);
        }
        entry.line.truncate(end);
        true
    }

    fn has_stream(&self, entry: &Entry, now: Instant) -> bool {
        let max = self.config.max_streams;
        if max == 0 {
            return true;
        }
        let mut streams = self.streams.lock();
        if let Some(last) = streams.get_mut(&entry.labels) {
            *last = now;
            return true;
        }
        if streams.len() >= max {
            streams.retain(|_, last| now.saturating_duration_since(*last) < STREAM_IDLE);
        }
        if streams.len() >= max {
            self.dropped(entry, "stream_limited");
            return false;
        }
        streams.insert(entry.labels.clone(), now);
        true
    }

    fn dropped(&self, entry: &Entry, reason: &str) {
        for labels in self.losses(entry, reason) {
            self.metrics.dropped_entries.get_or_create(&labels).inc();
            self.metrics.dropped_bytes.get_or_create(&labels).inc_by(entry.line.len() as u64);
        }
    }

    fn losses(&self, entry: &Entry, reason: &str) -> impl Iterator<Item = LossLabels> {
        self.clients.iter().map(move |client| LossLabels {
            host: client.host.clone(),
            tenant: if entry.tenant.is_empty() { client.tenant.clone() } else { entry.tenant.clone() },
            reason: reason.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    /// Admits each of `labels, line` at once; what goes on, and what was counted as dropped.
    fn check(config: LimitsConfig, lines: &[(&str, &str)], want: &[&str], reasons: &[(&str, u64)]) {
        let metrics = AgentMetrics::default();
        let client = ClientConfig::default();
        let limits = LineLimits::new(&config, [(&client, "h:1".to_owned())], metrics.clone());
        let now = Instant::now();
        let admitted = lines.iter().filter_map(|(app, line)| {
            let labels =
                Labels::from_pairs([("app", *app)].into_iter().filter(|(_, value)| !value.is_empty()));
            let mut entry = Entry::new(Timestamp(1), (*line).to_owned(), labels);
            limits.admit(&mut entry, now).then_some(entry.line)
        });
        assert_eq!(admitted.collect::<Vec<_>>(), want);
        for (reason, count) in reasons {
            let labels = |reason: &str| LossLabels {
                host: "h:1".into(),
                tenant: String::new(),
                reason: reason.into(),
            };
            let by_stage =
                metrics.stages.dropped.get_or_create(&ReasonLabels { reason: (*reason).into() }).get();
            assert_eq!(
                metrics.dropped_entries.get_or_create(&labels(reason)).get() + by_stage,
                *count,
                "{reason}"
            );
        }
    }

    #[test]
    fn lines_end_for_a_reason() {
        let config = LimitsConfig::default();
        check(config.clone(), &[("", "x"), ("a", "y")], &["y"], &[("no_labels", 1)]);
        let long = LimitsConfig { max_line_size: "5".parse_size(), ..config.clone() };
        check(long.clone(), &[("a", "12345"), ("a", "123456")], &["12345"], &[("line_too_long", 1)]);
        let cut = LimitsConfig { max_line_size_truncate: true, ..long };
        check(cut, &[("a", "12345"), ("a", "1234ä6")], &["12345", "1234"], &[("line_too_long", 0)]);
        let streams = LimitsConfig { max_streams: 1, ..config.clone() };
        check(streams, &[("a", "1"), ("b", "2"), ("a", "3")], &["1", "3"], &[("stream_limited", 1)]);
        let rate =
            LimitsConfig { readline_rate_enabled: true, readline_rate: 1.0, readline_burst: 2, ..config };
        let lines = [("a", "1"), ("a", "2"), ("a", "3")];
        check(rate.clone(), &lines, &["1", "2"], &[("global_rate_limiter_drop", 1)]);
        check(LimitsConfig { readline_rate_drop: false, ..rate }, &lines, &["1", "2", "3"], &[]);
    }

    trait ParseSize {
        fn parse_size(&self) -> service::config::ByteSize;
    }

    impl ParseSize for str {
        fn parse_size(&self) -> service::config::ByteSize {
            serde_json::from_value(serde_json::Value::from(self)).unwrap()
        }
    }

    #[test]
    fn reading_waits_until_the_rate_allows_more() {
        let config = LimitsConfig {
            readline_rate_enabled: true,
            readline_rate: 10.0,
            readline_burst: 1,
            readline_rate_drop: false,
            ..LimitsConfig::default()
        };
        let limits = LineLimits::new(&config, [], AgentMetrics::default());
        let now = Instant::now();
        assert_eq!(limits.pause(now), None);
        let entry = || Entry::new(Timestamp(1), String::new(), Labels::from_pairs([("a", "b")]));
        assert!((0..3).all(|_| limits.admit(&mut entry(), now)));
        let until = limits.pause(now).unwrap();
        assert!((190..=210).contains(&(until - now).as_millis()), "{:?}", until - now);
        assert_eq!(limits.pause(until + Duration::from_millis(1)), None);
    }
}
