//! Functions of the agent's templates beside those that all templates have: Promtail's hashes, and sprig's functions that
//! make sense for a line.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use gotemplate::{Args, Fault, Function, MANY, MAX_LENGTH, Value, print};
use model::Timestamp;
use model::gotime::{Layout, Zone};
use model::regex::Regex;
use sha2::Digest as _;

/// Names with the least and greatest number of arguments.
pub(super) const FUNCTIONS: &[Function] = &[
    ("Hash", 2, 2),
    ("Sha2Hash", 2, 2),
    ("sha256sum", 1, 1),
    ("sha512sum", 1, 1),
    ("adler32sum", 1, 1),
    ("abbrev", 2, 2),
    ("append", 2, 2),
    ("atoi", 1, 1),
    ("base", 1, 1),
    ("camelcase", 1, 1),
    ("cat", 0, MANY),
    ("coalesce", 0, MANY),
    ("compact", 1, 1),
    ("concat", 0, MANY),
    ("dict", 0, MANY),
    ("dir", 1, 1),
    ("empty", 1, 1),
    ("ext", 1, 1),
    ("fail", 1, 1),
    ("first", 1, 1),
    ("get", 2, 2),
    ("has", 2, 2),
    ("hasKey", 2, 2),
    ("initial", 1, 1),
    ("initials", 1, 1),
    ("int64", 1, 1),
    ("isAbs", 1, 1),
    ("join", 2, 2),
    ("kebabcase", 1, 1),
    ("keys", 1, MANY),
    ("kindIs", 2, 2),
    ("kindOf", 1, 1),
    ("last", 1, 1),
    ("list", 0, MANY),
    ("nospace", 1, 1),
    ("plural", 3, 3),
    ("prepend", 2, 2),
    ("quote", 0, MANY),
    ("regexFind", 2, 2),
    ("regexFindAll", 3, 3),
    ("regexMatch", 2, 2),
    ("regexSplit", 3, 3),
    ("rest", 1, 1),
    ("reverse", 1, 1),
    ("snakecase", 1, 1),
    ("sortAlpha", 1, 1),
    ("split", 2, 2),
    ("splitList", 2, 2),
    ("splitn", 3, 3),
    ("squote", 0, MANY),
    ("substr", 3, 3),
    ("ternary", 3, 3),
    ("toJson", 1, 1),
    ("toString", 1, 1),
    ("toStrings", 1, 1),
    ("trimall", 2, 2),
    ("typeOf", 1, 1),
    ("uniq", 1, 1),
    ("until", 1, 1),
    ("untitle", 1, 1),
    ("values", 1, 1),
    ("wrap", 2, 2),
    ("dateInZone", 3, 3),
    ("add1", 1, 1),
    ("any", 0, MANY),
    ("all", 0, MANY),
];

