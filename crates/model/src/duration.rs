//! Durations as Go and Prometheus write them.
//!
//! All values are nanoseconds in an `i64`, as in Go. Go has fractions and signs (`-1.5h`),
//! Prometheus has days, weeks and years (`1d12h`); LogQL takes either.

use crate::gotime::quote as quote_ascii;
use crate::quote;

/// Nanoseconds in a microsecond.
pub const MICROSECOND: i64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: i64 = 1_000 * MICROSECOND;
/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000 * MILLISECOND;
/// Nanoseconds in a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Nanoseconds in an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Nanoseconds in a day of 24 hours.
pub const DAY: i64 = 24 * HOUR;
/// Nanoseconds in a week.
pub const WEEK: i64 = 7 * DAY;
/// Nanoseconds in a year of 365 days, as Prometheus counts it.
pub const YEAR: i64 = 365 * DAY;

/// Why a text is not a duration; in the words of Go and Prometheus, which users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Neither numbers with units nor `0`.
    #[error("time: invalid duration {}", quote_ascii(.0.as_bytes()))]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {}", quote_ascii(.0.as_bytes()))]
    MissingUnit(String),
    /// A unit that Go does not have.
    #[error("time: unknown unit {} in duration {}", quote_ascii(.unit.as_bytes()), quote_ascii(.text.as_bytes()))]
    UnknownUnit {
        /// What stands where a unit should.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// An empty Prometheus duration.
    #[error("empty duration string")]
    Empty,
    /// Not a Prometheus duration.
    #[error("not a valid duration string: {}", quote(.0))]
    NotPrometheus(String),
    /// More than 292 years.
    #[error("duration out of range: {}", quote(.0))]
    OutOfRange(String),
}

/// Parses a duration as Go's `time.ParseDuration` does: `1h30m`, `1.5s`, `-250ms`, `0`.
pub fn parse_go(text: &str) -> Result<i64, DurationError> {
    const LIMIT: u64 = 1 << 63;
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (digits, after) = split_digits(rest);
        let mut value: u64 = 0;
        for digit in digits.bytes() {
            if value > LIMIT / 10 {
                return Err(invalid());
            }
            value = value * 10 + u64::from(digit - b'0');
            if value > LIMIT {
                return Err(invalid());
            }
        }
        let (fraction_digits, after) = after.strip_prefix('.').map_or(("", after), split_digits);
        if digits.is_empty() && fraction_digits.is_empty() {
            return Err(invalid());
        }
        let (fraction, scale) = fraction(fraction_digits);
        let unit_end = after.bytes().position(|b| b == b'.' || b.is_ascii_digit()).unwrap_or(after.len());
        let (unit_name, next) = after.split_at(unit_end);
        if unit_name.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let unit = match unit_name {
            "ns" => 1,
            // Both the micro sign U+00B5 and the Greek letter U+03BC.
            "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            _ => {
                return Err(DurationError::UnknownUnit { unit: unit_name.to_owned(), text: text.to_owned() });
            }
        }
        .unsigned_abs();
        if value > LIMIT / unit {
            return Err(invalid());
        }
        value *= unit;
        if fraction > 0 {
            value += (fraction as f64 * (unit as f64 / scale)) as u64;
        }
        // Neither addend exceeds 2^63 (plus one unit), so the sum fits a u64 only just; check it.
        total = total.checked_add(value).filter(|&t| value <= LIMIT && t <= LIMIT).ok_or_else(invalid)?;
        rest = next;
    }
    if negative {
        return Ok((total as i64).wrapping_neg());
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// Splits off the leading ASCII digits.
fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len()))
}

/// The digits after a point as a number and its power of ten; digits beyond an `i64` are cut, as in Go.
fn fraction(digits: &str) -> (u64, f64) {
    let (mut value, mut scale) = (0u64, 1f64);
    for digit in digits.bytes() {
        if value > i64::MAX.unsigned_abs() / 10 {
            break;
        }
        let next = value * 10 + u64::from(digit - b'0');
        if next > 1 << 63 {
            break;
        }
        (value, scale) = (next, scale * 10.0);
    }
    (value, scale)
}

/// Parses a duration as Prometheus does: whole numbers with the units `y w d h m s ms`, each at
/// most once and in this order; `0` needs no unit.
pub fn parse_prometheus(text: &str) -> Result<i64, DurationError> {
    const UNITS: [(&str, i64); 7] = [
        ("y", YEAR),
        ("w", WEEK),
        ("d", DAY),
        ("h", HOUR),
        ("m", MINUTE),
        ("s", SECOND),
        ("ms", MILLISECOND),
    ];
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let invalid = || DurationError::NotPrometheus(text.to_owned());
    let overflow = || DurationError::OutOfRange(text.to_owned());
    let (mut rest, mut units, mut total) = (text, UNITS.as_slice(), 0i64);
    while !rest.is_empty() {
        let (digits, after) = split_digits(rest);
        let name_end = after.bytes().position(|b| b.is_ascii_digit()).unwrap_or(after.len());
        let (name, next) = after.split_at(name_end);
        let at = units.iter().position(|(unit, _)| *unit == name).ok_or_else(invalid)?;
        if digits.is_empty() {
            return Err(invalid());
        }
        let value =
            digits.parse::<i64>().ok().and_then(|n| n.checked_mul(units[at].1)).ok_or_else(overflow)?;
        total = total.checked_add(value).ok_or_else(overflow)?;
        (rest, units) = (next, &units[at + 1..]);
    }
    Ok(total)
}

