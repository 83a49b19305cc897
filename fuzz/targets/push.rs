//! Bodies of pushes. The first byte chooses content type, encoding and dialect.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::loki::{Dialect, read_push};

/// Bytes after decompression, at most.
const MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let kind = if choice & 1 == 0 { "application/json" } else { "application/x-protobuf" };
    let encoding = ["", "gzip", "deflate", "snappy"][usize::from(choice >> 1 & 3)];
    let dialect = if choice & 8 == 0 { Dialect::V1 } else { Dialect::Legacy };
    if let Ok(request) = read_push(bytes::Bytes::copy_from_slice(body), kind, encoding, dialect, MAX) {
        let lines = request.streams.iter().flat_map(|stream| &stream.entries).map(|entry| entry.line.len());
        assert!(lines.sum::<usize>() <= MAX, "more came out of a body than its cap of {MAX}");
        for stream in &request.streams {
            let _ = model::Labels::parse(&stream.labels);
        }
    }
});
