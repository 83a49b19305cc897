//! The ingest log on the local disk.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Durable, Files, Log, LogError, LogOptions, OsFiles, Recovery, RecoveryCounts, atomic};
use model::TenantId;

use crate::{IngestLog, IngestLogError, Record, WriterId};

/// The first byte of every record: the version of what follows.
const VERSION: u8 = 1;

/// An ingest log in a directory. Beside the segments stand its identity in the file `writer` and the checkpoint in the file
/// `checkpoint`.
///
/// A record is stored as version (1), length of the tenant id in bytes, tenant id, body.
#[derive(Debug)]
pub struct DiskIngestLog {
    log: Log,
    writer: WriterId,
    files: Arc<dyn Files>,
    checkpoint_path: PathBuf,
    /// As it was found.
    checkpoint: Option<Bytes>,
}

impl DiskIngestLog {
    /// Opens or makes the log in `dir`; returns it with the records that survived.
    pub fn open(dir: impl AsRef<Path>, options: LogOptions) -> Result<(Self, DiskRecovered), IngestLogError> {
        Self::open_on(OsFiles::shared(), dir, options)
    }

    /// [`DiskIngestLog::open`] on any file system.
    pub fn open_on(
        files: Arc<dyn Files>,
        dir: impl AsRef<Path>,
        options: LogOptions,
    ) -> Result<(Self, DiskRecovered), IngestLogError> {
        let dir = dir.as_ref();
        let (log, recovery) = Log::open_on(Arc::clone(&files), dir, options)?;
        let path = dir.join("writer");
        let wrong = |reason: String| IngestLogError::Identity { path: path.display().to_string(), reason };
        let writer = match atomic::read_on(&*files, &path).map_err(|e| wrong(e.to_string()))? {
            Some(bytes) => String::from_utf8(bytes).map_err(|e| wrong(e.to_string()))?,
            None => {
                let writer = WriterId::random();
                atomic::write_on(&*files, &path, writer.as_str().as_bytes())
                    .map_err(|e| wrong(e.to_string()))?;
                writer.as_str().to_owned()
            }
        };
        let writer = WriterId::new(writer.trim());
        let checkpoint_path = dir.join("checkpoint");
        let checkpoint =
            atomic::read_on(&*files, &checkpoint_path).map_err(checkpoint_error(&checkpoint_path))?;
        let checkpoint = checkpoint.map(Bytes::from);
        let log = Self { log, writer, files, checkpoint_path, checkpoint };
        Ok((log, DiskRecovered { recovery, unreadable: 0 }))
    }
}

impl IngestLog for DiskIngestLog {
    fn writer(&self) -> &WriterId {
        &self.writer
    }

    fn append(&mut self, records: &[Record]) -> Result<Durable<Range<u64>>, IngestLogError> {
        let headers: Vec<[u8; 2]> = records.iter().map(|r| [VERSION, tenant_len(&r.tenant)]).collect();
        let parts: Vec<[&[u8]; 3]> = records
            .iter()
            .zip(&headers)
            .map(|(r, h)| [&h[..], r.tenant.as_str().as_bytes(), &r.body[..]])
            .collect();
        Ok(self.log.append_parts(&parts)?)
    }

    fn can_trim(&self, below: u64) -> bool {
        self.log.can_trim(below)
    }

    fn checkpoint(&mut self, document: &[u8]) -> Result<Durable<()>, IngestLogError> {
        let path = &self.checkpoint_path;
        atomic::write_on(&*self.files, path, document).map_err(checkpoint_error(path))
    }

    fn take_checkpoint(&mut self) -> Option<Bytes> {
        self.checkpoint.take()
    }

    fn trim(&mut self, below: u64) -> Result<(), IngestLogError> {
        Ok(self.log.trim(below)?)
    }

    fn next(&self) -> u64 {
        self.log.next()
    }

    fn skip_to(&mut self, position: u64) {
        self.log.skip_to(position);
    }
}

fn checkpoint_error(path: &Path) -> impl FnOnce(io::Error) -> IngestLogError {
    let path = path.display().to_string();
    move |source| IngestLogError::Checkpoint { path, source }
}

fn tenant_len(tenant: &TenantId) -> u8 {
    const _: () = assert!(TenantId::MAX_BYTES <= u8::MAX as usize);
    tenant.as_str().len() as u8
}

/// The records that a [`DiskIngestLog`] held when it was opened.
#[derive(Debug)]
pub struct DiskRecovered {
    recovery: Recovery,
    unreadable: u64,
}

impl DiskRecovered {
    /// What was lost to damage so far; complete when the iteration has ended.
    pub fn counts(&self) -> RecoveryCounts {
        self.recovery.counts()
    }

    /// Intact records that this version cannot read, so far.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

impl Iterator for DiskRecovered {
    type Item = Result<(u64, Record), IngestLogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.recovery.next()? {
                Err(error) => return Some(Err(LogError::into(error))),
                Ok((position, bytes)) => match decode(&bytes) {
                    Some(record) => return Some(Ok((position, record))),
                    None => self.unreadable += 1,
                },
            }
        }
    }
}

impl Drop for DiskRecovered {
    fn drop(&mut self) {
        let counts = self.counts();
        if counts.cut_bytes + counts.corrupt + self.unreadable > 0 {
            tracing::warn!(
                records = counts.records,
                cut_bytes = counts.cut_bytes,
                corrupt = counts.corrupt,
                corrupt_bytes = counts.corrupt_bytes,
                unreadable = self.unreadable,
                "the ingest log was damaged: the rest of it was recovered"
            );
        }
    }
}

fn decode(bytes: &Bytes) -> Option<Record> {
    let (&[version, len], rest) = bytes.split_first_chunk()?;
    let tenant = rest.get(..usize::from(len))?;
    if version != VERSION {
        return None;
    }
    let tenant = TenantId::parse(std::str::from_utf8(tenant).ok()?).ok()?;
    Some(Record { tenant, body: bytes.slice(2 + usize::from(len)..) })
}
