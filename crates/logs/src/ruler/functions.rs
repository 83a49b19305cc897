//! The functions of Prometheus' templates, all but those that query.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};
use model::regex::Regex;
use model::{Timestamp, duration};

/// What prints values; no name of a template's own.
pub(super) const PRINT: &str = "as_go_prints";
/// Functions that the template engine has by itself.
const BUILTIN: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf",
    "println", "html", "js", "urlquery", "call", "true", "false", "nil",
];
/// Functions of our own.
const OURS: &[&str] = &[
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "toTime",
    "toUpper",
    "toLower",
    "title",
    "match",
    "reReplaceAll",
    "stripPort",
    "stripDomain",
    "parseDuration",
    "safeHtml",
    "externalURL",
    "pathPrefix",
];

/// Whether templates may call it.
pub(super) fn exists(name: &str) -> bool {
    BUILTIN.contains(&name) || OURS.contains(&name)
}

type Answer = Result<Value, TemplateError>;

/// Bytes that the functions of one rendering may be given. Without a bound a template could double a text until memory ends.
const BUDGET: usize = 1 << 20;
/// Longest format of `printf`.
const MAX_FORMAT: usize = 4096;

thread_local! {
    /// What is left of the rendering's budget. A rendering is one synchronous call.
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

/// Begins a rendering.
pub(super) fn begin() {
    LEFT.set(BUDGET);
}

/// Takes the arguments of a call from the budget.
fn charge(args: &[Value]) -> Result<(), TemplateError> {
    let cost = args.iter().map(size).fold(16, usize::saturating_add);
    let left = LEFT
        .get()
        .checked_sub(cost)
        .ok_or_else(|| fault("the template works on too much text".to_owned()))?;
    LEFT.set(left);
    Ok(())
}

/// The length of a value as text, about.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::List(list) => list.iter().map(size).sum(),
        Value::Map(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
        _ => 24,
    }
}

/// All functions, for a template to begin with.
pub(super) fn all(external_url: &str) -> FuncMap {
    let url: Arc<str> = external_url.into();
    let path: Arc<str> = path_of(external_url).into();
    let mut map: FuncMap = BTreeMap::new();
    let mut add = |name: &str, arguments: usize, body: fn(&[Value]) -> Answer| {
        let label = name.to_owned();
        let checked: ValueFunc = Arc::new(move |args| {
            if args.len() != arguments {
                return Err(fault(format!(
                    "wrong number of args for {label}: want {arguments} got {}",
                    args.len()
                )));
            }
            charge(args)?;
            body(args)
        });
        map.insert(name.to_owned(), checked);
    };
    add("humanize", 1, |args| number(&args[0]).map(|v| text(humanize(v))));
    add("humanize1024", 1, |args| number(&args[0]).map(|v| text(humanize1024(v))));
    add("humanizeDuration", 1, |args| number(&args[0]).map(|v| text(humanize_duration(v))));
    add("humanizePercentage", 1, |args| number(&args[0]).map(|v| text(format!("{}%", general(v * 100.0)))));
    add("humanizeTimestamp", 1, |args| number(&args[0]).map(|v| text(timestamp(v))));
    add("toTime", 1, |args| number(&args[0]).map(|v| text(timestamp(v))));
    add("toUpper", 1, |args| string(&args[0]).map(|t| text(t.to_uppercase())));
    add("toLower", 1, |args| string(&args[0]).map(|t| text(t.to_lowercase())));
    add("title", 1, |args| string(&args[0]).map(|t| text(title(t))));
    add("match", 2, |args| Ok(Value::Bool(regex(&args[0])?.is_match(string(&args[1])?))));
    add("reReplaceAll", 3, |args| {
        let (pattern, with, source) = (regex(&args[0])?, string(&args[1])?, string(&args[2])?);
        if (source.len() + 1).saturating_mul(with.len() + 1) > BUDGET {
            return Err(fault("the replacement may become too long".to_owned()));
        }
        Ok(text(pattern.replace_all(source, with)))
    });
    add("stripPort", 1, |args| string(&args[0]).map(|t| text(split_port(t).0.to_owned())));
    add("stripDomain", 1, |args| string(&args[0]).map(|t| text(strip_domain(t))));
    add("parseDuration", 1, |args| {
        let nanos = duration::parse_prometheus(string(&args[0])?).map_err(|e| fault(e.to_string()))?;
        Ok(Value::Float(nanos as f64 / 1e9))
    });
    add("safeHtml", 1, |args| string(&args[0]).map(|t| text(t.to_owned())));
    add(PRINT, 1, |args| Ok(text(shown(&args[0]))));
    for name in ["print", "printf", "println", "html", "js", "urlquery"] {
        map.insert(name.to_owned(), Arc::new(move |args| bounded(name, args)));
    }
    // A map of texts gives an empty one for a key that it lacks.
    add_index(&mut map);
    map.insert("externalURL".to_owned(), Arc::new(move |_| Ok(Value::String(url.clone()))));
    map.insert("pathPrefix".to_owned(), Arc::new(move |_| Ok(Value::String(path.clone()))));
    map
}

