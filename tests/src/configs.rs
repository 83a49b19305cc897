//! Configuration files and queries of users, and the files that we ship, are taken as they are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use model::Timestamp;
use serde_json::Value;
use testkit::http;
use testkit::port;
use testkit::process::Launch;

use crate::fleet;
use crate::query::escape;
use crate::service::PATIENCE;

/// Which binary takes files whose names begin so.
const TAKERS: [(&str, &str); 9] = [
    ("promtail-", "timberline-agent"),
    ("agent.", "timberline-agent"),
    ("loki-", "timberline-logs"),
    ("logs.", "timberline-logs"),
    ("tempo-", "timberline-traces"),
    ("traces.", "timberline-traces"),
    ("otelcol-", "timberline-router"),
    ("router.", "timberline-router"),
    ("timberline.", "timberline"),
];

/// What must be named because it is not built or not needed, by file.
const NAMED: [(&str, &[&str]); 3] = [
    ("loki-2.9-boltdb.yaml", &["schema_config", "common.ring", "common.replication_factor"]),
    ("loki-3-otlp.yaml", &["schema_config", "common.ring", "common.replication_factor"]),
    (
        "otelcol-tail.yaml",
        &[
            "connectors.servicegraph",
            "connectors.spanmetrics",
            "exporters.prometheus",
            "service.pipelines.traces/graph",
            "service.pipelines.metrics",
        ],
    ),
];

/// Which binary takes the examples of a page. Those of `agent-stages.md` are run where stages are.
const PAGES: [(&str, &str); 5] = [
    ("agent.md", "timberline-agent"),
    ("agent-targets.md", "timberline-agent"),
    ("alerting.md", "timberline-logs"),
    ("retention.md", "timberline-logs"),
    ("running.md", "timberline-logs"),
];

/// How examples begin that are other files: the limits of tenants, and a group of rules.
const OTHER_FILES: [&str; 2] = ["overrides:", "name:"];

/// Files of users, beside the project.
fn fixtures() -> Option<PathBuf> {
    let folder = testkit::recorded::workspace().join("../shared/fixtures");
    if !folder.exists() {
        eprintln!("skipped: no configuration files of users at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Exit code and output of a check.
fn check(binary: &str, config: &Path) -> Result<(Option<i32>, String)> {
    let mut process = Launch::workspace(binary)?.args(["--check", "--config"]).arg(config).start()?;
    let status = process.wait(PATIENCE)?;
    Ok((status.code(), process.output()))
}

/// Checks every YAML file of a folder with its binary.
fn check_folder(folder: &Path) -> Result<usize> {
    let mut checked = 0;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The scraper of metrics is not ours.
        if !name.ends_with(".yaml") || name == "prometheus.yaml" {
            continue;
        }
        let taker = TAKERS.iter().find(|(prefix, _)| name.starts_with(prefix));
        let (_, binary) = taker.with_context(|| format!("{name}: which binary takes it?"))?;
        let (code, output) = check(binary, &path)?;
        ensure!(code == Some(0), "{binary} does not take {name}:\n{output}");
        let named = NAMED.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, named)| *named);
        for key in named {
            ensure!(
                output.contains(key),
                "{binary} does not say that it leaves out {key} of {name}:\n{output}"
            );
        }
        checked += 1;
    }
    Ok(checked)
}

#[test]
fn files_of_users_are_valid() -> Result<()> {
    let Some(folder) = fixtures() else { return Ok(()) };
    let checked = check_folder(&folder)?;
    ensure!(checked >= 5, "only {checked} files in {}", folder.display());
    Ok(())
}

#[test]
fn files_that_we_ship_are_valid() -> Result<()> {
    let checked = check_folder(&testkit::recorded::workspace().join("compose"))?;
    ensure!(checked == 5, "{checked} files");
    Ok(())
}

#[test]
fn examples_in_the_documentation_are_valid() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.yaml");
    for page in std::fs::read_dir(testkit::recorded::workspace().join("docs"))? {
        let page = page?;
        let name = page.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".md") || name == "agent-stages.md" {
            continue;
        }
        let text = std::fs::read_to_string(page.path())?;
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
        for block in blocks.filter(|block| !OTHER_FILES.iter().any(|other| block.starts_with(other))) {
            let taker = PAGES.iter().find(|(page, _)| *page == name);
            let (_, binary) = taker.with_context(|| format!("{name}: which binary takes its examples?"))?;
            let needs_client = *binary == "timberline-agent" && !block.contains("clients:");
            let client = if needs_client { "clients: [{url: 'http://h/loki/api/v1/push'}]\n" } else { "" };
            std::fs::write(&path, format!("{block}{client}"))?;
            let (code, output) = check(binary, &path)?;
            ensure!(code == Some(0), "{binary} does not take an example of {name}:\n{block}\n{output}");
        }
    }
    Ok(())
}

#[test]
fn files_for_kubernetes_are_valid() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.yaml");
    for service in ["agent", "router", "logs", "traces"] {
        let file = testkit::recorded::workspace().join(format!("deploy/kubernetes/{service}.yaml"));
        let text = std::fs::read_to_string(&file)?;
        let (_, rest) =
            text.split_once("  config.yaml: |\n").with_context(|| format!("{service}: no config"))?;
        // The block ends where its indent does.
        let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        let config: String = lines.map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect();
        std::fs::write(&path, &config)?;
        let (code, output) = check(&format!("timberline-{service}"), &path)?;
        ensure!(code == Some(0), "the config of {service} is not taken:\n{config}\n{output}");
    }
    Ok(())
}

#[test]
fn unknown_keys_are_errors() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for binary in
        ["timberline-agent", "timberline-logs", "timberline-traces", "timberline-router", "timberline"]
    {
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, "no_such_key: {a: 1}\n")?;
        let (code, output) = check(binary, &path)?;
        ensure!(code == Some(1) && output.contains("no_such_key"), "{binary}: {code:?}\n{output}");
    }
    Ok(())
}

#[test]
fn queries_of_users_are_answered() -> Result<()> {
    let Some(folder) = fixtures() else { return Ok(()) };
    let text = std::fs::read_to_string(folder.join("logql-in-the-wild.txt"))?;
    let queries: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let (port, work) = (port::free(), tempfile::tempdir()?);
    let mut logs = fleet::logs(port, work.path())?.started()?;
    let now = Timestamp::now().nanos();
    let line = r#"{\"level\":\"error\",\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"message\":\"payment failed\"}"#;
    let stream = r#"{"job":"docker","service":"edge-node-1","level":"error"}"#;
    let body =
        format!(r#"{{"streams":[{{"stream":{stream},"values":[["{}","{line}"]]}}]}}"#, now - 1_000_000_000);
    http::post(format!("{}/loki/api/v1/push", fleet::url(port)), "application/json", body)?.ok()?;
    let mut answered = 0;
    for (number, query) in queries.iter().enumerate() {
        let url = format!("{}/loki/api/v1/query_range?step=60&query={}", fleet::url(port), escape(query));
        let answer = http::get(url)?;
        // The last one is there to be refused.
        if number + 1 == queries.len() {
            let refused = answer.status == 400 && answer.text().contains("parse error");
            ensure!(refused, "{query}: {} {}", answer.status, answer.text());
            continue;
        }
        ensure!(answer.status == 200, "{query}: {} {}", answer.status, answer.text());
        let result = &answer.json::<Value>()?["data"]["result"];
        answered += usize::from(result.as_array().is_some_and(|found| !found.is_empty()));
    }
    ensure!(answered >= 5, "only {answered} of {} queries found the line", queries.len());
    logs.stop()
}
