//! Where a file may have gone: the names that rotation gives.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};

/// Most files that are looked at beside one.
const MAX_SIBLINGS: usize = 1000;
/// How the names of compressed files end.
const COMPRESSED: [&str; 4] = [".gz", ".bz2", ".zst", ".z"];

/// Regular files beside `path` that are named as its earlier generations would be, or whose inode is one of these. Those written to last
/// come first.
pub(super) fn beside(path: &Path, inodes: &HashSet<u64>) -> Vec<(PathBuf, Metadata)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            inodes.contains(&entry.ino()) || is_generation(name, &entry.file_name().to_string_lossy())
        })
        .take(MAX_SIBLINGS)
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok().filter(Metadata::is_file)?)))
        .collect();
    found.sort_by_key(|(_, metadata)| std::cmp::Reverse(metadata.modified().ok()));
    found
}

/// Paths that rotation may have taken `path` from: `app.log` and `app.log.1` for `app.log.1.gz`.
pub(super) fn originals(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return Vec::new() };
    let uncompressed = COMPRESSED.iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
    let extension = uncompressed.rsplit_once('.').map(|(_, extension)| extension);
    let mut found = Vec::new();
    for (at, _) in name.match_indices(['.', '-', '_']) {
        let stem = &name[..at];
        let with_extension = extension.map(|extension| format!("{stem}.{extension}"));
        for candidate in [Some(stem.to_owned()), with_extension].into_iter().flatten() {
            if candidate != name && is_generation(&candidate, name) && !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    }
    found.into_iter().map(|candidate| path.with_file_name(candidate)).collect()
}

/// Whether rotation may have called a file `other` that was called `name`: `app.log.1`, `app.log-20240102.gz`, `app-1.log`.
fn is_generation(name: &str, other: &str) -> bool {
    // A word makes another log: `app-error.log` and `app.log.json` are no generations of `app.log`.
    let is_number = |rest: &str| {
        rest.starts_with(['.', '-', '_'])
            && rest.bytes().any(|b| b.is_ascii_digit())
            && rest.bytes().all(|b| b.is_ascii_digit() || b".-_:TZ".contains(&b))
    };
    let uncompressed = COMPRESSED.iter().find_map(|s| other.strip_suffix(s)).unwrap_or(other);
    let is_packed = uncompressed != other;
    if uncompressed
        .strip_prefix(name)
        .is_some_and(|r| is_number(r) || r == ".old" || (is_packed && r.is_empty()))
    {
        return true;
    }
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    let Some((other_stem, other_extension)) = uncompressed.rsplit_once('.') else { return false };
    extension == other_extension && other_stem.strip_prefix(stem).is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_generations() {
        let check = |name: &str, yes: &[&str], no: &[&str]| {
            yes.iter().for_each(|other| assert!(is_generation(name, other), "{name} {other}"));
            no.iter().for_each(|other| assert!(!is_generation(name, other), "{name} {other}"));
        };
        check(
            "app.log",
            &[
                "app.log.1",
                "app.log-20240102",
                "app.log.2.gz",
                "app.log.old",
                "app-1.log",
                "app-2024-01-02T03.log.gz",
            ],
            &[
                "app.log",
                "app.log.lock",
                "app.txt",
                "app-error.log",
                "other.log.1",
                "app.1.txt",
                "app2.log",
                "app.logs",
            ],
        );
        check("0.log", &["0.log.20240102-030405", "0.log.20240102-030405.gz"], &["1.log"]);
        check("messages", &["messages.1", "messages-20240102.gz"], &["messages_old", "messages2"]);
    }

    #[test]
    fn where_names_come_from() {
        let check = |path: &str, want: &[&str]| {
            let want: Vec<_> = want.iter().map(PathBuf::from).collect();
            assert_eq!(originals(Path::new(path)), want, "{path}");
        };
        check("/l/app.log.1.gz", &["/l/app.log", "/l/app.log.1"]);
        check("/l/app-20240102.log.gz", &["/l/app.log", "/l/app-20240102.log"]);
        check("/l/app.log", &[]);
    }

    #[test]
    fn generations_and_moved_files() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        for name in ["app.log", "app.log.1", "other", "moved"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        std::fs::create_dir(folder.path().join("app.log.2")).unwrap();
        let moved = std::fs::metadata(folder.path().join("moved")).unwrap().ino();
        let found = beside(&folder.path().join("app.log"), &HashSet::from([moved]));
        let mut names: Vec<_> =
            found.iter().map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names, ["app.log.1", "moved"]);
    }
}
