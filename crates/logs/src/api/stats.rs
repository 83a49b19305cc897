//! How much a selector covers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use service::Failure;

use crate::api::App;
use crate::api::ask::{Ask, AskMany, json_value};
use crate::api::streams::{Naming, streams};
use crate::store::index::Amount;

async fn sum(app: &App, ask: &Ask) -> Result<serde_json::Value, Failure> {
    let (start, end) = ask.params.range(ask.now)?;
    let matchers = match ask.params.get("query").map(|text| text.replace(' ', "")).as_deref() {
        None | Some("{}") => Vec::new(),
        _ => ask.matchers(false)?,
    };
    let range = (start.nanos(), end.nanos());
    let streams = streams(app, ask, &[matchers], range, Naming::ByTenant).await?;
    let mut total = Amount::default();
    streams.values().for_each(|amount| total.join(*amount));
    Ok(serde_json::json!({
        "streams": streams.len(), "chunks": total.parts, "bytes": total.bytes, "entries": total.entries,
    }))
}

/// `/index/stats`
pub(crate) async fn stats(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    Ok(json_value(&sum(&app, &ask).await?))
}

/// `/index/shards`: one shard is always right.
pub(crate) async fn shards(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    if let Some(text) = ask.params.get("targetBytesPerShard") {
        let size = service::config::ByteSize::parse(text).map_err(Failure::invalid)?;
        if size.get() == 0 {
            return Err(Failure::invalid("targetBytesPerShard must be a positive value"));
        }
    }
    let stats = sum(&app, &ask).await?;
    Ok(json_value(&serde_json::json!({
        "shards": [{"bounds": {"min": 0, "max": u64::MAX}, "stats": stats}], "statistics": stats, "chunkGroups": null,
    })))
}
