//! Query parameters: Tempo's rules of times, ranges, steps and limits, with its error texts.

use std::collections::HashMap;

use http::Uri;
use model::{Timestamp, duration};
use service::Failure;

/// Nanoseconds of a second.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// The parameters of a request. An empty one is absent; of repeated ones the first counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(HashMap<String, String>);

impl Params {
    /// Those of a URL.
    pub(crate) fn of(uri: &Uri) -> Self {
        Self::of_query(uri.query().unwrap_or_default())
    }

    /// Those of a query string.
    pub(crate) fn of_query(query: &str) -> Self {
        let mut params = HashMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !value.is_empty() {
                params.entry(name.into_owned()).or_insert_with(|| value.into_owned());
            }
        }
        Self(params)
    }

    /// A parameter's text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A whole number.
    pub(crate) fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Failure> {
        let parse = |text: &str| {
            text.parse().map_err(|e| Failure::invalid(format!("invalid {name}: cannot read {text:?}: {e}")))
        };
        self.get(name).map(parse).transpose()
    }

    /// A Go duration, ns.
    pub(crate) fn go_duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        let parse =
            |text| duration::parse_go(text).map_err(|e| Failure::invalid(format!("invalid {name}: {e}")));
        self.get(name).map(parse).transpose()
    }

    fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        let parse = |text: &str| {
            parse_time(text).ok_or_else(|| {
                let problem = format!("cannot parse {text:?} to a valid timestamp");
                Failure::invalid(format!(
                    "error parsing date range: could not parse '{name}' parameter: {problem}"
                ))
            })
        };
        self.get(name).map(parse).transpose()
    }

    /// The range of a search, in ns: `since`, or both of `start` and `end`, or the last 15 minutes; at most `max` ns
    /// long unless that is 0.
    pub(crate) fn range(&self, max: i64) -> Result<(i64, i64), Failure> {
        let now = Timestamp::now().0;
        let (start, end) = match (self.since()?, self.time("start")?, self.time("end")?) {
            (Some(since), _, _) => (now.saturating_sub(since), now),
            (None, None, None) => (now - 15 * 60 * SECOND, now),
            (None, Some(start), Some(end)) => (start, end),
            (None, ..) => {
                return Err(Failure::invalid(
                    "error parsing date range: only one of start and end provided: must provide both or neither",
                ));
            }
        };
        check_range(start, end, max)?;
        Ok((start, end))
    }

    /// The range of a metrics query, in ns: any of `since` (1 h), `start` and `end` (now).
    pub(crate) fn metrics_range(&self, default_since: i64) -> Result<(i64, i64), Failure> {
        let end = self.time("end")?.unwrap_or_else(|| Timestamp::now().0);
        let since = self.since()?.unwrap_or(default_since);
        let start = self.time("start")?.unwrap_or_else(|| end.saturating_sub(since));
        if end <= start {
            return Err(Failure::invalid("end must be greater than start"));
        }
        Ok((start, end))
    }

    fn since(&self) -> Result<Option<i64>, Failure> {
        let parse = |text: &str| {
            duration::parse_prometheus(text).map_err(|e| {
                Failure::invalid(format!("error parsing date range: could not parse 'since' parameter: {e}"))
            })
        };
        self.get("since").map(parse).transpose()
    }

    /// The step of a range query, ns: seconds or a Go duration; without one about 240 steps.
    pub(crate) fn step(&self, start: i64, end: i64) -> Result<i64, Failure> {
        let Some(text) = self.get("step") else { return Ok(default_step(end - start)) };
        let seconds = text.parse::<f64>().ok().filter(|s| s.is_finite()).map(|s| (s * 1e9) as i64);
        let step = match seconds {
            Some(step) => step,
            None => duration::parse_go(text).map_err(|e| Failure::invalid(format!("invalid step: {e}")))?,
        };
        if step <= 0 {
            return Err(Failure::invalid(format!("invalid step: {text} is not positive")));
        }
        Ok(step)
    }
}

/// Refuses a range that is empty or too long.
pub(crate) fn check_range(start: i64, end: i64, max: i64) -> Result<(), Failure> {
    let received = || format!("received start={} end={}", start.div_euclid(SECOND), end.div_euclid(SECOND));
    if end <= start {
        return Err(Failure::invalid(format!("http parameter start must be before end. {}", received())));
    }
    if max > 0 && end.saturating_sub(start) > max {
        let max = duration::format_go(max);
        return Err(Failure::invalid(format!(
            "range specified by start and end exceeds {max}. {}",
            received()
        )));
    }
    Ok(())
}

