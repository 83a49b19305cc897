//! `limits_config`: what ends or waits between the stages and the clients' queues.
//!
//! The bounds are those of what goes to one client, whoever read it: its own reader and the targets that receive for all clients
//! share them. So with two clients, for which files are read twice, the rate is that of the lines all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use model::Labels;
use parking_lot::Mutex;

use crate::config::{ClientConfig, LimitsConfig};
use crate::entry::Entry;
use crate::metrics::{AgentMetrics, LossLabels, ReasonLabels};

/// Bounds of lines on their way to some clients.
pub(crate) struct LineLimits {
    config: LimitsConfig,
    clients: Vec<Arc<ClientLimits>>,
    metrics: AgentMetrics,
}

/// What has gone to one client, and what is told of what has not.
pub(crate) struct ClientLimits {
    /// Host and port, for the counters.
    host: String,
    tenant: String,
    /// Whether it gives every line a label.
    has_labels: bool,
    rate: Option<Mutex<Bucket>>,
    streams: Mutex<HashMap<Labels, Instant>>,
}

/// A token bucket. It may owe tokens, which says how long to wait.
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A stream without a line for so long does not count against `max_streams`.
const STREAM_IDLE: Duration = Duration::from_secs(300);

impl ClientLimits {
    /// Of a client with its host, to which nothing has gone yet.
    pub(crate) fn new(config: &LimitsConfig, client: &ClientConfig, host: String) -> Arc<Self> {
        let full = || Mutex::new(Bucket { tokens: f64::from(config.readline_burst), at: Instant::now() });
        Arc::new(Self {
            host,
            tenant: client.tenant_id.clone(),
            has_labels: !client.external_labels.is_empty(),
            rate: config.readline_rate_enabled.then(full),
            streams: Mutex::default(),
        })
    }
}

impl Bucket {
    fn refill(&mut self, config: &LimitsConfig, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * config.readline_rate).min(f64::from(config.readline_burst));
        self.at = self.at.max(now);
    }
}

impl LineLimits {
    /// The bounds of a configuration, in front of clients.
    pub(crate) fn new(config: &LimitsConfig, clients: Vec<Arc<ClientLimits>>, metrics: AgentMetrics) -> Self {
        Self { config: config.clone(), clients, metrics }
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
        let buckets = self.buckets().filter(|_| !self.config.readline_rate_drop);
        let owed = buckets.map(|bucket| {
            let mut bucket = bucket.lock();
            bucket.refill(&self.config, now);
            -bucket.tokens
        });
        let owed = owed.fold(0.0, f64::max);
        (owed > 0.0).then(|| now + Duration::from_secs_f64((owed / self.config.readline_rate).min(60.0)))
    }

    fn buckets(&self) -> impl Iterator<Item = &Mutex<Bucket>> {
        self.clients.iter().filter_map(|client| client.rate.as_ref())
    }

    fn in_rate(&self, now: Instant) -> bool {
        let lacks = |bucket: &Mutex<Bucket>| {
            let mut bucket = bucket.lock();
            bucket.refill(&self.config, now);
            bucket.tokens < 1.0
        };
        if self.config.readline_rate_drop && self.buckets().any(lacks) {
            let reason = ReasonLabels { reason: "global_rate_limiter_drop".to_owned() };
            self.metrics.stages.dropped.get_or_create(&reason).inc();
            return false;
        }
        self.buckets().for_each(|bucket| {
            let mut bucket = bucket.lock();
            bucket.refill(&self.config, now);
            bucket.tokens -= 1.0;
        });
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
        // All of them or none: a line goes to every client.
        let mut all: Vec<_> = self.clients.iter().map(|client| client.streams.lock()).collect();
        for streams in &mut all {
            if streams.len() >= max && !streams.contains_key(&entry.labels) {
                streams.retain(|_, last| now.saturating_duration_since(*last) < STREAM_IDLE);
            }
        }
        if all.iter().any(|streams| streams.len() >= max && !streams.contains_key(&entry.labels)) {
            drop(all);
            self.dropped(entry, "stream_limited");
            return false;
        }
        for streams in &mut all {
            match streams.get_mut(&entry.labels) {
                Some(last) => *last = now,
                None => drop(streams.insert(entry.labels.clone(), now)),
            }
        }
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
        let client = ClientLimits::new(&config, &ClientConfig::default(), "h:1".to_owned());
        let limits = LineLimits::new(&config, vec![client], metrics.clone());
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
        let client = || ClientLimits::new(&config, &ClientConfig::default(), String::new());
        let (first, second) = (client(), client());
        let limits = LineLimits::new(&config, vec![first.clone()], AgentMetrics::default());
        let now = Instant::now();
        assert_eq!(limits.pause(now), None);
        let entry = || Entry::new(Timestamp(1), String::new(), Labels::from_pairs([("a", "b")]));
        assert!((0..3).all(|_| limits.admit(&mut entry(), now)));
        let until = limits.pause(now).unwrap();
        assert!((190..=210).contains(&(until - now).as_millis()), "{:?}", until - now);
        // What receives for all clients waits for the one that has had too much, and the other way round.
        let both = LineLimits::new(&config, vec![first, second.clone()], AgentMetrics::default());
        assert_eq!(both.pause(now), limits.pause(now));
        let other = LineLimits::new(&config, vec![second], AgentMetrics::default());
        assert_eq!(other.pause(now), None);
        assert!((0..2).all(|_| both.admit(&mut entry(), now)) && other.pause(now).is_some());
        assert_eq!(limits.pause(until + Duration::from_millis(201)), None);
    }
}
