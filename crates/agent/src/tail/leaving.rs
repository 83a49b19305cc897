//! Files that are gone from their paths, are not wanted any more, or must be closed for others: how they end without a loss.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant, SystemTime};

use super::changes::Left;
use super::content::{Content, Identified as _};
use super::followed::{Followed, Held};
use super::poller::Poller;

impl Poller {
    /// How long a file that has left its path is kept open.
    pub(super) const LINGER: Duration = Duration::from_secs(30);

    /// The path of a file leads elsewhere: what it was is read to its end. What is to be looked for at the path, unless it was done.
    pub(super) fn part(&mut self, id: u64, since: SystemTime) -> Option<Left> {
        let followed = self.files.get_mut(&id)?;
        // It may have been truncated before it was renamed: then it is another generation that has left.
        let file = followed.file_mut().filter(|file| !file.content().is_archive());
        if file.is_some_and(|file| file.was_truncated().unwrap_or(false)) {
            self.begin_anew(id, since);
        }
        let followed = self.files.get(&id).filter(|followed| followed.leaving.is_none())?;
        let (wanted, sleeps) = (followed.wanted.clone(), followed.file().is_none());
        let names = followed.names.clone();
        self.by_path.remove(&(wanted.path.clone(), wanted.job));
        if sleeps {
            self.remove(id);
        } else {
            self.leave(id);
        }
        Some(Left { wanted, since, names })
    }

    /// Whether a path leads to the same file under another inode, as files are known by their paths: it is read on there.
    pub(super) fn is_moved(&mut self, id: u64) -> bool {
        let Some(followed) = self.files.get(&id) else { return false };
        let Some(file) = followed.file().filter(|file| file.identity().is_by_path()) else { return false };
        let (wanted, identity, offset) = (&followed.wanted, file.identity(), file.offset());
        let Ok(content) = self.content(&wanted.path, wanted.job, None) else { return false };
        let is_it = identity.is_telling()
            && identity.is_of(&content).unwrap_or(false)
            && content.size().is_ok_and(|size| size >= offset);
        is_it && !file.content().is_archive() && self.replace(id, content).is_some()
    }

