//! Writes a case's numbered lines and remembers them.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use model::Timestamp;
use serde_json::json;

/// Longer than the agent's pause between two looks.
const A_LOOK: Duration = Duration::from_millis(400);

/// What writes the files of a case.
pub(super) struct Pen {
    folder: PathBuf,
    next: u64,
    written: Vec<String>,
}

impl Pen {
    /// A pen in a folder, which is made.
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, next: 0, written: Vec::new() })
    }

    /// All lines so far, as they must be stored.
    pub(super) fn written(&self) -> &[String] {
        &self.written
    }

    /// The number of the next line.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// A file of the case.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a new line out of its number.
    pub(super) fn line(&mut self, make: impl FnOnce(u64) -> String) -> String {
        let line = make(self.next);
        self.next += 1;
        self.written.push(line.clone());
        line
    }

    /// Makes a new line of some length.
    pub(super) fn plain(&mut self) -> String {
        self.line(|n| format!("line {n:06} {}", "of a file that grows ".repeat(1 + n as usize % 7)))
    }

    /// Writes bytes at the end of a file.
    pub(super) fn append(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        let file = File::options().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(bytes.as_ref())).with_context(|| path.display().to_string())
    }

    /// Writes plain lines at the end of a file.
    pub(super) fn lines(&mut self, name: &str, count: u64) -> Result<()> {
        let text: String = (0..count).map(|_| self.plain() + "\n").collect();
        self.append(name, text)
    }

    /// Writes lines as Docker's json-file driver does, of both outputs in turn; some are longer than its buffer and come in pieces.
    pub(super) fn docker(&mut self, name: &str, count: u64) -> Result<()> {
        /// What Docker's copier takes at once.
        const PIECE: usize = 16 << 10;
        let mut records = String::new();
        for _ in 0..count {
            let stream = if self.next.is_multiple_of(3) { "stderr" } else { "stdout" };
            let time = Timestamp::now().to_string();
            let line = self.line(|n| match n % 40 {
                7 => format!("long {n:06} {}", "x".repeat(PIECE * 3)),
                _ => format!("docker {n:06} \"quoted\" \\ <&>"),
            });
            let whole = line + "\n";
            let mut rest = whole.as_str();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(PIECE));
                records += &(json!({"log": piece, "stream": stream, "time": time}).to_string() + "\n");
                rest = more;
            }
        }
        self.append(name, records)
    }

    /// Renames a file.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        std::fs::rename(self.path(from), self.path(to)).with_context(|| format!("{from} to {to}"))
    }

    /// Renames `name` to `name.1`, `name.1` to `name.2` and so on, as Docker and logrotate do; no file is there afterwards.
    pub(super) fn shift(&self, name: &str) -> Result<()> {
        let rotated = |n: usize| if n == 0 { name.to_owned() } else { format!("{name}.{n}") };
        let count = (0..).take_while(|n| self.path(&rotated(*n)).exists()).count();
        (0..count).rev().try_for_each(|n| self.rename(&rotated(n), &rotated(n + 1)))
    }

    /// Copies a file and empties it.
    pub(super) fn copy_and_truncate(&self, name: &str, copy: &str) -> Result<()> {
        std::fs::copy(self.path(name), self.path(copy))?;
        File::options().write(true).open(self.path(name))?.set_len(0)?;
        Ok(())
    }

    /// Packs a file, as `gzip` does: the plain one is gone then.
    pub(super) fn gzip(&self, name: &str) -> Result<()> {
        let (from, part, to) = (self.path(name), self.path("part"), self.path(&format!("{name}.gz")));
        let mut packed = flate2::write::GzEncoder::new(File::create(&part)?, flate2::Compression::fast());
        std::io::copy(&mut File::open(&from)?, &mut packed)?;
        packed.finish()?.sync_all()?;
        std::fs::rename(part, to)?;
        std::fs::remove_file(from)?;
        Ok(())
    }

    /// Leaves the agent time to look, if it runs.
    pub(super) fn pause(&self) {
        std::thread::sleep(A_LOOK);
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}
