//! What listeners take in: streams that have no file behind them lie in the agent's spool until the store has them.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use model::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use testkit::{http, port};

use super::{Rig, Setup, check, store};
use crate::crash::setting;
use crate::fleet;
use crate::query::Loki;
use crate::service::until;

const LINES: usize = 10_000;

/// A listener for pushes on this port.
fn push_job(port: u16) -> Value {
    let server = json!({"http_listen_address": "127.0.0.1", "http_listen_port": port, "grpc_listen_port": 0});
    json!({"job_name": "pushed", "loki_push_api": {"server": server, "use_incoming_timestamp": true}})
}

/// A listener for syslog on this port.
fn syslog_job(port: u16) -> Value {
    let syslog = json!({"listen_address": format!("127.0.0.1:{port}"), "labels": {"case": "syslog"}});
    json!({"job_name": "syslog", "syslog": syslog})
}

fn numbered(name: &str, lines: usize) -> Vec<String> {
    (0..lines).map(|number| format!("{name} line {number:05}")).collect()
}

/// Pushes lines, the first of which has this time; each has the same whenever it is pushed.
fn push(port: u16, case: &str, first: i64, lines: &[String]) -> Result<()> {
    let values: Vec<_> = (first..).zip(lines).map(|(time, line)| json!([time.to_string(), line])).collect();
    let body = json!({"streams": [{"stream": {"case": case}, "values": values}]});
    let url = format!("{}/loki/api/v1/push", fleet::url(port));
    let answer = http::post(url, "application/json", body.to_string())?.ok()?;
    ensure!(answer.status == 204, "{} {}", answer.status, answer.text());
    Ok(())
}

/// Sends lines over one connection, and waits until the agent has them on disk.
fn syslog(rig: &Rig, port: u16, lines: &[String]) -> Result<()> {
    let on_disk = || rig.agent_metric("promtail_spool_lines_total", r#"job="syslog""#);
    let before = on_disk().unwrap_or(0.0);
    let text: String = lines.iter().map(|line| format!("<13>1 - host app - - - {line}\n")).collect();
    TcpStream::connect(("127.0.0.1", port))?.write_all(text.as_bytes())?;
    until("syslog in the spool", || {
        let now = on_disk()?;
        ensure!(now - before >= lines.len() as f64, "{now} lines");
        Ok(())
    })
}

#[test]
fn what_was_taken_outlives_agent_and_store() -> Result<()> {
    let (push_port, syslog_port) = (port::free(), port::free());
    let jobs = vec![push_job(push_port), syslog_job(syslog_port)];
    let mut rig = Rig::new(tempfile::tempdir()?, Setup { jobs, spools: true, ..Setup::default() })?;
    let cases = [("pushed", numbered("pushed", LINES)), ("syslog", numbered("syslog", LINES))];
    let check = |rig: &Rig| rig.check(cases.iter().map(|(case, lines)| (*case, &lines[..])));
    let now = Timestamp::now().nanos();
    // The store is away from the start.
    rig.agent.start()?;
    for half in 0..2 {
        let part = |lines: &'_ [String]| lines[half * LINES / 2..(half + 1) * LINES / 2].to_vec();
        for (number, lines) in part(&cases[0].1).chunks(100).enumerate() {
            let first = now + (half * LINES / 2 + number * 100) as i64;
            push(push_port, "pushed", first, lines)?;
        }
        syslog(&rig, syslog_port, &part(&cases[1].1))?;
        rig.agent.kill()?;
        rig.agent.start()?;
    }
    ensure!(rig.agent_metric("promtail_spool_bytes", "")? > 1e5);
    rig.logs.start()?;
    // Killed while it delivers, with positions saved or not.
    std::thread::sleep(Duration::from_millis(60));
    rig.agent.kill()?;
    rig.agent.start()?;
    check(&rig)?;
    rig.restart()?;
    check(&rig)?;
    until("an empty spool", || {
        let bytes = rig.agent_metric("promtail_spool_bytes", "")?;
        ensure!(bytes < 100.0, "{bytes} bytes");
        Ok(())
    })
}

#[test]
fn a_store_that_is_away_holds_up_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (push_port, syslog_port, away) = (port::free(), port::free(), port::free());
    let jobs = vec![push_job(push_port), syslog_job(syslog_port)];
    let setup = Setup { jobs, spools: true, more_clients: vec![fleet::url(away)], ..Setup::default() };
    let mut rig = Rig::started(folder, setup)?;
    // More than the queue of a client holds.
    let filler = "x".repeat(1000);
    let cases = ["pushed", "syslog"].map(|case| {
        (case, numbered(case, LINES).into_iter().map(|line| format!("{line} {filler}")).collect::<Vec<_>>())
    });
    let now = Timestamp::now().nanos();
    for (number, lines) in cases[0].1.chunks(500).enumerate() {
        push(push_port, "pushed", now + (number * 500) as i64, lines)?;
    }
    syslog(&rig, syslog_port, &cases[1].1)?;
    let all = || cases.iter().map(|(case, lines)| (*case, &lines[..]));
    rig.check(all())?;
    rig.agent.kill()?;
    // The other comes at last, to another address.
    let (file, moved) = (rig.path().join("timberline-agent.yaml"), port::free());
    let push_url = format!("{}/loki/api/v1/push", fleet::url(moved));
    std::fs::write(&file, std::fs::read_to_string(&file)?.replace(&fleet::url(away), &push_url))?;
    rig.agent.start()?;
    let late = tempfile::tempdir()?;
    let _logs = store(late.path(), moved, &late.path().join("logs"))?.started()?;
    check(&Loki(fleet::url(moved)), all())?;
    rig.check(all())
}