/// Calls one of [`FUNCTIONS`].
pub(super) fn call<'r>(name: &str, args: &[Value<'r>]) -> Result<Value<'r>, Fault> {
    let a = Args(args);
    Ok(match name {
        // Promtail's own: the salt comes first.
        "Hash" => Value::text(hex(&sha3::Sha3_256::digest(a.text(0)?.to_owned() + a.text(1)?))),
        "Sha2Hash" => Value::text(hex(&sha2::Sha256::digest(a.text(0)?.to_owned() + a.text(1)?))),
        "sha256sum" => Value::text(hex(&sha2::Sha256::digest(a.text(0)?))),
        "sha512sum" => Value::text(hex(&sha2::Sha512::digest(a.text(0)?))),
        "adler32sum" => Value::text(adler32(a.text(0)?).to_string()),
        // Texts.
        "abbrev" => Value::text(abbrev(a.int(0)?, a.text(1)?)),
        "cat" => {
            let texts: Vec<String> = args.iter().filter(|v| **v != Value::Nil).map(plain).collect();
            Value::text(texts.join(" "))
        }
        "initials" => {
            Value::text(a.text(0)?.split_whitespace().filter_map(|w| w.chars().next()).collect::<String>())
        }
        "nospace" => Value::text(a.text(0)?.chars().filter(|c| !c.is_whitespace()).collect::<String>()),
        "plural" => {
            if a.int(2)? == 1 {
                args[0].clone()
            } else {
                args[1].clone()
            }
        }
        "quote" => Value::text(joined(args, model::quote)),
        "squote" => Value::text(joined(args, |text| format!("'{text}'"))),
        "substr" => Value::text(substr(a.int(0)?, a.int(1)?, a.text(2)?)?),
        "trimall" => {
            let cut = a.text(0)?;
            Value::text(a.text(1)?.trim_matches(|c| cut.contains(c)).to_owned())
        }
        "untitle" => Value::text(by_first_letter(a.text(0)?)),
        "snakecase" => Value::text(words(a.text(0)?).join("_")),
        "kebabcase" => Value::text(words(a.text(0)?).join("-")),
        "camelcase" => Value::text(words(a.text(0)?).iter().map(|w| capitalized(w)).collect::<String>()),
        "wrap" => Value::text(wrap(a.int(0)?, a.text(1)?)),
        "toString" => Value::text(plain(&args[0])),
        // Regular expressions.
        "regexMatch" => Value::Bool(regex(a.text(0)?)?.is_match(a.text(1)?)),
        "regexFind" => {
            let text = a.text(1)?;
            Value::text(regex(a.text(0)?)?.find(text).map_or("", |(start, end)| &text[start..end]).to_owned())
        }
        "regexFindAll" => {
            let (regex, text, most) = (regex(a.text(0)?)?, a.text(1)?, usize::try_from(a.int(2)?));
            let all =
                regex.captures_iter(text).filter_map(|found| found.get(0)).take(most.unwrap_or(usize::MAX));
            Value::List(all.map(|(start, end)| Value::text(text[start..end].to_owned())).collect())
        }
        "regexSplit" => regex_split(&regex(a.text(0)?)?, a.text(1)?, a.int(2)?),
        // Lists and maps.
        "list" => Value::List(args.to_vec()),
        "dict" => dict(args)?,
        "get" => map(&args[0])?.get(a.text(1)?).cloned().unwrap_or(Value::text("")),
        "hasKey" => Value::Bool(map(&args[0])?.contains_key(a.text(1)?)),
        "keys" => {
            let maps = args.iter().map(map).collect::<Result<Vec<_>, _>>()?;
            Value::List(maps.iter().flat_map(|m| m.keys()).map(|key| Value::text(key.clone())).collect())
        }
        "values" => Value::List(map(&args[0])?.values().cloned().collect()),
        "split" => parts(a.text(1)?.split(a.text(0)?)),
        "splitn" => {
            let most = usize::try_from(a.int(1)?).unwrap_or(usize::MAX);
            parts(a.text(2)?.splitn(most, a.text(0)?))
        }
        "splitList" => Value::List(a.text(1)?.split(a.text(0)?).map(|p| Value::text(p.to_owned())).collect()),
        "join" => {
            let texts: Vec<String> = list(&args[1]).iter().map(plain).collect();
            Value::text(texts.join(a.text(0)?))
        }
        "first" => list(&args[0]).first().cloned().unwrap_or(Value::Nil),
        "last" => list(&args[0]).last().cloned().unwrap_or(Value::Nil),
        "rest" => Value::List(list(&args[0]).get(1..).unwrap_or_default().to_vec()),
        "initial" => {
            let list = list(&args[0]);
            Value::List(list[..list.len().saturating_sub(1)].to_vec())
        }
        "append" => Value::List(list(&args[0]).iter().cloned().chain([args[1].clone()]).collect()),
        "prepend" => {
            Value::List([args[1].clone()].into_iter().chain(list(&args[0]).iter().cloned()).collect())
        }
        "concat" => Value::List(args.iter().flat_map(|v| list(v).to_vec()).collect()),
        "reverse" => Value::List(list(&args[0]).iter().rev().cloned().collect()),
        "compact" => Value::List(list(&args[0]).iter().filter(|v| v.is_true(true)).cloned().collect()),
        "has" => Value::Bool(list(&args[1]).contains(&args[0])),
        "uniq" => Value::List(list(&args[0]).iter().fold(Vec::new(), |mut all, value| {
            if !all.contains(value) {
                all.push(value.clone());
            }
            all
        })),
        "sortAlpha" => {
            let mut texts: Vec<String> = list(&args[0]).iter().map(plain).collect();
            texts.sort();
            Value::List(texts.into_iter().map(Value::text).collect())
        }
        "toStrings" => Value::List(list(&args[0]).iter().map(|v| Value::text(plain(v))).collect()),
        "until" => {
            let count = a.int(0)?;
            if count.unsigned_abs() > 100_000 {
                return Err(Fault::Call(format!("until {count} is too many")));
            }
            let numbers: Vec<i64> =
                if count < 0 { (count + 1..=0).rev().collect() } else { (0..count).collect() };
            Value::List(numbers.into_iter().map(Value::Int).collect())
        }
        // Choices.
        "coalesce" => args.iter().find(|v| v.is_true(true)).cloned().unwrap_or(Value::Nil),
        "empty" => Value::Bool(!args[0].is_true(true)),
        "ternary" => {
            if args[2] == Value::Bool(true) {
                args[0].clone()
            } else {
                args[1].clone()
            }
        }
        "any" => Value::Bool(args.iter().any(|v| v.is_true(true))),
        "all" => Value::Bool(args.iter().all(|v| v.is_true(true))),
        "fail" => return Err(Fault::Call(a.text(0)?.to_owned())),
        // Numbers, types, times, paths.
        "atoi" => Value::Int(a.text(0)?.parse().unwrap_or_default()),
        "int64" => Value::Int(args[0].to_int()),
        "add1" => Value::Int(args[0].to_int().wrapping_add(1)),
        "typeOf" => Value::text(args[0].kind()),
        "kindOf" => Value::text(kind(&args[0])),
        "kindIs" => Value::Bool(kind(&args[1]) == a.text(0)?),
        "toJson" => Value::text(to_json(&args[0]).to_string()),
        "dateInZone" => {
            let time = match &args[1] {
                Value::Time(nanos) => Timestamp(*nanos),
                Value::Int(seconds) => Timestamp(seconds.saturating_mul(1_000_000_000)),
                _ => Timestamp::now(),
            };
            let zone = Zone::named(a.text(2)?).unwrap_or_else(|_| Zone::utc());
            Value::text(Layout::parse(a.text(0)?).write(time, &zone))
        }
        "base" => Value::text(base(a.text(0)?).to_owned()),
        "dir" => Value::text(dir(a.text(0)?).to_owned()),
        "ext" => {
            let name = base(a.text(0)?);
            Value::text(name.rfind('.').map_or("", |at| &name[at..]).to_owned())
        }
        "isAbs" => Value::Bool(a.text(0)?.starts_with('/')),
        other => return Err(Fault::Call(format!("function {other} cannot be called"))),
    })
}

