//! The streams of a tenant that are active, with what ingest has found out about each: so a push looks a stream up by the text
//! it came with instead of parsing and checking it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hashbrown::HashMap;
use model::{Labels, LabelsError, Timestamp};
use parking_lot::Mutex;

use crate::ingest::level;
use crate::ingest::names::{self, SERVICE_NAME};
use crate::ingest::rate::TokenBucket;
use crate::ingest::reasons::Rule;
use crate::limits::Limits;
use crate::patterns::Sampler;

/// After this long without a push a stream is not active any more, in seconds.
const IDLE_SECONDS: i64 = 30 * 60;
/// Streams remembered where there is no limit.
const MAX_REMEMBERED: usize = 200_000;

/// A stream that passed the checks.
#[derive(Debug)]
pub struct Stream {
    /// Its labels, `service_name` included.
    pub labels: Labels,
    /// The level that its labels tell.
    pub level: Option<String>,
    /// How fast it sends.
    pub rate: Mutex<TokenBucket>,
    /// Which of its lines patterns are found in.
    pub sampler: Mutex<Sampler>,
    seen: AtomicI64,
}

/// Why a stream is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamError {
    /// The rule.
    pub rule: Rule,
    /// In words.
    pub text: String,
}

/// The active streams of one tenant.
#[derive(Debug, Default)]
pub struct Streams {
    by_text: Mutex<HashMap<String, Arc<Stream>>>,
}

impl Streams {
    /// Finds a stream by its label text, or parses, checks and remembers it.
    pub fn get(
        &self,
        text: &str,
        tenant: &str,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Arc<Stream>, StreamError> {
        if let Some(stream) = self.seen(text, now) {
            return Ok(stream);
        }
        let labels = Labels::parse(text).map_err(|error| match error {
            LabelsError::Duplicate { .. } => {
                StreamError { rule: Rule::DuplicateLabelNames, text: error.to_string() }
            }
            LabelsError::Syntax { .. } => {
                StreamError { rule: Rule::InvalidLabels, text: format!("couldn't parse labels: {error}") }
            }
        })?;
        self.insert(text, Stream::new(labels, tenant, limits)?, tenant, limits, now)
    }

    /// The same for labels that were built, not sent.
    pub fn get_built(
        &self,
        labels: &Labels,
        tenant: &str,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Arc<Stream>, StreamError> {
        let text = labels.to_string();
        match self.seen(&text, now) {
            Some(stream) => Ok(stream),
            None => self.insert(&text, Stream::new(labels.clone(), tenant, limits)?, tenant, limits, now),
        }
    }

    /// How many streams are remembered.
    pub fn len(&self) -> usize {
        self.by_text.lock().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn seen(&self, text: &str, now: Timestamp) -> Option<Arc<Stream>> {
        let stream = self.by_text.lock().get(text)?.clone();
        stream.seen.store(now.nanos(), Ordering::Relaxed);
        Some(stream)
    }

    fn insert(
        &self,
        text: &str,
        stream: Stream,
        tenant: &str,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Arc<Stream>, StreamError> {
        let max = limits.max_streams().unwrap_or(MAX_REMEMBERED);
        let mut streams = self.by_text.lock();
        if streams.len() >= max {
            let idle = now.nanos().saturating_sub(IDLE_SECONDS * 1_000_000_000);
            streams.retain(|_, s| s.seen.load(Ordering::Relaxed) >= idle);
        }
        if streams.len() >= max {
            if limits.max_streams().is_some() {
                let text = format!(
                    "maximum active stream limit exceeded when creating stream {}, user '{tenant}': reduce the number of \
                     label values or raise limits_config.max_global_streams_per_user ({max})",
                    stream.labels
                );
                return Err(StreamError { rule: Rule::StreamLimit, text });
            }
            streams.clear();
        }
        stream.seen.store(now.nanos(), Ordering::Relaxed);
        let stream = Arc::new(stream);
        streams.insert(text.to_owned(), stream.clone());
        Ok(stream)
    }
}

impl Stream {
    /// Adds `service_name` and checks the labels.
    pub fn new(labels: Labels, tenant: &str, limits: &Limits) -> Result<Self, StreamError> {
        let refuse = |rule, text| Err(StreamError { rule, text });
        let mut builder = labels.to_builder();
        let discovered = !names::is_internal(&labels)
            && names::discover_service(&mut builder, &limits.discover_service_name);
        let labels = if discovered { builder.build() } else { labels };
        if labels.is_empty() {
            return refuse(
                Rule::MissingLabels,
                "error at least one label pair is required per stream".to_owned(),
            );
        }
        let count = labels.len() - usize::from(labels.get(SERVICE_NAME).is_some());
        let max = limits.max_label_names_per_series;
        if count > max {
            let text = format!(
                "stream '{labels}' has {count} label names; limit {max}: raise limits_config.max_label_names_per_series"
            );
            return refuse(Rule::MaxLabelNamesPerSeries, text);
        }
        for (name, value) in labels.iter() {
            if name.len() > limits.max_label_name_length {
                return refuse(
                    Rule::LabelNameTooLong,
                    format!("stream '{labels}' has label name too long: '{name}'"),
                );
            }
            if value.len() > limits.max_label_value_length {
                return refuse(
                    Rule::LabelValueTooLong,
                    format!("stream '{labels}' has label value too long: '{value}'"),
                );
            }
        }
        let missing: Vec<&str> = limits
            .enforced_labels
            .iter()
            .map(String::as_str)
            .filter(|name| labels.get(name).is_none())
            .collect();
        if !missing.is_empty() {
            let text = format!(
                "missing required labels '{}' for user '{tenant}' for stream '{labels}'",
                missing.join(",")
            );
            return refuse(Rule::MissingEnforcedLabels, text);
        }
        let level = limits
            .log_level_fields
            .iter()
            .find_map(|name| labels.get(name))
            .map(|value| level::normalise(value).into_owned());
        Ok(Self { labels, level, rate: Mutex::default(), sampler: Mutex::default(), seen: AtomicI64::new(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_checked() {
        let limits = Limits {
            max_global_streams_per_user: 2,
            enforced_labels: vec!["app".into()],
            ..Limits::default()
        };
        let streams = Streams::default();
        let get = |text: &str, second| streams.get(text, "t", &limits, Timestamp::from_seconds(second));
        let stream = get(r#"{app="x", level="ERR"}"#, 1).unwrap();
        assert_eq!(stream.labels.to_string(), r#"{app="x", level="ERR", service_name="x"}"#);
        assert_eq!(stream.level.as_deref(), Some("error"));
        for (text, rule) in [
            ("{a-b=\"x\"}", Rule::InvalidLabels),
            (r#"{a="1",a="2"}"#, Rule::DuplicateLabelNames),
            (r#"{a="1"}"#, Rule::MissingEnforcedLabels),
            (&format!("{{app={:?}}}", "v".repeat(2049)), Rule::LabelValueTooLong),
        ] {
            assert_eq!(get(text, 2).unwrap_err().rule, rule, "{text}");
        }
        get(r#"{app="y"}"#, 2000).unwrap();
        assert!(get(r#"{app="z"}"#, 1700).is_err_and(|e| e.rule == Rule::StreamLimit));
        // By now the first one is idle.
        assert!(get(r#"{app="z"}"#, 2001).is_ok());
        let none = Limits { discover_service_name: vec![], ..Limits::default() };
        assert_eq!(Stream::new(Labels::default(), "t", &none).unwrap_err().rule, Rule::MissingLabels);
    }
}
