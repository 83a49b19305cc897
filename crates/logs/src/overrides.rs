//! The limits of each tenant: the defaults of `limits_config`, overlaid by what the overrides file says of the tenant.

use std::sync::Arc;

use hashbrown::HashMap;
use model::TenantId;
use parking_lot::RwLock;

use crate::limits::Limits;

/// The limits of all tenants as they are now. Cheap to clone; clones see each change.
#[derive(Debug, Clone)]
pub struct Overrides {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    defaults: Arc<Limits>,
    tenants: RwLock<HashMap<TenantId, Arc<Limits>>>,
}

impl Overrides {
    /// The same limits for every tenant, until [`Overrides::replace`] says otherwise.
    pub fn fixed(limits: Limits) -> Self {
        Self { shared: Arc::new(Shared { defaults: Arc::new(limits), tenants: RwLock::default() }) }
    }

    /// The limits of a tenant. Hold them for one request; the next may see others.
    pub fn of(&self, tenant: &TenantId) -> Arc<Limits> {
        self.shared.tenants.read().get(tenant).unwrap_or(&self.shared.defaults).clone()
    }

    /// The limits of tenants of whom nothing is said.
    pub fn defaults(&self) -> &Arc<Limits> {
        &self.shared.defaults
    }

    /// The tenants that have limits of their own, with these.
    pub fn tenants(&self) -> Vec<(TenantId, Arc<Limits>)> {
        let mut tenants: Vec<_> = self
            .shared
            .tenants
            .read()
            .iter()
            .map(|(tenant, limits)| (tenant.clone(), limits.clone()))
            .collect();
        tenants.sort_by(|a, b| a.0.cmp(&b.0));
        tenants
    }

    /// Puts other limits in place of all there are. Of a tenant whose limits stay the same, the value stays the same too, so that
    /// what was derived from it need not be derived again.
    pub fn replace(&self, tenants: impl IntoIterator<Item = (TenantId, Limits)>) {
        let mut current = self.shared.tenants.write();
        let next = tenants.into_iter().map(|(tenant, limits)| {
            let kept = current.get(&tenant).filter(|old| ***old == limits).cloned();
            (tenant, kept.unwrap_or_else(|| Arc::new(limits)))
        });
        *current = next.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_their_own() {
        let overrides = Overrides::fixed(Limits::default());
        let (a, b) = (TenantId::parse("a").unwrap(), TenantId::parse("b").unwrap());
        let limits = |n| Limits { max_query_series: n, ..Limits::default() };
        overrides.replace([(a.clone(), limits(7))]);
        assert_eq!((overrides.of(&a).max_query_series, overrides.of(&b).max_query_series), (7, 500));
        let before = overrides.of(&a);
        overrides.clone().replace([(a.clone(), limits(7)), (b.clone(), limits(8))]);
        assert!(Arc::ptr_eq(&before, &overrides.of(&a)));
        assert_eq!(overrides.tenants().len(), 2);
        overrides.replace([]);
        assert_eq!(overrides.of(&a).max_query_series, 500);
    }
}
