//! RFC 3339 times, for the legacy push.

/// Reads `2024-01-02T03:04:05.6Z` or with an offset, up to nine fraction digits counting, into
/// nanoseconds since the epoch. `None` if it is no such time or lies outside the years 1677 to 2262.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_at_checked(11)?;
    let year = i64::from(digits(date.get(0..4)?)?);
    let month = i64::from(digits(date.get(5..7)?)?);
    let day = i64::from(digits(date.get(8..10)?)?);
    let separators = (date.get(4..5)?, date.get(7..8)?, date.get(10..11)?);
    let (clock, rest) = time.split_at_checked(8)?;
    let [hour, minute, second] = clock_of(clock)?;
    let (nanos, zone) = fraction(rest)?;
    let offset = offset(zone)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let well_formed = matches!(separators, ("-", "-", "T" | "t" | " "));
    if !well_formed || !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

fn digits(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// `hh:mm:ss`
fn clock_of(text: &str) -> Option<[i64; 3]> {
    let mut out = [0; 3];
    let mut parts = text.split(':');
    for slot in &mut out {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *slot = i64::from(digits(part)?);
    }
    parts.next().is_none().then_some(out)
}

/// `.123…` in nanoseconds, and what follows.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix(['.', ',']) else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (fraction, zone) = rest.split_at(end);
    let nanos = format!("{fraction:0<9}");
    Some((i64::from(digits(nanos.get(..9).filter(|_| end > 0)?)?), zone))
}

/// `Z` or `±hh:mm` in seconds.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * i64::from(hours * 3_600 + minutes * 60))
}

/// Days from 1970-01-01 in the Gregorian calendar (years counted from March, so that the leap day
/// comes last).
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_what_timestamps_write(nanos: i64) {
            prop_assert_eq!(parse(&Timestamp(nanos).to_string()), Some(nanos));
        }

        #[test]
        fn any_text_ends(text in "[0-9TZ:.+é-]{0,40}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn forms() {
        fn check(text: &str, expect: Option<i64>) {
            assert_eq!(parse(text), expect, "{text}");
        }
        check("1970-01-01T00:00:00Z", Some(0));
        check("2024-02-29T23:59:59.5Z", Some(1_709_251_199_500_000_000));
        check("2024-02-29T23:59:59.123456789123+02:00", Some(1_709_243_999_123_456_789));
        check("1969-12-31T19:00:00-05:00", Some(0));
        for bad in [
            "",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-01-01",
            "2023-01-01T00:00:00",
            "2023-01-01T00:00:00.Z",
            "2023-01-01T24:00:00Z",
            "2023-01-01T00:00:00+5:00",
            "9999-01-01T00:00:00Z",
            "+023-01-01T00:00:00Z",
            "2023-01-01T00:00:00Zjunk",
        ] {
            check(bad, None);
        }
    }
}
