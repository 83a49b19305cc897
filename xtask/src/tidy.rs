//! What compilers do not check: the layers, file headers and sizes, generated files, dashboards, shipped configs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::codegen;
use crate::run::{files, output, root, target_dir};

/// Lines above which a source file draws a warning, and above which it fails.
const FILE_LINES: (usize, usize) = (800, 1000);

/// Runs every check and reports all faults together.
pub(crate) fn check() -> Result<()> {
    let mut faults = Vec::new();
    edges(&mut faults)?;
    sources(&mut faults)?;
    configs(&mut faults)?;
    dashboards(&mut faults)?;
    faults.extend(codegen::stale()?);
    if faults.is_empty() {
        eprintln!("tidy: clean");
        return Ok(());
    }
    bail!("tidy: {} faults\n{}", faults.len(), faults.join("\n"))
}

/// The crate edges of the table in ARCHITECTURE.md: `| crate | holds | may use |`.
fn allowed() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let mut table = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [krate, _, uses] = cells[..] {
            let names =
                uses.split(',').map(|n| n.trim().trim_matches('`')).filter(|n| !n.is_empty() && *n != "–");
            table.insert(krate.trim_matches('`').to_owned(), names.map(str::to_owned).collect());
        }
    }
    Ok(table)
}

fn edges(faults: &mut Vec<String>) -> Result<()> {
    let allowed = allowed()?;
    let metadata = MetadataCommand::new().current_dir(root()).no_deps().exec()?;
    let short = |name: &str| name.strip_prefix("timberline-").unwrap_or(name).to_owned();
    let members: BTreeSet<String> = metadata.packages.iter().map(|p| short(&p.name)).collect();
    for package in &metadata.packages {
        let name = short(&package.name);
        let Some(uses) = allowed.get(&name) else {
            faults.push(format!("{name}: the table in ARCHITECTURE.md does not name this crate"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.path.is_some()) {
            let to = short(&dependency.name);
            let for_tests = dependency.kind == DependencyKind::Development;
            if members.contains(&to) && !uses.contains(&to) && !(for_tests && to == "testkit") {
                faults.push(format!("{name}: may not use {to} (see the table in ARCHITECTURE.md)"));
            }
        }
    }
    for name in allowed.keys().filter(|n| !members.contains(*n)) {
        faults.push(format!("ARCHITECTURE.md: its table names {name}, which is not a crate"));
    }
    Ok(())
}

fn sources(faults: &mut Vec<String>) -> Result<()> {
    for file in files()?.iter().filter(|f| f.ends_with(".rs")) {
        let text = fs::read_to_string(root().join(file))?;
        if !text.starts_with("//!") {
            faults.push(format!("{file}: does not begin with a `//!` line that says why it exists"));
        }
        match text.lines().count() {
            lines if lines > FILE_LINES.1 => {
                faults.push(format!("{file}: {lines} lines, at most {}: split it", FILE_LINES.1));
            }
            lines if lines > FILE_LINES.0 => eprintln!("tidy: warning: {file} has {lines} lines"),
            _ => {}
        }
    }
    Ok(())
}

/// Every configuration that we ship is accepted by the binary it is for.
fn configs(faults: &mut Vec<String>) -> Result<()> {
    let shipped = [
        ("timberline-agent", "compose/agent.yaml"),
        ("timberline-router", "compose/router.yaml"),
        ("timberline-logs", "compose/logs.yaml"),
        ("timberline-traces", "compose/traces.yaml"),
        ("timberline", "compose/timberline.yaml"),
    ];
    for (binary, config) in shipped {
        let path = target_dir().join("debug").join(binary);
        if !path.exists() {
            bail!("{} is not built: run `cargo build --workspace --bins` first", path.display());
        }
        if let Err(error) =
            output(Command::new(path).current_dir(root()).args(["--check", "--config", config]))
        {
            faults.push(format!("{config}: {error}"));
        }
    }
    Ok(())
}

/// Dashboards and the Prometheus configuration name only metrics that a service registers.
fn dashboards(faults: &mut Vec<String>) -> Result<()> {
    let metrics = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap_or_default();
    let known: BTreeSet<&str> =
        metrics.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    for file in files()?.iter().filter(|f| f.starts_with("grafana/dashboards/") && f.ends_with(".json")) {
        let text = fs::read_to_string(root().join(file))?;
        let dashboard: serde_json::Value = serde_json::from_str(&text).with_context(|| file.clone())?;
        let mut expressions = Vec::new();
        prometheus_expressions(&dashboard, false, &mut expressions);
        for name in expressions.iter().flat_map(|e| metric_names(e)) {
            if !known.contains(name.as_str()) {
                faults.push(format!("{file}: no service has a metric {name}"));
            }
        }
    }
    Ok(())
}

/// Collects the `expr` texts of targets whose panel or target uses the Prometheus data source.
fn prometheus_expressions(value: &serde_json::Value, prometheus: bool, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            let kind = map.get("datasource").and_then(|d| d.get("type")).and_then(|t| t.as_str());
            let prometheus = kind.map_or(prometheus, |k| k == "prometheus");
            if let (true, Some(expr)) = (prometheus, map.get("expr").and_then(|e| e.as_str())) {
                out.push(expr.to_owned());
            }
            map.values().for_each(|v| prometheus_expressions(v, prometheus, out));
        }
        serde_json::Value::Array(list) => {
            list.iter().for_each(|v| prometheus_expressions(v, prometheus, out))
        }
        _ => {}
    }
}

/// Words of a PromQL text that look like our metrics, without the suffixes of their kind.
fn metric_names(expr: &str) -> Vec<String> {
    const OURS: [&str; 6] = ["loki_", "tempo_", "promtail_", "otelcol_", "timberline_", "process_"];
    expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| OURS.iter().any(|prefix| word.starts_with(prefix)))
        .map(|word| {
            let bare = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|s| word.strip_suffix(s));
            bare.unwrap_or(word).to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_an_expression() {
        let expr = "sum by (job) (rate(loki_request_duration_seconds_bucket{route=\"x\"}[5m])) / up";
        assert_eq!(metric_names(expr), ["loki_request_duration_seconds"]);
    }

    #[test]
    fn only_prometheus_targets_count() {
        let dashboard = serde_json::json!({"panels": [
            {"datasource": {"type": "prometheus"}, "targets": [{"expr": "a"}]},
            {"datasource": {"type": "loki"}, "targets": [{"expr": "b"}]},
        ]});
        let mut found = Vec::new();
        prometheus_expressions(&dashboard, false, &mut found);
        assert_eq!(found, ["a"]);
    }
}
