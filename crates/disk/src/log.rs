//! The segmented append-only log: one writer, one fsync for each append of many records.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::segment::{MAGIC, MAX_RECORD, RECORD_HEADER, Scan, SegmentName};
use crate::{Durable, Files, OsFiles, Recovery, WriteFile};

/// How a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// A segment that has reached this many bytes is closed and a new one begun; 64 MiB by default.
    /// It is the grain in which disk space is given back.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

/// Why the log could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file operation failed. The records of that append are not stored; later appends may succeed (a full disk may get room).
    #[error("{what} {path}: {source}")]
    Io {
        /// The operation, as a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An fsync failed, now or earlier. What the kernel holds may differ from what the disk holds, so
    /// nothing is acknowledged any more until the log is opened anew.
    #[error("an fsync of the log in {0} failed: check the disk, then restart")]
    Poisoned(PathBuf),
    /// One record is too large.
    #[error(
        "record of {size} bytes is too large for the log, the limit is {MAX_RECORD}: send smaller batches"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Another process has the log open.
    #[error("the log in {0} is in use by another process: give each process a folder of its own")]
    InUse(PathBuf),
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    name: SegmentName,
    file: Box<dyn WriteFile>,
    len: u64,
}

/// An append-only log of records in a directory, split into segment files.
///
/// Every record has a position. Positions grow by one from record to record and are never given twice,
/// not even when everything was trimmed or the tail was lost: the newest segment's name remembers.
/// A failed append leaves a gap in them.
#[derive(Debug)]
pub struct Log {
    files: Arc<dyn Files>,
    dir: PathBuf,
    options: LogOptions,
    /// All segments on disk, oldest first; the last one is `active` if that is open.
    segments: Vec<SegmentName>,
    /// Bytes of each of them.
    lengths: Vec<u64>,
    active: Option<Active>,
    next: u64,
    poisoned: bool,
    buffer: Vec<u8>,
    _lock: Box<dyn Send + Debug>,
}