fn plain(value: &Value<'_>) -> String {
    let mut out = String::new();
    print::plain(value, &mut out);
    out
}

/// Present values, each by `f`, between blanks.
fn joined(args: &[Value<'_>], f: impl Fn(&str) -> String) -> String {
    let texts: Vec<String> = args.iter().filter(|v| **v != Value::Nil).map(|v| f(&plain(v))).collect();
    texts.join(" ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Adler-32 (RFC 1950).
fn adler32(text: &str) -> u32 {
    let (a, b) = text.bytes().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

fn regex(pattern: &str) -> Result<Regex, Fault> {
    Regex::new(pattern).map_err(|e| Fault::Call(e.to_string()))
}

fn regex_split<'r>(regex: &Regex, text: &str, most: i64) -> Value<'r> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (mut pieces, mut from) = (Vec::new(), 0);
    for (start, end) in regex.captures_iter(text).filter_map(|found| found.get(0)) {
        if pieces.len() + 1 >= most {
            break;
        }
        if end > 0 && start < text.len() {
            pieces.push(Value::text(text[from..start].to_owned()));
            from = end;
        }
    }
    if most > 0 {
        pieces.push(Value::text(text[from..].to_owned()));
    }
    Value::List(pieces)
}

/// The items of a list; nothing of any other value.
fn list<'a, 'r>(value: &'a Value<'r>) -> &'a [Value<'r>] {
    match value {
        Value::List(items) => items,
        _ => &[],
    }
}

fn map<'a, 'r>(value: &'a Value<'r>) -> Result<&'a BTreeMap<String, Value<'r>>, Fault> {
    match value {
        Value::Map(map) => Ok(map),
        other => Err(Fault::Call(format!("expected a map, got {}", other.kind()))),
    }
}

fn dict<'r>(args: &[Value<'r>]) -> Result<Value<'r>, Fault> {
    let pairs = args.chunks(2).map(|pair| (plain(&pair[0]), pair.get(1).cloned().unwrap_or(Value::text(""))));
    Ok(Value::Map(pairs.collect()))
}

