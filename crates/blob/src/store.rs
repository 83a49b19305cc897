//! The handle on a bucket and its operations.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use model::Timestamp;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::{Upload, sweep};

/// Why an object could not be read or written. The store may be away: try again later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    /// The operation failed.
    #[error("{what} {path:?} in {bucket}: {source}")]
    Failed {
        /// The operation, as a verb.
        what: &'static str,
        /// The object or prefix.
        path: String,
        /// The bucket.
        bucket: Arc<str>,
        /// What the client said.
        source: Arc<object_store::Error>,
    },
    /// The bucket cannot be used as configured.
    #[error("object store {bucket}: {reason}")]
    Config {
        /// The bucket.
        bucket: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How a conditional put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is new and holds the given bytes.
    Created,
    /// There is, or may be, an object by that name; it may even be ours, from an earlier try.
    Exists,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The object's path.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: Timestamp,
}

/// A handle on one bucket, or on a prefix of it. Clones share the connection.
#[derive(Clone)]
pub struct Blob {
    store: Arc<dyn ObjectStore>,
    bucket: Arc<str>,
    /// The folder, if it is one.
    folder: Option<Arc<FilePath>>,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({})", self.bucket)
    }
}

impl Blob {
    /// A folder on the local disk, made if missing. Every put fsyncs the object and its directories.
    pub fn local(dir: impl AsRef<FilePath>) -> Result<Self, BlobError> {
        let dir = dir.as_ref();
        let wrong = |reason: String| BlobError::Config { bucket: dir.display().to_string(), reason };
        create_durably(dir).map_err(|e| wrong(format!("cannot make the folder: {e}")))?;
        let store = object_store::local::LocalFileSystem::new_with_prefix(dir)
            .map_err(|e| wrong(e.to_string()))?
            .with_fsync(true);
        let folder = Some(dir.into());
        Ok(Self { folder, ..Self::from_store(Arc::new(store), &dir.display().to_string()) })
    }

    /// A bucket in memory: for tests and for trying things out.
    pub fn memory() -> Self {
        Self::from_store(Arc::new(object_store::memory::InMemory::new()), "memory")
    }

    /// Wraps any client; `bucket` names it in errors.
    pub fn from_store(store: Arc<dyn ObjectStore>, bucket: &str) -> Self {
        Self { store, bucket: bucket.into(), folder: None }
    }

