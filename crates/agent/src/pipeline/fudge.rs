//! A stand-in for times that cannot be read.

use hashbrown::HashMap;
use model::{Labels, Timestamp};

use crate::entry::Entry;

/// Remembers the last good time of each label set; where one cannot be read it is that, a nanosecond later each time, so
/// that lines keep their order.
#[derive(Debug, Default)]
pub(super) struct Fudge {
    times: Vec<Timestamp>,
    places: HashMap<Labels, usize>,
    /// Most lines have the labels of the line before.
    latest: Option<(Labels, usize)>,
}

impl Fudge {
    /// Label sets that are remembered; beyond it all are forgotten, as a rare and harmless event.
    const MAX: usize = 10_000;

    /// Sets the entry's time: the one that was read, or a stand-in if there is one.
    pub(super) fn apply(&mut self, time: Option<Timestamp>, entry: &mut Entry) {
        let place = match &self.latest {
            Some((labels, place)) if *labels == entry.labels => Some(*place),
            _ => self.places.get(&entry.labels).copied(),
        };
        match (time, place) {
            (Some(time), Some(place)) => {
                self.times[place] = time;
                entry.timestamp = time;
                self.remember(entry, place);
            }
            (Some(time), None) => {
                if self.times.len() >= Self::MAX {
                    *self = Self::default();
                }
                self.times.push(time);
                let place = self.times.len() - 1;
                self.places.insert(entry.labels.clone(), place);
                entry.timestamp = time;
                self.remember(entry, place);
            }
            (None, Some(place)) => {
                self.times[place] = self.times[place].plus(1);
                entry.timestamp = self.times[place];
            }
            (None, None) => {}
        }
    }

    fn remember(&mut self, entry: &Entry, place: usize) {
        if self.latest.as_ref().is_none_or(|(labels, _)| *labels != entry.labels) {
            self.latest = Some((entry.labels.clone(), place));
        }
    }
}
