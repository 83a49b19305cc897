//! Points in time by Go's reference layouts (`Mon Jan _2 15:04:05 2006`), as Promtail's and the
//! Collector's configs and LogQL's templates have them.
//!
//! A layout is parsed once into a [`Layout`], which reads and writes any number of times. Reading follows
//! Go's `time.ParseInLocation`: the zone given is that of a text without one, and explains abbreviations.

mod layout;
mod read;
mod zone;

use std::fmt::Write;

use jiff::Timestamp as Instant;
use jiff::civil::DateTime;

use self::layout::{Field, MONTHS, NAMED, Pad, WEEKDAYS, field_at};
pub use self::zone::Zone;
use crate::Timestamp;

/// Why a text is no time by a layout, in Go's words. All parts are quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Something else stands where the layout has `part`.
    #[error("parsing time {text} as {layout}: cannot parse {rest} as {part}")]
    Mismatch {
        /// The whole text.
        text: String,
        /// The whole layout.
        layout: String,
        /// What is left of the text.
        rest: String,
        /// The part of the layout.
        part: String,
    },
    /// The parts fit, but not their values.
    #[error("parsing time {text}: {message}")]
    Value {
        /// The whole text.
        text: String,
        /// What is wrong.
        message: String,
    },
    /// A [`Timestamp`] holds the years 1678 to 2261.
    #[error("time {0} is outside of the years 1678 to 2261")]
    Range(String),
    /// No zone has this name.
    #[error("unknown time zone {0}")]
    UnknownZone(String),
}

/// A parsed layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    text: String,
    parts: Vec<Part>,
    tail: String,
}

/// Literal text and the field behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    literal: String,
    /// The field as written.
    text: String,
    field: Field,
}

impl Layout {
    /// Reads a Go layout; every text is one, since what is not a field stands for itself.
    pub fn parse(layout: &str) -> Self {
        let (mut parts, mut rest, mut at) = (Vec::new(), layout, 0);
        while at < rest.len() {
            match field_at(&rest[at..]) {
                Some((length, field)) => {
                    let text = rest[at..at + length].to_owned();
                    parts.push(Part { literal: rest[..at].to_owned(), text, field });
                    (rest, at) = (&rest[at + length..], 0);
                }
                None => at += rest[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        Self { text: layout.to_owned(), parts, tail: rest.to_owned() }
    }

    /// The layout that Go's `time` package exports under this name (`RFC3339Nano`, `UnixDate`, `Kitchen`, …).
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(n, _)| *n == name).map(|(_, layout)| Self::parse(layout))
    }

    /// The layout as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the layout has a year; without one a text is in the year 0.
    pub fn has_year(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.field, Field::Year | Field::LongYear))
    }

    /// Reads a time. A text without a zone is in `zone`; what else it lacks is that of 1 January of the year 0.
    pub fn read(&self, text: &str, zone: &Zone) -> Result<Timestamp, TimeError> {
        let (seconds, nanos) = self.read_unix(text, zone)?;
        timestamp(seconds, nanos).ok_or_else(|| TimeError::Range(text.to_owned()))
    }

    /// As [`Layout::read`], as whole Unix seconds and the nanoseconds after them: also outside of the years
    /// that a [`Timestamp`] holds.
    pub fn read_unix(&self, text: &str, zone: &Zone) -> Result<(i64, i64), TimeError> {
        let parts = read::read(self, text)?;
        Ok((parts.unix(zone), parts.nanos))
    }

    /// As [`Layout::read`], but a text without a year is in that of `now`; around New Year in the one that
    /// makes December and January neighbours. This is how syslog's times are meant.
    pub fn read_near(&self, text: &str, zone: &Zone, now: Timestamp) -> Result<Timestamp, TimeError> {
        let mut parts = read::read(self, text)?;
        if parts.date.year() == 0 {
            let today = civil(now, zone).0;
            let year = match (parts.date.month(), today.month()) {
                (12, 1) => today.year() - 1,
                (1, 12) => today.year() + 1,
                _ => today.year(),
            };
            let (month, day) = (parts.date.month(), parts.date.day());
            // Only 29 February can be missing; Go moves on to 1 March.
            let date =
                jiff::civil::Date::new(year, month, day).or_else(|_| jiff::civil::Date::new(year, 3, 1));
            parts.date = date.map_err(|_| TimeError::Range(text.to_owned()))?;
        }
        timestamp(parts.unix(zone), parts.nanos).ok_or_else(|| TimeError::Range(text.to_owned()))
    }

    /// Writes a time in `zone`.
    pub fn write(&self, time: Timestamp, zone: &Zone) -> String {
        let mut out = String::with_capacity(self.text.len() + 8);
        let (local, offset, zone_name) = civil(time, zone);
        for part in &self.parts {
            out.push_str(&part.literal);
            // Writing to a string cannot fail.
            let _ = write_field(&mut out, part.field, &local, offset, &zone_name);
        }
        out.push_str(&self.tail);
        out
    }
}

