//! `/patterns`: what kinds of lines there are.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use service::Failure;

use crate::api::App;
use crate::api::ask::{AskMany, json_value};
use crate::query::run::within;
use crate::tenancy;

/// `/patterns`
pub(crate) async fn patterns(
    State(app): State<Arc<App>>,
    AskMany(ask): AskMany,
) -> Result<Response, Failure> {
    let Some(patterns) = app.patterns.clone() else { return Err(Failure::not_found("")) };
    let (start, end) = ask.params.range(ask.now)?;
    let step = ask.params.step(start, end)?;
    let matchers = ask.matchers(false)?;
    let selections = tenancy::select(&ask.tenants, &matchers)?;
    let work = move || {
        let each = selections
            .iter()
            .map(|s| patterns.find(&s.tenant, &s.matchers, start.nanos(), end.nanos(), step))
            .collect();
        crate::patterns::join(each)
    };
    let find = async {
        let found = tokio::task::spawn_blocking(work).await;
        found.map_err(|e| Failure::internal(format!("finding patterns died: {e}")))
    };
    let found = within(ask.limits.query_timeout.get(), find).await?;
    let data: Vec<serde_json::Value> = found
        .into_iter()
        .map(|p| serde_json::json!({"pattern": p.pattern, "level": p.level, "samples": p.samples}))
        .collect();
    Ok(json_value(&serde_json::json!({"status": "success", "data": data})))
}
