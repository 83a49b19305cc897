//! The listener on loopback.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::*;
use crate::targets::testing::Bench;

struct Fixture {
    bench: Bench,
    address: SocketAddr,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<()>>,
}

impl Fixture {
    fn start(bench: Bench, config: SyslogConfig) -> Self {
        let config = SyslogConfig { listen_address: "127.0.0.1:0".into(), ..config };
        let target = SyslogTarget::bind(&config, bench.inlets.clone()).unwrap();
        let (address, stop) = (target.address(), CancellationToken::new());
        let running = tokio::spawn(target.run(stop.clone()));
        Self { bench, address, stop, running }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn end(self) -> Bench {
        self.stop.cancel();
        timeout(Duration::from_secs(20), self.running).await.unwrap().unwrap().unwrap();
        self.bench
    }
}

/// Resolves when the other side has closed the connection.
async fn closed(mut stream: TcpStream) {
    let mut byte = [0];
    let read = timeout(Duration::from_secs(20), stream.read(&mut byte)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn both_framings_over_tcp() {
    let config = SyslogConfig {
        labels: BTreeMap::from([("job".into(), "s".into())]),
        label_structured_data: true,
        ..SyslogConfig::default()
    };
    let fixture = Fixture::start(Bench::mapping("__syslog_message_"), config);
    let mut lines = fixture.connect().await;
    lines.write_all(b"<13>1 - h a - - - one\n<13>1 - h a - - - t").await.unwrap();
    lines.write_all(b"wo\nno message\n<13>1 - h a - - -\n").await.unwrap();
    let shown = fixture.bench.lines(3).await;
    let texts: Vec<_> = shown.iter().map(|line| line.split_once("} ").unwrap().1).collect();
    assert_eq!(texts, ["one", "two", "no message"]);

    let mut counted = fixture.connect().await;
    counted.write_all(b"23 <13>1 - h a - - - three24 <13>1 - h a - - - fo\nur!").await.unwrap();
    let shown = fixture.bench.lines(2).await;
    assert!(shown[0].ends_with(" three") && shown[1].ends_with(" fo\nur!"), "{shown:?}");

    // A last line without its end is a message too.
    lines.write_all(b"<13>1 - h a - - - last").await.unwrap();
    drop(lines);
    assert!(fixture.bench.lines(1).await[0].ends_with(" last"));
    let metrics = fixture.end().await.metrics;
    let counts = [&metrics.syslog_entries, &metrics.syslog_parsing_errors, &metrics.syslog_empty_messages];
    assert_eq!(counts.map(|counter| counter.get()), [7, 1, 1]);
}

#[tokio::test]
async fn labels_time_and_whole_messages() {
    let rules = serde_json::json!([
        {"action": "labelmap", "regex": "__syslog_(?:message|connection)_(.*)"},
        {"source_labels": ["__syslog_message_app_name"], "regex": "noise", "action": "drop"},
    ]);
    let config = SyslogConfig {
        label_structured_data: true,
        use_incoming_timestamp: true,
        use_rfc5424_message: true,
        ..SyslogConfig::default()
    };
    let fixture = Fixture::start(Bench::new(rules, 1 << 20), config);
    let message = r#"<165>1 2003-10-11T22:14:15.003Z h.example app 7 ID47 [x@1 k="v"] text"#;
    let mut stream = fixture.connect().await;
    stream.write_all(format!("<1>1 - - noise - - - dropped\n{message}\n").as_bytes()).await.unwrap();
    let entry = fixture.bench.entry().await;
    assert_eq!(
        (entry.line.as_str(), entry.timestamp.to_string().as_str()),
        (message, "2003-10-11T22:14:15.003Z")
    );
    let labels: Vec<_> = entry.labels.iter().filter(|(n, _)| !n.starts_with("host")).collect();
    let want = [
        ("app_name", "app"),
        ("facility", "local4"),
        ("ip_address", "127.0.0.1"),
        ("msg_id", "ID47"),
        ("proc_id", "7"),
        ("sd_x_1_k", "v"),
        ("severity", "notice"),
    ];
    assert_eq!(labels, want);
    fixture.end().await;
}

#[tokio::test]
async fn datagrams_and_the_older_format() {
    let config = SyslogConfig {
        listen_protocol: SyslogProtocol::Udp,
        syslog_format: SyslogFormat::Rfc3164,
        max_message_length: 64,
        ..SyslogConfig::default()
    };
    let fixture = Fixture::start(Bench::mapping("__syslog_message_"), config);
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    sender.send_to(b"<34>Oct 11 22:14:15 web su[4]: failed\n", fixture.address).await.unwrap();
    let want = r#"{app_name="su", facility="auth", hostname="web", proc_id="4", severity="critical"} failed"#;
    assert_eq!(fixture.bench.lines(1).await, [want]);
    // What has arrived when the agent stops is still handed on.
    let long = format!("<34>{}", "x".repeat(100));
    sender.send_to(long.as_bytes(), fixture.address).await.unwrap();
    let bench = fixture.end().await;
    let cut = &bench.lines(1).await[0];
    assert!(cut.ends_with(&format!("}} {}", "x".repeat(60))), "{cut}");
    assert_eq!(bench.metrics.syslog_cut_messages.get(), 1);
}

#[tokio::test]
async fn connections_that_are_idle_or_foreign_are_closed() {
    let idle_timeout = service::config::Duration::from_millis(50);
    let fixture =
        Fixture::start(Bench::mapping("x"), SyslogConfig { idle_timeout, ..SyslogConfig::default() });
    closed(fixture.connect().await).await;
    assert_eq!(fixture.end().await.metrics.syslog_parsing_errors.get(), 0);

    let fixture = Fixture::start(Bench::mapping("x"), SyslogConfig::default());
    let mut foreign = fixture.connect().await;
    foreign.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    closed(foreign).await;
    assert_eq!(fixture.end().await.metrics.syslog_parsing_errors.get(), 1);
}

#[tokio::test]
async fn peers_wait_while_there_is_no_room_and_the_stop_is_bounded() {
    let rules = serde_json::json!([{"target_label": "job", "replacement": "s"}]);
    let fixture = Fixture::start(
        Bench::new(rules, 1),
        SyslogConfig { max_message_length: 1 << 20, ..SyslogConfig::default() },
    );
    let mut stream = fixture.connect().await;
    let line = format!("<13>1 - h a - - - {}\n", "x".repeat(500 << 10));
    let writing = tokio::spawn(async move {
        for _ in 0..100 {
            stream.write_all(line.as_bytes()).await.unwrap();
        }
        stream
    });
    // 50 MB are on their way; a few of them are taken in.
    assert!(
        timeout(Duration::from_millis(500), async {
            while !writing.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        })
        .await
        .is_err()
    );
    for _ in 0..100 {
        assert!(fixture.bench.lines(1).await[0].len() > 500 << 10);
    }
    drop(writing.await.unwrap());
    fixture.end().await;
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/targets/syslog/testdata").join(name)
}

fn client(with_certificate: bool) -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match with_certificate {
        true => {
            let chain = vec![CertificateDer::from_pem_file(file("client.pem")).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(file("client.key")).unwrap())
                .unwrap()
        }
        false => builder.with_no_client_auth(),
    };
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn tls_with_and_without_a_client_certificate() {
    let text = |name: &str| file(name).to_string_lossy().into_owned();
    let tls =
        SyslogTls { cert_file: text("server.pem"), key_file: text("server.key"), ca_file: text("ca.pem") };
    let rules = serde_json::json!([{"target_label": "job", "replacement": "s"}]);
    let fixture = Fixture::start(
        Bench::new(rules, 1 << 20),
        SyslogConfig { tls_config: tls, ..SyslogConfig::default() },
    );
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = client(true).connect(name.clone(), fixture.connect().await).await.unwrap();
    stream.write_all(b"<13>1 - h a - - - secret\n").await.unwrap();
    assert_eq!(fixture.bench.lines(1).await, [r#"{job="s"} secret"#]);

    // A stranger is told at the first read, if not before.
    if let Ok(mut stream) = client(false).connect(name, fixture.connect().await).await {
        let _ = stream.write_all(b"<13>1 - h a - - - stranger\n").await;
        assert!(stream.read(&mut [0]).await.is_err());
    }
    let mut plain = fixture.connect().await;
    plain.write_all(b"<13>1 - h a - - - plain\n").await.unwrap();
    let bench = fixture.end().await;
    assert!(bench.queue.pop().is_none());
}

#[test]
fn mistakes_of_the_configuration() {
    let check = |yaml: serde_json::Value, want: &str| {
        let config: SyslogConfig = serde_json::from_value(yaml).unwrap();
        let mut problems = Problems::default();
        config.check("syslog", &mut problems);
        assert!(problems.to_string().contains(want), "{problems}");
    };
    use serde_json::json;
    check(json!({}), "syslog.listen_address: is missing");
    check(
        json!({"listen_address": ":1", "max_message_length": 1}),
        "syslog.max_message_length: 1 is not between",
    );
    check(json!({"listen_address": ":1", "labels": {"a-b": "x"}}), "syslog.labels: 'a-b'");
    check(
        json!({"listen_address": ":1", "tls_config": {"ca_file": "x"}}),
        "syslog.tls_config: TLS needs both",
    );
    let udp = json!({"listen_address": ":1", "listen_protocol": "udp", "tls_config": {"cert_file": "x", "key_file": "y"}});
    check(udp, "TLS needs listen_protocol: tcp");
    let tls = SyslogTls { cert_file: "/nowhere/x.pem".into(), key_file: "y".into(), ca_file: String::new() };
    let config =
        SyslogConfig { listen_address: "127.0.0.1:0".into(), tls_config: tls, ..SyslogConfig::default() };
    let error = SyslogTarget::bind(&config, Bench::mapping("x").inlets).err().unwrap();
    assert!(format!("{error:#}").starts_with("syslog.tls_config: cert_file: '/nowhere/x.pem'"), "{error:#}");
}

#[tokio::test]
async fn messages_lie_in_the_spool_until_they_are_read() {
    let files = disk::sim::SimFiles::new();
    let spool = crate::spool::tests::spool(&files, 1 << 20);
    let stop = CancellationToken::new();
    let writing = crate::spool::tests::run(&spool, &stop);
    let mut bench = Bench::mapping("__syslog_message_");
    let (inlet, spooled) = (bench.inlets.open(), bench.spooled(spool.clone()));
    bench.inlets = spooled;
    let fixture = Fixture::start(bench, SyslogConfig::default());
    let mut stream = fixture.connect().await;
    // The disk fails at first: the messages wait.
    files.fail_syncs(1);
    stream.write_all(b"<13>1 - h a - - - one\n<14>1 - h a - - - two\n").await.unwrap();
    let reading = tokio::spawn(crate::spool::SpoolReader::run(spool, "c".into(), inlet, stop.clone()));
    let want = ["notice\"} one", "informational\"} two"];
    let lines = fixture.bench.lines(2).await;
    assert!(lines.iter().zip(want).all(|(line, want)| line.ends_with(want)), "{lines:?}");
    fixture.end().await;
    stop.cancel();
    reading.await.unwrap().unwrap();
    writing.await.unwrap().unwrap();
}
