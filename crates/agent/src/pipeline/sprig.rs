//! Functions of the agent's templates beside those that all templates have: Promtail's hashes, and sprig's functions that
//! make sense for a line. Where sprig means otherwise than the query language by a name, sprig is right here.

use std::collections::BTreeMap;

use gotemplate::{Args, Fault, Function, MANY, Value, print, regex, standard};
use model::Timestamp;
use model::gotime::{Layout, Zone};
use model::regex::Regex;
use rand::Rng as _;
use sha2::Digest as _;

use super::go_json::{self, Style};
use super::sprig_text as texts;

/// Names with the least and greatest number of arguments.
pub(super) const FUNCTIONS: &[Function] = &[
    ("Hash", 2, 2),
    ("Sha2Hash", 2, 2),
    ("abbrev", 2, 2),
    ("abbrevboth", 3, 3),
    ("add1", 1, 1),
    ("add1f", 1, 1),
    ("adler32sum", 1, 1),
    ("ago", 1, 1),
    ("all", 0, MANY),
    ("any", 0, MANY),
    ("append", 2, 2),
    ("atoi", 1, 1),
    ("b32dec", 1, 1),
    ("b32enc", 1, 1),
    ("base", 1, 1),
    ("biggest", 1, MANY),
    ("camelcase", 1, 1),
    ("cat", 0, MANY),
    ("chunk", 2, 2),
    ("clean", 1, 1),
    ("coalesce", 0, MANY),
    ("compact", 1, 1),
    ("concat", 0, MANY),
    ("dateInZone", 3, 3),
    ("dateModify", 2, 2),
    ("date_in_zone", 3, 3),
    ("date_modify", 2, 2),
    ("deepCopy", 1, 1),
    ("deepEqual", 2, 2),
    ("default", 1, MANY),
    ("dict", 0, MANY),
    ("dig", 3, MANY),
    ("dir", 1, 1),
    ("duration", 1, 1),
    ("durationRound", 1, 1),
    ("empty", 1, 1),
    ("env", 1, 1),
    ("expandenv", 1, 1),
    ("ext", 1, 1),
    ("fail", 1, 1),
    ("first", 1, 1),
    ("get", 2, 2),
    ("has", 2, 2),
    ("hasKey", 2, 2),
    ("htmlDate", 1, 1),
    ("htmlDateInZone", 2, 2),
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
    ("merge", 1, MANY),
    ("mergeOverwrite", 1, MANY),
    ("nospace", 1, 1),
    ("omit", 1, MANY),
    ("osBase", 1, 1),
    ("osClean", 1, 1),
    ("osDir", 1, 1),
    ("osExt", 1, 1),
    ("osIsAbs", 1, 1),
    ("pick", 1, MANY),
    ("pluck", 1, MANY),
    ("plural", 3, 3),
    ("prepend", 2, 2),
    ("push", 2, 2),
    ("quote", 0, MANY),
    ("randAlpha", 1, 1),
    ("randAlphaNum", 1, 1),
    ("randAscii", 1, 1),
    ("randInt", 2, 2),
    ("randNumeric", 1, 1),
    ("regexFind", 2, 2),
    ("regexFindAll", 3, 3),
    ("regexMatch", 2, 2),
    ("regexQuoteMeta", 1, 1),
    ("regexSplit", 3, 3),
    ("rest", 1, 1),
    ("reverse", 1, 1),
    ("seq", 0, 3),
    ("sha1sum", 1, 1),
    ("sha256sum", 1, 1),
    ("sha512sum", 1, 1),
    ("slice", 1, MANY),
    ("snakecase", 1, 1),
    ("sortAlpha", 1, 1),
    ("split", 2, 2),
    ("splitList", 2, 2),
    ("splitn", 3, 3),
    ("squote", 0, MANY),
    ("swapcase", 1, 1),
    ("ternary", 3, 3),
    ("toDecimal", 1, 1),
    ("toJson", 1, 1),
    ("toPrettyJson", 1, 1),
    ("toRawJson", 1, 1),
    ("toString", 1, 1),
    ("toStrings", 1, 1),
    ("trimall", 2, 2),
    ("tuple", 0, MANY),
    ("typeIs", 2, 2),
    ("typeIsLike", 2, 2),
    ("typeOf", 1, 1),
    ("uniq", 1, 1),
    ("until", 1, 1),
    ("untilStep", 3, 3),
    ("untitle", 1, 1),
    ("uuidv4", 0, 0),
    ("values", 1, 1),
    ("without", 1, MANY),
    ("wrap", 2, 2),
    ("wrapWith", 3, 3),
    ("mustAppend", 2, 2),
    ("mustChunk", 2, 2),
    ("mustCompact", 1, 1),
    ("mustDateModify", 2, 2),
    ("mustDeepCopy", 1, 1),
    ("mustFirst", 1, 1),
    ("mustFromJson", 1, 1),
    ("mustHas", 2, 2),
    ("mustInitial", 1, 1),
    ("mustLast", 1, 1),
    ("mustMerge", 1, MANY),
    ("mustMergeOverwrite", 1, MANY),
    ("mustPrepend", 2, 2),
    ("mustPush", 2, 2),
    ("mustRegexFind", 2, 2),
    ("mustRegexFindAll", 3, 3),
    ("mustRegexMatch", 2, 2),
    ("mustRegexReplaceAll", 3, 3),
    ("mustRegexReplaceAllLiteral", 3, 3),
    ("mustRegexSplit", 3, 3),
    ("mustRest", 1, 1),
    ("mustReverse", 1, 1),
    ("mustSlice", 1, MANY),
    ("mustToDate", 2, 2),
    ("mustToJson", 1, 1),
    ("mustToPrettyJson", 1, 1),
    ("mustToRawJson", 1, 1),
    ("mustUniq", 1, 1),
    ("mustWithout", 1, MANY),
    ("must_date_modify", 2, 2),
];