/// Seconds, nanoseconds (more than 10 digits), seconds with a fraction, or RFC 3339.
fn parse_time(text: &str) -> Option<i64> {
    if let Ok(n) = text.parse::<i64>() {
        return if text.trim_start_matches('-').len() > 10 { Some(n) } else { n.checked_mul(SECOND) };
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let nanos = seconds * 1e9;
        return (nanos.is_finite() && nanos.abs() < i64::MAX as f64).then_some(nanos as i64);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

/// About 240 steps of a round length.
fn default_step(range: i64) -> i64 {
    const ROUND: [i64; 6] = [3600 * SECOND, 300 * SECOND, 60 * SECOND, 15 * SECOND, 5 * SECOND, SECOND];
    let raw = range / 240;
    let unit = if range < 60 * SECOND {
        50_000_000
    } else {
        ROUND.into_iter().find(|unit| *unit <= raw).unwrap_or(SECOND)
    };
    (raw / unit * unit).max(unit)
}

/// Reads `k=v k2="v 2"` (logfmt).
pub(crate) fn parse_tags(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut tags: Vec<(String, String)> = Vec::new();
    let broken = |at: usize, what: &str| Failure::invalid(format!("invalid tags: {what} at pos {}", at + 1));
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(|b| *b <= b' ') {
            at += 1;
        }
        if at == bytes.len() {
            return Ok(tags);
        }
        let first = at;
        while bytes.get(at).is_some_and(|b| *b > b' ' && *b != b'=' && *b != b'"') {
            at += 1;
        }
        let key = &text[first..at];
        let value = match bytes.get(at) {
            _ if key.is_empty() => return Err(broken(at, "unexpected character")),
            Some(b'"') => return Err(broken(at, "unexpected '\"'")),
            Some(b'=') => {
                at += 1;
                let rest = &text[at..];
                if rest.starts_with('"') {
                    let (value, length) =
                        quoted(rest).ok_or_else(|| broken(at, "unterminated quoted value"))?;
                    at += length;
                    value
                } else {
                    let length = rest.find(|c: char| c <= ' ').unwrap_or(rest.len());
                    if let Some(bad) = rest[..length].find(['=', '"']) {
                        return Err(broken(at + bad, "unexpected character"));
                    }
                    at += length;
                    rest[..length].to_owned()
                }
            }
            _ => String::new(),
        };
        if tags.iter().any(|(k, _)| k == key) {
            return Err(Failure::invalid(format!("invalid tags: tag {key} has been set twice")));
        }
        tags.push((key.to_owned(), value));
    }
}

/// A quoted text at the start of `text`, and its length with quotes.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, at + 1)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of_query(query)
    }

    #[test]
    fn times() {
        assert_eq!(parse_time("1718000000"), Some(1_718_000_000 * SECOND));
        assert_eq!(parse_time("1718000000000000001"), Some(1_718_000_000_000_000_001));
        assert_eq!(parse_time("1718000000.5"), Some(1_718_000_000_500_000_000));
        assert_eq!(parse_time("2024-06-10T06:13:20Z"), Some(1_718_000_000 * SECOND));
        assert_eq!(parse_time("yesterday"), None);
    }

    #[test]
    fn ranges() {
        let check = |query: &str, expect: &str| {
            assert_eq!(params(query).range(168 * 3600 * SECOND).unwrap_err().message(), expect, "{query}");
        };
        check(
            "start=1",
            "error parsing date range: only one of start and end provided: must provide both or neither",
        );
        check("start=10&end=10", "http parameter start must be before end. received start=10 end=10");
        check(
            "start=1&end=700000",
            "range specified by start and end exceeds 168h0m0s. received start=1 end=700000",
        );
        assert!(params("start=x&end=1").range(0).unwrap_err().message().contains("could not parse 'start'"));
        assert_eq!(params("start=1&end=2").range(0).unwrap(), (SECOND, 2 * SECOND));
        let (start, end) = params("since=1h&start=5&end=6").range(0).unwrap();
        assert_eq!(end - start, 3600 * SECOND);
        let (start, end) = params("start=&end=").range(0).unwrap();
        assert_eq!(end - start, 900 * SECOND);
    }

    #[test]
    fn steps() {
        let check = |range: i64, expect: i64| assert_eq!(default_step(range), expect);
        check(3600 * SECOND, 15 * SECOND);
        check(24 * 3600 * SECOND, 300 * SECOND);
        check(900 * SECOND, 3 * SECOND);
        check(30 * SECOND, 100_000_000);
        check(SECOND, 50_000_000);
        assert_eq!(params("step=1.5").step(0, 1).unwrap(), 1_500_000_000);
        assert_eq!(params("step=1m0s").step(0, 1).unwrap(), 60 * SECOND);
        assert!(params("step=0").step(0, 1).is_err());
    }

    #[test]
    fn tags() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let got = parse_tags(text).unwrap();
            let got: Vec<_> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(got, expect, "{text}");
        };
        check("", &[]);
        check(r#"k=v k2="v 2" k3"#, &[("k", "v"), ("k2", "v 2"), ("k3", "")]);
        check(r#" a.b="x\"y" "#, &[("a.b", "x\"y")]);
        assert_eq!(parse_tags("k=1 k=2").unwrap_err().message(), "invalid tags: tag k has been set twice");
        assert!(parse_tags("=x").unwrap_err().message().ends_with("at pos 1"));
        assert!(parse_tags(r#"k="x"#).is_err());
    }
}