/// Parses a duration as LogQL does: Prometheus's form first, then Go's. The error is Go's.
pub fn parse_logql(text: &str) -> Result<i64, DurationError> {
    parse_prometheus(text).or_else(|_| parse_go(text))
}

/// Writes a duration as Go's `Duration.String`: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn format_go(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let total = nanos.unsigned_abs();
    let decimal = |value: u64, unit: i64| {
        let unit = unit.unsigned_abs();
        let mut text = (value / unit).to_string();
        if !value.is_multiple_of(unit) {
            let width = unit.ilog10() as usize;
            let fraction = format!("{:0width$}", value % unit);
            text.push('.');
            text.push_str(fraction.trim_end_matches('0'));
        }
        text
    };
    let second = SECOND.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < second {
        return match i64::try_from(total).unwrap_or(SECOND) {
            n if n < MICROSECOND => format!("{sign}{total}ns"),
            n if n < MILLISECOND => format!("{sign}{}µs", decimal(total, MICROSECOND)),
            _ => format!("{sign}{}ms", decimal(total, MILLISECOND)),
        };
    }
    let (minutes, rest) = (total / (60 * second), total % (60 * second));
    let seconds = decimal(rest, SECOND);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// Writes a duration as Prometheus does: `1h30m`, `90d`, `0s`. Years and weeks appear only when
/// they divide it evenly; anything below a millisecond is cut.
pub fn format_prometheus(nanos: i64) -> String {
    let mut millis = (nanos / MILLISECOND).unsigned_abs();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = if nanos < 0 { "-".to_owned() } else { String::new() };
    let units =
        [("y", YEAR, true), ("w", WEEK, true), ("d", DAY, false), ("h", HOUR, false), ("m", MINUTE, false)];
    for (name, unit, exact) in units.into_iter().chain([("s", SECOND, false), ("ms", MILLISECOND, false)]) {
        let unit = (unit / MILLISECOND).unsigned_abs();
        let count = millis / unit;
        if count > 0 && (!exact || millis.is_multiple_of(unit)) {
            text.push_str(&format!("{count}{name}"));
            millis -= count * unit;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go() {
        let check = |text: &str, expect: i64| assert_eq!(parse_go(text), Ok(expect), "{text}");
        check("1h30m", 90 * MINUTE);
        check("-1.5h", -90 * MINUTE);
        check(".5s", SECOND / 2);
        check("-9223372036854775808ns", i64::MIN);
        check("0.100000000000000000000h", 6 * MINUTE);
        let error = |text: &str| parse_go(text).unwrap_err().to_string();
        assert_eq!(error("bad"), r#"time: invalid duration "bad""#);
        assert_eq!(error("1"), r#"time: missing unit in duration "1""#);
        assert_eq!(error("1d"), r#"time: unknown unit "d" in duration "1d""#);
        assert_eq!(error("9223372036854775807.9s"), r#"time: invalid duration "9223372036854775807.9s""#);
        assert_eq!(error("."), r#"time: invalid duration ".""#);
    }

    #[test]
    fn prometheus() {
        let check = |text: &str, expect: i64| assert_eq!(parse_prometheus(text), Ok(expect), "{text}");
        check("1h30m", 90 * MINUTE);
        check("1y1w1d1h1m1s1ms", YEAR + WEEK + DAY + HOUR + MINUTE + SECOND + MILLISECOND);
        check("0", 0);
        check("0s", 0);
        for bad in ["", "1", "1m1h", "1s1s", "1.5s", "-1s", "1us", " 1s", "s", "300y", "1s "] {
            assert!(parse_prometheus(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_logql("1d"), Ok(DAY));
        assert_eq!(parse_logql("1.5h"), Ok(90 * MINUTE));
        assert!(parse_logql("1.5d").is_err());
    }

    #[test]
    fn written_as_prometheus() {
        let check = |nanos: i64, expect: &str| assert_eq!(format_prometheus(nanos), expect);
        check(90 * MINUTE, "1h30m");
        check(90 * DAY, "90d");
        check(14 * DAY, "2w");
        check(YEAR, "1y");
        check(0, "0s");
        check(SECOND + 5 * MILLISECOND + 1, "1s5ms");
        check(MICROSECOND, "0s");
    }

    proptest! {
        #[test]
        fn go_round_trips(nanos: i64) {
            prop_assert_eq!(parse_go(&format_go(nanos)), Ok(nanos));
        }

        #[test]
        fn prometheus_round_trips(millis in 0..i64::MAX / MILLISECOND) {
            let nanos = millis * MILLISECOND;
            prop_assert_eq!(parse_prometheus(&format_prometheus(nanos)), Ok(nanos));
        }

        #[test]
        fn never_panics(text in "[-+]?[0-9.]{0,25}[a-zµ]{0,3}[0-9.]{0,25}(ns|h|y)?") {
            let _ = (parse_go(&text), parse_prometheus(&text), parse_logql(&text));
        }
    }
}
