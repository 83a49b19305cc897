//! An evaluator that is too simple to be wrong: row by row, with maps of texts, nothing shared with the engine but the syntax tree.

use std::collections::{BTreeMap, BTreeSet};

use logql::ast::{
    CompareOp, Extraction, LabelFilter, LineFilter, LineOp, LineOperand, Literal, RangeAggregation, RangeOp,
    Stage,
};
use logql::{
    Direction, EvalError, Expr, LogExpr, LogParams, MetricExpr, MetricParams, QueryResult, ResultStream,
};
use model::MatchOp;
use serde_json::value::RawValue;

use crate::data::{Entry, Stream};

type Labels = BTreeMap<String, String>;

/// A row on its way.
struct Row<'e> {
    line: &'e str,
    stream: Labels,
    metadata: Labels,
    parsed: Labels,
}

impl Row<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let found =
            self.parsed.get(name).or_else(|| self.metadata.get(name)).or_else(|| self.stream.get(name));
        found.map(String::as_str)
    }

    fn name(&self, name: &str) -> String {
        let taken = self.stream.contains_key(name) || self.metadata.contains_key(name);
        if taken { format!("{name}_extracted") } else { name.to_owned() }
    }

    fn add(&mut self, name: &str, value: &str) {
        let name = self.name(name);
        self.parsed.entry(name).or_insert_with(|| value.to_owned());
    }

    fn fail(&mut self, kind: &str) {
        self.parsed.entry("__error__".to_owned()).or_insert_with(|| kind.to_owned());
    }

    fn all(&self) -> Labels {
        let mut all = self.stream.clone();
        all.extend(self.metadata.clone());
        all.extend(self.parsed.clone());
        all
    }
}

fn sanitized(key: &str) -> String {
    let name: String = key.bytes().map(|b| if b.is_ascii_alphanumeric() { b as char } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn object(text: &str) -> Option<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_str(text).ok()
}

fn scalar(text: &str) -> String {
    serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned())
}

fn flatten(path: &str, members: BTreeMap<String, Box<RawValue>>, out: &mut Vec<(String, String)>) {
    for (key, value) in members {
        let path = if path.is_empty() { sanitized(&key) } else { format!("{path}_{}", sanitized(&key)) };
        match object(value.get()) {
            Some(members) => flatten(&path, members, out),
            None => out.push((path, scalar(value.get()))),
        }
    }
}

fn json(row: &mut Row<'_>, chosen: &[Extraction]) {
    let Some(members) = object(row.line) else { return row.fail("JSONParserErr") };
    if chosen.is_empty() {
        let mut found = Vec::new();
        flatten("", members, &mut found);
        return found.iter().for_each(|(name, value)| row.add(name, value));
    }
    for extraction in chosen {
        let mut value: Option<Box<RawValue>> = None;
        let mut members = object(row.line);
        for key in extraction.expression.split('.') {
            value = members.as_ref().and_then(|m| m.get(key)).cloned();
            members = value.as_ref().and_then(|v| object(v.get()));
        }
        let text = value.map(|v| scalar(v.get())).unwrap_or_default();
        let name = row.name(&extraction.label);
        row.parsed.insert(name, text);
    }
}

/// The pairs of a line; what is no pair is skipped up to the next space.
fn pairs(line: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(|c| c <= ' ');
        if rest.is_empty() {
            return out;
        }
        let stop = |text: &str| text.find(|c| c <= ' ' || c == '=' || c == '"').unwrap_or(text.len());
        let (key, after) = rest.split_at(stop(rest));
        let pair = match after.strip_prefix('=') {
            Some(_) if key.is_empty() => None,
            Some(quoted) if quoted.starts_with('"') => {
                quoted[1..].split_once('"').map(|(value, after)| (value.to_owned(), after))
            }
            Some(bare) => {
                let (value, after) = bare.split_at(stop(bare));
                (!after.starts_with(['=', '"'])).then(|| (value.to_owned(), after))
            }
            None if after.starts_with('"') => None,
            None => Some((String::new(), after)),
        };
        match pair {
            Some((value, after)) => {
                out.push((key.to_owned(), value));
                rest = after;
            }
            None => {
                // Where the fault was found: behind the key, or within the value.
                let value = after.strip_prefix('=').filter(|_| !key.is_empty()).unwrap_or(after);
                let fault = if value.starts_with('"') && value.len() < after.len() { "" } else { value };
                let at = if value.len() < after.len() { stop(fault) } else { 0 };
                rest = fault[at..].trim_start_matches(|c| c > ' ');
            }
        }
    }
}

