//! Reloads, again and again, while files are written: good ones that change clients, labels and stages, bad ones, and none at all.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::http;

use super::pen::Pen;
use super::{Rig, Setup, job};
use crate::fleet;
use crate::service::until;

/// Reloads that must succeed.
const RELOADS: usize = 20;

#[test]
fn reloads_lose_and_repeat_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut pen = Pen::new(folder.path().join("files"))?;
    let glob = pen.path("*.log");
    let jobs = vec![job("reloads", &glob, json!([]))];
    let mut rig = Rig::started(folder, Setup { jobs, reloads: true, ..Setup::default() })?;
    let file = rig.path().join("timberline-agent.yaml");
    let first: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let reload = || http::post(format!("{}/reload", fleet::url(rig.agent_port)), "text/plain", "");

    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                pen.lines("a.log", 20)?;
                pen.lines("b.log", 1)?;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            anyhow::Ok(())
        });
        let reloaded = (0..RELOADS).try_for_each(|round| {
            let mut config = first.clone();
            config["clients"][0]["name"] = json!(format!("client-{}", round % 3));
            config["clients"][0]["external_labels"] = json!({"round": round.to_string()});
            config["scrape_configs"][0]["pipeline_stages"] =
                json!([{"static_labels": {"stage": round.to_string()}}]);
            match round % 4 {
                // What is wrong changes nothing.
                1 => std::fs::write(&file, "scrape_configs: [{")?,
                2 => std::fs::remove_file(&file)?,
                _ => {}
            }
            if matches!(round % 4, 1 | 2) {
                ensure!(reload()?.status == 500, "a reload of nothing good succeeded");
            }
            std::fs::write(&file, config.to_string())?;
            reload()?.ok().with_context(|| format!("reload {round}"))?;
            // Some lines are sent between two reloads.
            let sent = || rig.agent_metric("promtail_sent_entries_total", "");
            let before = sent()?;
            until("more lines", || {
                ensure!(sent()? > before, "still {before} lines");
                Ok(())
            })
        });
        ended.store(true, Ordering::Relaxed);
        writer.join().expect("writers do not panic")?;
        reloaded
    })?;
    rig.check([("reloads", pen.written())])?;
    let counts = |name: &str| rig.agent_metric(name, "");
    ensure!(counts("promtail_config_reload_success_total")? == RELOADS as f64);
    ensure!(counts("promtail_config_reload_fail_total")? == RELOADS as f64 / 2.0);
    rig.restart()?;
    rig.check([("reloads", pen.written())])
}
