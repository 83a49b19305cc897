//! Reading a text by a layout.
//!
//! The rules are those of Go's `time.Parse`, with its leniencies: several spaces for one, a fraction behind
//! seconds that the layout does not mention, months in any case.

use jiff::civil::{Date, DateTime};

use super::layout::{Field, MONTHS, Offset, Pad, WEEKDAYS};
use super::{Layout, TimeError, Zone, quote};

/// What a text says, checked by itself but not yet placed on the time line.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) date: Date,
    /// Seconds of the day.
    second: i64,
    pub(super) nanos: i64,
    zone: TextZone,
}

/// The zone that a text names.
#[derive(Debug, Clone)]
enum TextZone {
    None,
    Name(String),
    Offset(i64),
    Utc,
}

impl Parts {
    /// Unix seconds; `default` is the zone of a text that names none, and explains abbreviations.
    pub(super) fn unix(&self, default: &Zone) -> i64 {
        let midnight = DateTime::from_parts(self.date, jiff::civil::Time::midnight());
        let days = jiff::tz::TimeZone::UTC.to_timestamp(midnight).map_or(0, |t| t.as_second());
        let local = days + self.second;
        match &self.zone {
            TextZone::None => default.resolve(local),
            TextZone::Offset(offset) => local - offset,
            TextZone::Utc => local,
            TextZone::Name(name) => {
                let offset = default.offset_by_name(name, local).unwrap_or_else(|| {
                    // An abbreviation that the zone does not know counts as UTC, but `GMT-3` says it.
                    let hours = name.strip_prefix("GMT").and_then(|hours| atoi(hours.as_bytes()));
                    hours.unwrap_or(0) * 3600
                });
                local - offset
            }
        }
    }
}

/// Numbers as they are read; what is missing keeps its start value.
struct Reader<'t> {
    rest: &'t [u8],
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
    afternoon: Option<bool>,
    zone: TextZone,
}

/// Why a field does not fit.
enum Misfit {
    /// Something else stands there.
    Bad,
    /// The number is out of range, of this.
    Range(&'static str),
}

/// Reads `text` by `layout`.
pub(super) fn read(layout: &Layout, text: &str) -> Result<Parts, TimeError> {
    let mut reader = Reader {
        rest: text.as_bytes(),
        year: 0,
        month: None,
        day: None,
        year_day: None,
        hour: 0,
        minute: 0,
        second: 0,
        nanos: 0,
        afternoon: None,
        zone: TextZone::None,
    };
    let mismatch = |rest: &[u8], part: &str| TimeError::Mismatch {
        text: quote(text.as_bytes()),
        layout: quote(layout.text.as_bytes()),
        rest: quote(rest),
        part: quote(part.as_bytes()),
    };
    let other = |message: String| TimeError::Value { text: quote(text.as_bytes()), message };
    let range = |what: &str| other(format!("{what} out of range"));
    for (index, part) in layout.parts.iter().enumerate() {
        reader.skip(part.literal.as_bytes()).map_err(|rest| mismatch(rest, &part.literal))?;
        let next = layout.parts.get(index + 1);
        let fraction_next = next.is_some_and(|next| matches!(next.field, Field::Fraction { .. }));
        let hold = reader.rest;
        reader.field(part.field, fraction_next).map_err(|misfit| match misfit {
            Misfit::Bad => mismatch(hold, &part.text),
            Misfit::Range(what) => range(what),
        })?;
    }
    reader.skip(layout.tail.as_bytes()).map_err(|rest| mismatch(rest, &layout.tail))?;
    if !reader.rest.is_empty() {
        return Err(other(format!("extra text: {}", quote(reader.rest))));
    }
    let date = reader.date().map_err(|message| other(message.to_owned()))?;
    let hour = match (reader.afternoon, reader.hour) {
        (Some(true), hour) if hour < 12 => hour + 12,
        (Some(false), 12) => 0,
        (_, hour) => hour,
    };
    let second = (hour * 60 + reader.minute) * 60 + reader.second;
    Ok(Parts { date, second, nanos: reader.nanos, zone: reader.zone })
}

impl<'t> Reader<'t> {
    /// Reads literal text, in which one space stands for any number of them. An error is what was left.
    fn skip(&mut self, mut literal: &[u8]) -> Result<(), &'t [u8]> {
        while let Some((&c, after)) = literal.split_first() {
            if c == b' ' {
                if self.rest.first().is_some_and(|&c| c != b' ') {
                    return Err(self.rest);
                }
                literal = trim_spaces(literal);
                self.rest = trim_spaces(self.rest);
                continue;
            }
            match self.rest.split_first() {
                Some((&found, rest)) if found == c => (self.rest, literal) = (rest, after),
                _ => return Err(self.rest),
            }
        }
        Ok(())
    }