fn logfmt(row: &mut Row<'_>, chosen: &[Extraction]) {
    let pairs = pairs(row.line);
    if chosen.is_empty() {
        for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            row.add(&sanitized(key), value);
        }
        return;
    }
    for extraction in chosen {
        let value = pairs.iter().find(|(key, _)| *key == extraction.expression).map(|(_, v)| v.clone());
        let name = row.name(&extraction.label);
        row.parsed.insert(name, value.unwrap_or_default());
    }
}

fn line_passes(line: &str, filter: &LineFilter) -> bool {
    let any = filter.operands.iter().any(|operand| match operand {
        LineOperand::Text(text) => line.contains(text),
        LineOperand::Ip(_) => panic!("not among the queries"),
    });
    match filter.op {
        LineOp::Contains => any,
        LineOp::NotContains => !any,
        _ => panic!("not among the queries"),
    }
}

fn label_passes(row: &mut Row<'_>, filter: &LabelFilter) -> bool {
    match filter {
        LabelFilter::Match(matcher) => {
            let value = row.get(matcher.name()).unwrap_or_default();
            let anchored =
                || model::regex::Regex::new(&format!("^(?:{})$", matcher.value())).unwrap().is_match(value);
            match matcher.op() {
                MatchOp::Equal => value == matcher.value(),
                MatchOp::NotEqual => value != matcher.value(),
                MatchOp::Regex => anchored(),
                MatchOp::NotRegex => !anchored(),
            }
        }
        LabelFilter::Compare { name, op, value: Literal::Number(right) } => {
            match row.get(name).map(str::parse::<f64>) {
                None => false,
                Some(Err(_)) => {
                    row.fail("LabelFilterErr");
                    true
                }
                Some(Ok(left)) => match op {
                    CompareOp::Equal => left == *right,
                    CompareOp::NotEqual => left != *right,
                    CompareOp::Greater => left > *right,
                    CompareOp::GreaterOrEqual => left >= *right,
                    CompareOp::Less => left < *right,
                    CompareOp::LessOrEqual => left <= *right,
                },
            }
        }
        LabelFilter::And(a, b) => {
            let (a, b) = (label_passes(row, a), label_passes(row, b));
            a && b
        }
        LabelFilter::Or(a, b) => label_passes(row, a) || label_passes(row, b),
        _ => panic!("not among the queries"),
    }
}

/// The row after the pipeline; `idle` says that nobody looks at labels that a parser makes.
fn run<'e>(stream: &Stream, entry: &'e Entry, expr: &LogExpr, idle: bool) -> Option<Row<'e>> {
    let stream_labels: Labels = stream.labels.iter().cloned().collect();
    let metadata = entry.metadata.iter().cloned().collect();
    let mut row = Row { line: &entry.line, stream: stream_labels, metadata, parsed: Labels::new() };
    for stage in &expr.stages {
        match stage {
            Stage::LineFilter(filter) if !line_passes(row.line, filter) => return None,
            Stage::LabelFilter(filter) if !label_passes(&mut row, filter) => return None,
            Stage::Json(chosen) if !idle || !chosen.is_empty() => json(&mut row, chosen),
            Stage::Logfmt { extractions, .. } => logfmt(&mut row, extractions),
            _ => {}
        }
    }
    Some(row)
}

fn selected<'s>(streams: &'s [Stream], expr: &LogExpr) -> impl Iterator<Item = &'s Stream> {
    let value =
        |s: &Stream, name: &str| s.labels.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v).to_owned();
    streams.iter().filter(move |s| expr.matchers.iter().all(|m| m.matches(&value(s, m.name()))))
}

/// Time, line and all labels.
type Flat = Vec<(i64, String, Labels)>;

pub(crate) fn flat(streams: &[ResultStream]) -> Flat {
    let mut out = Vec::new();
    for stream in streams {
        for entry in &stream.entries {
            let labels = stream.labels.iter().chain(entry.metadata.iter()).chain(entry.parsed.iter());
            let labels = labels.filter(|(n, _)| *n != "__error_details__");
            let labels = labels.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            out.push((entry.timestamp, entry.line.clone(), labels));
        }
    }
    out.sort();
    out
}

pub(crate) fn log(streams: &[Stream], query: &str, params: LogParams) -> Flat {
    let Ok(Expr::Log(expr)) = logql::parse(query) else { panic!("{query}") };
    let mut out: Flat = Vec::new();
    for stream in selected(streams, &expr) {
        for entry in stream.entries.iter().filter(|e| e.time >= params.start && e.time < params.end) {
            if let Some(row) = run(stream, entry, &expr, false) {
                out.push((entry.time, entry.line.clone(), row.all()));
            }
        }
    }
    out.sort();
    if params.direction == Direction::Backward {
        out.reverse();
    }
    out.truncate(params.limit);
    out.sort();
    out
}

/// Series by label set: milliseconds and values.
type Series = BTreeMap<Labels, Vec<(i64, f64)>>;

