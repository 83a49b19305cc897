//! Cleans a local folder of what a crash leaves: the client writes an object to `name#1` beside it and renames it when it is whole.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use model::Timestamp;

/// Removes half-written files and empty folders below `dir` that were last touched before `before`. Returns the number of files.
pub(crate) fn sweep(dir: &Path, before: Timestamp) -> io::Result<u64> {
    let nanos = u64::try_from(before.nanos()).unwrap_or(0);
    below(dir, SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
}

fn below(dir: &Path, before: SystemTime) -> io::Result<u64> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return gone_is_well(error).map(|()| 0),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        // Whatever vanishes meanwhile was somebody's to remove.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let is_old = metadata.modified().is_ok_and(|at| at < before);
        if metadata.is_dir() {
            removed += below(&path, before)?;
            if is_old {
                // Fails, as it should, when there is something in it.
                let _ = fs::remove_dir(&path);
            }
        } else if is_old && entry.file_name().to_str().is_some_and(is_half_written) {
            fs::remove_file(&path).or_else(gone_is_well)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The names that the client gives files before they are whole.
fn is_half_written(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn gone_is_well(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blob;

    #[tokio::test]
    async fn only_old_leftovers_go() {
        let dir = tempfile::tempdir().unwrap();
        let blob = Blob::local(dir.path()).unwrap();
        blob.put("logs/a/manifest/1.json", "{}".into()).await.unwrap();
        blob.put("logs/a/blocks/x/index", "i".into()).await.unwrap();
        let upload = blob.upload("logs/a/blocks/y/data.parquet").await.unwrap();
        // As a process that dies leaves it.
        std::mem::forget(upload);
        for name in ["logs/a/manifest/2.json#1", "logs/a/blocks/x/index#23", "logs/b/manifest/1.json#1"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "half").unwrap();
        }
        assert_eq!(blob.sweep("logs/a", Timestamp::now().plus(-60_000_000_000)).await.unwrap(), 0);
        assert_eq!(blob.sweep("logs/none", Timestamp::now()).await.unwrap(), 0);
        let later = Timestamp::now().plus(60_000_000_000);
        assert_eq!(blob.sweep("logs/a", later).await.unwrap(), 3);
        assert_eq!(blob.sweep("logs/a", later).await.unwrap(), 0);
        let left = blob.list("logs").await.unwrap();
        let mut left: Vec<_> = left.iter().map(|o| o.path.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["logs/a/blocks/x/index", "logs/a/manifest/1.json"]);
        assert!(dir.path().join("logs/b/manifest/1.json#1").exists());
        blob.delete("logs/a/blocks/x/index").await.unwrap();
        blob.sweep("logs/a", later).await.unwrap();
        assert!(!dir.path().join("logs/a/blocks").exists() && dir.path().join("logs/a/manifest").exists());
        assert!(Blob::memory().sweep("logs", later).await.unwrap() == 0);
    }

    #[test]
    fn names() {
        for (name, expect) in
            [("a.json#1", true), ("a#b#12", true), ("a#", false), ("a", false), ("a#1b", false)]
        {
            assert_eq!(is_half_written(name), expect, "{name}");
        }
    }
}
