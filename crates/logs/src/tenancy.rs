//! Reads over several tenants: their streams gain the label `__tenant_id__`, and matchers on it choose among the tenants.

use model::{Labels, Matcher, TenantId};
use service::Failure;

/// The label that tells whose a stream is, in answers about several tenants.
pub const TENANT_LABEL: &str = "__tenant_id__";
/// What a stream's own label of that name is called then.
pub const ORIGINAL_LABEL: &str = "original___tenant_id__";

/// A tenant and the matchers that choose among its streams.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The tenant.
    pub tenant: TenantId,
    /// Matchers over the streams' own labels.
    pub matchers: Vec<Matcher>,
}

/// Which of the tenants the matchers choose, and how they choose among the streams of each. Of a single tenant all matchers mean the
/// labels of its streams.
pub fn select(tenants: &[TenantId], matchers: &[Matcher]) -> Result<Vec<Selection>, Failure> {
    if let [tenant] = tenants {
        return Ok(vec![Selection { tenant: tenant.clone(), matchers: matchers.to_vec() }]);
    }
    let mut own = Vec::with_capacity(matchers.len());
    for matcher in matchers.iter().filter(|m| m.name() != TENANT_LABEL) {
        own.push(match matcher.name() {
            ORIGINAL_LABEL => Matcher::new(TENANT_LABEL, matcher.op(), matcher.value())
                .map_err(|e| Failure::invalid(e.to_string()))?,
            _ => matcher.clone(),
        });
    }
    let chosen = |tenant: &&TenantId| {
        let mut about = matchers.iter().filter(|m| m.name() == TENANT_LABEL);
        about.all(|m| m.matches(tenant.as_str()))
    };
    let selection = |tenant: &TenantId| Selection { tenant: tenant.clone(), matchers: own.clone() };
    Ok(tenants.iter().filter(chosen).map(selection).collect())
}

/// The labels of a tenant's stream in an answer about several tenants.
pub fn label(labels: &Labels, tenant: &TenantId) -> Labels {
    let mut builder = labels.to_builder();
    if let Some(own) = labels.get(TENANT_LABEL) {
        builder.set(ORIGINAL_LABEL, own);
    }
    builder.set(TENANT_LABEL, tenant.as_str());
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MatchOp;

    fn tenants(names: &str) -> Vec<TenantId> {
        TenantId::parse_many(names).unwrap()
    }

    #[test]
    fn matchers_choose_tenants() {
        let check = |names: &str, matchers: &[(&str, MatchOp, &str)], expect: &str| {
            let matchers: Vec<Matcher> =
                matchers.iter().map(|(n, op, v)| Matcher::new(*n, *op, *v).unwrap()).collect();
            let chosen = select(&tenants(names), &matchers).unwrap();
            let shown: Vec<String> = chosen
                .iter()
                .map(|s| {
                    format!(
                        "{} {}",
                        s.tenant,
                        s.matchers.iter().map(Matcher::name).collect::<Vec<_>>().join(",")
                    )
                })
                .collect();
            assert_eq!(shown.join("; "), expect);
        };
        check("a|b", &[("x", MatchOp::Equal, "1")], "a x; b x");
        check("a|b", &[("x", MatchOp::Equal, "1"), (TENANT_LABEL, MatchOp::Equal, "b")], "b x");
        check("a|b|c", &[(TENANT_LABEL, MatchOp::NotRegex, "b|c")], "a ");
        check("a|b", &[(TENANT_LABEL, MatchOp::Equal, "c")], "");
        check("a|b", &[(ORIGINAL_LABEL, MatchOp::Equal, "z")], "a __tenant_id__; b __tenant_id__");
        check("a", &[(TENANT_LABEL, MatchOp::Equal, "z")], "a __tenant_id__");
    }

    #[test]
    fn own_labels_are_kept() {
        let tenant = &tenants("t")[0];
        let labels = label(&Labels::from_pairs([("a", "1"), (TENANT_LABEL, "z")]), tenant);
        assert_eq!(labels.to_string(), r#"{__tenant_id__="t", a="1", original___tenant_id__="z"}"#);
    }
}
