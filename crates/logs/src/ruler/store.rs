//! Rules written over HTTP, in the bucket.
//!
//! A tenant's rules are one small object per version, `ruler/<tenant>/rules/<version>.json`. A change reads the newest version and
//! creates the next, which only one of several writers can; the others read again. Versions are removed an hour after they were
//! written, unless they are the newest: no writer is slow enough to create one of their numbers again.

use std::sync::Arc;

use blob::{Blob, BlobError, PutOutcome};
use bytes::Bytes;
use hashbrown::HashMap;
use model::{TenantId, Timestamp, duration};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use service::Failure;

use crate::ruler::group::Namespaces;

/// The folder of everything that rulers keep.
pub(crate) const ROOT: &str = "ruler";
/// Largest set of rules of a tenant as stored.
const MAX_BYTES: usize = 16 << 20;
/// So often a change is tried against other writers.
const ATTEMPTS: usize = 10;

/// The rules of all tenants.
#[derive(Debug)]
pub(crate) struct BucketRules {
    blob: Blob,
    known: Mutex<HashMap<TenantId, Known>>,
}

/// The newest version that was seen.
#[derive(Debug, Clone)]
struct Known {
    version: u64,
    rules: Arc<Namespaces>,
}

/// A version as stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// Tells the writer that an object is its own though the store reported a conflict.
    mark: String,
    namespaces: Namespaces,
}

fn folder(tenant: &TenantId) -> String {
    format!("{ROOT}/{tenant}/rules")
}

fn path(tenant: &TenantId, version: u64) -> String {
    format!("{}/{version:020}.json", folder(tenant))
}

impl BucketRules {
    pub(crate) fn new(blob: Blob) -> Self {
        Self { blob, known: Mutex::default() }
    }

    /// The tenants that have, or had, rules.
    pub(crate) async fn tenants(&self) -> Result<Vec<TenantId>, BlobError> {
        let names = self.blob.list_folders(ROOT).await?;
        Ok(names.iter().filter_map(|name| TenantId::parse(name).ok()).collect())
    }

    /// The newest rules of a tenant.
    pub(crate) async fn read(&self, tenant: &TenantId) -> Result<Arc<Namespaces>, Failure> {
        self.newest(tenant).await.map(|known| known.rules)
    }

    /// Changes the rules of a tenant. `change` may run several times, each time on newer rules.
    pub(crate) async fn update<T>(
        &self,
        tenant: &TenantId,
        mut change: impl FnMut(&mut Namespaces) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        for _ in 0..ATTEMPTS {
            let newest = self.newest(tenant).await?;
            let mut namespaces = (*newest.rules).clone();
            let outcome = change(&mut namespaces)?;
            let stored = Stored { mark: uuid::Uuid::new_v4().to_string(), namespaces };
            let body = serde_json::to_vec(&stored).map_err(|e| Failure::internal(e.to_string()))?;
            if body.len() > MAX_BYTES {
                return Err(Failure::invalid(format!(
                    "the rules of the tenant would have {} bytes, the limit is {MAX_BYTES}: remove groups",
                    body.len()
                )));
            }
            let version = newest.version + 1;
            let path = path(tenant, version);
            let ours = match self.blob.put_if_absent(&path, body.into()).await.map_err(unavailable)? {
                PutOutcome::Created => true,
                PutOutcome::Exists => {
                    let found = self.blob.get(&path).await.map_err(unavailable)?;
                    found.and_then(|bytes| decode(&bytes).ok()).is_some_and(|found| found.mark == stored.mark)
                }
            };
            if ours {
                let known = Known { version, rules: Arc::new(stored.namespaces) };
                self.known.lock().insert(tenant.clone(), known);
                return Ok(outcome);
            }
        }
        Err(Failure::unavailable("the rules are being changed by others all the time: try again", None))
    }

    async fn newest(&self, tenant: &TenantId) -> Result<Known, Failure> {
        loop {
            let mut versions: Vec<(u64, Timestamp)> = Vec::new();
            for object in self.blob.list(&folder(tenant)).await.map_err(unavailable)? {
                let name = object.path.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
                versions.extend(name.and_then(|n| n.parse().ok()).map(|version| (version, object.modified)));
            }
            versions.sort_unstable();
            let Some((version, _)) = versions.pop() else {
                let none = Known { version: 0, rules: Arc::default() };
                self.known.lock().insert(tenant.clone(), none.clone());
                return Ok(none);
            };
            let old = Timestamp::now().plus(-duration::HOUR);
            for (version, _) in versions.into_iter().filter(|(_, written)| *written < old) {
                if let Err(error) = self.blob.delete(&path(tenant, version)).await {
                    tracing::debug!(%error, "an old version of rules stays");
                }
            }
            let known = self.known.lock().get(tenant).cloned();
            if let Some(known) = known.filter(|known| known.version == version) {
                return Ok(known);
            }
            let path = path(tenant, version);
            // Removed since it was listed: then there is a newer one.
            let Some(bytes) = self.blob.get(&path).await.map_err(unavailable)? else { continue };
            let stored = decode(&bytes)
                .map_err(|e| Failure::internal(format!("{path} in the bucket cannot be read: {e}")))?;
            let known = Known { version, rules: Arc::new(stored.namespaces) };
            self.known.lock().insert(tenant.clone(), known.clone());
            return Ok(known);
        }
    }
}

fn decode(bytes: &Bytes) -> Result<Stored, serde_json::Error> {
    serde_json::from_slice(bytes)
}

pub(crate) fn unavailable(error: BlobError) -> Failure {
    Failure::unavailable(error.to_string(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruler::group::parse_group;

    fn tenant() -> TenantId {
        TenantId::parse("t").unwrap()
    }

    async fn add(store: &BucketRules, name: &str) -> Result<(), Failure> {
        store
            .update(&tenant(), |namespaces| {
                let group = parse_group(&format!("name: {name}")).map_err(Failure::invalid)?;
                namespaces.entry("ns".to_owned()).or_default().push(group);
                Ok(())
            })
            .await
    }

    #[tokio::test]
    async fn writers_do_not_undo_each_other() {
        let bucket = blob::sim::SimStore::new();
        let writers: Vec<_> = (0..4).map(|_| BucketRules::new(bucket.blob())).collect();
        let adds = writers.iter().enumerate().map(|(writer, store)| async move {
            for n in 0..3 {
                // Losing against others ten times is a fair answer; trying again is right then.
                while add(store, &format!("g{writer}-{n}")).await.is_err() {}
            }
        });
        futures::future::join_all(adds).await;
        let rules = BucketRules::new(bucket.blob()).read(&tenant()).await.unwrap();
        let mut names: Vec<_> = rules["ns"].iter().map(|group| group.name.clone()).collect();
        names.sort();
        let expect: Vec<_> = (0..4).flat_map(|w| (0..3).map(move |n| format!("g{w}-{n}"))).collect();
        assert_eq!(names, expect);
        assert_eq!(writers[0].tenants().await.unwrap(), [tenant()]);
    }

    #[tokio::test]
    async fn a_refused_change_leaves_everything() {
        let store = BucketRules::new(Blob::memory());
        assert!(store.read(&tenant()).await.unwrap().is_empty());
        add(&store, "a").await.unwrap();
        let refused = store
            .update(&tenant(), |namespaces| {
                namespaces.clear();
                Err::<(), _>(Failure::invalid("no"))
            })
            .await;
        assert!(refused.is_err());
        assert_eq!(store.read(&tenant()).await.unwrap()["ns"].len(), 1);
    }
}
