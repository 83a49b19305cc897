//! Recorded answers of Loki on a fixed data set, asked of the engine.
//!
//! `expected_failures.txt` lists the cases that do not agree, each with the reason; a listed case that agrees fails the test as
//! well as one that is not listed and does not.

#![allow(clippy::unwrap_used, reason = "a broken data set must fail the test")]

mod dataset;

use std::collections::BTreeMap;
use std::path::PathBuf;

use logql::{
    Categories, Direction, Expr, LogParams, LogQuery, MetricLimits, MetricParams, MetricQuery, QueryResult,
};
use serde_json::{Value, json};

const SECOND: i64 = 1_000_000_000;

#[test]
fn recorded_answers() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/logs");
    let Ok(cases) = std::fs::read(dir.join("cases.json")) else {
        eprintln!("skipped: {} is not there", dir.display());
        return;
    };
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    let streams = dataset::load(&dir);
    let shredded: Vec<logql::EntryBatch> = streams.iter().map(shredded).collect();
    let expected: BTreeMap<&str, &str> = include_str!("expected_failures.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(id, _)| *id != "#")
        .collect();
    let (mut passed, mut surprises) = (0, Vec::new());
    for case in &cases {
        let (id, path) = (case["id"].as_str().unwrap(), case["path"].as_str().unwrap());
        // Lines that are taken apart give the same answer.
        let ask = |streams: &[_], case: &Value, instant: bool| {
            let (got, other) = (ask(streams, case, instant), ask(&shredded, case, instant));
            assert_eq!(got, other, "{case}");
            got
        };
        let got = match path.rsplit('/').next().unwrap() {
            "query" => ask(&streams, case, true),
            "query_range" => ask(&streams, case, false),
            "format_query" => format(case),
            _ => continue,
        };
        let query = case["params"]["query"].as_str().unwrap_or_default();
        let agreed = agrees(case, &got);
        passed += usize::from(agreed.is_ok());
        match (agreed, expected.get(id)) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(_)) => surprises.push(format!("{id} agrees now, take it off the list: {query}")),
            (Err(difference), None) => surprises.push(format!("{id} {query}\n    {difference}")),
        }
    }
    println!("{passed} agree, {} are expected not to", expected.len());
    assert!(
        surprises.is_empty(),
        "{} surprises ({passed} agree):\n{}",
        surprises.len(),
        surprises.join("\n")
    );
}

fn shredded(batch: &logql::EntryBatch) -> logql::EntryBatch {
    let Some(lines) = batch.lines.text() else { panic!("lines are texts") };
    logql::EntryBatch { lines: shred::Lines::Shredded(shred::shred_all(lines)), ..batch.clone() }
}

/// Queries that people run; the last one is wrong.
#[test]
fn queries_in_the_wild_parse() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/logql-in-the-wild.txt");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return;
    };
    let queries: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let (last, others) = queries.split_last().unwrap();
    for query in others {
        assert!(logql::parse(query).is_ok(), "{query}");
    }
    assert!(logql::parse(last).is_err(), "{last}");
}

/// Status and `data`, or the error's text.
type Answer = (u16, Value);

fn refused(error: impl ToString) -> Answer {
    (400, Value::from(error.to_string()))
}

fn format(case: &Value) -> Answer {
    match logql::parse(case["params"]["query"].as_str().unwrap()) {
        Ok(expr) => (200, Value::from(logql::pretty(&expr))),
        Err(e) => refused(e),
    }
}

fn ask(streams: &[logql::EntryBatch], case: &Value, instant: bool) -> Answer {
    let params = &case["params"];
    let number = |name: &str| params[name].as_str().and_then(|text| text.parse::<i64>().ok());
    let expr = match logql::parse(params["query"].as_str().unwrap()) {
        Ok(expr) => expr,
        Err(e) => return refused(e),
    };
    match expr {
        Expr::Log(_) if instant => refused("log queries are not supported as an instant query type"),
        Expr::Log(expr) => {
            let forward = params["direction"].as_str() == Some("forward");
            let log = LogParams {
                start: number("start").unwrap(),
                end: number("end").unwrap(),
                limit: number("limit").unwrap_or(100) as usize,
                direction: if forward { Direction::Forward } else { Direction::Backward },
                interval: 0,
            };
            let separate = case["headers"]["X-Loki-Response-Encoding-Flags"].as_str().is_some();
            log_answer(streams, &expr, log, if separate { Categories::Separate } else { Categories::Merged })
        }
        Expr::Metric(expr) => {
            let metric = if instant {
                let time = number("time").unwrap();
                MetricParams { start: time, end: time, step: SECOND, instant }
            } else {
                let step = number("step").unwrap() * SECOND;
                let (start, end) = (number("start").unwrap(), number("end").unwrap());
                let end = end.div_euclid(step) * step + if end.rem_euclid(step) > 0 { step } else { 0 };
                MetricParams { start: start.div_euclid(step) * step, end, step, instant }
            };
            metric_answer(streams, &expr, metric)
        }
    }
}

