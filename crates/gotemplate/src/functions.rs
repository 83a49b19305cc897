//! The functions that all templates have: Go's own and those of sprig that most programs offer.

use std::cell::RefCell;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Timestamp;
use model::gotime::{Layout, Zone};
use model::regex::Regex;

use crate::value::{Value, truncate};
use crate::{decimal, print, text};

/// No function makes a text longer than this.
pub const MAX_LENGTH: usize = 4 << 20;

/// Why a call fails.
#[derive(Debug)]
pub enum Fault {
    /// The function's own complaint.
    Call(String),
    /// The argument of this index is of the wrong type.
    Argument(usize, String),
    /// Wrong number of arguments.
    Count(String),
}

/// A function's name with the least and the greatest number of its arguments ([`MANY`]: no bound).
pub type Function = (&'static str, usize, usize);

const FUNCTIONS: &[Function] = &[
    ("now", 0, 0),
    ("ToLower", 1, 1),
    ("ToUpper", 1, 1),
    ("lower", 1, 1),
    ("upper", 1, 1),
    ("title", 1, 1),
    ("Replace", 4, 4),
    ("replace", 3, 3),
    ("Trim", 2, 2),
    ("TrimLeft", 2, 2),
    ("TrimRight", 2, 2),
    ("TrimPrefix", 2, 2),
    ("TrimSuffix", 2, 2),
    ("TrimSpace", 1, 1),
    ("trim", 1, 1),
    ("trimAll", 2, 2),
    ("trimPrefix", 2, 2),
    ("trimSuffix", 2, 2),
    ("regexReplaceAll", 3, 3),
    ("regexReplaceAllLiteral", 3, 3),
    ("count", 2, 2),
    ("contains", 2, 2),
    ("hasPrefix", 2, 2),
    ("hasSuffix", 2, 2),
    ("trunc", 2, 2),
    ("substr", 3, 3),
    ("repeat", 2, 2),
    ("indent", 2, 2),
    ("nindent", 2, 2),
    ("alignLeft", 2, 2),
    ("alignRight", 2, 2),
    ("b64enc", 1, 1),
    ("b64dec", 1, 1),
    ("urlencode", 1, 1),
    ("urldecode", 1, 1),
    ("int", 1, 1),
    ("float64", 1, 1),
    ("add", 0, MANY),
    ("sub", 2, 2),
    ("mul", 1, MANY),
    ("div", 2, 2),
    ("mod", 2, 2),
    ("max", 1, MANY),
    ("min", 1, MANY),
    ("addf", 0, MANY),
    ("subf", 1, MANY),
    ("mulf", 1, MANY),
    ("divf", 1, MANY),
    ("maxf", 1, MANY),
    ("minf", 1, MANY),
    ("ceil", 1, 1),
    ("floor", 1, 1),
    ("round", 2, 3),
    ("duration", 1, 1),
    ("duration_seconds", 1, 1),
    ("fromJson", 1, 1),
    ("date", 2, 2),
    ("toDate", 2, 2),
    ("toDateInZone", 3, 3),
    ("unixEpoch", 1, 1),
    ("unixEpochMillis", 1, 1),
    ("unixEpochNanos", 1, 1),
    ("unixToTime", 1, 1),
    ("default", 2, 2),
    ("eq", 2, MANY),
    ("ne", 2, 2),
    ("lt", 2, 2),
    ("le", 2, 2),
    ("gt", 2, 2),
    ("ge", 2, 2),
    ("and", 1, MANY),
    ("or", 1, MANY),
    ("not", 1, 1),
    ("len", 1, 1),
    ("index", 1, MANY),
    ("slice", 1, 4),
    ("print", 0, MANY),
    ("printf", 1, MANY),
    ("println", 0, MANY),
    ("html", 0, MANY),
    ("js", 0, MANY),
    ("urlquery", 0, MANY),
    ("call", 1, MANY),
];

/// No bound to the number of arguments.
pub const MANY: usize = usize::MAX;

pub(crate) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|(n, ..)| *n == name)
}

/// Arguments of a call, taken by type.
pub struct Args<'a, 'r>(pub &'a [Value<'r>]);

