//! One file that grows, is renamed, truncated, or removed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Timestamp;

use super::content::{Content, Identified as _};
use super::docker_json::Joiner;
use crate::positions::{Identity, Mark, Positions};
use crate::progress::{Progress, Ticket};
use crate::source::Ranges;

/// Which output of a container a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As Docker names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line as read.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Its text without line end; bytes that are not UTF-8 are U+FFFD.
    pub text: String,
    /// From Docker's record.
    pub stream: Option<Stream>,
    /// From Docker's record.
    pub time: Option<Timestamp>,
    /// The bytes of the file that it was read from.
    pub ranges: Ranges,
}

/// What is read at a time; its room is used again for the next.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Finished lines.
    pub lines: Vec<Line>,
    bytes: Vec<u8>,
}

/// How a file is read.
#[derive(Debug, Clone)]
pub struct How<'a> {
    /// The path that it is read as.
    pub path: &'a Path,
    /// Where it lies now.
    pub at: &'a Path,
    /// Index of the job.
    pub job: usize,
    /// Whether it holds Docker's JSON records.
    pub docker: bool,
    /// Lines of more bytes are cut into several.
    pub max_line: usize,
    /// Where to begin if nobody has read it before.
    pub start: u64,
}

/// What changes whenever a file's bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(file: &Metadata) -> Self {
        let modified = (file.mtime(), file.mtime_nsec());
        Self { size: file.len(), modified, changed: (file.ctime(), file.ctime_nsec()) }
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether what is written from now on makes another one: clocks of file systems are coarse.
    fn is_settled(&self) -> bool {
        const TICK: i64 = 100_000_000;
        let (seconds, nanos) = self.changed;
        let age = Timestamp::now()
            .nanos()
            .saturating_sub(seconds.saturating_mul(1_000_000_000).saturating_add(nanos));
        age.abs() > TICK
    }
}

/// An open file and how far it was read.
pub struct FileTail {
    path: PathBuf,
    file: Content,
    identity: Identity,
    /// The mark before that of the identity.
    earlier: Option<Mark>,
    /// What it was when it was last found to be the file that it was.
    verified: Option<Stamp>,
    progress: Arc<Progress>,
    /// Offset of the next byte to read.
    read: u64,
    /// Bytes after the last line end, already read.
    rest: Vec<u8>,
    joiner: Option<Joiner>,
    max_line: usize,
    last_growth: Instant,
}

/// Longest record of a container: Docker cuts messages into pieces of 16 KiB, which escapes make six times as long.
const MAX_RECORD: usize = 256 << 10;

impl FileTail {
    /// Bytes read at a time.
    const CHUNK: usize = 256 << 10;
    /// After so long without growth an unfinished last line is taken as finished.
    const QUIET: Duration = Duration::from_secs(3);

