//! `/loki/api/v1/delete`: requests to delete lines.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::Timestamp;
use model::duration::parse_prometheus;
use service::Failure;

use crate::api::ask::{Ask, json};
use crate::api::params::Params;
use crate::api::{App, page_not_found};
use crate::deletes::DeleteRequest;
use crate::limits::DeletionMode;

const SECOND: i64 = 1_000_000_000;

/// POST, PUT: hides the lines of a query, and has them removed.
pub(crate) async fn create(State(app): State<Arc<App>>, ask: Ask) -> Result<Response, Failure> {
    check_enabled(&app, &ask)?;
    let query = ask.params.get("query").ok_or_else(|| Failure::invalid("query not set"))?;
    let start = time(&ask.params, "start")?.ok_or_else(|| Failure::invalid("start time not set"))?;
    let end = time(&ask.params, "end")?.unwrap_or(ask.now);
    if end > ask.now {
        return Err(Failure::invalid("deletes in the future are not allowed"));
    }
    if start >= end {
        return Err(Failure::invalid("start time can't be greater than or equal to end time"));
    }
    check_interval(&app, &ask.params, start, end)?;
    let id = app.deletes.create(&ask.tenant, query, start, end).await?;
    Ok((StatusCode::NO_CONTENT, [("x-delete-request-id", id)]).into_response())
}

/// GET: the requests and how far they are.
pub(crate) async fn list(State(app): State<Arc<App>>, ask: Ask) -> Result<Response, Failure> {
    check_enabled(&app, &ask)?;
    let requests = app.deletes.list(&ask.tenant).await?;
    let requests: Vec<_> = requests.iter().map(describe).collect();
    Ok(json(serde_json::Value::Array(requests).to_string()))
}

/// DELETE: takes a request back.
pub(crate) async fn cancel(State(app): State<Arc<App>>, ask: Ask) -> Result<StatusCode, Failure> {
    check_enabled(&app, &ask)?;
    let id = ask.params.get("request_id").ok_or_else(|| Failure::invalid("request_id not set"))?;
    let force = ask.params.get("force").is_some_and(|v| v == "true" || v == "1");
    app.deletes.cancel(&ask.tenant, id, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_enabled(app: &App, ask: &Ask) -> Result<(), Failure> {
    if !app.deletes.enabled() {
        return Err(page_not_found());
    }
    if ask.limits.deletion_mode == DeletionMode::Disabled {
        let text = "deletion is not available for this tenant";
        return Err(Failure::invalid(text).with_status(StatusCode::FORBIDDEN));
    }
    Ok(())
}

/// How a long range is split is ours to decide; what is no duration, or too long, is refused as ever.
fn check_interval(app: &App, params: &Params, start: Timestamp, end: Timestamp) -> Result<(), Failure> {
    let Some(text) = params.get("max_interval") else { return Ok(()) };
    let nanos = parse_prometheus(text)
        .map_err(|_| Failure::invalid("invalid max_interval: valid time units are 's', 'm', 'h'"))?;
    let limit = app.deletes.max_interval();
    if !limit.is_zero() && i128::from(nanos) > limit.as_nanos() as i128 {
        let limit = service::config::Duration(limit);
        return Err(Failure::invalid(format!("max_interval can't be greater than {limit}")));
    }
    if nanos > end.nanos().saturating_sub(start.nanos()) {
        return Err(Failure::invalid(
            "max_interval can't be greater than the interval to be deleted (end - start)",
        ));
    }
    Ok(())
}

/// Unix seconds, of 10 digits as one of this age has them, or RFC 3339.
fn time(params: &Params, name: &str) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let seconds = (text.len() <= 10).then(|| text.parse::<u64>().ok()).flatten();
    let time = match seconds {
        Some(seconds) => Some(Timestamp(seconds as i64 * SECOND)),
        None => text
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|t| i64::try_from(t.as_nanosecond()).ok())
            .map(Timestamp),
    };
    let bad = || Failure::invalid(format!("invalid {name} time: require unix seconds or RFC3339 format"));
    time.map(Some).ok_or_else(bad)
}

fn describe(request: &DeleteRequest) -> serde_json::Value {
    // Milliseconds, as exactly as a float can have them.
    let seconds = |nanos: i64| (nanos / 1_000_000) as f64 / 1000.0;
    serde_json::json!({
        "request_id": request.id,
        "start_time": seconds(request.start),
        "end_time": seconds(request.end),
        "query": request.query,
        "status": request.status.to_string(),
        "created_at": seconds(request.created),
        "user_id": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc3339() {
        let check = |text: &str, expect: Option<i64>| {
            let params = Params::parse(&format!("start={text}"), b"");
            let found = time(&params, "start");
            assert_eq!(found.ok(), expect.map(|nanos| Some(Timestamp(nanos))), "{text}");
        };
        check("1700000000", Some(1_700_000_000 * SECOND));
        check("2023-11-14T22:13:20Z", Some(1_700_000_000 * SECOND));
        check("2023-11-14T22:13:20.5%2B01:00", Some(1_699_996_400 * SECOND + SECOND / 2));
        for bad in ["1700000000000", "-5", "yesterday", "1.5e9"] {
            check(bad, None);
        }
        assert_eq!(time(&Params::default(), "start").ok(), Some(None));
    }
}
