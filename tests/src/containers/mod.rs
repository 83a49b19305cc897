//! On a real Docker engine: the images that `cargo xtask images` makes, in the compose file that we ship, without Grafana and
//! Prometheus, which would have to be pulled. A container that logs, and the demo's three services, are found in the stores.

mod churn;
mod engine;
mod pipelines;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::port;
use testkit::recorded::workspace;

use self::engine::{Engine, Images, docker, run};
use crate::query::{Line, Loki, Tempo, metric};
use crate::service::until;

const COMPOSE_FILE: &str = "docker-compose.observability.yml";
/// Of the compose file, all that needs nothing pulled.
const SERVICES: [&str; 7] =
    ["agent", "router", "logs", "traces", "demo-frontend", "demo-checkout", "demo-payment"];
const HOUR: i64 = 3_600_000_000_000;

/// Numbered lines a talker prints at once, and those it prints one after another afterwards.
const AT_ONCE: u64 = 200;
const SLOWLY: u64 = 200;
/// Bytes of its longest line; Docker keeps lines in pieces of 16 KiB.
const LONG: usize = 1 << 15;

#[test]
fn containers() -> Result<()> {
    let Some(engine) = Engine::find()? else { return Ok(()) };
    let stack = Stack::build(engine)?;
    let told = story(&stack);
    if told.is_err() {
        eprintln!("{}", stack.compose(&["logs", "--no-color", "--tail=40"]).unwrap_or_default());
    }
    told
}

fn story(stack: &Stack) -> Result<()> {
    stack.compose(&[&["up", "-d", "--no-build"], &SERVICES[..]].concat())?;
    stack.wait_for_health()?;
    let first = stack.talk("first")?;
    let stored = restart_in_between(stack, &first)?;
    let read = metric(&stack.agent_metrics()?, "promtail_read_lines_total", &first.id)?;
    let left = (AT_ONCE + SLOWLY + 2 - stored) as f64;
    ensure!(read <= left, "the agent read {read} lines of a file after its restart, where {left} were left");

    traces_and_their_lines(stack)?;

    // An agent that cannot reach the engine's files reads over its API.
    let nothing = tempfile::tempdir()?;
    stack.compose_with(nothing.path(), &["up", "-d", "--no-build", "--no-deps", "agent"])?;
    stack.wait_for_health()?;
    let second = stack.talk("second")?;
    restart_in_between(stack, &second)?;
    let from_files = metric(&stack.agent_metrics()?, "promtail_read_lines_total", "")?;
    ensure!(from_files == 0.0, "{from_files} lines were read from files that should be out of reach");
    Ok(())
}

/// Restarts the agent while a container talks: all of its lines are there once, under its labels. Tells how many were stored
/// before the restart.
fn restart_in_between(stack: &Stack, talker: &Talker) -> Result<u64> {
    let lines = |wanted: u64| {
        until(&format!("{wanted} lines of {}", talker.name), || {
            let lines = stack.lines(&format!("{{container=\"{}\"}}", talker.name))?;
            ensure!(lines.len() as u64 >= wanted, "{} lines", lines.len());
            Ok(lines)
        })
    };
    let stored = lines(AT_ONCE)?.len() as u64;
    stack.compose(&["restart", "-t", "10", "agent"])?;
    let lines = lines(AT_ONCE + SLOWLY + 2)?;

    let mut numbers: Vec<u64> = lines.iter().filter_map(|line| number(&line.text)).collect();
    numbers.sort_unstable();
    ensure!(numbers == (0..AT_ONCE + SLOWLY).collect::<Vec<_>>(), "lost or doubled lines: {numbers:?}");
    let long: Vec<&Line> = lines.iter().filter(|line| line.text.len() >= LONG).collect();
    ensure!(
        long.len() == 1 && long[0].text == format!("long {} end", "x".repeat(LONG)),
        "long lines of {:?} bytes",
        long.iter().map(|line| line.text.len()).collect::<Vec<_>>()
    );
    for line in &lines {
        let label = |name: &str| line.labels.get(name).map(String::as_str);
        let numbered = number(&line.text).is_some();
        let labels = ["job", "service", "service_name", "stream", "level"].map(label);
        let expected = match numbered {
            true => [Some("docker"), Some("talker"), Some("talker"), Some("stdout"), Some("warn")],
            false => [Some("docker"), Some("talker"), Some("talker"), Some("stderr"), None],
        };
        ensure!(labels == expected, "labels {:?} of {:.80}", line.labels, line.text);
    }
    Ok(stored)
}

/// The `n` of a talker's JSON line.
fn number(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?["n"].as_u64()
}