    /// Goes on with an opened file where its job has left it.
    pub fn open(file: Content, positions: &Positions, how: &How<'_>) -> io::Result<Self> {
        let (identity, progress) = positions.open_file(how.path, how.at, &file, how.job, how.start)?;
        Ok(Self {
            path: how.path.to_owned(),
            file,
            identity,
            earlier: None,
            verified: None,
            read: progress.acknowledged(),
            progress,
            rest: Vec::new(),
            joiner: how.docker.then(|| Joiner::new(how.max_line)),
            max_line: if how.docker { how.max_line.max(MAX_RECORD) } else { how.max_line },
            last_growth: Instant::now(),
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode.
    pub fn place(&self) -> (u64, u64) {
        self.identity.place()
    }

    /// What has been acknowledged of it.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// What it is read from.
    pub(super) fn content(&self) -> &Content {
        &self.file
    }

    /// What it was when it was last looked at.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// The same as it was before something was read last, if that is known.
    pub(super) fn earlier(&self) -> Option<Identity> {
        self.earlier.map(|mark| self.identity.marked(Some(mark)))
    }

    /// Whether something that was read waits for its end.
    pub(super) fn is_unfinished(&self) -> bool {
        self.held_from() < self.read
    }

    /// Whether it was truncated, perhaps filled again since. Only what has changed since the last time is looked at.
    pub(super) fn was_truncated(&mut self) -> io::Result<bool> {
        if self.file.is_archive() {
            self.file.renew()?;
            let size = self.file.size()?;
            return Ok(size < self.read || (size > self.read && !self.identity.is_of(&self.file)?));
        }
        let now = self.file.stored()?;
        self.was_truncated_by(&now)
    }

    /// The same, going by what the system says of it now.
    pub(super) fn was_truncated_by(&mut self, now: &Metadata) -> io::Result<bool> {
        let now = Stamp::of(now);
        if self.verified == Some(now) {
            return Ok(false);
        }
        self.progress.saw(now.size);
        let is_other = now.size < self.read || !self.identity.is_of(&self.file)?;
        self.verified = Some(now).filter(|now| !is_other && now.is_settled());
        Ok(is_other)
    }

    /// Has its identity cover as much of it as there is by now.
    pub(super) fn identify(&mut self, positions: &Positions) -> io::Result<()> {
        if !self.identity.is_full() {
            let now = self.identity.again(&self.file)?.marked(self.identity.mark());
            if now != self.identity {
                self.identity = now;
                positions.identified(&self.progress, now);
            }
        }
        Ok(())
    }

    /// Whether a crash leaves its lines known, or there is nothing to know it by.
    pub(super) fn is_bound(&self) -> bool {
        !self.identity.is_telling() || self.progress.source().is_none_or(|source| source.is_durable())
    }

    /// Goes on in a copy of what it was, or in what it is under another inode; hands out what it was read from.
    pub(super) fn go_on_in(&mut self, copy: Content, positions: &Positions) -> io::Result<Content> {
        self.identity = self.identity.again(&copy)?.marked(self.identity.mark());
        positions.identified(&self.progress, self.identity);
        self.verified = None;
        Ok(std::mem::replace(&mut self.file, copy))
    }

    /// Whether another file, which begins like this, is a copy of this one. Of what this held before it was truncated only head and mark
    /// are left.
    pub(super) fn is_copied_in(&self, other: &Content, beginning: &[u8]) -> bool {
        let is_copy = || match self.identity.is_of(&self.file)? {
            true => other.is_copy_of(&self.file),
            // The copy may have been made before something was read last.
            false if self.identity.is_copied_in(other)? => Ok(true),
            false => self.earlier().map_or(Ok(false), |earlier| earlier.is_copied_in(other)),
        };
        self.identity.may_begin(beginning) && is_copy().unwrap_or(false)
    }

    /// Offset of the next byte to read.
    pub fn offset(&self) -> u64 {
        self.read
    }

    /// How long nothing was added; no time where something waits to be read.
    pub fn idle(&self) -> Duration {
        let waits = !self.file.is_archive() && self.file.size().is_ok_and(|size| size > self.read);
        if waits { Duration::ZERO } else { self.last_growth.elapsed() }
    }

    /// Reads the next chunk of a file that was not truncated. Lines are appended to those of `chunk`; the ticket, if there are any,
    /// acknowledges them. `Ok(None)` says that nothing new could be handed on. With `last` an unfinished line at the end is handed on
    /// too.
    pub fn read(
        &mut self,
        positions: &Positions,
        last: bool,
        chunk: &mut Chunk,
    ) -> io::Result<Option<Arc<Ticket>>> {
        let waiting = self.file.size()?.saturating_sub(self.read);
        if waiting == 0 && !self.is_unfinished() {
            return Ok(None);
        }
        if waiting > 0 {
            self.identify(positions)?;
        }
        let before = self.held_from();
        let Chunk { lines: out, bytes } = chunk;
        let (start, old) = (self.read - self.rest.len() as u64, self.rest.len());
        bytes.clear();
        bytes.extend_from_slice(&self.rest);
        bytes.resize(old + waiting.min(Self::CHUNK as u64) as usize, 0);
        let got = self.file.read_at(&mut bytes[old..], self.read)?;
        bytes.truncate(old + got);
        self.read += got as u64;
        if got > 0 {
            self.last_growth = Instant::now();
        }
        // The rest of an archive may still come, and with it that of its last line.
        let is_over = !self.file.is_archive() || self.file.is_complete();
        let flush = got == 0 && is_over && (last || self.idle() >= Self::QUIET);
        let lines = out.len();
        self.split(bytes, start, flush, out);
        let mark = if self.held_from() > before { self.mark(bytes, start)? } else { None };
        if mark.is_some() {
            self.earlier = self.identity.mark();
            self.identity = self.identity.marked(mark);
        }
        if self.rest.is_empty() && bytes.last() == Some(&0) {
            // A hole may be larger than all the disks there are.
            self.read = self.file.data_from(self.read, self.read + waiting.saturating_sub(got as u64));
        }
        let (end, has_lines) = (self.held_from(), out.len() > lines);
        if has_lines {
            // Before the first of them is sent.
            positions.bind(&self.progress);
        }
        // Lines may be handed on while the offset stays where an unfinished one begins.
        Ok((has_lines || end > before).then(|| self.progress.open_marked(end, mark)))
    }

    /// The mark at the end of what has been handed on, of which `bytes` are the last, from the offset `start` on. What lies before them is
    /// read again: if that is another's by now, so is the mark.
    fn mark(&self, bytes: &[u8], start: u64) -> io::Result<Option<Mark>> {
        let at = self.held_from();
        let Some(held) = at.checked_sub(start) else { return Ok(None) };
        let Some(held) = bytes.get(..held as usize) else { return Ok(None) };
        let wanted = Mark::bytes_at(at);
        let before = match wanted.checked_sub(held.len() as u64) {
            None | Some(0) => held[held.len() - wanted as usize..].to_vec(),
            // The mark before will do: nobody goes back in an archive.
            Some(_) if self.file.is_archive() => return Ok(None),
            Some(missing) => match self.file.before(start, missing)? {
                Some(before) => [&before, held].concat(),
                None => return Ok(None),
            },
        };
        // Bytes of zero may be written yet.
        let is_text = self.file.text().is_wide() || memchr::memchr(0, &before).is_none();
        Ok(is_text.then(|| Mark::of(at, &before)))
    }

    /// Everything before this offset has been handed on.
    pub(super) fn held_from(&self) -> u64 {
        let unread = self.read - self.rest.len() as u64;
        self.joiner.as_ref().and_then(Joiner::held_from).map_or(unread, |held| held.min(unread))
    }

    /// Cuts bytes, of which the first lies at offset `start`, into lines; what is unfinished becomes `rest`.
    fn split(&mut self, rest: &[u8], start: u64, flush: bool, out: &mut Vec<Line>) {
        let text = self.file.text();
        // Looked at once rather than line by line; what is not UTF-8 is mended where it stands.
        let whole = memchr::memrchr(b'\n', rest).map_or(0, |end| end + 1);
        let utf8 = if text.is_utf8() { std::str::from_utf8(&rest[..whole]).ok() } else { None };
        // Seldom, after a power failure, or where a writer goes on behind what was truncated.
        let has_nuls = !text.is_wide() && memchr::memchr(0, rest).is_some();
        let mut at = 0;
        loop {
            if has_nuls {
                at += without_nuls(&rest[at..]);
            }
            let line_end = text.line_end(&rest[at..]).map(|n| at + n);
            let run = has_nuls.then(|| nul_run(&rest[at..line_end.unwrap_or(rest.len())])).flatten();
            let line_end = run.map(|n| at + n).or(line_end);
            let end = match line_end {
                Some(end) => end,
                None if rest.len() - at > self.max_line => rest.len(),
                None if flush && at < rest.len() => rest.len(),
                None => break,
            };
            let is_cut = end - at > self.max_line;
            let end = if is_cut { at + self.cut(&rest[at..]) } else { end };
            let is_whole = line_end == Some(end) && run.is_none();
            let next = if is_whole { end + text.line_end_bytes() } else { end };
            let bytes = start + at as u64..start + next as u64;
            let line = match utf8.and_then(|utf8| utf8.get(at..end)) {
                Some(line) if bytes.start > 0 => line.into(),
                _ => text.decode(&rest[at..end], bytes.start),
            };
            match &mut self.joiner {
                Some(joiner) => joiner.push(&line, bytes, out),
                None => {
                    let ranges = Ranges::one(bytes.start, bytes.end);
                    out.push(Line { text: line.into_owned(), stream: None, time: None, ranges });
                }
            }
            at = next;
        }
        // An unfinished line is short; the room for chunks is not kept for every file.
        self.rest = rest[at..].to_vec();
        if let (true, Some(joiner)) = (flush, &mut self.joiner) {
            joiner.flush(out);
        }
    }

    /// How much of a line that is too long makes the next piece: characters stay whole.
    fn cut(&self, line: &[u8]) -> usize {
        let text = self.file.text();
        let max = text.whole(self.max_line);
        let is_inside = |at: &usize| text.is_utf8() && line.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
        // Where that never ends it is no UTF-8, and nothing is whole.
        (max.saturating_sub(3).max(1)..=max).rev().find(|at| !is_inside(at)).unwrap_or(max)
    }

    /// The file was truncated, or truncated and filled again: it is read from its beginning.
    pub(super) fn begin_anew(&mut self, positions: &Positions) -> io::Result<()> {
        let now = self.identity.again(&self.file)?;
        if self.read == 0 && now == self.identity {
            // That was before it was opened, and is known by now.
            self.verified = None;
            return Ok(());
        }
        tracing::info!(path = %self.path.display(), "file was truncated: reading from its beginning");
        self.identity = now;
        self.progress = positions.anew(&self.progress, self.identity);
        (self.read, self.verified, self.earlier) = (0, None, None);
        self.rest.clear();
        if self.joiner.is_some() {
            self.joiner = Some(Joiner::new(self.max_line));
        }
        Ok(())
    }
}

/// So many bytes of zero are no text.
const NUL_RUN: usize = 64;

/// Where text begins behind bytes of zero, and behind a line end that ends nothing but those.
fn without_nuls(bytes: &[u8]) -> usize {
    let count = nuls(bytes);
    if count > 0 && bytes.get(count) == Some(&b'\n') { count + 1 } else { count }
}

/// How many bytes of zero there are in front.
fn nuls(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == 0).count()
}

/// Where bytes of zero begin that are so many that nobody has written them.
fn nul_run(line: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = memchr::memchr(0, &line[at..]) {
        let (begin, count) = (at + found, nuls(&line[at + found..]));
        if count >= NUL_RUN {
            return Some(begin);
        }
        at = begin + count;
    }
    None
}

#[cfg(test)]
mod tests;
