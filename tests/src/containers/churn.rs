//! A user's Promtail configuration, as it was found, on a real engine: containers start, end, are stopped, started again and
//! removed while they print, their files are rotated, agent and store are killed. Every line is stored once, with its labels.
//!
//! The agent reads the engine's files where it has them, and over its socket where it has not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::port;
use testkit::recorded::workspace;

use super::engine::{Engine, Images, docker};
use super::last_hour;
use crate::query::{Line, Loki};
use crate::service::until;

/// The configuration; its store is `http://loki:3100`.
const CONFIG: &str = "../shared/fixtures/promtail-docker.yaml";

#[test]
fn containers_come_and_go_and_their_files_are_read() -> Result<()> {
    story("files", true)
}

#[test]
fn containers_come_and_go_and_are_read_over_the_socket() -> Result<()> {
    story("socket", false)
}

fn story(name: &str, reads_files: bool) -> Result<()> {
    let config = workspace().join(CONFIG);
    if !config.exists() {
        eprintln!("skipped: no configuration of a user at {}", config.display());
        return Ok(());
    }
    let Some(engine) = Engine::find()? else { return Ok(()) };
    let scene = Scene::new(&engine, name, config, reads_files)?;
    let told = churn(&scene);
    if told.is_err() {
        let log = |name: &str| {
            let logs = Command::new("docker").args(["logs", "--tail", "40", &scene.name(name)]).output();
            logs.map(|out| String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
                .unwrap_or_else(|error| error.to_string())
        };
        eprintln!("the agent:\n{}\nthe store:\n{}", log("agent"), log("loki"));
    }
    told
}

/// Containers under one prefix, in a network of their own; dropped, nothing of them is left.
struct Scene {
    images: Arc<Images>,
    prefix: String,
    loki: Loki,
    reads_files: bool,
}

/// What a container prints: numbered lines, at some pace, and then it ends or stays.
struct Talk {
    name: &'static str,
    /// Lines in one go, with a pause of this many seconds between two goes.
    at_once: u64,
    pause: &'static str,
    goes: u64,
    /// Options of its `docker run`.
    options: &'static [&'static str],
    /// Whether it can only be read from its files: Docker 20.10 itself sends lines twice or not at all to those who follow a file that
    /// it rotates.
    needs_files: bool,
    /// What its shell does in the end.
    end: &'static str,
}

const STAYS: &str = "sleep 1000";

const TALKS: [Talk; 5] = [
    Talk {
        name: "steady",
        at_once: 5,
        pause: "0.1",
        goes: 180,
        options: &[],
        needs_files: false,
        end: STAYS,
    },
    // Rotated many times, sometimes while nobody reads.
    Talk {
        name: "rotated",
        at_once: 20,
        pause: "0.1",
        goes: 180,
        options: &["--log-opt", "max-size=64k", "--log-opt", "max-file=20"],
        needs_files: true,
        end: STAYS,
    },
    Talk {
        name: "packed",
        at_once: 20,
        pause: "0.1",
        goes: 180,
        options: &["--log-opt", "max-size=64k", "--log-opt", "max-file=20", "--log-opt", "compress=true"],
        needs_files: true,
        end: STAYS,
    },
    Talk {
        name: "terminal",
        at_once: 5,
        pause: "0.1",
        goes: 100,
        options: &["--tty"],
        needs_files: false,
        end: STAYS,
    },
    // Prints everything and ends.
    Talk {
        name: "short",
        at_once: 500,
        pause: "0.1",
        goes: 4,
        options: &[],
        needs_files: false,
        end: "exit 3",
    },
];

/// Ends, and is removed on the spot.
const REMOVED: Talk = Talk {
    name: "removed",
    at_once: 5,
    pause: "0.1",
    goes: 100,
    options: &["--rm"],
    needs_files: false,
    end: "exit 0",
};

/// Print all they have to say at once, and are gone.
const BRIEF: [Talk; 6] = {
    const fn brief(name: &'static str, at_once: u64, pause: &'static str) -> Talk {
        Talk { name, at_once, pause, goes: 1, options: &["--rm"], needs_files: false, end: "exit 0" }
    }
    [
        brief("brief-1", 1, "0"),
        brief("brief-2", 50, "0"),
        brief("brief-3", 2000, "0"),
        brief("brief-4", 1, "0.2"),
        brief("brief-5", 50, "0.5"),
        brief("brief-6", 2000, "0.1"),
    ]
};

