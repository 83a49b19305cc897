//! The whole subscriber, with captured lines and with collectors dead and alive.

use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use http::HeaderMap;
use serde_json::Value;
use tracing::{info, info_span};

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.lock().clone()).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }

    fn json(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Installs for this thread, until the guard is dropped.
fn install(settings: Settings, variables: &[(&str, &str)]) -> (Captured, Guard) {
    let captured = Captured::default();
    let writer = captured.clone();
    let plan = environment::plan(settings, &Environment::of(variables));
    let sink: Sink = Arc::new(move |line: &[u8]| writer.lock().extend_from_slice(line));
    let (subscriber, mut guard) = assemble(plan, sink).unwrap();
    guard._local = Some(tracing::subscriber::set_default(subscriber));
    (captured, guard)
}

#[test]
fn a_line_holds_context_and_flattened_fields() {
    let (captured, _guard) = install(Settings::new("checkout"), &[]);
    info!(order = 17, ratio = 0.5, nan = f64::NAN, level = "gold", "paid \"{}\"", "in full");
    let outer = info_span!("outer", tenant = "acme", code = tracing::field::Empty, otel.name = "hidden");
    let _outer = outer.enter();
    outer.record("code", 7);
    let inner = info_span!("inner", tenant = "zeta");
    inner.in_scope(|| {
        tracing::warn!(error = &std::io::Error::other("full") as &dyn std::error::Error, "failed\nbadly")
    });

    let lines = captured.json();
    let keys: Vec<&str> = lines[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["timestamp", "level", "service", "target", "message", "order", "ratio", "nan", "fields.level"]
    );
    assert_eq!(lines[0]["message"], "paid \"in full\"");
    assert_eq!(
        (&lines[0]["order"], &lines[0]["level"], &lines[0]["service"]),
        (&17.into(), &"info".into(), &"checkout".into())
    );
    let timestamp = lines[0]["timestamp"].as_str().unwrap();
    assert!(
        timestamp.len() == 27 && timestamp.ends_with('Z') && timestamp.parse::<jiff::Timestamp>().is_ok(),
        "{timestamp}"
    );

    assert_eq!(
        (&lines[1]["tenant"], &lines[1]["code"], &lines[1]["error"]),
        (&"zeta".into(), &7.into(), &"full".into())
    );
    assert_eq!(lines[1]["level"], "warn");
    assert_eq!(lines[1]["message"], "failed\nbadly");
    assert_eq!(lines[1]["trace_sampled"], true);
    let hex = |key: &str, length: usize| {
        let text = lines[1][key].as_str().unwrap();
        assert!(text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit()), "{key}={text}");
    };
    hex("trace_id", 32);
    hex("span_id", 16);
    assert_eq!(lines[1].get("otel.name"), None);
    assert_eq!(lines[1]["trace_id"].as_str(), propagation::current_trace_id().as_deref());
}

#[test]
fn console_lines_are_for_people() {
    let (captured, _guard) = install(Settings::new("x").format(Format::Console), &[]);
    info!(path = "/a", note = "two words", "opened\nhere");
    let text = captured.text();
    assert!(text.ends_with(" info telemetry::tests: opened\\nhere path=/a note=\"two words\"\n"), "{text}");
}

#[test]
fn logfmt_lines_can_be_read_back() {
    let (captured, _guard) = install(Settings::new("x").format(Format::Logfmt), &[]);
    info!(path = "/a", note = "two words", empty = "", count = 3, "opened\nhere");
    let text = captured.text();
    let (time, rest) = text.split_once(' ').unwrap();
    assert!(time.starts_with("ts=2") && time.ends_with('Z'), "{text}");
    let want = r#"level=info service=x target=telemetry::tests msg="opened\nhere" path=/a note="two words" empty="" count=3"#;
    assert_eq!(rest, format!("{want}\n"));
}

