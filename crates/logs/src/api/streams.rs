//! The streams of one or several tenants in a time range, from what blocks and heads say of themselves.

use std::collections::BTreeMap;

use model::{Labels, Matcher};
use service::Failure;

use crate::api::App;
use crate::api::ask::Ask;
use crate::query::catalog;
use crate::query::run::within;
use crate::store::index::Amount;
use crate::tenancy::{self, Selection};

/// What the streams of several tenants are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Each has its tenant's label.
    ByTenant,
    /// By their own labels: streams of the same name are one.
    Joined,
}

/// The streams that satisfy one of the selectors and meet `first..=last`, with how much of them lies in it. No selector: all streams.
pub(crate) async fn streams(
    app: &App,
    ask: &Ask,
    selectors: &[Vec<Matcher>],
    (first, last): (i64, i64),
    naming: Naming,
) -> Result<BTreeMap<Labels, Amount>, Failure> {
    within(ask.limits.query_timeout.get(), async {
        let mut found: BTreeMap<Labels, Amount> = BTreeMap::new();
        for (tenant, selectors) in by_tenant(ask, selectors)? {
            let view = app.querier.view(&tenant, first, last).await?;
            let find = move || catalog::streams(&view, &selectors, first..=last);
            let own = tokio::task::spawn_blocking(find)
                .await
                .map_err(|e| Failure::internal(format!("listing streams died: {e}")))?;
            if ask.tenants.len() == 1 {
                return Ok(own);
            }
            for (labels, amount) in own {
                let labels = match naming {
                    Naming::ByTenant => tenancy::label(&labels, &tenant),
                    Naming::Joined => labels,
                };
                found.entry(labels).or_default().join(amount);
            }
        }
        Ok(found)
    })
    .await
}

type Selectors = Vec<Vec<Matcher>>;

/// The tenants that any selector chooses, each with its selectors.
pub(crate) fn by_tenant(
    ask: &Ask,
    selectors: &[Vec<Matcher>],
) -> Result<BTreeMap<model::TenantId, Selectors>, Failure> {
    if selectors.is_empty() {
        return Ok(ask.tenants.iter().map(|tenant| (tenant.clone(), Vec::new())).collect());
    }
    let mut chosen: BTreeMap<model::TenantId, Selectors> = BTreeMap::new();
    for matchers in selectors {
        for Selection { tenant, matchers } in tenancy::select(&ask.tenants, matchers)? {
            chosen.entry(tenant).or_default().push(matchers);
        }
    }
    Ok(chosen)
}