/// Begin before the agent is killed, or while it is not there, and have ended when it is back.
const AROUND: Talk = Talk {
    name: "around",
    at_once: 50,
    pause: "0.1",
    goes: 5,
    options: &[],
    needs_files: false,
    end: "exit 0",
};
const MISSED: Talk = Talk { name: "missed", ..AROUND };

impl Talk {
    fn lines(&self) -> u64 {
        self.at_once * self.goes
    }

    /// A JSON line in seven, on standard error one in five; a last word at the end.
    fn script(&self) -> String {
        format!(
            r#"say() {{
                if [ $(($1 % 7)) = 0 ]; then echo "{{\"level\":\"warn\",\"n\":\"line $1 of\",\"trace_id\":\"cafe\"}}"
                elif [ $(($1 % 5)) = 0 ]; then echo "line $1 of many that are printed" >&2
                else echo "line $1 of many that are printed, some of them a little longer than others"; fi; }}
            n=0; go=0; while [ $go -lt {} ]; do
                i=0; while [ $i -lt {} ]; do say $n; n=$((n+1)); i=$((i+1)); done
                go=$((go+1)); sleep {}
            done; {}"#,
            self.goes, self.at_once, self.pause, self.end
        )
    }
}

fn churn(scene: &Scene) -> Result<()> {
    for talk in scene.talks() {
        scene.talk(talk.name, talk.options, &talk.script())?;
    }
    // Started anew it goes on where it was: a file of its own has the number.
    let restarted = r#"n=0; [ -f /n ] && while read last; do n=$last; done </n
        while [ $n -lt 100000 ]; do n=$((n+1)); echo $n >>/n; echo "line $n of a life"; sleep 0.03; done"#;
    scene.talk("restarted", &[], restarted)?;
    scene.stored("steady", 100)?;
    scene.talk(AROUND.name, AROUND.options, &AROUND.script())?;
    docker(["kill", &scene.name("agent")])?;
    docker(["stop", "-t", "1", &scene.name("restarted")])?;
    scene.talk(MISSED.name, MISSED.options, &MISSED.script())?;
    docker(["wait", &scene.name(AROUND.name), &scene.name(MISSED.name)])?;
    docker(["start", &scene.name("agent")])?;
    docker(["start", &scene.name("restarted")])?;
    scene.stored("steady", 300)?;
    docker(["kill", &scene.name("loki")])?;
    std::thread::sleep(Duration::from_secs(1));
    docker(["kill", &scene.name("agent")])?;
    docker(["restart", "-t", "1", &scene.name("restarted")])?;
    docker(["start", &scene.name("agent")])?;
    docker(["start", &scene.name("loki")])?;
    docker(["stop", "-t", "1", &scene.name("restarted")])?;
    scene.talk("rewoken", &[], "echo line 0 of a container that tells that all are back")?;

    // Of a container that is gone nobody else has the lines: these begin when the agent is up.
    scene.stored("rewoken", 1)?;
    for talk in [&REMOVED].into_iter().chain(&BRIEF) {
        scene.talk(talk.name, talk.options, &talk.script())?;
    }

    // What it has printed itself is what must be stored.
    let printed = docker(["logs", &scene.name("restarted")])?;
    let printed: Vec<u64> = printed.lines().filter_map(number).collect();
    ensure!(printed.len() > 100, "only {} lines were printed", printed.len());
    scene.check("restarted", &printed)?;
    for talk in scene.talks().chain([&AROUND, &MISSED, &REMOVED]).chain(&BRIEF) {
        let lines = scene.check(talk.name, &(0..talk.lines()).collect::<Vec<_>>())?;
        for line in lines {
            let label = |name: &str| line.labels.get(name).map(String::as_str);
            let is_json = line.text.starts_with('{');
            let found = ["job", "service", "level", "trace_id"].map(label);
            let own = if is_json { [Some("warn"), Some("cafe")] } else { [None, None] };
            ensure!(
                found == [Some("docker"), Some("talk"), own[0], own[1]],
                "{:?} of {}",
                line.labels,
                line.text
            );
        }
    }
    Ok(())
}

/// The number of a line.
fn number(text: &str) -> Option<u64> {
    text.split("line ").nth(1)?.split(' ').next()?.parse().ok()
}