/// A function of the engine's own whose result can be longer than its arguments, under our bounds.
fn bounded(name: &str, args: &[Value]) -> Answer {
    charge(args)?;
    let mut args = args.to_vec();
    if matches!(name, "print" | "println") {
        return Ok(text(print(&args, name == "println")));
    }
    if name == "printf" {
        let format = args.first().and_then(Value::as_str).unwrap_or_default();
        let digits = format.as_bytes().windows(4).any(|run| run.iter().all(u8::is_ascii_digit));
        if format.len() > MAX_FORMAT || digits || format.contains('*') || format.contains("%[") {
            return Err(fault("the format of printf is too wide or too long".to_owned()));
        }
        // Without a verb for numbers they are wanted as they are printed.
        if !format.contains(['e', 'E', 'f', 'F', 'g', 'G']) {
            for arg in args.iter_mut().filter(|arg| matches!(arg, Value::Float(_))) {
                *arg = text(shown(arg));
            }
        }
    }
    let given: String = (0..args.len()).map(|at| format!(" (index . {at})")).collect();
    let call = gotmpl::Template::new(name).parse(&format!("{{{{ {name}{given} }}}}"))?;
    Ok(text(call.execute_to_string(&Value::List(args.into()))?))
}

/// Go's `Sprint` and `Sprintln`: blanks between all operands, or between those of which neither is a text.
fn print(args: &[Value], line: bool) -> String {
    let mut out = String::new();
    for (at, arg) in args.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::String(_));
        if at > 0 && (line || !(is_text(arg) || is_text(&args[at - 1]))) {
            out.push(' ');
        }
        out.push_str(&shown(arg));
    }
    if line {
        out.push('\n');
    }
    out
}

/// A value as Go's `%v` writes it: numbers in the shortest form, with an exponent from a million on.
fn shown(value: &Value) -> String {
    let Value::Float(value) = value else { return value.to_string() };
    if !value.is_finite() || *value == 0.0 {
        return general(*value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..=5 => value.to_string(),
        exponent => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
        }
    }
}

fn add_index(map: &mut FuncMap) {
    let index: ValueFunc = Arc::new(|args| {
        let (first, keys) = args
            .split_first()
            .ok_or_else(|| fault("wrong number of args for index: want at least 1 got 0".to_owned()))?;
        keys.iter().try_fold(first.clone(), |value, key| match value.index(key)? {
            Value::Nil if matches!(value, Value::Map(_)) => Ok(Value::String("".into())),
            found => Ok(found),
        })
    });
    map.insert("index".to_owned(), index);
}

fn fault(message: String) -> TemplateError {
    TemplateError::Exec(message)
}

fn text(text: String) -> Value {
    Value::String(text.into())
}

fn string(value: &Value) -> Result<&str, TemplateError> {
    value.as_str().ok_or_else(|| fault(format!("expected string; got {}", value.type_name())))
}

