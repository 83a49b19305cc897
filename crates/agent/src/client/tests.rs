//! What senders make of a store's answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use model::{Labels, Timestamp};
use parking_lot::Mutex;
use service::{CancellationToken, Failure};
use wire::loki::PushRequest;

use super::{Destination, LocalStore, Queue, QueueOptions, Sender};
use crate::config::ClientConfig;
use crate::entry::{Entry, Tickets};
use crate::metrics::{AgentMetrics, HostLabels, LossLabels, TenantLabels};
use crate::progress::Progress;

/// Answers with what it was told to, then takes everything but the stream `{app="bad"}`; keeps `tenant: labels, …` of all requests.
#[derive(Default)]
struct Store {
    answers: Mutex<VecDeque<Failure>>,
    asked: Mutex<Vec<String>>,
}

impl LocalStore for Store {
    fn push(&self, tenant: &str, request: PushRequest) -> BoxFuture<'_, Result<(), Failure>> {
        let labels: Vec<&str> = request.streams.iter().map(|stream| stream.labels.as_str()).collect();
        let is_bad = labels.contains(&"{app=\"bad\"}");
        self.asked.lock().push(format!("{tenant}: {}", labels.join(", ")));
        let answer = match self.answers.lock().pop_front() {
            Some(failure) => Err(failure),
            None if is_bad => Err(Failure::invalid("a stream is bad")),
            None => Ok(()),
        };
        Box::pin(async move { answer })
    }
}

struct Scene {
    store: Arc<Store>,
    queue: Arc<Queue>,
    metrics: AgentMetrics,
    progress: Arc<Progress>,
    config: ClientConfig,
}

impl Scene {
    fn new(answers: impl IntoIterator<Item = Failure>) -> Self {
        let store = Arc::new(Store::default());
        store.answers.lock().extend(answers);
        let mut config = ClientConfig::default();
        config.backoff_config.min_period = service::config::Duration(Duration::from_millis(1));
        config.backoff_config.max_period = service::config::Duration(Duration::from_millis(4));
        let metrics = AgentMetrics::default();
        let queue = Arc::new(Queue::new(QueueOptions::of(&config, "embedded".into()), metrics.clone()));
        Self { store, queue, metrics, progress: Progress::new(0), config }
    }

    /// Queues one entry of each stream, sends, and tells what the store was asked.
    async fn send(&self, apps: &[&str]) -> Vec<String> {
        let ticket = self.progress.open(10);
        for app in apps {
            let mut entry = Entry::new(Timestamp(1), "line".into(), Labels::from_pairs([("app", *app)]));
            entry.tickets = Tickets::open(&ticket);
            self.queue.push(&entry);
        }
        ticket.done(1);
        self.queue.urge();
        let destination = Destination::Local(self.store.clone());
        let sender = Sender::new(self.queue.clone(), destination, self.config.clone(), self.metrics.clone());
        let stop = CancellationToken::new();
        let running = tokio::spawn(sender.run(stop.clone()));
        tokio::time::timeout(Duration::from_secs(20), self.progress.reached(10)).await.unwrap();
        stop.cancel();
        running.await.unwrap();
        assert!(self.queue.is_empty());
        std::mem::take(&mut self.store.asked.lock())
    }

    fn sent(&self) -> u64 {
        self.metrics.sent_entries.get_or_create(&HostLabels { host: "embedded".into() }).get()
    }

    fn dropped(&self, reason: &str) -> u64 {
        let labels = LossLabels { host: "embedded".into(), tenant: String::new(), reason: reason.into() };
        assert_eq!(
            self.metrics.dropped_bytes.get_or_create(&labels).get() > 0,
            self.metrics.dropped_entries.get_or_create(&labels).get() > 0
        );
        self.metrics.dropped_entries.get_or_create(&labels).get()
    }

    fn retries(&self) -> u64 {
        let labels = TenantLabels { host: "embedded".into(), tenant: String::new() };
        self.metrics.batch_retries.get_or_create(&labels).get()
    }
}

