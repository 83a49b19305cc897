//! Pipeline stages: what is done to each line between reading and sending.
//!
//! A `Pipeline` is compiled from `pipeline_stages` and is fed one `Entry` after the other; what comes out is appended to a
//! list. It is synchronous and knows no clock but the one it is told. Most stages change or drop the entry at hand
//! (`Edit`); some keep entries to themselves for a while (`Hold`).

mod compile;
mod cri;
mod custom;
mod decolorize;
mod docker;
mod drop;
#[cfg(test)]
mod examples;
mod flat_json;
mod fudge;
mod go_json;
mod json;
mod json_path;
mod label_cache;
mod labels;
mod limit;
mod logfmt;
mod matching;
mod metadata;
mod metrics;
mod multiline;
mod output;
mod pack;
#[cfg(test)]
mod recorded;
mod regex;
mod replace;
mod sampling;
mod selector;
mod sprig;
mod sprig_text;
mod template;
mod tenant;
#[cfg(test)]
mod tests;
mod timestamp;
mod watch;
mod windows_event;

use std::time::Instant;

pub use compile::begins_with_docker;
pub use custom::CustomMetrics;
pub(crate) use docker::Record as DockerRecord;
pub(crate) use timestamp::read_rfc3339;
pub(crate) use watch::{Change, Field, Outcome, Seen, Watch};

use crate::entry::Entry;
use crate::extracted::Extracted;

/// What a stage makes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on.
    Keep,
    /// It ends here; the stage has counted it.
    Drop,
}

/// A stage that changes or drops the entry it is given.
pub(crate) trait Edit: Send {
    /// Looks at one entry.
    fn edit(&mut self, entry: &mut Entry, now: Instant) -> Verdict;

    /// Until when reading should pause, for a stage that slows its pipeline down.
    fn pause(&self) -> Option<Instant> {
        None
    }
}

/// A stage that may keep entries and hand them on later, joined or changed.
pub(crate) trait Hold: Send {
    /// Takes one entry; what goes on now is appended to `out`.
    fn take(&mut self, entry: Entry, now: Instant, out: &mut Vec<Entry>);

    /// Hands on what has waited long enough; everything if there is no `now`.
    fn release(&mut self, now: Option<Instant>, out: &mut Vec<Entry>);

    /// Until when reading should pause.
    fn pause(&self) -> Option<Instant> {
        None
    }
}

/// A compiled stage.
pub(crate) enum Stage {
    /// Entries pass through it.
    Edit(Box<dyn Edit>),
    /// Entries may stay in it.
    Hold(Box<dyn Hold>),
}

impl Stage {
    /// A stage that entries pass through.
    fn edit(stage: impl Edit + 'static) -> Option<Self> {
        Some(Self::Edit(Box::new(stage)))
    }

    /// A stage that entries may stay in.
    fn hold(stage: impl Hold + 'static) -> Option<Self> {
        Some(Self::Hold(Box::new(stage)))
    }
}

/// The stages of one job, in order, with what they remember between lines.
#[derive(Default)]
pub struct Pipeline {
    stages: Vec<Stage>,
    /// Room for extracted values, used again for each line.
    spare: Extracted,
}

impl Pipeline {
    /// Runs all stages over one line; what comes out, of this line or of earlier ones, is appended to `out`.
    pub fn run(&mut self, mut entry: Entry, now: Instant, out: &mut Vec<Entry>) {
        entry.extracted = std::mem::take(&mut self.spare);
        entry.extracted.start(&entry.labels);
        let first = out.len();
        self.run_from(0, entry, now, out);
        self.reclaim(out, first);
    }

    /// Hands on what has waited long enough for more lines. To be called a few times a second.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Entry>) {
        self.release(Some(now), now, out);
    }

    /// Hands on everything that waits for more lines: there will be none.
    pub fn finish(&mut self, now: Instant, out: &mut Vec<Entry>) {
        self.release(None, now, out);
    }

    /// Until when a stage wants no more lines.
    pub fn pause(&self) -> Option<Instant> {
        let pauses = self.stages.iter().filter_map(|stage| match stage {
            Stage::Edit(stage) => stage.pause(),
            Stage::Hold(stage) => stage.pause(),
        });
        pauses.max()
    }

    /// Runs the stages as part of another pipeline: values that were extracted stay.
    fn run_inside(&mut self, entry: Entry, now: Instant, out: &mut Vec<Entry>) {
        self.run_from(0, entry, now, out);
    }

    /// As [`Pipeline::tick`] and [`Pipeline::finish`], as part of another pipeline.
    fn release_inside(&mut self, due: Option<Instant>, out: &mut Vec<Entry>) {
        let now = due.unwrap_or_else(Instant::now);
        self.release_from(due, now, out);
    }

    fn run_from(&mut self, first: usize, mut entry: Entry, now: Instant, out: &mut Vec<Entry>) {
        for at in first..self.stages.len() {
            match &mut self.stages[at] {
                Stage::Edit(stage) => {
                    if stage.edit(&mut entry, now) == Verdict::Drop {
                        entry.tickets.done();
                        self.spare = entry.extracted;
                        return;
                    }
                }
                Stage::Hold(stage) => {
                    let mut released = Vec::new();
                    stage.take(entry, now, &mut released);
                    released.into_iter().for_each(|entry| self.run_from(at + 1, entry, now, out));
                    return;
                }
            }
        }
        out.push(entry);
    }

    fn release(&mut self, due: Option<Instant>, now: Instant, out: &mut Vec<Entry>) {
        let first = out.len();
        self.release_from(due, now, out);
        self.reclaim(out, first);
    }

    fn release_from(&mut self, due: Option<Instant>, now: Instant, out: &mut Vec<Entry>) {
        for at in 0..self.stages.len() {
            if let Stage::Hold(stage) = &mut self.stages[at] {
                let mut released = Vec::new();
                stage.release(due, &mut released);
                released.into_iter().for_each(|entry| self.run_from(at + 1, entry, now, out));
            }
        }
    }

    /// Takes back the room for extracted values of entries that are through.
    fn reclaim(&mut self, out: &mut [Entry], first: usize) {
        for entry in &mut out[first..] {
            self.spare = std::mem::take(&mut entry.extracted);
        }
    }
}