/// Pieces under `_0`, `_1`, …, as sprig's `split` has them.
fn parts<'r, 't>(pieces: impl Iterator<Item = &'t str>) -> Value<'r> {
    let named = pieces.enumerate().map(|(i, piece)| (format!("_{i}"), Value::text(piece.to_owned())));
    Value::Map(named.collect())
}

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::Nil => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::Time(_) => "struct",
        Value::List(_) => "slice",
        Value::Map(_) | Value::Data => "map",
    }
}

fn to_json(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Nil | Value::Data => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => (*value as i64).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(text) => text.as_ref().into(),
        Value::Time(_) => plain(value).into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key.clone(), to_json(value))).collect(),
    }
}

fn abbrev(width: i64, text: &str) -> String {
    let width = usize::try_from(width).unwrap_or_default();
    if width < 4 || text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 3).chain("...".chars()).collect()
}

/// Characters are bytes here, as in Go; a cut within one leaves U+FFFD.
fn substr(from: i64, to: i64, text: &str) -> Result<String, Fault> {
    let length = text.len() as i64;
    let from = from.max(0);
    let to = if to < 0 || to > length { length } else { to };
    match to.cmp(&from) {
        Ordering::Less => Err(Fault::Call(format!("slice bounds out of range [{from}:{to}]"))),
        _ => Ok(String::from_utf8_lossy(&text.as_bytes()[from as usize..to as usize]).into_owned()),
    }
}

