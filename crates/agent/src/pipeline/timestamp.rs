//! `timestamp`: the entry's time out of an extracted value.

use std::sync::Arc;
use std::time::Instant;

use model::Timestamp;
use model::gotime::{Layout, Zone};
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::fudge::Fudge;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;
use crate::extracted::Extract;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct TimestampConfig {
    source: String,
    format: String,
    fallback_formats: Vec<String>,
    location: Option<String>,
    action_on_failure: Option<String>,
}

/// How a text becomes a time.
enum Format {
    /// A number since the epoch, in so many nanoseconds.
    Unix(i64),
    /// RFC 3339 with any fraction, the most frequent of all.
    Rfc3339,
    /// A layout that has a name: without a zone in the text it is UTC, whatever the location.
    Named(Layout),
    /// A layout of the user's own.
    Layout(Layout),
}

/// The layouts that have names; other names of Go's are layouts like any text.
const NAMED: [&str; 8] =
    ["ANSIC", "UnixDate", "RubyDate", "RFC822", "RFC822Z", "RFC850", "RFC1123", "RFC1123Z"];

struct SetTimestamp {
    source: Arc<str>,
    formats: Vec<Format>,
    zone: Zone,
    fudge: Option<Fudge>,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: TimestampConfig = compile.read(body)?;
    if config.source.is_empty() {
        compile.problem::<()>(body, "source", "name the extracted value that holds the time");
    }
    if config.format.is_empty() {
        compile.problem::<()>(body, "format", "give a format such as RFC3339Nano, Unix or a Go layout");
    }
    let zone = match config.location.as_deref().filter(|l| !l.is_empty()).map(Zone::named) {
        None => Some(Zone::utc()),
        Some(Ok(zone)) => Some(zone),
        Some(Err(error)) => compile.problem(body, "location", &error.to_string()),
    };
    let fudge = match config.action_on_failure.as_deref() {
        None | Some("" | "fudge") => Some(Some(Fudge::default())),
        Some("skip") => Some(None),
        Some(other) => {
            compile.problem(body, "action_on_failure", &format!("'{other}' is neither fudge nor skip"))
        }
    };
    let formats =
        std::iter::once(&config.format).chain(&config.fallback_formats).map(|f| format(f)).collect();
    Stage::edit(SetTimestamp { source: config.source.into(), formats, zone: zone?, fudge: fudge? })
}

impl SetTimestamp {
    fn read(&self, text: &str) -> Option<Timestamp> {
        self.formats.iter().find_map(|format| match format {
            Format::Unix(unit) => read_unix(text, *unit),
            Format::Rfc3339 => read_rfc3339(text),
            Format::Named(layout) => layout.read(text, &Zone::utc()).ok(),
            Format::Layout(layout) if layout.has_year() => layout.read(text, &self.zone).ok(),
            Format::Layout(layout) => layout.read_near(text, &self.zone, Timestamp::now()).ok(),
        })
    }
}

impl Edit for SetTimestamp {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let time = match entry.extracted.get(&self.source) {
            // It was a time already; only where that is what the format says is there no need for its text.
            Some(Extract::Time(time)) if matches!(self.formats.first(), Some(Format::Rfc3339)) => Some(time),
            Some(value) => value.text().and_then(|text| self.read(&text)),
            None => None,
        };
        match (&mut self.fudge, time) {
            (Some(fudge), time) => fudge.apply(time, entry),
            (None, Some(time)) => entry.timestamp = time,
            (None, None) => {}
        }
        Verdict::Keep
    }
}

fn format(name: &str) -> Format {
    match name {
        "Unix" => Format::Unix(1_000_000_000),
        "UnixMs" => Format::Unix(1_000_000),
        "UnixUs" => Format::Unix(1_000),
        "UnixNs" => Format::Unix(1),
        // Go reads a fraction with either layout.
        "RFC3339" | "RFC3339Nano" => Format::Rfc3339,
        name => match Layout::named(name).filter(|_| NAMED.contains(&name)) {
            Some(layout) => Format::Named(layout),
            None => Format::Layout(Layout::parse(name)),
        },
    }
}

/// A count of `unit` nanoseconds; seconds may have a fraction.
fn read_unix(text: &str, unit: i64) -> Option<Timestamp> {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(unit).map(Timestamp);
    }
    let (whole, fraction) = text.split_once('.').filter(|_| unit == 1_000_000_000)?;
    let whole: i64 = whole.parse().ok()?;
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{:0<9}", fraction.get(..fraction.len().min(9))?);
    Some(Timestamp(whole.checked_mul(unit)?.checked_add(digits.parse().ok()?)?))
}

/// A time as RFC 3339 writes it, with any fraction. Times in UTC, which is what containers write, are read at a glance.
pub(crate) fn read_rfc3339(text: &str) -> Option<Timestamp> {
    read_utc(text.as_bytes()).or_else(|| Layout::named("RFC3339Nano")?.read(text, &Zone::utc()).ok())
}

/// `2006-01-02T15:04:05[.999999999]Z`; `None` also for what only a slower look can tell.
fn read_utc(text: &[u8]) -> Option<Timestamp> {
    let (date, fraction) = text.split_at_checked(19)?;
    let number = |range: std::ops::Range<usize>| {
        date[range].iter().try_fold(0_i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    if [date[4], date[7], date[10], date[13], date[16]] != *b"--T::" {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let sane = (1970..2200).contains(&year) && (1..=12).contains(&month) && (1..=days).contains(&day);
    if !(sane && hour < 24 && minute < 60 && second < 60) {
        return None;
    }
    let nanos = match fraction {
        [b'Z'] => 0,
        [b'.', digits @ .., b'Z'] if (1..=9).contains(&digits.len()) => {
            let value = digits
                .iter()
                .try_fold(0_i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))?;
            value * 10_i64.pow(9 - digits.len() as u32)
        }
        _ => return None,
    };
    // Days since the epoch in the proleptic Gregorian calendar, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000 + nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unix_times() {
        let check = |text, unit, want| assert_eq!(read_unix(text, unit), want, "{text}");
        check("1793620801", 1_000_000_000, Some(Timestamp(1_793_620_801_000_000_000)));
        check("1793620801.5", 1_000_000_000, Some(Timestamp(1_793_620_801_500_000_000)));
        check("1793620801123", 1_000_000, Some(Timestamp(1_793_620_801_123_000_000)));
        check("x", 1, None);
        check("1.5", 1, None);
        check("1.", 1_000_000_000, None);
        check("-1.25", 1_000_000_000, Some(Timestamp(-750_000_000)));
        check("9223372036854775807", 1_000_000_000, None);
        check("1.-5", 1_000_000_000, None);
        check("1.é5", 1_000_000_000, None);
    }

    proptest! {
        #[test]
        fn the_glance_agrees_with_the_calendar(nanos in 0_i64..7_000_000_000_000_000_000, cut in 0_u32..10) {
            let time = Timestamp(nanos / 10_i64.pow(cut) * 10_i64.pow(cut));
            let layout = Layout::named("RFC3339Nano").unwrap();
            let text = layout.write(time, &Zone::utc());
            prop_assert_eq!(read_rfc3339(&text), Some(time));
            if let Some(fast) = read_utc(text.as_bytes()) {
                prop_assert_eq!(fast, time);
            }
        }

        #[test]
        fn any_text_is_read_as_the_layout_reads_it(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,10})?(Z|[+-][0-9]{2}:[0-9]{2})?") {
            let slow = Layout::named("RFC3339Nano").unwrap().read(&text, &Zone::utc()).ok();
            prop_assert_eq!(read_rfc3339(&text), slow);
        }
    }
}
