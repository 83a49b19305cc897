//! Reads a log while it is written: by position, a piece at a time, however long the log is.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::log::failed;
use crate::segment::{MAGIC, Scan, SegmentName};
use crate::{Files, LogError};

/// Reads records in order of position. There may be many of one log, each at a position of its own; they need no lock, since
/// they read only what was acknowledged, and segments below what they have read are all that is trimmed.
#[derive(Debug, Clone)]
pub struct LogReader {
    files: Arc<dyn Files>,
    dir: PathBuf,
    next: u64,
    place: Option<Place>,
}

/// Where the next record stands, if it stands in this segment.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: SegmentName,
    offset: u64,
}

/// Bytes that are read at once, unless a record is larger.
const PIECE: usize = 256 << 10;

impl LogReader {
    /// Reads the log in `dir` from `position` on, which may be before what is left of it.
    pub fn new(files: Arc<dyn Files>, dir: PathBuf, position: u64) -> Self {
        Self { files, dir, next: position, place: None }
    }

    /// The position behind the last record read: all before it were given out, or are not there any more.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next records whose positions lie below `below`: at least one if there is one left, about 256 KiB of them. `below` must
    /// not be beyond what [`Log::append`](crate::Log::append) has acknowledged. Damage is stepped over; errors are those of the file
    /// system, after which the same may be tried again.
    pub fn read(&mut self, below: u64) -> Result<Vec<(u64, Bytes)>, LogError> {
        while self.next < below {
            let Some(place) = self.place else {
                match self.find(|name| name.first <= self.next)? {
                    Some(segment) => self.place = Some(Place { segment, offset: MAGIC.len() as u64 }),
                    // Nothing is left of what was below.
                    None => self.next = below,
                }
                continue;
            };
            match self.piece(place, below) {
                Ok(Found::Records(records)) => return Ok(records),
                Ok(Found::Later) => self.next = below,
                Ok(Found::End) => match self.find(|name| *name <= place.segment)? {
                    Some(segment) => {
                        self.next = self.next.max(segment.first);
                        self.place = Some(Place { segment, offset: MAGIC.len() as u64 });
                    }
                    None => self.next = below,
                },
                // It was trimmed, so all of it was read.
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    self.place = None;
                    self.next = self.next.max(place.segment.first + 1);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    /// The last segment that is `before`; the one after that if a place is known; the first of all if none is.
    fn find(&self, before: impl Fn(&SegmentName) -> bool) -> Result<Option<SegmentName>, LogError> {
        let names = self.files.list(&self.dir).map_err(failed("list", &self.dir))?;
        let mut segments: Vec<_> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        segments.sort_unstable();
        let after = segments.partition_point(before);
        let at = if self.place.is_some() { after } else { after.saturating_sub(1) };
        Ok(segments.get(at).copied())
    }

    /// Records of one segment that lie one after the other from here.
    fn piece(&mut self, mut place: Place, below: u64) -> Result<Found, LogError> {
        let segment = place.segment;
        let path = self.dir.join(segment.file_name());
        loop {
            let read = |most| self.files.read_at(&path, place.offset, most).map_err(failed("read", &path));
            let mut bytes = read(PIECE)?;
            if let Some(length) =
                SegmentName::record_bytes(&bytes, segment.first).filter(|l| *l > bytes.len())
            {
                bytes = read(length)?;
            }
            let (bytes, mut at, mut records) = (Bytes::from(bytes), 0, Vec::new());
            while let Some((position, record)) = segment.record(&bytes, at).filter(|(p, _)| *p < below) {
                at += SegmentName::record_bytes(&bytes[at..], 0).unwrap_or(bytes.len());
                // Where reading begins in the middle, others stand before the first that is wanted.
                if position >= self.next {
                    self.next = position + 1;
                    records.push((position, record));
                }
            }
            place.offset += at as u64;
            self.place = Some(place);
            return match (records.is_empty(), at, bytes.is_empty()) {
                (false, ..) => Ok(Found::Records(records)),
                (true, 1.., _) => continue,
                (true, 0, true) => Ok(Found::End),
                (true, 0, false) if segment.record(&bytes, 0).is_some() => Ok(Found::Later),
                (true, 0, false) => self.beyond_damage(segment, below),
            };
        }
    }

    /// The first record of a segment behind something that is none.
    fn beyond_damage(&mut self, segment: SegmentName, below: u64) -> Result<Found, LogError> {
        let path = self.dir.join(segment.file_name());
        let bytes = self.files.read(&path).map_err(failed("read", &path))?;
        let mut scan = Scan::new(segment, bytes.into());
        let wanted = self.next;
        match scan.find(|(position, _)| *position >= wanted) {
            Some((position, record)) if position < below => {
                self.next = position + 1;
                self.place = Some(Place { segment, offset: scan.intact_end as u64 });
                Ok(Found::Records(vec![(position, record)]))
            }
            Some(_) => Ok(Found::Later),
            None => Ok(Found::End),
        }
    }
}

/// What stands in a segment from a place on.
enum Found {
    /// Records that are wanted.
    Records(Vec<(u64, Bytes)>),
    /// A record that is not wanted yet.
    Later,
    /// No record.
    End,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::sim::SimFiles;
    use crate::{Log, LogOptions};

    const DIR: &str = "log";

    fn open(files: &SimFiles, segment_bytes: u64) -> Log {
        Log::open_on(Arc::new(files.clone()), DIR, LogOptions { segment_bytes }).unwrap().0
    }

    fn reader(files: &SimFiles, position: u64) -> LogReader {
        LogReader::new(Arc::new(files.clone()), DIR.into(), position)
    }

    fn record(number: u64, size: usize) -> Bytes {
        let mut text = format!("{number}:").into_bytes();
        text.resize(text.len().max(size), b'x');
        text.into()
    }

    fn positions(reader: &mut LogReader, below: u64) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            let records = reader.read(below).unwrap();
            if records.is_empty() {
                assert!(reader.position() >= below);
                return all;
            }
            for (position, record) in records {
                assert!(record.starts_with(format!("{position}:").as_bytes()), "{position}: {record:?}");
                all.push(position);
            }
        }
    }

    #[test]
    fn records_larger_than_a_piece_are_whole() {
        let files = SimFiles::new();
        let mut log = open(&files, 1 << 20);
        log.append(&[record(0, 10), record(1, PIECE * 3), record(2, PIECE), record(3, 0)]).unwrap();
        assert_eq!(positions(&mut reader(&files, 0), 4), [0, 1, 2, 3]);
        assert_eq!(positions(&mut reader(&files, 2), 4), [2, 3]);
        assert!(log.bytes() > 4 * PIECE as u64);
    }

    #[test]
    fn what_is_trimmed_or_was_refused_is_passed_over() {
        let files = SimFiles::new();
        let mut log = open(&files, 40);
        let (mut slow, mut fast) = (reader(&files, 0), reader(&files, 0));
        for number in 0..3 {
            log.append(&[record(number, 20)]).unwrap();
        }
        assert_eq!(positions(&mut fast, 3), [0, 1, 2]);
        assert_eq!(slow.read(1).unwrap().len(), 1);
        files.set_space(Some(3));
        assert!(log.append(&[record(3, 20)]).is_err());
        files.set_space(None);
        let next = log.next();
        log.append(&[record(next, 20)]).unwrap();
        log.trim(next).unwrap();
        let before = log.bytes();
        assert_eq!(positions(&mut fast, log.next()), [next]);
        assert_eq!(positions(&mut slow, log.next()), [next], "what it had not read is gone");
        assert_eq!(positions(&mut reader(&files, 0), log.next()), [next]);
        log.trim(log.next()).unwrap();
        assert!(log.bytes() < before);
        assert_eq!(positions(&mut fast, log.next()), [0_u64; 0]);
        drop(log);
        let mut log = open(&files, 40);
        let next = log.next();
        log.append(&[record(next, 5)]).unwrap();
        assert_eq!(positions(&mut fast, log.next()), [next]);
    }

    #[test]
    fn damage_costs_what_it_hits() {
        let files = SimFiles::new();
        let mut log = open(&files, 1 << 20);
        log.append(&[record(0, 0), record(1, 0), record(2, 0)]).unwrap();
        let name = files.list(Path::new(DIR)).unwrap().into_iter().find(|n| n.ends_with(".log")).unwrap();
        let path = Path::new(DIR).join(name);
        for (at, left) in [(8, vec![1, 2]), (8 + 18 + 3, vec![0, 2]), (8 + 36 + 17, vec![0, 1])] {
            files.corrupt(&path, at, 0x41);
            assert_eq!(positions(&mut reader(&files, 0), 3), left, "byte {at}");
            files.corrupt(&path, at, 0x41);
        }
    }

    proptest! {
        #[test]
        fn every_reader_sees_every_record(
            segment_bytes in 20_u64..400,
            steps in proptest::collection::vec((0_usize..4, 0_usize..60, 0_u64..5, any::<bool>()), 1..40),
        ) {
            let files = SimFiles::new();
            let mut log = open(&files, segment_bytes);
            let (mut reader, mut seen, mut written) = (reader(&files, 0), Vec::new(), Vec::new());
            for (count, size, lag, fails) in steps {
                let batch: Vec<_> = (0..count).map(|i| record(log.next() + i as u64, size)).collect();
                files.set_space(fails.then_some(size as u64));
                if let Ok(stored) = log.append(&batch) {
                    written.extend(stored.into_inner());
                }
                files.set_space(None);
                let below = written.last().map_or(0, |last| last + 1).saturating_sub(lag);
                seen.extend(positions(&mut reader, below));
                log.trim(below.min(reader.position())).unwrap();
            }
            let end = written.last().map_or(0, |last| last + 1);
            seen.extend(positions(&mut reader, end));
            prop_assert_eq!(seen, written);
        }
    }
}
