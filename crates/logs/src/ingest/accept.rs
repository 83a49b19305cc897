//! The rules an entry must obey, applied while its rows are built.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, Timestamp};
use wire::loki::{OriginError, Ranges, Source};

use crate::ingest::level::{self, DETECTED_LEVEL, SEVERITY_NUMBER};
use crate::ingest::pairs::Pairs;
use crate::ingest::reasons::{Reasons, Rule};
use crate::ingest::streams::Stream;
use crate::limits::Limits;
use crate::patterns::{Sample, SampleBudget, Sampling};
use crate::store::origins::{Origins, Piece, Sources};
use crate::store::rows::{Rows, StreamRows};

/// Builds the rows of one push.
#[derive(Debug)]
pub struct Acceptor<'a> {
    limits: &'a Limits,
    now: Timestamp,
    rows: Rows,
    by_labels: HashMap<Labels, usize>,
    reasons: Reasons,
    /// Bytes of lines and metadata that were accepted.
    bytes: u64,
    /// By the place of the stream.
    sampling: Vec<Sampling>,
    budget: Option<Arc<SampleBudget>>,
    samples: Vec<Sample>,
    sources: Sources,
    /// Where the next entry comes from.
    origin: Option<(u32, Ranges)>,
}

/// What came of a push.
#[derive(Debug)]
pub struct Accepted {
    /// The good entries.
    pub rows: Rows,
    /// Why others were refused.
    pub reasons: Reasons,
    /// Bytes of lines and metadata of the good entries.
    pub bytes: u64,
    /// Some of the lines, for patterns to be found in.
    pub samples: Vec<Sample>,
}

impl<'a> Acceptor<'a> {
    /// Begins a push received at `now`.
    pub fn new(limits: &'a Limits, now: Timestamp) -> Self {
        Self {
            limits,
            now,
            rows: Rows::default(),
            by_labels: HashMap::new(),
            reasons: Reasons::default(),
            bytes: 0,
            sampling: Vec::new(),
            budget: None,
            samples: Vec::new(),
            sources: Sources::default(),
            origin: None,
        }
    }

    /// What the origins of entries refer to.
    pub fn with_sources(self, sources: &[Source]) -> Self {
        Self { sources: Sources::new(sources), ..self }
    }

    /// Some of the lines are handed out as samples, within the budget.
    pub fn sampled(self, budget: Option<Arc<SampleBudget>>) -> Self {
        Self { budget, ..self }
    }

    /// Notes that entries were refused before they came here.
    pub fn refuse(&mut self, rule: Rule, entries: u64, bytes: u64, text: impl FnOnce() -> String) {
        self.reasons.add(rule, entries, bytes, text);
    }

    /// The place of a stream in the push.
    pub fn stream(&mut self, stream: &Arc<Stream>) -> usize {
        *self.by_labels.entry(stream.labels.clone()).or_insert_with(|| {
            self.rows.streams.push(StreamRows::new(stream.labels.clone()));
            self.sampling.push(Sampling::begin(stream, self.budget.as_ref(), self.now));
            self.rows.streams.len() - 1
        })
    }

    /// Makes room for entries that are about to come.
    pub fn reserve(&mut self, at: usize, entries: usize, line_bytes: usize) {
        self.rows.streams[at].reserve(entries, line_bytes);
    }

    /// Says where the next entry comes from: the place of its source among those of the request, and its ranges. The place must
    /// exist.
    pub fn origin(&mut self, origin: Option<(u32, Ranges)>) -> Result<(), OriginError> {
        self.origin = match origin {
            None => None,
            Some((index, ranges)) => {
                let missing =
                    OriginError::Source { source_index: index.into(), sources: self.sources.sent() };
                Some((self.sources.place(index).ok_or(missing)?, ranges))
            }
        };
        Ok(())
    }

