//! A small document that is written again and again, of which the generation before is kept: what a power cut, a bad sector or
//! an editor makes of the newest one does not cost everything.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Durable, Files, OsFiles, atomic};

/// A document at a path, and its last good generation beside it under the same name with `.old`. One writer at a time.
#[derive(Debug)]
pub struct Document {
    files: Arc<dyn Files>,
    path: PathBuf,
    old: PathBuf,
    /// What lies at the path is known to be good: only that may take the place of the generation before.
    is_good: bool,
}

/// What a document holds.
#[derive(Debug)]
pub struct Reading<T> {
    /// The newest generation that can be understood.
    pub value: Option<T>,
    /// Generations that are there and cannot be, the newest first: where they lie, and what is wrong with them.
    pub damaged: Vec<String>,
}

impl Document {
    /// The document at a path.
    pub fn new(path: PathBuf) -> Self {
        Self::on(OsFiles::shared(), path)
    }

    /// The same on any file system.
    pub fn on(files: Arc<dyn Files>, path: PathBuf) -> Self {
        let mut old = OsString::from(&path);
        old.push(".old");
        Self { files, path, old: old.into(), is_good: false }
    }

    /// Where the newest generation lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest generation that `parse` understands. An error where the newest may not be read, which is no damage.
    pub fn read<T, E: Display>(&mut self, parse: impl Fn(&[u8]) -> Result<T, E>) -> io::Result<Reading<T>> {
        let mut damaged = Vec::new();
        self.is_good = false;
        for path in [&self.path, &self.old] {
            let problem = match atomic::read_on(&*self.files, path) {
                Ok(None) => continue,
                Ok(Some(bytes)) => match parse(&bytes) {
                    Ok(value) => {
                        self.is_good = path == &self.path;
                        return Ok(Reading { value: Some(value), damaged });
                    }
                    Err(problem) => format!("{problem:#}"),
                },
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path == &self.path => {
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
                }
                Err(error) => error.to_string(),
            };
            damaged.push(format!("{}: {problem}", path.display()));
        }
        Ok(Reading { value: None, damaged })
    }

    /// Writes the next generation. The directory must exist. After an error or a crash [`Document::read`] gives what was there
    /// before, or this.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Durable<()>> {
        let written = atomic::prepare(&*self.files, &self.path, bytes)?;
        if self.is_good {
            // From here on until the next step the generation before is the newest.
            match self.files.rename(&self.path, &self.old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let done = written.commit()?;
        self.is_good = true;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Dice, SimFiles};

    const PATH: &str = "d/state.json";

    fn document(files: &SimFiles) -> Document {
        Document::on(Arc::new(files.clone()), PATH.into())
    }

    /// A number and its complement, long enough to be torn anywhere.
    fn print(number: u64) -> Vec<u8> {
        format!("{number:020}{:020}", !number).into_bytes()
    }

    fn parse(bytes: &[u8]) -> Result<u64, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        let number = text.get(..20).and_then(|n| n.parse().ok()).ok_or("not a number")?;
        if bytes == print(number) { Ok(number) } else { Err("torn".to_owned()) }
    }

    fn read(files: &SimFiles) -> Option<u64> {
        document(files).read(parse).unwrap().value
    }

    #[test]
    fn the_generation_before_is_kept() {
        let files = SimFiles::new();
        let mut state = document(&files);
        assert_eq!(state.read(parse).unwrap().value, None);
        for number in 1..=3 {
            state.write(&print(number)).unwrap();
        }
        assert_eq!(read(&files), Some(3));
        files.corrupt(Path::new(PATH), 5, 0xff);
        let mut state = document(&files);
        let found = state.read(parse).unwrap();
        assert_eq!((found.value, found.damaged.len()), (Some(2), 1));
        assert!(found.damaged[0].starts_with("d/state.json: "), "{:?}", found.damaged);
        // What is damaged does not take the place of what is good.
        state.write(&print(4)).unwrap();
        files.corrupt(Path::new(PATH), 5, 0xff);
        assert_eq!(read(&files), Some(2));
    }

    #[test]
    fn a_writer_that_has_not_read_throws_nothing_good_away() {
        let files = SimFiles::new();
        let mut state = document(&files);
        state.write(&print(1)).unwrap();
        state.write(&print(2)).unwrap();
        document(&files).write(&print(3)).unwrap();
        files.corrupt(Path::new(PATH), 0, 0xff);
        assert_eq!(read(&files), Some(1));
    }

    #[test]
    fn a_crash_at_any_point_of_any_save_leaves_the_old_or_the_new() {
        for seed in 0..24 {
            for fuel in 0..200 {
                let files = SimFiles::new();
                let mut state = document(&files);
                state.write(&print(0)).unwrap();
                files.crash_after(fuel);
                let mut last = 0;
                while state.write(&print(last + 1)).is_ok() {
                    last += 1;
                }
                let mut files = files.restart(seed);
                let found = read(&files).unwrap();
                assert!(found == last || found == last + 1, "{found} of {last}, {fuel} {seed}");
                // And once more, on what the first crash has left, with the newest damaged on top of that.
                let mut dice = Dice::new(seed * 1000 + fuel);
                let mut least = found;
                // A rename that was half done leaves one file under both names.
                let old = files.read(Path::new("d/state.json.old")).is_ok_and(|old| old != print(found));
                if dice.below(2) == 0 && old {
                    files.corrupt(Path::new(PATH), dice.below(40) as usize, 0x80);
                    least = found - 1;
                }
                let mut state = document(&files);
                let known = state.read(parse).unwrap().value.unwrap();
                assert!(known >= least, "{known} is older than {least}, {fuel} {seed}");
                files.crash_after(dice.below(120));
                let mut last = known;
                while state.write(&print(last + 1)).is_ok() {
                    last += 1;
                }
                files = files.restart(seed + 1);
                let found = read(&files).unwrap();
                assert!(
                    found == last || found == last + 1,
                    "{found} of {last} (from {known}), {fuel} {seed}"
                );
                document(&files).write(&print(9)).unwrap();
                assert_eq!(read(&files), Some(9));
            }
        }
    }

    #[test]
    fn a_full_disk_changes_nothing() {
        let files = SimFiles::new();
        let mut state = document(&files);
        state.write(&print(1)).unwrap();
        state.write(&print(2)).unwrap();
        files.set_space(Some(7));
        assert!(state.write(&print(3)).is_err());
        assert_eq!(read(&files), Some(2));
        files.set_space(None);
        files.fail_syncs(1);
        assert!(state.write(&print(3)).is_err());
        assert_eq!(read(&files), Some(2));
        state.write(&print(3)).unwrap();
        files.corrupt(Path::new(PATH), 0, 0xff);
        assert_eq!(read(&files), Some(2));
    }
}
