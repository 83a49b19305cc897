//! Labels, their values, series.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use model::{Labels, Matcher};
use service::Failure;

use crate::api::App;
use crate::api::ask::{Ask, AskMany, json, json_value, selector};
use crate::api::streams::{Naming, streams};
use crate::tenancy::TENANT_LABEL;

/// The streams that satisfy one of the selectors, in the range of the request.
async fn within_range(app: &App, ask: &Ask, selectors: Vec<Vec<Matcher>>) -> Result<Vec<Labels>, Failure> {
    let (start, end) = ask.params.range(ask.now)?;
    let range = (start.nanos(), end.nanos());
    Ok(streams(app, ask, &selectors, range, Naming::ByTenant).await?.into_keys().collect())
}

async fn matching(app: &App, ask: &Ask) -> Result<Vec<Labels>, Failure> {
    let matchers = ask.matchers(true)?;
    let selectors = if matchers.is_empty() { Vec::new() } else { vec![matchers] };
    within_range(app, ask, selectors).await
}

/// A list of texts, without `data` if it is empty.
fn list(texts: BTreeSet<String>) -> Response {
    if texts.is_empty() {
        return json("{\"status\":\"success\"}\n");
    }
    json_value(&serde_json::json!({"status": "success", "data": texts}))
}

/// `/labels`
pub(crate) async fn names(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    let streams = matching(&app, &ask).await?;
    Ok(list(streams.iter().flat_map(|s| s.iter().map(|(name, _)| name.to_owned())).collect()))
}

/// `/label/{name}/values`
pub(crate) async fn values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    AskMany(ask): AskMany,
) -> Result<Response, Failure> {
    if name == TENANT_LABEL && ask.tenants.len() > 1 {
        return Ok(list(ask.tenants.iter().map(ToString::to_string).collect()));
    }
    let streams = matching(&app, &ask).await?;
    Ok(list(streams.iter().filter_map(|s| s.get(&name).map(str::to_owned)).collect()))
}

/// `/series`
pub(crate) async fn series(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    let is_all = |text: &str| {
        text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).is_some_and(|t| t.trim().is_empty())
    };
    let texts: Vec<&str> = ask.params.all(&["match", "match[]"]).filter(|t| !t.is_empty()).collect();
    let selectors = match texts.as_slice() {
        [one] if is_all(one) => Vec::new(),
        texts => texts.iter().map(|text| selector(text, true)).collect::<Result<Vec<_>, _>>()?,
    };
    let streams = within_range(&app, &ask, selectors).await?;
    let object = |labels: &Labels| {
        labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect::<serde_json::Map<_, _>>()
    };
    let data: Vec<_> = streams.iter().map(object).collect();
    Ok(json_value(&serde_json::json!({"status": "success", "data": data})))
}
