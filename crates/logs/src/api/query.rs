//! Queries.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use logql::{
    Categories, Direction, Expr, LogExpr, LogParams, MetricExpr, MetricLimits, MetricParams, MetricQuery,
    QueryResult, ResultStream,
};
use model::{Matcher, Timestamp, duration};
use service::Failure;

use crate::api::App;
use crate::api::ask::{Ask, AskMany, json, parse};
use crate::api::json::{envelope, push_result, push_str, push_streams, result_type};
use crate::query::run::{QueryContext, within};
use crate::query::stats::QueryStats;

pub(crate) const FLAGS: &str = "x-loki-response-encoding-flags";
pub(crate) const CATEGORIZE: &str = "categorize-labels";

impl App {
    pub(crate) fn context(&self, ask: &Ask) -> QueryContext {
        QueryContext {
            tenants: ask.tenants.clone(),
            stats: Arc::new(QueryStats::default()),
            max_bytes: ask.limits.max_query_bytes_read.get(),
        }
    }

    /// Moves the start of a range into what the tenant may see; `None` if nothing of it is.
    pub(crate) fn look_back(&self, ask: &Ask, start: Timestamp, end: Timestamp) -> Option<Timestamp> {
        let lookback = ask.limits.max_query_lookback;
        if lookback.is_zero() {
            return Some(start);
        }
        let oldest = ask.now.plus(-(lookback.get().as_nanos() as i64));
        (end >= oldest).then(|| start.max(oldest))
    }

    fn check_length(&self, ask: &Ask, start: Timestamp, end: Timestamp) -> Result<(), Failure> {
        let limit = ask.limits.max_query_length.get().as_nanos() as i64;
        let length = end.nanos().saturating_sub(start.nanos());
        if limit > 0 && length > limit {
            return Err(Failure::invalid(format!(
                "the query time range exceeds the limit (query length: {}, limit: {})",
                duration::format_go(length),
                duration::format_go(limit)
            )));
        }
        Ok(())
    }

    /// Whether a query may ask for this many entries.
    pub(crate) fn check_entries(&self, ask: &Ask, limit: usize) -> Result<(), Failure> {
        let most = ask.limits.max_entries_limit_per_query;
        if most > 0 && limit > most {
            return Err(Failure::invalid(format!(
                "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {most})"
            )));
        }
        Ok(())
    }