/// A failed order of the demo: a trace through its three services, which the sampler keeps, and what each of them logged about
/// it, on its output and over OTLP.
fn traces_and_their_lines(stack: &Stack) -> Result<()> {
    let names = |prefix: &str| ["frontend", "checkout", "payment"].map(|name| format!("{prefix}{name}"));
    let id = until("a trace of the demo through all three services", || {
        let (start, end) = last_hour();
        let found =
            stack.tempo.search("{ resource.service.name = \"payment\" && status = error }", start, end)?;
        let whole = |id: &&String| {
            let services: Option<BTreeSet<_>> =
                stack.tempo.trace(id).ok().map(|spans| spans.into_iter().map(|span| span.service).collect());
            services == Some(BTreeSet::from(names("")))
        };
        found.iter().find(whole).cloned().with_context(|| format!("found {found:?}"))
    })?;
    for (query, services) in [
        (format!("{{job=\"docker\"}} |= \"{id}\" | json | trace_id=\"{id}\""), names("demo-")),
        (format!("{{service_name=~\".+\"}} | trace_id=\"{id}\""), names("")),
    ] {
        until(&format!("lines of {services:?} with the trace's id"), || {
            let lines = stack.lines(&query)?;
            let found: BTreeSet<_> =
                lines.iter().filter_map(|line| line.labels.get("service_name").cloned()).collect();
            ensure!(found == BTreeSet::from(services.clone()), "{query} finds {found:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn last_hour() -> (i64, i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_nanos();
    let now = i64::try_from(now).expect("the clock is before 2262");
    (now - HOUR, now + HOUR)
}

/// The compose file's services under a name of their own; dropped, nothing of them is left.
struct Stack {
    engine: Engine,
    images: Arc<Images>,
    /// Not the images' tag: another test may run containers of them at the same time.
    project: String,
    ports: [(&'static str, u16); 4],
    loki: Loki,
    tempo: Tempo,
}

/// A container that prints lines.
struct Talker {
    name: String,
    id: String,
}

impl Stack {
    fn build(engine: Engine) -> Result<Stack> {
        let variables = [
            "TIMBERLINE_LOGS_PORT",
            "TIMBERLINE_TRACES_PORT",
            "TIMBERLINE_OTLP_GRPC_PORT",
            "TIMBERLINE_OTLP_HTTP_PORT",
        ];
        let ports = variables.map(|name| (name, port::free()));
        let store = |index: usize| format!("http://127.0.0.1:{}", ports[index].1);
        let (loki, tempo) = (Loki(store(0)), Tempo(store(1)));
        let images = Images::build()?;
        let project = format!("{}-stack", images.prefix);
        Ok(Stack { engine, images, project, ports, loki, tempo })
    }

    /// Starts a container that prints numbered JSON lines, and on its standard error a long line and a last one; it stays.
    fn talk(&self, name: &str) -> Result<Talker> {
        let script = format!(
            r#"say() {{ echo "{{\"level\":\"warn\",\"n\":$1}}"; }}
            i=0; while [ $i -lt {AT_ONCE} ]; do say $i; i=$((i+1)); done
            x=x; while [ ${{#x}} -lt {LONG} ]; do x=$x$x; done; echo "long $x end" >&2
            while [ $i -lt {} ]; do sleep 0.03; say $i; i=$((i+1)); done
            echo end >&2; sleep 1000"#,
            AT_ONCE + SLOWLY
        );
        let name = format!("{}-{name}", self.project);
        let mut docker = Command::new("docker");
        docker.args(["run", "--detach", "--name", &name, "--log-driver", "json-file"]);
        docker.args(["--label", "com.docker.compose.service=talker", &self.images.name("talker"), &script]);
        let id = run(&mut docker)?.trim().to_owned();
        Ok(Talker { name, id })
    }

    /// Runs docker-compose with the engine's own folder, so that the agent reads files.
    fn compose(&self, args: &[&str]) -> Result<String> {
        self.compose_with(&self.engine.root, args)
    }

    /// Runs docker-compose; the agent looks for the containers' files below `root`.
    fn compose_with(&self, root: &Path, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.engine.compose[0]);
        command.current_dir(workspace()).args(&self.engine.compose[1..]);
        command.args(["-p", &self.project, "-f", COMPOSE_FILE, "--profile", "demo"]).args(args);
        command.env("TIMBERLINE_TAG", &self.images.tag).env("DOCKER_ROOT", root);
        command.envs(self.ports.iter().map(|(name, port)| (name, port.to_string())));
        run(&mut command)
    }

    fn wait_for_health(&self) -> Result<()> {
        until("the agent's health", || {
            let health = self.inspect_agent("{{.State.Health.Status}}")?;
            ensure!(health == "healthy", "{health}");
            Ok(())
        })
    }

    fn inspect_agent(&self, format: &str) -> Result<String> {
        let id = self.compose(&["ps", "-q", "agent"])?;
        Ok(docker(["inspect", "--format", format, id.trim()])?.trim().to_owned())
    }

    /// The agent's page of metrics, which is not published to the host.
    fn agent_metrics(&self) -> Result<String> {
        let address = self.inspect_agent("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")?;
        Ok(format!("http://{address}:9080/metrics"))
    }

    fn lines(&self, query: &str) -> Result<Vec<Line>> {
        let (start, end) = last_hour();
        self.loki.lines(query, start, end)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let clean = || {
            self.compose(&["down", "--volumes", "--remove-orphans", "-t", "3"])?;
            for name in ["first", "second"] {
                // Not there if the test failed early.
                let _ = docker(["rm", "--force", &format!("{}-{name}", self.project)]);
            }
            Ok::<_, anyhow::Error>(())
        };
        if let Err(error) = clean() {
            eprintln!("cannot clean up {}: {error:#}", self.project);
        }
    }
}