/// Calls one of [`FUNCTIONS`].
pub(super) fn call<'r>(name: &str, args: &[Value<'r>]) -> Result<Value<'r>, Fault> {
    let a = Args(args);
    Ok(match name {
        // Promtail's own: the salt comes first.
        "Hash" => Value::text(texts::hex(&sha3::Sha3_256::digest(a.text(0)?.to_owned() + a.text(1)?))),
        "Sha2Hash" => Value::text(texts::hex(&sha2::Sha256::digest(a.text(0)?.to_owned() + a.text(1)?))),
        "sha1sum" => Value::text(texts::hex(&<sha1::Sha1 as sha1::Digest>::digest(a.text(0)?))),
        "sha256sum" => Value::text(texts::hex(&sha2::Sha256::digest(a.text(0)?))),
        "sha512sum" => Value::text(texts::hex(&sha2::Sha512::digest(a.text(0)?))),
        "adler32sum" => Value::text(texts::adler32(a.text(0)?).to_string()),
        "b32enc" => Value::text(texts::base32(a.text(0)?)),
        "b32dec" => Value::text(texts::from_base32(a.text(0)?)),
        // Texts.
        "abbrev" => match a.int(0)? {
            width @ 4.. => Value::text(texts::abbreviated(0, width as usize, a.text(1)?)),
            _ => Value::text(a.text(1)?.to_owned()),
        },
        "abbrevboth" => match (a.int(0)?, a.int(1)?) {
            (left, width) if width < 4 || left > 0 && width < 7 => Value::text(a.text(2)?.to_owned()),
            (left, width) => {
                Value::text(texts::abbreviated(left.max(0) as usize, width as usize, a.text(2)?))
            }
        },
        "cat" => {
            let all: Vec<String> = args.iter().filter(|v| **v != Value::Nil).map(plain).collect();
            Value::text(all.join(" "))
        }
        "initials" => {
            Value::text(a.text(0)?.split_whitespace().filter_map(|w| w.chars().next()).collect::<String>())
        }
        "nospace" => Value::text(a.text(0)?.chars().filter(|c| !c.is_whitespace()).collect::<String>()),
        "plural" => {
            a.text(0)?;
            a.text(1)?;
            args[usize::from(a.int(2)? != 1)].clone()
        }
        "quote" => Value::text(joined(args, model::quote)),
        "squote" => Value::text(joined(args, |text| format!("'{text}'"))),
        "trimall" => {
            let cut = a.text(0)?;
            Value::text(a.text(1)?.trim_matches(|c| cut.contains(c)).to_owned())
        }
        "untitle" => Value::text(texts::uncapitalized(a.text(0)?)),
        "swapcase" => Value::text(texts::swapped_case(a.text(0)?)),
        "snakecase" => Value::text(texts::words(a.text(0)?).join("_")),
        "kebabcase" => Value::text(texts::words(a.text(0)?).join("-")),
        "camelcase" => {
            Value::text(texts::words(a.text(0)?).iter().map(|w| texts::capitalized(w)).collect::<String>())
        }
        "wrap" => Value::text(texts::wrapped(a.int(0)?, "\n", false, a.text(1)?)),
        "wrapWith" => Value::text(texts::wrapped(a.int(0)?, a.text(1)?, true, a.text(2)?)),
        "toString" => Value::text(plain(&args[0])),
        "env" => Value::text(std::env::var(a.text(0)?).unwrap_or_default()),
        "expandenv" => {
            Value::text(texts::expanded(a.text(0)?, |name| std::env::var(name).unwrap_or_default()))
        }
        "randAlpha" => random(&a, |c| c.is_ascii_alphabetic())?,
        "randAlphaNum" => random(&a, |c| c.is_ascii_alphanumeric())?,
        "randNumeric" => random(&a, |c| c.is_ascii_digit())?,
        "randAscii" => random(&a, |c| (' '..='~').contains(&c))?,
        "randInt" => match (a.int(0)?, a.int(1)?) {
            (least, end) if least < end => Value::Int(rand::rng().random_range(least..end)),
            (least, end) => return Err(Fault::Call(format!("no number is between {least} and {end}"))),
        },
        "uuidv4" => {
            let bits = rand::random::<u128>() & !(0xf << 76 | 3 << 62) | 4 << 76 | 2 << 62;
            let digits = format!("{bits:032x}");
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
            Value::text(parts.join("-"))
        }
        // Regular expressions.
        "regexMatch" => {
            Value::Bool(regex(a.text(0)?).is_ok_and(|regex| a.text(1).is_ok_and(|text| regex.is_match(text))))
        }
        "mustRegexMatch" => Value::Bool(regex(a.text(0)?)?.is_match(a.text(1)?)),
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
        "regexQuoteMeta" => {
            let quoted = a
                .text(0)?
                .chars()
                .flat_map(|c| "\\.+*?()|[]{}^$".contains(c).then_some('\\').into_iter().chain([c]));
            Value::text(quoted.collect::<String>())
        }
        // Lists.
        "list" | "tuple" => Value::List(args.to_vec()),
        "splitList" => Value::List(a.text(1)?.split(a.text(0)?).map(|p| Value::text(p.to_owned())).collect()),
        "join" => Value::text(strings(&args[1]).join(a.text(0)?)),
        "first" => list(name, &args[0])?.first().cloned().unwrap_or(Value::Nil),
        "last" => list(name, &args[0])?.last().cloned().unwrap_or(Value::Nil),
        "rest" => Value::List(list(name, &args[0])?.get(1..).unwrap_or_default().to_vec()),
        "initial" => {
            let list = list(name, &args[0])?;
            Value::List(list[..list.len().saturating_sub(1)].to_vec())
        }
        "append" | "push" => {
            Value::List(list(name, &args[0])?.iter().cloned().chain([args[1].clone()]).collect())
        }
        "prepend" => {
            Value::List([args[1].clone()].into_iter().chain(list(name, &args[0])?.iter().cloned()).collect())
        }
        "concat" => {
            let lists = args.iter().map(|v| list(name, v)).collect::<Result<Vec<_>, _>>()?;
            Value::List(lists.concat())
        }
        "reverse" => Value::List(list(name, &args[0])?.iter().rev().cloned().collect()),
        "compact" => Value::List(list(name, &args[0])?.iter().filter(|v| v.is_true(true)).cloned().collect()),
        "has" if args[1] == Value::Nil => Value::Bool(false),
        "has" => Value::Bool(list(name, &args[1])?.contains(&args[0])),
        "without" => {
            let kept = list(name, &args[0])?.iter().filter(|value| !args[1..].contains(value));
            Value::List(kept.cloned().collect())
        }
        "uniq" => {
            let mut all = Vec::new();
            for value in list(name, &args[0])? {
                if !all.contains(value) {
                    all.push(value.clone());
                }
            }
            Value::List(all)
        }
        "slice" => {
            let list = list(name, &args[0])?;
            let bound =
                |i: usize, default| args.get(i).map_or(Ok(default), |_| a.int(i).map(|at| at as usize));
            let (from, to) = (bound(1, 0)?, bound(2, list.len())?);
            let part = list.get(from..to);
            Value::List(
                part.ok_or_else(|| Fault::Call(format!("slice bounds out of range [{from}:{to}]")))?.to_vec(),
            )
        }
        "chunk" => {
            let size = a.size(0)?.max(1);
            Value::List(list(name, &args[1])?.chunks(size).map(|part| Value::List(part.to_vec())).collect())
        }
        "sortAlpha" => {
            let mut all = strings(&args[0]);
            all.sort();
            Value::List(all.into_iter().map(Value::text).collect())
        }
        "toStrings" => Value::List(strings(&args[0]).into_iter().map(Value::text).collect()),
        "until" => {
            let count = a.int(0)?;
            steps(0, count, if count < 0 { -1 } else { 1 })?
        }
        "untilStep" => steps(a.int(0)?, a.int(1)?, a.int(2)?)?,
        "seq" => {
            let numbers = match args.len() {
                0 => return Ok(Value::text("")),
                1 => range(1, None, a.int(0)?)?,
                2 => range(a.int(0)?, None, a.int(1)?)?,
                _ => range(a.int(0)?, Some(a.int(1)?), a.int(2)?)?,
            };
            Value::text(strings(&numbers).join(" "))
        }
        // Maps.
        "dict" => dict(args),
        "get" => map(&args[0])?.get(a.text(1)?).cloned().unwrap_or(Value::text("")),
        "hasKey" => Value::Bool(map(&args[0])?.contains_key(a.text(1)?)),
        "keys" => {
            let maps = args.iter().map(map).collect::<Result<Vec<_>, _>>()?;
            Value::List(maps.iter().flat_map(|m| m.keys()).map(|key| Value::text(key.clone())).collect())
        }
        "values" => Value::List(map(&args[0])?.values().cloned().collect()),
        "pick" | "omit" => {
            let names: Vec<&str> = (1..args.len()).map(|i| a.text(i)).collect::<Result<_, _>>()?;
            let mut picked = map(&args[0])?.clone();
            picked.retain(|key, _| names.contains(&key.as_str()) == (name == "pick"));
            Value::Map(picked)
        }
        "pluck" => {
            let key = a.text(0)?;
            let maps = args[1..].iter().map(map).collect::<Result<Vec<_>, _>>()?;
            Value::List(maps.iter().filter_map(|map| map.get(key).cloned()).collect())
        }
        "merge" | "mergeOverwrite" => {
            let mut merged = map(&args[0])?.clone();
            for other in &args[1..] {
                merge(&mut merged, map(other)?, name == "mergeOverwrite");
            }
            Value::Map(merged)
        }
        "dig" => {
            let [keys @ .., default, map] = args else { return Ok(Value::Nil) };
            let mut value = map;
            for key in keys {
                let Value::Map(map) = value else { return Ok(default.clone()) };
                let Some(inner) = map.get(&plain(key)) else { return Ok(default.clone()) };
                value = inner;
            }
            value.clone()
        }
        "split" => parts(a.text(1)?.split(a.text(0)?)),
        "splitn" => {
            let most = usize::try_from(a.int(1)?).unwrap_or(usize::MAX);
            parts(a.text(2)?.splitn(most, a.text(0)?))
        }
        // Choices.
        "default" => args.get(1).filter(|given| given.is_true(true)).unwrap_or(&args[0]).clone(),
        "coalesce" => args.iter().find(|v| v.is_true(true)).cloned().unwrap_or(Value::Nil),
        "empty" => Value::Bool(!args[0].is_true(true)),
        "ternary" => match &args[2] {
            Value::Bool(choice) => args[usize::from(!choice)].clone(),
            Value::Nil => return Err(Fault::Argument(2, "invalid value; expected bool".to_owned())),
            other => {
                let text = format!("wrong type for value; expected bool; got {}", other.kind());
                return Err(Fault::Argument(2, text));
            }
        },
        "any" => Value::Bool(args.iter().any(|v| v.is_true(true))),
        "all" => Value::Bool(args.iter().all(|v| v.is_true(true))),
        "fail" => return Err(Fault::Call(a.text(0)?.to_owned())),
        // Numbers and types.
        "atoi" => Value::Int(a.text(0)?.parse().unwrap_or_default()),
        "toDecimal" => Value::Int(i64::from_str_radix(&plain(&args[0]), 8).unwrap_or_default()),
        "int64" => Value::Int(args[0].to_int()),
        "add1" => Value::Int(args[0].to_int().wrapping_add(1)),
        "add1f" => standard("addf", &[args[0].clone(), Value::Int(1)])?,
        "biggest" => standard("max", args)?,
        "deepCopy" => args[0].clone(),
        "deepEqual" => Value::Bool(args[0] == args[1]),
        "typeOf" => Value::text(type_of(&args[0])),
        "typeIs" | "typeIsLike" => Value::Bool(type_of(&args[1]) == a.text(0)?),
        "kindOf" => Value::text(kind(&args[0])),
        "kindIs" => Value::Bool(kind(&args[1]) == a.text(0)?),
        "toJson" | "toRawJson" | "toPrettyJson" => {
            let (escape_html, indent) = (name != "toRawJson", name == "toPrettyJson");
            let mut out = String::new();
            go_json::write(&to_json(&args[0]), Style { escape_html, integers: true, indent }, &mut out);
            Value::text(out)
        }
        "mustFromJson" => match serde_json::from_str(a.text(0)?) {
            Ok(json) => Value::from_json(json),
            Err(e) => return Err(Fault::Call(e.to_string())),
        },
        // Times.
        "dateInZone" | "date_in_zone" => Value::text(written(a.text(0)?, &args[1], a.text(2)?)),
        "htmlDate" => Value::text(written("2006-01-02", &args[0], "Local")),
        "htmlDateInZone" => Value::text(written("2006-01-02", &args[0], a.text(1)?)),
        "dateModify" | "date_modify" => match (model::duration::parse_go(a.text(0)?), &args[1]) {
            (Ok(nanos), Value::Time(time)) => Value::Time(time.saturating_add(nanos)),
            (Err(_), time @ Value::Time(_)) => time.clone(),
            (_, other) => {
                let text = format!("wrong type for value; expected time.Time; got {}", other.kind());
                return Err(Fault::Argument(1, text));
            }
        },
        "ago" => {
            let since = Timestamp::now().nanos().saturating_sub(time_of(&args[0]).nanos());
            let second = 1_000_000_000;
            let nearest = since.saturating_add(second / 2).div_euclid(second).saturating_mul(second);
            Value::text(model::duration::format_go(nearest))
        }
        "duration" => {
            let seconds = match &args[0] {
                Value::Text(text) => text.parse().unwrap_or_default(),
                Value::Int(seconds) => *seconds,
                _ => 0_i64,
            };
            Value::text(model::duration::format_go(seconds.saturating_mul(1_000_000_000)))
        }
        "durationRound" => Value::text(match &args[0] {
            Value::Text(text) => rounded(model::duration::parse_go(text).unwrap_or_default()),
            Value::Int(nanos) => rounded(*nanos),
            time @ Value::Time(_) => rounded(Timestamp::now().nanos().saturating_sub(time_of(time).nanos())),
            _ => rounded(0),
        }),
        // Paths.
        "base" | "osBase" => Value::text(texts::base(a.text(0)?).to_owned()),
        "dir" | "osDir" => Value::text(texts::dir(a.text(0)?)),
        "clean" | "osClean" => Value::text(texts::clean(a.text(0)?)),
        "ext" | "osExt" => Value::text(texts::extension(a.text(0)?).to_owned()),
        "isAbs" | "osIsAbs" => Value::Bool(a.text(0)?.starts_with('/')),
        "must_date_modify" => call("dateModify", args)?,
        "mustToDate" | "mustRegexReplaceAll" | "mustRegexReplaceAllLiteral" => standard(&unmust(name), args)?,
        name if name.starts_with("must") => call(&unmust(name), args)?,
        other => return Err(Fault::Call(format!("function {other} cannot be called"))),
    })
}