impl Scene {
    fn new(engine: &Engine, name: &str, config: PathBuf, reads_files: bool) -> Result<Self> {
        let images = Images::build()?;
        let (prefix, port) = (format!("{}-{name}", images.prefix), port::free());
        let scene = Self { images, prefix, loki: Loki(format!("http://127.0.0.1:{port}")), reads_files };
        docker(["network", "create", &scene.prefix])?;
        let publish = format!("127.0.0.1:{port}:3100");
        scene.run("loki", &["--network-alias", "loki", "--publish", &publish], "logs", &[])?;
        let config = format!("{}:/etc/promtail/config.yml:ro", config.canonicalize()?.display());
        let files = engine.root.join("containers").display().to_string();
        let files = format!("{files}:{files}:ro");
        let mut options = vec!["--volume", "/var/run/docker.sock:/var/run/docker.sock", "--volume", &config];
        if reads_files {
            options.extend(["--volume", &files]);
        }
        scene.run("agent", &options, "agent", &["-config.file=/etc/promtail/config.yml"])?;
        Ok(scene)
    }

    fn talks(&self) -> impl Iterator<Item = &'static Talk> {
        TALKS.iter().filter(|talk| self.reads_files || !talk.needs_files)
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn run(&self, name: &str, options: &[&str], image: &str, args: &[&str]) -> Result<()> {
        let (name, image) = (self.name(name), self.images.name(image));
        let mut words = vec!["run", "--detach", "--network", &self.prefix, "--name", &name];
        words.extend(["--log-driver", "json-file"].iter().chain(options));
        words.push(&image);
        words.extend(args);
        docker(words).map(drop)
    }

    fn talk(&self, name: &str, options: &[&str], script: &str) -> Result<()> {
        let label = ["--label", "com.docker.compose.service=talk"];
        self.run(name, &[&label, options].concat(), "talker", &[script])
    }

    fn lines(&self, name: &str) -> Result<Vec<Line>> {
        let (start, end) = last_hour();
        let query = format!("{{container=\"{}\"}}", self.name(name));
        // Loki's default limit is below what the containers print.
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let from = lines.last().map_or(start, |line| line.time + 1);
            let more = self.loki.lines(&query, from, end)?;
            let is_all = more.len() < 5000;
            // Of a time that may be cut in two, the rest comes with the next page.
            let last = if is_all { i64::MAX } else { more.last().context("a page has lines")?.time };
            lines.extend(more.into_iter().filter(|line| line.time < last));
            if is_all {
                return Ok(lines);
            }
        }
    }

    /// Waits until so many lines of a container are stored.
    fn stored(&self, name: &str, count: usize) -> Result<()> {
        until(&format!("{count} lines of {name}"), || {
            let lines = self.lines(name)?.len();
            ensure!(lines >= count, "{lines} lines");
            Ok(())
        })
    }

    /// Waits until all numbers of a container are stored; none may be there twice, and none else.
    fn check(&self, name: &str, numbers: &[u64]) -> Result<Vec<Line>> {
        let (lines, found) = until(&format!("{} lines of {name}", numbers.len()), || {
            let lines = self.lines(name)?;
            let mut found: BTreeMap<u64, usize> = BTreeMap::new();
            lines
                .iter()
                .filter_map(|line| number(&line.text))
                .for_each(|n| *found.entry(n).or_default() += 1);
            let missing: Vec<_> = numbers.iter().filter(|n| !found.contains_key(n)).collect();
            ensure!(
                missing.is_empty(),
                "{} of {} lines are missing: {:?} to {:?}",
                missing.len(),
                numbers.len(),
                missing[0],
                missing[missing.len() - 1]
            );
            Ok((lines, found))
        })?;
        let twice: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
        ensure!(twice.is_empty(), "{name}: more than once: {} lines, as {:?}", twice.len(), twice[0]);
        ensure!(
            lines.len() == numbers.len(),
            "{name}: {} lines where {} were printed",
            lines.len(),
            numbers.len()
        );
        Ok(lines)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let others = [AROUND.name, MISSED.name, REMOVED.name, "restarted", "rewoken", "agent", "loki"];
        let names = TALKS.iter().chain(&BRIEF).map(|talk| talk.name).chain(others);
        for name in names {
            // Not there if it has removed itself, or the test failed early.
            let _ = docker(["rm", "--force", "--volumes", &self.name(name)]);
        }
        if let Err(error) = docker(["network", "rm", &self.prefix]) {
            eprintln!("cannot clean up {}: {error:#}", self.prefix);
        }
    }
}
