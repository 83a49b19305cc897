//! Field types of configuration files: durations and sizes as operators write them, and secrets that never get out.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, not negative: Go form (`1h30m`, `1.5s`, `250ms`), Prometheus form (`7d`, `1w`, `1y`), or `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// Whole seconds.
    pub const fn from_secs(seconds: u64) -> Duration {
        Duration(std::time::Duration::from_secs(seconds))
    }

    /// Milliseconds.
    pub const fn from_millis(millis: u64) -> Duration {
        Duration(std::time::Duration::from_millis(millis))
    }

    /// The span for std and tokio.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whether it is zero, which most limits read as "off".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let problem = || format!("`{text}` is not a duration: write it like 30s, 1h30m, 250ms or 7d");
        let bytes = text.trim().as_bytes();
        if bytes == b"0" {
            return Ok(Duration::default());
        }
        let (mut at, mut nanos) = (0, 0.0_f64);
        let mut whole: u128 = 0;
        if bytes.is_empty() {
            return Err(problem());
        }
        while at < bytes.len() {
            let number = at;
            while at < bytes.len() && (bytes[at].is_ascii_digit() || bytes[at] == b'.') {
                at += 1;
            }
            let digits = text.trim().get(number..at).filter(|d| !d.is_empty()).ok_or_else(problem)?;
            let unit = at;
            while at < bytes.len() && !(bytes[at].is_ascii_digit() || bytes[at] == b'.') {
                at += 1;
            }
            let scale: u64 = match text.trim().get(unit..at).ok_or_else(problem)? {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                "d" => 86_400_000_000_000,
                "w" => 604_800_000_000_000,
                "y" => 31_536_000_000_000_000,
                _ => return Err(problem()),
            };
            match digits.parse::<u64>() {
                Ok(n) => whole = whole.saturating_add(u128::from(n) * u128::from(scale)),
                Err(_) => nanos += digits.parse::<f64>().map_err(|_| problem())? * scale as f64,
            }
        }
        // Go's and Prometheus' durations end at 292 years.
        let total = whole.saturating_add(nanos.round() as u128);
        match u64::try_from(total).ok().filter(|&n| n <= i64::MAX as u64) {
            Some(n) => Ok(Duration(std::time::Duration::from_nanos(n))),
            None => Err(format!("`{text}` is too long a duration: the longest is 292y")),
        }
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> std::time::Duration {
        duration.0
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Duration {
        Duration(duration)
    }
}

/// Go's form: `1h30m0s`, `1.5s`, `250ms`, `0s`.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let decimal = |f: &mut fmt::Formatter<'_>, value: u128, unit: u128, name: &str| {
            let width = unit.ilog10() as usize;
            let fraction = format!("{:0width$}", value % unit);
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() || width == 0 { "" } else { "." };
            let fraction = if width == 0 { "" } else { fraction };
            write!(f, "{}{point}{fraction}{name}", value / unit)
        };
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => decimal(f, nanos, 1, "ns"),
            1_000..1_000_000 => decimal(f, nanos, 1_000, "µs"),
            1_000_000..1_000_000_000 => decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                decimal(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A number of bytes: `1048576`, `64KB`, `1.5GiB`; units are powers of 1024 with and without the `i`, as Loki reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// KiB.
    pub const fn kib(n: u64) -> ByteSize {
        ByteSize(n << 10)
    }

    /// MiB.
    pub const fn mib(n: u64) -> ByteSize {
        ByteSize(n << 20)
    }

    /// Bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes, capped at what a `usize` holds.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads the text form, in any case, with or without a space before the unit.
    pub fn parse(text: &str) -> Result<ByteSize, String> {
        let problem = || format!("`{text}` is not a size: write it like 1048576, 64KB or 1.5GiB");
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(problem()),
        };
        if let Ok(n) = number.parse::<u64>() {
            let bytes = n.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large a size"))?;
            return Ok(ByteSize(bytes));
        }
        let n: f64 = number.parse().map_err(|_| problem())?;
        Ok(ByteSize((n * (1u64 << shift) as f64).round() as u64))
    }
}

/// The largest unit that divides evenly: `64KB`, `1MB`, `1500`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
        let fits = |shift: u32| self.0 != 0 && self.0.is_multiple_of(1 << shift);
        match UNITS.iter().find(|(shift, _)| fits(*shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        ByteSize::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Text that must not be seen: printed, logged and serialized as `<secret>`; [`Secret::reveal`] gives it to the one place
/// that needs it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "<secret>" }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

/// A section that is switched on by its key alone, as the Collector's `grpc:` is: absent is [`None`](Option::None),
/// present without a body is `T::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Present<T>(pub Option<T>);

impl<T> Default for Present<T> {
    fn default() -> Present<T> {
        Present(None)
    }
}

impl<T: Serialize> Serialize for Present<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Present<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Present<T>, D::Error> {
        T::deserialize(deserializer).map(|section| Present(Some(section)))
    }
}