    /// Takes an entry, or notes why not.
    pub fn entry(&mut self, stream: &Arc<Stream>, at: usize, timestamp: i64, line: &str, metadata: &Pairs) {
        let origin = self.origin.take();
        let Some(line) = self.line(stream, line) else { return };
        let size = (line.len() + metadata.bytes()) as u64;
        if let Some((rule, text)) =
            self.time_problem(stream, timestamp).or_else(|| self.metadata_problem(stream, metadata))
        {
            return self.reasons.add(rule, 1, size, || text);
        }
        let limit = self.limits.per_stream_rate_limit.get();
        if limit > 0 {
            let burst = self.limits.per_stream_rate_limit_burst.get() as f64;
            if !stream.rate.lock().take(size as f64, limit as f64, burst, self.now) {
                let text = || {
                    let rate = self.limits.per_stream_rate_limit;
                    format!(
                        "Per stream rate limit exceeded (limit: {rate}/sec) for stream '{}' totalling {size}B",
                        stream.labels
                    )
                };
                return self.reasons.add(Rule::PerStreamRateLimit, 1, size, text);
            }
        }
        let rows = &mut self.rows.streams[at];
        if !rows.has_room(line.len()) {
            return self
                .reasons
                .add(Rule::RequestTooLarge, 1, size, || "stream has more than 2 GiB of lines".to_owned());
        }
        let timestamp = match rows.timestamps.last() {
            Some(&last) if self.limits.increment_duplicate_timestamp && last == timestamp => {
                timestamp.saturating_add(1)
            }
            _ => timestamp,
        };
        rows.push(timestamp, &line);
        if let Some((source, ranges)) = origin {
            rows.set_origin(ranges.iter().map(|r| Piece { source, start: r.start, end: r.end }));
        }
        self.bytes += size;
        for (name, value) in metadata.iter() {
            rows.set_metadata(name, value);
        }
        let mut level = None;
        if self.limits.discover_log_levels {
            let level = level.insert(level_of(self.limits, stream, &line, metadata));
            rows.set_metadata(DETECTED_LEVEL, level);
        }
        if let Some(weight) = self.sampling[at].choose() {
            let level = level.as_deref().or_else(|| metadata.get(DETECTED_LEVEL)).unwrap_or_default();
            self.samples.push(Sample::new(&stream.labels, timestamp, level, &line, weight));
        }
    }

    /// The line, cut to the longest allowed if that is wanted.
    fn line<'l>(&mut self, stream: &Stream, line: &'l str) -> Option<Cow<'l, str>> {
        let max = self.limits.max_line_size.as_usize();
        if max == 0 || line.len() <= max {
            return Some(Cow::Borrowed(line));
        }
        if self.limits.max_line_size_truncate {
            let mark = &self.limits.max_line_size_truncate_identifier;
            let cut = &line[..line.floor_char_boundary(max.saturating_sub(mark.len()))];
            return Some(if mark.is_empty() {
                Cow::Borrowed(cut)
            } else {
                Cow::Owned(format!("{cut}{mark}"))
            });
        }
        self.reasons.add(Rule::LineTooLong, 1, line.len() as u64, || {
            format!(
                "max entry size '{max}' bytes exceeded for stream '{}' while adding an entry with length '{}' bytes: raise \
                 limits_config.max_line_size",
                stream.labels,
                line.len()
            )
        });
        None
    }

    fn time_problem(&self, stream: &Stream, timestamp: i64) -> Option<(Rule, String)> {
        let at = Timestamp(timestamp);
        if at < Timestamp::PLAUSIBLE_MIN {
            let text = format!(
                "stream '{}' has timestamp too old: {at}, which is before 1990 and so a mistake of unit: send nanoseconds",
                stream.labels
            );
            return Some((Rule::ImplausibleTime, text));
        }
        let grace = self.limits.creation_grace_period.get().as_nanos() as i64;
        if at > self.now.plus(grace) {
            return Some((
                Rule::TooFarInFuture,
                format!("stream '{}' has timestamp too new: {at}", stream.labels),
            ));
        }
        let oldest = self.now.plus(-(self.limits.reject_old_samples_max_age.get().as_nanos() as i64));
        if self.limits.reject_old_samples && at < oldest {
            let text = format!(
                "stream '{}' has timestamp too old: {at}, oldest acceptable timestamp is: {oldest}",
                stream.labels
            );
            return Some((Rule::GreaterThanMaxSampleAge, text));
        }
        None
    }

    fn metadata_problem(&self, stream: &Stream, metadata: &Pairs) -> Option<(Rule, String)> {
        if metadata.is_empty() {
            return None;
        }
        let labels = &stream.labels;
        if !self.limits.allow_structured_metadata {
            let text = format!(
                "stream '{labels}' includes structured metadata, but limits_config.allow_structured_metadata is false"
            );
            return Some((Rule::DisallowedStructuredMetadata, text));
        }
        let (bytes, most) = (metadata.bytes(), self.limits.max_structured_metadata_size.as_usize());
        if most > 0 && bytes > most {
            let text = format!(
                "stream '{labels}' has structured metadata too large: '{bytes}' bytes, limit: '{most}' bytes"
            );
            return Some((Rule::StructuredMetadataTooLarge, text));
        }
        let (count, most) = (metadata.len(), self.limits.max_structured_metadata_entries_count);
        if most > 0 && count > most {
            let text = format!(
                "stream '{labels}' has too many structured metadata labels: '{count}', limit: '{most}'"
            );
            return Some((Rule::StructuredMetadataTooMany, text));
        }
        None
    }

    /// Ends the push.
    pub fn finish(mut self) -> Accepted {
        self.rows.streams.retain(|s| !s.is_empty());
        self.rows.origins = Origins::of(self.sources.into_inner(), &self.rows.streams);
        self.sampling.into_iter().for_each(Sampling::end);
        Accepted { rows: self.rows, reasons: self.reasons, bytes: self.bytes, samples: self.samples }
    }
}