    /// Has a file that is followed go on in another, which holds the same; hands out what it was read from.
    pub(super) fn replace(&mut self, id: u64, content: Content) -> Option<Content> {
        let followed = self.files.get_mut(&id)?;
        let old = followed.seat();
        let Held::Open(file) = &mut followed.held else { return None };
        let before = file.go_on_in(content, &self.positions).ok()?;
        followed.place = file.place();
        let new = followed.seat();
        self.by_seat.remove(&old);
        self.by_seat.insert(new, id);
        Some(before)
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

    /// Has a file read, and looked at often.
    pub(super) fn disquiet(&mut self, id: u64) {
        self.note_head(id);
        self.schedule.soon(id, Instant::now());
        self.enqueue(id);
    }

    /// Has it known how a file begins that has left its path.
    pub(super) fn note_head(&mut self, id: u64) {
        let left = self.files.get(&id).filter(|followed| followed.leaving.is_some());
        if let Some(file) = left.and_then(Followed::file) {
            self.heads.note(id, &file.identity());
        }
    }

    /// Opens a file that slept.
    pub(super) fn wake(&mut self, id: u64) {
        if let Some(file) = self.remove(id) {
            self.open(file.wanted);
        }
    }

    /// Closes a tenth of the files: those that have left their paths and only wait for more, then those that have been quiet longest. They
    /// are opened again when they change.
    pub(super) fn put_to_sleep(&mut self) {
        const LEAST: usize = 16;
        let of = |is_one: fn(&Followed) -> bool| {
            let mut found: Vec<(Instant, u64)> =
                self.files.iter().filter(|(_, f)| is_one(f)).map(|(id, f)| (f.active, *id)).collect();
            found.sort();
            found.into_iter().map(|(_, id)| id)
        };
        let spare: Vec<u64> = of(Followed::is_spare).chain(of(Followed::can_sleep)).collect();
        for id in spare.into_iter().take((self.max_open / 10).max(LEAST)) {
            match self.files.get_mut(&id) {
                Some(followed) if followed.can_sleep() => {
                    followed.sleep();
                    self.open -= 1;
                }
                _ => self.close(id),
            }
        }
    }

    /// Closes files that are gone, have been quiet long enough, and are acknowledged; archives as soon as they are.
    pub(super) fn close_finished(&mut self) {
        let is_finished = |id: &u64| {
            let followed = self.files.get(id)?;
            let Some(file) = followed.file() else { return followed.until.map(|_| *id) };
            let lingered = followed.leaving.is_some_and(|since| since.elapsed() >= self.linger);
            let ended = lingered && file.idle() >= self.linger || followed.is_archive() && followed.is_read();
            let done = (ended || followed.is_let_go()) && file.progress().is_idle() && !followed.is_queued;
            done.then_some(*id)
        };
        let finished: Vec<u64> = self.schedule.files().filter_map(|id| is_finished(&id)).collect();
        finished.into_iter().for_each(|id| self.close(id));
    }

    /// Nothing more is expected of a file.
    fn close(&mut self, id: u64) {
        let Some(followed) = self.remove(id) else { return };
        self.keep_closed(&followed);
        let wanted = &followed.wanted;
        let path = wanted.path.to_string_lossy();
        if let Some(file) = followed.file()
            && let Some(error) = file.content().broken()
        {
            let offset = file.offset();
            tracing::warn!(%path, offset, %error, "a compressed file breaks off: what could be read of it was read");
        }
        if !self.by_path.contains_key(&(wanted.path.clone(), wanted.job)) {
            self.dispatcher.forget(&path);
            self.options.metrics.files.forget(&path);
        }
        tracing::info!(%path, gone = followed.leaving.is_some(), "file is not read any more: it is gone, or no target's, or complete");
    }

    /// Forgets a file; its position stays known.
    pub(super) fn remove(&mut self, id: u64) -> Option<Followed> {
        self.schedule.forget(id);
        self.heads.forget(id);
        let followed = self.files.remove(&id)?;
        self.by_seat.remove(&followed.seat());
        let at = (followed.wanted.path.clone(), followed.wanted.job);
        if self.by_path.get(&at) == Some(&id) {
            self.by_path.remove(&at);
        }
        for name in &followed.names {
            if let Some(ids) = self.by_name.get_mut(name) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
        self.has_closed = true;
        let entry = self.positions.entry(followed.progress());
        self.positions.close_file(followed.progress());
        if let Some(file) = followed.file() {
            self.open -= 1;
            let is_complete =
                followed.until.is_none() && (followed.leaving.is_some() || file.content().is_archive());
            // One that was filled again while it was left is not what was read.
            if let (true, Ok(stored)) = (is_complete && followed.is_read(), file.content().stored()) {
                // What is deleted is not met again.
                if stored.nlink() > 0 {
                    self.done.insert(followed.place, (stored.len(), stored.modified().ok()));
                }
                entry.into_iter().for_each(|entry| self.positions.end(entry));
            }
        }
        Some(followed)
    }

    /// What is deleted, and not delivered when the agent stops, is gone with its descriptor.
    pub(super) fn tell_what_is_lost(&self) {
        for followed in self.files.values() {
            let Some(file) = followed.file().filter(|file| file.content().is_deleted()) else {
                continue;
            };
            let bytes = followed.size.max(file.offset()).saturating_sub(file.progress().acknowledged());
            if bytes > 0 {
                self.options.metrics.lost_bytes.inc_by(bytes);
                // It is told now, and not again at the next start.
                file.progress().saw(0);
                let path = followed.wanted.path.display();
                tracing::error!(%path, bytes, "file was deleted before the store took all of it: this is lost as the agent stops");
            }
        }
    }
}