    /// The bucket's name, for people.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Writes an object, replacing what was there. Durable when it returns.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), BlobError> {
        let failed = |e| self.failed("put", path, e);
        self.store.put(&parse(path).map_err(failed)?, bytes.into()).await.map_err(failed)?;
        Ok(())
    }

    /// Writes an object unless there is one by that name. Of several writers at the same time at most one is told
    /// [`PutOutcome::Created`].
    pub async fn put_if_absent(&self, path: &str, bytes: Bytes) -> Result<PutOutcome, BlobError> {
        let failed = |e| self.failed("put", path, e);
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&parse(path).map_err(failed)?, bytes.into(), options).await {
            Ok(_) => Ok(PutOutcome::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(PutOutcome::Exists)
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// Starts writing a large object in parts. Nothing is visible before [`Upload::finish`].
    pub async fn upload(&self, path: &str) -> Result<Upload, BlobError> {
        let failed = |e| self.failed("upload", path, e);
        let upload = self.store.put_multipart(&parse(path).map_err(failed)?).await.map_err(failed)?;
        Ok(Upload::new(self.clone(), path, upload))
    }

    /// Reads a whole object; `None` when there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, BlobError> {
        let failed = |e| self.failed("get", path, e);
        match self.store.get(&parse(path).map_err(failed)?).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(failed)?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    /// Reads bytes `range` of an object that must exist.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        let failed = |e| self.failed("get", path, e);
        self.store.get_range(&parse(path).map_err(failed)?, range).await.map_err(failed)
    }

    /// Reads several ranges of an object that must exist; close ones are fetched together.
    pub async fn get_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BlobError> {
        let failed = |e| self.failed("get", path, e);
        self.store.get_ranges(&parse(path).map_err(failed)?, ranges).await.map_err(failed)
    }

    /// The size of an object in bytes; `None` when there is none.
    pub async fn head(&self, path: &str) -> Result<Option<u64>, BlobError> {
        let failed = |e| self.failed("head", path, e);
        match self.store.head(&parse(path).map_err(failed)?).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    /// All objects under a prefix of whole path segments, in no order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, BlobError> {
        let failed = |e| self.failed("list", prefix, e);
        let prefix = parse(prefix).map_err(failed)?;
        let found = self.store.list(Some(&prefix)).map_ok(|o| ObjectInfo {
            path: o.location.to_string(),
            size: o.size,
            modified: Timestamp(o.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX)),
        });
        found.try_collect().await.map_err(failed)
    }

    /// The names of the folders directly under a prefix, sorted.
    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        let failed = |e| self.failed("list", prefix, e);
        let prefix = parse(prefix).map_err(failed)?;
        let found = self.store.list_with_delimiter(Some(&prefix)).await.map_err(failed)?;
        let mut names: Vec<_> =
            found.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes an object; it is no error when there is none.
    pub async fn delete(&self, path: &str) -> Result<(), BlobError> {
        let failed = |e| self.failed("delete", path, e);
        let path = parse(path).map_err(failed)?;
        let mut done = self.store.delete_stream(futures::stream::iter([Ok(path)]).boxed());
        match done.next().await {
            None | Some(Ok(_) | Err(object_store::Error::NotFound { .. })) => Ok(()),
            Some(Err(e)) => Err(failed(e)),
        }
    }

    /// Removes what a process that died in the middle of a put left under a prefix of a local folder: half-written files, which no
    /// listing shows, and folders that are empty. Only what nobody has touched since `before`. Returns how many files; other buckets
    /// keep no such things.
    pub async fn sweep(&self, prefix: &str, before: Timestamp) -> Result<u64, BlobError> {
        let Some(folder) = &self.folder else { return Ok(0) };
        let failed = |e| self.failed("sweep", prefix, e);
        parse(prefix).map_err(failed)?;
        let dir = folder.join(prefix);
        let sweeping = tokio::task::spawn_blocking(move || sweep::sweep(&dir, before));
        let swept = sweeping.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        swept.map_err(|e| failed(object_store::Error::Generic { store: "folder", source: e.into() }))
    }

    pub(crate) fn failed(&self, what: &'static str, path: &str, source: object_store::Error) -> BlobError {
        BlobError::Failed {
            what,
            path: path.to_owned(),
            bucket: Arc::clone(&self.bucket),
            source: Arc::new(source),
        }
    }
}

/// Makes a folder so that a power cut does not take it back with everything in it.
fn create_durably(dir: &FilePath) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(FilePath::new("."));
    create_durably(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => fs::File::open(parent)?.sync_all(),
    }
}

