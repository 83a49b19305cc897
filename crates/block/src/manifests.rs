//! Reading and committing manifest versions.
//!
//! A version is an object made by a conditional put, so of two writers one wins and the other builds on the winner's. A
//! hint object names a recent version; readers go upwards from there. Old versions are deleted after a while,
//! so a writer that slept for long could make a version anew that once existed: after each
//! put the hint is asked, and it gives such a fork away.

use std::sync::Arc;
use std::time::Duration;

use blob::{Blob, BlobError, PutOutcome};
use bytes::Bytes;
use model::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::store::nanos;
use crate::{BlockId, BlockMeta, Manifest, RemovedBlock, WriterId};

/// How often a commit is tried against other writers before it gives up.
const ATTEMPTS: u32 = 20;
/// Versions that stay, however old.
const KEPT_VERSIONS: u64 = 10;

/// Why a manifest could not be read or committed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The bucket is away.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A version cannot be read.
    #[error("manifest {path} is damaged: {reason}")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Other writers won every time.
    #[error("manifest of {tenant} changes too often: {attempts} attempts to commit failed")]
    Contended {
        /// Whose.
        tenant: TenantId,
        /// How often it was tried.
        attempts: u32,
    },
    /// A block that is to be removed is not there any more: another writer removed it.
    #[error("block {0} was removed by another writer")]
    Gone(BlockId),
    /// A note is not what it was expected to be: another writer changed it.
    #[error("note {0:?} was changed by another writer")]
    Changed(String),
}

impl ManifestError {
    /// Whether another writer was faster: with the newest version in hand the work is to be planned anew.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::Changed(_) | Self::Contended { .. })
    }
}

/// A change of one of [`Manifest::notes`], made only if the note is what it is believed to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NoteChange {
    /// Which one.
    pub key: String,
    /// What it is now; `None` for a new one.
    pub from: Option<serde_json::Value>,
    /// What it becomes; `None` to drop it.
    pub to: Option<serde_json::Value>,
}

/// A step from one version to the next.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Blocks that join: at the end, or where the first of the removed ones stood, so that what was merged keeps its place in the
    /// order of arrival.
    pub added: Vec<BlockMeta>,
    /// Blocks that leave.
    pub removed: Vec<BlockId>,
    /// Notes that change.
    pub notes: Vec<NoteChange>,
    /// The position below which the log's records of the tenant are in blocks, with the blocks of this change.
    pub covered: Option<(WriterId, u64)>,
}

impl Change {
    /// Whether a version has this change in it already, from an attempt whose answer was lost.
    fn is_in(&self, manifest: &Manifest) -> bool {
        match &self.covered {
            Some((writer, position)) => manifest.covered_by(writer) >= *position,
            None => {
                let has = |block: &BlockMeta| manifest.blocks.iter().any(|b| b.id == block.id);
                let says = |note: &NoteChange| manifest.notes.get(&note.key) == note.to.as_ref();
                // A removal alone leaves no trace that could be told from another writer's.
                let has_trace = !self.added.is_empty() || !self.notes.is_empty();
                has_trace && self.added.iter().all(has) && self.notes.iter().all(says)
            }
        }
    }

    fn apply(
        &self,
        base: &Manifest,
        nonce: &str,
        now: Timestamp,
        grace: Duration,
    ) -> Result<Manifest, ManifestError> {
        if let Some(gone) = self.removed.iter().find(|id| !base.blocks.iter().any(|b| b.id == **id)) {
            return Err(ManifestError::Gone(*gone));
        }
        if let Some(note) = self.notes.iter().find(|n| base.notes.get(&n.key) != n.from.as_ref()) {
            return Err(ManifestError::Changed(note.key.clone()));
        }
        let mut next = base.clone();
        next.version = base.version + 1;
        next.nonce = nonce.to_owned();
        let leaves = |b: &BlockMeta| self.removed.contains(&b.id);
        // What stands before the first one that leaves stays where it is.
        let place = base.blocks.iter().position(leaves).unwrap_or(base.blocks.len());
        next.blocks.retain(|b| !leaves(b));
        next.blocks.splice(place..place, self.added.iter().cloned());
        for note in &self.notes {
            match &note.to {
                Some(value) => next.notes.insert(note.key.clone(), value.clone()),
                None => next.notes.remove(&note.key),
            };
        }
        let forgotten = now.plus(-nanos(grace));
        next.removed.retain(|r| r.at > forgotten);
        next.removed.extend(self.removed.iter().map(|&id| RemovedBlock { id, at: now }));
        if let Some((writer, position)) = &self.covered {
            next.covered.insert(writer.clone(), *position);
        }
        Ok(next)
    }
}

#[derive(Serialize, Deserialize)]
struct Hint {
    version: u64,
}

/// The manifest versions of one tenant of one signal in a bucket.
#[derive(Debug, Clone)]
pub struct Manifests {
    blob: Blob,
    tenant: TenantId,
    layout: Layout,
    /// The objects of a removed block stay for this long: for queries that hold an older version.
    grace: Duration,
}