fn log_answer(
    streams: &[logql::EntryBatch],
    expr: &logql::LogExpr,
    params: LogParams,
    categories: Categories,
) -> Answer {
    let mut query = match LogQuery::new(expr, params) {
        Ok(query) => query,
        Err(e) => return refused(e),
    };
    // Two parts, as two queriers would do it.
    let mut other = query.fork();
    for (i, batch) in streams.iter().enumerate() {
        if query.matchers().iter().all(|m| m.matches_labels(&batch.labels)) {
            let part = if i % 2 == 0 { &mut query } else { &mut other };
            if let Err(e) = part.push(batch) {
                return refused(e);
            }
        }
    }
    if let Err(e) = query.merge(other) {
        return refused(e);
    }
    let pairs = |labels: &logql::LabelSet| {
        labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect::<serde_json::Map<_, _>>()
    };
    let result: Vec<Value> = query
        .finish(categories)
        .iter()
        .map(|stream| {
            let values: Vec<Value> = stream
                .entries
                .iter()
                .map(|entry| {
                    let mut value =
                        vec![Value::from(entry.timestamp.to_string()), Value::from(entry.line.as_str())];
                    if categories == Categories::Separate {
                        let mut third = serde_json::Map::new();
                        for (name, labels) in
                            [("structuredMetadata", &entry.metadata), ("parsed", &entry.parsed)]
                        {
                            if !labels.is_empty() {
                                third.insert(name.to_owned(), Value::from(pairs(labels)));
                            }
                        }
                        value.push(Value::from(third));
                    }
                    Value::from(value)
                })
                .collect();
            json!({"stream": pairs(&stream.labels), "values": values})
        })
        .collect();
    (200, json!({"resultType": "streams", "result": result}))
}

fn metric_answer(streams: &[logql::EntryBatch], expr: &logql::MetricExpr, params: MetricParams) -> Answer {
    match metric_result(streams, expr, params) {
        Err(e) => refused(e),
        Ok(result) => {
            let pairs = |labels: &logql::LabelSet| {
                labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect::<serde_json::Map<_, _>>()
            };
            let point = |ms: i64, value: f64| json!([ms as f64 / 1000.0, value.to_string()]);
            let (kind, result) = match result {
                QueryResult::Scalar(ms, value) => ("scalar", point(ms, value)),
                QueryResult::Vector(samples) => {
                    let sample = |s: &logql::Sample| json!({"metric": pairs(&s.labels), "value": point(s.timestamp_ms, s.value)});
                    ("vector", samples.iter().map(sample).collect())
                }
                QueryResult::Matrix(series) => {
                    let line = |s: &logql::Series| {
                        let values: Vec<Value> = s.points.iter().map(|(ms, v)| point(*ms, *v)).collect();
                        json!({"metric": pairs(&s.labels), "values": values})
                    };
                    ("matrix", series.iter().map(line).collect())
                }
            };
            (200, json!({"resultType": kind, "result": result}))
        }
    }
}

fn metric_result(
    streams: &[logql::EntryBatch],
    expr: &logql::MetricExpr,
    params: MetricParams,
) -> Result<QueryResult, logql::EvalError> {
    let mut query = MetricQuery::new(expr, params, MetricLimits::default())?;
    let mut other = query.fork();
    for leaf in 0..query.leaves().len() {
        for (i, batch) in streams.iter().enumerate() {
            if query.leaves()[leaf].matchers.iter().all(|m| m.matches_labels(&batch.labels)) {
                let part = if i % 2 == 0 { &mut query } else { &mut other };
                part.push(leaf, batch)?;
            }
        }
    }
    query.merge(other)?;
    query.finish()
}

/// Whether the answer is the recorded one, or what differs.
fn agrees(case: &Value, (status, got): &Answer) -> Result<(), String> {
    let want_status = case["status"].as_u64().unwrap_or_default();
    if want_status != u64::from(*status) {
        let want: String = case["body"].to_string().chars().take(300).collect();
        let got: String = got.to_string().chars().take(300).collect();
        return Err(format!("status {status} instead of {want_status}: {got} / {want}"));
    }
    if want_status != 200 {
        return Ok(());
    }
    let want = &case["body"]["data"];
    if want.is_string() {
        return if want == got { Ok(()) } else { Err(format!("{got} instead of {want}")) };
    }
    if want["resultType"] != got["resultType"] {
        return Err(format!("{} instead of {}", got["resultType"], want["resultType"]));
    }
    let sorted = |data: &Value| {
        let mut result = data["result"].clone();
        if let Some(list) = result.as_array_mut()
            && data["resultType"] != "vector"
        {
            list.sort_by_key(|item| {
                dataset::sorted_text(if item["stream"].is_null() { &item["metric"] } else { &item["stream"] })
            });
        }
        result
    };
    difference(&sorted(want), &sorted(got), "")
}

fn difference(want: &Value, got: &Value, place: &str) -> Result<(), String> {
    let number = |v: &Value| v.as_f64().or_else(|| v.as_str()?.parse().ok());
    let same = match (want, got) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            return a
                .iter()
                .zip(b)
                .enumerate()
                .try_for_each(|(i, (a, b))| difference(a, b, &format!("{place}[{i}]")));
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() && a.keys().all(|k| b.contains_key(k)) => {
            return a.iter().try_for_each(|(k, a)| difference(a, &b[k], &format!("{place}.{k}")));
        }
        _ if want == got => true,
        _ => match (number(want), number(got)) {
            (Some(a), Some(b)) => {
                a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * 1_f64.max(a.abs()).max(b.abs())
            }
            _ => false,
        },
    };
    if same {
        return Ok(());
    }
    let cut = |v: &Value| v.to_string().chars().take(700).collect::<String>();
    let length = |v: &Value| v.as_array().map_or(0, Vec::len);
    Err(format!(
        "{place} ({} items instead of {}): got {}\n    want {}",
        length(got),
        length(want),
        cut(got),
        cut(want)
    ))
}