fn number(value: &Value) -> Result<f64, TemplateError> {
    match value {
        Value::Float(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Uint(value) => Ok(*value as f64),
        Value::String(text) => {
            text.parse().map_err(|_| fault(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")))
        }
        other => Err(fault(format!("can't convert {} to float", other.type_name()))),
    }
}

fn regex(value: &Value) -> Result<Regex, TemplateError> {
    Regex::new(string(value)?).map_err(|e| fault(e.to_string()))
}

/// The path of a URL without the slash at its end.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| rest[at..].trim_end_matches('/'))
}

/// Go's `%.4g`.
fn general(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let trim = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    let rounded = format!("{value:.3e}");
    let (digits, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..4).contains(&exponent) {
        return trim(&format!("{value:.*}", (3 - exponent).unsigned_abs() as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(digits), exponent.unsigned_abs())
}

/// Makes a number small by prefixes of thousands, or large by those of thousandths.
fn scaled(mut value: f64, down: &[&'static str]) -> (f64, &'static str) {
    let mut prefix = "";
    for next in down {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    (value, prefix)
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn humanize(mut value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return general(value);
    }
    let mut prefix = "";
    if value.abs() >= 1.0 {
        for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if value.abs() < 1000.0 {
                break;
            }
            prefix = next;
            value /= 1000.0;
        }
    } else {
        (value, prefix) = scaled(value, &SMALL);
    }
    format!("{}{prefix}", general(value))
}

fn humanize1024(mut value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return general(value);
    }
    let mut prefix = "";
    for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if value.abs() < 1024.0 {
            break;
        }
        prefix = next;
        value /= 1024.0;
    }
    format!("{}{prefix}", general(value))
}

fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return general(value);
    }
    if value == 0.0 {
        return "0s".to_owned();
    }
    if value.abs() < 1.0 {
        let (value, prefix) = scaled(value, &SMALL);
        return format!("{}{prefix}s", general(value));
    }
    let (sign, value) = if value < 0.0 { ("-", -value) } else { ("", value) };
    let whole = value as i64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", general(value)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

/// A time in seconds, as Go prints times.
fn timestamp(seconds: f64) -> String {
    if !seconds.is_finite() {
        return general(seconds);
    }
    let shown = Timestamp::from_millis((seconds * 1000.0).round() as i64).to_string();
    match shown.strip_suffix('Z').and_then(|text| text.split_once('T')) {
        Some((day, time)) => format!("{day} {time} +0000 UTC"),
        None => shown,
    }
}

/// Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match inside {
            true => out.push(c),
            false => out.extend(c.to_uppercase()),
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

/// Host and port of `host:port`.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
                Some(inner) => (inner, Some(port)),
                None if host.contains(':') => (text, None),
                None => (host, Some(port)),
            }
        }
        _ => (text, None),
    }
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_port(text);
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |value: f64, want: &str| assert_eq!(general(value), want);
        check(1.0, "1");
        check(1234.5, "1234");
        check(12345.0, "1.234e+04");
        check(0.00001234, "1.234e-05");
        check(0.0001, "0.0001");
        check(99.999, "100");
        check(-2.5, "-2.5");
        check(f64::NAN, "NaN");
    }

    #[test]
    fn humanized() {
        let check = |value: f64, plain: &str, binary: &str, span: &str| {
            assert_eq!((humanize(value).as_str(), humanize1024(value).as_str()), (plain, binary));
            assert_eq!(humanize_duration(value), span);
        };
        check(0.0, "0", "0", "0s");
        check(0.0012, "1.2m", "0.0012", "1.2ms");
        check(1.0, "1", "1", "1s");
        check(59.5, "59.5", "59.5", "59.5s");
        check(1000.0, "1k", "1000", "16m 40s");
        check(-3700.0, "-3.7k", "-3.613ki", "-1h 1m 40s");
        check(1_048_576.0, "1.049M", "1Mi", "12d 3h 16m 16s");
        check(f64::INFINITY, "+Inf", "+Inf", "+Inf");
    }

    #[test]
    fn hosts() {
        let check = |text: &str, port: &str, domain: &str| {
            assert_eq!((split_port(text).0, strip_domain(text).as_str()), (port, domain), "{text}");
        };
        check("a.b:80", "a.b", "a:80");
        check("a.b", "a.b", "a");
        check("10.0.0.1:80", "10.0.0.1", "10.0.0.1:80");
        check("[::1]:80", "::1", "[::1]:80");
        assert_eq!((path_of("http://h/a/"), path_of("http://h"), path_of("")), ("/a", "", ""));
    }
}
