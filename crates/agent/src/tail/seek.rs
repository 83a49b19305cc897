//! What became of a file that is not at its path any more, and of those that came and went at that path unseen.
//!
//! A generation is found by what it is (place and beginning) whatever it is called; a copy of it, compressed or not, by its beginning alone.
//! What nobody has seen before, is named as rotation names files, and was written to since the path was last looked at, is a generation
//! that was missed.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::archive::Format;
use super::content::{Content, Identified as _};
use super::followed::Wanted;
use super::poller::Poller;
use super::rotated::{beside, originals};
use crate::positions::{Identity, KnownFile};

/// Clocks of file systems are coarse.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

impl Poller {
    /// Looks for earlier generations of `wanted`, whose path was last looked at at `since`, or as long ago as is remembered. What is found
    /// goes on where it was left.
    pub(super) fn seek(&mut self, wanted: &Wanted, since: Option<SystemTime>) {
        let known = self.positions.known_at(&wanted.path, wanted.job);
        if known.is_empty() && since.is_none() {
            return;
        }
        let current = Content::plain(&wanted.path).ok();
        let here = current.as_ref().and_then(|file| file.place().ok());
        // Inodes are used again: what lies there now may be another file.
        let is_here =
            |k: &KnownFile| current.as_ref().is_some_and(|file| k.identity.is_of(file).unwrap_or(false));
        let last_seen = || known.iter().map(|k| k.seen).max().and_then(from_epoch);
        let since = since.or_else(last_seen).and_then(|at| at.checked_sub(CLOCK_SLACK));
        let is_open = |poller: &Self, place| poller.by_seat.contains_key(&(place, wanted.job));
        let mut lost: Vec<KnownFile> = known
            .into_iter()
            .filter(|k| k.identity.is_telling() && !is_here(k))
            .filter(|k| !is_open(self, k.identity.place()))
            .collect();
        let inodes: HashSet<u64> = lost.iter().map(|k| k.identity.place().1).collect();
        let mut siblings = beside(&wanted.path, &inodes);
        // The file itself before any copy of it, which may be incomplete.
        siblings.sort_by_key(|(_, m)| !lost.iter().any(|k| k.identity.place() == (m.dev(), m.ino())));
        for (path, metadata) in siblings {
            let place = (metadata.dev(), metadata.ino());
            let is_done = self.done.get(&place) == Some(&metadata.len());
            let is_recent = since.is_some_and(|since| metadata.modified().is_ok_and(|at| at >= since));
            if is_done || Some(place) == here || is_open(self, place) || (lost.is_empty() && !is_recent) {
                continue;
            }
            // A target that wants it by its own name has it opened by itself.
            let has_target = self.target_of(&path).any(|t| t.job == wanted.job);
            let Ok(content) = self.content(&path, wanted.job, Format::of(&path)) else { continue };
            let begins = |k: &KnownFile| k.identity.begins(&content).unwrap_or(false);
            let holds = |k: &KnownFile| content.size().is_ok_and(|size| size >= k.offset);
            let is_known = self.positions.is_known(&content, wanted.job);
            let found = lost.iter().position(|k| match is_known {
                true => k.identity.place() == place,
                false => begins(k) && holds(k),
            });
            match found {
                Some(at) => {
                    let old = lost.remove(at);
                    if !is_known && !self.adopt(&old, &content) {
                        continue;
                    }
                    tracing::info!(path = %path.display(), was = %wanted.path.display(), "found a file that was rotated away");
                }
                None if is_known || has_target || !is_recent || self.is_copy_of_any(wanted, &content) => {
                    continue;
                }
                None => {
                    self.options.metrics.missed_generations.inc();
                    tracing::info!(path = %path.display(), was = %wanted.path.display(), "found a generation that came and went unseen");
                }
            }
            self.add_left(wanted, &path, content);
        }
        for gone in lost {
            tracing::debug!(path = %gone.path.display(), offset = gone.offset, "a file that was read is gone");
        }
    }

    /// Follows a generation, with the labels of the path that it had and under that path's name in the positions.
    fn add_left(&mut self, wanted: &Wanted, path: &Path, content: Content) {
        if let Some(id) = self.add(wanted.clone(), content, path) {
            self.leave(id);
        }
    }

    fn adopt(&self, old: &KnownFile, content: &Content) -> bool {
        let Ok(new) = Identity::of(content) else { return false };
        self.positions.adopt(&old.identity, new);
        true
    }

    /// Looks for files that were read when the agent last ran, and whose path leads nowhere now.
    pub(super) fn seek_absent(&mut self) {
        for known in self.positions.known() {
            if known.path.exists() {
                continue;
            }
            let found: Vec<_> = self
                .target_of(&known.path)
                .map(|target| Wanted::of_target(known.path.clone(), target))
                .collect();
            found.into_iter().for_each(|wanted| self.seek(&wanted, None));
        }
    }

