//! Limits of one request: those of its tenant, made stricter by a header, or the strictest of several tenants.

use std::sync::Arc;

use serde::Deserialize;
use service::Failure;
use service::config::{ByteSize, Duration};

use crate::limits::Limits;

/// The header `X-Loki-Query-Limits`.
pub(crate) const HEADER: &str = "x-loki-query-limits";

/// What the header may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct QueryLimits {
    max_query_length: Option<Duration>,
    max_query_interval: Option<Duration>,
    max_query_lookback: Option<Duration>,
    max_entries_limit_per_query: Option<usize>,
    max_query_time: Option<Duration>,
    required_labels: Vec<String>,
    minimum_labels_number: Option<usize>,
    max_query_bytes_read: Option<ByteSize>,
}

/// The limits, made stricter by what the header's value says: where it is laxer it has no effect.
pub(crate) fn by_header(limits: Arc<Limits>, value: &str) -> Result<Arc<Limits>, Failure> {
    if value.is_empty() {
        return Ok(limits);
    }
    let asked: QueryLimits = serde_json::from_str(value)
        .map_err(|e| Failure::invalid(format!("could not parse the header X-Loki-Query-Limits: {e}")))?;
    let mut limits = Arc::unwrap_or_clone(limits);
    let duration = |own: &mut Duration, asked: Option<Duration>| {
        if let Some(asked) = asked {
            *own = lower(*own, asked, Duration::default());
        }
    };
    duration(&mut limits.max_query_length, asked.max_query_length);
    duration(&mut limits.max_query_range, asked.max_query_interval);
    duration(&mut limits.max_query_lookback, asked.max_query_lookback);
    duration(&mut limits.query_timeout, asked.max_query_time);
    if let Some(most) = asked.max_entries_limit_per_query {
        limits.max_entries_limit_per_query = lower(limits.max_entries_limit_per_query, most, 0);
    }
    if let Some(bytes) = asked.max_query_bytes_read {
        limits.max_query_bytes_read = lower(limits.max_query_bytes_read, bytes, ByteSize(0));
    }
    limits.minimum_labels_number = limits.minimum_labels_number.max(asked.minimum_labels_number.unwrap_or(0));
    add(&mut limits.required_labels, asked.required_labels);
    Ok(Arc::new(limits))
}

/// Limits under which a read of several tenants breaks none of theirs.
pub(crate) fn strictest(all: &[Arc<Limits>]) -> Option<Arc<Limits>> {
    let (first, others) = all.split_first()?;
    if others.is_empty() {
        return Some(first.clone());
    }
    let mut limits = Limits::clone(first);
    let none = Duration::default();
    for other in others {
        limits.max_query_length = lower(limits.max_query_length, other.max_query_length, none);
        limits.max_query_range = lower(limits.max_query_range, other.max_query_range, none);
        limits.max_query_lookback = lower(limits.max_query_lookback, other.max_query_lookback, none);
        limits.query_timeout = lower(limits.query_timeout, other.query_timeout, none);
        limits.max_entries_limit_per_query =
            lower(limits.max_entries_limit_per_query, other.max_entries_limit_per_query, 0);
        limits.max_query_bytes_read =
            lower(limits.max_query_bytes_read, other.max_query_bytes_read, ByteSize(0));
        limits.max_query_series = limits.max_query_series.min(other.max_query_series);
        limits.max_streams_matchers_per_query =
            lower(limits.max_streams_matchers_per_query, other.max_streams_matchers_per_query, 0);
        limits.volume_max_series = limits.volume_max_series.min(other.volume_max_series);
        limits.volume_enabled &= other.volume_enabled;
        limits.minimum_labels_number = limits.minimum_labels_number.max(other.minimum_labels_number);
        add(&mut limits.required_labels, other.required_labels.clone());
        limits.blocked_queries.extend(other.blocked_queries.iter().cloned());
    }
    Some(Arc::new(limits))
}

/// The lower of two limits, of which `none` means no limit.
fn lower<T: Ord + Copy>(a: T, b: T, none: T) -> T {
    if a == none || (b != none && b < a) { b } else { a }
}

fn add(names: &mut Vec<String>, more: Vec<String>) {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_can_only_tighten() {
        let own =
            Limits { max_query_bytes_read: ByteSize(100), minimum_labels_number: 2, ..Limits::default() };
        let own = Arc::new(own);
        let text = r#"{"maxQueryLength":"1h","maxQueryTime":"5m","maxQueryLookback":"2h","maxQueryInterval":"10m",
            "maxEntriesLimitPerQuery":100,"requiredLabels":["app"],"minimumLabelsNumber":1,"maxQueryBytesRead":"1KB","new":1}"#;
        let got = by_header(own.clone(), text).unwrap();
        let hour = Duration::from_secs(3600);
        assert_eq!((got.max_query_length, got.query_timeout), (hour, Duration::from_secs(60)));
        assert_eq!(
            (got.max_query_lookback, got.max_query_range),
            (Duration::from_secs(7200), Duration::from_secs(600))
        );
        assert_eq!((got.max_entries_limit_per_query, got.max_query_bytes_read.get()), (100, 100));
        assert_eq!((got.minimum_labels_number, got.required_labels.as_slice()), (2, &["app".to_owned()][..]));
        assert!(Arc::ptr_eq(&own, &by_header(own.clone(), "").unwrap()));
        assert_eq!(by_header(own, "{").unwrap_err().status(), 400);
    }

    #[test]
    fn several_tenants_share_the_strictest() {
        let one =
            Arc::new(Limits { max_query_series: 7, max_query_bytes_read: ByteSize(0), ..Limits::default() });
        let two = Arc::new(Limits {
            max_query_length: Duration::default(),
            max_query_bytes_read: ByteSize(5),
            ..Limits::default()
        });
        let got = strictest(&[one.clone(), two]).unwrap();
        assert_eq!((got.max_query_series, got.max_query_bytes_read.get()), (7, 5));
        assert_eq!(got.max_query_length, one.max_query_length);
        assert!(strictest(&[]).is_none());
    }
}
