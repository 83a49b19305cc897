//! What a log still held when it was opened.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::log::failed;
use crate::segment::{Scan, SegmentName};
use crate::{Files, LogError};

/// How much of a log was lost to damage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryCounts {
    /// Records that came back.
    pub records: u64,
    /// Bytes cut off behind the last intact record of a segment: what a crash in the middle of a write leaves.
    pub cut_bytes: u64,
    /// Damaged stretches (of one or more records) with intact records behind them.
    pub corrupt: u64,
    /// Bytes of those stretches.
    pub corrupt_bytes: u64,
}

/// Iterates over the surviving records in order of position. Reads one segment at a time; the
/// records of a segment share its memory.
///
/// Damage is stepped over and counted. The error is that of a file that cannot be read at all, and ends the iteration.
#[derive(Debug)]
pub struct Recovery {
    files: Arc<dyn Files>,
    dir: PathBuf,
    segments: std::vec::IntoIter<SegmentName>,
    scan: Option<Scan>,
    counts: RecoveryCounts,
    next: u64,
}

impl Recovery {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        dir: PathBuf,
        segments: Vec<SegmentName>,
        cut_bytes: u64,
    ) -> Self {
        let counts = RecoveryCounts { cut_bytes, ..RecoveryCounts::default() };
        Self { files, dir, segments: segments.into_iter(), scan: None, counts, next: 0 }
    }

    /// What was seen so far: complete when the iteration has ended.
    pub fn counts(&self) -> RecoveryCounts {
        self.counts
    }

    fn read(&mut self, name: SegmentName) -> Result<Option<Scan>, LogError> {
        let path = self.dir.join(name.file_name());
        match self.files.read(&path) {
            Ok(bytes) => Ok(Some(Scan::new(name, bytes.into()))),
            // Trimmed since the log was opened.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path)(e)),
        }
    }
}

impl Iterator for Recovery {
    type Item = Result<(u64, Bytes), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(scan) = &mut self.scan {
                // Positions never repeat, so one below `next` is no record of ours.
                if let Some((position, record)) = scan.find(|(position, _)| *position >= self.next) {
                    self.next = position + 1;
                    self.counts.records += 1;
                    return Some(Ok((position, record)));
                }
                self.counts.cut_bytes += scan.tail();
                self.counts.corrupt += scan.damaged;
                self.counts.corrupt_bytes += scan.damaged_bytes;
                self.scan = None;
            }
            let name = self.segments.next()?;
            match self.read(name) {
                Ok(scan) => self.scan = scan,
                Err(error) => {
                    self.segments = Vec::new().into_iter();
                    return Some(Err(error));
                }
            }
        }
    }
}
