//! Where a file may have gone: the names that rotation gives.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};

/// Most files that are looked at beside one.
const MAX_SIBLINGS: usize = 1000;
/// How the names of compressed files end.
const COMPRESSED: [&str; 4] = [".gz", ".bz2", ".zst", ".z"];

/// A file that lies beside another.
#[derive(Debug)]
pub(super) struct Sibling {
    pub(super) path: PathBuf,
    /// As the listing has it: by now the path may lead elsewhere.
    pub(super) inode: u64,
    pub(super) metadata: Metadata,
    /// Whether it may be a generation of the very file that was asked about, and not only of its family.
    pub(super) is_own: bool,
}

/// Folders, each as it was when it was asked for first.
#[derive(Debug, Default)]
pub(super) struct Listings(HashMap<PathBuf, Listing>);

#[derive(Debug)]
struct Listing {
    /// Inodes by name.
    names: BTreeMap<OsString, HashSet<u64>>,
    /// Names by inode.
    inodes: HashMap<u64, Vec<OsString>>,
}

impl Listing {
    /// A name that changes while a folder is read may not be met: it is read until it brings nothing new.
    const MAX_READS: usize = 4;

    fn read(folder: &Path) -> Self {
        let mut listing = Self { names: BTreeMap::new(), inodes: HashMap::new() };
        for _ in 0..Self::MAX_READS {
            let mut is_new = false;
            for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
                let (name, inode) = (entry.file_name(), entry.ino());
                if listing.names.get(&name).is_some_and(|inodes| inodes.contains(&inode)) {
                    continue;
                }
                is_new = true;
                listing.inodes.entry(inode).or_default().push(name.clone());
                listing.names.entry(name).or_default().insert(inode);
            }
            if !is_new {
                break;
            }
        }
        listing
    }

    /// Names that may be those of generations of `name`, with their inodes.
    fn generations<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a OsString, u64)> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let beginnings = [b'.', b'-', b'_'].map(|mark| [stem.as_bytes(), &[mark]].concat());
        beginnings.into_iter().flat_map(move |beginning| {
            let from = OsStr::from_bytes(&beginning).to_owned();
            let names = self.names.range(from..);
            let names = names.take_while(move |(name, _)| name.as_bytes().starts_with(&beginning));
            let names = names.filter(move |(other, _)| is_generation(name, &other.to_string_lossy()));
            names.flat_map(|(name, inodes)| inodes.iter().map(move |inode| (name, *inode)))
        })
    }
}

impl Listings {
    /// Regular files beside `path` that are named as its earlier generations would be, or whose inode is one of these. Those written to
    /// last come first.
    pub(super) fn beside(&mut self, path: &Path, inodes: &HashSet<u64>) -> Vec<Sibling> {
        self.around(path, inodes, false)
    }

    /// The same with the generations of whatever `path` may be a generation of.
    pub(super) fn family(&mut self, path: &Path, inodes: &HashSet<u64>) -> Vec<Sibling> {
        self.around(path, inodes, true)
    }

    /// What lies at a path itself.
    pub(super) fn itself(&mut self, path: &Path) -> Vec<Sibling> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
        let inodes = self.of(folder).names.get(name).cloned().unwrap_or_default();
        inodes.into_iter().filter_map(|inode| Sibling::at(path.to_owned(), inode, true)).collect()
    }

    /// Where a file that lay at a path lies now, in the same folder.
    pub(super) fn with_inode(&mut self, path: &Path, inode: u64) -> Option<PathBuf> {
        let name = self.of(path.parent()?).inodes.get(&inode)?.first()?;
        Some(path.with_file_name(name))
    }

    fn around(&mut self, path: &Path, inodes: &HashSet<u64>, with_family: bool) -> Vec<Sibling> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
            return Vec::new();
        };
        let listing = self.of(folder);
        let family = if with_family { originals(path) } else { Vec::new() };
        let family: Vec<_> =
            family.iter().filter_map(|path| path.file_name().and_then(|name| name.to_str())).collect();
        let moved = inodes.iter().filter_map(|inode| Some((listing.inodes.get(inode)?, *inode)));
        // An inode alone says little: another file may have it by now.
        let moved = moved.flat_map(|(names, inode)| names.iter().map(move |name| (name, inode, false)));
        let own = listing.generations(name).map(|(name, inode)| (name, inode, true));
        let others = family.iter().flat_map(|original| listing.generations(original));
        let others = others.map(|(name, inode)| (name, inode, false));
        let mut met = HashSet::new();
        let mut found: Vec<_> = own
            .chain(moved)
            .chain(others)
            .filter(|(other, inode, _)| *other != name && met.insert((*other, *inode)))
            .filter_map(|(name, inode, is_own)| Sibling::at(folder.join(name), inode, is_own))
            .collect();
        let last = |sibling: &Sibling| std::cmp::Reverse(sibling.metadata.modified().ok());
        if found.len() > MAX_SIBLINGS {
            found.sort_by_key(|sibling| (!inodes.contains(&sibling.inode), last(sibling)));
            found.truncate(MAX_SIBLINGS);
        }
        found.sort_by_key(last);
        found
    }

    fn of(&mut self, folder: &Path) -> &Listing {
        self.0.entry(folder.to_owned()).or_insert_with_key(|folder| Listing::read(folder))
    }
}

impl Sibling {
    fn at(path: PathBuf, inode: u64, is_own: bool) -> Option<Self> {
        let metadata = path.symlink_metadata().ok().filter(Metadata::is_file)?;
        Some(Self { path, inode, metadata, is_own })
    }
}

/// What a compressed file was made of, going by its name.
pub(super) fn uncompressed(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    COMPRESSED.iter().find_map(|suffix| name.strip_suffix(suffix)).map(|name| path.with_file_name(name))
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
        let app = folder.path().join("app.log");
        let names = |found: Vec<Sibling>| {
            let mut names: Vec<_> =
                found.iter().map(|s| s.path.file_name().unwrap().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        let mut listings = Listings::default();
        assert_eq!(names(listings.beside(&app, &HashSet::from([moved]))), ["app.log.1", "moved"]);
        assert_eq!(names(listings.itself(&app)), ["app.log"]);
        // The family of a generation.
        std::fs::write(folder.path().join("app.log.3.gz"), "").unwrap();
        let first = folder.path().join("app.log.1");
        assert_eq!(names(Listings::default().beside(&first, &HashSet::new())), [""; 0]);
        let family = Listings::default().family(&first, &HashSet::new());
        assert!(family.iter().all(|sibling| !sibling.is_own));
        assert_eq!(names(family), ["app.log.3.gz"]);
        assert_eq!(uncompressed(&folder.path().join("app.log.1.gz")), Some(first));
    }

    #[test]
    fn of_many_generations_the_newest() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let long_ago =
            |n: usize| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64);
        for n in 0..MAX_SIBLINGS + 100 {
            let file = std::fs::File::create(folder.path().join(format!("app.log.{n}"))).unwrap();
            file.set_modified(long_ago(n)).unwrap();
        }
        let known = std::fs::metadata(folder.path().join("app.log.7")).unwrap().ino();
        let app = folder.path().join("app.log");
        let found = Listings::default().beside(&app, &HashSet::from([known]));
        let has = |n: usize| found.iter().any(|s| s.path == folder.path().join(format!("app.log.{n}")));
        assert_eq!(found.len(), MAX_SIBLINGS);
        assert!(has(7) && has(MAX_SIBLINGS + 99) && !has(8));
    }
}