impl Args<'_, '_> {
    /// A text.
    pub fn text(&self, i: usize) -> Result<&str, Fault> {
        match &self.0[i] {
            Value::Text(text) => Ok(text),
            Value::Nil => Err(Fault::Argument(i, "invalid value; expected string".to_owned())),
            other => Err(Fault::Argument(
                i,
                format!("wrong type for value; expected string; got {}", other.kind()),
            )),
        }
    }

    /// A whole number.
    pub fn int(&self, i: usize) -> Result<i64, Fault> {
        match &self.0[i] {
            Value::Int(value) => Ok(*value),
            Value::Float(value) if value.fract() == 0.0 => Ok(truncate(*value)),
            Value::Nil => Err(Fault::Argument(i, "invalid value; expected int".to_owned())),
            other => {
                Err(Fault::Argument(i, format!("wrong type for value; expected int; got {}", other.kind())))
            }
        }
    }

    /// A size that texts are padded or multiplied to.
    pub fn size(&self, i: usize) -> Result<usize, Fault> {
        let value = self.int(i)?;
        let size = usize::try_from(value).map_err(|_| Fault::Call(format!("negative count {value}")))?;
        if size > MAX_LENGTH { Err(Fault::Call(format!("result is too long: {size}"))) } else { Ok(size) }
    }

    fn time(&self, i: usize) -> Result<i64, Fault> {
        match &self.0[i] {
            Value::Time(nanos) => Ok(*nanos),
            other => Err(Fault::Argument(
                i,
                format!("wrong type for value; expected time.Time; got {}", other.kind()),
            )),
        }
    }

    fn fold_int(&self, f: impl Fn(i64, i64) -> i64) -> i64 {
        self.0.iter().map(Value::to_int).reduce(f).unwrap_or_default()
    }

    fn fold_float(&self, f: impl Fn(f64, f64) -> f64) -> f64 {
        self.0.iter().map(Value::to_float).reduce(f).unwrap_or_default()
    }
}

/// Complains about a wrong number of arguments.
pub(crate) fn check_count((name, least, most): &Function, count: usize) -> Result<(), Fault> {
    if (*least..=*most).contains(&count) {
        return Ok(());
    }
    let want = if *most == MANY { format!("at least {least}") } else { most.to_string() };
    Err(Fault::Count(format!("wrong number of args for {name}: want {want} got {count}")))
}

