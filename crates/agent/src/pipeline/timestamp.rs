//! `timestamp`: the entry's time out of an extracted value.

use std::collections::HashMap;

use model::gotime::{Layout, Zone};
use model::{Labels, Timestamp};
use serde::{Deserialize, Serialize};
use service::config::Problems;

use super::{Edit, Verdict};
use crate::entry::Entry;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct TimestampConfig {
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
    Layout(Layout),
}

pub(super) struct SetTimestamp {
    source: String,
    formats: Vec<Format>,
    zone: Zone,
    fudge: Option<Fudge>,
}

impl SetTimestamp {
    pub(super) fn compile(
        config: &TimestampConfig,
        path: &str,
        problems: &mut Problems,
    ) -> Option<Box<dyn Edit>> {
        let before = problems.iter().count();
        if config.source.is_empty() {
            problems.add(format!("{path}.source"), "name the extracted value that holds the time");
        }
        if config.format.is_empty() {
            problems.add(format!("{path}.format"), "give a format such as RFC3339Nano, Unix or a Go layout");
        }
        let zone = match config.location.as_deref().filter(|l| !l.is_empty()).map(Zone::named) {
            None => Zone::utc(),
            Some(Ok(zone)) => zone,
            Some(Err(error)) => {
                problems.add(format!("{path}.location"), error.to_string());
                Zone::utc()
            }
        };
        let fudge = match config.action_on_failure.as_deref() {
            None | Some("" | "fudge") => Some(Fudge::default()),
            Some("skip") => None,
            Some(other) => {
                problems
                    .add(format!("{path}.action_on_failure"), format!("'{other}' is neither fudge nor skip"));
                None
            }
        };
        let formats =
            std::iter::once(&config.format).chain(&config.fallback_formats).map(|f| format(f)).collect();
        let sound = problems.iter().count() == before;
        let stage = Self { source: config.source.clone(), formats, zone, fudge };
        sound.then(|| Box::new(stage) as Box<dyn Edit>)
    }

    fn read(&self, text: &str) -> Option<Timestamp> {
        self.formats.iter().find_map(|format| match format {
            Format::Unix(unit) => read_unix(text, *unit),
            Format::Layout(layout) if layout.has_year() => layout.read(text, &self.zone).ok(),
            Format::Layout(layout) => layout.read_near(text, &self.zone, Timestamp::now()).ok(),
        })
    }
}

impl Edit for SetTimestamp {
    fn edit(&mut self, entry: &mut Entry) -> Verdict {
        let time = entry.extracted.text(&self.source).and_then(|text| self.read(&text));
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
        name => Format::Layout(Layout::named(name).unwrap_or_else(|| Layout::parse(name))),
    }
}

/// A count of `unit` nanoseconds; seconds may have a fraction.
fn read_unix(text: &str, unit: i64) -> Option<Timestamp> {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(unit).map(Timestamp);
    }
    let (whole, fraction) = text.split_once('.').filter(|_| unit == 1_000_000_000)?;
    let whole: i64 = whole.parse().ok()?;
    let digits = format!("{:0<9}", fraction.get(..fraction.len().min(9))?);
    Some(Timestamp(whole.checked_mul(unit)?.checked_add(digits.parse().ok()?)?))
}

/// Stands in for times that cannot be read: the last good time of the same labels, a nanosecond later each.
#[derive(Default)]
pub(super) struct Fudge {
    last: HashMap<Labels, Timestamp>,
}

impl Fudge {
    /// Label sets that are remembered; beyond it all are forgotten, as a rare and harmless event.
    const MAX: usize = 10_000;

    pub(super) fn apply(&mut self, time: Option<Timestamp>, entry: &mut Entry) {
        let labels = entry.labels.clone().build();
        match time {
            Some(time) => {
                if self.last.len() >= Self::MAX && !self.last.contains_key(&labels) {
                    self.last.clear();
                }
                self.last.insert(labels, time);
                entry.timestamp = time;
            }
            None => {
                if let Some(last) = self.last.get_mut(&labels) {
                    *last = last.plus(1);
                    entry.timestamp = *last;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_times() {
        let check = |text, unit, want| assert_eq!(read_unix(text, unit), want, "{text}");
        check("1793620801", 1_000_000_000, Some(Timestamp(1_793_620_801_000_000_000)));
        check("1793620801.5", 1_000_000_000, Some(Timestamp(1_793_620_801_500_000_000)));
        check("1793620801123", 1_000_000, Some(Timestamp(1_793_620_801_123_000_000)));
        check("x", 1, None);
        check("1.5", 1, None);
    }
}