    /// Whether a selector names what the tenant's queries must name, and no more than it may.
    pub(crate) fn check_matchers(&self, ask: &Ask, matchers: &[Matcher]) -> Result<(), Failure> {
        let most = ask.limits.max_streams_matchers_per_query;
        if most > 0 && matchers.len() > most {
            return Err(Failure::invalid(format!(
                "max streams matchers per query exceeded, matchers-count > limit ({} > {most})",
                matchers.len()
            )));
        }
        let named = |name: &String| matchers.iter().any(|m| m.name() == name);
        let missing: Vec<&str> =
            ask.limits.required_labels.iter().filter(|name| !named(name)).map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(Failure::invalid(format!(
                "stream selector is missing required matchers [{}], labels present in the query were [{}]",
                missing.join(", "),
                matchers.iter().map(Matcher::name).collect::<Vec<_>>().join(", ")
            )));
        }
        if matchers.len() < ask.limits.minimum_labels_number {
            return Err(Failure::invalid(format!(
                "stream selector has less label matchers than required: ({}) has {} and needs {}",
                matchers.iter().map(Matcher::name).collect::<Vec<_>>().join(", "),
                matchers.len(),
                ask.limits.minimum_labels_number
            )));
        }
        Ok(())
    }

    async fn logs(
        &self,
        ask: &Ask,
        context: &QueryContext,
        expr: &LogExpr,
        params: LogParams,
        categories: Categories,
    ) -> Result<Vec<ResultStream>, Failure> {
        self.check_entries(ask, params.limit)?;
        let (start, end) = (Timestamp(params.start), Timestamp(params.end));
        self.check_length(ask, start, end)?;
        self.check_matchers(ask, &expr.matchers)?;
        let Some(start) = self.look_back(ask, start, end) else { return Ok(Vec::new()) };
        let params = LogParams { start: start.nanos(), ..params };
        let query = self.querier.log_query(context, expr, params, categories);
        within(ask.limits.query_timeout.get(), query).await
    }

    async fn metric(
        &self,
        ask: &Ask,
        context: &QueryContext,
        expr: &MetricExpr,
        params: MetricParams,
    ) -> Result<(QueryResult, Vec<String>), Failure> {
        self.check_length(ask, Timestamp(params.start), Timestamp(params.end))?;
        // Drilldown prefers a part of the series to none.
        let truncate = ask.has_flag("x-query-tags", "Source=grafana-lokiexplore-app");
        let most = ask.limits.max_query_series;
        let limits =
            MetricLimits { max_series: if truncate { usize::MAX } else { most }, ..MetricLimits::default() };
        let plan = MetricQuery::new(expr, params, limits).map_err(crate::query::run::eval_failure)?;
        for leaf in plan.leaves() {
            self.check_matchers(ask, &leaf.matchers)?;
            let range = (leaf.end - leaf.start) - if params.instant { 0 } else { params.end - params.start };
            let limit = ask.limits.max_query_range.get().as_nanos() as i64;
            if limit > 0 && range > limit {
                return Err(Failure::invalid(format!(
                    "[interval] value exceeds limit: [{}] > [{}]",
                    duration::format_prometheus(range),
                    duration::format_prometheus(limit)
                )));
            }
        }
        let Some(start) = self.look_back(ask, Timestamp(params.start), Timestamp(params.end)) else {
            let none = if params.instant {
                QueryResult::Vector(Vec::new())
            } else {
                QueryResult::Matrix(Vec::new())
            };
            return Ok((none, Vec::new()));
        };
        let params = if params.instant {
            params
        } else {
            MetricParams { start: ceil(start.nanos(), params.step), ..params }
        };
        let query = self.querier.metric_query(context, expr, params, limits);
        let mut result = within(ask.limits.query_timeout.get(), query).await?;
        let series = match &mut result {
            QueryResult::Matrix(series) => cut(series, most),
            QueryResult::Vector(samples) => cut(samples, most),
            QueryResult::Scalar(..) => false,
        };
        let warning = format!(
            "maximum number of series ({most}) reached for a single query; returning partial results"
        );
        Ok((result, if truncate && series { vec![warning] } else { Vec::new() }))
    }
}

/// Cuts a list; whether there was more.
fn cut<T>(list: &mut Vec<T>, most: usize) -> bool {
    let over = list.len() > most;
    list.truncate(most);
    over
}

fn floor(nanos: i64, step: i64) -> i64 {
    nanos - nanos.rem_euclid(step)
}

fn ceil(nanos: i64, step: i64) -> i64 {
    floor(nanos.saturating_add(step - 1), step)
}

fn metric_answer(context: &QueryContext, (result, warnings): (QueryResult, Vec<String>)) -> Response {
    let returned = match &result {
        QueryResult::Matrix(series) => series.len(),
        QueryResult::Vector(samples) => samples.len(),
        QueryResult::Scalar(..) => 1,
    };
    let stats = context.stats.json(returned as u64);
    json(envelope(result_type(&result), &[], &warnings, &stats, |out| push_result(out, &result)))
}

/// `/query`
pub(crate) async fn instant(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    let time = ask.params.time("time")?.unwrap_or(ask.now);
    ask.params.limit("limit", 100)?;
    ask.params.direction()?;
    let Expr::Metric(expr) = ask.query()? else {
        return Err(Failure::invalid(
            "log queries are not supported as an instant query type, please change your query to a range query type",
        ));
    };
    let context = app.context(&ask);
    let params = MetricParams { start: time.nanos(), end: time.nanos(), step: 1, instant: true };
    Ok(metric_answer(&context, app.metric(&ask, &context, &expr, params).await?))
}

/// What `/query_range` and its older form have in common.
struct Range {
    start: Timestamp,
    end: Timestamp,
    limit: usize,
    direction: Direction,
    step: i64,
    interval: i64,
}