    fn field(&mut self, field: Field, fraction_next: bool) -> Result<(), Misfit> {
        match field {
            Field::LongYear => {
                let year = self.take(4)?;
                self.year = atoi(year).filter(|_| year[0].is_ascii_digit()).ok_or(Misfit::Bad)?;
            }
            Field::Year => {
                // Unix time begins on 31 December 1969 in some zones.
                let year = atoi(self.take(2)?).ok_or(Misfit::Bad)?;
                self.year = year + if year >= 69 { 1900 } else { 2000 };
            }
            Field::LongMonth => self.month = Some(self.name(&MONTHS, usize::MAX)? + 1),
            Field::Month => self.month = Some(self.name(&MONTHS, 3)? + 1),
            Field::NumMonth(pad) => self.month = Some(self.number(pad, 1..=12, "month")?),
            Field::LongWeekday => {
                self.name(&WEEKDAYS, usize::MAX)?;
            }
            Field::Weekday => {
                self.name(&WEEKDAYS, 3)?;
            }
            Field::Day(pad) => {
                self.spaces(pad, 1);
                self.day = Some(self.number(pad, 0..=99, "day")?);
            }
            Field::YearDay(pad) => {
                self.spaces(pad, 2);
                self.year_day = Some(self.year_day(pad)?);
            }
            Field::Hour => self.hour = self.number(Pad::None, 0..=23, "hour")?,
            Field::Hour12(pad) => self.hour = self.number(pad, 0..=12, "hour")?,
            Field::Minute(pad) => self.minute = self.number(pad, 0..=59, "minute")?,
            Field::Second(pad) => {
                self.second = self.number(pad, 0..=59, "second")?;
                if !fraction_next && self.fraction_digits() > 0 {
                    self.nanos = self.fraction(self.fraction_digits())?;
                }
            }
            Field::Noon { upper } => {
                let [am, pm] = if upper { [b"AM", b"PM"] } else { [b"am", b"pm"] };
                self.afternoon = match self.take(2)? {
                    text if text == pm => Some(true),
                    // Go remembers both if a layout asks twice, and then the afternoon counts.
                    text if text == am => Some(self.afternoon == Some(true)),
                    _ => return Err(Misfit::Bad),
                };
            }
            Field::ZoneName => self.zone_name()?,
            Field::Offset(shape) => self.offset(shape)?,
            Field::Fraction { digits, trim: false, .. } => self.nanos = self.fraction(digits)?,
            // May be missing, and may be longer than the layout says.
            Field::Fraction { .. } => match self.fraction_digits() {
                0 => {}
                digits => self.nanos = self.fraction(digits)?,
            },
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'t [u8], Misfit> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Misfit::Bad)?;
        self.rest = rest;
        Ok(taken)
    }

    fn spaces(&mut self, pad: Pad, at_most: usize) {
        for _ in 0..at_most {
            if pad == Pad::Space
                && let Some(rest) = self.rest.strip_prefix(b" ")
            {
                self.rest = rest;
            }
        }
    }

    /// One or two digits; exactly two if padded with zeros.
    fn number(
        &mut self,
        pad: Pad,
        valid: std::ops::RangeInclusive<i64>,
        what: &'static str,
    ) -> Result<i64, Misfit> {
        let digits = self.rest.iter().take(2).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits == 1 && pad == Pad::Zero {
            return Err(Misfit::Bad);
        }
        let value = atoi(self.take(digits)?).ok_or(Misfit::Bad)?;
        if valid.contains(&value) { Ok(value) } else { Err(Misfit::Range(what)) }
    }

    /// Up to three digits; exactly three if padded with zeros.
    fn year_day(&mut self, pad: Pad) -> Result<i64, Misfit> {
        let digits = self.rest.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits != 3 && pad == Pad::Zero {
            return Err(Misfit::Bad);
        }
        atoi(self.take(digits)?).ok_or(Misfit::Bad)
    }

    /// One of the names, in any case, of which only the first `letters` count.
    fn name(&mut self, names: &[&str], letters: usize) -> Result<i64, Misfit> {
        for (index, name) in (0..).zip(names) {
            let name = &name.as_bytes()[..name.len().min(letters)];
            if self.rest.get(..name.len()).is_some_and(|text| text.eq_ignore_ascii_case(name)) {
                self.rest = &self.rest[name.len()..];
                return Ok(index);
            }
        }
        Err(Misfit::Bad)
    }

    /// The number of digits behind a point or comma, if a fraction stands next.
    fn fraction_digits(&self) -> usize {
        match self.rest.split_first() {
            Some((b'.' | b',', rest)) => rest.iter().take_while(|b| b.is_ascii_digit()).count(),
            _ => 0,
        }
    }

    /// A point or comma and exactly this many digits, as nanoseconds; more than nine digits are cut.
    fn fraction(&mut self, digits: usize) -> Result<i64, Misfit> {
        let text = self.take(digits.saturating_add(1))?;
        if !matches!(text[0], b'.' | b',') {
            return Err(Misfit::Bad);
        }
        let digits = digits.min(9);
        let value = atoi(&text[1..=digits]).ok_or(Misfit::Bad)?;
        if value < 0 {
            return Err(Misfit::Range("fractional second"));
        }
        Ok((digits..9).fold(value, |value, _| value * 10))
    }

    fn offset(&mut self, shape: Offset) -> Result<(), Misfit> {
        if shape.z
            && let Some(rest) = self.rest.strip_prefix(b"Z")
        {
            self.rest = rest;
            self.zone = TextZone::Utc;
            return Ok(());
        }
        let width = if shape.colon { 3 } else { 2 };
        let text = self.take(1 + 2 + (shape.parts - 1) * width)?;
        if shape.colon && (1..shape.parts).any(|index| text[index * width] != b':') {
            return Err(Misfit::Bad);
        }
        // People do write offsets of 24 hours and 60 minutes.
        let limits =
            [(24, "time zone offset hour"), (60, "time zone offset minute"), (60, "time zone offset second")];
        let (mut seconds, mut misfit) = (0, None);
        for (index, (limit, what)) in limits.into_iter().enumerate() {
            seconds *= 60;
            if index >= shape.parts {
                continue;
            }
            let end = 3 + index * width;
            let digits = &text[end - 2..end];
            let Some(value) = atoi(digits).filter(|_| digits.iter().all(u8::is_ascii_digit)) else {
                // What was out of range before is the worse news.
                misfit = misfit.or(Some(Misfit::Bad));
                break;
            };
            if value > limit {
                misfit = Some(Misfit::Range(what));
            }
            seconds += value;
        }
        let sign = match (misfit, text[0]) {
            (Some(misfit), _) => return Err(misfit),
            (None, b'+') => 1,
            (None, b'-') => -1,
            _ => return Err(Misfit::Bad),
        };
        // Of several zones in one text UTC wins over an offset and an offset over a name.
        if !matches!(self.zone, TextZone::Utc) {
            self.zone = TextZone::Offset(sign * seconds);
        }
        Ok(())
    }

    fn zone_name(&mut self) -> Result<(), Misfit> {
        if let Some(rest) = self.rest.strip_prefix(b"UTC") {
            self.rest = rest;
            self.zone = TextZone::Utc;
            return Ok(());
        }
        let length = zone_name_length(self.rest).ok_or(Misfit::Bad)?;
        let name = self.take(length)?;
        if matches!(self.zone, TextZone::None | TextZone::Name(_)) {
            self.zone = TextZone::Name(String::from_utf8_lossy(name).into_owned());
        }
        Ok(())
    }

    fn date(&self) -> Result<Date, &'static str> {
        let date = |year: i64, month: i64, day: i64| {
            Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
        };
        let Some(year_day) = self.year_day else {
            let day = date(self.year, self.month.unwrap_or(1), self.day.unwrap_or(1));
            return day.ok_or("day out of range");
        };
        let found = date(self.year, 1, 1)
            .filter(|_| year_day >= 1)
            .and_then(|first| first.checked_add(jiff::Span::new().days(year_day - 1)).ok())
            .filter(|found| i64::from(found.year()) == self.year)
            .ok_or("day-of-year out of range")?;
        if self.month.is_some_and(|month| month != i64::from(found.month())) {
            return Err("day-of-year does not match month");
        }
        if self.day.is_some_and(|day| day != i64::from(found.day())) {
            return Err("day-of-year does not match day");
        }
        Ok(found)
    }
}

