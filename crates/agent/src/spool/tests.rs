//! A spool on disks that fail, and with clients that do not deliver.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;

use disk::sim::{Dice, SimFiles};
use model::{Labels, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::entry::Entry;
use crate::targets::testing::Bench;

/// A spool on these files, opened if they let it.
pub(crate) fn spool(files: &SimFiles, max_bytes: u64) -> Arc<Spool> {
    let room = Arc::new(Room::new(max_bytes));
    let files = Arc::new(files.clone());
    let spool = Spool::new("job", "spool".into(), files, room, TargetMetrics::default());
    let _ = spool.open();
    Arc::new(spool)
}

/// The task of a spool, which saves all the time.
pub(crate) fn run(spool: &Arc<Spool>, stop: &CancellationToken) -> tokio::task::JoinHandle<Result<()>> {
    tokio::spawn(spool.clone().run(Duration::from_millis(5), stop.clone()))
}

fn records(lines: &[String]) -> Records {
    let mut batch = Batch::default();
    for line in lines {
        batch.add(&Entry::new(Timestamp(1), line.clone(), Labels::from_pairs([("job", "j")])));
    }
    batch.finish()
}

/// Appends without a task.
fn append(spool: &Spool, lines: &[String]) -> Result<(), SpoolError> {
    let records = records(lines);
    let mut appended = pin!(spool.append(&records, None, ()));
    let waker = futures::task::noop_waker();
    let mut context = std::task::Context::from_waker(&waker);
    if let std::task::Poll::Ready(done) = appended.as_mut().poll(&mut context) {
        return done;
    }
    spool.commit();
    match appended.as_mut().poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => Err(SpoolError::Full),
    }
}

/// A client whose store takes a line by its number, once.
struct Client {
    progress: Arc<Progress>,
    log: LogReader,
}

impl Client {
    fn of(spool: &Spool) -> Option<Self> {
        spool.read_as("").map(|(progress, log)| Self { progress, log })
    }

    /// Delivers what can be read; of each record the store answers if the dice say so.
    fn deliver(
        &mut self,
        spool: &Spool,
        store: &mut BTreeMap<u64, String>,
        answers: &mut dyn FnMut() -> bool,
    ) {
        let end = *spool.ends.borrow();
        while self.log.position() < end {
            let Ok(mut records) = self.log.read(end) else { return };
            spool.pass_over_holes(&mut records);
            for (position, bytes) in records {
                let begin = record::first_number(position);
                for (number, line) in (begin..).zip(record::Lines::of(bytes).unwrap()) {
                    let line = line.unwrap().line;
                    let stored = store.entry(number).or_insert_with(|| line.clone());
                    assert_eq!(*stored, line, "another line was given the same number");
                }
                let ticket = self.progress.open(record::first_number(position + 1));
                if answers() {
                    ticket.done(1);
                }
            }
        }
    }
}

/// Lines, each of which is pushed once.
fn numbered(next: &mut usize, count: usize) -> Vec<String> {
    let lines = (*next..*next + count).map(|number| format!("line {number}")).collect();
    *next += count;
    lines
}

fn check(acknowledged: &BTreeSet<String>, refused: &BTreeSet<String>, store: &BTreeMap<u64, String>) {
    let stored: BTreeSet<_> = store.values().cloned().collect();
    assert_eq!(stored.len(), store.len(), "a line is there under two numbers");
    let missing: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    let known: BTreeSet<_> = acknowledged.union(refused).cloned().collect();
    assert!(stored.is_subset(&known));
}