/// `first` of `mustFirst`: all functions fail here where they must.
fn unmust(name: &str) -> String {
    let name = name.strip_prefix("must").unwrap_or(name);
    name.chars().enumerate().map(|(i, c)| if i == 0 { c.to_ascii_lowercase() } else { c }).collect()
}

fn plain(value: &Value<'_>) -> String {
    let mut out = String::new();
    print::plain(value, &mut out);
    out
}

/// Present values, each by `f`, between blanks.
fn joined(args: &[Value<'_>], f: impl Fn(&str) -> String) -> String {
    let all: Vec<String> = args.iter().filter(|v| **v != Value::Nil).map(|v| f(&plain(v))).collect();
    all.join(" ")
}

fn random<'r>(a: &Args<'_, '_>, fits: impl Fn(char) -> bool) -> Result<Value<'r>, Fault> {
    let alphabet: Vec<char> = (' '..='~').filter(|c| fits(*c)).collect();
    let mut rng = rand::rng();
    Ok(Value::text(
        (0..a.size(0)?).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect::<String>(),
    ))
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

/// Numbers from one to before another.
fn steps<'r>(start: i64, stop: i64, step: i64) -> Result<Value<'r>, Fault> {
    if step == 0 || (step > 0) != (stop > start) {
        return Ok(Value::List(Vec::new()));
    }
    if stop.abs_diff(start) / step.unsigned_abs() > MAX_NUMBERS {
        return Err(Fault::Call(format!("there are too many numbers between {start} and {stop}")));
    }
    let next = |at: &i64| at.checked_add(step).filter(|at| if step > 0 { *at < stop } else { *at > stop });
    Ok(Value::List(std::iter::successors(Some(start), next).map(Value::Int).collect()))
}

/// Numbers that a template may count.
const MAX_NUMBERS: u64 = 100_000;

/// Numbers from one to another, which is the last.
fn range<'r>(first: i64, step: Option<i64>, last: i64) -> Result<Value<'r>, Fault> {
    let one = if last < first { -1 } else { 1 };
    steps(first, last.saturating_add(one), step.unwrap_or(one))
}

/// The items of a list.
fn list<'a, 'r>(function: &str, value: &'a Value<'r>) -> Result<&'a [Value<'r>], Fault> {
    match value {
        Value::List(items) => Ok(items),
        other => Err(Fault::Call(format!("cannot find {function} on type {}", kind(other)))),
    }
}

/// The items of a list as texts, or the one text of another value.
fn strings(value: &Value<'_>) -> Vec<String> {
    match value {
        Value::Nil => Vec::new(),
        Value::List(items) => items.iter().filter(|v| **v != Value::Nil).map(plain).collect(),
        other => vec![plain(other)],
    }
}

fn map<'a, 'r>(value: &'a Value<'r>) -> Result<&'a BTreeMap<String, Value<'r>>, Fault> {
    match value {
        Value::Map(map) => Ok(map),
        other => Err(Fault::Call(format!("expected a map, got {}", other.kind()))),
    }
}

fn merge<'r>(into: &mut BTreeMap<String, Value<'r>>, from: &BTreeMap<String, Value<'r>>, overwrite: bool) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Map(inner)), Value::Map(other)) => merge(inner, other, overwrite),
            (Some(old), value) if overwrite && value.is_true(true) || !old.is_true(true) => {
                *old = value.clone()
            }
            (Some(_), _) => {}
            (None, value) => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn dict<'r>(args: &[Value<'r>]) -> Value<'r> {
    let pairs = args.chunks(2).map(|pair| (plain(&pair[0]), pair.get(1).cloned().unwrap_or(Value::text(""))));
    Value::Map(pairs.collect())
}