impl Range {
    fn new(ask: &Ask) -> Result<Self, Failure> {
        let (start, end) = ask.params.range(ask.now)?;
        let limit = ask.params.limit("limit", 100)?;
        let direction = ask.params.direction()?;
        let step = ask.params.step(start, end)?;
        let interval = ask.params.duration("interval")?.unwrap_or(0);
        if interval < 0 {
            return Err(Failure::invalid("interval must be >= 0"));
        }
        Ok(Self { start, end, limit, direction, step, interval })
    }

    fn logs(&self) -> LogParams {
        LogParams {
            start: self.start.nanos(),
            end: self.end.nanos(),
            limit: self.limit,
            direction: self.direction,
            interval: self.interval,
        }
    }
}

/// `/query_range`
pub(crate) async fn range(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    let range = Range::new(&ask)?;
    let context = app.context(&ask);
    match ask.query()? {
        Expr::Log(expr) => {
            let flags: Vec<String> =
                if ask.has_flag(FLAGS, CATEGORIZE) { vec![CATEGORIZE.to_owned()] } else { Vec::new() };
            let categorized = !flags.is_empty();
            let categories = if categorized { Categories::Separate } else { Categories::Merged };
            let streams = app.logs(&ask, &context, &expr, range.logs(), categories).await?;
            let returned: usize = streams.iter().map(|s| s.entries.len()).sum();
            let stats = context.stats.json(returned as u64);
            Ok(json(envelope("streams", &flags, &[], &stats, |out| push_streams(out, &streams, categorized))))
        }
        Expr::Metric(expr) => {
            let (start, end) = (floor(range.start.nanos(), range.step), ceil(range.end.nanos(), range.step));
            let params = MetricParams { start, end, step: range.step, instant: false };
            Ok(metric_answer(&context, app.metric(&ask, &context, &expr, params).await?))
        }
    }
}

/// `/api/prom/query`: the answer of Loki's first years.
pub(crate) async fn legacy(State(app): State<Arc<App>>, AskMany(ask): AskMany) -> Result<Response, Failure> {
    let range = Range::new(&ask)?;
    let mut text = ask.params.get("query").unwrap_or_default().to_owned();
    if let Some(regexp) = ask.params.get("regexp") {
        text = format!("{text} |~ {}", model::quote(regexp));
    }
    let Expr::Log(expr) = parse(&text)? else {
        return Err(Failure::invalid("legacy endpoints only support streams result type"));
    };
    let context = app.context(&ask);
    let streams = app.logs(&ask, &context, &expr, range.logs(), Categories::Merged).await?;
    let mut out = b"{\"streams\":[".to_vec();
    for (i, stream) in streams.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"labels\":" } else { b"{\"labels\":" });
        push_str(&mut out, &stream.labels.to_string());
        out.extend_from_slice(b",\"entries\":[");
        for (j, entry) in stream.entries.iter().enumerate() {
            out.extend_from_slice(if j > 0 { b",{\"ts\":" } else { b"{\"ts\":" });
            push_str(&mut out, &Timestamp(entry.timestamp).to_string());
            out.extend_from_slice(b",\"line\":");
            push_str(&mut out, &entry.line);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"],\"stats\":{}}\n");
    Ok(json(out))
}

/// `/format_query`
pub(crate) async fn format(AskMany(ask): AskMany) -> Result<Response, Failure> {
    Ok(match parse(ask.params.get("query").unwrap_or_default()) {
        Ok(expr) => {
            let body = serde_json::json!({"status": "success", "data": logql::pretty(&expr)});
            json(format!("{body}\n"))
        }
        Err(failure) => {
            let body = serde_json::json!({"status": "invalid-query", "error": failure.message()});
            (StatusCode::BAD_REQUEST, json(format!("{body}\n"))).into_response()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_aligned() {
        assert_eq!((floor(7, 5), ceil(7, 5), floor(-7, 5), ceil(10, 5)), (5, 10, -10, 10));
    }
}
