//! Starting: what the bucket and the log still know.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use model::TenantId;

use crate::store::{Shared, count};
use crate::{IngestLogError, Manifests, OpenError, Record, Signal};

/// Manifests loaded at the same time.
const LOADS: usize = 16;

/// Makes every tenant of the bucket known, with its newest manifest. Returns the highest position of this log that any of them covers.
pub(crate) async fn load_tenants<S: Signal>(shared: &Arc<Shared<S>>) -> Result<u64, OpenError> {
    let folders = shared.blob.list_folders(S::NAME).await?;
    let tenants: Vec<_> = folders.iter().filter_map(|name| TenantId::parse(name).ok()).collect();
    let mut loads = stream::iter(tenants)
        .map(async |id| {
            let manifest = Manifests::new(shared.blob.clone(), S::NAME, &id).load().await?;
            Ok::<_, OpenError>((id, manifest))
        })
        .buffer_unordered(LOADS);
    let mut covered = 0;
    while let Some((id, manifest)) = loads.try_next().await? {
        covered = covered.max(manifest.covered_by(&shared.writer));
        shared.tenant_or_new(&id, || manifest);
    }
    Ok(covered)
}

/// Puts the records of the log into heads again, but for those that are in blocks. The signal recalls all of them.
pub(crate) fn replay<S: Signal>(
    shared: &Shared<S>,
    checkpoint: Option<&Bytes>,
    recovered: impl IntoIterator<Item = Result<(u64, Record), IngestLogError>>,
) -> Result<(), OpenError> {
    let counters = &shared.counters;
    if let Some(Err(error)) = checkpoint.map(|checkpoint| shared.signal.restore(checkpoint)) {
        tracing::error!(
            signal = S::NAME, %error, "the checkpoint of the ingest log is damaged: what is sent again may be stored twice"
        );
    }
    let (mut replayed, mut covered, mut undecodable) = (0u64, 0u64, 0u64);
    for item in recovered {
        let (position, record) = item?;
        shared.signal.recall(&record.tenant, &record.body);
        let tenant = shared.tenant_or_new(&record.tenant, Arc::default);
        if position < tenant.manifest().covered_by(&shared.writer) {
            covered += 1;
            continue;
        }
        match shared.signal.decode(&record.tenant, &record.body) {
            Ok(rows) => {
                shared.insert(&tenant, position, rows);
                replayed += 1;
            }
            Err(error) => {
                undecodable += 1;
                tracing::error!(
                    signal = S::NAME, tenant = %record.tenant, position, %error, "a logged record cannot be decoded"
                );
            }
        }
    }
    count(&counters.replayed_records, replayed);
    count(&counters.replay_covered, covered);
    count(&counters.replay_undecodable, undecodable);
    if replayed + covered + undecodable > 0 {
        tracing::info!(signal = S::NAME, replayed, covered, undecodable, "ingest log replayed");
    }
    Ok(())
}
