//! Rounds of reading: a chunk of each file that has something, in turn, as long as there is room for it.

use std::time::{Duration, Instant};

use service::CancellationToken;

use super::followed::Held;
use super::poller::Poller;

/// What came of one round of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// There is more to read.
    Busy,
    /// There is nothing to read.
    Idle,
    /// The queues are full, or a stage slows its job down.
    Blocked,
}

impl Poller {
    /// Longest time of reading before other things are looked at.
    const ROUND: Duration = Duration::from_millis(50);

    /// Has a file read when its turn comes.
    pub(super) fn enqueue(&mut self, id: u64) {
        if let Some(file) = self.files.get_mut(&id).filter(|f| !f.is_queued) {
            file.is_queued = true;
            self.ready.push_back(id);
        }
    }

    /// Reads a chunk of each file that has something, as long as there is room for it.
    pub(super) fn read_round(&mut self, stop: &CancellationToken) -> Round {
        self.bind_all();
        let begun = Instant::now();
        for _ in 0..self.ready.len() {
            if stop.is_cancelled() || !self.dispatcher.has_room() {
                return Round::Blocked;
            }
            if begun.elapsed() >= Self::ROUND {
                return Round::Busy;
            }
            let Some(id) = self.ready.pop_front() else { break };
            let Some(followed) = self.files.get_mut(&id) else { continue };
            if self.dispatcher.pause(followed.wanted.job).is_some() {
                self.ready.push_back(id);
                continue;
            }
            followed.is_queued = false;
            if self.read(id) {
                self.enqueue(id);
            }
        }
        let mut jobs = self.ready.iter().filter_map(|id| self.files.get(id)).map(|f| f.wanted.job);
        match jobs.next() {
            None => Round::Idle,
            Some(first) if self.dispatcher.pause(first).is_some() => Round::Blocked,
            Some(_) => Round::Busy,
        }
    }

    /// Sees to it that all files that are to be read are known after a crash, by one write for all of them.
    fn bind_all(&mut self) {
        let mut unbound = None;
        for id in &self.ready {
            let Some(file) = self.files.get_mut(id).and_then(|followed| followed.file_mut()) else {
                continue;
            };
            // What was empty is somebody with its first byte. If that cannot be read now, reading will say why.
            if !file.identity().is_telling() {
                let _ = file.identify(&self.positions);
            }
            if !file.is_bound() {
                unbound = Some(file.progress().clone());
            }
        }
        if let Some(progress) = unbound {
            self.positions.bind(&progress);
        }
    }

    /// Reads one chunk of a file and hands its lines on. Whether there may be more.
    fn read(&mut self, id: u64) -> bool {
        let Some(followed) = self.files.get_mut(&id) else { return false };
        if followed.is_let_go() {
            return false;
        }
        let since = followed.looked;
        if followed.file_mut().is_some_and(|file| file.was_truncated().unwrap_or(false)) {
            self.begin_anew(id, since);
        }
        let Some(followed) = self.files.get_mut(&id) else { return false };
        let (is_leaving, is_container) = (followed.leaving.is_some(), followed.wanted.key.is_some());
        let Held::Open(file) = &mut followed.held else { return false };
        let before = file.offset();
        // A container that has ended writes no more; a file that was renamed may get the rest of its last line.
        let last = is_leaving && is_container;
        let ticket = match file.read(&self.positions, last, &mut self.chunk) {
            Ok(ticket) => ticket,
            Err(error) => {
                tracing::warn!(path = %followed.wanted.path.display(), %error, "file cannot be read");
                followed.leaving.get_or_insert_with(Instant::now);
                self.schedule.soon(id, Instant::now());
                return false;
            }
        };
        let lines = &mut self.chunk.lines;
        let more = file.offset() != before || !lines.is_empty();
        let skipping = file.content().is_archive() && !file.content().has_ended();
        if more {
            followed.active = Instant::now();
        }
        let path = followed.wanted.path.to_string_lossy();
        self.dispatcher.note_read(&path, lines);
        for line in lines.drain(..) {
            if let Some(labels) = followed.wanted.labels.of(line.stream) {
                self.dispatcher.dispatch(followed.wanted.job, line, labels, ticket.as_ref());
            }
        }
        if let Some(ticket) = ticket {
            ticket.done(1);
        }
        self.settle(id, false);
        more || skipping
    }
}
