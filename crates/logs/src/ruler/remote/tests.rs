//! Samples on their way to a server that answers as it is told, with restarts between.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use service::Metrics;
use tokio::task::JoinHandle;
use wire::prometheus::remote::{TimeSeries, decode};

use super::*;
use crate::ruler::client::ClientConfig;
use model::relabel::RelabelConfig;

/// Tenant and series of a request.
type Request = (String, Vec<TimeSeries>);

/// A receiver of remote write.
#[derive(Clone, Default)]
struct Receiver {
    /// Every request that was taken.
    taken: Arc<Mutex<Vec<Request>>>,
    /// Statuses of the next requests; then 204.
    script: Arc<Mutex<VecDeque<u16>>>,
    requests: Arc<Mutex<usize>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    *receiver.requests.lock() += 1;
    if let Some(status) = receiver.script.lock().pop_front() {
        return StatusCode::from_u16(status).unwrap();
    }
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/x-protobuf");
    assert_eq!(header("content-encoding"), "snappy");
    assert_eq!(header("x-prometheus-remote-write-version"), "0.1.0");
    let plain = wire::decompress::decompress(body, wire::decompress::Encoding::Snappy, 1 << 20).unwrap();
    receiver.taken.lock().push((header("x-scope-orgid"), decode(&plain).unwrap()));
    StatusCode::NO_CONTENT
}

impl Receiver {
    async fn serve(&self) -> (String, JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1/write", listener.local_addr().unwrap());
        let router = Router::new().route("/api/v1/write", post(receive)).with_state(self.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (url, server)
    }

    /// Time and value of every sample of a series.
    fn samples(&self, tenant: &str, name: &str) -> Vec<(i64, f64)> {
        let taken = self.taken.lock();
        let series = taken.iter().filter(|(of, _)| of == tenant).flat_map(|(_, series)| series);
        let named = series.filter(|s| s.labels.iter().any(|(n, v)| n == "__name__" && v == name));
        named.flat_map(|s| s.samples.iter().map(|s| (s.timestamp_ms, s.value))).collect()
    }
}

fn config(url: &str) -> RulerConfig {
    let mut config = RulerConfig::default();
    config.remote_write.enabled = true;
    let mut client = ClientConfig { url: url.to_owned(), ..ClientConfig::default() };
    client.queue_config.min_backoff = service::config::Duration::from_millis(1);
    client.queue_config.max_backoff = service::config::Duration::from_millis(5);
    config.remote_write.clients.insert("main".to_owned(), client);
    config
}

/// A running queue.
struct Running {
    remote: Arc<RemoteWrite>,
    metrics: Metrics,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(config: &RulerConfig, dir: &Path) -> Self {
        let metrics = Metrics::default();
        let remote =
            Arc::new(RemoteWrite::open(config, dir, RulerMetrics::register(&metrics, false)).unwrap());
        let cancel = CancellationToken::new();
        let (own, token) = (remote.clone(), cancel.clone());
        let task = tokio::spawn(async move { own.run(token).await });
        Self { remote, metrics, cancel, task }
    }

    async fn append(&self, tenant: &str, name: &str, second: i64, value: f64) {
        let labels =
            Pairs::from([("__name__".to_owned(), name.to_owned()), ("app".to_owned(), "a".to_owned())]);
        let tenant = TenantId::parse(tenant).unwrap();
        let at = Timestamp::now().plus(second * 1_000_000_000);
        self.remote.append(&tenant, at, vec![(labels, Some(value))]).await;
    }

