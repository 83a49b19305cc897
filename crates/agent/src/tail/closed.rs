//! Files that had left their paths and were closed: their writers may come back to them all the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::followed::{Followed, Seat, Wanted};
use super::poller::Poller;
use super::rotated::Listings;

/// Those that were closed, as they were then.
#[derive(Debug, Default)]
pub(super) struct Closed {
    files: BTreeMap<Seat, Kept>,
    /// Seats by where the files lay last.
    paths: BTreeMap<PathBuf, Vec<Seat>>,
    /// The first first.
    order: VecDeque<(Instant, Seat)>,
}

#[derive(Debug, Clone)]
struct Kept {
    wanted: Wanted,
    path: PathBuf,
    size: u64,
}

impl Closed {
    /// For so long they are looked at.
    const KEEP: Duration = Duration::from_secs(3600);
    /// Most of them.
    const MOST: usize = 4096;

    fn insert(&mut self, seat: Seat, kept: Kept) {
        self.remove(seat);
        self.paths.entry(kept.path.clone()).or_default().push(seat);
        self.files.insert(seat, kept);
        self.order.push_back((Instant::now(), seat));
    }

    fn remove(&mut self, seat: Seat) -> Option<Kept> {
        let kept = self.forget(seat)?;
        self.order.retain(|(_, other)| *other != seat);
        Some(kept)
    }

    fn forget(&mut self, seat: Seat) -> Option<Kept> {
        let kept = self.files.remove(&seat)?;
        if let Some(seats) = self.paths.get_mut(&kept.path) {
            seats.retain(|other| *other != seat);
            if seats.is_empty() {
                self.paths.remove(&kept.path);
            }
        }
        Some(kept)
    }

    /// Forgets what was long ago, or is too much.
    fn trim(&mut self) {
        while let Some((at, seat)) = self.order.front().copied()
            && (at.elapsed() >= Self::KEEP || self.order.len() > Self::MOST)
        {
            self.order.pop_front();
            self.forget(seat);
        }
    }
}

impl Poller {
    /// A file that had left its path is being closed. What lies nowhere has nobody who could come back to it by a name.
    pub(super) fn keep_closed(&mut self, followed: &Followed) {
        let Some(file) = followed.file().filter(|file| !file.content().is_archive()) else { return };
        if followed.leaving.is_some()
            && followed.wanted.key.is_none()
            && let Some(path) = file.content().path()
        {
            let kept = Kept { wanted: followed.wanted.clone(), path, size: file.offset() };
            self.closed.insert(followed.seat(), kept);
            self.closed.trim();
        }
    }

    /// Opens those of the files at these paths that were closed, and have grown.
    pub(super) fn reopen_closed(&mut self, paths: &BTreeSet<PathBuf>) {
        let seats = paths.iter().filter_map(|path| self.closed.paths.get(path)).flatten();
        for seat in seats.copied().collect::<Vec<_>>() {
            self.look_closed(seat);
        }
    }

    /// Looks at all that were closed.
    pub(super) fn look_at_closed(&mut self) {
        self.closed.trim();
        let mut listings = Listings::default();
        for seat in self.closed.files.keys().copied().collect::<Vec<_>>() {
            if self.look_closed(seat) {
                continue;
            }
            // It may have been renamed once more.
            let Some(kept) = self.closed.remove(seat) else { continue };
            if let Some(path) = listings.with_inode(&kept.path, seat.0.1) {
                self.closed.insert(seat, Kept { path, ..kept });
                self.look_closed(seat);
            }
        }
    }

    /// Opens one that was closed if it has grown; whether it lies where it lay.
    fn look_closed(&mut self, seat: Seat) -> bool {
        let Some(Kept { path, size, .. }) = self.closed.files.get(&seat) else { return true };
        let Some(now) = std::fs::metadata(path).ok().filter(|now| (now.dev(), now.ino()) == seat.0) else {
            return false;
        };
        if now.len() == *size && !self.by_seat.contains_key(&seat) {
            return true;
        }
        let Some(Kept { wanted, path, size }) = self.closed.remove(seat) else { return true };
        if now.len() > size && !self.by_seat.contains_key(&seat) {
            self.reopen(&wanted, &path, seat);
        }
        true
    }

    fn reopen(&mut self, wanted: &Wanted, path: &Path, seat: Seat) {
        let content = self.content(path, wanted.job, None).ok();
        let content = content.filter(|content| content.stored().is_ok_and(|m| (m.dev(), m.ino()) == seat.0));
        if let Some(content) =
            content.filter(|content| self.positions.is_known(content, &wanted.path, wanted.job))
        {
            tracing::info!(path = %path.display(), was = %wanted.path.display(), "a rotated file is written to again");
            self.add_left(wanted, path, content);
        }
    }
}
