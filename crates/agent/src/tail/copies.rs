//! Whether a file is a copy of one that is read: nobody wants it read again.
//!
//! What is still there is compared with the file itself ([`Content::is_copy_of`]), what was truncated or is gone with what is remembered
//! of it ([`Identity::is_copied_in`](crate::positions::Identity::is_copied_in)).

use std::fs::Metadata;
use std::path::Path;

use super::archive::SETTLED;
use super::content::{Content, Identified as _};
use super::file::FileTail;
use super::followed::Wanted;
use super::poller::Poller;
use super::rotated::originals;
use crate::positions::{Identity, KnownFile};

impl KnownFile {
    /// The file, if it still lies where it was read.
    pub(super) fn stands(&self) -> Option<Content> {
        Content::plain(&self.path).ok().filter(|file| self.identity.is_of(file).unwrap_or(false))
    }

    /// Whether a file, which begins like this and lies somewhere else, holds all that was read of this one.
    pub(super) fn is_held_in(&self, content: &Content, beginning: &[u8]) -> bool {
        // Without a mark not much is known of it.
        let least = if self.identity.mark().is_some() { self.offset } else { self.offset.max(self.size) };
        self.identity.may_begin(beginning)
            && content.size().is_ok_and(|size| size >= least)
            && self.identity.is_copied_in(content).unwrap_or(false)
    }
}

impl Poller {
    /// Whether a file that nobody has read is a copy of one that is being read, as copytruncate makes them. One of a file that is not
    /// read any more goes on where that was left.
    pub(super) fn is_copy(&self, wanted: &Wanted, content: &Content) -> bool {
        let originals = originals(&wanted.path);
        if originals.is_empty() || self.positions.is_known(content, &wanted.path, wanted.job) {
            return false;
        }
        if self.is_left_copy(wanted, content) {
            return true;
        }
        let beginning = content.beginning();
        for original in originals {
            if self.is_open_copy(&original, wanted.job, content) {
                return true;
            }
            let known = self.positions.known_at(&original, wanted.job).into_iter();
            let Some(old) = known.filter(|k| !k.is_held).find(|k| k.is_held_in(content, &beginning)) else {
                continue;
            };
            // While the original lies where it lay it is the one that is read, once it is opened.
            match old.stands() {
                Some(there) if content.is_copy_of(&there).unwrap_or(false) => return true,
                Some(_) => {}
                None => return !self.adopt(&old, content),
            }
        }
        false
    }

    /// Whether a file that is being written now may become a copy of one that is read: it holds no more than the beginning of that.
    pub(super) fn may_become_copy(&self, wanted: &Wanted, content: &Content, metadata: &Metadata) -> bool {
        let is_fresh = metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < SETTLED));
        if !is_fresh || content.is_archive() || self.positions.is_known(content, &wanted.path, wanted.job) {
            return false;
        }
        let size = content.size().unwrap_or_default();
        let head = content.head(size.min(Identity::HEAD_BYTES)).ok().flatten();
        originals(&wanted.path).into_iter().any(|original| {
            let open = self.by_path.get(&(original, wanted.job)).and_then(|id| self.files.get(id)?.file());
            open.is_some_and(|file| {
                let is_short =
                    file.identity().is_telling() && file.content().size().is_ok_and(|full| full > size);
                let same = || file.content().head(size).ok().flatten() == head;
                is_short && size < Identity::HEAD_BYTES && same()
            })
        })
    }

    /// Whether a file is a copy of what is read at a path.
    pub(super) fn is_open_copy(&self, original: &Path, job: usize, content: &Content) -> bool {
        let open = self.by_path.get(&(original.to_owned(), job)).and_then(|id| self.files.get(id)?.file());
        open.is_some_and(|file| file.is_copied_in(content, &content.beginning()))
    }

    /// Whether something that nobody has read is a copy of what is at the path now, or of what is held open and has left its path.
    pub(super) fn is_copy_of_any(&self, wanted: &Wanted, content: &Content) -> bool {
        let beginning = content.beginning();
        let is_copy_of = |here: Content| {
            let may_be = self.positions.identity(&here)?.may_begin(&beginning);
            Ok::<_, std::io::Error>(may_be && content.is_copy_of(&here)?)
        };
        Content::plain(&wanted.path).and_then(is_copy_of).unwrap_or(false)
            || self.is_open_copy(&wanted.path, wanted.job, content)
            || self.is_left_copy(wanted, content)
    }

    /// Whether something that nobody has read is a copy of what is held open and has left its path.
    pub(super) fn is_left_copy(&self, wanted: &Wanted, content: &Content) -> bool {
        let beginning = content.beginning();
        let left = self.heads.like(&beginning).filter_map(|id| self.files.get(&id));
        let mut left = left.filter(|file| file.is_left_of(wanted)).filter_map(|file| file.file());
        left.any(|file| file.is_copied_in(content, &beginning))
    }

    /// Whether a file was packed and removed while it waited to be followed, and is read as what became of it.
    pub(super) fn was_packed(&self, wanted: &Wanted, content: &Content) -> bool {
        let mut packed = self.left(wanted).map(FileTail::content).filter(|file| file.is_archive());
        content.is_deleted() && packed.any(|file| file.is_copy_of(content).unwrap_or(false))
    }

    /// Files in the folder of one that are open, and have left their paths.
    fn left(&self, wanted: &Wanted) -> impl Iterator<Item = &FileTail> {
        // They are looked at often.
        let left = self.schedule.files().filter_map(|id| self.files.get(&id));
        left.filter(|file| file.is_left_of(wanted)).filter_map(|file| file.file())
    }
}
