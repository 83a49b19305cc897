//! Time zones, and how Go picks an offset for a local time.

use jiff::Timestamp as Instant;
use jiff::tz::TimeZone;

use super::TimeError;

/// A time zone: UTC, a fixed offset, or one of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The zone of the machine.
    pub fn local() -> Self {
        Self(TimeZone::system())
    }

    /// A zone without a name at a distance from UTC, in seconds east; at most a day either way.
    pub fn fixed(seconds: i32) -> Result<Self, TimeError> {
        jiff::tz::Offset::from_seconds(seconds)
            .map(|offset| Self(TimeZone::fixed(offset)))
            .map_err(|_| TimeError::UnknownZone(format!("{seconds}s")))
    }

    /// A zone by its IANA name (`Europe/Berlin`); `Local` is the machine's, `UTC` and the empty text are UTC.
    pub fn named(name: &str) -> Result<Self, TimeError> {
        match name {
            "" | "UTC" => Ok(Self::utc()),
            "Local" => Ok(Self::local()),
            _ => TimeZone::get(name).map(Self).map_err(|_| TimeError::UnknownZone(name.to_owned())),
        }
    }

    /// Seconds east of UTC at a time in Unix seconds, and the zone's abbreviation then; a fixed zone has none.
    pub(super) fn at(&self, unix: i64) -> (i64, String) {
        let Ok(instant) = Instant::from_second(unix) else {
            return (0, String::new());
        };
        let info = self.0.to_offset_info(instant);
        let fixed = self.0.to_fixed_offset().is_ok() && self.0 != TimeZone::UTC;
        let name = if fixed { String::new() } else { info.abbreviation().to_owned() };
        (i64::from(info.offset().seconds()), name)
    }

    fn offset(&self, unix: i64) -> i64 {
        Instant::from_second(unix).map_or(0, |at| i64::from(self.0.to_offset(at).seconds()))
    }

    /// The Unix seconds of a local time, given as if it were UTC. In the gap and the overlap of a change of
    /// clocks it is the offset that Go takes.
    pub(super) fn resolve(&self, local: i64) -> i64 {
        local - self.offset(local - self.offset(local))
    }

    /// The offset that an abbreviation such as `CEST` means in this zone: preferably at this local time.
    pub(super) fn offset_by_name(&self, name: &str, local: i64) -> Option<i64> {
        let instant = Instant::from_second(local).ok()?;
        let around = self.0.preceding(instant).take(4).chain(self.0.following(instant).take(4));
        let here = self.at(local);
        let near = around.map(|t| (i64::from(t.offset().seconds()), t.abbreviation().to_owned()));
        let in_effect = std::iter::once(here)
            .chain(near)
            .filter(|(_, n)| n == name)
            .map(|(offset, _)| self.at(local - offset))
            .find(|(_, n)| n == name);
        if let Some((offset, _)) = in_effect {
            return Some(offset);
        }
        let offset_of = |t: &jiff::tz::TimeZoneTransition<'_>| {
            (t.abbreviation() == name).then(|| i64::from(t.offset().seconds()))
        };
        let before = self.0.preceding(instant).filter_map(|t| offset_of(&t)).last();
        // Transitions to come have no end.
        before.or_else(|| self.0.following(instant).take(100).find_map(|t| offset_of(&t)))
    }
}