/// Takes a path literally: no percent encoding, so that listings give back what was put.
fn parse(path: &str) -> Result<Path, object_store::Error> {
    Ok(Path::parse(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlobConfig, LocalConfig};

    /// What every bucket promises.
    async fn check(blob: Blob) {
        let bytes = Bytes::from_static(b"0123456789");
        let path = "logs/a'(b)*!/manifest/00000000000000000001.json";
        assert_eq!(blob.get(path).await.unwrap(), None);
        assert_eq!(blob.head(path).await.unwrap(), None);
        assert_eq!(blob.list_folders("logs").await.unwrap(), Vec::<String>::new());
        assert_eq!(blob.put_if_absent(path, bytes.clone()).await.unwrap(), PutOutcome::Created);
        assert_eq!(blob.put_if_absent(path, Bytes::new()).await.unwrap(), PutOutcome::Exists);
        assert_eq!(blob.get(path).await.unwrap(), Some(bytes.clone()));
        assert_eq!(blob.head(path).await.unwrap(), Some(10));
        assert_eq!(blob.get_range(path, 2..5).await.unwrap(), "234");
        assert_eq!(blob.get_ranges(path, &[8..10, 0..1]).await.unwrap(), ["89", "0"]);
        assert!(blob.get_range("logs/none", 0..1).await.is_err());
        blob.put(path, Bytes::from_static(b"new")).await.unwrap();
        assert_eq!(blob.get(path).await.unwrap().unwrap(), "new");
        let part = Bytes::from(vec![7; Upload::MIN_PART]);
        let mut upload = blob.upload("logs/t/blocks/x/data.parquet").await.unwrap();
        upload.part(part.clone()).await.unwrap();
        assert_eq!(blob.head("logs/t/blocks/x/data.parquet").await.unwrap(), None);
        upload.part(bytes).await.unwrap();
        upload.finish().await.unwrap();
        assert_eq!(blob.head("logs/t/blocks/x/data.parquet").await.unwrap(), Some(part.len() as u64 + 10));
        let mut upload = blob.upload("logs/t/dropped").await.unwrap();
        upload.part(part).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(blob.list_folders("logs").await.unwrap(), ["a'(b)*!", "t"]);
        let listed = blob.list("logs/a'(b)*!").await.unwrap();
        assert_eq!(listed.iter().map(|o| (o.path.as_str(), o.size)).collect::<Vec<_>>(), [(path, 3)]);
        assert!(listed[0].modified > Timestamp::PLAUSIBLE_MIN);
        blob.delete(path).await.unwrap();
        blob.delete(path).await.unwrap();
        assert_eq!(blob.get(path).await.unwrap(), None);
        assert!(blob.put("../out", Bytes::new()).await.is_err());
    }

    #[tokio::test]
    async fn memory() {
        check(Blob::memory()).await;
        check(crate::sim::SimStore::new().blob()).await;
    }

    #[tokio::test]
    async fn local() {
        let dir = tempfile::tempdir().unwrap();
        let config = BlobConfig::Local(LocalConfig { dir: dir.path().join("deep/er") });
        check(Blob::from_config(&config).unwrap()).await;
    }

    #[tokio::test]
    async fn one_of_many_creates_wins() {
        let dir = tempfile::tempdir().unwrap();
        for blob in [Blob::memory(), Blob::local(dir.path()).unwrap()] {
            let puts = (0..16).map(|n| {
                let blob = blob.clone();
                async move { (n, blob.put_if_absent("v/1", Bytes::from(vec![n; 100])).await.unwrap()) }
            });
            let outcomes = futures::future::join_all(puts).await;
            let winners: Vec<_> = outcomes.iter().filter(|(_, o)| *o == PutOutcome::Created).collect();
            assert_eq!(winners.len(), 1);
            assert_eq!(blob.get("v/1").await.unwrap().unwrap(), vec![winners[0].0; 100]);
        }
    }

    #[test]
    fn configs() {
        let read = |text: &str| serde_json::from_str::<BlobConfig>(text);
        let s3 = r#"{"backend":"s3","bucket":"b","prefix":"p/q","region":"eu-1","access_key_id":"k","secret_access_key":"s","endpoint":"http://127.0.0.1:1","allow_http":true}"#;
        let config = read(s3).unwrap();
        assert_eq!(Blob::from_config(&config).unwrap().bucket(), "s3://b/p/q");
        assert!(!serde_json::to_string(&config).unwrap().contains("secret"));
        assert_eq!(read(r#"{"backend":"memory"}"#).unwrap(), BlobConfig::Memory);
        assert_eq!(read(r#"{"backend":"local"}"#).unwrap(), BlobConfig::default());
        assert!(read(r#"{"backend":"local","bucket":"b"}"#).is_err());
        assert!(read(r#"{"backend":"ftp"}"#).is_err());
    }
}
