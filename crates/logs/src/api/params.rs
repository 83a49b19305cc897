//! Parameters of reads: times, durations, limits, as Loki reads them from the query string or a form.

use logql::Direction;
use model::Timestamp;
use model::duration::parse_prometheus;
use service::Failure;

const SECOND: i64 = 1_000_000_000;
/// Points of a series at most.
const MAX_POINTS: i64 = 11_000;

/// Names and values, the query string's before the form's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query string and a form.
    pub fn parse(query: &str, form: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(form));
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of a name, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of some names.
    pub fn all<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(|(n, _)| names.contains(&n.as_str())).map(|(_, v)| v.as_str())
    }

    /// A point in time.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Failure> {
        let bad = |value: &str| {
            Failure::invalid(format!(
                "could not parse '{name}' parameter: cannot parse {value:?} to a valid timestamp"
            ))
        };
        self.get(name).map(|value| parse_time(value).ok_or_else(|| bad(value))).transpose()
    }

    /// `start` and `end`, by default the last `since` (1 h) until now.
    pub fn range(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), Failure> {
        let since = match self.get("since") {
            None => 3600 * SECOND,
            Some(text) => parse_prometheus(text)
                .map_err(|e| Failure::invalid(format!("could not parse 'since' parameter: {e}")))?,
        };
        let end = self.time("end")?.unwrap_or(now);
        let start = self.time("start")?.unwrap_or_else(|| end.min(now).plus(-since));
        if end < start {
            return Err(Failure::invalid("end timestamp must not be before or equal to start time"));
        }
        Ok((start, end))
    }

    /// `limit`, or another positive number.
    pub fn limit(&self, name: &str, default: usize) -> Result<usize, Failure> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.parse::<i64>() {
            Ok(limit) if limit > 0 => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
            Ok(_) => Err(Failure::invalid(format!("{name} must be a positive value"))),
            Err(_) => {
                Err(Failure::invalid(format!("could not parse '{name}' parameter: {text:?} is no integer")))
            }
        }
    }

    /// `direction`.
    pub fn direction(&self) -> Result<Direction, Failure> {
        match self.get("direction").map(str::to_ascii_lowercase).as_deref() {
            None | Some("backward") => Ok(Direction::Backward),
            Some("forward") => Ok(Direction::Forward),
            Some(other) => {
                Err(Failure::invalid(format!("invalid direction '{other}': use forward or backward")))
            }
        }
    }

    /// `step` or `interval` in nanoseconds.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        let bad = |value: &str| {
            Failure::invalid(format!(
                "could not parse '{name}' parameter: cannot parse {value:?} to a valid duration"
            ))
        };
        self.get(name).map(|value| parse_duration(value).ok_or_else(|| bad(value))).transpose()
    }

    /// `step` of a range, checked; by default a 250th of the range in whole seconds.
    pub fn step(&self, start: Timestamp, end: Timestamp) -> Result<i64, Failure> {
        let range = end.nanos().saturating_sub(start.nanos());
        let given = self.duration("step")?;
        let step = given.unwrap_or_else(|| (range / SECOND / 250).max(1) * SECOND);
        if step <= 0 {
            return Err(Failure::invalid(
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        if range / step > MAX_POINTS {
            return Err(Failure::invalid(
                "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter",
            ));
        }
        Ok(step)
    }
}

/// A time: decimal seconds with a point, whole seconds of up to 10 characters, longer nanoseconds, or RFC 3339.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
    {
        let millis = (seconds * 1000.0).round();
        return (millis.abs() < 9.2e15).then(|| Timestamp::from_millis(millis as i64));
    }
    match text.parse::<i64>() {
        Ok(seconds) if text.len() <= 10 => Some(Timestamp::from_seconds(seconds)),
        Ok(nanos) => Some(Timestamp(nanos)),
        Err(_) => {
            let time: jiff::Timestamp = text.parse().ok()?;
            i64::try_from(time.as_nanosecond()).ok().map(Timestamp)
        }
    }
}

/// A number of seconds, or a duration as Prometheus writes it.
pub fn parse_duration(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds.abs() < 9.2e9 => Some((seconds * 1e9) as i64),
        Ok(_) => None,
        Err(_) => parse_prometheus(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, nanos) in [
            ("4000000000", Some(4_000_000_000 * SECOND)),
            ("1700000000123", Some(1_700_000_000_123)),
            ("1700000000.1234", Some(1_700_000_000_123_000_000)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500_000_000)),
            ("2023-11-14T23:13:20+01:00", Some(1_700_000_000_000_000_000)),
            ("yesterday", None),
        ] {
            assert_eq!(parse_time(text).map(Timestamp::nanos), nanos, "{text}");
        }
    }

    #[test]
    fn ranges_and_steps() {
        let now = Timestamp::from_seconds(10_000);
        let check = |query: &str, expect: Result<(i64, i64, i64), &str>| {
            let params = Params::parse(query, b"");
            let got = params.range(now).and_then(|(start, end)| Ok((start, end, params.step(start, end)?)));
            let got = got.map(|(s, e, step)| (s.nanos() / SECOND, e.nanos() / SECOND, step / 1_000_000));
            match (got, expect) {
                (Ok(got), Ok(expect)) => assert_eq!(got, expect, "{query}"),
                (Err(failure), Err(text)) => assert!(failure.message().contains(text), "{query}: {failure}"),
                other => panic!("{query}: {other:?}"),
            }
        };
        check("", Ok((6400, 10_000, 14_000)));
        check("since=5m", Ok((9700, 10_000, 1000)));
        check("start=1&end=2&step=60000ms", Ok((1, 2, 60_000)));
        check("start=1&end=2&step=0.5", Ok((1, 2, 500)));
        check("start=3&end=2", Err("end timestamp"));
        check("start=1&end=20000&step=1", Err("11,000 points"));
        check("step=-1", Err("negative"));
        check("step=1.5s", Err("step"));
        check("start=x", Err("start"));
    }

    #[test]
    fn limits_and_forms() {
        let params = Params::parse("a=1&match[]=x&limit=0", b"match=y&a=2&direction=FORWARD");
        assert_eq!(params.get("a"), Some("1"));
        assert_eq!(params.all(&["match", "match[]"]).collect::<Vec<_>>(), ["x", "y"]);
        assert!(params.limit("limit", 100).is_err());
        assert_eq!(params.direction().unwrap(), Direction::Forward);
    }
}