#[test]
fn levels_filter_and_change_but_traces_stay() {
    let (captured, guard) = install(Settings::new("x").level("warn"), &[]);
    info!("unheard");
    let span = info_span!("quiet");
    span.in_scope(|| tracing::warn!("heard"));
    tracing::error!(target: "opentelemetry_sdk", "never heard");
    guard.level().set("debug").unwrap();
    tracing::debug!("now heard");
    tracing::debug!(target: "h2::codec", "still not");
    assert_eq!(guard.level().get(), "debug");
    assert!(guard.level().set("loud").is_err());
    let lines = captured.json();
    let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["heard", "now heard"]);
    assert!(lines[0]["trace_id"].is_string(), "{}", lines[0]);
    for (good, directives) in
        [(true, "info"), (true, "info,h2=debug"), (true, "OFF"), (false, "loud"), (false, "a=b")]
    {
        assert_eq!(check_level(directives).is_ok(), good, "{directives}");
    }
}

#[test]
fn trace_context_travels() {
    let (_captured, _guard) = install(Settings::new("x"), &[]);
    let mut incoming = HeaderMap::new();
    incoming
        .insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap());
    incoming.insert("tracestate", "a=b".parse().unwrap());
    let span = info_span!("server");
    propagation::set_parent(&span, &incoming);
    span.in_scope(|| {
        let mut outgoing = HeaderMap::new();
        propagation::inject(&mut outgoing);
        let parent = outgoing["traceparent"].to_str().unwrap();
        assert!(
            parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent.ends_with("-01"),
            "{parent}"
        );
        assert!(!parent.contains("00f067aa0ba902b7"));
        assert_eq!(outgoing["tracestate"], "a=b");
    });
    for bad in ["", "00-0-0-00", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        let mut incoming = HeaderMap::new();
        incoming.insert("traceparent", bad.parse().unwrap());
        let span = info_span!("root");
        propagation::set_parent(&span, &incoming);
        assert!(span.in_scope(propagation::current_trace_id).is_some(), "{bad}");
    }
    let mut outside = HeaderMap::new();
    propagation::inject(&mut outside);
    assert!(outside.is_empty());
}

#[test]
fn disabled_means_lines_only() {
    let variables = [("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let (captured, guard) = install(Settings::new("x"), &variables);
    info_span!("s").in_scope(|| info!("line"));
    let lines = captured.json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].get("trace_id"), None);
    assert!(guard.shutdown(Duration::ZERO), "there is nothing to export");
}

/// A collector that takes what comes.
#[test]
fn a_living_collector_gets_spans_and_logs_and_nothing_of_the_export_itself() {
    use opentelemetry_proto::tonic::collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    };
    use tonic::{Request, Response, Status};

    #[derive(Clone, Default)]
    struct Collector {
        traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
        logs: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
    }

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: Request<ExportTraceServiceRequest>,
        ) -> Result<Response<ExportTraceServiceResponse>, Status> {
            self.traces.lock().unwrap().push(request.into_inner());
            Ok(Response::new(ExportTraceServiceResponse::default()))
        }
    }

    #[tonic::async_trait]
    impl LogsService for Collector {
        async fn export(
            &self,
            request: Request<ExportLogsServiceRequest>,
        ) -> Result<Response<ExportLogsServiceResponse>, Status> {
            self.logs.lock().unwrap().push(request.into_inner());
            Ok(Response::new(ExportLogsServiceResponse::default()))
        }
    }

    let collector = Collector::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(LogsServiceServer::new(collector.clone()));
    runtime.spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));

    let settings = Settings::new("checkout")
        .version("1.4.0")
        .level("trace,h2=trace,hyper=trace")
        .otlp_endpoint(endpoint);
    let (captured, guard) =
        install(settings, &[("OTEL_BSP_SCHEDULE_DELAY", "50"), ("OTEL_BLRP_SCHEDULE_DELAY", "50")]);
    let trace = info_span!("pay", order = 17).in_scope(|| {
        info!(amount = 12.5, "paid");
        propagation::current_trace_id().unwrap()
    });
    // Several rounds of export, whose own events would come back in later rounds.
    std::thread::sleep(Duration::from_millis(300));
    info!("last");
    assert!(guard.shutdown(Duration::from_secs(10)), "all was handed over");

    let spans: Vec<_> =
        collector.traces.lock().unwrap().iter().flat_map(|r| r.resource_spans.clone()).collect();
    let service =
        spans[0].resource.as_ref().unwrap().attributes.iter().find(|kv| kv.key == "service.name").unwrap();
    assert!(format!("{:?}", service.value).contains("checkout"));
    let spans: Vec<_> = spans.iter().flat_map(|rs| &rs.scope_spans).flat_map(|ss| &ss.spans).collect();
    assert_eq!(spans.len(), 1);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((spans[0].name.as_str(), hex(&spans[0].trace_id)), ("pay", trace.clone()));

    let logs = collector.logs.lock().unwrap();
    let records: Vec<_> = logs.iter().flat_map(|r| &r.resource_logs).flat_map(|rl| &rl.scope_logs).collect();
    let records: Vec<_> = records.iter().flat_map(|sl| &sl.log_records).collect();
    let bodies: Vec<String> = records.iter().map(|record| format!("{:?}", record.body)).collect();
    assert_eq!(records.len(), 2, "{bodies:?}");
    assert!(bodies[0].contains("paid") && bodies[1].contains("last"), "{bodies:?}");
    assert_eq!((hex(&records[0].trace_id), hex(&records[0].span_id)), (trace, hex(&spans[0].span_id)));
    assert_eq!(
        (records[0].severity_text.as_str(), records[0].attributes[0].key.as_str()),
        ("INFO", "amount")
    );
    assert_eq!(captured.json().len(), 2, "{}", captured.text());
}