/// The length of what looks like the abbreviation of a zone: `CET`, `CEST`, `GMT+3`, `-03`.
fn zone_name_length(text: &[u8]) -> Option<usize> {
    if text.len() < 3 {
        return None;
    }
    if text.starts_with(b"ChST") || text.starts_with(b"MeST") {
        return Some(4);
    }
    if let Some(rest) = text.strip_prefix(b"GMT") {
        return Some(3 + signed_hours_length(rest).unwrap_or(0));
    }
    if matches!(text[0], b'+' | b'-') {
        return signed_hours_length(text);
    }
    match text.iter().take(6).take_while(|b| b.is_ascii_uppercase()).count() {
        3 => Some(3),
        4 if text[3] == b'T' || text.starts_with(b"WITA") => Some(4),
        5 if text[4] == b'T' => Some(5),
        _ => None,
    }
}

/// The length of a sign and a number of at most 23.
fn signed_hours_length(text: &[u8]) -> Option<usize> {
    let (sign, rest) = text.split_first()?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let valid = matches!(sign, b'+' | b'-')
        && digits > 0
        && rest[..digits].iter().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b - b'0')))
            <= Some(23);
    valid.then_some(1 + digits)
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|&&b| b == b' ').count()..]
}

/// A decimal number that may have a sign.
fn atoi(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    // Go takes a lone sign for zero.
    if matches!(text, "" | "+" | "-") { Some(0) } else { text.parse().ok() }
}