/// Pieces under `_0`, `_1`, …, as sprig's `split` has them.
fn parts<'r, 't>(pieces: impl Iterator<Item = &'t str>) -> Value<'r> {
    let named = pieces.enumerate().map(|(i, piece)| (format!("_{i}"), Value::text(piece.to_owned())));
    Value::Map(named.collect())
}

fn type_of(value: &Value<'_>) -> &'static str {
    if *value == Value::Nil { "<nil>" } else { value.kind() }
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
        Value::Float(value) => (*value).into(),
        Value::Text(text) => text.as_ref().into(),
        Value::Time(nanos) => Layout::named("RFC3339Nano")
            .map_or(serde_json::Value::Null, |layout| layout.write(Timestamp(*nanos), &Zone::utc()).into()),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key.clone(), to_json(value))).collect(),
    }
}

/// The time that a value is, a number being Unix seconds; now, of anything else.
fn time_of(value: &Value<'_>) -> Timestamp {
    match value {
        Value::Time(nanos) => Timestamp(*nanos),
        Value::Int(seconds) => Timestamp(seconds.saturating_mul(1_000_000_000)),
        _ => Timestamp::now(),
    }
}

fn written(layout: &str, time: &Value<'_>, zone: &str) -> String {
    let zone = Zone::named(zone).unwrap_or_else(|_| Zone::utc());
    Layout::parse(layout).write(time_of(time), &zone)
}

