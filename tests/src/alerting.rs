//! Rules over logs with a real Prometheus and a real Alertmanager: a rate becomes a series, too many errors an alert, and neither
//! is lost when Prometheus is away and the log store dies meanwhile.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use model::Timestamp;
use serde_json::{Value, json};
use testkit::http;
use testkit::port;
use testkit::process::{Launch, Process};

use crate::fleet::{self, url};
use crate::query::{escape, metric};
use crate::service::{PATIENCE, until};

/// Evaluated every second, so that minutes of rules fit into seconds.
const RULES: &str = r#"
name: shop
interval: 1s
rules:
  - record: shop_errors
    expr: sum by (app) (count_over_time({app="shop"} |= "error" [1h]))
    labels: {team: shop}
  - alert: ShopErrors
    expr: sum by (app) (count_over_time({app="shop"} |= "error" [1h])) > 2
    for: 2s
    labels: {severity: page}
    annotations:
      summary: "{{ $labels.app }} has {{ $value }} errors"
"#;

/// A program of Prometheus' makers on a port of its own.
fn launch(program: &str, args: &[String], ready: &str, folder: &Path) -> Result<Process> {
    let launch =
        Launch::program(program).args(args).folder(folder).output(folder.join(format!("{program}.log")));
    let mut process = launch.start().context(
        "this test needs Prometheus and Alertmanager (Debian: `apt-get install prometheus prometheus-alertmanager`)",
    )?;
    process.wait_for_http(ready, PATIENCE)?;
    Ok(process)
}

fn prometheus(port: u16, folder: &Path) -> Result<Process> {
    let config = folder.join("prometheus.yaml");
    std::fs::write(&config, "global: {scrape_interval: 1m}\n")?;
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
        format!("--web.listen-address={}", fleet::local(port)),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    launch("prometheus", &args, &format!("{}/-/ready", url(port)), folder)
}

fn alertmanager(port: u16, folder: &Path) -> Result<Process> {
    let config = folder.join("alertmanager.yaml");
    std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n")?;
    let args = [
        format!("--config.file={}", config.display()),
        format!("--storage.path={}", folder.join("alertmanager").display()),
        format!("--web.listen-address={}", fleet::local(port)),
        "--cluster.listen-address=".to_owned(),
    ];
    launch("prometheus-alertmanager", &args, &format!("{}/-/ready", url(port)), folder)
}

fn json(url: String) -> Result<Value> {
    http::get(url)?.ok()?.json()
}

/// The only sample of an instant query: labels and value.
fn sample(prometheus: u16, query: &str) -> Result<(Value, f64)> {
    let answer = json(format!("{}/api/v1/query?query={}", url(prometheus), escape(query)))?;
    let sample = answer["data"]["result"].get(0).with_context(|| format!("no sample of {query}"))?;
    let value = sample["value"][1].as_str().context("a value is a string")?;
    Ok((sample["metric"].clone(), value.parse()?))
}

fn push(logs: u16, lines: &[&str]) -> Result<()> {
    let now = Timestamp::now().nanos();
    let values: Vec<_> = (now..).zip(lines).map(|(time, line)| json!([time.to_string(), line])).collect();
    let body = json!({"streams": [{"stream": {"app": "shop"}, "values": values}]});
    http::post(format!("{}/loki/api/v1/push", url(logs)), "application/json", body.to_string())?
        .ok()
        .map(drop)
}

#[test]
fn rules_reach_prometheus_and_alertmanager() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let (logs_port, prometheus_port, alertmanager_port) = (port::free(), port::free(), port::free());
    let mut receiver = prometheus(prometheus_port, path)?;
    let _alertmanager = alertmanager(alertmanager_port, path)?;
    let client = json!({"url": format!("{}/api/v1/write", url(prometheus_port))});
    let settings = json!({"ruler": {
        "poll_interval": "1s",
        "resend_delay": "1s",
        "for_grace_period": "1s",
        "external_url": "http://grafana.example",
        "alertmanager_url": url(alertmanager_port),
        "remote_write": {"enabled": true, "clients": {"prometheus": client}},
    }});
    let mut logs = fleet::logs_with(logs_port, path, settings)?.started()?;
    let rules = format!("{}/loki/api/v1/rules/my%2Fteam", url(logs_port));
    http::post(&rules, "application/yaml", RULES)?.ok()?;
    push(logs_port, &["error 1", "fine", "error 2"])?;

    until("the recorded series", || {
        let (labels, value) = sample(prometheus_port, "shop_errors")?;
        ensure!(labels == json!({"__name__": "shop_errors", "app": "shop", "team": "shop"}), "{labels}");
        ensure!(value == 2.0, "{value} errors");
        Ok(())
    })?;
    let alerts = || json(format!("{}/api/v2/alerts", url(alertmanager_port)));
    ensure!(alerts()? == json!([]), "two errors raise no alert");
    push(logs_port, &["error 3"])?;
    until("the alert", || {
        let alerts = alerts()?;
        let alert = alerts.get(0).context("no alert")?;
        let labels = json!({"alertname": "ShopErrors", "app": "shop", "severity": "page"});
        ensure!(alert["labels"] == labels, "{alert}");
        ensure!(alert["annotations"]["summary"] == "shop has 3 errors", "{alert}");
        let link = alert["generatorURL"].as_str().unwrap_or_default();
        ensure!(link.starts_with("http://grafana.example/explore?left="), "{link}");
        Ok(())
    })?;
    until("the state of the alert as a series", || {
        sample(prometheus_port, "ALERTS{alertstate=\"firing\",alertname=\"ShopErrors\"}").map(drop)
    })?;

    // Prometheus goes, and while samples wait for it the log store loses its power.
    receiver.kill()?;
    let page = format!("{}/metrics", url(logs_port));
    let waiting = || metric(&page, "loki_ruler_wal_prometheus_remote_storage_samples_retried_total", "");
    let appended = || metric(&page, "loki_ruler_wal_samples_appended_total", "");
    let before = (Timestamp::now().nanos() / 1_000_000_000, appended()?);
    until("samples that wait", || {
        ensure!(waiting()? > 0.0 && appended()? > before.1 + 12.0, "{} written", appended()?);
        Ok(())
    })?;
    logs.kill()?;
    let _receiver = prometheus(prometheus_port, path)?;
    logs.start()?;
    until("what waited", || {
        let end = before.0 + 3;
        let query =
            format!("{}/api/v1/query_range?query=count_over_time(shop_errors%5B1s%5D)", url(prometheus_port));
        let answer = json(format!("{query}&start={}&end={end}&step=1", before.0 + 1))?;
        let points = answer["data"]["result"][0]["values"].as_array().map_or(0, Vec::len);
        ensure!(points == 3, "{points} of 3 seconds, of {answer}");
        Ok(())
    })?;
    until("the alert, still", || {
        let state = json(format!("{}/prometheus/api/v1/rules?type=alert", url(logs_port)))?;
        let group = &state["data"]["groups"][0];
        ensure!(group["file"] == "my/team" && group["rules"][0]["state"] == "firing", "{state}");
        ensure!(group["rules"][0]["health"] == "ok", "{state}");
        Ok(())
    })?;

    // With its rules gone, the alert ends and the series too.
    http::Request::new("DELETE", format!("{rules}/shop")).send()?.ok()?;
    until("the end of the series", || {
        ensure!(sample(prometheus_port, "shop_errors").is_err(), "it is still there");
        Ok(())
    })?;
    logs.stop()
}
