//! A bucket in memory that fails as real ones do: for tests of everything that must survive a crash.
//!
//! Requests fail before or after they took effect; conditional puts report conflicts though nothing was written, as S3 may.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use crate::Blob;

/// The failing bucket; clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimStore {
    inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests until the crash of the client.
    fuel: Option<u64>,
    crashed: bool,
    /// Of 100 requests so many fail.
    failing: u64,
    seed: u64,
    requests: u64,
    bytes_read: u64,
}

/// What becomes of one request.
enum Fate {
    Well,
    FailsBefore,
    FailsAfter,
}

impl SimStore {
    /// An empty, healthy one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle on it.
    pub fn blob(&self) -> Blob {
        Blob::from_store(Arc::new(self.clone()), "sim")
    }

    /// Cuts the client off after `requests` more; the last one may or may not take effect.
    pub fn crash_after(&self, requests: u64, seed: u64) {
        let mut state = self.state();
        (state.fuel, state.seed) = (Some(requests), seed);
    }

    /// Lets `percent` of 100 requests fail; the writes among them may take effect all the same.
    pub fn set_failing(&self, percent: u64, seed: u64) {
        let mut state = self.state();
        (state.failing, state.seed) = (percent, seed);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Bytes that ranged reads have returned so far.
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// The same objects for a new, healthy client. The old one is cut off.
    pub fn restart(&self) -> Self {
        self.state().crashed = true;
        Self { inner: Arc::clone(&self.inner), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self) -> Fate {
        let mut state = self.state();
        state.requests += 1;
        state.seed =
            state.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = state.seed >> 33;
        let lost = if dice.is_multiple_of(2) { Fate::FailsBefore } else { Fate::FailsAfter };
        if state.crashed {
            return Fate::FailsBefore;
        }
        match state.fuel {
            Some(0) => {
                state.crashed = true;
                lost
            }
            _ => {
                state.fuel = state.fuel.map(|f| f - 1);
                if (dice / 2) % 100 < state.failing { lost } else { Fate::Well }
            }
        }
    }

    /// For requests that change nothing.
    fn read(&self) -> Result<()> {
        match self.fate() {
            Fate::Well => Ok(()),
            Fate::FailsBefore | Fate::FailsAfter => Err(injected()),
        }
    }
}

fn injected() -> Error {
    Error::Generic { store: "sim", source: "injected: the request failed".into() }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = opts.mode == PutMode::Create;
        match self.fate() {
            Fate::Well => self.inner.put_opts(location, payload, opts).await,
            // A conflict with another writer that fails in its turn.
            Fate::FailsBefore if create && !self.state().crashed => {
                Err(Error::AlreadyExists { path: location.to_string(), source: "injected: conflict".into() })
            }
            Fate::FailsBefore => Err(injected()),
            Fate::FailsAfter => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(injected())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.read()?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read()?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read()?;
        let found = self.inner.get_ranges(location, ranges).await?;
        self.state().bytes_read += found.iter().map(|b| b.len() as u64).sum::<u64>();
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.read() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read()?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.read()?;
        self.inner.rename_opts(from, to, options).await
    }
}
