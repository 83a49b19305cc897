//! Where things are in the bucket.
//!
//! ```text
//! {signal}/{tenant}/manifest/{version:020}.json
//! {signal}/{tenant}/manifest/hint
//! {signal}/{tenant}/blocks/{block id}/data.parquet
//! {signal}/{tenant}/blocks/{block id}/index
//! ```

use model::TenantId;

use crate::BlockId;

/// The paths of one tenant of one signal.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: String,
}

impl Layout {
    pub(crate) fn new(signal: &str, tenant: &TenantId) -> Self {
        Self { root: format!("{signal}/{tenant}") }
    }

    /// The folder of everything.
    pub(crate) fn root(&self) -> String {
        self.root.clone()
    }

    pub(crate) fn manifests(&self) -> String {
        format!("{}/manifest", self.root)
    }

    pub(crate) fn manifest(&self, version: u64) -> String {
        format!("{}/manifest/{version:020}.json", self.root)
    }

    /// The version that a manifest's path names.
    pub(crate) fn manifest_version(path: &str) -> Option<u64> {
        path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
    }

    pub(crate) fn hint(&self) -> String {
        format!("{}/manifest/hint", self.root)
    }

    pub(crate) fn blocks(&self) -> String {
        format!("{}/blocks", self.root)
    }

    pub(crate) fn data(&self, block: BlockId) -> String {
        format!("{}/blocks/{block}/data.parquet", self.root)
    }

    pub(crate) fn index(&self, block: BlockId) -> String {
        format!("{}/blocks/{block}/index", self.root)
    }

    /// The block that the path of one of its objects names.
    pub(crate) fn block_of(path: &str) -> Option<BlockId> {
        let mut segments = path.rsplit('/');
        segments.next()?;
        segments.next()?.parse().ok()
    }
}
