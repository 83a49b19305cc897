//! One file that grows, is renamed, truncated, or removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Timestamp;

use super::content::{Content, Identified as _};
use super::docker_json::Joiner;
use crate::positions::{Identity, Positions};
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

/// An open file and how far it was read.
pub struct FileTail {
    path: PathBuf,
    file: Content,
    identity: Identity,
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

    /// Goes on with an opened file, which lies `at` some path by now, where a job, given by its index, has left it. `docker` says that it holds Docker's JSON records.
    /// Lines longer than `max_line` bytes are cut into several.
    pub fn open(
        path: &Path,
        at: &Path,
        file: Content,
        positions: &Positions,
        docker: bool,
        max_line: usize,
        job: usize,
    ) -> io::Result<Self> {
        let (identity, progress) = positions.open_file(path, at, &file, job)?;
        let read = progress.acknowledged();
        let joiner = docker.then(|| Joiner::new(max_line));
        let max_line = if docker { max_line.max(MAX_RECORD) } else { max_line };
        let (rest, last_growth) = (Vec::new(), Instant::now());
        Ok(Self {
            path: path.to_owned(),
            file,
            identity,
            progress,
            read,
            rest,
            joiner,
            max_line,
            last_growth,
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

    /// Whether something that was read waits for its end.
    pub(super) fn is_unfinished(&self) -> bool {
        self.held_from() < self.read
    }

    /// Whether it was truncated, perhaps filled again since.
    pub(super) fn was_truncated(&self) -> io::Result<bool> {
        let size = self.file.size()?;
        Ok(size < self.read || (size > self.read && !self.identity.is_of(&self.file)?))
    }

    /// Has its identity cover as much of it as there is by now.
    pub(super) fn identify(&mut self, positions: &Positions) -> io::Result<()> {
        if !self.identity.is_full() {
            self.identity = Identity::of(&self.file)?;
            positions.renew(&self.progress, self.identity, &self.progress);
        }
        Ok(())
    }

    /// Goes on in a copy of what it was: the file itself was truncated.
    pub(super) fn go_on_in(&mut self, copy: Content, positions: &Positions) -> io::Result<()> {
        self.identity = Identity::of(&copy)?;
        positions.renew(&self.progress, self.identity, &self.progress);
        self.file = copy;
        Ok(())
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
        let flush = got == 0 && (last || self.idle() >= Self::QUIET);
        let lines = out.len();
        self.split(bytes, start, flush, out);
        let (end, has_lines) = (self.held_from(), out.len() > lines);
        if has_lines {
            // Before the first of them is sent.
            positions.bind(&self.progress);
        }
        // Lines may be handed on while the offset stays where an unfinished one begins.
        Ok((has_lines || end > before).then(|| self.progress.open(end)))
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
        let mut at = 0;
        loop {
            let line_end = text.line_end(&rest[at..]).map(|n| at + n);
            let end = match line_end {
                Some(end) => end,
                None if rest.len() - at > self.max_line => rest.len(),
                None if flush && at < rest.len() => rest.len(),
                None => break,
            };
            let is_cut = end - at > self.max_line;
            let end = if is_cut { at + self.cut(&rest[at..]) } else { end };
            let next = if line_end == Some(end) { end + text.line_end_bytes() } else { end };
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
        tracing::info!(path = %self.path.display(), "file was truncated: reading from its beginning");
        self.identity = Identity::of(&self.file)?;
        self.progress = positions.anew(&self.progress, self.identity);
        self.read = 0;
        self.rest.clear();
        if self.joiner.is_some() {
            self.joiner = Some(Joiner::new(self.max_line));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "ranges are what is compared")]
mod tests {
    use super::*;
    use crate::config::PositionsConfig;
    use std::fs::File;
    use std::io::Write;

    struct Fixture {
        folder: tempfile::TempDir,
        positions: Positions,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let filename = folder.path().join("positions.yaml").to_string_lossy().into_owned();
            let positions =
                Positions::load(&PositionsConfig { filename, ..PositionsConfig::default() }).unwrap();
            Self { folder, positions }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("app.log")
        }

        fn append(&self, text: &str) {
            let mut file = File::options().append(true).create(true).open(self.path()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn open(&self) -> FileTail {
            FileTail::open(
                &self.path(),
                &self.path(),
                Content::plain(&self.path()).unwrap(),
                &self.positions,
                false,
                100,
                0,
            )
            .unwrap()
        }

        /// Reads and acknowledges; the lines' texts.
        fn read(&self, tail: &mut FileTail, last: bool) -> Vec<String> {
            let mut chunk = Chunk::default();
            if tail.was_truncated().unwrap() {
                tail.begin_anew(&self.positions).unwrap();
            }
            if let Some(ticket) = tail.read(&self.positions, last, &mut chunk).unwrap() {
                ticket.done(1);
            }
            chunk.lines.into_iter().map(|line| line.text).collect()
        }
    }

    #[test]
    fn whole_lines_and_where_they_end() {
        let fixture = Fixture::new();
        fixture.append("one\ntwo\nthr");
        let mut tail = fixture.open();
        assert_eq!(fixture.read(&mut tail, false), ["one", "two"]);
        assert_eq!(tail.progress().acknowledged(), 8);
        fixture.append("ee\n");
        assert_eq!(fixture.read(&mut tail, false), ["three"]);
        fixture.append("end");
        assert!(fixture.read(&mut tail, false).is_empty());
        assert_eq!(fixture.read(&mut tail, true), ["end"]);
        assert_eq!(tail.progress().acknowledged(), 17);
    }

    #[test]
    fn truncated_files_begin_anew() {
        let fixture = Fixture::new();
        fixture.append("a long first line\n");
        let mut tail = fixture.open();
        assert_eq!(fixture.read(&mut tail, false).len(), 1);
        std::fs::write(fixture.path(), "new\n").unwrap();
        assert_eq!(fixture.read(&mut tail, false), ["new"]);
        // Truncated and filled beyond what was read, as copytruncate may leave it.
        std::fs::write(fixture.path(), "entirely other text than before\nand more\n").unwrap();
        assert_eq!(fixture.read(&mut tail, false), ["entirely other text than before", "and more"]);
    }

    #[test]
    fn long_lines_are_cut_and_nothing_waits_forever() {
        let fixture = Fixture::new();
        fixture.append(&"x".repeat(250));
        let mut tail = fixture.open();
        let lengths: Vec<_> = fixture.read(&mut tail, false).iter().map(String::len).collect();
        assert_eq!(lengths, [100, 100]);
    }

    /// Where lines come from, as a store would know them: id and bytes.
    fn origins(tail: &mut FileTail, positions: &Positions) -> Vec<(u128, Vec<std::ops::Range<u64>>)> {
        let mut chunk = Chunk::default();
        tail.read(positions, false, &mut chunk).unwrap();
        let source = tail.progress().source().unwrap();
        let origin = |line: Line| (source.id(), line.ranges.as_slice().to_vec());
        if source.is_durable() { chunk.lines.into_iter().map(origin).collect() } else { Vec::new() }
    }

    fn load(fixture: &Fixture) -> Positions {
        let filename = fixture.folder.path().join("positions.yaml").to_string_lossy().into_owned();
        let positions = Positions::load(&PositionsConfig { filename, ..PositionsConfig::default() }).unwrap();
        positions.of_jobs(["a".to_owned(), "b".to_owned()])
    }

    fn open(fixture: &Fixture, positions: &Positions, job: usize) -> FileTail {
        FileTail::open(
            &fixture.path(),
            &fixture.path(),
            Content::plain(&fixture.path()).unwrap(),
            positions,
            false,
            100,
            job,
        )
        .unwrap()
    }

    #[test]
    fn after_a_crash_the_same_bytes_come_from_the_same_source() {
        let fixture = Fixture::new();
        fixture.append("one\ntwo\n");
        let positions = load(&fixture);
        let before = origins(&mut open(&fixture, &positions, 0), &positions);
        assert_eq!(before.iter().map(|(_, ranges)| ranges.clone()).collect::<Vec<_>>(), [[0..4], [4..8]]);
        // Nothing was saved but what the first line needed.
        fixture.append("three\n");
        let positions = load(&fixture);
        let mut tail = open(&fixture, &positions, 0);
        let after = origins(&mut tail, &positions);
        assert_eq!((&after[..2], after.len()), (&before[..], 3));
        // What the file holds once it was truncated is another source's.
        std::fs::write(fixture.path(), "new\n").unwrap();
        assert!(tail.was_truncated().unwrap());
        tail.begin_anew(&positions).unwrap();
        let anew = origins(&mut tail, &positions);
        assert!(anew.len() == 1 && anew[0].0 != before[0].0);
        let positions = load(&fixture);
        assert_eq!(origins(&mut open(&fixture, &positions, 0), &positions), anew);
    }

    #[test]
    fn jobs_and_clients_have_places_of_their_own() {
        let fixture = Fixture::new();
        fixture.append("one\ntwo\n");
        let first = load(&fixture).for_client("first");
        let second = first.for_client("second");
        let mut readers = [open(&fixture, &first, 0), open(&fixture, &first, 1), open(&fixture, &second, 0)];
        let mut tickets = Vec::new();
        for (tail, positions) in readers.iter_mut().zip([&first, &first, &second]) {
            tickets.extend(tail.read(positions, false, &mut Chunk::default()).unwrap());
        }
        // The other job's store, and the other client's, are away.
        tickets[0].done(1);
        first.save().unwrap();
        let first = load(&fixture).for_client("first");
        let second = first.for_client("second");
        let at = |positions: &Positions, job| open(&fixture, positions, job).offset();
        assert_eq!(at(&first, 0), 8);
        assert_eq!(at(&first, 1), 0);
        assert_eq!(at(&second, 0), 0);
    }

    #[test]
    fn only_a_new_client_takes_over_what_another_has() {
        let fixture = Fixture::new();
        fixture.append("one\ntwo\n");
        let saved = load(&fixture);
        let (first, second) = (saved.for_client("first"), saved.for_client("second"));
        let mut ahead = open(&fixture, &first, 0);
        ahead.read(&first, false, &mut Chunk::default()).unwrap().unwrap().done(1);
        first.save().unwrap();
        // It comes later, in the same process or after a crash: it has read nothing.
        assert_eq!(open(&fixture, &second, 0).offset(), 0);
        let again = load(&fixture);
        assert_eq!(open(&fixture, &again.for_client("second"), 0).offset(), 0);
        // What was there when a new client began is taken over, and not what was read since.
        let first = again.for_client("first");
        let mut ahead = open(&fixture, &first, 0);
        fixture.append("three\n");
        ahead.read(&first, false, &mut Chunk::default()).unwrap().unwrap().done(1);
        first.save().unwrap();
        assert_eq!(ahead.progress().acknowledged(), 14);
        assert_eq!(open(&fixture, &again.for_client("third"), 0).offset(), 8);
    }

    #[test]
    fn nothing_is_written_where_nothing_is_new() {
        let fixture = Fixture::new();
        fixture.append("one\n");
        let positions = load(&fixture);
        let mut tail = open(&fixture, &positions, 0);
        let state = fixture.folder.path().join("positions.state.json");
        let is_written = || {
            let was_there = std::fs::remove_file(&state).is_ok();
            positions.save_changes().unwrap();
            (was_there, state.exists())
        };
        assert_eq!(is_written(), (false, true));
        assert_eq!(is_written(), (true, false));
        tail.read(&positions, false, &mut Chunk::default()).unwrap().unwrap().done(1);
        assert!(is_written().1);
        assert_eq!(is_written(), (true, false));
        positions.close_file(tail.progress());
        assert_eq!(is_written(), (false, false));
        positions.save().unwrap();
        assert!(state.exists());
    }

    #[test]
    fn where_nothing_can_be_written_lines_have_no_origin() {
        let fixture = Fixture::new();
        fixture.append("one\n");
        let filename = fixture.path().join("positions.yaml").to_string_lossy().into_owned();
        let config = PositionsConfig { filename, ignore_invalid_yaml: true, ..PositionsConfig::default() };
        let positions = Positions::load(&config).unwrap();
        let mut tail = open(&fixture, &positions, 0);
        let mut chunk = Chunk::default();
        assert!(tail.read(&positions, false, &mut chunk).unwrap().is_some());
        assert_eq!(chunk.lines[0].text, "one");
        assert!(!tail.progress().source().unwrap().is_durable());
    }
}