/// Calls one of the functions that all templates have; the data among the arguments must have been made a map.
pub fn call<'r>(name: &str, args: &[Value<'r>]) -> Result<Value<'r>, Fault> {
    if let Some(function) = FUNCTIONS.iter().find(|(n, ..)| *n == name) {
        check_count(function, args.len())?;
    }
    let a = Args(args);
    let called = |result: Result<Value<'r>, String>| result.map_err(Fault::Call);
    Ok(match name {
        "now" => Value::Time(Timestamp::now().nanos()),
        "ToLower" | "lower" => Value::text(text::lower(a.text(0)?)),
        "ToUpper" | "upper" => Value::text(text::upper(a.text(0)?)),
        "title" => Value::text(text::title(a.text(0)?)),
        "Replace" => Value::text(match usize::try_from(a.int(3)?) {
            Ok(n) => a.text(0)?.replacen(a.text(1)?, a.text(2)?, n),
            Err(_) => a.text(0)?.replace(a.text(1)?, a.text(2)?),
        }),
        "replace" => Value::text(a.text(2)?.replace(a.text(0)?, a.text(1)?)),
        "Trim" | "TrimLeft" | "TrimRight" => {
            let (text, cut) = (a.text(0)?, a.text(1)?);
            let cuts = |c: char| cut.contains(c);
            Value::text(match name {
                "Trim" => text.trim_matches(cuts).to_owned(),
                "TrimLeft" => text.trim_start_matches(cuts).to_owned(),
                _ => text.trim_end_matches(cuts).to_owned(),
            })
        }
        "trimAll" => Value::text(
            a.text(1)?
                .trim_matches(|c| args[0] != Value::Nil && a.text(0).is_ok_and(|cut| cut.contains(c)))
                .to_owned(),
        ),
        "TrimPrefix" => Value::text(a.text(0)?.strip_prefix(a.text(1)?).unwrap_or(a.text(0)?).to_owned()),
        "trimPrefix" => Value::text(a.text(1)?.strip_prefix(a.text(0)?).unwrap_or(a.text(1)?).to_owned()),
        "TrimSuffix" => Value::text(a.text(0)?.strip_suffix(a.text(1)?).unwrap_or(a.text(0)?).to_owned()),
        "trimSuffix" => Value::text(a.text(1)?.strip_suffix(a.text(0)?).unwrap_or(a.text(1)?).to_owned()),
        "TrimSpace" | "trim" => Value::text(a.text(0)?.trim().to_owned()),
        "regexReplaceAll" | "regexReplaceAllLiteral" => {
            let regex = regex(a.text(0)?)?;
            let replacement = a.text(2)?;
            let literal = name == "regexReplaceAllLiteral";
            let replacement = if literal { replacement.replace('$', "$$") } else { replacement.to_owned() };
            Value::text(regex.replace_all(a.text(1)?, &replacement))
        }
        "count" => Value::Int(matches(&regex(a.text(0)?)?, a.text(1)?)),
        "contains" => Value::Bool(a.text(1)?.contains(a.text(0)?)),
        "hasPrefix" => Value::Bool(a.text(1)?.starts_with(a.text(0)?)),
        "hasSuffix" => Value::Bool(a.text(1)?.ends_with(a.text(0)?)),
        "trunc" => Value::text(text::trunc(a.int(0)?, a.text(1)?)),
        "substr" => called(text::substr(a.int(0)?, a.int(1)?, a.text(2)?).map(Value::text))?,
        "repeat" => {
            let (count, text) = (a.size(0)?, a.text(1)?);
            if count.saturating_mul(text.len()) > MAX_LENGTH {
                return Err(Fault::Call("result is too long".to_owned()));
            }
            Value::text(text.repeat(count))
        }
        "indent" | "nindent" => {
            let (size, text) = (a.size(0)?, a.text(1)?);
            if size.saturating_mul(text.matches('\n').count() + 1) > MAX_LENGTH {
                return Err(Fault::Call("result is too long".to_owned()));
            }
            let indented = text::indent(size, text);
            Value::text(if name == "nindent" { format!("\n{indented}") } else { indented })
        }
        "alignLeft" => Value::text(text::align_left(a.size(0)?, a.text(1)?)),
        "alignRight" => Value::text(text::align_right(a.size(0)?, a.text(1)?)),
        "b64enc" => Value::text(STANDARD.encode(a.text(0)?)),
        "b64dec" => Value::text(text::from_base64(a.text(0)?)),
        "urlencode" => Value::text(text::query_escape(a.text(0)?)),
        "urldecode" => called(text::query_unescape(a.text(0)?).map(Value::text))?,
        "int" => Value::Int(args[0].to_int()),
        "float64" => Value::Float(args[0].to_float()),
        "add" => Value::Int(a.fold_int(i64::wrapping_add)),
        "sub" => Value::Int(a.fold_int(i64::wrapping_sub)),
        "mul" => Value::Int(a.fold_int(i64::wrapping_mul)),
        "max" => Value::Int(a.fold_int(i64::max)),
        "min" => Value::Int(a.fold_int(i64::min)),
        "div" | "mod" => {
            let (left, right) = (args[0].to_int(), args[1].to_int());
            if right == 0 {
                return Err(Fault::Call("runtime error: integer divide by zero".to_owned()));
            }
            Value::Int(if name == "div" { left.wrapping_div(right) } else { left.wrapping_rem(right) })
        }
        "addf" => Value::Float(a.fold_float(decimal::add)),
        "subf" => Value::Float(a.fold_float(decimal::subtract)),
        "mulf" => Value::Float(a.fold_float(decimal::multiply)),
        "divf" => {
            let mut values = args.iter().map(Value::to_float);
            let first = values.next().unwrap_or_default();
            let result = values.try_fold(first, decimal::divide);
            Value::Float(result.ok_or_else(|| Fault::Call("decimal division by 0".to_owned()))?)
        }
        "maxf" => Value::Float(a.fold_float(f64::max)),
        "minf" => Value::Float(a.fold_float(f64::min)),
        "ceil" => Value::Float(args[0].to_float().ceil()),
        "floor" => Value::Float(args[0].to_float().floor()),
        "round" => {
            let power = 10_f64.powi(a.int(1)?.clamp(-400, 400) as i32);
            let scaled = args[0].to_float() * power;
            let cut = args.get(2).map_or(0.5, Value::to_float);
            Value::Float(if scaled.fract() >= cut { scaled.ceil() } else { scaled.floor() } / power)
        }
        "duration" | "duration_seconds" => {
            let nanos = model::duration::parse_go(a.text(0)?).map_err(|e| Fault::Call(e.to_string()))?;
            Value::Float(nanos as f64 / 1e9)
        }
        "fromJson" => serde_json::from_str(a.text(0)?).map_or(Value::Nil, Value::from_json),
        "date" => {
            let time = match &args[1] {
                Value::Time(nanos) => *nanos,
                Value::Int(seconds) => seconds.saturating_mul(1_000_000_000),
                _ => Timestamp::now().nanos(),
            };
            Value::text(Layout::parse(a.text(0)?).write(Timestamp(time), &Zone::local()))
        }
        "toDate" => read_time(a.text(0)?, &Zone::local(), a.text(1)?)?,
        "toDateInZone" => {
            let zone = Zone::named(a.text(1)?).unwrap_or_else(|_| Zone::utc());
            read_time(a.text(0)?, &zone, a.text(2)?)?
        }
        "unixEpoch" => Value::text(a.time(0)?.div_euclid(1_000_000_000).to_string()),
        "unixEpochMillis" => Value::text(a.time(0)?.div_euclid(1_000_000).to_string()),
        "unixEpochNanos" => Value::text(a.time(0)?.to_string()),
        "unixToTime" => called(unix_to_time(a.text(0)?))?,
        "default" => {
            if args[1].is_true(true) {
                args[1].clone()
            } else {
                args[0].clone()
            }
        }
        "eq" => {
            let equal = |other: &Value<'r>| args[0].equals(other).map_err(Fault::Call);
            // Those behind the first equal one are not compared.
            let found = args[1..].iter().map(equal).find(|equal| !matches!(equal, Ok(false)));
            Value::Bool(found.transpose()?.is_some())
        }
        "ne" => Value::Bool(!args[0].equals(&args[1]).map_err(Fault::Call)?),
        "lt" => Value::Bool(args[0].order(&args[1]).map_err(Fault::Call)?.is_lt()),
        "le" => Value::Bool(args[0].order(&args[1]).map_err(Fault::Call)?.is_le()),
        "gt" => Value::Bool(args[0].order(&args[1]).map_err(Fault::Call)?.is_gt()),
        "ge" => Value::Bool(args[0].order(&args[1]).map_err(Fault::Call)?.is_ge()),
        "not" => Value::Bool(!args[0].is_true(true)),
        "len" => Value::Int(match &args[0] {
            Value::Text(text) => text.len(),
            Value::List(list) => list.len(),
            Value::Map(map) => map.len(),
            other => return Err(Fault::Call(format!("len of type {}", other.kind()))),
        } as i64),
        "index" => called(args[1..].iter().try_fold(args[0].clone(), |value, key| index(&value, key)))?,
        "slice" => called(slice(&a))?,
        "print" => Value::text(joined(args, false)),
        "println" => Value::text(joined(args, true) + "\n"),
        "printf" => Value::text(print::printf(a.text(0)?, &args[1..])),
        "html" => Value::text(text::html_escape(&joined(args, false))),
        "js" => Value::text(text::js_escape(&joined(args, false))),
        "urlquery" => Value::text(text::query_escape(&joined(args, false))),
        "call" => return Err(Fault::Call("no labels are functions".to_owned())),
        other => return Err(Fault::Call(format!("function {other} cannot be called"))),
    })
}

