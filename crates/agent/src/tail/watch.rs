//! Being told of changes: the system reports what happens in folders, so that quiet files cost nothing.
//!
//! What it tells are hints. It tells nothing of other machines' writes to network file systems, its queue can overflow, and the
//! number of watches is limited; so everything is looked at now and then all the same, and folders that cannot be watched
//! more often.

use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(super) use linux::Watch;
#[cfg(not(target_os = "linux"))]
pub(super) use polling::Watch;

/// What has happened, as far as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A file was written to.
    Written(PathBuf),
    /// A name now leads elsewhere than before, or nowhere.
    Moved(PathBuf),
    /// There is a new folder.
    Folder,
    /// Something was not told.
    Unknown,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{HashMap, HashSet};
    use std::ffi::OsStr;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use rustix::io::Errno;

    use super::Change;

    /// Watches over folders, by inotify. One watch serves all files of a folder.
    pub(crate) struct Watch {
        /// There is none where the system gives no more of them.
        inotify: Option<OwnedFd>,
        folders: HashMap<i32, PathBuf>,
        watches: HashMap<PathBuf, i32>,
        warned: bool,
    }

    impl Watch {
        const EVENTS: WatchFlags = WatchFlags::MODIFY
            .union(WatchFlags::CREATE)
            .union(WatchFlags::DELETE)
            .union(WatchFlags::MOVED_FROM)
            .union(WatchFlags::MOVED_TO)
            .union(WatchFlags::MOVE_SELF)
            .union(WatchFlags::ONLYDIR);

        pub(crate) fn new() -> Self {
            let mut watch =
                Self { inotify: None, folders: HashMap::new(), watches: HashMap::new(), warned: false };
            match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
                Ok(inotify) => watch.inotify = Some(inotify),
                Err(error) => watch.warn("fs.inotify.max_user_instances", error),
            }
            watch
        }

        /// One to which the system tells nothing.
        #[cfg(test)]
        pub(crate) fn blind() -> Self {
            Self { inotify: None, folders: HashMap::new(), watches: HashMap::new(), warned: true }
        }

        /// Watches a folder, given by its real path; whether changes in it will be told.
        pub(crate) fn watch(&mut self, folder: &Path) -> bool {
            if self.watches.contains_key(folder) {
                return true;
            }
            let Some(inotify) = &self.inotify else { return false };
            if is_remote(folder) {
                return false;
            }
            match inotify::add_watch(inotify, folder, Self::EVENTS) {
                Ok(watch) => {
                    self.folders.insert(watch, folder.to_owned());
                    self.watches.insert(folder.to_owned(), watch);
                    true
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => false,
                Err(error) => {
                    self.warn("fs.inotify.max_user_watches", error);
                    false
                }
            }
        }

        /// Gives up the watches of other folders than these.
        pub(crate) fn retain(&mut self, wanted: &HashSet<PathBuf>) {
            let unwanted: Vec<_> = self.watches.extract_if(|folder, _| !wanted.contains(folder)).collect();
            for (_, watch) in unwanted {
                self.folders.remove(&watch);
                if let Some(inotify) = &self.inotify {
                    // The folder may be gone, and its watch with it.
                    let _ = inotify::remove_watch(inotify, watch);
                }
            }
        }

        /// Takes what was told since the last call.
        pub(crate) fn changes(&mut self, out: &mut Vec<Change>) {
            let Some(inotify) = &self.inotify else { return };
            let mut room = [MaybeUninit::uninit(); 16 << 10];
            let mut events = inotify::Reader::new(inotify, &mut room);
            while let Ok(event) = events.next() {
                let what = event.events();
                if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                    out.push(Change::Unknown);
                    continue;
                }
                if what.contains(ReadFlags::IGNORED) {
                    if let Some(folder) = self.folders.remove(&event.wd()) {
                        self.watches.remove(&folder);
                        out.push(Change::Unknown);
                    }
                    continue;
                }
                if what.contains(ReadFlags::MOVE_SELF) {
                    // Another may lie there soon.
                    if let Some(folder) = self.folders.remove(&event.wd()) {
                        self.watches.remove(&folder);
                        let _ = inotify::remove_watch(inotify, event.wd());
                        out.push(Change::Unknown);
                    }
                    continue;
                }
                let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), event.file_name()) else {
                    continue;
                };
                let path = folder.join(OsStr::from_bytes(name.to_bytes()));
                let change = if what.contains(ReadFlags::ISDIR) {
                    Change::Folder
                } else if what.contains(ReadFlags::MODIFY) {
                    Change::Written(path)
                } else {
                    Change::Moved(path)
                };
                // A file that is written in many pieces tells of each.
                if out.last() != Some(&change) {
                    out.push(change);
                }
            }
        }

        /// Waits until there is something to tell, no longer than `timeout`.
        pub(crate) fn wait(&self, timeout: Duration) {
            let Some(inotify) = &self.inotify else { return std::thread::sleep(timeout) };
            let timeout =
                Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
            // An interrupted wait is a short one.
            let _ = poll(&mut [PollFd::new(inotify, PollFlags::IN)], Some(&timeout));
        }

        fn warn(&mut self, limit: &str, error: Errno) {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(%error, "files are polled, for the system does not tell of changes: raise the sysctl {limit}");
            }
        }
    }

    /// Whether others can change files there without this system's knowing: NFS, SMB, CIFS, FUSE, 9P, Ceph.
    fn is_remote(folder: &Path) -> bool {
        const TYPES: [i64; 7] =
            [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x517b, 0x6573_5546, 0x0102_1997, 0x00c3_6400];
        rustix::fs::statfs(folder).is_ok_and(|fs| TYPES.contains(&(fs.f_type & 0xffff_ffff)))
    }
}

#[cfg(not(target_os = "linux"))]
mod polling {
    use std::collections::HashSet;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::Change;

    /// Watches nothing: files are polled.
    pub(crate) struct Watch;

    impl Watch {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn watch(&mut self, _: &Path) -> bool {
            false
        }

        pub(crate) fn retain(&mut self, _: &HashSet<PathBuf>) {}

        pub(crate) fn changes(&mut self, _: &mut Vec<Change>) {}

        pub(crate) fn wait(&self, timeout: Duration) {
            std::thread::sleep(timeout);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    #[test]
    fn changes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let mut watch = Watch::new();
        assert!(watch.watch(&root) && watch.watch(&root) && !watch.watch(&root.join("none")));
        let mut expect = |want: &[Change]| {
            let (mut told, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(10));
            while told.len() < want.len() && Instant::now() < deadline {
                watch.wait(Duration::from_secs(1));
                watch.changes(&mut told);
            }
            assert_eq!(told, want);
        };
        let (a, b) = (root.join("a"), root.join("b"));
        std::fs::write(&a, "x").unwrap();
        expect(&[Change::Moved(a.clone()), Change::Written(a.clone())]);
        std::fs::rename(&a, &b).unwrap();
        expect(&[Change::Moved(a), Change::Moved(b)]);
        std::fs::create_dir(root.join("c")).unwrap();
        expect(&[Change::Folder]);
        watch.retain(&HashSet::new());
        assert!(watch.watch(&root));
    }
}
