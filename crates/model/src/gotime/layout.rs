//! What the parts of a layout mean: `Jan`, `_2`, `15` and the rest of Go's reference time.

/// How a number narrower than its field is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pad {
    None,
    Space,
    Zero,
}

/// A part of a layout that stands for a part of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    LongYear,
    Year,
    LongMonth,
    Month,
    NumMonth(Pad),
    LongWeekday,
    Weekday,
    Day(Pad),
    YearDay(Pad),
    Hour,
    Hour12(Pad),
    Minute(Pad),
    Second(Pad),
    Noon { upper: bool },
    ZoneName,
    Offset(Offset),
    Fraction { digits: usize, comma: bool, trim: bool },
}

/// The shape of a numeric zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    /// `Z` stands for UTC.
    pub(super) z: bool,
    pub(super) colon: bool,
    /// Hours only, hours and minutes, or seconds too: 1 to 3.
    pub(super) parts: usize,
}

const fn offset(z: bool, colon: bool, parts: usize) -> Field {
    Field::Offset(Offset { z, colon, parts })
}

/// All fields of fixed text; where one begins another, the longer stands first.
const FIELDS: [(&str, Field); 33] = [
    ("January", Field::LongMonth),
    ("Jan", Field::Month),
    ("Monday", Field::LongWeekday),
    ("Mon", Field::Weekday),
    ("MST", Field::ZoneName),
    ("01", Field::NumMonth(Pad::Zero)),
    ("02", Field::Day(Pad::Zero)),
    ("03", Field::Hour12(Pad::Zero)),
    ("04", Field::Minute(Pad::Zero)),
    ("05", Field::Second(Pad::Zero)),
    ("06", Field::Year),
    ("002", Field::YearDay(Pad::Zero)),
    ("15", Field::Hour),
    ("1", Field::NumMonth(Pad::None)),
    ("2006", Field::LongYear),
    ("2", Field::Day(Pad::None)),
    ("_2", Field::Day(Pad::Space)),
    ("__2", Field::YearDay(Pad::Space)),
    ("3", Field::Hour12(Pad::None)),
    ("4", Field::Minute(Pad::None)),
    ("5", Field::Second(Pad::None)),
    ("PM", Field::Noon { upper: true }),
    ("pm", Field::Noon { upper: false }),
    ("-070000", offset(false, false, 3)),
    ("-07:00:00", offset(false, true, 3)),
    ("-0700", offset(false, false, 2)),
    ("-07:00", offset(false, true, 2)),
    ("-07", offset(false, false, 1)),
    ("Z070000", offset(true, false, 3)),
    ("Z07:00:00", offset(true, true, 3)),
    ("Z0700", offset(true, false, 2)),
    ("Z07:00", offset(true, true, 2)),
    ("Z07", offset(true, false, 1)),
];

/// The field at the start of a layout and the bytes it takes.
pub(super) fn field_at(layout: &str) -> Option<(usize, Field)> {
    if layout.starts_with(['.', ',']) {
        return fraction_at(layout);
    }
    FIELDS.iter().find_map(|&(text, field)| {
        let after = layout.strip_prefix(text)?;
        let literal = match text {
            // `Janet` and `Money` are words.
            "Jan" | "Mon" => after.starts_with(|c: char| c.is_ascii_lowercase()),
            // An underscore before a year.
            "_2" => after.starts_with("006"),
            _ => false,
        };
        (!literal).then_some((text.len(), field))
    })
}

/// A fraction of a second: a point or comma and only zeros or only nines.
fn fraction_at(layout: &str) -> Option<(usize, Field)> {
    let digit = layout[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let after = layout[1..].trim_start_matches(digit);
    if after.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = layout.len() - after.len() - 1;
    Some((digits + 1, Field::Fraction { digits, comma: layout.starts_with(','), trim: digit == '9' }))
}

/// Month names; the short form is the first three letters.
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Day names; the short form is the first three letters.
pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Go's names for layouts, as package `time` exports them.
pub(super) const NAMED: [(&str, &str); 19] = [
    ("Layout", "01/02 03:04:05PM '06 -0700"),
    ("ANSIC", "Mon Jan _2 15:04:05 2006"),
    ("UnixDate", "Mon Jan _2 15:04:05 MST 2006"),
    ("RubyDate", "Mon Jan 02 15:04:05 -0700 2006"),
    ("RFC822", "02 Jan 06 15:04 MST"),
    ("RFC822Z", "02 Jan 06 15:04 -0700"),
    ("RFC850", "Monday, 02-Jan-06 15:04:05 MST"),
    ("RFC1123", "Mon, 02 Jan 2006 15:04:05 MST"),
    ("RFC1123Z", "Mon, 02 Jan 2006 15:04:05 -0700"),
    ("RFC3339", "2006-01-02T15:04:05Z07:00"),
    ("RFC3339Nano", "2006-01-02T15:04:05.999999999Z07:00"),
    ("Kitchen", "3:04PM"),
    ("Stamp", "Jan _2 15:04:05"),
    ("StampMilli", "Jan _2 15:04:05.000"),
    ("StampMicro", "Jan _2 15:04:05.000000"),
    ("StampNano", "Jan _2 15:04:05.000000000"),
    ("DateTime", "2006-01-02 15:04:05"),
    ("DateOnly", "2006-01-02"),
    ("TimeOnly", "15:04:05"),
];
