//! Minutes of a stream by the level of its entries, so that the volume by level, which every dashboard of logs begins with, reads no rows.

use std::sync::Arc;

use crate::store::codec::{CodecError, Reader, put_str, put_u64};
use crate::store::index::histogram::Histogram;

/// More levels than this are not told apart.
const MAX_LEVELS: usize = 16;

/// The levels of a stream's entries; empty if they are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels(Vec<(Arc<str>, Histogram)>);

/// Notes the levels of the rows of a stream.
#[derive(Debug, Default)]
pub(super) struct LevelNotes {
    levels: Vec<Arc<str>>,
    /// By row.
    rows: Vec<u8>,
}

impl LevelNotes {
    /// Notes the level of the next row; empty for none.
    pub(super) fn add(&mut self, level: &str) {
        let last = self.rows.last().map_or(0, |last| usize::from(*last));
        let is = |known: &Arc<str>| **known == *level;
        let at = match self.levels.get(last) {
            Some(known) if is(known) => Some(last),
            _ => self.levels.iter().position(is),
        };
        let at = at.unwrap_or_else(|| {
            if self.levels.len() < MAX_LEVELS {
                self.levels.push(level.into());
                self.levels.len() - 1
            } else {
                MAX_LEVELS
            }
        });
        self.rows.push(at as u8);
    }

    /// What is known of the rows, given their times and the bytes of their lines; `all` is the histogram of all of them.
    pub(super) fn finish(self, times: &[i64], bytes: &[u32], all: &Histogram) -> Levels {
        if self.rows.len() != times.len() || all.is_empty() || self.rows.contains(&(MAX_LEVELS as u8)) {
            return Levels::default();
        }
        if let [level] = self.levels.as_slice() {
            return Levels(vec![(level.clone(), Histogram::default())]);
        }
        let of = |level: usize| {
            let rows = (0..times.len()).filter(|row| usize::from(self.rows[*row]) == level);
            let (times, bytes): (Vec<i64>, Vec<u32>) = rows.map(|row| (times[row], bytes[row])).unzip();
            Histogram::of(&times, &bytes)
        };
        let levels: Vec<_> =
            self.levels.iter().enumerate().map(|(at, level)| (level.clone(), of(at))).collect();
        let size = levels.iter().map(|(_, histogram)| histogram.bytes().len()).sum();
        if Histogram::is_worth(size, times.len()) { Levels(levels) } else { Levels::default() }
    }
}

impl Levels {
    /// The level that all entries have, `Some("")` if none has any.
    pub fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [(level, _)] => Some(level),
            _ => None,
        }
    }

    /// Each level with its minutes, if there are several; the level is empty for entries without.
    pub fn several(&self) -> Option<&[(Arc<str>, Histogram)]> {
        (self.0.len() > 1).then_some(self.0.as_slice())
    }

    /// How many levels there are; per level its text and, if there are several, the bytes of its histogram, and it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.0.len() as u64);
        for (level, histogram) in &self.0 {
            put_str(out, level);
            if self.0.len() > 1 {
                put_u64(out, histogram.bytes().len() as u64);
                out.extend_from_slice(histogram.bytes());
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = reader.count()?;
        if count > MAX_LEVELS {
            return Err(CodecError::Invalid("levels"));
        }
        let mut levels = Vec::with_capacity(count);
        for _ in 0..count {
            let level = reader.str()?.into();
            let histogram = if count > 1 {
                let length = reader.count()?;
                Histogram::decode(reader.take(length)?)?
            } else {
                Histogram::default()
            };
            levels.push((level, histogram));
        }
        Ok(Self(levels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index::histogram::BUCKET;

    fn notes(levels: &[&str]) -> Levels {
        let times: Vec<i64> = (0..levels.len() as i64).map(|i| i * BUCKET / 100).collect();
        let bytes = vec![3; times.len()];
        let mut notes = LevelNotes::default();
        levels.iter().for_each(|level| notes.add(level));
        let levels = notes.finish(&times, &bytes, &Histogram::new(&times, &bytes));
        let mut out = Vec::new();
        levels.encode(&mut out);
        assert_eq!(Levels::decode(&mut Reader::new(&out)).as_ref(), Ok(&levels));
        assert!((0..out.len()).all(|cut| Levels::decode(&mut Reader::new(&out[..cut])).is_err()));
        levels
    }

    #[test]
    fn levels_have_minutes_of_their_own() {
        assert_eq!(notes(&["info"; 500]).constant(), Some("info"));
        assert_eq!(notes(&[""; 500]).constant(), Some(""));
        let mixed: Vec<&str> = (0..500).map(|i| if i % 3 == 0 { "warn" } else { "" }).collect();
        let mixed = notes(&mixed);
        assert_eq!(mixed.constant(), None);
        let counts = mixed.several().unwrap().iter();
        let counts: Vec<(&str, u64)> =
            counts.map(|(level, minutes)| (&**level, minutes.iter().map(|m| m.entries).sum())).collect();
        assert_eq!(counts, [("warn", 167), ("", 333)]);
        // Too many, or too few rows for what they take.
        let names: Vec<String> = (0..500).map(|i| (i % 20).to_string()).collect();
        assert_eq!(notes(&names.iter().map(String::as_str).collect::<Vec<_>>()), Levels::default());
        assert_eq!(notes(&["a", "b", "c"]), Levels::default());
    }
}