    /// Whether a file that nobody has read is a copy of one that is being read, as copytruncate makes them. One of a file that is not
    /// read any more goes on where that was left.
    pub(super) fn is_copy(&self, wanted: &Wanted, content: &Content) -> bool {
        if self.positions.is_known(content, wanted.job) {
            return false;
        }
        let originals = originals(&wanted.path);
        if !originals.is_empty() && self.is_left_copy(wanted, content) {
            return true;
        }
        for original in originals {
            if self.is_open_copy(&original, wanted.job, content) {
                return true;
            }
            let here = std::fs::metadata(&original).ok().map(|m| (m.dev(), m.ino()));
            let holds = |k: &KnownFile| {
                k.identity.is_telling()
                    && !self.by_seat.contains_key(&(k.identity.place(), wanted.job))
                    && k.identity.begins(content).unwrap_or(false)
                    && content.size().is_ok_and(|size| size >= k.offset)
            };
            if let Some(old) = self.positions.known_at(&original, wanted.job).into_iter().find(holds) {
                // While the original lies where it lay it is the one that is read, once it is opened.
                let is_there = here == Some(old.identity.place())
                    && Content::plain(&original).is_ok_and(|file| old.identity.is_of(&file).unwrap_or(false));
                return is_there || !self.adopt(&old, content);
            }
        }
        false
    }

    fn is_open_copy(&self, original: &Path, job: usize, content: &Content) -> bool {
        let open =
            self.by_path.get(&(original.to_owned(), job)).and_then(|id| self.files.get(id)?.file.as_ref());
        open.is_some_and(|file| {
            file.identity().is_telling() && file.identity().begins(content).unwrap_or(false)
        })
    }

    /// Whether something that nobody has read is a copy of what is at the path now, or of what is held open and has left its path.
    fn is_copy_of_any(&self, wanted: &Wanted, content: &Content) -> bool {
        let is_copy =
            |identity: &Identity| identity.is_telling() && identity.begins(content).unwrap_or(false);
        let here = Content::plain(&wanted.path).and_then(|here| Identity::of(&here));
        here.is_ok_and(|here| is_copy(&here)) || self.is_left_copy(wanted, content)
    }

    fn is_left_copy(&self, wanted: &Wanted, content: &Content) -> bool {
        let left = self.files.values().filter(|f| f.leaving.is_some() && f.wanted.job == wanted.job);
        let mut left =
            left.filter(|f| f.wanted.path.parent() == wanted.path.parent()).filter_map(|f| f.file.as_ref());
        left.any(|file| file.identity().is_telling() && file.identity().begins(content).unwrap_or(false))
    }

    /// A file was truncated. If it was copied before, reading goes on in the copy, and the file itself is opened anew; if not, what had not
    /// been read of it is lost.
    pub(super) fn find_copy(&mut self, id: u64, since: SystemTime) {
        let Some(followed) = self.files.get(&id) else { return };
        let Some(file) = &followed.file else { return };
        let (wanted, identity, offset) = (followed.wanted.clone(), file.identity(), file.offset());
        let unread = followed.size.saturating_sub(offset);
        if identity.is_telling() {
            for (path, metadata) in beside(&wanted.path, &HashSet::new()) {
                let place = (metadata.dev(), metadata.ino());
                if place == followed_place(self, id) || self.by_seat.contains_key(&(place, wanted.job)) {
                    continue;
                }
                let Ok(copy) = self.content(&path, wanted.job, Format::of(&path)) else { continue };
                let is_copy =
                    identity.begins(&copy).unwrap_or(false) && copy.size().is_ok_and(|size| size >= offset);
                if is_copy && !self.positions.is_known(&copy, wanted.job) && self.go_on_in(id, copy) {
                    tracing::info!(path = %wanted.path.display(), copy = %path.display(), "file was truncated: going on in its copy");
                    return self.open_here(wanted, Some(since));
                }
            }
        }
        self.options.metrics.lost_bytes.inc_by(unread);
        if let Some(followed) = self.files.get_mut(&id) {
            followed.size = 0;
        }
        self.disquiet(id);
        if unread > 0 {
            tracing::error!(path = %wanted.path.display(), bytes = unread, "file was truncated before it was read");
        }
    }

    fn go_on_in(&mut self, id: u64, copy: Content) -> bool {
        let Some(followed) = self.files.get_mut(&id) else { return false };
        let (old, path) = (followed.seat(), (followed.wanted.path.clone(), followed.wanted.job));
        let Some(file) = &mut followed.file else { return false };
        if file.go_on_in(copy, &self.positions).is_err() {
            return false;
        }
        followed.place = file.place();
        let new = followed.seat();
        self.by_seat.remove(&old);
        self.by_seat.insert(new, id);
        self.by_path.remove(&path);
        self.leave(id);
        true
    }

    /// The file has left its path: it is read to its end and then closed.
    pub(super) fn leave(&mut self, id: u64) {
        if let Some(followed) = self.files.get_mut(&id) {
            followed.leaving = Some(Instant::now());
            // Its path's series are those of the file that is there now.
            followed.gauges = Default::default();
        }
        self.disquiet(id);
    }
}

fn followed_place(poller: &Poller, id: u64) -> (u64, u64) {
    poller.files.get(&id).map(|f| f.place).unwrap_or_default()
}

fn from_epoch(seconds: i64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}
