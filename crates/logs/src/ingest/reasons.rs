//! Why entries were refused, collected over a push and told in one text.

use service::Failure;

/// A rule that an entry or stream broke; the names are those of Loki's `loki_discarded_samples_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Rule {
    GreaterThanMaxSampleAge,
    TooFarInFuture,
    ImplausibleTime,
    LineTooLong,
    MaxLabelNamesPerSeries,
    LabelNameTooLong,
    LabelValueTooLong,
    DuplicateLabelNames,
    InvalidLabels,
    MissingLabels,
    DisallowedStructuredMetadata,
    StructuredMetadataTooLarge,
    StructuredMetadataTooMany,
    InvalidStructuredMetadata,
    MissingEnforcedLabels,
    StreamLimit,
    PerStreamRateLimit,
    RateLimited,
    RequestTooLarge,
}

impl Rule {
    /// The rule's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::GreaterThanMaxSampleAge => "greater_than_max_sample_age",
            Self::TooFarInFuture => "too_far_in_future",
            Self::ImplausibleTime => "implausible_time",
            Self::LineTooLong => "line_too_long",
            Self::MaxLabelNamesPerSeries => "max_label_names_per_series",
            Self::LabelNameTooLong => "label_name_too_long",
            Self::LabelValueTooLong => "label_value_too_long",
            Self::DuplicateLabelNames => "duplicate_label_names",
            Self::InvalidLabels => "invalid_labels",
            Self::MissingLabels => "missing_labels",
            Self::DisallowedStructuredMetadata => "disallowed_structured_metadata",
            Self::StructuredMetadataTooLarge => "structured_metadata_too_large",
            Self::StructuredMetadataTooMany => "structured_metadata_too_many",
            Self::InvalidStructuredMetadata => "invalid_structured_metadata",
            Self::MissingEnforcedLabels => "missing_enforced_labels",
            Self::StreamLimit => "stream_limit",
            Self::PerStreamRateLimit => "per_stream_rate_limit",
            Self::RateLimited => "rate_limited",
            Self::RequestTooLarge => "request_too_large",
        }
    }

    fn is_limit(self) -> bool {
        matches!(self, Self::StreamLimit | Self::PerStreamRateLimit | Self::RateLimited)
    }
}

/// Refused entries of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The rule.
    pub rule: Rule,
    /// The text of the first.
    pub first: String,
    /// How many texts there are.
    pub times: usize,
    /// Entries refused.
    pub entries: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// All refusals of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasons(Vec<Refused>);

impl Reasons {
    /// Notes a refusal; `text` is made only for the first of its rule.
    pub fn add(&mut self, rule: Rule, entries: u64, bytes: u64, text: impl FnOnce() -> String) {
        match self.0.iter_mut().find(|r| r.rule == rule) {
            Some(refused) => {
                refused.times += 1;
                refused.entries += entries;
                refused.bytes += bytes;
            }
            None => self.0.push(Refused { rule, first: text(), times: 1, entries, bytes }),
        }
    }

    /// The refusals, a group per rule.
    pub fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.0.iter()
    }

    /// The answer to the client, if anything was refused: 429 if a limit was met, else 400.
    pub fn failure(&self) -> Option<Failure> {
        if self.0.is_empty() {
            return None;
        }
        let text = |r: &Refused| match r.times {
            1 => r.first.clone(),
            n => format!("{n} errors like: {}", r.first),
        };
        let text = self.0.iter().map(text).collect::<Vec<_>>().join("; ");
        let limited = self.0.iter().any(|r| r.rule.is_limit());
        Some(if limited { Failure::limited(text, None) } else { Failure::invalid(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_grouped() {
        let mut reasons = Reasons::default();
        assert_eq!(reasons.failure(), None);
        reasons.add(Rule::LineTooLong, 1, 10, || "too long".into());
        assert_eq!(reasons.failure().unwrap().message(), "too long");
        reasons.add(Rule::LineTooLong, 1, 10, || unreachable!());
        reasons.add(Rule::StreamLimit, 1, 1, || "streams".into());
        let failure = reasons.failure().unwrap();
        assert_eq!((failure.message(), failure.status().as_u16()), ("2 errors like: too long; streams", 429));
    }
}
