//! `logproto.PushRequest` in protobuf, by hand.
//!
//! PushRequest { streams = 1 }, StreamAdapter { labels = 1, entries = 2 }, EntryAdapter { timestamp = 1
//! (google.protobuf.Timestamp), line = 2, structuredMetadata = 3 }, LabelPairAdapter { name = 1, value = 2 }.
//! Field 13 of the first two is ours: see [`super::origins`](mod@super::origins).

use bytes::Bytes;

use super::{OriginError, PushEntry, PushError, PushRequest, PushStream, origins};
use crate::Str;
use crate::proto::{Fields, ProtoError, Value, Writer};

const NANOS: i64 = 1_000_000_000;

pub(super) fn decode(body: &Bytes) -> Result<PushRequest, PushError> {
    let mut request = PushRequest::default();
    for field in Fields::new(body) {
        match field? {
            (1, value) => request.streams.push(stream(body, bytes(1, value)?)?),
            (origins::FIELD, value) => {
                if request.sources.len() == origins::MAX_SOURCES {
                    return Err(OriginError::Sources.into());
                }
                request.sources.push(origins::read_source(bytes(origins::FIELD, value)?)?);
            }
            _ => {}
        }
    }
    origins::check(&request)?;
    Ok(request)
}

fn stream(body: &Bytes, raw: &[u8]) -> Result<PushStream, ProtoError> {
    let mut stream = PushStream::default();
    // Counting first is cheap next to growing the list, and bounded: an entry takes two bytes at least.
    let entries = Fields::new(raw).filter(|f| matches!(f, Ok((2, _)))).count();
    stream.entries.reserve_exact(entries.min(raw.len() / 16 + 16));
    for field in Fields::new(raw) {
        match field? {
            (1, value) => stream.labels = String::from_utf8_lossy(bytes(1, value)?).into_owned(),
            (2, value) => stream.entries.push(entry(body, bytes(2, value)?)?),
            (origins::FIELD, value) => stream.origins = body.slice_ref(bytes(origins::FIELD, value)?),
            _ => {}
        }
    }
    Ok(stream)
}

fn entry(body: &Bytes, raw: &[u8]) -> Result<PushEntry, ProtoError> {
    let mut entry = PushEntry::default();
    for field in Fields::new(raw) {
        match field? {
            (1, value) => entry.timestamp_ns = timestamp(bytes(1, value)?)?,
            (2, value) => entry.line = Str::part_of(body, bytes(2, value)?),
            (3, value) => entry.metadata.push(pair(body, bytes(3, value)?)?),
            _ => {}
        }
    }
    Ok(entry)
}

fn timestamp(raw: &[u8]) -> Result<i64, ProtoError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(raw) {
        match field? {
            (1, Value::Varint(value)) => seconds = value as i64,
            (2, Value::Varint(value)) => nanos = i64::from(value as i32),
            (number @ (1 | 2), _) => return Err(ProtoError::Mismatch(number)),
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(NANOS).saturating_add(nanos))
}

fn pair(body: &Bytes, raw: &[u8]) -> Result<(Str, Str), ProtoError> {
    let mut pair = (Str::new(), Str::new());
    for field in Fields::new(raw) {
        match field? {
            (1, value) => pair.0 = Str::part_of(body, bytes(1, value)?),
            (2, value) => pair.1 = Str::part_of(body, bytes(2, value)?),
            _ => {}
        }
    }
    Ok(pair)
}

fn bytes(number: u32, value: Value<'_>) -> Result<&[u8], ProtoError> {
    match value {
        Value::Len(bytes) => Ok(bytes),
        _ => Err(ProtoError::Mismatch(number)),
    }
}

/// Writes a push as clients send it: snappy block around protobuf.
///
/// # Panics
/// If the push is larger than the 4 GiB that snappy's block format can hold.
pub fn encode_push(request: &PushRequest) -> Bytes {
    let plain = encode_push_protobuf(request);
    let compressed = snap::raw::Encoder::new().compress_vec(&plain);
    compressed.expect("fails only on inputs of 4 GiB, which no batch reaches").into()
}

/// Writes `logproto.PushRequest` without compression.
pub fn encode_push_protobuf(request: &PushRequest) -> Vec<u8> {
    let PushRequest { streams, sources } = request;
    let size: usize = streams.iter().flat_map(|stream| &stream.entries).map(|entry| entry.bytes() + 32).sum();
    let mut out = Writer::with_capacity(size + 256 * streams.len() + 32 * sources.len());
    for stream in streams {
        out.message(1, |out| {
            out.string(1, &stream.labels);
            for entry in &stream.entries {
                out.message(2, |out| write_entry(out, entry));
            }
            if !stream.origins.is_empty() {
                out.bytes(origins::FIELD, &stream.origins);
            }
        });
    }
    for source in sources {
        origins::write_source(&mut out, source);
    }
    out.finish()
}

fn write_entry(out: &mut Writer, entry: &PushEntry) {
    out.message(1, |out| {
        let (seconds, nanos) = (entry.timestamp_ns.div_euclid(NANOS), entry.timestamp_ns.rem_euclid(NANOS));
        if seconds != 0 {
            out.varint(1, seconds as u64);
        }
        if nanos != 0 {
            out.varint(2, nanos as u64);
        }
    });
    out.string(2, &entry.line);
    for (name, value) in &entry.metadata {
        out.message(3, |out| {
            out.string(1, name);
            out.string(2, value);
        });
    }
}
