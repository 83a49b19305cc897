//! Labels and fields worth showing, for Drilldown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use service::Failure;

use crate::api::App;
use crate::api::ask::{Ask, AskMany, json_value};
use crate::api::detected_fields::{Field, find};
use crate::api::streams::{Naming, streams};

/// Labels that are shown whatever their values are.
const ALWAYS: [&str; 4] = ["cluster", "namespace", "instance", "pod"];

/// `/detected_labels`
pub(crate) async fn labels(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    let (start, end) = ask.params.range(ask.now)?;
    let matchers = match ask.params.get("query").map(|text| text.replace(' ', "")).as_deref() {
        None | Some("{}") => Vec::new(),
        _ => ask.matchers(false)?,
    };
    let range = (start.nanos(), end.nanos());
    let streams = streams(&app, &ask, &[matchers], range, Naming::Joined).await?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in streams.keys().flat_map(|s| s.iter()) {
        values.entry(name).or_default().insert(value);
    }
    let shown = values.iter().filter(|(name, values)| ALWAYS.contains(name) || !are_ids(values));
    let labels: Vec<_> =
        shown.map(|(name, values)| serde_json::json!({"label": name, "cardinality": values.len()})).collect();
    Ok(json_value(&if labels.is_empty() {
        serde_json::json!({})
    } else {
        serde_json::json!({"detectedLabels": labels})
    }))
}

/// Whether all values are numbers or UUIDs, other than a flag of 0 and 1.
fn are_ids(values: &BTreeSet<&str>) -> bool {
    if values.len() <= 2 && values.iter().all(|v| matches!(*v, "0" | "1")) {
        return false;
    }
    values.iter().all(|v| v.parse::<f64>().is_ok() || is_uuid(v))
}

fn is_uuid(text: &str) -> bool {
    let dash = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| if dash(i) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// `/detected_fields`
pub(crate) async fn fields(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    let limit = field_limit(&ask)?;
    let mut fields = find(&app, &ask).await?;
    let shown: Vec<_> = {
        let names: Vec<String> = fields.keys().take(limit).cloned().collect();
        names.into_iter().filter_map(|name| fields.remove(&name).map(|field| field.json(&name))).collect()
    };
    let body = if shown.is_empty() {
        serde_json::json!({"limit": limit})
    } else {
        serde_json::json!({"fields": shown, "limit": limit})
    };
    Ok(json_value(&body))
}

/// `/detected_field/{name}/values`
pub(crate) async fn values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    AskMany(ask): AskMany,
) -> Result<Response, Failure> {
    let limit = field_limit(&ask)?;
    let mut values = find(&app, &ask).await?.remove(&name).map(Field::values).unwrap_or_default();
    values.truncate(limit);
    let body = if values.is_empty() {
        serde_json::json!({})
    } else {
        serde_json::json!({"values": values, "limit": limit})
    };
    Ok(json_value(&body))
}

fn field_limit(ask: &Ask) -> Result<usize, Failure> {
    let name = if ask.params.get("field_limit").is_some() { "field_limit" } else { "limit" };
    ask.params.limit(name, 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_not_shown() {
        let check = |values: &[&str]| are_ids(&values.iter().copied().collect());
        assert!(check(&["1", "22"]) && check(&["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "5"]));
        assert!(!check(&["0", "1"]) && !check(&["a", "1"]));
    }
}