#[tokio::test]
async fn sent_until_the_store_has_it() {
    let away = |n: usize| Failure::unavailable(format!("try {n}"), None);
    let scene = Scene::new((0..12).map(away).chain((0..3).map(|_| Failure::limited("too much", None))));
    let asked = scene.send(&["a"]).await;
    assert_eq!((asked.len(), scene.sent(), scene.retries()), (16, 1, 15));
    assert_eq!(scene.dropped("ingester_error") + scene.dropped("rate_limited"), 0);
}

#[tokio::test]
async fn a_bad_stream_takes_no_other_along() {
    let scene = Scene::new([]);
    let asked = scene.send(&["a", "bad", "b"]).await;
    let all = r#": {app="a"}, {app="bad"}, {app="b"}"#;
    assert_eq!(asked, [all, r#": {app="a"}"#, r#": {app="bad"}"#, r#": {app="b"}"#]);
    assert_eq!((scene.sent(), scene.dropped("ingester_error")), (2, 1));

    // Who may not push may not push any stream.
    let scene = Scene::new([Failure::unauthenticated("no")]);
    assert_eq!(scene.send(&["a", "b"]).await.len(), 1);
    assert_eq!((scene.sent(), scene.dropped("ingester_error")), (0, 2));
}

#[tokio::test]
async fn only_who_asks_for_it_loses_lines_of_a_store_that_is_away() {
    let mut scene = Scene::new((0..9).map(|_| Failure::unavailable("away", None)));
    scene.config.backoff_config.max_retries = Some(3);
    assert_eq!(scene.send(&["a"]).await.len(), 3);
    assert_eq!((scene.sent(), scene.dropped("ingester_error")), (0, 1));

    let mut scene = Scene::new((0..9).map(|_| Failure::unavailable("away", None)));
    scene.config.backoff_config.max_retries = Some(0);
    assert_eq!(scene.send(&["a"]).await.len(), 10, "0 is for ever");

    let mut scene = Scene::new([Failure::limited("too much", None)]);
    scene.config.drop_rate_limited_batches = true;
    assert_eq!(scene.send(&["a"]).await.len(), 1);
    assert_eq!((scene.sent(), scene.dropped("rate_limited")), (0, 1));
}

#[tokio::test]
async fn what_was_received_is_left_for_an_heir() {
    let scene = Scene::new((0..99).map(|_| Failure::unavailable("away", None)));
    let ticket = scene.progress.open(10);
    let mut read = Entry::new(Timestamp(1), "read".into(), Labels::from_pairs([("app", "a")]));
    read.tickets = Tickets::open(&ticket);
    scene.queue.push(&read);
    scene.queue.push(&Entry::new(Timestamp(1), "received".into(), Labels::from_pairs([("app", "b")])));
    let destination = Destination::Local(scene.store.clone());
    let sender = Sender::new(scene.queue.clone(), destination, scene.config.clone(), scene.metrics.clone());
    let stop = CancellationToken::new();
    stop.cancel();
    sender.run(stop).await;
    let left = scene.queue.take_received();
    assert_eq!(left.iter().flat_map(|batch| batch.streams()).map(|stream| stream.entries).sum::<u64>(), 1);
    let heir = Queue::of_single_entries(1 << 20);
    heir.inherit(left);
    assert_eq!(heir.pop().unwrap().line, "received");
    assert_eq!(scene.progress.acknowledged(), 0);
}

/// Never answers.
struct Silent;

impl LocalStore for Silent {
    fn push(&self, _: &str, _: PushRequest) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_stop_waits_for_an_answer_no_longer_than_it_may() {
    let scene = Scene::new([]);
    let ticket = scene.progress.open(10);
    let mut entry = Entry::new(Timestamp(1), "line".into(), Labels::from_pairs([("app", "a")]));
    entry.tickets = Tickets::open(&ticket);
    scene.queue.push(&entry);
    scene.queue.urge();
    let destination = Destination::Local(Arc::new(Silent));
    let sender = Sender::new(scene.queue.clone(), destination, scene.config.clone(), scene.metrics.clone());
    let stop = CancellationToken::new();
    stop.cancel();
    let ended = sender.with_patience(Duration::from_millis(5)).run(stop);
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    // What was on its way is the queue's again, and not done.
    assert!(!scene.queue.is_empty() && scene.progress.acknowledged() == 0);
}
