//! Files that were truncated. If one was copied before, as copytruncate does, reading goes on in the copy; what no copy holds is
//! lost, and is counted.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use super::content::{Content, Identified as _};
use super::followed::{Followed, Wanted};
use super::poller::Poller;
use super::rotated::{Listings, Sibling, uncompressed};
use crate::positions::Identity;

/// What was known of a file before it was truncated.
struct Before {
    wanted: Wanted,
    place: (u64, u64),
    identity: Identity,
    earlier: Option<Identity>,
    offset: u64,
    /// Bytes that were there and are not read.
    unread: u64,
    names: Vec<std::path::PathBuf>,
}

impl Before {
    /// Whether this holds what was read but for the last lines.
    fn is_short_copy(&self, content: &Content) -> bool {
        let is_earlier = |earlier: Identity| earlier.is_copied_in(content).unwrap_or(false);
        content.size().is_ok_and(|size| size < self.offset) && self.earlier.is_some_and(is_earlier)
    }

    fn of(followed: &Followed) -> Option<Self> {
        let file = followed.file()?;
        Some(Self {
            wanted: followed.wanted.clone(),
            place: followed.place,
            identity: file.identity(),
            earlier: file.earlier(),
            offset: file.offset(),
            unread: followed.size.max(file.offset()).saturating_sub(file.held_from()),
            names: followed.names.clone(),
        })
    }

    fn is_copy(&self, content: &Content) -> bool {
        self.identity.is_copied_in(content).unwrap_or(false)
            && content.size().is_ok_and(|size| size >= self.offset)
    }
}

/// A copy of what a file held before it was truncated.
enum Copied {
    /// It holds all that was read.
    Whole(Content),
    /// It was made before the last lines were read: there is nothing more in it.
    Short(Content),
}

impl Poller {
    /// A file was truncated, and perhaps filled again: it is read from its beginning, and what it held before in its copy.
    pub(super) fn begin_anew(&mut self, id: u64, since: SystemTime) {
        let Some(followed) = self.files.get_mut(&id) else { return };
        let is_leaving = followed.leaving.is_some();
        let Some(file) = followed.file_mut() else { return };
        if file.content().is_archive() {
            // Another was written in its place.
            let _ = file.begin_anew(&self.positions);
            return self.disquiet(id);
        }
        let Some(before) = Before::of(followed) else { return };
        if is_leaving {
            return self.overwritten(id, &before);
        }
        let mut copy = self.copy_of(&before, since);
        if let Some(Copied::Whole(copy)) = copy.take_if(|copy| matches!(copy, Copied::Whole(_)))
            && let Some(now) = self.replace(id, copy)
        {
            let Before { wanted, names, place, .. } = before;
            self.by_path.remove(&(wanted.path.clone(), wanted.job));
            self.leave(id);
            let is_here = std::fs::metadata(&wanted.path).is_ok_and(|m| (m.dev(), m.ino()) == place);
            // What was written since may have left the path as well.
            if !is_here && let Some(left) = self.add(wanted.clone(), now, &wanted.path) {
                self.leave(left);
            }
            return self.open_here(wanted, Some(since), &names);
        }
        let Some(followed) = self.files.get_mut(&id) else { return };
        let (entry, size) = (self.positions.entry(followed.progress()), followed.size);
        followed.size = 0;
        if let Some(Err(error)) = followed.file_mut().map(|file| file.begin_anew(&self.positions)) {
            tracing::warn!(path = %before.wanted.path.display(), %error, "file cannot be read");
        }
        if let (Some(Copied::Short(copy)), Some(entry)) = (copy, entry) {
            let known = self.positions.known_at(&before.wanted.path, before.wanted.job);
            if let Some(old) = known.iter().find(|known| known.id == entry) {
                self.adopt(old, &copy);
                copy.size().into_iter().for_each(|size| self.positions.end_at(entry, size));
            }
        }
        // The copy may be lost, as it took the place of an older one, and yet hold what came after it.
        let gone = self.seek(&before.wanted, Some(since), &before.names);
        if entry.is_some_and(|entry| gone.contains(&entry)) {
            self.note_loss(
                &before,
                size,
                "file was truncated before it was read, and no copy of it was found",
            );
        }
        self.disquiet(id);
    }

    /// The file of a generation that had left its path, a copy say, holds something else now: nobody has the rest of it any more.
    fn overwritten(&mut self, id: u64, before: &Before) {
        let Some(followed) = self.files.get(&id) else { return };
        let Some(file) = followed.file() else { return };
        self.note_loss(before, followed.size, "a rotated file was overwritten before it was read");
        if self.is_open_copy(&before.wanted.path, before.wanted.job, file.content()) {
            // The next copy of what is read at its path: it is gone on in once that is truncated.
            self.remove(id);
            self.done.remove(&before.place);
            return;
        }
        self.options.metrics.missed_generations.inc();
        let Some(followed) = self.files.get_mut(&id) else { return };
        followed.size = 0;
        if let Some(Err(error)) = followed.file_mut().map(|file| file.begin_anew(&self.positions)) {
            tracing::warn!(path = %before.wanted.path.display(), %error, "file cannot be read");
        }
        self.disquiet(id);
    }

    fn note_loss(&self, before: &Before, size: u64, what: &str) {
        self.options.metrics.lost_bytes.inc_by(before.unread);
        let Before { wanted, offset, unread, .. } = before;
        if *unread > 0 {
            tracing::error!(path = %wanted.path.display(), offset, size, bytes = unread, "{what}");
        }
    }

    /// The copy that was made of a file before it was truncated.
    fn copy_of(&mut self, before: &Before, since: SystemTime) -> Option<Copied> {
        let (wanted, mut listings) = (&before.wanted, Listings::default());
        if !before.identity.is_telling() {
            return None;
        }
        let names = std::iter::once(&wanted.path).chain(&before.names);
        let mut siblings: Vec<Sibling> =
            names.flat_map(|name| listings.beside(name, &HashSet::new())).collect();
        siblings.sort_by_key(|sibling| uncompressed(&sibling.path).is_some());
        for Sibling { path, metadata, .. } in siblings {
            let at = (metadata.dev(), metadata.ino());
            let is_half = || uncompressed(&path).is_some_and(|plain| plain.exists());
            if at == before.place || is_half() {
                continue;
            }
            // The copy that was made the last time may have been overwritten by this one.
            if let Some(other) = self.by_seat.get(&(at, wanted.job)).copied() {
                let mut file = self.files.get_mut(&other).filter(|f| f.leaving.is_some());
                let file = file.as_mut().and_then(|f| f.file_mut()).filter(|f| !f.content().is_archive());
                if file.is_some_and(|file| file.was_truncated().unwrap_or(false)) {
                    self.begin_anew(other, since);
                }
            }
            if self.by_seat.contains_key(&(at, wanted.job)) {
                continue;
            }
            let format = super::archive::Format::of(&path);
            let Ok(copy) = self.content(&path, wanted.job, format) else { continue };
            // By its path it is known as what it is a copy of.
            let is_known = || self.positions.is_known(&copy, &wanted.path, wanted.job);
            if before.is_copy(&copy) && (before.identity.is_by_path() || !is_known()) {
                tracing::info!(path = %wanted.path.display(), copy = %path.display(), "file was truncated: going on in its copy");
                return Some(Copied::Whole(copy));
            }
            if before.is_short_copy(&copy) && !is_known() {
                return Some(Copied::Short(copy));
            }
        }
        None
    }
}
