//! The log of one spool: appends that may fail, on disks that get well again.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Files, Log, LogError, LogOptions};

/// Records on disk, of which some were refused though they may be there.
#[derive(Debug)]
pub(super) struct SpoolLog {
    files: Arc<dyn Files>,
    dir: PathBuf,
    options: LogOptions,
    /// None after an fsync that failed, until it can be opened again.
    log: Option<Log>,
    next: u64,
    bytes: u64,
    holes: Vec<Range<u64>>,
}

impl SpoolLog {
    /// Opens the log in a folder, which is made.
    pub(super) fn open(files: Arc<dyn Files>, dir: &Path, segment_bytes: u64) -> Result<Self, LogError> {
        let options = LogOptions { segment_bytes };
        let mut log =
            Self { files, dir: dir.to_owned(), options, log: None, next: 0, bytes: 0, holes: Vec::new() };
        log.usable()?;
        Ok(log)
    }

    fn usable(&mut self) -> Result<&mut Log, LogError> {
        if self.log.is_none() {
            let (mut log, recovery) = Log::open_on(self.files.clone(), &self.dir, self.options)?;
            // What was cut off may have been records that were acknowledged, and delivered: their positions are not given again.
            const LEAST_RECORD: u64 = 16;
            let cut = recovery.counts().cut_bytes.div_ceil(LEAST_RECORD);
            log.skip_to((log.next() + cut).max(self.next));
            (self.next, self.bytes) = (log.next(), log.bytes());
            self.log = Some(log);
        }
        self.log.as_mut().ok_or_else(|| LogError::Poisoned(self.dir.clone()))
    }

    /// No position below this is given any more.
    pub(super) fn skip_to(&mut self, position: u64) {
        if let Some(log) = &mut self.log {
            log.skip_to(position);
            self.next = log.next();
        }
    }

    /// Stores all records or none. After an error the same may be tried again, also after an fsync that failed: what it left
    /// behind is a hole, and later records go to another file.
    pub(super) fn append(&mut self, records: &[Bytes]) -> Result<(), LogError> {
        let log = self.usable()?;
        let first = log.next();
        let result = log.append(records).map(drop);
        (self.next, self.bytes) = (log.next(), log.bytes());
        if result.is_err() && first < self.next {
            match self.holes.last_mut() {
                Some(hole) if hole.end == first => hole.end = self.next,
                _ => self.holes.push(first..self.next),
            }
        }
        if matches!(result, Err(LogError::Poisoned(_))) {
            self.log = None;
        }
        result
    }

    /// Gives back the room of records below `position`.
    pub(super) fn trim(&mut self, position: u64) -> Result<(), LogError> {
        self.holes.retain(|hole| hole.end > position);
        let Some(log) = &mut self.log else { return Ok(()) };
        let trimmed = if log.can_trim(position) { log.trim(position) } else { Ok(()) };
        self.bytes = log.bytes();
        trimmed
    }

    /// The position of the next record: all that was stored lies below.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the files that hold what lies from `position` on.
    pub(super) fn bytes_from(&self, position: u64) -> u64 {
        self.log.as_ref().map_or(self.bytes, |log| log.bytes_from(position))
    }

    /// Positions of records that were refused, and must not be read.
    pub(super) fn holes(&self) -> &[Range<u64>] {
        &self.holes
    }
}

#[cfg(test)]
mod tests {
    use disk::LogReader;
    use disk::sim::SimFiles;

    use super::*;

    const DIR: &str = "spool";

    fn open(files: &SimFiles) -> SpoolLog {
        SpoolLog::open(Arc::new(files.clone()), Path::new(DIR), 100).unwrap()
    }

    fn record(text: &'static str) -> [Bytes; 1] {
        [Bytes::from_static(text.as_bytes())]
    }

    fn read(files: &SimFiles, log: &SpoolLog) -> Vec<String> {
        let mut reader = LogReader::new(Arc::new(files.clone()), DIR.into(), 0);
        let mut all = Vec::new();
        loop {
            let records = reader.read(log.next()).unwrap();
            if records.is_empty() {
                return all;
            }
            let stays = |position: &u64| !log.holes().iter().any(|hole| hole.contains(position));
            let kept = records.into_iter().filter(|(position, _)| stays(position));
            all.extend(kept.map(|(_, record)| String::from_utf8_lossy(&record).into_owned()));
        }
    }

    #[test]
    fn what_was_refused_is_not_read_though_it_may_be_there() {
        let files = SimFiles::new();
        let mut log = open(&files);
        log.append(&record("one")).unwrap();
        files.fail_syncs(1);
        assert!(log.append(&record("refused")).is_err());
        // The disk is well again.
        log.append(&record("two")).unwrap();
        assert_eq!(read(&files, &log), ["one", "two"]);
        files.set_space(Some(2));
        assert!(log.append(&record("no room")).is_err());
        assert!(log.append(&record("no room")).is_err());
        files.set_space(None);
        log.append(&record("three")).unwrap();
        assert_eq!(read(&files, &log), ["one", "two", "three"]);
        log.trim(log.next()).unwrap();
        assert!(log.holes().is_empty() && log.bytes() < 20, "{} bytes", log.bytes());
        assert_eq!((log.bytes_from(log.next()), read(&files, &log)), (0, vec![]));
    }

    #[test]
    fn positions_are_not_given_again() {
        let files = SimFiles::new();
        let mut log = open(&files);
        log.append(&record("one")).unwrap();
        let next = log.next();
        drop(log);
        let name =
            disk::Files::list(&files, Path::new(DIR)).unwrap().into_iter().find(|n| n.ends_with("log"));
        // Of what was acknowledged the disk loses something.
        files.corrupt(&Path::new(DIR).join(name.unwrap()), 26, 0xff);
        let mut log = open(&files);
        assert!(log.next() >= next);
        log.skip_to(100);
        log.append(&record("two")).unwrap();
        assert_eq!((log.next(), read(&files, &log)), (101, vec!["two".to_owned()]));
    }
}
