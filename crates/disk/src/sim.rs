//! A file system in memory that fails as real ones do: for tests of everything that must survive a crash.
//!
//! What was written but not synced may survive a crash in part, with pages of zeros in it; a new name survives only by an fsync of
//! its directory (or by luck); an fsync that failed has thrown the data away though it can still be read.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Files, WriteFile};

/// Random numbers from a seed (SplitMix64): the same seed gives the same failures.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).checked_rem(bound).unwrap_or(0)
    }
}

type Inode = usize;

#[derive(Debug, Clone, Default)]
struct Content {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What the disk holds.
    stored: Vec<u8>,
    /// Stretches whose fsync failed: they will never be stored.
    lost: Vec<(usize, usize)>,
}

impl Content {
    fn after_crash(&self, dice: &mut Dice) -> Vec<u8> {
        if self.seen.len() < self.stored.len() {
            return if dice.below(2) == 0 { self.seen.clone() } else { self.stored.clone() };
        }
        let from = self.stored.len();
        let kept = from + dice.below((self.seen.len() - from) as u64 + 1) as usize;
        let mut bytes = self.stored.clone();
        bytes.extend_from_slice(&self.seen[from..kept]);
        if dice.below(3) == 0 && kept > from {
            let hole = from + dice.below((kept - from) as u64) as usize;
            let end = hole + dice.below((kept - hole) as u64 + 1) as usize;
            bytes[hole..end].fill(0);
        }
        bytes
    }
}

#[derive(Debug, Clone)]
enum Entry {
    Add(PathBuf, Inode),
    Remove(PathBuf),
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, Inode>,
    stored_names: BTreeMap<PathBuf, Inode>,
    pending: Vec<Entry>,
    locks: HashSet<PathBuf>,
    /// Bytes and operations until the crash.
    fuel: Option<u64>,
    crashed: bool,
    /// Bytes until the disk is full.
    space: Option<u64>,
    failing_syncs: u32,
}

impl State {
    /// Burns one unit for an operation.
    fn operation(&mut self) -> io::Result<()> {
        self.burn(1).map(drop)
    }

    /// Burns up to `wanted` units; says how many there were, or that the machine is down.
    fn burn(&mut self, wanted: u64) -> io::Result<u64> {
        if self.crashed {
            return Err(io::Error::other("the machine has crashed"));
        }
        let Some(fuel) = self.fuel else { return Ok(wanted) };
        if fuel >= wanted {
            self.fuel = Some(fuel - wanted);
            return Ok(wanted);
        }
        self.crashed = true;
        if fuel == 0 { Err(io::Error::other("the machine crashes")) } else { Ok(fuel) }
    }

    fn inode(&self, path: &Path) -> io::Result<Inode> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn enter(&mut self, entry: Entry) {
        apply(&mut self.names, entry.clone());
        self.pending.push(entry);
    }

    fn sync(&mut self, inode: Inode) -> io::Result<()> {
        self.operation()?;
        let content = &mut self.contents[inode];
        if self.failing_syncs > 0 {
            self.failing_syncs -= 1;
            content.lost.push((content.stored.len(), content.seen.len()));
            return Err(io::Error::other("injected: fsync failed"));
        }
        content.stored = content.seen.clone();
        for &(from, to) in &content.lost {
            let end = to.min(content.stored.len());
            content.stored[from.min(end)..end].fill(0);
        }
        Ok(())
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Inode>, entry: Entry) {
    match entry {
        Entry::Add(path, inode) => drop(names.insert(path, inode)),
        Entry::Remove(path) => drop(names.remove(&path)),
    }
}

/// The simulated file system; clones share it. Directories need not be made.
#[derive(Debug, Clone, Default)]
pub struct SimFiles {
    state: Arc<Mutex<State>>,
}

impl SimFiles {
    /// An empty, healthy one.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Crashes after `fuel` more units: a unit is a byte written or another operation. A write may be torn.
    pub fn crash_after(&self, fuel: u64) {
        self.state().fuel = Some(fuel);
    }

    /// Whether the crash has happened.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Lets the disk be full after `bytes` more; `None`: never. A write that does not fit is torn.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state().space = bytes;
    }

    /// Lets the next `count` fsyncs of files fail.
    pub fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    /// Flips bits of one byte of a file, in memory and on disk, as bit rot does.
    pub fn corrupt(&self, path: &Path, at: usize, bits: u8) {
        let mut state = self.state();
        if let Ok(inode) = state.inode(path) {
            let content = &mut state.contents[inode];
            for bytes in [&mut content.seen, &mut content.stored] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
        }
    }

    /// The machine after a power cut now, up again and healthy. What was not synced survives as the seed decides;
    /// one seed of four only kills the process, so everything written survives.
    pub fn restart(&self, seed: u64) -> Self {
        let mut state = self.state();
        state.crashed = true;
        let mut dice = Dice::new(seed);
        let mut next = State::default();
        if seed.is_multiple_of(4) {
            next.names = state.names.clone();
            next.contents = state.contents.clone();
        } else {
            next.names = state.stored_names.clone();
            let kept = dice.below(state.pending.len() as u64 + 1) as usize;
            state.pending[..kept].iter().for_each(|entry| apply(&mut next.names, entry.clone()));
            let survived = state.contents.iter().map(|c| c.after_crash(&mut dice));
            next.contents =
                survived.map(|bytes| Content { seen: bytes.clone(), stored: bytes, lost: vec![] }).collect();
        }
        next.stored_names = next.names.clone();
        Self { state: Arc::new(Mutex::new(next)) }
    }
}

#[derive(Debug)]
struct SimFile {
    files: SimFiles,
    inode: Inode,
}

impl WriteFile for SimFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.files.state();
        let room = state.space.unwrap_or(u64::MAX).min(bytes.len() as u64);
        let written = state.burn(room)?;
        state.space = state.space.map(|s| s - written);
        state.contents[self.inode].seen.extend_from_slice(&bytes[..written as usize]);
        match () {
            () if state.crashed => Err(io::Error::other("the machine crashes")),
            () if room < bytes.len() as u64 => Err(io::ErrorKind::StorageFull.into()),
            () => Ok(()),
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.files.state();
        state.operation()?;
        state.contents[self.inode].seen.truncate(len as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.files.state().sync(self.inode)
    }
}

#[derive(Debug)]
struct SimLock {
    files: SimFiles,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.files.state().locks.remove(&self.path);
    }
}

impl Files for SimFiles {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.state().operation()
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.state();
        state.operation()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.contents.push(Content::default());
        let inode = state.contents.len() - 1;
        state.enter(Entry::Add(path.to_owned(), inode));
        Ok(Box::new(SimFile { files: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.state();
        state.operation()?;
        let inode = state.inode(path)?;
        Ok(Box::new(SimFile { files: self.clone(), inode }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.operation()?;
        let inode = state.inode(path)?;
        Ok(state.contents[inode].seen.clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.operation()?;
        let within = state.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(within.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let inode = state.inode(from)?;
        // One entry replaces the other in one step; the old name goes with it.
        state.enter(Entry::Add(to.to_owned(), inode));
        state.enter(Entry::Remove(from.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.inode(path)?;
        state.enter(Entry::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let parent = |e: &Entry| match e {
            Entry::Add(path, _) | Entry::Remove(path) => path.parent().map(Path::to_owned),
        };
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.pending).into_iter().partition(|e| parent(e).as_deref() == Some(dir));
        state.pending = rest;
        synced.into_iter().for_each(|entry| apply(&mut state.stored_names, entry));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Debug>> {
        let mut state = self.state();
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { files: self.clone(), path: path.to_owned() }))
    }
}
