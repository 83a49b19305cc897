//! The janitor: deletes objects that nobody names. A crash between the put of a block and the commit of its manifest leaves some.

use std::collections::HashSet;
use std::sync::Arc;

use model::Timestamp;

use crate::layout::Layout;
use crate::store::{Shared, count, nanos};
use crate::view::Tenant;
use crate::{BlockId, ManifestError, Signal};

/// Looks around at every interval. Never ends.
pub(crate) async fn run<S: Signal>(shared: &Arc<Shared<S>>) {
    loop {
        tokio::time::sleep(shared.options.janitor_interval).await;
        for tenant in shared.all_tenants() {
            match clean(shared, &tenant).await {
                Ok(0) => {}
                Ok(deleted) => {
                    count(&shared.counters.deleted_objects, deleted);
                    tracing::info!(signal = S::NAME, tenant = %tenant.id, deleted, "objects deleted that nobody names");
                }
                Err(error) => {
                    tracing::warn!(signal = S::NAME, tenant = %tenant.id, %error, "cannot clean up")
                }
            }
        }
    }
}

/// Deletes the old objects of one tenant that its newest manifest does not name, blocks that were removed long ago, old manifest
/// versions, and what a crash in the middle of a put left of files. Returns how many.
async fn clean<S: Signal>(shared: &Shared<S>, tenant: &Tenant<S>) -> Result<u64, ManifestError> {
    let before = Timestamp::now().plus(-nanos(shared.options.orphan_age));
    let forgotten = Timestamp::now().plus(-nanos(shared.options.removed_grace));
    let layout = Layout::new(S::NAME, &tenant.id);
    // List first: whatever is named after that is too young to be deleted.
    let objects = shared.blob.list(&layout.blocks()).await?;
    let manifest = tenant.manifests.refresh(&tenant.manifest()).await?;
    shared.install(tenant, Arc::clone(&manifest));
    // A tenant that rests makes no new version that would forget what was removed.
    let removed = manifest.removed.iter().filter(|r| r.at > forgotten).map(|r| r.id);
    let named: HashSet<BlockId> = manifest.blocks.iter().map(|b| b.id).chain(removed).collect();
    let mut deleted = 0;
    for object in objects {
        let orphan = Layout::block_of(&object.path).is_some_and(|id| !named.contains(&id));
        if orphan && object.modified < before {
            shared.blob.delete(&object.path).await?;
            deleted += 1;
        }
    }
    deleted += tenant.manifests.delete_old(manifest.version, before).await?;
    Ok(deleted + shared.blob.sweep(&layout.root(), before).await?)
}