/// The level of an entry: from its metadata, its stream, or its line.
fn level_of<'a>(limits: &Limits, stream: &'a Stream, line: &str, metadata: &'a Pairs) -> Cow<'a, str> {
    let fields = &limits.log_level_fields;
    let of_line = || level::of_line(line, fields, limits.log_level_from_json_max_depth);
    if metadata.is_empty() {
        return stream.level.as_deref().unwrap_or_else(of_line).into();
    }
    let own = metadata.get(DETECTED_LEVEL);
    let own = own.or(stream.level.as_deref()).or_else(|| fields.iter().find_map(|name| metadata.get(name)));
    match (own, metadata.get(SEVERITY_NUMBER)) {
        (Some(value), _) => level::normalise(value),
        (None, Some(number)) => level::of_severity_number(number).into(),
        (None, None) => of_line().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::config::{ByteSize, Duration};

    fn check(
        limits: &Limits,
        timestamp: i64,
        line: &str,
        metadata: &[(&str, &str)],
        expect: Result<&str, Rule>,
    ) {
        let now = Timestamp::from_seconds(1_700_000_000);
        let stream = Arc::new(Stream::new(Labels::from_pairs([("app", "x")]), "t", limits).unwrap());
        let mut acceptor = Acceptor::new(limits, now);
        let at = acceptor.stream(&stream);
        let mut pairs = Pairs::default();
        metadata.iter().for_each(|(name, value)| pairs.add(name, value));
        acceptor.entry(&stream, at, timestamp, line, &pairs);
        let accepted = acceptor.finish();
        match expect {
            Ok(level) => {
                let column =
                    accepted.rows.streams[0].columns.iter().find(|c| &*c.name == DETECTED_LEVEL).unwrap();
                assert_eq!(column.iter().collect::<Vec<_>>(), [(0, level)], "{line} {metadata:?}");
            }
            Err(rule) => {
                assert!(accepted.rows.is_empty());
                assert_eq!(accepted.reasons.iter().map(|r| r.rule).collect::<Vec<_>>(), [rule]);
            }
        }
    }

    #[test]
    fn entries_are_checked_and_get_a_level() {
        let limits = Limits::default();
        let now = 1_700_000_000_000_000_000;
        check(&limits, now, "all is well", &[], Ok("unknown"));
        check(&limits, now, "an error", &[("severity_text", "WARN")], Ok("warn"));
        check(&limits, now, "x", &[("detected_level", "ERR"), ("level", "info")], Ok("error"));
        check(&limits, now, "x", &[("severity_number", "9")], Ok("info"));
        check(&limits, now, "x", &[("level", "odd")], Ok("odd"));
        check(&limits, now + 601_000_000_000, "x", &[], Err(Rule::TooFarInFuture));
        check(&limits, 1_700_000_000, "x", &[], Err(Rule::ImplausibleTime));
        check(&limits, now, &"x".repeat(256 * 1024 + 1), &[], Err(Rule::LineTooLong));
        check(&limits, now, "x", &[("a", &"x".repeat(65536))], Err(Rule::StructuredMetadataTooLarge));
        let many: Vec<(String, &str)> = (0..129).map(|i| (format!("n{i}"), "")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        check(&limits, now, "x", &many, Err(Rule::StructuredMetadataTooMany));
        let old = Limits { reject_old_samples: true, ..Limits::default() };
        check(&old, now - 8 * 86_400_000_000_000, "x", &[], Err(Rule::GreaterThanMaxSampleAge));
        let none = Limits { allow_structured_metadata: false, ..Limits::default() };
        check(&none, now, "x", &[("a", "b")], Err(Rule::DisallowedStructuredMetadata));
        let slow = Limits {
            per_stream_rate_limit: ByteSize(1),
            per_stream_rate_limit_burst: ByteSize(2),
            creation_grace_period: Duration::from_secs(1),
            ..Limits::default()
        };
        check(&slow, now, "xyz", &[], Err(Rule::PerStreamRateLimit));
        let cut = Limits { max_line_size: ByteSize(2), max_line_size_truncate: true, ..Limits::default() };
        check(&cut, now, "xé", &[], Ok("unknown"));
    }
}