pub(crate) fn metric(streams: &[Stream], query: &str, params: MetricParams) -> Result<Series, ()> {
    let Ok(Expr::Metric(expr)) = logql::parse(query) else { panic!("{query}") };
    let (range, grouping) = match &expr {
        MetricExpr::Range(range) => (range, range.grouping.as_ref()),
        MetricExpr::Vector(vector) => match &*vector.inner {
            MetricExpr::Range(range) => (range, vector.grouping.as_ref()),
            _ => panic!("not among the queries"),
        },
        _ => panic!("not among the queries"),
    };
    let by: Option<Vec<String>> = grouping.map(|grouping| grouping.labels.clone());
    let mut filtered = BTreeSet::new();
    range.log.stages.iter().for_each(|stage| {
        if let Stage::LabelFilter(filter) = stage {
            names(filter, &mut filtered);
        }
    });
    let idle = by.as_ref().is_some_and(|by| by.is_empty()) && range.unwrap.is_none() && filtered.is_empty();
    let mut samples: Vec<(Labels, i64, f64)> = Vec::new();
    let mut times: Vec<i64> = Vec::new();
    if params.instant {
        times.push(params.end);
    } else {
        let mut t = params.start;
        while t <= params.end {
            times.push(t);
            t += params.step;
        }
    }
    let in_window = |time: i64, t: i64| time > t - range.range && time <= t;
    for stream in selected(streams, &range.log) {
        for entry in stream.entries.iter().filter(|e| times.iter().any(|t| in_window(e.time, *t))) {
            let Some(mut row) = run(stream, entry, &range.log, idle) else { continue };
            let Some(value) = sample(&mut row, range) else { continue };
            if row.parsed.contains_key("__error__") {
                return Err(());
            }
            let labels = match &by {
                None => row.all(),
                Some(by) => {
                    let pairs = by.iter().filter_map(|n| Some((n.clone(), row.get(n)?.to_owned())));
                    pairs.filter(|(_, value)| !value.is_empty()).collect()
                }
            };
            samples.push((labels, entry.time, value));
        }
    }
    let mut series: Series = BTreeMap::new();
    for t in times {
        let mut groups: BTreeMap<&Labels, Vec<f64>> = BTreeMap::new();
        for (labels, _, value) in samples.iter().filter(|(_, time, _)| in_window(*time, t)) {
            groups.entry(labels).or_default().push(*value);
        }
        for (labels, values) in groups {
            let value = match range.op {
                RangeOp::MaxOverTime => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                _ => values.iter().sum(),
            };
            series.entry(labels.clone()).or_default().push((t / 1_000_000, value));
        }
    }
    Ok(series)
}

fn sample(row: &mut Row<'_>, range: &RangeAggregation) -> Option<f64> {
    let Some(unwrap) = &range.unwrap else {
        return Some(if range.op == RangeOp::BytesOverTime { row.line.len() as f64 } else { 1.0 });
    };
    let text = row.get(&unwrap.label).filter(|text| !text.is_empty())?;
    let value = text.parse::<f64>();
    if value.is_err() {
        row.fail("SampleExtractionErr");
    }
    // The only filter among the queries asks for no error.
    if !unwrap.filters.is_empty() && row.parsed.contains_key("__error__") {
        return None;
    }
    Some(value.unwrap_or(0.0))
}

fn names(filter: &LabelFilter, out: &mut BTreeSet<String>) {
    match filter {
        LabelFilter::Match(matcher) => {
            out.insert(matcher.name().to_owned());
        }
        LabelFilter::Compare { name, .. } | LabelFilter::Ip { name, .. } => {
            out.insert(name.clone());
        }
        LabelFilter::And(a, b) | LabelFilter::Or(a, b) => {
            names(a, out);
            names(b, out);
        }
    }
}

pub(crate) fn same(got: &Result<QueryResult, EvalError>, want: &Result<Series, ()>) -> bool {
    let labels =
        |set: &logql::LabelSet| set.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Labels>();
    let got: Series = match got {
        Err(EvalError::Pipeline { .. }) => return want.is_err(),
        Err(_) | Ok(QueryResult::Scalar(..)) => return false,
        Ok(QueryResult::Vector(samples)) => {
            samples.iter().map(|s| (labels(&s.labels), vec![(s.timestamp_ms, s.value)])).collect()
        }
        Ok(QueryResult::Matrix(series)) => {
            series.iter().map(|s| (labels(&s.labels), s.points.clone())).collect()
        }
    };
    let Ok(want) = want else { return false };
    let close = |a: &(i64, f64), b: &(i64, f64)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * (1.0 + b.1.abs());
    got.len() == want.len()
        && got
            .iter()
            .zip(want)
            .all(|((a, x), (b, y))| a == b && x.len() == y.len() && x.iter().zip(y).all(|(x, y)| close(x, y)))
}
