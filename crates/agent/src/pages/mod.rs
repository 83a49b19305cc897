//! The agent's own HTTP: Promtail's pages, as HTML and as JSON, reloading, and explaining.

mod html;
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use http::{HeaderMap, StatusCode, header};
use service::axum::extract::{OriginalUri, Query, State};
use service::axum::response::{Html, IntoResponse, Response};
use service::axum::routing::{get, post};
use service::axum::{Json, Router};
use service::{BuildInfo, Configs, Health, Process, Standard};

use crate::explain;
use crate::run::{InForce, Reloads};
use html::{Page, escape, labels, state};
use model::{Active, MOST_DROPPED, Overview};

/// All routes. `reloads` is there if `/reload` may be asked; `wants_target` makes `/ready` wait for one.
pub(crate) fn router(
    live: InForce,
    reloads: Option<Reloads>,
    wants_target: bool,
    health: &Health,
    process: &Process,
) -> Router {
    let info = BuildInfo::new(process.program(), crate::PROMTAIL);
    let (config, readiness, health_now) = (live.clone(), live.clone(), health.clone());
    let standard = Standard::new(health, process.metrics())
        .live_config(move || Configs::of(&*config.now().config))
        .ready(move || ready(wants_target, &readiness, &health_now))
        .build_info("/api/v1/status/buildinfo", info);
    let reload = async move |headers: HeaderMap| reload(reloads, &headers).await;
    let own = Router::new()
        .route("/", get(first_page))
        .route("/targets", get(targets))
        .route("/service-discovery", get(discovery))
        .route("/api/v1/targets", get(async |live: State<InForce>| Json(overview(live.0).await)))
        .route("/explain", get(explained))
        .route("/reload", post(reload))
        .with_state(live);
    standard.router().merge(own)
}

/// To the first page, wherever the root is.
async fn first_page(OriginalUri(uri): OriginalUri) -> Response {
    let targets = format!("{}/targets", uri.path().trim_end_matches('/'));
    (StatusCode::SEE_OTHER, [(header::LOCATION, targets)]).into_response()
}

/// As Promtail answers: 200 when something is read.
fn ready(wants_target: bool, live: &InForce, health: &Health) -> Response {
    const TEXT: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    if !health.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, TEXT, health.obstacles().join("\n") + "\n").into_response();
    }
    if wants_target && !live.now().board.is_ready() {
        let text = "Not ready: no target has anything to read: see /targets, or run `timberline-agent explain FILE`\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, TEXT, text).into_response();
    }
    (TEXT, "Ready\n").into_response()
}

/// Looks at files, so it is not for the runtime's threads.
async fn overview(live: InForce) -> Option<Overview> {
    tokio::task::spawn_blocking(move || Overview::of(&live.now())).await.ok()
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("application/json") && !accept.contains("text/html")
}

async fn targets(live: State<InForce>, headers: HeaderMap) -> Response {
    page(live.0, &headers, targets_page).await
}

async fn discovery(live: State<InForce>, headers: HeaderMap) -> Response {
    page(live.0, &headers, discovery_page).await
}

async fn page(live: InForce, headers: &HeaderMap, write: fn(&Overview) -> String) -> Response {
    match overview(live).await {
        Some(overview) if wants_json(headers) => Json(overview).into_response(),
        Some(overview) => Html(write(&overview)).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn targets_page(overview: &Overview) -> String {
    let mut page = Page::new("Targets");
    for job in &overview.jobs {
        let ready = job.targets.iter().filter(|target| target.ready).count();
        page.heading(&format!("{} ({}): {ready} of {} ready", job.job, job.kind, job.targets.len()));
        if let Some(error) = &job.error {
            page.problem(error);
        }
        let row = |target: &Active| {
            vec![
                state(target.ready, if target.ready { "ready" } else { "not ready" }),
                labels(&target.labels),
                details(target),
            ]
        };
        page.table(&["State", "Labels", "Details"], job.targets.iter().map(row));
        if job.dropped_count > 0 {
            page.text(&format!("{} more are not read: see service discovery.", job.dropped_count));
        }
    }
    if overview.jobs.is_empty() {
        page.text("No target is configured, or none has been found yet.");
    }
    page.heading("Clients");
    let row = |client: &model::Client| {
        let now = match (client.state.is_waiting, client.state.last_sent) {
            (true, _) => state(false, "waiting to try again"),
            (false, Some(time)) => state(true, &format!("last delivered {time}")),
            (false, None) => "nothing delivered yet".to_owned(),
        };
        let error = client.state.last_error.as_ref();
        let error = error.map(|error| escape(&format!("{}: {}", error.at, error.text)));
        vec![escape(&client.name), escape(&client.host), now, error.unwrap_or_default()]
    };
    page.table(&["Name", "Host", "State", "Last error"], overview.clients.iter().map(row));
    page.finish()
}

fn details(target: &Active) -> String {
    let mut lines = vec![escape(&target.details)];
    lines.retain(|line| !line.is_empty());
    for file in &target.files {
        let mut line = format!("<code>{}</code> {} bytes", escape(&file.path), file.size);
        for position in &file.positions {
            let percent = percent(position.offset, file.size);
            let client =
                if file.positions.len() > 1 { format!(" by {}", position.client) } else { String::new() };
            line += &escape(&format!(", {} acknowledged{client} ({percent} %)", position.offset));
        }
        if file.positions.is_empty() {
            line += ", nothing acknowledged yet";
        }
        lines.push(line);
    }
    lines.join("<br>")
}

/// How much of a file that is, rounded down.
pub(crate) fn percent(offset: u64, size: u64) -> u64 {
    (u128::from(offset.min(size)) * 100).checked_div(u128::from(size)).map_or(100, |percent| percent as u64)
}

fn discovery_page(overview: &Overview) -> String {
    let mut page = Page::new("Service discovery");
    for job in &overview.jobs {
        let all = job.targets.len() + job.dropped_count;
        page.heading(&format!("{} ({}): {} of {all} are read", job.job, job.kind, job.targets.len()));
        if let Some(error) = &job.error {
            page.problem(error);
        }
        let kept = job.targets.iter().map(|t| vec![labels(&t.discovered_labels), labels(&t.labels)]);
        let dropped = job.dropped.iter().map(|d| vec![labels(&d.discovered_labels), state(false, &d.reason)]);
        page.table(&["Discovered labels", "Labels of its lines"], kept.chain(dropped));
        if job.dropped_count > MOST_DROPPED {
            page.text(&format!("{} more were dropped.", job.dropped_count - MOST_DROPPED));
        }
    }
    page.finish()
}

async fn reload(reloads: Option<Reloads>, headers: &HeaderMap) -> Response {
    let Some(reloads) = reloads else {
        let text = "reloading is switched off: set server.enable_runtime_reload, or send SIGHUP\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    };
    let result = reloads.reload().await;
    let status = if result.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    if wants_json(headers) {
        return (status, Json(serde_json::json!({"error": result.err()}))).into_response();
    }
    let text =
        result.map_or_else(|problem| format!("failed to reload config: {problem}\n"), |()| String::new());
    (status, text).into_response()
}

#[derive(serde::Deserialize)]
struct Asked {
    path: PathBuf,
}

async fn explained(live: State<InForce>, headers: HeaderMap, Query(asked): Query<Asked>) -> Response {
    let work = move || explain::Explanation::of(&live.now(), &asked.path, true);
    let Ok(explanation) = tokio::task::spawn_blocking(work).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match wants_json(&headers) {
        true => Json(explanation).into_response(),
        false => explanation.to_string().into_response(),
    }
}
