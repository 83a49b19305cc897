//! Whole files that are either the old or the new one after a crash, never a mixture.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Durable, Files, OsFiles};

/// Replaces the file at `path` by `bytes`: temporary file, fsync, rename, fsync of the directory.
///
/// The directory must exist. After an error the old file stands, or, when only the last fsync
/// failed, either of the two.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<Durable<()>> {
    write_on(&OsFiles, path, bytes)
}

/// Reads a file that [`write()`] wrote; `None` when there is none.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    read_on(&OsFiles, path)
}

/// [`write()`] on any file system.
pub fn write_on(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<Durable<()>> {
    prepare(files, path, bytes)?.commit()
}

/// What is written, and takes its place with one step more.
pub(crate) struct Prepared<'a> {
    files: &'a dyn Files,
    path: &'a Path,
    temporary: PathBuf,
}

/// Writes everything to a temporary file, durably.
pub(crate) fn prepare<'a>(files: &'a dyn Files, path: &'a Path, bytes: &[u8]) -> io::Result<Prepared<'a>> {
    let temporary = temporary_for(path)?;
    // One writer per path, so whatever lies here is the rest of a crashed write.
    match files.remove(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = files.create_new(&temporary)?;
    file.write_all(bytes)?;
    file.sync()?;
    Ok(Prepared { files, path, temporary })
}

impl Prepared<'_> {
    /// Takes the place of what lay at the path, durably.
    pub(crate) fn commit(self) -> io::Result<Durable<()>> {
        let dir = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.files.rename(&self.temporary, self.path)?;
        self.files.sync_dir(dir)?;
        Ok(Durable::new(()))
    }
}

/// [`read`] on any file system.
pub fn read_on(files: &dyn Files, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match files.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn temporary_for(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = OsString::from(name);
    temporary.push(".tmp");
    Ok(path.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimFiles;

    #[test]
    fn replaces_and_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("positions.yaml");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(OsFiles.list(dir.path()).unwrap(), ["positions.yaml"]);
    }

    #[test]
    fn a_crash_at_any_point_leaves_the_old_or_the_new() {
        let path = Path::new("d/positions");
        for fuel in 0..40 {
            for seed in 0..8 {
                let files = SimFiles::new();
                files.create_dir_all(Path::new("d")).unwrap();
                write_on(&files, path, b"the old one").unwrap();
                files.crash_after(fuel);
                let written = write_on(&files, path, b"the new one!").is_ok();
                let files = files.restart(seed);
                let found = read_on(&files, path).unwrap().unwrap();
                assert!(found == b"the new one!" || (!written && found == b"the old one"), "{fuel} {seed}");
                write_on(&files, path, b"later").unwrap();
                assert_eq!(read_on(&files, path).unwrap().unwrap(), b"later");
            }
        }
    }
}
