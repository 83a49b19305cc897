//! Remote write 1.0: samples of series as snappy-compressed protobuf.
//!
//! A body is a `prometheus.WriteRequest`, whose only field that matters is the repeated `timeseries = 1`. So encoded series can be
//! stored apart and joined by putting one behind the other. See <https://prometheus.io/docs/specs/prw/remote_write_spec/>.

use crate::proto::{Fields, ProtoError, Value, Writer};

/// `Content-Type` of a body.
pub const CONTENT_TYPE: &str = "application/x-protobuf";
/// `X-Prometheus-Remote-Write-Version` of a body.
pub const VERSION: &str = "0.1.0";

/// A number at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The number; [`stale`] for the end of a series.
    pub value: f64,
}

/// Samples of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeSeries {
    /// Name and value of each label, sorted by name, `__name__` among them.
    pub labels: Vec<(String, String)>,
    /// In ascending order of time.
    pub samples: Vec<Sample>,
}

/// The NaN that says that a series has ended: one bit pattern of many.
pub fn stale() -> f64 {
    f64::from_bits(0x7ff0_0000_0000_0002)
}

/// Appends a series to a `WriteRequest`. Labels must come sorted by name.
pub fn encode_series<'a>(
    out: &mut Writer,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    samples: &[Sample],
) {
    out.message(1, |series| {
        for (name, value) in labels {
            series.message(1, |label| {
                label.string(1, name);
                label.string(2, value);
            });
        }
        for sample in samples {
            series.message(2, |out| {
                out.fixed64(1, sample.value.to_bits());
                out.varint(2, sample.timestamp_ms as u64);
            });
        }
    });
}

/// Reads the series of an uncompressed `WriteRequest`; other fields are passed over.
pub fn decode(request: &[u8]) -> Result<Vec<TimeSeries>, ProtoError> {
    let mut all = Vec::new();
    for field in Fields::new(request) {
        match field? {
            (1, Value::Len(series)) => all.push(decode_series(series)?),
            (1, _) => return Err(ProtoError::Mismatch(1)),
            _ => {}
        }
    }
    Ok(all)
}

fn decode_series(bytes: &[u8]) -> Result<TimeSeries, ProtoError> {
    let mut series = TimeSeries { labels: Vec::new(), samples: Vec::new() };
    for field in Fields::new(bytes) {
        match field? {
            (1, Value::Len(label)) => {
                let (mut name, mut value) = (String::new(), String::new());
                for field in Fields::new(label) {
                    match field? {
                        (1, Value::Len(text)) => name = String::from_utf8_lossy(text).into_owned(),
                        (2, Value::Len(text)) => value = String::from_utf8_lossy(text).into_owned(),
                        (number @ (1 | 2), _) => return Err(ProtoError::Mismatch(number)),
                        _ => {}
                    }
                }
                series.labels.push((name, value));
            }
            (2, Value::Len(sample)) => {
                let mut read = Sample { timestamp_ms: 0, value: 0.0 };
                for field in Fields::new(sample) {
                    match field? {
                        (1, Value::Fixed64(bits)) => read.value = f64::from_bits(bits),
                        (2, Value::Varint(time)) => read.timestamp_ms = time as i64,
                        (number @ (1 | 2), _) => return Err(ProtoError::Mismatch(number)),
                        _ => {}
                    }
                }
                series.samples.push(read);
            }
            (number @ (1 | 2), _) => return Err(ProtoError::Mismatch(number)),
            _ => {}
        }
    }
    Ok(series)
}

/// The body to send: snappy's block format, as remote write wants it.
pub fn compress(request: &[u8]) -> Vec<u8> {
    // Fails only on more than 4 GiB, which no batch is.
    snap::raw::Encoder::new().compress_vec(request).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// The messages as Prometheus declares them, for an independent reading.
    #[derive(Clone, PartialEq, Message)]
    struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        timeseries: Vec<Series>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Series {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Point>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Label {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Point {
        #[prost(double, tag = "1")]
        value: f64,
        #[prost(int64, tag = "2")]
        timestamp: i64,
    }

    fn series() -> impl Strategy<Value = TimeSeries> {
        let label = ("[a-z_]{1,9}", ".{0,200}");
        let sample = (any::<i64>(), any::<f64>().prop_filter("comparable", |v| !v.is_nan()));
        let samples = sample.prop_map(|(timestamp_ms, value)| Sample { timestamp_ms, value });
        (prop::collection::vec(label, 0..5), prop::collection::vec(samples, 0..5))
            .prop_map(|(labels, samples)| TimeSeries { labels, samples })
    }

    fn encode(all: &[TimeSeries]) -> Vec<u8> {
        let mut out = Writer::default();
        for series in all {
            let labels = series.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            encode_series(&mut out, labels, &series.samples);
        }
        out.finish()
    }

    proptest! {
        #[test]
        fn prost_reads_what_is_written(all in prop::collection::vec(series(), 0..5)) {
            let body = compress(&encode(&all));
            let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            let read = WriteRequest::decode(&plain[..]).unwrap();
            let expect = WriteRequest {
                timeseries: all
                    .iter()
                    .map(|s| Series {
                        labels: s.labels.iter().map(|(n, v)| Label { name: n.clone(), value: v.clone() }).collect(),
                        samples: s
                            .samples
                            .iter()
                            .map(|p| Point { value: p.value, timestamp: p.timestamp_ms })
                            .collect(),
                    })
                    .collect(),
            };
            prop_assert_eq!(&read, &expect);
            prop_assert_eq!(decode(&read.encode_to_vec()).unwrap(), all);
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn the_end_of_a_series_keeps_its_bits() {
        let mut out = Writer::default();
        encode_series(&mut out, [("__name__", "a")], &[Sample { timestamp_ms: 1, value: stale() }]);
        let read = decode(&out.finish()).unwrap();
        assert_eq!(read[0].samples[0].value.to_bits(), 0x7ff0_0000_0000_0002);
    }

    #[test]
    fn parts_join() {
        let one = TimeSeries { labels: vec![("a".into(), "1".into())], samples: vec![] };
        let two = TimeSeries { labels: vec![("a".into(), "2".into())], samples: vec![] };
        let joined = [encode(std::slice::from_ref(&one)), encode(std::slice::from_ref(&two))].concat();
        assert_eq!(decode(&joined).unwrap(), [one, two]);
    }
}