/// Compiles a regular expression, or finds it compiled: templates have the same ones for every line.
pub fn regex(pattern: &str) -> Result<Regex, Fault> {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(regex) = compiled.get(pattern) {
            return Ok(regex.clone());
        }
        let regex = Regex::new(pattern).map_err(|e| Fault::Call(e.to_string()))?;
        // Patterns that are made of lines must not fill the memory.
        if compiled.len() >= MAX_COMPILED {
            compiled.clear();
        }
        compiled.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    })
}

/// Regular expressions that are kept by a thread.
const MAX_COMPILED: usize = 64;

/// How many matches there are, none overlapping another.
fn matches(regex: &Regex, text: &str) -> i64 {
    let (mut at, mut count) = (0, 0);
    while at <= text.len()
        && let Some((start, end)) = regex.find_at(text, at)
    {
        count += 1;
        at = if end > start {
            end
        } else {
            text[end..].chars().next().map_or(text.len() + 1, |c| end + c.len_utf8())
        };
    }
    count
}

fn read_time<'r>(layout: &str, zone: &Zone, text: &str) -> Result<Value<'r>, Fault> {
    let time = Layout::parse(layout).read(text, zone).map_err(|e| Fault::Call(e.to_string()))?;
    Ok(Value::Time(time.nanos()))
}

