//! Loki pushes: what is written is read, nothing is copied, and foreign encoders agree.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use wire::Str;
use wire::decompress::DecompressError;
use wire::loki::{
    Dialect, OriginError, OriginWriter, PushEntry, PushError, PushRequest, PushStream, Source, decode_push,
    encode_push, read_push,
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
    let stream = ("\\{a=\"[a-z]{0,4}\"\\}", vec(entry, 0..5)).prop_map(|(labels, entries)| PushStream {
        labels,
        entries,
        ..Default::default()
    });
    let source = any::<(u128, u64)>().prop_map(|(id, low)| Source { id, low });
    (vec(stream, 0..4), vec(source, 0..3)).prop_map(|(mut streams, sources)| {
        for (stream, _) in streams.iter_mut().zip(&sources) {
            let mut writer = OriginWriter::default();
            (0..stream.entries.len() as u64).for_each(|i| match i % 3 {
                2 => writer.push_none(),
                _ => writer.push((i % sources.len() as u64) as u32, &[i..i + 1, 9..10 + i]),
            });
            stream.origins = writer.finish();
        }
        PushRequest { streams, sources }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(request in push()) {
        let body = encode_push(&request);
        prop_assert_eq!(decode_push(body, PROTOBUF, Dialect::V1, 1 << 20).unwrap(), request);
    }

    #[test]
    fn generated_code_reads_the_same(request in push()) {
        let plain = wire::loki::encode_push_protobuf(&request);
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
        let mut request = request;
        request.sources.clear();
        request.streams.iter_mut().for_each(|stream| stream.origins.clear());
        prop_assert_eq!(decode(&foreign.encode_to_vec()).unwrap(), request);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, request in push(), at: prop::sample::Index) {
        let _ = decode(&bytes);
        let mut damaged = wire::loki::encode_push_protobuf(&request);
        if !damaged.is_empty() {
            let at = at.index(damaged.len());
            damaged.splice(at..at + 1, bytes);
            let _ = decode(&damaged);
        }
    }
}

#[test]
fn origins_that_do_not_pair_are_refused() {
    let request = |origins: &'static [u8], sources| PushRequest {
        streams: vec![PushStream {
            entries: vec![PushEntry::default()],
            origins: Bytes::from_static(origins),
            ..Default::default()
        }],
        sources,
    };
    let sources = vec![Source { id: 5, low: 7 }];
    let good = request(&[1, 0, 14, 9], sources.clone());
    assert_eq!(decode(&wire::loki::encode_push_protobuf(&good)), Ok(good));
    for (request, expect) in [
        (request(&[1, 0, 14, 9], vec![]), OriginError::Source { source_index: 0, sources: 0 }),
        (request(&[0, 0], sources.clone()), OriginError::Count { entries: 1, origins: 2 }),
        (request(&[1, 0, 14, 0], sources), OriginError::Range { start: 7, length: 0 }),
    ] {
        let error = decode(&wire::loki::encode_push_protobuf(&request)).unwrap_err();
        assert_eq!(error, PushError::Origins(expect));
    }
    assert_eq!(decode(&[0x6a, 3, 0x0a, 1, 7]), Err(PushError::Origins(OriginError::Id(1))));
    let sources = vec![Source { id: 5, low: 0 }; wire::loki::MAX_SOURCES + 1];
    let many = PushRequest { streams: vec![], sources };
    let plain = wire::loki::encode_push_protobuf(&many);
    let block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let error = decode_push(block.into(), PROTOBUF, Dialect::V1, 1 << 30).unwrap_err();
    assert_eq!(error, PushError::Origins(OriginError::Sources));
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
    let large = encode_push(&PushRequest {
        streams: vec![PushStream {
            entries: vec![PushEntry { line: "x".repeat(5000).into(), ..Default::default() }],
            ..Default::default()
        }],
        ..Default::default()
    });
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
