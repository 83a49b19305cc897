//! OTLP requests. The first byte chooses the format and the signal; logs are mapped to streams as at ingest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logs::ingest::accept::Acceptor;
use logs::ingest::otlp::Mapping;
use logs::ingest::streams::Streams;
use logs::limits::Limits;
use logs::store::record;
use model::Timestamp;
use wire::otlp::{Format, Signal};

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let format = if choice & 1 == 0 { Format::Protobuf } else { Format::Json };
    let signal = if choice & 2 == 0 { Signal::Logs } else { Signal::Traces };
    let Ok((body, counts)) = signal.decode(bytes::Bytes::copy_from_slice(body), format) else { return };
    assert_eq!(signal.check(&body), Ok(counts), "a request that was taken must pass the check");
    if signal == Signal::Logs {
        let limits = Limits::default();
        let now = Timestamp(1_800_000_000_000_000_000);
        let mut acceptor = Acceptor::new(&limits, now);
        let mapping = Mapping::new(&limits.otlp_config);
        let streams = Streams::default();
        if mapping.map(&body, &streams, "fuzz", &limits, now, &mut acceptor).is_ok() {
            let rows = acceptor.finish().rows;
            let logged = record::encode(&rows);
            let back = record::decode(&logged).expect("what was logged can be read");
            assert_eq!(back.len(), rows.len());
        }
    }
});