/// The first letter of each word in lower case.
fn by_first_letter(text: &str) -> String {
    let mut before = ' ';
    text.chars()
        .flat_map(|c| {
            let lower = before.is_whitespace();
            before = c;
            if lower { c.to_lowercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

/// Words in lower case, told apart by blanks, `_`, `-`, `.` and capital letters.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    let mut before = ' ';
    for c in text.chars() {
        if c.is_whitespace() || matches!(c, '_' | '-' | '.') {
            open = false;
        } else {
            if !open || c.is_uppercase() && !before.is_uppercase() {
                words.push(String::new());
                open = true;
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        before = c;
    }
    words
}

/// Lines of at most `width` characters, broken at blanks where possible.
fn wrap(width: i64, text: &str) -> String {
    let width = usize::try_from(width).unwrap_or_default().clamp(1, MAX_LENGTH);
    let (mut out, mut length) = (String::with_capacity(text.len()), 0);
    for word in text.split(' ') {
        let size = word.chars().count();
        if length > 0 {
            let breaks = length + 1 + size > width;
            out.push(if breaks { '\n' } else { ' ' });
            length = if breaks { 0 } else { length + 1 };
        }
        out.push_str(word);
        length += size;
    }
    out
}

fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => path.rsplit('/').next().unwrap_or(path),
    }
}

fn dir(path: &str) -> &str {
    match path.rfind('/') {
        None => ".",
        Some(0) => "/",
        Some(at) => &path[..at],
    }
}

#[cfg(test)]
mod tests {
    use crate::extracted::{Extract, Extracted};
    use crate::pipeline::template::{StageTemplate, TemplateData};

    #[test]
    fn functions() {
        let mut extracted = Extracted::default();
        extracted.set_by_name("a", Extract::Text("x,y,x"));
        let check = |template: &str, want: &str| {
            let template = StageTemplate::parse(template).unwrap();
            let got = template.render(&TemplateData::replacing(&extracted, "v V"));
            assert_eq!(got.as_deref(), Ok(want));
        };
        check(
            "{{ Sha2Hash \"salt\" .Value }}",
            "72ca1fbd51eeae4f7ef41f6b3c526e06c0b31b89d3c8d0a7ad59288120439b54",
        );
        check(
            "{{ Hash \"salt\" .Value }}",
            "811e26d086247769e6826a808dd0b7b8634c81cc89f3c724f5bb8848ce09ccd6",
        );
        check("{{ .a | splitList \",\" | uniq | join \"+\" }}", "x+y");
        check("{{ (split \",\" .a)._1 }}", "y");
        check("{{ regexFind \"[a-z]$\" .a }} {{ regexMatch \"^y\" .a }}", "x false");
        check("{{ regexFindAll \"x\" .a -1 }} {{ regexSplit \",\" .a -1 }}", "[x x] [x y x]");
        check(
            "{{ coalesce .none \"\" .Value }} {{ ternary \"t\" \"f\" true }} {{ empty .none }}",
            "v V t true",
        );
        check("{{ quote .Value }} {{ squote .Value }} {{ nospace .Value }}", "\"v V\" 'v V' vV");
        check(
            "{{ snakecase \"FirstName x\" }} {{ kebabcase \"FirstName\" }} {{ camelcase \"a_b\" }}",
            "first_name_x first-name AB",
        );
        check(
            "{{ list 1 2 | toJson }} {{ dict \"k\" 1 | toJson }} {{ get (dict \"k\" 1) \"k\" }}",
            "[1,2] {\"k\":1} 1",
        );
        check(
            "{{ first (list 1 2) }} {{ rest (list 1 2) }} {{ initial (list 1 2) }} {{ has 2 (list 1 2) }}",
            "1 [2] [1] true",
        );
        check("{{ base \"/a/b.c\" }} {{ dir \"/a/b.c\" }} {{ ext \"/a/b.c\" }}", "b.c /a .c");
        check(
            "{{ abbrev 5 \"hello world\" }} {{ adler32sum \"abc\" }} {{ substr 0 2 \"hello\" }}",
            "he... 38600999 he",
        );
        check(
            "{{ kindOf .a }} {{ typeOf 1 }} {{ atoi \"7\" }} {{ add1 7 }} {{ until 3 }}",
            "string int 7 8 [0 1 2]",
        );
        check(
            "{{ wrap 5 \"aa bb cc\" }} {{ untitle \"Ab Cd\" }} {{ initials \"ab cd\" }}",
            "aa bb\ncc ab cd ac",
        );
        let fault = StageTemplate::parse("{{ fail \"no\" }}").unwrap();
        assert!(fault.render(&TemplateData::replacing(&extracted, "")).is_err());
        assert!(StageTemplate::parse("{{ env \"HOME\" }}").is_err());
    }
}