impl Log {
    /// Opens the log in `dir`, making the directory if needed, and returns what survived in it.
    ///
    /// Damage is never an error: a torn tail is cut off, damaged records are stepped over, both counted.
    /// Errors are those of the file system only.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<(Self, Recovery), LogError> {
        Self::open_on(OsFiles::shared(), dir, options)
    }

    /// [`Log::open`] on any file system.
    pub fn open_on(
        files: Arc<dyn Files>,
        dir: impl AsRef<Path>,
        options: LogOptions,
    ) -> Result<(Self, Recovery), LogError> {
        let dir = dir.as_ref().to_owned();
        files.create_dir_all(&dir).map_err(failed("create", &dir))?;
        let lock = files.lock(&dir.join("lock")).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => LogError::InUse(dir.clone()),
            _ => failed("lock", &dir)(e),
        })?;
        let names = files.list(&dir).map_err(failed("list", &dir))?;
        let mut segments: Vec<_> = names.iter().filter_map(|n| SegmentName::parse(n)).collect();
        segments.sort_unstable();

        let mut next = 0;
        let mut cut = 0;
        if let Some(&last) = segments.last() {
            let path = dir.join(last.file_name());
            let bytes = files.read(&path).map_err(failed("read", &path))?;
            let mut scan = Scan::new(last, bytes.into());
            scan.by_ref().for_each(drop);
            // One more than the name says even when it is empty: first positions tell segments apart.
            next = scan.next_position().max(last.first + 1);
            cut = scan.tail();
            let mut file = files.open(&path).map_err(failed("open", &path))?;
            if cut > 0 {
                file.truncate(scan.intact_end as u64).map_err(failed("cut", &path))?;
            }
            // What a killed process wrote but did not sync is served from now on: make it last.
            file.sync().map_err(failed("sync", &path))?;
        }
        let size = |name: &SegmentName| {
            let path = dir.join(name.file_name());
            files.size(&path).map_err(failed("read", &path))
        };
        let lengths = segments.iter().map(size).collect::<Result<_, _>>()?;
        let recovery = Recovery::new(Arc::clone(&files), dir.clone(), segments.clone(), cut);
        let log = Self {
            files,
            dir,
            options,
            segments,
            lengths,
            active: None,
            next,
            poisoned: false,
            buffer: Vec::new(),
            _lock: lock,
        };
        Ok((log, recovery))
    }

    /// Bytes of all segments on disk.
    pub fn bytes(&self) -> u64 {
        self.lengths.iter().sum()
    }

    /// Bytes of the segments that hold records of `position` or later; 0 if there is none of those.
    pub fn bytes_from(&self, position: u64) -> u64 {
        if position >= self.next {
            return 0;
        }
        let before = self.segments.partition_point(|segment| segment.first <= position).saturating_sub(1);
        self.lengths[before..].iter().sum()
    }

    /// The position that the next record gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Makes sure that no position below `position` is given any more. The caller knows of positions that were
    /// in use (a manifest covers them) though the files that held them are damaged or gone.
    pub fn skip_to(&mut self, position: u64) {
        if position > self.next {
            self.next = position;
            self.active = None;
        }
    }

    /// Stores all records, in order, with one fsync; returns their positions.
    ///
    /// On an error none of them counts as stored. Some may come back at the next open, but only if the log takes nothing more
    /// until then.
    pub fn append(&mut self, records: &[Bytes]) -> Result<Durable<Range<u64>>, LogError> {
        let records: Vec<[&[u8]; 1]> = records.iter().map(|r| [&r[..]]).collect();
        self.append_parts(&records)
    }

    /// [`Log::append`] for records that lie in memory as `N` pieces each.
    pub fn append_parts<const N: usize>(
        &mut self,
        records: &[[&[u8]; N]],
    ) -> Result<Durable<Range<u64>>, LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned(self.dir.clone()));
        }
        let mut total = 0;
        for parts in records {
            let size: usize = parts.iter().map(|p| p.len()).sum();
            if size > MAX_RECORD {
                return Err(LogError::TooLarge { size });
            }
            total += size + RECORD_HEADER;
        }
        let first = self.next;
        if records.is_empty() {
            return Ok(Durable::new(first..first));
        }
        let mut active = match self.active.take() {
            Some(active) if active.len < self.options.segment_bytes => active,
            _ => self.begin_segment()?,
        };
        self.buffer.clear();
        self.buffer.reserve(total);
        for (position, parts) in (first..).zip(records) {
            active.name.encode(position, parts, &mut self.buffer);
        }
        // Whatever happens now, these positions are used up.
        self.next = first + records.len() as u64;
        if let Err(source) = active.file.write_all(&self.buffer) {
            // Cut back to the acknowledged records, and write no more to this segment. What is refused now may be appended again
            // with success: it must not come back beside that, so the cut is made to last, or all later appends are refused.
            let cut = active.file.truncate(active.len).and_then(|()| active.file.sync());
            self.poisoned = cut.is_err();
            let path = self.dir.join(active.name.file_name());
            return Err(LogError::Io { what: "write", path, source });
        }
        if active.file.sync().is_err() {
            self.poisoned = true;
            return Err(LogError::Poisoned(self.dir.clone()));
        }
        active.len += self.buffer.len() as u64;
        if let Some(last) = self.lengths.last_mut() {
            *last = active.len;
        }
        self.active = Some(active);
        // One huge batch must not pin its memory for ever.
        self.buffer.shrink_to(8 << 20);
        Ok(Durable::new(first..self.next))
    }

    /// Whether [`Log::trim`] would delete anything.
    pub fn can_trim(&self, below: u64) -> bool {
        let all = below >= self.next && !self.segments.is_empty() && self.active_is_used();
        !self.poisoned && (all || self.segments.get(1).is_some_and(|second| second.first <= below))
    }

    fn active_is_used(&self) -> bool {
        self.active.as_ref().is_none_or(|a| a.len > MAGIC.len() as u64)
    }

    /// Deletes the segments whose records all lie below `below`.
    ///
    /// When that is every record, a fresh empty segment keeps the next position and all others go.
    pub fn trim(&mut self, below: u64) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned(self.dir.clone()));
        }
        if below >= self.next && !self.segments.is_empty() && self.active_is_used() {
            self.active = Some(self.begin_segment()?);
        }
        let whole = self.segments.windows(2).take_while(|pair| pair[1].first <= below).count();
        for _ in 0..whole {
            let path = self.dir.join(self.segments[0].file_name());
            match self.files.remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(e)),
                _ => {
                    self.segments.remove(0);
                    self.lengths.remove(0);
                }
            }
        }
        Ok(())
    }

    /// Makes a new, last segment that begins at the next position.
    fn begin_segment(&mut self) -> Result<Active, LogError> {
        let name = SegmentName::new(self.next);
        let path = self.dir.join(name.file_name());
        let mut file = self.files.create_new(&path).map_err(failed("create", &path))?;
        if let Err(source) = file.write_all(MAGIC) {
            // The file may stay behind: no other segment may bear its first position.
            self.next += 1;
            let _ = self.files.remove(&path);
            return Err(LogError::Io { what: "write", path, source });
        }
        if self.files.sync_dir(&self.dir).is_err() {
            self.poisoned = true;
            return Err(LogError::Poisoned(self.dir.clone()));
        }
        self.segments.push(name);
        self.lengths.push(MAGIC.len() as u64);
        Ok(Active { name, file, len: MAGIC.len() as u64 })
    }
}

pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::RecoveryCounts;
    use crate::sim::{Dice, SimFiles};

    const DIR: &str = "wal";

    fn options(segment_bytes: u64) -> LogOptions {
        LogOptions { segment_bytes }
    }

    fn open(files: &SimFiles, segment_bytes: u64) -> (Log, Recovery) {
        Log::open_on(Arc::new(files.clone()), DIR, options(segment_bytes)).unwrap()
    }

    fn all(recovery: Recovery) -> Vec<(u64, Bytes)> {
        recovery.map(Result::unwrap).collect()
    }

    fn counted(mut recovery: Recovery) -> (Vec<u64>, RecoveryCounts) {
        let positions = recovery.by_ref().map(|r| r.unwrap().0).collect();
        (positions, recovery.counts())
    }

    fn segment_files(files: &SimFiles) -> Vec<PathBuf> {
        let mut names = files.list(Path::new(DIR)).unwrap();
        names.retain(|n| n.ends_with(".log"));
        names.sort();
        names.iter().map(|n| Path::new(DIR).join(n)).collect()
    }

    fn record(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn keeps_records_on_a_real_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let (mut log, recovery) = Log::open(&path, options(40)).unwrap();
        assert_eq!(all(recovery), []);
        assert_eq!(*log.append(&[record("a"), record("")]).unwrap(), 0..2);
        assert_eq!(*log.append(&[record("c")]).unwrap(), 2..3);
        assert!(matches!(Log::open(&path, options(40)), Err(LogError::InUse(_))));
        drop(log);
        let (mut log, recovery) = Log::open(&path, options(40)).unwrap();
        assert_eq!(all(recovery), [(0, record("a")), (1, record("")), (2, record("c"))]);
        assert_eq!(*log.append(&[record("d")]).unwrap(), 3..4);
        log.trim(3).unwrap();
        drop(log);
        let (_, recovery) = Log::open(&path, options(40)).unwrap();
        assert_eq!(all(recovery), [(3, record("d"))]);
    }

    #[test]
    fn positions_never_restart() {
        let files = SimFiles::new();
        let (mut log, _) = open(&files, 64);
        for _ in 0..10 {
            log.append(&[record("0123456789"), record("x")]).unwrap();
        }
        log.trim(7).unwrap();
        drop(log);
        let (mut log, recovery) = open(&files, 64);
        let (positions, _) = counted(recovery);
        assert!(positions[0] <= 7 && positions[0] > 0, "{positions:?}");
        log.trim(u64::MAX).unwrap();
        drop(log);
        for _ in 0..3 {
            let (log, recovery) = open(&files, 64);
            assert_eq!(all(recovery), []);
            assert!(log.next() >= 20);
        }
        let (mut log, _) = open(&files, 64);
        log.skip_to(100);
        log.skip_to(50);
        assert_eq!(*log.append(&[record("y")]).unwrap(), 100..101);
        assert_eq!(segment_files(&files).len(), 2);
    }

    #[test]
    fn damage_is_stepped_over_and_counted() {
        let files = SimFiles::new();
        let (mut log, _) = open(&files, 1 << 20);
        // The payload of the second record holds a whole log of its own.
        let mut decoy = Vec::new();
        SegmentName::new(0).encode(3, &[b"decoy"], &mut decoy);
        let records: Vec<_> = vec![record("zero"), decoy.into(), record("two"), record("three")];
        log.append(&records).unwrap();
        drop(log);
        let path = &segment_files(&files)[0];
        let len = files.read(path).unwrap().len();
        let starts = [8, 8 + 20, 8 + 20 + 37, 8 + 20 + 37 + 19];
        for at in 0..len {
            files.corrupt(path, at, 0x41);
            let hit = starts.iter().rposition(|s| *s <= at).map(|n| n as u64);
            let (log, recovery) = open(&files.restart(0), 1 << 20);
            let (positions, counts) = counted(recovery);
            let left: Vec<u64> = (0..4).filter(|p| Some(*p) != hit).collect();
            assert_eq!(positions, left, "byte {at}");
            match hit {
                Some(3) => assert_eq!((counts.corrupt, counts.cut_bytes > 0), (0, true)),
                Some(_) => assert_eq!((counts.corrupt, counts.cut_bytes), (1, 0)),
                None => assert_eq!(counts.corrupt, 1),
            }
            assert!(log.next() >= 3);
            drop(log);
            // `restart` copies, so undo the damage in the original.
            files.corrupt(path, at, 0x41);
        }
    }

    #[test]
    fn a_full_disk_refuses_and_recovers() {
        let files = SimFiles::new();
        let (mut log, _) = open(&files, 1 << 20);
        log.append(&[record("kept")]).unwrap();
        files.set_space(Some(30));
        assert!(matches!(log.append(&[record("a"), record("too much for it")]), Err(LogError::Io { .. })));
        assert!(matches!(
            log.append(&[record("still too much for it, as all is")]),
            Err(LogError::Io { .. })
        ));
        files.set_space(None);
        let range = log.append(&[record("later")]).unwrap().into_inner();
        drop(log);
        let (log, recovery) = open(&files, 1 << 20);
        assert_eq!(all(recovery), [(0, record("kept")), (range.start, record("later"))]);
        assert_eq!(log.next(), range.end);
    }

    #[test]
    fn a_failed_fsync_poisons() {
        let files = SimFiles::new();
        let (mut log, _) = open(&files, 1 << 20);
        log.append(&[record("kept")]).unwrap();
        files.fail_syncs(1);
        for _ in 0..3 {
            assert!(matches!(log.append(&[record("never acknowledged")]), Err(LogError::Poisoned(_))));
        }
        assert!(matches!(log.trim(9), Err(LogError::Poisoned(_))));
        drop(log);
        let files = files.restart(1);
        let (mut log, recovery) = open(&files, 1 << 20);
        assert_eq!(all(recovery).first(), Some(&(0, record("kept"))));
        log.append(&[record("again")]).unwrap();
    }

    #[test]
    fn refuses_what_is_too_large() {
        let files = SimFiles::new();
        let (mut log, _) = open(&files, 1 << 20);
        let half = vec![0; MAX_RECORD / 2 + 1];
        assert!(matches!(log.append_parts(&[[&half[..], &half[..]]]), Err(LogError::TooLarge { .. })));
        assert_eq!(*log.append(&[]).unwrap(), 0..0);
    }

    /// One life of a log, up to a crash: appends, trims, full disks, failing fsyncs. What was acknowledged goes to `acknowledged`.
    fn live(files: &SimFiles, dice: &mut Dice, acknowledged: &mut BTreeMap<u64, Bytes>, trimmed: &mut u64) {
        let Ok((mut log, recovery)) = Log::open_on(Arc::new(files.clone()), DIR, options(200)) else {
            return;
        };
        let found: Vec<_> = recovery.map_while(Result::ok).collect();
        if files.crashed() {
            return;
        }
        check(&found, acknowledged, *trimmed);
        let floor = acknowledged.last_key_value().map_or(0, |(p, _)| p + 1);
        assert!(log.next() >= floor, "positions restart: {} < {floor}", log.next());
        for _ in 0..40 {
            match dice.below(12) {
                0 => {
                    let below = *trimmed + dice.below((log.next() + 1).saturating_sub(*trimmed));
                    *trimmed = below;
                    let _ = log.trim(below);
                }
                1 => files.set_space(Some(dice.below(80))),
                2 => files.set_space(None),
                3 if dice.below(8) == 0 => files.fail_syncs(1),
                _ => {
                    let records: Vec<Bytes> = (0..1 + dice.below(4))
                        .map(|_| Bytes::from(vec![dice.below(256) as u8; dice.below(40) as usize]))
                        .collect();
                    if let Ok(range) = log.append(&records) {
                        acknowledged.extend(range.into_inner().zip(records));
                    }
                }
            }
            if files.crashed() {
                return;
            }
        }
    }

    /// All acknowledged records above the trim are there, exactly once, in order, unchanged.
    fn check(found: &[(u64, Bytes)], acknowledged: &BTreeMap<u64, Bytes>, trimmed: u64) {
        assert!(found.windows(2).all(|w| w[0].0 < w[1].0), "out of order or twice: {found:?}");
        let found: BTreeMap<_, _> = found.iter().cloned().collect();
        for (position, record) in acknowledged.range(trimmed..) {
            assert_eq!(found.get(position), Some(record), "position {position}");
        }
        for (position, record) in &found {
            if let Some(expected) = acknowledged.get(position) {
                assert_eq!(record, expected);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
        #[test]
        fn survives_crashes_at_any_byte(seed in any::<u64>(), fuels in prop::collection::vec(0u64..4000, 1..8)) {
            let mut dice = Dice::new(seed);
            let mut files = SimFiles::new();
            let (mut acknowledged, mut trimmed) = (BTreeMap::new(), 0);
            for fuel in fuels {
                files.crash_after(fuel);
                live(&files, &mut dice, &mut acknowledged, &mut trimmed);
                files = files.restart(dice.below(u64::MAX));
            }
            let (_log, recovery) = open(&files, 200);
            check(&all(recovery), &acknowledged, trimmed);
        }
    }

    #[test]
    fn survives_a_crash_at_every_single_byte() {
        for fuel in 0..1500 {
            for seed in 0..4 {
                let (mut acknowledged, mut trimmed) = (BTreeMap::new(), 0);
                let files = SimFiles::new();
                files.crash_after(fuel);
                live(&files, &mut Dice::new(7), &mut acknowledged, &mut trimmed);
                let (_log, recovery) = open(&files.restart(seed), 200);
                check(&all(recovery), &acknowledged, trimmed);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(SegmentName::new(5).file_name()), &bytes).unwrap();
            let (mut log, recovery) = Log::open(dir.path(), options(1000)).unwrap();
            prop_assert_eq!(all(recovery), []);
            prop_assert!(log.append(&[record("x")]).is_ok());
        }
    }
}