/// A Unix time whose unit follows from its number of digits.
fn unix_to_time<'r>(text: &str) -> Result<Value<'r>, String> {
    let number: i64 = text.parse().map_err(|_| format!("unable to parse time '{text}'"))?;
    let unit = match text.len() {
        5 => 86_400_000_000_000,
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => return Err(format!("unable to parse time '{text}': 5, 10, 13, 16 or 19 digits are expected")),
    };
    Ok(Value::Time(number.saturating_mul(unit)))
}

fn index<'r>(value: &Value<'r>, key: &Value<'r>) -> Result<Value<'r>, String> {
    let place = |length: usize| match key {
        Value::Int(i) => {
            usize::try_from(*i).ok().filter(|i| *i < length).ok_or_else(|| format!("index out of range: {i}"))
        }
        other => Err(format!("cannot index slice/array with type {}", other.kind())),
    };
    match (value, key) {
        (Value::List(list), _) => Ok(list[place(list.len())?].clone()),
        (Value::Text(text), _) => Ok(Value::Int(i64::from(text.as_bytes()[place(text.len())?]))),
        (Value::Map(map), Value::Text(key)) => Ok(map.get(&**key).cloned().unwrap_or(Value::Nil)),
        (Value::Map(_), other) => Err(format!("value has type {}; should be string", other.kind())),
        (Value::Nil, _) => Err("index of untyped nil".to_owned()),
        (other, _) => Err(format!("can't index item of type {}", other.kind())),
    }
}

fn slice<'r>(a: &Args<'_, 'r>) -> Result<Value<'r>, String> {
    let length = match &a.0[0] {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        other => return Err(format!("can't slice item of type {}", other.kind())),
    };
    let bound = |i: usize, default: usize| match a.0.get(i) {
        None => Ok(default),
        Some(Value::Int(value)) => usize::try_from(*value)
            .ok()
            .filter(|v| *v <= length)
            .ok_or_else(|| format!("index out of range: {value}")),
        Some(other) => Err(format!("cannot index slice/array with type {}", other.kind())),
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match &a.0[0] {
        Value::Text(text) => Value::text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned()),
        Value::List(list) => Value::List(list[from..to].to_vec()),
        _ => Value::Nil,
    })
}

/// As `Sprint`: blanks between operands that are no texts; as `Sprintln`: between all.
fn joined(args: &[Value<'_>], always: bool) -> String {
    let mut out = String::new();
    for (i, value) in args.iter().enumerate() {
        let texts = i > 0 && (matches!(value, Value::Text(_)) || matches!(args[i - 1], Value::Text(_)));
        if i > 0 && (always || !texts) {
            out.push(' ');
        }
        print::plain(value, &mut out);
    }
    out
}