/// Pushes, reads, saves and trims until the machine crashes; then again on what is left; then in peace.
fn crashes(seed: u64, fuel: u64) {
    let mut dice = Dice::new(seed);
    let (mut files, mut store, mut next) = (SimFiles::new(), BTreeMap::new(), 0);
    let (mut acknowledged, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for life in 0..3 {
        if life < 2 {
            files.crash_after(fuel / (1 + life));
        }
        let spool = spool(&files, 1 << 20);
        let mut client = Client::of(&spool);
        for _ in 0..12 {
            let lines = numbered(&mut next, 1 + dice.below(4) as usize);
            let kept = if append(&spool, &lines).is_ok() { &mut acknowledged } else { &mut refused };
            kept.extend(lines);
            if let Some(client) = &mut client
                && dice.below(2) == 0
            {
                client.deliver(&spool, &mut store, &mut || dice.below(3) > 0);
            }
            if dice.below(3) == 0 {
                spool.settle();
            }
        }
        if life == 2 {
            client.unwrap().deliver(&spool, &mut store, &mut || true);
        }
        drop(spool);
        files = files.restart(seed + life);
    }
    check(&acknowledged, &refused, &store);
}

#[test]
fn a_crash_at_any_byte_loses_and_repeats_nothing() {
    for fuel in (0..2500).step_by(7) {
        crashes(fuel, fuel);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn crashes_at_random(seed in any::<u32>(), fuel in 0_u64..4000) {
        crashes(u64::from(seed), fuel);
    }
}

#[test]
fn a_disk_that_is_full_or_fails_refuses_and_gets_well() {
    for seed in 0..50 {
        let mut dice = Dice::new(seed);
        let files = SimFiles::new();
        let spool = spool(&files, 1 << 20);
        let mut client = Client::of(&spool).unwrap();
        let (mut store, mut next) = (BTreeMap::new(), 0);
        let (mut acknowledged, mut refused) = (BTreeSet::new(), 0);
        for _ in 0..30 {
            match dice.below(4) {
                0 => files.set_space(Some(dice.below(60))),
                1 => files.fail_syncs(1),
                _ => files.set_space(None),
            }
            let lines = numbered(&mut next, 2);
            match append(&spool, &lines) {
                Ok(()) => acknowledged.extend(lines),
                Err(error) => {
                    assert!(matches!(error, SpoolError::Failed(_)), "{error}");
                    refused += 1;
                }
            }
            client.deliver(&spool, &mut store, &mut || true);
            if dice.below(4) == 0 {
                spool.settle();
            }
        }
        files.set_space(None);
        // What was refused is refused: its sender has it still, and sends it again.
        check(&acknowledged, &BTreeSet::new(), &store);
        assert!(refused > 0 && !acknowledged.is_empty());
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_tried_again() {
    let files = SimFiles::new();
    files.set_space(Some(0));
    let spool = spool(&files, 1 << 20);
    assert!(Client::of(&spool).is_none());
    assert!(matches!(append(&spool, &["a".into()]), Err(SpoolError::Failed(_))));
    files.set_space(None);
    append(&spool, &["a".into()]).unwrap();
    assert!(Client::of(&spool).is_some());
}

#[tokio::test]
async fn what_has_no_room_waits_until_clients_deliver() {
    let files = SimFiles::new();
    let spool = spool(&files, 1 << 20);
    let mut client = Client::of(&spool).unwrap();
    let line = |number: u64| format!("{number} {}", "x".repeat(100 << 10));
    let mut taken = 0;
    while append(&spool, &[line(taken)]).is_ok() {
        taken += 1;
    }
    assert!((9..=10).contains(&taken), "{taken}");
    let records = records(&[line(taken)]);
    let soon = tokio::time::Instant::now() + Duration::from_millis(300);
    assert_eq!(spool.append(&records, Some(soon), ()).await, Err(SpoolError::Full));
    let large = super::tests::records(&["x".repeat(2 << 20)]);
    assert!(matches!(spool.append(&large, None, ()).await, Err(SpoolError::TooLarge { .. })));

    let stop = CancellationToken::new();
    let running = run(&spool, &stop);
    let waiting = tokio::spawn({
        let spool = spool.clone();
        async move { spool.append(&records, None, ()).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    let mut store = BTreeMap::new();
    client.deliver(&spool, &mut store, &mut || true);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    client.deliver(&spool, &mut store, &mut || true);
    assert_eq!(store.len() as u64, taken + 1);
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(spool.bytes.get() < 100, "{} bytes are left of nothing", spool.bytes.get());
}

#[tokio::test]
async fn a_client_that_is_away_holds_up_nobody() {
    let files = SimFiles::new();
    let spool = spool(&files, 16 << 20);
    let (dead, live) = (Bench::new(json!([]), 1), Bench::new(json!([]), 1 << 20));
    let stop = CancellationToken::new();
    let read = |name: &str, bench: &Bench, stop: &CancellationToken| {
        let (spool, inlet) = (spool.clone(), bench.inlets.open());
        tokio::spawn(SpoolReader::run(spool, name.to_owned(), inlet, stop.clone()))
    };
    let running = [run(&spool, &stop), read("dead", &dead, &stop), read("live", &live, &stop)];
    let mut next = 0;
    for _ in 0..20 {
        let lines = numbered(&mut next, 50);
        spool.append(&records(&lines), None, ()).await.unwrap();
    }
    let all = numbered(&mut 0, 1000);
    for line in &all {
        let entry = live.entry().await;
        assert_eq!((entry.line.as_str(), entry.labels.to_string().as_str()), (line.as_str(), r#"{job="j"}"#));
        entry.tickets.done();
    }
    let took = dead.entry().await;
    assert_eq!(took.line, all[0]);
    stop.cancel();
    for task in running {
        task.await.unwrap().unwrap();
    }

    // Both go on where they were: the one at the end, the other at the beginning, for nothing was acknowledged.
    drop(spool);
    let spool = self::spool(&files.restart(1), 16 << 20);
    let places = |spool: &Spool| {
        let clients = spool.clients.lock();
        clients.as_ref().unwrap().offsets().map(|(name, at)| (name.to_owned(), at)).collect::<Vec<_>>()
    };
    let end = record::first_number(*spool.ends.borrow());
    assert_eq!(places(&spool), [("dead".to_owned(), 0), ("live".to_owned(), end)]);
    let before = spool.log.lock().as_ref().unwrap().bytes();
    spool.settle();
    assert_eq!(spool.log.lock().as_ref().unwrap().bytes(), before, "one client has all of it before it");
    // Without the other it is not needed any more.
    spool.keep_clients(&[SpoolClient { name: "live".to_owned(), aliases: Vec::new() }]);
    spool.settle();
    assert!(spool.log.lock().as_ref().unwrap().bytes() < before);
}

#[tokio::test]
async fn lines_that_are_done_are_not_read_again() {
    let files = SimFiles::new();
    let spool = spool(&files, 1 << 20);
    append(&spool, &numbered(&mut 0, 5)).unwrap();
    let bench = Bench::new(json!([]), 1 << 20);
    let start = |spool: &Arc<Spool>, stop: &CancellationToken| {
        tokio::spawn(SpoolReader::run(spool.clone(), "c".into(), bench.inlets.open(), stop.clone()))
    };
    let stop = CancellationToken::new();
    let reading = start(&spool, &stop);
    for _ in 0..3 {
        bench.entry().await.tickets.done();
    }
    // Two more are on their way, and unacknowledged.
    let lost = [bench.entry().await, bench.entry().await];
    stop.cancel();
    reading.await.unwrap().unwrap();
    spool.settle();
    drop((lost, spool));

    let spool = self::spool(&files.restart(1), 1 << 20);
    let stop = CancellationToken::new();
    let reading = start(&spool, &stop);
    let entry = bench.entry().await;
    let (progress, ranges) = entry.tickets.origin().unwrap();
    assert_eq!((entry.line.as_str(), ranges.len(), ranges[0].clone()), ("line 3", 1, 3..4));
    assert!(progress.source().is_some_and(|source| source.is_durable() && source.low() == 3));
    assert_eq!(bench.entry().await.line, "line 4");
    stop.cancel();
    reading.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_counted() {
    let files = SimFiles::new();
    let spool = spool(&files, 1 << 20);
    let good = records(&["good".to_owned()]).records;
    let torn = good[0].slice(..good[0].len() - 1);
    let all = [Bytes::from_static(&[7, 7]), torn.clone(), good[0].clone(), torn];
    spool.log.lock().as_mut().unwrap().append(&all).unwrap();
    spool.ends.send_replace(4);
    let (bench, stop) = (Bench::new(json!([]), 1 << 20), CancellationToken::new());
    let reading =
        tokio::spawn(SpoolReader::run(spool.clone(), "c".into(), bench.inlets.open(), stop.clone()));
    let entry = bench.entry().await;
    assert_eq!(entry.line, "good");
    entry.tickets.done();
    stop.cancel();
    reading.await.unwrap().unwrap();
    let lost = crate::targets::LostLabels { target: "spool", reason: "corrupt" };
    assert_eq!(spool.metrics.lost.get_or_create(&lost).get(), 3);
    assert_eq!(
        spool.clients.lock().as_ref().unwrap().lowest(),
        Some(record::first_number(4)),
        "it is not in the way"
    );
}

#[test]
fn a_spool_lies_in_its_folder() {
    let files = SimFiles::new();
    let _spool = spool(&files, 1 << 20);
    let names = disk::Files::list(&files, Path::new("spool")).unwrap();
    assert!(names.iter().any(|name| name == "clients.json"), "{names:?}");
}

#[tokio::test]
async fn a_reload_keeps_what_waits() {
    let port = testkit::port::free();
    let jobs = |stages: &str| {
        let server =
            format!("{{http_listen_address: 127.0.0.1, http_listen_port: {port}, grpc_listen_port: 0}}");
        let push = format!("{{server: {server}, labels: {{job: p}}}}");
        let wal = "wal: {enabled: true, dir: '{0}/wal'}";
        format!("[{{job_name: p, loki_push_api: {push}, pipeline_stages: {stages}}}]\n{wal}")
    };
    let without = "[{job_name: q, static_configs: [{labels: {__path__: '{0}/no.log'}}]}]";
    let bench = crate::run::tests::Bench::start(&jobs("[]"));
    let push = async |text: &'static str| {
        let url = format!("http://127.0.0.1:{port}/promtail/api/v1/raw");
        reqwest::Client::new().post(url).body(text).send().await.unwrap().status().as_u16()
    };
    let away = |is_away| bench.store.is_away.store(is_away, std::sync::atomic::Ordering::Relaxed);
    away(true);
    assert_eq!(push("one\ntwo").await, 204);
    bench.reload(&jobs("[{static_labels: {stage: new}}]")).await.unwrap();
    assert_eq!(push("three").await, 204);
    // The job goes, and comes back.
    bench.reload(without).await.unwrap();
    bench.reload(&jobs("[{static_labels: {stage: newer}}]")).await.unwrap();
    away(false);
    bench.store.expect("stage=\"newer\"", 3).await;
    assert_eq!(push("four").await, 204);
    bench.store.expect("job=\"p\"", 4).await;
    bench.end().await;
}
