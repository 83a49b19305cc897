//! One file that grows, is renamed, truncated, or removed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Timestamp;

use super::docker_json::Joiner;
use crate::positions::{Identity, Positions};
use crate::progress::{Progress, Ticket};

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
}

/// An open file and how far it was read.
pub struct FileTail {
    path: PathBuf,
    file: File,
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

impl FileTail {
    /// Bytes read at a time.
    const CHUNK: usize = 256 << 10;
    /// After so long without growth an unfinished last line is taken as finished.
    const QUIET: Duration = Duration::from_secs(3);

    /// Opens a file where it was left. `docker` says that it holds Docker's JSON records.
    pub fn open(path: &Path, positions: &Positions, docker: bool, max_line: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let (identity, progress) = positions.open_file(path, &file)?;
        let read = progress.acknowledged();
        let joiner = docker.then(|| Joiner::new(max_line));
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

    /// Offset of the next byte to read.
    pub fn offset(&self) -> u64 {
        self.read
    }

    /// How long nothing was added.
    pub fn idle(&self) -> Duration {
        self.last_growth.elapsed()
    }

    /// Reads the next chunk. Lines are appended to `out`; the ticket, if there are any, acknowledges them. `Ok(None)` says that
    /// nothing new could be handed on. With `last` an unfinished line at the end is handed on too.
    pub fn read(
        &mut self,
        positions: &Positions,
        last: bool,
        out: &mut Vec<Line>,
    ) -> io::Result<Option<Arc<Ticket>>> {
        let size = self.file.metadata()?.len();
        if size < self.read || (size > self.read && !self.identity.is_of(&self.file)?) {
            self.begin_anew(positions)?;
        }
        if !self.identity.is_full() && size > self.read {
            self.identity = Identity::of(&self.file)?;
            positions.renew(&self.progress, self.identity, &self.progress);
        }
        let before = self.held_from();
        let start = self.read - self.rest.len() as u64;
        let old = self.rest.len();
        self.rest.resize(old + Self::CHUNK, 0);
        let got = self.file.read_at(&mut self.rest[old..], self.read);
        self.rest.truncate(old + *got.as_ref().unwrap_or(&0));
        let got = got?;
        self.read += got as u64;
        if got > 0 {
            self.last_growth = Instant::now();
        }
        let flush = got == 0 && (last || self.idle() >= Self::QUIET);
        self.split(start, flush, out);
        let end = self.held_from();
        Ok((end > before).then(|| self.progress.open(end)))
    }

    /// Everything before this offset has been handed on.
    fn held_from(&self) -> u64 {
        let unread = self.read - self.rest.len() as u64;
        self.joiner.as_ref().and_then(Joiner::held_from).map_or(unread, |held| held.min(unread))
    }

    /// Cuts `rest`, which begins at offset `start`, into lines.
    fn split(&mut self, start: u64, flush: bool, out: &mut Vec<Line>) {
        let rest = std::mem::take(&mut self.rest);
        let mut at = 0;
        loop {
            let line_end = memchr::memchr(b'\n', &rest[at..]).map(|n| at + n);
            let end = match line_end {
                Some(end) => end,
                None if rest.len() - at > self.max_line => at + self.max_line,
                None if flush && at < rest.len() => rest.len(),
                None => break,
            };
            let end = end.min(at + self.max_line);
            let text = String::from_utf8_lossy(&rest[at..end]);
            match &mut self.joiner {
                Some(joiner) => joiner.push(&text, start + at as u64, out),
                None => out.push(Line { text: text.into_owned(), stream: None, time: None }),
            }
            at = if rest.get(end) == Some(&b'\n') { end + 1 } else { end };
        }
        self.rest = rest[at..].to_vec();
        if let (true, Some(joiner)) = (flush, &mut self.joiner) {
            joiner.flush(out);
        }
    }

    /// The file was truncated, or truncated and filled again: it is read from its beginning.
    fn begin_anew(&mut self, positions: &Positions) -> io::Result<()> {
        tracing::info!(path = %self.path.display(), "file was truncated: reading from its beginning");
        let (old, new) = (self.progress.clone(), Progress::new(0));
        self.identity = Identity::of(&self.file)?;
        positions.renew(&old, self.identity, &new);
        self.progress = new;
        self.read = 0;
        self.rest.clear();
        if self.joiner.is_some() {
            self.joiner = Some(Joiner::new(self.max_line));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PositionsConfig;
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
            FileTail::open(&self.path(), &self.positions, false, 100).unwrap()
        }

        /// Reads and acknowledges; the lines' texts.
        fn read(&self, tail: &mut FileTail, last: bool) -> Vec<String> {
            let mut out = Vec::new();
            if let Some(ticket) = tail.read(&self.positions, last, &mut out).unwrap() {
                ticket.done(1);
            }
            out.into_iter().map(|line| line.text).collect()
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
}
