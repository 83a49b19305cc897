//! How values print: Go's `%v` and `printf`.

use std::fmt::Write as _;

use super::value::Value;

/// Appends a value as `%v` does. The data must have been made a map.
pub fn plain(value: &Value<'_>, out: &mut String) {
    match value {
        Value::Nil => out.push_str("<nil>"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Float(value) => out.push_str(&float(*value)),
        Value::Text(text) => out.push_str(text),
        Value::Time(nanos) => {
            let layout = model::gotime::Layout::parse("2006-01-02 15:04:05.999999999 -0700 MST");
            out.push_str(&layout.write(model::Timestamp(*nanos), &model::gotime::Zone::utc()));
        }
        Value::List(list) => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                plain(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push_str("map[");
            for (i, (key, item)) in map.iter().enumerate() {
                let _ = write!(out, "{}{key}:", if i > 0 { " " } else { "" });
                plain(item, out);
            }
            out.push(']');
        }
        Value::Data => {}
    }
}

/// A float as Go prints it: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) { value.to_string() } else { exponential(digits, exponent) }
}

/// `1.5e+06`: at least two digits of exponent, with its sign.
fn exponential(digits: &str, exponent: i32) -> String {
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Go's `Sprintf`.
pub fn printf(format: &str, args: &[Value<'_>]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let spec_end =
            rest.find(|c: char| !matches!(c, '+' | '-' | '#' | ' ' | '.' | '0'..='9')).unwrap_or(rest.len());
        let spec = Spec::parse(&rest[..spec_end]);
        rest = &rest[spec_end..];
        let Some(verb) = rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        rest = &rest[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        match args.next() {
            Some(value) => spec.write(verb, value, &mut out),
            None => {
                let _ = write!(out, "%!{verb}(MISSING)");
            }
        }
    }
    out.push_str(rest);
    let extra: Vec<String> = args
        .map(|value| {
            let mut text = format!("{}=", value.kind());
            plain(value, &mut text);
            text
        })
        .collect();
    if !extra.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

/// Padding beyond this is cut: a template must not make a line of a gigabyte.
const MAX_PADDING: usize = 10_000;

#[derive(Debug, Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn parse(text: &str) -> Self {
        let mut spec = Self::default();
        let flags = text.find(|c: char| !matches!(c, '+' | '-' | '#' | ' ' | '0')).unwrap_or(text.len());
        for flag in text[..flags].chars() {
            match flag {
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                '#' => spec.sharp = true,
                '0' => spec.zero = true,
                _ => {}
            }
        }
        let (width, precision) = match text[flags..].split_once('.') {
            Some((width, precision)) => (width, Some(precision)),
            None => (&text[flags..], None),
        };
        spec.width = width.parse::<usize>().unwrap_or_default().min(MAX_PADDING);
        spec.precision = precision.map(|p| p.parse::<usize>().unwrap_or_default().min(MAX_PADDING));
        spec
    }

    fn write(&self, verb: char, value: &Value<'_>, out: &mut String) {
        let (text, numeric) = match (verb, value) {
            ('v' | 'd', Value::Int(value)) => (self.signed(value.to_string()), true),
            ('x', Value::Int(value)) => (format!("{value:x}"), true),
            ('X', Value::Int(value)) => (format!("{value:X}"), true),
            ('o', Value::Int(value)) => (format!("{value:o}"), true),
            ('b', Value::Int(value)) => (format!("{value:b}"), true),
            ('c', Value::Int(value)) => {
                let c = u32::try_from(*value)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or(char::REPLACEMENT_CHARACTER);
                (c.to_string(), false)
            }
            ('f' | 'F', Value::Float(value)) => {
                (self.signed(format!("{value:.*}", self.precision.unwrap_or(6))), true)
            }
            ('e', Value::Float(value)) => {
                let text = format!("{value:.*e}", self.precision.unwrap_or(6));
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                (self.signed(exponential(digits, exponent.parse().unwrap_or_default())), true)
            }
            ('g' | 'v', Value::Float(value)) => (self.signed(float(*value)), true),
            ('s' | 'v', Value::Text(text)) => (self.cut(text), false),
            ('q', Value::Text(text)) if self.sharp && !text.contains('`') => (format!("`{text}`"), false),
            ('q', Value::Text(text)) => (model::quote(&self.cut(text)), false),
            ('x', Value::Text(text)) => {
                (text.bytes().fold(String::new(), |s, b| s + &format!("{b:02x}")), false)
            }
            ('X', Value::Text(text)) => {
                (text.bytes().fold(String::new(), |s, b| s + &format!("{b:02X}")), false)
            }
            ('t' | 'v', Value::Bool(value)) => (value.to_string(), false),
            ('T', value) => (value.kind().to_owned(), false),
            ('v' | 's', Value::List(_) | Value::Map(_) | Value::Data | Value::Time(_) | Value::Nil) => {
                let mut text = String::new();
                plain(value, &mut text);
                (if verb == 's' && *value == Value::Nil { "%!s(<nil>)".to_owned() } else { text }, false)
            }
            (verb, value) => {
                let mut text = String::new();
                plain(value, &mut text);
                (format!("%!{verb}({}={text})", value.kind()), false)
            }
        };
        let missing = self.width.saturating_sub(text.chars().count());
        if self.minus {
            out.push_str(&text);
            out.extend(std::iter::repeat_n(' ', missing));
        } else if self.zero && numeric {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            out.push_str(sign);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(digits);
        } else {
            out.extend(std::iter::repeat_n(' ', missing));
            out.push_str(&text);
        }
    }

    fn signed(&self, text: String) -> String {
        if self.plus && !text.starts_with('-') { format!("+{text}") } else { text }
    }

    fn cut(&self, text: &str) -> String {
        match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        }
    }
}