impl Manifests {
    /// Those of one tenant.
    pub fn new(blob: Blob, signal: &str, tenant: &TenantId) -> Self {
        let grace = Duration::from_secs(60 * 60);
        Self { blob, tenant: tenant.clone(), layout: Layout::new(signal, tenant), grace }
    }

    /// Remembers removed blocks for so long (1 h unless said otherwise), and with them keeps their objects.
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// The newest version; version 0 when there is none. Lists the versions only when the hint is missing, which
    /// it is for a new tenant: not for the path of a query.
    pub async fn load(&self) -> Result<Arc<Manifest>, ManifestError> {
        let start = match self.hint().await? {
            Some(version) => version,
            None => self.versions().await?.into_iter().map(|(version, _)| version).max().unwrap_or(0),
        };
        let known = self.get(start).await?.unwrap_or_default();
        self.upwards(known).await
    }

    /// The newest version, given one that was newest a while ago. Two small reads when nothing is new.
    pub async fn refresh(&self, known: &Arc<Manifest>) -> Result<Arc<Manifest>, ManifestError> {
        if let Some(version) = self.hint().await?
            && version > known.version
            && let Some(hinted) = self.get(version).await?
        {
            return self.upwards(hinted).await;
        }
        self.upwards(Arc::clone(known)).await
    }

    /// Makes the next version, on top of whatever is the newest by now. Doing it again after an error is safe: a change that
    /// is already in is not made twice.
    pub async fn commit(
        &self,
        known: &Arc<Manifest>,
        change: &Change,
    ) -> Result<Arc<Manifest>, ManifestError> {
        let nonce = uuid::Uuid::now_v7().to_string();
        let mut base = Arc::clone(known);
        for _ in 0..ATTEMPTS {
            if change.is_in(&base) {
                return Ok(base);
            }
            let next = change.apply(&base, &nonce, Timestamp::now(), self.grace)?;
            let path = self.layout.manifest(next.version);
            let bytes = serde_json::to_vec(&next)
                .map_err(|e| ManifestError::Damaged { path: path.clone(), reason: e.to_string() })?;
            if self.blob.put_if_absent(&path, bytes.into()).await? == PutOutcome::Exists {
                match self.get(next.version).await? {
                    // Ours: an earlier try of the same request got through.
                    Some(found) if found.nonce == nonce => {}
                    Some(found) => {
                        base = self.refresh(&found).await?;
                        continue;
                    }
                    // A conflict between writers of which none has won yet.
                    None => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                }
            }
            let next = Arc::new(next);
            if self.hint().await?.is_some_and(|hint| hint > next.version) {
                // Either somebody went on from our version, or it lies in a past that was deleted.
                base = self.refresh(&next).await?;
                continue;
            }
            self.write_hint(next.version).await;
            return Ok(next);
        }
        Err(ManifestError::Contended { tenant: self.tenant.clone(), attempts: ATTEMPTS })
    }

    /// Deletes versions that are older than the newest few and were made before `before`. Returns how many.
    pub(crate) async fn delete_old(&self, newest: u64, before: Timestamp) -> Result<u64, ManifestError> {
        let mut deleted = 0;
        for (version, modified) in self.versions().await? {
            if version + KEPT_VERSIONS < newest && modified < before {
                self.blob.delete(&self.layout.manifest(version)).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    async fn upwards(&self, mut known: Arc<Manifest>) -> Result<Arc<Manifest>, ManifestError> {
        while let Some(next) = self.get(known.version + 1).await? {
            known = next;
        }
        Ok(known)
    }

    async fn get(&self, version: u64) -> Result<Option<Arc<Manifest>>, ManifestError> {
        let path = self.layout.manifest(version);
        let Some(bytes) = self.blob.get(&path).await? else { return Ok(None) };
        let manifest: Manifest = self.parse(&path, &bytes)?;
        if manifest.version != version {
            let reason = format!("it calls itself version {}", manifest.version);
            return Err(ManifestError::Damaged { path, reason });
        }
        Ok(Some(Arc::new(manifest)))
    }

    async fn hint(&self) -> Result<Option<u64>, ManifestError> {
        let path = self.layout.hint();
        let Some(bytes) = self.blob.get(&path).await? else { return Ok(None) };
        Ok(Some(self.parse::<Hint>(&path, &bytes)?.version))
    }

    /// The commit is done without it, so a failure is only noted.
    async fn write_hint(&self, version: u64) {
        let bytes = Bytes::from(format!("{{\"version\":{version}}}"));
        if let Err(error) = self.blob.put(&self.layout.hint(), bytes).await {
            tracing::warn!(tenant = %self.tenant, version, %error, "cannot write the manifest hint");
        }
    }

    async fn versions(&self) -> Result<Vec<(u64, Timestamp)>, ManifestError> {
        let found = self.blob.list(&self.layout.manifests()).await?;
        Ok(found.iter().filter_map(|o| Some((Layout::manifest_version(&o.path)?, o.modified))).collect())
    }

    fn parse<T: for<'a> Deserialize<'a>>(&self, path: &str, bytes: &Bytes) -> Result<T, ManifestError> {
        serde_json::from_slice(bytes)
            .map_err(|e| ManifestError::Damaged { path: path.to_owned(), reason: e.to_string() })
    }
}
