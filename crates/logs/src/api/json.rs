//! Answers of queries as JSON, written straight into a buffer in the order of members that Grafana's stream parser needs.

use std::io::Write as _;

use logql::{LabelSet, QueryResult, ResultStream};

/// Appends a JSON string.
pub(crate) fn push_str(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector cannot fail.
    let _ = serde_json::to_writer(&mut *out, text);
}

pub(crate) fn push_labels<'a>(out: &mut Vec<u8>, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push(b'{');
    for (i, (name, value)) in labels.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_str(out, name);
        out.push(b':');
        push_str(out, value);
    }
    out.push(b'}');
}

/// Appends items with commas between them.
pub(crate) fn push_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

/// The envelope: `data` gets its type, the encoding flags if there are any, the result, the stats.
pub(crate) fn envelope(
    kind: &str,
    flags: &[String],
    warnings: &[String],
    stats: &serde_json::Value,
    result: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"status\":\"success\",");
    if !warnings.is_empty() {
        out.extend_from_slice(b"\"warnings\":");
        push_list(&mut out, warnings, |out, w| push_str(out, w));
        out.push(b',');
    }
    let _ = write!(out, "\"data\":{{\"resultType\":\"{kind}\",");
    if !flags.is_empty() {
        out.extend_from_slice(b"\"encodingFlags\":");
        push_list(&mut out, flags, |out, flag| push_str(out, flag));
        out.push(b',');
    }
    out.extend_from_slice(b"\"result\":");
    result(&mut out);
    let _ = writeln!(out, ",\"stats\":{stats}}}}}");
    out
}

/// Streams; with `categorized` every value has a third member.
pub(crate) fn push_streams(out: &mut Vec<u8>, streams: &[ResultStream], categorized: bool) {
    push_list(out, streams, |out, stream| {
        out.extend_from_slice(b"{\"stream\":");
        push_labels(out, stream.labels.iter());
        out.extend_from_slice(b",\"values\":");
        push_list(out, &stream.entries, |out, entry| {
            let _ = write!(out, "[\"{}\",", entry.timestamp);
            push_str(out, &entry.line);
            if categorized {
                out.push(b',');
                push_categories(out, &entry.metadata, &entry.parsed);
            }
            out.push(b']');
        });
        out.push(b'}');
    });
}

fn push_categories(out: &mut Vec<u8>, metadata: &LabelSet, parsed: &LabelSet) {
    out.push(b'{');
    if !metadata.is_empty() {
        out.extend_from_slice(b"\"structuredMetadata\":");
        push_labels(out, metadata.iter());
    }
    if !parsed.is_empty() {
        out.extend_from_slice(if metadata.is_empty() { b"\"parsed\":" } else { b",\"parsed\":" });
        push_labels(out, parsed.iter());
    }
    out.push(b'}');
}

/// Type name of a metric result.
pub(crate) fn result_type(result: &QueryResult) -> &'static str {
    match result {
        QueryResult::Matrix(_) => "matrix",
        QueryResult::Vector(_) => "vector",
        QueryResult::Scalar(..) => "scalar",
    }
}

/// A metric result.
pub(crate) fn push_result(out: &mut Vec<u8>, result: &QueryResult) {
    match result {
        QueryResult::Matrix(series) => push_list(out, series, |out, series| {
            out.extend_from_slice(b"{\"metric\":");
            push_labels(out, series.labels.iter());
            out.extend_from_slice(b",\"values\":");
            push_list(out, &series.points, |out, (time, value)| push_point(out, *time, *value));
            out.push(b'}');
        }),
        QueryResult::Vector(samples) => push_list(out, samples, |out, sample| {
            out.extend_from_slice(b"{\"metric\":");
            push_labels(out, sample.labels.iter());
            out.extend_from_slice(b",\"value\":");
            push_point(out, sample.timestamp_ms, sample.value);
            out.push(b'}');
        }),
        QueryResult::Scalar(time, value) => push_point(out, *time, *value),
    }
}

fn push_point(out: &mut Vec<u8>, millis: i64, value: f64) {
    let (seconds, fraction) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let _ = match (fraction, fraction % 10, fraction % 100) {
        (0, ..) => write!(out, "[{seconds},\""),
        (_, _, 0) => write!(out, "[{seconds}.{},\"", fraction / 100),
        (_, 0, _) => write!(out, "[{seconds}.{:02},\"", fraction / 10),
        _ => write!(out, "[{seconds}.{fraction:03},\""),
    };
    let _ = if value.is_nan() {
        write!(out, "NaN\"]")
    } else if value.is_infinite() {
        write!(out, "{}Inf\"]", if value > 0.0 { '+' } else { '-' })
    } else {
        write!(out, "{value}\"]")
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use logql::{ResultEntry, Sample};

    #[test]
    fn members_come_in_order() {
        let set = |pairs: &[(&str, &str)]| LabelSet::from_pairs(pairs.iter().copied());
        let entry =
            ResultEntry { timestamp: 5, line: "a\"b".into(), metadata: set(&[("m", "1")]), parsed: set(&[]) };
        let streams = [ResultStream { labels: set(&[("a", "b")]), entries: vec![entry] }];
        let stats = serde_json::json!({});
        let body = envelope("streams", &["categorize-labels".into()], &[], &stats, |out| {
            push_streams(out, &streams, true)
        });
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "{\"status\":\"success\",\"data\":{\"resultType\":\"streams\",\"encodingFlags\":[\"categorize-labels\"],\"result\":\
             [{\"stream\":{\"a\":\"b\"},\"values\":[[\"5\",\"a\\\"b\",{\"structuredMetadata\":{\"m\":\"1\"}}]]}],\"stats\":{}}}\n"
        );
        let mut out = Vec::new();
        push_streams(&mut out, &streams, false);
        assert_eq!(out, br#"[{"stream":{"a":"b"},"values":[["5","a\"b"]]}]"#);
    }

    #[test]
    fn numbers() {
        let check = |millis, value, expect: &str| {
            let mut out = Vec::new();
            let sample = Sample { labels: LabelSet::default(), timestamp_ms: millis, value };
            push_result(&mut out, &QueryResult::Vector(vec![sample]));
            assert_eq!(String::from_utf8(out).unwrap(), format!("[{{\"metric\":{{}},\"value\":{expect}}}]"));
        };
        check(1_700_000_000_000, 1.5, r#"[1700000000,"1.5"]"#);
        check(1_700_000_000_120, 1e21, r#"[1700000000.12,"1000000000000000000000"]"#);
        check(1_700_000_000_005, f64::NEG_INFINITY, r#"[1700000000.005,"-Inf"]"#);
        check(500, f64::NAN, r#"[0.5,"NaN"]"#);
    }
}