#[test]
fn killed_agent_and_store_keep_what_was_pushed() -> Result<()> {
    let seed = setting("TIMBERLINE_SEED").unwrap_or_else(rand::random);
    let rounds = setting("TIMBERLINE_KILL_ROUNDS").unwrap_or(8);
    eprintln!("spool: TIMBERLINE_SEED={seed}");
    let push_port = port::free();
    let setup = Setup { jobs: vec![push_job(push_port)], spools: true, ..Setup::default() };
    let mut rig = Rig::started(tempfile::tempdir()?, setup)?;
    let stop = AtomicBool::new(false);
    let (killed, lines) = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| pushes(push_port, &stop));
        let killed = kill(&mut rig, StdRng::seed_from_u64(seed), rounds);
        stop.store(true, Ordering::Relaxed);
        (killed, pushing.join().expect("who pushes does not panic"))
    });
    killed?;
    ensure!(lines.len() as u64 > 20 * rounds, "only {} lines in {rounds} rounds", lines.len());
    rig.check([("pushed", &lines[..])]).map_err(|error| error.context(format!("TIMBERLINE_SEED={seed}")))?;
    rig.restart()?;
    rig.check([("pushed", &lines[..])])
}

/// Pushes until told to stop, each push until it is taken.
fn pushes(port: u16, stop: &AtomicBool) -> Vec<String> {
    let (mut all, first) = (Vec::new(), Timestamp::now().nanos());
    while !stop.load(Ordering::Relaxed) {
        let lines: Vec<_> =
            (all.len()..all.len() + 10).map(|number| format!("pushed line {number:06}")).collect();
        while push(port, "pushed", first + all.len() as i64, &lines).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        all.extend(lines);
        std::thread::sleep(Duration::from_millis(5));
    }
    all
}

/// Kills one or both and starts them again, as often as asked.
fn kill(rig: &mut Rig, mut random: StdRng, rounds: u64) -> Result<()> {
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.random_range(50..400)));
        let (agent, store) = match random.random_range(0..3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        if store {
            rig.logs.kill()?;
            std::thread::sleep(Duration::from_millis(random.random_range(0..100)));
        }
        if agent {
            rig.agent.kill()?;
            rig.agent.start()?;
        }
        if store {
            rig.logs.start()?;
        }
    }
    Ok(())
}
