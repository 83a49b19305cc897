//! Entries as protobuf, written straight into the buffer of their stream: a line is copied once on its way out.
//!
//! The messages are those of [`wire::loki::encode_push_protobuf`]; a stream's buffer holds its `EntryAdapter`s as they will stand in
//! the request.

use wire::loki::Source;

use crate::entry::Entry;

/// Field numbers with wire type 2, which all messages and texts here have.
const FIRST: u8 = 1 << 3 | 2;
const SECOND: u8 = 2 << 3 | 2;
const THIRD: u8 = 3 << 3 | 2;
const ORIGINS: u8 = 13 << 3 | 2;
/// The same with wire type 0.
const FIRST_NUMBER: u8 = 1 << 3;
const SECOND_NUMBER: u8 = 2 << 3;

/// Writes one entry of a stream.
pub(super) fn entry(out: &mut Vec<u8>, entry: &Entry) {
    let nanos = entry.timestamp.nanos();
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000) as u64, nanos.rem_euclid(1_000_000_000) as u64);
    let time = number_length(seconds) + number_length(nanos);
    let pair = |name: &str, value: &str| text_length(name) + text_length(value);
    let metadata = entry.metadata.iter().map(|(name, value)| {
        let length = pair(name, value);
        1 + varint_length(length as u64) + length
    });
    let length = 2 + time + text_length(&entry.line) + metadata.sum::<usize>();
    out.push(SECOND);
    varint(out, length as u64);
    out.extend_from_slice(&[FIRST, time as u8]);
    number(out, FIRST_NUMBER, seconds);
    number(out, SECOND_NUMBER, nanos);
    text(out, SECOND, &entry.line);
    for (name, value) in &entry.metadata {
        out.push(THIRD);
        varint(out, pair(name, value) as u64);
        text(out, FIRST, name);
        text(out, SECOND, value);
    }
}

/// Writes one stream of a request: its labels, entries that [`entry`] wrote, and their packed origins.
pub(super) fn stream(out: &mut Vec<u8>, labels: &str, entries: &[u8], origins: &[u8]) {
    let origins_length = match origins.len() {
        0 => 0,
        length => 1 + varint_length(length as u64) + length,
    };
    out.push(FIRST);
    varint(out, (text_length(labels) + entries.len() + origins_length) as u64);
    text(out, FIRST, labels);
    out.extend_from_slice(entries);
    if !origins.is_empty() {
        out.push(ORIGINS);
        varint(out, origins.len() as u64);
        out.extend_from_slice(origins);
    }
}

/// Writes one source of a request.
pub(super) fn source(out: &mut Vec<u8>, source: &Source) {
    out.push(ORIGINS);
    varint(out, (2 + 16 + number_length(source.low)) as u64);
    out.extend_from_slice(&[FIRST, 16]);
    out.extend_from_slice(&source.id.to_be_bytes());
    number(out, SECOND_NUMBER, source.low);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_length(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Proto3 leaves out what is zero or empty.
fn number(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        varint(out, value);
    }
}

fn number_length(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_length(value) }
}

fn text(out: &mut Vec<u8>, tag: u8, text: &str) {
    if !text.is_empty() {
        out.push(tag);
        varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn text_length(text: &str) -> usize {
    if text.is_empty() { 0 } else { 1 + varint_length(text.len() as u64) + text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Labels, Timestamp};
    use proptest::prelude::*;
    use wire::Str;
    use wire::loki::{OriginWriter, PushEntry, PushRequest, PushStream, encode_push_protobuf};

    proptest! {
        #[test]
        fn as_the_store_writes_it(
            lines in proptest::collection::vec((any::<i64>(), ".{0,200}", proptest::collection::vec((".{0,9}", ".{0,150}"), 0..3)), 0..5),
            labels in ".{0,200}", low: u64, id: u128, has_origins: bool,
        ) {
            let shared = |s: &str| Str::from_utf8_lossy(bytes::Bytes::copy_from_slice(s.as_bytes()));
            let (mut want, mut entries) = (Vec::new(), Vec::new());
            let mut origins = OriginWriter::default();
            for (time, line, pairs) in &lines {
                let mut made = Entry::new(Timestamp(*time), line.clone(), Labels::default());
                made.metadata = pairs.iter().map(|(n, v)| (n.as_str().into(), v.clone())).collect();
                entry(&mut entries, &made);
                let metadata = pairs.iter().map(|(n, v)| (shared(n), shared(v))).collect();
                want.push(PushEntry { timestamp_ns: *time, line: shared(line), metadata });
                origins.push(0, std::slice::from_ref(&(5..8)));
            }
            let origins = if has_origins { origins.finish() } else { bytes::Bytes::new() };
            let source_sent = Source { id, low };
            let mut got = Vec::new();
            stream(&mut got, &labels, &entries, &origins);
            source(&mut got, &source_sent);
            let streams = vec![PushStream { labels, entries: want, origins }];
            prop_assert_eq!(got, encode_push_protobuf(&PushRequest { streams, sources: vec![source_sent] }));
        }
    }
}