    /// Writes what it has, and ends.
    async fn stop(self) {
        self.remote.close();
        self.cancel.cancel();
        self.task.await.unwrap();
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.text();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn values(samples: &[(i64, f64)]) -> Vec<f64> {
    samples.iter().map(|(_, value)| *value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_now_is_sent_again_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::default();
    receiver.script.lock().extend([503, 429, 500]);
    let (url, server) = receiver.serve().await;
    let running = Running::start(&config(&url), dir.path());
    for n in 0..20 {
        running.append("t", "a", n, n as f64).await;
        running.append("u", "a", n, 100.0 + n as f64).await;
    }
    until("all samples", || receiver.samples("t", "a").len() == 20 && receiver.samples("u", "a").len() == 20)
        .await;
    let samples = receiver.samples("t", "a");
    assert_eq!(values(&samples), (0..20).map(f64::from).collect::<Vec<_>>());
    assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(values(&receiver.samples("u", "a"))[19], 119.0);
    let storage = "ruler_wal_prometheus_remote_storage";
    // They are counted when the answer is there.
    until("a full count", || running.metric(&format!("{storage}_samples_total")) == 40.0).await;
    assert!(running.metric(&format!("{storage}_samples_retried_total")) >= 3.0);
    running.stop().await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::default();
    receiver.script.lock().push_back(400);
    let (url, server) = receiver.serve().await;
    let running = Running::start(&config(&url), dir.path());
    running.append("t", "a", 0, 1.0).await;
    until("a refusal", || *receiver.requests.lock() == 1).await;
    running.append("t", "a", 1, 2.0).await;
    until("the next sample", || values(&receiver.samples("t", "a")) == [2.0]).await;
    assert_eq!(running.metric("ruler_wal_prometheus_remote_storage_samples_failed_total"), 1.0);
    running.stop().await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::default();
    let (url, server) = receiver.serve().await;
    let config = config(&url);
    let running = Running::start(&config, dir.path());
    running.append("t", "a", -3, 1.0).await;
    until("the first sample", || receiver.samples("t", "a").len() == 1).await;
    // Nothing listens any more.
    server.abort();
    let _ = server.await;
    running.append("t", "a", -2, 2.0).await;
    running.append("t", "b", -2, 3.0).await;
    running.stop().await;
    let running = Running::start(&config, dir.path());
    running.append("t", "a", -1, 4.0).await;
    running.stop().await;

    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let router = Router::new().route("/api/v1/write", post(receive)).with_state(receiver.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let running = Running::start(&config, dir.path());
    until("what waited", || receiver.samples("t", "a").last().is_some_and(|s| s.1 == 4.0)).await;
    let mut seen = values(&receiver.samples("t", "a"));
    // The first may come twice.
    seen.dedup();
    assert!(seen.ends_with(&[2.0, 4.0]), "{seen:?}");
    assert_eq!(values(&receiver.samples("t", "b")), [3.0]);
    running.stop().await;
    server.abort();
    let progress = std::fs::read_to_string(dir.path().join("progress.json")).unwrap();
    assert!(progress.contains("main"), "{progress}");
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_relabelled_and_old_ones_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::default();
    let (url, server) = receiver.serve().await;
    let mut config = config(&url);
    let client = config.remote_write.clients.get_mut("main").unwrap();
    let rule = |source: &str, regex: &str, action: &str| RelabelConfig {
        source_labels: if source.is_empty() { Vec::new() } else { vec![source.to_owned()] },
        regex: regex.to_owned(),
        action: action.to_owned(),
        ..RelabelConfig::default()
    };
    client.write_relabel_configs = vec![rule("__name__", "secret", "drop"), rule("", "app", "labeldrop")];
    let running = Running::start(&config, dir.path());
    running.append("t", "secret", 0, 1.0).await;
    running.append("t", "open", -5 * 3600, 1.0).await;
    running.append("t", "open", 0, 2.0).await;
    until("the open series", || values(&receiver.samples("t", "open")) == [2.0]).await;
    assert!(receiver.samples("t", "secret").is_empty());
    let names = |(_, series): &Request| {
        series.iter().flat_map(|s| s.labels.iter().map(|(name, _)| name.clone())).collect::<Vec<_>>()
    };
    assert!(receiver.taken.lock().iter().flat_map(names).all(|name| name != "app"));
    until("the count of old samples", || {
        running.metric("ruler_wal_prometheus_remote_storage_samples_dropped_total") == 1.0
    })
    .await;
    running.stop().await;
    server.abort();
}

#[test]
fn the_oldest_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let batch = |n: i64| Batch {
        tenant: TenantId::parse("t").unwrap(),
        timestamp_ms: n,
        samples: 2,
        series: vec![0; 1000].into(),
    };
    let ids = || vec!["a".to_owned(), "b".to_owned()];
    let queue = Queue::open(dir.path(), ids(), 5000).unwrap();
    let mut dropped = 0;
    for n in 0..10 {
        let lost = queue.append(vec![batch(n)]).unwrap();
        dropped += lost.iter().filter(|(at, _)| *at == 0).map(|(_, count)| count).sum::<u64>();
        if n == 8 {
            let front = queue.front(1, 4);
            assert_eq!(front.iter().map(|(_, b)| b.timestamp_ms).collect::<Vec<_>>(), [5, 6]);
            queue.done(1, &front);
        }
    }
    assert_eq!((dropped, queue.samples(0), queue.samples(1)), (12, 8, 6));
    queue.save_progress().unwrap();
    drop(queue);
    let again = Queue::open(dir.path(), ids(), 5000).unwrap();
    let times = |at| again.front(at, 100).iter().map(|(_, b)| b.timestamp_ms).collect::<Vec<_>>();
    assert_eq!((times(0), times(1)), (vec![6, 7, 8, 9], vec![7, 8, 9]));
}
