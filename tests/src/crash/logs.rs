//! The log store, killed: rows are lines.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use model::Timestamp;
use serde_json::{Value, json};
use testkit::{http, port};

use super::Store;
use crate::fleet::{self, url};
use crate::query::{Loki, metric};
use crate::service::Service;

struct Logs {
    port: u16,
    start: i64,
}

#[test]
fn killed_log_store_keeps_what_it_acknowledged() -> Result<()> {
    super::story("logs", &Logs { port: port::free(), start: Timestamp::now().nanos() - 3_600_000_000_000 })
}

impl Logs {
    fn loki(&self) -> Loki {
        Loki(url(self.port))
    }
}

impl Store for Logs {
    const WINDOW: u64 = 5000;

    fn service(&self, folder: &Path) -> Result<Service> {
        fleet::logs_with(self.port, folder, json!({"ingester": {"head_max_size": "1MB"}}))
    }

    fn push(&self, rows: Range<u64>) -> Result<()> {
        // A stream for each of the last digits, so that blocks hold several.
        let stream = |digit: u64| {
            let rows = rows.clone().filter(|row| row % 3 == digit);
            let value = |row: u64| json!([(self.start + row as i64 * 1000).to_string(), line(row)]);
            json!({"stream": {"job": "crash", "digit": digit.to_string()}, "values": rows.map(value).collect::<Value>()})
        };
        let body = json!({"streams": (0..3).map(stream).collect::<Value>()}).to_string();
        let push = format!("{}/loki/api/v1/push", url(self.port));
        http::post(push, "application/json", body)?.ok().map(drop)
    }

    fn flush(&self) -> Result<()> {
        self.loki().flush()
    }

    fn blocks(&self) -> Result<f64> {
        metric(&format!("{}/metrics", url(self.port)), "loki_store_blocks ", "")
    }

    fn rows(&self, window: u64) -> Result<Vec<u64>> {
        let time = |window: u64| self.start + (window * Self::WINDOW) as i64 * 1000;
        let lines = self.loki().lines(r#"{job="crash"}"#, time(window), time(window + 1))?;
        let row = |text: &str| text.split(' ').nth(1)?.parse().ok();
        lines
            .iter()
            .map(|found| row(&found.text).with_context(|| format!("not a line of ours: {found:?}")))
            .collect()
    }
}

/// The text of a row, of some hundred bytes.
fn line(row: u64) -> String {
    format!("row {row} {}", "of a log that is killed ".repeat(1 + row as usize % 20))
}
