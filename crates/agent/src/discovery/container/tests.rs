//! Parts and messages, and a reader in front of an engine that ends its answers where engines do.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use model::{Labels, Timestamp};
use parking_lot::Mutex;
use service::config::{Problems, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::*;
use crate::client::Queue;
use crate::config::{DockerSdConfig, PositionsConfig};
use crate::metrics::{AgentMetrics, StageMetrics};
use crate::pipeline::Pipeline;

fn part(stream: Stream, nanos: i64, text: &str) -> Part {
    Part { stream, time: Timestamp(1_800_000_000_000_000_000 + nanos), text: text.as_bytes().to_vec() }
}

fn lines(parts: Vec<Part>, ends: bool) -> Vec<String> {
    let (mut lines, mut new) = (Lines::new(Numbering::new(0, 0)), Vec::new());
    parts.into_iter().for_each(|part| lines.take(part, &mut new));
    if ends {
        lines.end(&mut new);
    }
    let show = |line: &Numbered| {
        let Message { stream, time, text } = &line.message;
        format!("{} {} {text}", stream.as_str(), time.nanos() % 10)
    };
    new.iter().map(show).collect()
}

#[test]
fn parts_are_joined() {
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    let parts = || {
        vec![
            part(out, 1, "a"),
            part(err, 2, "x\r\n"),
            part(out, 1, "b\n"),
            part(out, 3, "never ended"),
            part(out, 4, "\n"),
            part(err, 5, "open"),
        ]
    };
    let complete = ["stderr 2 x", "stdout 1 ab", "stdout 3 never ended", "stdout 4 "];
    assert_eq!(lines(parts(), false), complete);
    assert_eq!(lines(parts(), true), [&complete[..], &["stderr 5 open"]].concat());
}

#[test]
fn long_messages_are_cut_alike_however_they_come() {
    let text = "l".repeat(MAX_MESSAGE + 10) + "\n";
    let cut = |size: usize| {
        let pieces = text.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap());
        lines(pieces.map(|piece| part(Stream::Stdout, 1, piece)).collect(), false)
    };
    let whole = cut(2 * MAX_MESSAGE);
    assert_eq!(whole.iter().map(String::len).collect::<Vec<_>>(), [MAX_MESSAGE + 9, 19]);
    assert_eq!(cut(1000), whole);
    assert_eq!(cut(Frames::MAX_PART), whole);
}

/// An engine with one container that has ended.
struct Engine {
    /// What is asked for, one after another.
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Engine {
    /// Those who ask for the output get one of `outputs` after another.
    fn start(socket: &Path, mut outputs: VecDeque<Vec<u8>>) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(peer.read_u8().await.unwrap());
                }
                let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
                let (kind, body) = if path.contains("/logs?") {
                    ("application/octet-stream", outputs.pop_front().unwrap_or_default())
                } else {
                    ("application/json", br#"{"Id":"c1","State":{"Running":false}}"#.to_vec())
                };
                log.lock().push(path);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                peer.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            }
        });
        Self { asked, task }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Lines of a file as the engine sends them.
fn output(lines: Range<u32>) -> Vec<u8> {
    let line = |n: u32| {
        // Two lines of each time.
        let payload = format!("2026-11-02T03:04:05.{:09}Z line {n}\n", n / 2);
        [&[1, 0, 0, 0], &(payload.len() as u32).to_be_bytes()[..], payload.as_bytes()].concat()
    };
    lines.flat_map(line).collect()
}

/// Reads the container to its end; what came out, and the source it was sent under. The first `acknowledged` lines reach a store.
async fn read(
    folder: &Path,
    outputs: &[Vec<u8>],
    acknowledged: usize,
) -> (Vec<(String, Range<u64>)>, u128, Vec<String>) {
    let socket = folder.join("engine.sock");
    let _ = std::fs::remove_file(&socket);
    let engine = Engine::start(&socket, outputs.iter().cloned().collect());
    let config = DockerSdConfig { host: format!("unix://{}", socket.display()), ..DockerSdConfig::default() };
    let reading = super::Engine::new(&config).unwrap();
    let filename = folder.join("positions.yaml").to_string_lossy().into_owned();
    let config = PositionsConfig { filename, ..PositionsConfig::default() };
    let positions = Arc::new(Positions::load(&config).unwrap().of_jobs(["docker".to_owned()]));
    let queue = Arc::new(Queue::of_single_entries(1 << 20));
    let stages = Pipeline::compile(&Value::default(), &StageMetrics::default(), &mut Problems::default());
    let progress = positions.open_container("c1", 0);
    let labels = Some(Labels::from_pairs([("job", "docker")]));
    let reader = ApiReader {
        engine: reading,
        container: "c1".to_owned(),
        job: 0,
        labels: StreamLabels { stdout: labels.clone(), stderr: labels },
        progress: progress.clone(),
        positions: positions.clone(),
        dispatcher: Dispatcher::new(vec![stages], vec![queue.clone()], AgentMetrics::default()),
        end: CancellationToken::new(),
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    assert_eq!(
        tokio::time::timeout_at(deadline.into(), reader.run()).await.unwrap(),
        ("c1".to_owned(), Outcome::Complete)
    );
    assert!(progress.source().unwrap().is_durable(), "it is on disk before the first line is sent");
    let mut sent = Vec::new();
    while let Some(entry) = queue.pop() {
        let (of, ranges) = entry.tickets.origin().unwrap();
        assert!(Arc::ptr_eq(of, &progress));
        sent.push((entry.line.clone(), ranges[0].clone()));
        if sent.len() <= acknowledged {
            entry.tickets.done();
        }
    }
    positions.save().unwrap();
    let asked = engine.asked.lock().clone();
    (sent, progress.source().unwrap().id(), asked)
}

#[tokio::test]
async fn what_an_engine_that_follows_leaves_out_is_read_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (sent, _, asked) = read(folder.path(), &[output(0..7), output(0..20)], 20).await;
    let lines: Vec<_> = sent.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(lines, (0..20).map(|n| format!("line {n}")).collect::<Vec<_>>());
    assert!(asked[0].contains("follow=1&since=0.000000000"), "{asked:?}");
    // Five seconds before line 6.
    assert!(asked[1].contains("follow=0&since=1793588640.000000003"), "{asked:?}");
}

#[tokio::test]
async fn after_a_crash_lines_are_known_by_the_same_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let all = [output(0..20), output(0..20)];
    let (first, source, _) = read(folder.path(), &all, 9).await;
    assert_eq!(first.len(), 20);
    let (second, again, _) = read(folder.path(), &all, 11).await;
    assert_eq!((&second[..], again), (&first[9..], source));
    let (third, again, _) = read(folder.path(), &all, 0).await;
    assert_eq!((third.len(), again), (0, source));
}
