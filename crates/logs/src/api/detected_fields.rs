//! The fields of the newest lines of a query: its structured metadata, and what `json` or `logfmt` finds.
//!
//! The engine does the parsing: the query runs once with each parser behind it, and of a line that is no JSON object logfmt counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use logql::ast::Stage;
use logql::{Categories, Direction, Expr, LogExpr, LogParams, ResultStream};
use model::{duration, size};
use service::Failure;

use crate::api::App;
use crate::api::ask::Ask;
use crate::query::run::{QueryContext, within};
use crate::query::stats::QueryStats;

/// A field.
#[derive(Debug, Default)]
pub(crate) struct Field {
    kind: &'static str,
    values: BTreeSet<String>,
    parsers: Vec<&'static str>,
    path: Option<Vec<String>>,
}

impl Field {
    /// As `/detected_fields` shows it.
    pub(crate) fn json(self, name: &str) -> serde_json::Value {
        let parsers = (!self.parsers.is_empty()).then_some(self.parsers);
        let mut json = serde_json::json!({
            "label": name, "type": self.kind, "cardinality": self.values.len(), "parsers": parsers,
        });
        if let Some(path) = self.path {
            json["jsonPath"] = path.into();
        }
        json
    }

    /// Its values, sorted.
    pub(crate) fn values(self) -> Vec<String> {
        self.values.into_iter().collect()
    }

    fn add(&mut self, value: &str, parser: Option<&'static str>, path: Option<Vec<String>>) {
        // The last value seen decides the type, as in Loki.
        self.kind = kind(value);
        self.values.insert(value.to_owned());
        if let Some(parser) = parser.filter(|p| !self.parsers.contains(p)) {
            self.parsers.push(parser);
        }
        self.path = path.or_else(|| self.path.take());
    }
}

fn kind(value: &str) -> &'static str {
    if value.parse::<i64>().is_ok() {
        "int"
    } else if value.parse::<f64>().is_ok() {
        "float"
    } else if matches!(value, "true" | "false" | "True" | "False" | "TRUE" | "FALSE" | "t" | "f" | "T" | "F")
    {
        "boolean"
    } else if duration::parse_go(value).is_ok() {
        "duration"
    } else if size::parse_humanized(value).is_ok() {
        "bytes"
    } else {
        "string"
    }
}

/// The fields of the query's newest lines, by name.
pub(crate) async fn find(app: &Arc<App>, ask: &Ask) -> Result<BTreeMap<String, Field>, Failure> {
    let (start, end) = ask.params.range(ask.now)?;
    let limit = ask.params.limit("line_limit", 100)?;
    let Expr::Log(expr) = ask.query()? else {
        return Err(Failure::invalid("only log queries have fields"));
    };
    let params = LogParams {
        start: start.nanos(),
        end: end.nanos(),
        limit: limit.min(ask.limits.max_entries_limit_per_query.max(1)),
        direction: Direction::Backward,
        interval: 0,
    };
    let json = run(app, ask, &expr, Stage::Json(Vec::new()), params).await?;
    let logfmt = Stage::Logfmt { strict: false, keep_empty: false, extractions: Vec::new() };
    let logfmt = run(app, ask, &expr, logfmt, params).await?;
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for (as_json, as_logfmt) in json.iter().zip(&logfmt) {
        for (a, b) in as_json.entries.iter().zip(&as_logfmt.entries) {
            for (name, value) in a.metadata.iter() {
                fields.entry(name.to_owned()).or_default().add(value, None, None);
            }
            let is_json = a.parsed.get("__error__").is_none();
            let (parsed, parser) = if is_json { (&a.parsed, "json") } else { (&b.parsed, "logfmt") };
            let paths = if is_json { paths(&a.line) } else { BTreeMap::new() };
            for (name, value) in
                parsed.iter().filter(|(name, value)| !name.starts_with("__error") && !value.is_empty())
            {
                let path = paths
                    .get(name.strip_suffix("_extracted").unwrap_or(name))
                    .or_else(|| paths.get(name))
                    .cloned();
                fields.entry(name.to_owned()).or_default().add(value, Some(parser), path);
            }
        }
    }
    Ok(fields)
}

async fn run(
    app: &Arc<App>,
    ask: &Ask,
    expr: &LogExpr,
    parser: Stage,
    params: LogParams,
) -> Result<Vec<ResultStream>, Failure> {
    let mut expr = expr.clone();
    expr.stages.push(parser);
    let context = QueryContext {
        tenants: ask.tenants.clone(),
        stats: Arc::new(QueryStats::default()),
        max_bytes: ask.limits.max_query_bytes_read.get(),
    };
    let query = app.querier.log_query(&context, &expr, params, Categories::Separate);
    within(ask.limits.query_timeout.get(), query).await
}

/// The path of each leaf of a JSON object by the label name that the parser gives it.
fn paths(line: &str) -> BTreeMap<String, Vec<String>> {
    fn walk(value: &serde_json::Value, path: &mut Vec<String>, out: &mut BTreeMap<String, Vec<String>>) {
        match value {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    path.push(name.clone());
                    walk(value, path, out);
                    path.pop();
                }
            }
            serde_json::Value::Array(_) | serde_json::Value::Null => {}
            _ => {
                let name = path.iter().map(|p| label(p)).collect::<Vec<_>>().join("_");
                let digit = name.starts_with(|c: char| c.is_ascii_digit());
                out.entry(if digit { format!("_{name}") } else { name }).or_insert_with(|| path.clone());
            }
        }
    }
    let mut out = BTreeMap::new();
    if let Ok(value) = serde_json::from_str(line) {
        walk(&value, &mut Vec::new(), &mut out);
    }
    out
}

fn label(name: &str) -> String {
    name.trim().chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_paths() {
        let kinds = ["5", "1.5", "true", "1m3s", "10KB", "x"].map(kind);
        assert_eq!(kinds, ["int", "float", "boolean", "duration", "bytes", "string"]);
        let paths = paths(r#"{"http":{"headers":{"x-req.id":"a"}},"1num":7,"nul":null,"list":[1]}"#);
        assert_eq!(paths["http_headers_x_req_id"], ["http", "headers", "x-req.id"]);
        assert_eq!(paths["_1num"], ["1num"]);
        assert_eq!(paths.len(), 2);
    }
}