fn timestamp(seconds: i64, nanos: i64) -> Option<Timestamp> {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    i64::try_from(total).ok().map(Timestamp)
}

/// The time on the wall in `zone`, the seconds east of UTC and the zone's abbreviation.
fn civil(time: Timestamp, zone: &Zone) -> (DateTime, i64, String) {
    let (seconds, nanos) = (time.0.div_euclid(1_000_000_000), time.0.rem_euclid(1_000_000_000));
    let (offset, name) = zone.at(seconds);
    let local = Instant::new(seconds + offset, i32::try_from(nanos).unwrap_or(0)).unwrap_or_default();
    (jiff::tz::Offset::UTC.to_datetime(local), offset, name)
}

fn write_field(
    out: &mut String,
    field: Field,
    local: &DateTime,
    offset: i64,
    zone_name: &str,
) -> std::fmt::Result {
    let name = |names: &[&'static str], index: i8| names[usize::try_from(index).unwrap_or(0) % names.len()];
    let month = || name(&MONTHS, local.month() - 1);
    let weekday = || name(&WEEKDAYS, local.weekday().to_sunday_zero_offset());
    let number = |out: &mut String, pad: Pad, width: usize, value: i64| match pad {
        Pad::None => write!(out, "{value}"),
        Pad::Space => write!(out, "{value:width$}"),
        Pad::Zero => write!(out, "{value:0width$}"),
    };
    let hour12 = match local.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    match field {
        Field::LongYear => number(out, Pad::Zero, 4, local.year().into()),
        Field::Year => number(out, Pad::Zero, 2, (local.year().abs() % 100).into()),
        Field::LongMonth => out.write_str(month()),
        Field::Month => out.write_str(&month()[..3]),
        Field::NumMonth(pad) => number(out, pad, 2, local.month().into()),
        Field::LongWeekday => out.write_str(weekday()),
        Field::Weekday => out.write_str(&weekday()[..3]),
        Field::Day(pad) => number(out, pad, 2, local.day().into()),
        Field::YearDay(pad) => number(out, pad, 3, local.date().day_of_year().into()),
        Field::Hour => number(out, Pad::Zero, 2, local.hour().into()),
        Field::Hour12(pad) => number(out, pad, 2, hour12.into()),
        Field::Minute(pad) => number(out, pad, 2, local.minute().into()),
        Field::Second(pad) => number(out, pad, 2, local.second().into()),
        Field::Noon { upper } => out.write_str(match (upper, local.hour() >= 12) {
            (true, true) => "PM",
            (true, false) => "AM",
            (false, true) => "pm",
            (false, false) => "am",
        }),
        Field::ZoneName if zone_name.is_empty() => {
            write_offset(out, offset, layout::Offset { z: false, colon: false, parts: 2 })
        }
        Field::ZoneName => out.write_str(zone_name),
        Field::Offset(shape) => write_offset(out, offset, shape),
        Field::Fraction { digits, comma, trim } => {
            let text = format!("{:09}", local.subsec_nanosecond());
            let text = &text[..digits.min(9)];
            let text = if trim { text.trim_end_matches('0') } else { text };
            if text.is_empty() {
                return Ok(());
            }
            out.push(if comma { ',' } else { '.' });
            out.write_str(text)
        }
    }
}

fn write_offset(out: &mut String, offset: i64, shape: layout::Offset) -> std::fmt::Result {
    if shape.z && offset == 0 {
        return out.write_str("Z");
    }
    // As in Go, the sign is that of the whole minutes.
    let sign = if offset / 60 < 0 { '-' } else { '+' };
    let seconds = offset.abs();
    write!(out, "{sign}{:02}", seconds / 3600)?;
    for part in [seconds / 60 % 60, seconds % 60].iter().take(shape.parts.saturating_sub(1)) {
        let colon = if shape.colon { ":" } else { "" };
        write!(out, "{colon}{part:02}")?;
    }
    Ok(())
}

/// Quotes as the errors of Go's `time` do: whatever is not printable ASCII as its bytes.
pub(crate) fn quote(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            // Go leaves DEL alone.
            b' '..=0x7f => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