/// A collector that refuses connections, and one that takes them and never answers.
#[test]
fn a_dead_collector_costs_nothing_but_the_data() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), refusing] {
        let endpoint = format!("http://{address}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "10"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
            ("OTEL_BLRP_MAX_QUEUE_SIZE", "64"),
        ];
        let (captured, guard) = install(Settings::new("x").level("trace"), &variables);
        let begun = Instant::now();
        const EVENTS: u64 = 5_000;
        for n in 0..EVENTS {
            info_span!("work", n).in_scope(|| info!(n, "event"));
        }
        // Without waiting for anybody: blocking on the collector would take a timeout per batch, over 15 s here.
        assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
        assert!(guard.dropped() >= 2 * EVENTS - 2 * (64 + 512), "dropped {}", guard.dropped());
        assert!(begun.elapsed() < Duration::from_secs(10));
        let ending = Instant::now();
        assert!(!guard.shutdown(Duration::from_secs(1)));
        assert!(ending.elapsed() < Duration::from_secs(3), "ending took {:?}", ending.elapsed());
        assert_eq!(
            captured.json().len() as u64,
            EVENTS,
            "the application's log holds its own lines and no others"
        );
    }
}

#[test]
fn protobuf_over_http_goes_to_the_path_of_each_signal() {
    use std::io::{BufRead, BufReader, Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    // Ends with the process; it waits for connections that do not come.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let notes = notes.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let (mut head, mut line) = (Vec::new(), String::new());
                    while reader.read_line(&mut line).is_ok_and(|n| n > 0) && line != "\r\n" {
                        head.push(std::mem::take(&mut line).trim().to_lowercase());
                    }
                    let Some(request) = head.first() else { return };
                    let header =
                        |name: &str| head.iter().find_map(|h| Some(h.strip_prefix(name)?.trim().to_owned()));
                    let length = header("content-length:").and_then(|n| n.parse().ok()).unwrap_or(0);
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                    notes.lock().unwrap().push((
                        path,
                        header("content-type:").unwrap_or_default(),
                        length > 0,
                    ));
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                    reader.get_mut().write_all(answer).unwrap();
                }
            });
        }
    });
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    let (_captured, guard) = install(Settings::new("shop"), &variables);
    info_span!("work").in_scope(|| info!("done"));
    guard.shutdown(Duration::from_secs(10));
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let want =
        ["/v1/logs", "/v1/traces"].map(|path| (path.to_owned(), "application/x-protobuf".to_owned(), true));
    assert_eq!(seen, want);
}
