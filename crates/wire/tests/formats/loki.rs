//! Loki pushes: what is written is read, nothing is copied, and foreign encoders agree.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use wire::Str;
use wire::decompress::DecompressError;
use wire::loki::{
    Dialect, PushEntry, PushError, PushRequest, PushStream, decode_push, encode_push, read_push,
};

/// The messages as prost's derive has them.
mod logproto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PushRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) streams: Vec<Stream>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Stream {
        #[prost(string, tag = "1")]
        pub(super) labels: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) entries: Vec<Entry>,
        #[prost(uint64, tag = "3")]
        pub(super) hash: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Entry {
        #[prost(message, optional, tag = "1")]
        pub(super) timestamp: Option<Timestamp>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) line: Vec<u8>,
        #[prost(message, repeated, tag = "3")]
        pub(super) metadata: Vec<Pair>,
        #[prost(message, repeated, tag = "4")]
        pub(super) parsed: Vec<Pair>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(super) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(super) nanos: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Pair {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }
}

const PROTOBUF: &str = "application/x-protobuf";

fn decode(plain: &[u8]) -> Result<PushRequest, PushError> {
    let block = snap::raw::Encoder::new().compress_vec(plain).unwrap();
    decode_push(block.into(), PROTOBUF, Dialect::V1, 1 << 20)
}

fn push() -> impl Strategy<Value = PushRequest> {
    let pair = ("[a-z_]{0,5}", any::<String>()).prop_map(|(n, v)| (Str::from(n), Str::from(v)));
    let entry = (any::<i64>(), any::<String>(), vec(pair, 0..3))
        .prop_map(|(timestamp_ns, line, metadata)| PushEntry { timestamp_ns, line: line.into(), metadata });
    let stream = ("\\{a=\"[a-z]{0,4}\"\\}", vec(entry, 0..5))
        .prop_map(|(labels, entries)| PushStream { labels, entries });
    vec(stream, 0..4).prop_map(|streams| PushRequest { streams })
}

proptest! {
    #[test]
    fn what_is_written_is_read(request in push()) {
        let body = encode_push(&request.streams);
        prop_assert_eq!(decode_push(body, PROTOBUF, Dialect::V1, 1 << 20).unwrap(), request);
    }

    #[test]
    fn generated_code_reads_the_same(request in push()) {
        let plain = wire::loki::encode_push_protobuf(&request.streams);
        let mut foreign = logproto::PushRequest::decode(&plain[..]).unwrap();
        for (stream, expect) in foreign.streams.iter_mut().zip(&request.streams) {
            prop_assert_eq!(stream.entries.len(), expect.entries.len());
            for (entry, expect) in stream.entries.iter().zip(&expect.entries) {
                let timestamp = entry.timestamp.as_ref().unwrap();
                prop_assert!((0..1_000_000_000).contains(&timestamp.nanos));
                let nanos = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
                prop_assert_eq!(nanos, i128::from(expect.timestamp_ns));
            }
            stream.hash = 7;
            if let Some(entry) = stream.entries.first_mut() {
                entry.parsed.push(logproto::Pair { name: "ignored".into(), value: "x".into() });
            }
        }
        prop_assert_eq!(foreign.streams.len(), request.streams.len());
        prop_assert_eq!(decode(&foreign.encode_to_vec()).unwrap(), request);
    }
}

#[test]
fn times_beyond_64_bits_are_moved_to_their_end() {
    let at = |seconds, nanos| {
        let entry =
            logproto::Entry { timestamp: Some(logproto::Timestamp { seconds, nanos }), ..Default::default() };
        let stream = logproto::Stream { entries: vec![entry], ..Default::default() };
        let body = logproto::PushRequest { streams: vec![stream] }.encode_to_vec();
        decode(&body).unwrap().streams[0].entries[0].timestamp_ns
    };
    assert_eq!(at(1, 5), 1_000_000_005);
    assert_eq!(at(-1, 5), -999_999_995);
    assert_eq!(at(i64::MAX, 0), i64::MAX);
    assert_eq!(at(i64::MIN, 0), i64::MIN);
}

#[test]
fn lines_share_one_buffer_and_bad_bytes_are_replaced() {
    let entry = |line: &[u8]| logproto::Entry { line: line.to_vec(), ..Default::default() };
    let stream = logproto::Stream {
        entries: vec![entry(b"one"), entry(b"two\xff"), entry(b"six")],
        ..Default::default()
    };
    let request = decode(&logproto::PushRequest { streams: vec![stream] }.encode_to_vec()).unwrap();
    let lines: Vec<_> = request.streams[0].entries.iter().map(|e| &e.line).collect();
    assert_eq!(lines[..], ["one", "two\u{fffd}", "six"]);
    // Two entries of 5 and 10 bytes stand between the first and the third line.
    assert_eq!(lines[2].as_ptr() as usize - lines[0].as_ptr() as usize, 3 + 8 + 4);
}

#[test]
fn bodies_that_are_no_pushes() {
    let line_as_number = [0x0a, 0x04, 0x12, 0x02, 0x10, 0x01];
    assert!(matches!(decode(&line_as_number), Err(PushError::Protobuf(_))));
    assert!(matches!(decode(&[0x0a, 0x05, 1]), Err(PushError::Protobuf(_))));
    let lying = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x08, 0, 1]);
    assert!(matches!(decode_push(lying, PROTOBUF, Dialect::V1, usize::MAX), Err(PushError::Decompress(_))));
    let large = encode_push(&[PushStream {
        labels: "{}".into(),
        entries: vec![PushEntry { line: "x".repeat(5000).into(), ..Default::default() }],
    }]);
    let error = decode_push(large, PROTOBUF, Dialect::V1, 4999).unwrap_err();
    assert_eq!(error, PushError::Decompress(DecompressError::TooLarge { limit: 4999 }));
    assert!(error.is_too_large());
}

#[test]
fn content_types() {
    let json = Bytes::from_static(b"{}");
    for content_type in ["application/json", "Application/JSON; charset=utf-8"] {
        assert!(decode_push(json.clone(), content_type, Dialect::V1, 99).is_ok(), "{content_type}");
    }
    for content_type in ["", " ", ";", "application/", "a b/c", "/json"] {
        let error = decode_push(json.clone(), content_type, Dialect::V1, 99).unwrap_err();
        assert!(matches!(error, PushError::ContentType(_)), "{content_type}");
    }
    let error = read_push(json, "application/json", "br", Dialect::V1, 99).unwrap_err();
    assert_eq!(error.to_string(), "Content-Encoding \"br\" not supported");
}