/// A duration in its greatest unit: `2h`, `3d`.
fn rounded(nanos: i64) -> String {
    let seconds = nanos.unsigned_abs() / 1_000_000_000;
    let units = [("y", 31_536_000), ("mo", 2_592_000), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    match units.iter().find(|(_, size)| seconds > *size) {
        Some((unit, size)) => format!("{}{unit}", seconds / size),
        None => "0s".to_owned(),
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
        check(
            "{{ default \"d\" .none }} {{ default \"d\" }} {{ \"\" | default \"d\" }} {{ .a | default \"d\" }}",
            "d d d x,y,x",
        );
        check(
            "{{ join \"-\" .a }} {{ list 1 nil 2 | join \"-\" }} {{ without (list 1 2 3) 2 }}",
            "x,y,x 1-2 [1 3]",
        );
        check(
            "{{ seq 3 }} {{ seq 2 0 }} {{ seq 0 2 6 }} {{ untilStep 0 6 2 }} {{ until -3 }}",
            "1 2 3 2 1 0 0 2 4 6 [0 2 4] [0 -1 -2]",
        );
        check(
            "{{ duration \"95\" }} {{ durationRound \"2h10m5s\" }} {{ htmlDateInZone 0 \"UTC\" }}",
            "1m35s 2h 1970-01-01",
        );
        check(
            "{{ int \"0x1f\" }} {{ int \"1.5\" }} {{ int \"2.0\" }} {{ int64 3.9 }} {{ toDecimal \"017\" }}",
            "31 1 2 3 15",
        );
        check(
            "{{ sha1sum \"a\" }} {{ b32enc \"a\" | b32dec }}",
            "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8 a",
        );
        check(
            "{{ dict \"a\" \"<&>\" \"b\" 1.0 | toJson }} {{ toRawJson \"<\" }} {{ (fromJson `{\"a\":[1]}`).a }}",
            "{\"a\":\"\\u003c\\u0026\\u003e\",\"b\":1} \"<\" [1]",
        );
        check(
            "{{ toJson (int64 \"9007199254740993\") }} {{ toPrettyJson (fromJson `{\"a\":1,\"b\":[]}`) }}",
            "9007199254740993 {\n  \"a\": 1,\n  \"b\": []\n}",
        );
        check(
            "{{ ago (int \"-9223372036854775808\") }} {{ ago (int \"9223372036854775807\") | empty }}",
            "2562047h47m16s false",
        );
        check(
            "{{ dig \"a\" \"b\" \"none\" (fromJson `{\"a\":{\"b\":\"v\"}}`) }} {{ dig \"x\" \"none\" (dict) }}",
            "v none",
        );
        check(
            "{{ merge (dict \"a\" 1) (dict \"a\" 2 \"b\" 3) }} {{ pick (dict \"a\" 1 \"b\" 2) \"b\" }} {{ chunk 2 (list 1 2 3) }}",
            "map[a:1 b:3] map[b:2] [[1 2] [3]]",
        );
        check(
            "{{ slice (list 1 2 3) 1 }} {{ mustFirst (list 4) }} {{ regexQuoteMeta \"a.b\" }} {{ typeOf nil }}",
            "[2 3] 4 a\\.b <nil>",
        );
        check(
            "{{ upper \"straße\" }} {{ ToLower \"ΑΣ\" }} {{ title \"a-b c_d\" }} {{ swapcase \"aB\" }}",
            "STRAßE ας A-B C_d Ab".replace('ς', "σ").as_str(),
        );
        check(
            "{{ uuidv4 | len }} {{ randAlphaNum 5 | len }} {{ env \"NO_SUCH_VARIABLE\" }}{{ expandenv \"$NO_SUCH_VARIABLE\" }}",
            "36 5 ",
        );
        check(
            "{{- range $i, $e := splitList \",\" .a -}} {{ if eq $i 1 }}{{ continue }}{{ end }}{{ $i }}{{ $e }}; {{- end -}}",
            "0x;2x;",
        );
        check(
            "{{ with $x := .Value }}{{ $x }}{{ else }}none{{ end }}{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" 5 }}{{/* c */}}",
            "v V<5>",
        );
        check(
            "{{ if and .a (not .none) (or .none .a) }}y{{ end }}{{ printf \"%05.2f|%-4s|%q|%x|%v\" 3.14159 \"a\" \"b\" 255 true }}",
            "y03.14|a   |\"b\"|ff|true",
        );
        let fails = |template: &str| {
            let template = StageTemplate::parse(template).unwrap();
            assert!(template.render(&TemplateData::replacing(&extracted, "v")).is_err());
        };
        for template in [
            "{{ .none | ToUpper }}",
            "{{ ternary 1 2 .a }}",
            "{{ first .a }}",
            "{{ slice .a 1 2 }}",
            "{{ regexFind \"(\" .a }}",
            "{{ repeat -1 .a }}",
            "{{ div 1 0 }}",
            "{{ index (list 1) 5 }}",
            "{{ lt .a 1 }}",
            "{{ substr -1 -2 .a }}",
            "{{ seq 1 1 1000000 }}",
        ] {
            fails(template);
        }
        let fault = StageTemplate::parse("{{ fail \"no\" }}").unwrap();
        assert!(fault.render(&TemplateData::replacing(&extracted, "")).is_err());
        assert!(StageTemplate::parse("{{ getHostByName \"x\" }}").is_err());
    }
}
