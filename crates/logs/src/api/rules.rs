//! Rules: written and read as YAML by tools, read with their state as JSON by Grafana.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use service::Failure;
use service::http::read_body;
use wire::prometheus::rules::{Alerts, Answer, Rules};

use crate::api::App;
use crate::api::ask::{Ask, json, selector};
use crate::api::page_not_found;
use crate::ruler::Ruler;
use crate::ruler::group::{RuleGroup, parse_group};
use crate::ruler::status::Filter;

/// Largest body of a group.
const MAX_BODY: usize = 1 << 20;

impl App {
    /// The ruler, if its interface is switched on.
    fn ruler(&self) -> Result<&Ruler, Failure> {
        Some(&*self.ruler).filter(|ruler| ruler.has_api()).ok_or_else(page_not_found)
    }
}

fn yaml(value: &impl Serialize) -> Result<Response, Failure> {
    let text = serde_saphyr::to_string(value).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], text).into_response())
}

fn success<T: Serialize>(status: StatusCode, data: Option<T>) -> Result<Response, Failure> {
    let mut text =
        serde_json::to_string(&Answer::success(data)).map_err(|e| Failure::internal(e.to_string()))?;
    text.push('\n');
    Ok((status, json(text)).into_response())
}

fn accepted() -> Result<Response, Failure> {
    success::<()>(StatusCode::ACCEPTED, None)
}

fn none() -> Failure {
    Failure::not_found("no rule groups found\n")
}

/// `GET /rules`
pub(crate) async fn all(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failure> {
    let tenant = app.tenant(&headers)?;
    let rules = app.ruler()?.rules(&tenant).await?;
    if rules.is_empty() { Err(none()) } else { yaml(&rules) }
}

/// `GET /rules/{namespace}`
pub(crate) async fn namespace(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let tenant = app.tenant(&headers)?;
    let mut rules = app.ruler()?.rules(&tenant).await?;
    let groups = rules.remove(&namespace).ok_or_else(none)?;
    yaml(&BTreeMap::from([(namespace, groups)]))
}

/// `GET /rules/{namespace}/{group}`
pub(crate) async fn group(
    State(app): State<Arc<App>>,
    Path((namespace, group)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let tenant = app.tenant(&headers)?;
    let rules = app.ruler()?.rules(&tenant).await?;
    let named = |known: &&RuleGroup| known.name == group;
    let found = rules.get(&namespace).and_then(|groups| groups.iter().find(named));
    yaml(found.ok_or_else(|| Failure::not_found("group does not exist\n"))?)
}

/// `POST /rules/{namespace}`
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let tenant = app.tenant(&headers)?;
    let ruler = app.ruler()?;
    let body = read_body(body, MAX_BODY).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Failure::invalid("the rule group is not UTF-8"))?;
    let group =
        parse_group(text).map_err(|e| Failure::invalid(format!("unable to decode rule group: {e}")))?;
    ruler.set_group(&tenant, &namespace, group).await?;
    accepted()
}

/// `DELETE /rules/{namespace}`
pub(crate) async fn remove_namespace(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let tenant = app.tenant(&headers)?;
    match app.ruler()?.remove(&tenant, &namespace, None).await? {
        true => accepted(),
        false => Err(none()),
    }
}

/// `DELETE /rules/{namespace}/{group}`
pub(crate) async fn remove_group(
    State(app): State<Arc<App>>,
    Path((namespace, group)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let tenant = app.tenant(&headers)?;
    match app.ruler()?.remove(&tenant, &namespace, Some(&group)).await? {
        true => accepted(),
        false => Err(Failure::not_found("group does not exist\n")),
    }
}

/// `/prometheus/api/v1/rules`
pub(crate) async fn status(State(app): State<Arc<App>>, ask: Ask) -> Result<Response, Failure> {
    let ruler = app.ruler()?;
    let all = |names: &[&str]| ask.params.all(names).map(str::to_owned).collect::<Vec<String>>();
    let alerting = match ask.params.get("type").unwrap_or_default() {
        "" => None,
        "alert" => Some(true),
        "record" => Some(false),
        other => {
            return Err(Failure::invalid(format!(
                "not supported value '{other}' of type: use alert or record"
            )));
        }
    };
    let exclude_alerts = match ask.params.get("exclude_alerts").unwrap_or_default() {
        "" | "false" | "0" => false,
        "true" | "1" => true,
        other => {
            return Err(Failure::invalid(format!("'{other}' of exclude_alerts is neither true nor false")));
        }
    };
    let matchers: Result<Vec<_>, Failure> =
        ask.params.all(&["match", "match[]"]).map(|text| selector(text, true)).collect();
    let filter = Filter {
        files: all(&["file", "file[]"]),
        groups: all(&["rule_group", "rule_group[]"]),
        rules: all(&["rule_name", "rule_name[]"]),
        alerting,
        matchers: matchers?,
        exclude_alerts,
    };
    success(StatusCode::OK, Some(Rules { groups: ruler.status(&ask.tenant, &filter) }))
}

/// `/prometheus/api/v1/alerts`
pub(crate) async fn alerts(State(app): State<Arc<App>>, ask: Ask) -> Result<Response, Failure> {
    let ruler = app.ruler()?;
    success(StatusCode::OK, Some(Alerts { alerts: ruler.alerts(&ask.tenant) }))
}
