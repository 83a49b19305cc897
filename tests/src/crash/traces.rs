//! The trace store, killed: rows are spans, many of them to a trace.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{http, port};

use super::Store;
use crate::fleet::{self, url};
use crate::query::{Tempo, metric};
use crate::service::Service;

struct Traces {
    port: u16,
    otlp: u16,
}

#[test]
fn killed_trace_store_keeps_what_it_acknowledged() -> Result<()> {
    super::story("traces", &Traces { port: port::free(), otlp: port::free() })
}

impl Store for Traces {
    /// Spans of one trace: it lies in several blocks and heads.
    const WINDOW: u64 = 200;

    fn service(&self, folder: &Path) -> Result<Service> {
        let settings = json!({"ingester": {"max_block_bytes": "1MB"}});
        fleet::traces_with(self.port, 0, self.otlp, folder, settings)
    }

    fn push(&self, rows: Range<u64>) -> Result<()> {
        let span = |row: u64| {
            let time = 1_750_000_000_000_000_000 + row * 1000;
            json!({
                "traceId": trace(row / Self::WINDOW), "spanId": format!("{:016x}", row + 1), "name": format!("row {row}"),
                "startTimeUnixNano": time.to_string(), "endTimeUnixNano": (time + 500).to_string(),
                "attributes": [{"key": "pad", "value": {"stringValue": "of a trace ".repeat(1 + row as usize % 40)}}],
            })
        };
        let service = json!([{"key": "service.name", "value": {"stringValue": "crash"}}]);
        let spans = rows.map(span).collect::<Value>();
        let body = json!({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": [{"spans": spans}]}]});
        http::post(url(self.otlp) + "/v1/traces", "application/json", body.to_string())?.ok().map(drop)
    }

    fn flush(&self) -> Result<()> {
        Tempo(url(self.port)).flush()
    }

    fn blocks(&self) -> Result<f64> {
        metric(&format!("{}/metrics", url(self.port)), "tempodb_blocklist_length ", "")
    }

    fn rows(&self, window: u64) -> Result<Vec<u64>> {
        let spans = Tempo(url(self.port)).trace(&trace(window))?;
        let row = |name: &str| name.strip_prefix("row ")?.parse().ok();
        spans
            .iter()
            .map(|span| row(&span.name).with_context(|| format!("not a span of ours: {span:?}")))
            .collect()
    }
}

/// The id of a window's trace.
fn trace(window: u64) -> String {
    format!("c7a54{window:027x}")
}
