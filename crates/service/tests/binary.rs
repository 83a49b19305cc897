//! The example as a real process: flags, configuration, signals, exit codes.
#![allow(clippy::unwrap_used, reason = "the lint does not see that helpers here belong to tests")]

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/minimal")
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(example()).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

/// Starts it on a free port and waits until it listens.
fn start(arguments: &[&str]) -> Running {
    let mut child = Command::new(example())
        .arg("-server.http-listen-port=0")
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let address = wait_for(&mut log, "listening")["address"].as_str().unwrap().to_owned();
    Running { child, log, address }
}

fn wait_for(log: &mut impl BufRead, message: &str) -> serde_json::Value {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the log ended without `{message}`");
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        if json["message"].as_str().unwrap().contains(message) {
            return json;
        }
    }
}

impl Running {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[tokio::test]
async fn lives_and_ends() {
    let running = start(&[]);
    let get = async |path: &str| reqwest::get(format!("http://{}{path}", running.address)).await.unwrap();
    while get("/ready").await.status() != 200 {}
    let limited = get("/limited").await;
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "2"));
    assert!(get("/config").await.text().await.unwrap().contains("http_listen_port: 0"));
    running.signal("-TERM");
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn a_second_signal_exits_at_once() {
    let mut running = start(&["--set", "linger=20s"]);
    running.signal("-TERM");
    wait_for(&mut running.log, "shutting down");
    running.signal("-INT");
    let (code, log) = running.end();
    assert_eq!(code, Some(130), "{log}");
    assert!(log.contains("worker"), "{log}");
}

#[test]
fn a_taken_port_is_told() {
    let running = start(&[]);
    let port = running.address.rsplit(':').next().unwrap().to_owned();
    let (code, _, log) = run(&[&format!("--server.http-listen-port={port}")]);
    assert_eq!(code, Some(1));
    for expected in [running.address.as_str(), "in use", "server.http_listen_port"] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
    running.signal("-INT");
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn answers_without_starting() {
    let version = format!("minimal {}", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-version", "-V"] {
        let (code, out, _) = run(&[flag]);
        assert_eq!((code, out.trim().starts_with(&version)), (Some(0), true), "{out}");
    }
    let (code, out, _) = run(&["--help"]);
    assert!(code == Some(0) && out.contains("--config <FILE>"), "{out}");
    let (code, _, error) = run(&["-no-such-flag"]);
    assert!(code == Some(2) && error.contains("--no-such-flag"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write(
        "good.yaml",
        "server: {http_listen_port: ${MINIMAL_PORT:-1234}}\nschema_config: {configs: []}\n",
    );
    let (code, out, error) = run(&["--check", "--config", &good]);
    assert_eq!((code, out.trim()), (Some(0), "the configuration is valid"));
    assert!(error.contains("schema_config"), "{error}");
    let (code, out, _) = run(&["-config.file", &good, "--print-config"]);
    assert!(code == Some(0) && out.contains("http_listen_port: 1234") && out.contains("linger: 0s"), "{out}");

    let bad =
        write("bad.yaml", "server:\n  http_listen_port: many\n  log_level: loud\nlinger: 1h\nextra: 1\n");
    let (code, _, error) = run(&[&format!("-config.file={bad}"), "-verify-config", "-server.nope=1"]);
    assert_eq!(code, Some(1));
    for expected in [
        "5 problems",
        "bad.yaml:2: server.http_listen_port: expected a whole number from 0 to 65535, got `many`",
        "bad.yaml:3: server.log_level: `loud`",
        "bad.yaml:4: linger: must not be longer",
        "bad.yaml:5: extra: unknown key",
        "-server.nope: server.nope: unknown key",
    ] {
        assert!(error.contains(expected), "{expected} in {error}");
    }
    let (code, _, error) = run(&["--config=/no/such/file.yaml"]);
    assert!(code == Some(1) && error.contains("`/no/such/file.yaml`"), "{error}");
}
