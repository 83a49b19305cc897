//! Lives and ends of processes, with signals from a channel and the clock paused.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::*;

type Journal = Arc<Mutex<Vec<String>>>;

fn process() -> (Process, Journal) {
    (Process::new(&crate::program!("test")), Journal::default())
}

/// A task that takes `seconds` to end once told.
fn slow(process: &mut Process, journal: &Journal, name: &str, phase: Phase, seconds: u64) {
    let (journal, line) = (journal.clone(), name.to_owned());
    process.task(name, phase, move |token| async move {
        token.cancelled().await;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        journal.lock().push(line);
        Ok(())
    });
}

async fn run(process: Process) -> (mpsc::Sender<Signal>, tokio::task::JoinHandle<Result<(), ProcessError>>) {
    let (sender, signals) = Signals::channel();
    let running = tokio::spawn(process.run_with(signals));
    tokio::task::yield_now().await;
    (sender, running)
}

#[tokio::test(start_paused = true)]
async fn phases_end_one_after_the_other() {
    let (mut process, journal) = process();
    // Registered in the wrong order, and the later phases are the quicker ones.
    slow(&mut process, &journal, "stop", Phase::Stop, 0);
    slow(&mut process, &journal, "flush", Phase::Flush, 1);
    slow(&mut process, &journal, "drain", Phase::Drain, 5);
    slow(&mut process, &journal, "drain-quick", Phase::Drain, 1);
    slow(&mut process, &journal, "finish", Phase::Finish, 2);
    let hook = journal.clone();
    process.at(Phase::Flush, "hook", move || async move {
        hook.lock().push("hook".to_owned());
        Ok(())
    });
    let thread = journal.clone();
    process.once("once", Phase::Finish, move |_| async move {
        thread.lock().push("once".to_owned());
        Ok(())
    });
    let health = process.health().clone();
    let component = health.component("x");
    component.ready();
    let (signals, running) = run(process).await;
    assert!(health.is_ready());
    signals.send(Signal::End("SIGTERM")).await.unwrap();
    running.await.unwrap().unwrap();
    assert!(!health.is_ready());
    assert_eq!(*journal.lock(), ["once", "drain-quick", "drain", "finish", "hook", "flush", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_brings_the_process_down_and_is_named() {
    type Body = fn() -> anyhow::Result<()>;
    let cases: [(Body, &str); 3] = [
        (|| Ok(()), "task bad ended though nobody asked it to"),
        (|| anyhow::bail!("disk is full"), "task bad failed: disk is full"),
        (|| panic!("boom"), "task bad panicked"),
    ];
    for (body, expected) in cases {
        let (mut process, journal) = process();
        process.task("bad", Phase::Stop, move |_| async move { body() });
        slow(&mut process, &journal, "other", Phase::Drain, 1);
        let error = run(process).await.1.await.unwrap().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(*journal.lock(), ["other"], "the others end in order");
    }
}

#[tokio::test(start_paused = true)]
async fn once_may_end_but_not_fail() {
    let (mut process, _) = process();
    process.once("fine", Phase::Drain, |_| async { Ok(()) });
    let shutdown = process.shutdown();
    let running = run(process).await.1;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!running.is_finished());
    shutdown.begin("test over");
    running.await.unwrap().unwrap();

    let (mut process, _) = self::process();
    process.once("bad", Phase::Drain, |_| async { anyhow::bail!("no") });
    assert_eq!(run(process).await.1.await.unwrap().unwrap_err().to_string(), "task bad failed: no");
}

#[tokio::test(start_paused = true)]
async fn one_grace_period_for_all_phases() {
    let (mut process, journal) = process();
    process.set_grace(Duration::from_secs(10));
    slow(&mut process, &journal, "drain", Phase::Drain, 6);
    slow(&mut process, &journal, "finish", Phase::Finish, 6);
    slow(&mut process, &journal, "stop", Phase::Stop, 0);
    let (signals, running) = run(process).await;
    let begun = Instant::now();
    signals.send(Signal::End("SIGTERM")).await.unwrap();
    let error = running.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "shutdown took longer than 10s: finish, stop did not end");
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    assert_eq!(*journal.lock(), ["drain"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_at_once() {
    let (mut process, journal) = process();
    slow(&mut process, &journal, "drain", Phase::Drain, 20);
    let (signals, running) = run(process).await;
    let begun = Instant::now();
    signals.send(Signal::End("SIGINT")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    signals.send(Signal::Reload).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!running.is_finished());
    signals.send(Signal::End("SIGINT")).await.unwrap();
    assert!(running.await.unwrap().is_err());
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn failures_during_shutdown_are_told() {
    let (mut process, journal) = process();
    process.at(Phase::Flush, "flush", || async { anyhow::bail!("bucket is away") });
    slow(&mut process, &journal, "stop", Phase::Stop, 1);
    let shutdown = process.shutdown();
    let running = run(process).await.1;
    shutdown.begin("test over");
    assert_eq!(running.await.unwrap().unwrap_err().to_string(), "task flush failed: bucket is away");
    assert_eq!(*journal.lock(), ["stop"]);
}

#[tokio::test]
async fn reload_calls_hooks() {
    let (mut process, journal) = process();
    let (told, mut hears) = mpsc::channel(4);
    process.on_reload("levels", move || told.try_send(()).unwrap());
    slow(&mut process, &journal, "x", Phase::Drain, 0);
    let (signals, running) = run(process).await;
    signals.send(Signal::Reload).await.unwrap();
    hears.recv().await.unwrap();
    signals.send(Signal::End("SIGTERM")).await.unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn threads_follow_the_same_rules() {
    let (mut process, journal) = process();
    let lines = journal.clone();
    process.thread("commit", Phase::Stop, move |token| {
        tokio::runtime::Handle::current().block_on(token.cancelled());
        lines.lock().push(std::thread::current().name().unwrap_or_default().to_owned());
        Ok(())
    });
    slow(&mut process, &journal, "drain", Phase::Drain, 0);
    let shutdown = process.shutdown();
    let running = run(process).await.1;
    shutdown.begin("test over");
    running.await.unwrap().unwrap();
    assert_eq!(*journal.lock(), ["drain", "commit"]);

    let (mut process, _) = self::process();
    process.thread("bad", Phase::Stop, |_| panic!("boom"));
    let error = run(process).await.1.await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("task bad panicked"), "{error}");
}
