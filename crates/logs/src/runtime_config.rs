//! Loki's `runtime_config`: a file with limits of single tenants, read again when it changes.
//!
//! A file that cannot be read leaves what was in force, says so in the log, and shows in
//! `loki_runtime_config_last_reload_successful`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use model::TenantId;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use service::config::{Layer, Problems, Unneeded, Value};
use service::{CancellationToken, Metrics};

use crate::config::Config;
use crate::limits::Limits;
use crate::overrides::Overrides;

/// Loki's `runtime_config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeConfigFile {
    /// The files, comma separated; of what several say the last holds.
    pub file: String,
    /// How often they are looked at.
    pub period: service::config::Duration,
}

impl Default for RuntimeConfigFile {
    fn default() -> Self {
        Self { file: String::new(), period: service::config::Duration::from_secs(10) }
    }
}

/// What stands in the file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Contents {
    overrides: Value,
}

impl service::config::Config for Contents {
    fn unneeded() -> Unneeded {
        Unneeded::new(&["multi_kv_config", "configs", "default_limits", "ingester_limits"])
    }
}

/// The files, and what they are laid over.
pub struct RuntimeConfig {
    files: Vec<PathBuf>,
    period: Duration,
    overrides: Overrides,
    successful: Gauge,
    /// What was read last, whether it was any good or not.
    seen: Option<Vec<String>>,
}

impl RuntimeConfig {
    /// The files that the configuration names; with none, nothing will be read.
    pub fn new(config: &Config, overrides: Overrides, metrics: &Metrics) -> Self {
        let (own, older) = (&config.runtime_config, &config.limits_config);
        let (list, period) = match own.file.as_str() {
            "" => (older.per_tenant_override_config.as_str(), older.per_tenant_override_period),
            file => (file, own.period),
        };
        let files: Vec<PathBuf> =
            list.split(',').map(str::trim).filter(|f| !f.is_empty()).map(PathBuf::from).collect();
        let successful = Gauge::default();
        if !files.is_empty() {
            metrics.prefixed("runtime_config").register(
                "last_reload_successful",
                "Whether the overrides file was good when it was read last",
                successful.clone(),
            );
        }
        let period = period.get().max(Duration::from_millis(10));
        Self { files, period, overrides, successful, seen: None }
    }

    /// Reads the files if they changed. On an error what was in force stays.
    pub async fn load(&mut self) -> anyhow::Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let read = self.read().await;
        self.successful.set(i64::from(read.is_ok()));
        read
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let mut texts = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let text = tokio::fs::read_to_string(file).await;
            texts.push(text.with_context(|| format!("cannot read the overrides file {}", file.display()))?);
        }
        if self.seen.as_ref() == Some(&texts) && self.successful.get() == 1 {
            return Ok(());
        }
        for (file, text) in self.files.iter().zip(&texts) {
            // Whoever writes a file in place empties it first: for that moment nobody is without limits.
            if text.is_empty() && self.seen.is_some() {
                anyhow::bail!(
                    "the overrides file {} is empty: write `overrides:` to have none",
                    file.display()
                );
            }
        }
        let layers: Vec<Layer> = self
            .files
            .iter()
            .zip(&texts)
            .map(|(file, text)| Layer::Yaml { name: file.display().to_string(), text: text.clone() })
            .collect();
        let tenants = parse(&layers, self.overrides.defaults())?;
        tracing::info!(tenants = tenants.len(), "limits of single tenants are in force");
        self.overrides.replace(tenants);
        self.seen = Some(texts);
        Ok(())
    }

    /// Looks at the files again and again.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.files.is_empty() {
            return stop.cancelled().await;
        }
        let mut told = String::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.period) => {}
            }
            match self.load().await {
                Ok(()) => told.clear(),
                Err(error) => {
                    // The same mistake is told once, not every ten seconds.
                    let error = format!("{error:#}");
                    if error != told {
                        tracing::error!(error, "the limits of single tenants stay as they were");
                        told = error;
                    }
                }
            }
        }
    }
}

/// The limits of the tenants that the file names.
fn parse(layers: &[Layer], defaults: &Limits) -> Result<Vec<(TenantId, Limits)>, Problems> {
    let loaded = service::config::load::<Contents>(layers, false, &|_| None)?;
    let mut problems = Problems::default();
    let mut tenants = Vec::new();
    for (name, value) in loaded.config.overrides.entries() {
        let path = value.path();
        let tenant = match TenantId::parse(name) {
            Ok(tenant) => tenant,
            Err(error) => {
                problems.add(path, error.to_string());
                continue;
            }
        };
        if let Some(limits) = value.read_over(defaults, &Limits::unneeded(), &mut problems) {
            limits.check(&path, &mut problems);
            tenants.push((tenant, limits));
        }
    }
    if problems.is_empty() { Ok(tenants) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use service::config::ByteSize;

    fn check(files: &[&str], expect: Result<&[(&str, usize, u64)], &str>) {
        let defaults = Limits { max_line_size: ByteSize(77), ..Limits::default() };
        let layers: Vec<Layer> =
            files.iter().map(|text| Layer::Yaml { name: "o.yaml".into(), text: (*text).into() }).collect();
        match (parse(&layers, &defaults), expect) {
            (Ok(got), Ok(expect)) => {
                let got: Vec<_> = got
                    .iter()
                    .map(|(t, l)| (t.as_str(), l.max_query_series, l.max_line_size.get()))
                    .collect();
                assert_eq!(got, expect, "{files:?}");
            }
            (Err(problems), Err(text)) => {
                assert!(problems.to_string().contains(text), "{files:?}: {problems}");
            }
            other => panic!("{files:?}: {other:?}"),
        }
    }

    #[test]
    fn tenants_over_defaults() {
        check(&[""], Ok(&[]));
        check(&["overrides:"], Ok(&[]));
        check(&["overrides: {a: {max_query_series: 9}, b: }"], Ok(&[("a", 9, 77), ("b", 500, 77)]));
        let two = ["overrides: {a: {max_query_series: 9}}", "overrides: {a: {max_line_size: 1KB}}"];
        check(&two, Ok(&[("a", 9, 1024)]));
        check(
            &["overrides: {a: {max_chunks_per_query: 9}}\nconfigs: {a: {log_push_request: true}}"],
            Ok(&[("a", 500, 77)]),
        );
        check(&["overrides: {a: {max_query_serie: 9}}"], Err("overrides.a.max_query_serie"));
        check(&["overrides: {a: {query_timeout: 0}}"], Err("overrides.a.query_timeout"));
        check(
            &["overrides: {a: {retention_stream: [{selector: x}]}}"],
            Err("overrides.a.retention_stream[0].selector"),
        );
        check(&["overrides: {a/b: {}}"], Err("overrides"));
        check(&["override: {}"], Err("override"));
    }
}
