//! Messages as senders write them, and the listener on loopback.

use std::io::Write as _;

use super::*;
use crate::targets::testing::Bench;

const MESSAGE: &str =
    r#"{"version":"1.1","host":"h1","short_message":"hi","level":4,"timestamp":1385053862.307201,"_user":1}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

fn zlib(text: &str) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

#[test]
fn plain_and_compressed_messages() {
    let config = GelfConfig { use_incoming_timestamp: true, ..GelfConfig::default() };
    for bytes in
        [MESSAGE.as_bytes().to_vec(), gzip(MESSAGE), zlib(MESSAGE), format!("{MESSAGE}\0").into_bytes()]
    {
        let received = read(bytes.into(), &config).unwrap();
        assert_eq!(received.line, MESSAGE);
        assert_eq!(received.timestamp.unwrap().to_string(), "2013-11-21T17:11:02.307201Z");
        let shown: Vec<_> = received.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            shown,
            ["__gelf_message_host=h1", "__gelf_message_level=warning", "__gelf_message_version=1.1"]
        );
    }
}

#[test]
fn levels_and_times() {
    let check = |json: &str, level: Option<&str>, time: Option<&str>| {
        let config = GelfConfig { use_incoming_timestamp: true, ..GelfConfig::default() };
        let received = read(Bytes::copy_from_slice(json.as_bytes()), &config).unwrap();
        assert_eq!(received.labels.get("__gelf_message_level").map(String::as_str), level, "{json}");
        assert_eq!(received.timestamp.map(|t| t.to_string()).as_deref(), time, "{json}");
    };
    check("{}", Some("alert"), None);
    check(r#"{"level": 7, "timestamp": 1.5}"#, Some("debug"), Some("1970-01-01T00:00:01.5Z"));
    check(r#"{"level": 8, "timestamp": -1}"#, None, None);
    check(r#"{"level": 1e300, "timestamp": 0}"#, None, None);
    // Not as the format has it, but as it comes.
    check(r#"{"level": "4", "timestamp": "1.25"}"#, Some("warning"), Some("1970-01-01T00:00:01.25Z"));
    check(r#"{"level": null, "timestamp": {}, "host": [1], "version": null}"#, Some("alert"), None);
    check(r#"{"level": 3, "level": 5, "timestamp": "soon"}"#, Some("notice"), None);
    check(r#"{"timestamp": 1e17}"#, Some("alert"), Some(&Timestamp(i64::MAX).to_string()));
}

#[test]
fn what_is_no_message() {
    let bomb = gzip(&format!("{{\"host\": \"{}\"}}", " ".repeat(MAX_MESSAGE)));
    for bytes in [b"hello".to_vec(), b"[]".to_vec(), vec![0x1f, 0x8b, 0], vec![0x78], Vec::new(), bomb] {
        assert!(read(bytes.clone().into(), &GelfConfig::default()).is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn datagrams_whole_and_in_chunks() {
    let bench = Bench::mapping("__gelf_message_");
    let config = GelfConfig {
        listen_address: "127.0.0.1:0".into(),
        labels: BTreeMap::from([("job".into(), "g".into())]),
        ..GelfConfig::default()
    };
    let target = GelfTarget::bind(&config, bench.inlets.clone()).unwrap();
    let (address, stop) = (target.address(), CancellationToken::new());
    let running = tokio::spawn(target.run(stop.clone()));
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    sender.send_to(br#"{"host":"a","facility":"f","level":6}"#, address).await.unwrap();
    sender.send_to(b"garbage", address).await.unwrap();
    let compressed = gzip(MESSAGE);
    let (first, second) = compressed.split_at(20);
    for (number, part) in [(1, second), (0, first)] {
        let chunk = [&[0x1e, 0x0f, 1, 2, 3, 4, 5, 6, 7, 8, number, 2], part].concat();
        sender.send_to(&chunk, address).await.unwrap();
    }
    let want = [
        r#"{facility="f", host="a", job="g", level="informational"} {"host":"a","facility":"f","level":6}"#
            .to_owned(),
        format!(r#"{{host="h1", job="g", level="warning", version="1.1"}} {MESSAGE}"#),
    ];
    assert_eq!(bench.lines(2).await, want);
    assert_eq!((bench.metrics.gelf_entries.get(), bench.metrics.gelf_parsing_errors.get()), (2, 1));

    // What arrived before the stop is still handed on.
    sender.send_to(br#"{"host":"last"}"#, address).await.unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(bench.lines(1).await, [r#"{host="last", job="g", level="alert"} {"host":"last"}"#]);
}
