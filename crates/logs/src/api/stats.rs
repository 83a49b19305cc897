//! How much a selector covers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use service::Failure;

use crate::api::App;
use crate::api::ask::{Ask, json_value};
use crate::query::catalog;
use crate::query::run::within;
use crate::store::index::Amount;

async fn sum(app: &App, ask: &Ask) -> Result<serde_json::Value, Failure> {
    let (start, end) = ask.params.range(ask.now)?;
    let matchers = match ask.params.get("query").map(|text| text.replace(' ', "")).as_deref() {
        None | Some("{}") => Vec::new(),
        _ => ask.matchers(false)?,
    };
    let (first, last) = (start.nanos(), end.nanos());
    within(app.limits.query_timeout.get(), async {
        let view = app.querier.view(&ask.tenant, first, last).await?;
        let find = move || catalog::streams(&view, &[matchers], first..=last);
        let streams = tokio::task::spawn_blocking(find)
            .await
            .map_err(|e| Failure::internal(format!("counting died: {e}")))?;
        let mut total = Amount::default();
        streams.values().for_each(|amount| total.join(*amount));
        Ok(serde_json::json!({
            "streams": streams.len(), "chunks": total.parts, "bytes": total.bytes, "entries": total.entries,
        }))
    })
    .await
}

/// `/index/stats`
pub(crate) async fn stats(State(app): State<Arc<App>>, ask: Ask) -> Result<Response, Failure> {
    Ok(json_value(&sum(&app, &ask).await?))
}

/// `/index/shards`: one shard is always right.
pub(crate) async fn shards(State(app): State<Arc<App>>, ask: Ask) -> Result<Response, Failure> {
    let stats = sum(&app, &ask).await?;
    Ok(json_value(&serde_json::json!({
        "shards": [{"bounds": {"min": 0, "max": u64::MAX}, "stats": stats}], "statistics": stats, "chunkGroups": null,
    })))
}
