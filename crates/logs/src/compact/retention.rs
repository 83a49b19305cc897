//! How long entries are kept: per tenant, and per stream by selectors.
//!
//! As in Loki: of the rules of `retention_stream` whose selector fits a stream the one of the highest priority holds, of equal ones
//! the one that keeps for the shortest time; no rule, and `retention_period` holds. A period of 0 keeps for ever.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use model::{Labels, Matcher, TenantId};
use parking_lot::RwLock;

use crate::limits::Limits;
use crate::overrides::Overrides;

/// How long the entries of one tenant are kept. Pure.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// Of streams that no rule fits; `None` for ever.
    period: Option<i64>,
    /// The one that holds first.
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    matchers: Vec<Matcher>,
    period: Option<i64>,
}

impl Retention {
    /// Everything is kept for ever.
    pub fn forever() -> Self {
        Self::default()
    }

    /// What a tenant's limits say. A selector that is none is an error: what it keeps is unknown.
    pub fn new(limits: &Limits) -> Result<Self, String> {
        let mut rules = Vec::with_capacity(limits.retention_stream.len());
        for rule in &limits.retention_stream {
            let rank = (std::cmp::Reverse(rule.priority), rule.period.is_zero(), rule.period.get());
            rules
                .push((rank, Rule { matchers: selector(&rule.selector)?, period: nanos(rule.period.get()) }));
        }
        rules.sort_by_key(|(rank, _)| *rank);
        let rules = rules.into_iter().map(|(_, rule)| rule).collect();
        Ok(Self { period: nanos(limits.retention_period.get()), rules })
    }

    /// Entries of the stream before this instant are expired at `now`; [`i64::MIN`] if none ever is.
    pub fn oldest(&self, labels: &Labels, now: i64) -> i64 {
        let fits = |rule: &&Rule| rule.matchers.iter().all(|m| m.matches_labels(labels));
        before(now, self.rules.iter().find(fits).map_or(self.period, |rule| rule.period))
    }

    /// Entries before this instant are expired, whatever their stream.
    pub fn oldest_of_all(&self, now: i64) -> i64 {
        self.periods().map(|period| before(now, period)).min().unwrap_or(i64::MIN)
    }

    /// The time that streams are kept for which no rule fits; `None` for ever.
    pub fn usual(&self) -> Option<Duration> {
        self.period.and_then(duration)
    }

    /// The shortest time that some stream is kept for; `None` if all are kept for ever.
    pub fn shortest(&self) -> Option<Duration> {
        self.periods().flatten().min().and_then(duration)
    }

    fn periods(&self) -> impl Iterator<Item = Option<i64>> + '_ {
        std::iter::once(self.period).chain(self.rules.iter().map(|rule| rule.period))
    }
}

/// `None` for 0.
fn nanos(period: Duration) -> Option<i64> {
    (!period.is_zero()).then(|| i64::try_from(period.as_nanos()).unwrap_or(i64::MAX))
}

fn duration(nanos: i64) -> Option<Duration> {
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn before(now: i64, period: Option<i64>) -> i64 {
    period.map_or(i64::MIN, |period| now.saturating_sub(period))
}

/// The matchers of a stream selector.
fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    match logql::parse(text) {
        Ok(logql::Expr::Log(log)) if log.stages.is_empty() => Ok(log.matchers),
        Ok(_) => Err(format!("`{text}` is no stream selector: write one like {{app=\"x\"}} without filters")),
        Err(error) => Err(format!("`{text}` is no stream selector: {error}")),
    }
}

/// A retention, and what it was made of.
type Derived = (Arc<Limits>, Arc<Retention>);

/// The retention of every tenant. Cheap to clone; clones share what was derived.
#[derive(Debug, Clone)]
pub struct Retentions {
    limits: Overrides,
    enabled: bool,
    /// By tenant; `None` for all that have no limits of their own, so that names which nobody knows take no room.
    derived: Arc<RwLock<HashMap<Option<TenantId>, Derived>>>,
}

impl Retentions {
    /// Retention is applied only if `compactor.retention_enabled` says so.
    pub fn new(limits: Overrides, enabled: bool) -> Self {
        Self { limits, enabled, derived: Arc::default() }
    }

    /// That of a tenant, as its limits are now.
    pub fn of(&self, tenant: &TenantId) -> Arc<Retention> {
        if !self.enabled {
            return Arc::default();
        }
        let limits = self.limits.of(tenant);
        let key = (!Arc::ptr_eq(&limits, self.limits.defaults())).then(|| tenant.clone());
        if let Some((from, retention)) = self.derived.read().get(&key)
            && Arc::ptr_eq(from, &limits)
        {
            return retention.clone();
        }
        let retention = Arc::new(Retention::new(&limits).unwrap_or_else(|error| {
            // Limits are checked when they are read; if that failed, nothing is lost.
            tracing::error!(%tenant, %error, "retention is not applied");
            Retention::forever()
        }));
        self.derived.write().insert(key, (limits, retention.clone()));
        retention
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RetentionStream;

    const HOUR: i64 = 3_600_000_000_000;

    fn hours(n: u64) -> service::config::Duration {
        service::config::Duration::from_secs(n * 3600)
    }

    fn limits(period: u64, rules: &[(&str, i32, u64)]) -> Limits {
        let rule = |(selector, priority, period): &(&str, i32, u64)| RetentionStream {
            selector: (*selector).to_owned(),
            priority: *priority,
            period: hours(*period),
        };
        Limits {
            retention_period: hours(period),
            retention_stream: rules.iter().map(rule).collect(),
            ..Limits::default()
        }
    }

    #[test]
    fn rules_beat_the_period_and_each_other() {
        let check = |period, rules: &[(&str, i32, u64)], expect: Option<i64>| {
            let retention = Retention::new(&limits(period, rules)).unwrap();
            let labels = Labels::from_pairs([("app", "a"), ("env", "dev")]);
            let oldest = expect.map_or(i64::MIN, |hours| 1000 * HOUR - hours * HOUR);
            assert_eq!(retention.oldest(&labels, 1000 * HOUR), oldest, "{period} {rules:?}");
        };
        check(0, &[], None);
        check(24, &[], Some(24));
        check(24, &[(r#"{app="b"}"#, 1, 1)], Some(24));
        check(24, &[(r#"{app="a"}"#, 1, 48)], Some(48));
        check(24, &[(r#"{app="a"}"#, 1, 0)], None);
        check(0, &[(r#"{app="a"}"#, 1, 48), (r#"{env=~"d.*"}"#, 2, 72)], Some(72));
        check(0, &[(r#"{env=~"d.*"}"#, 2, 72), (r#"{app="a"}"#, 2, 48)], Some(48));
        check(0, &[(r#"{app="a"}"#, 2, 0), (r#"{app="a"}"#, 2, 48)], Some(48));
        for bad in ["", "{}", "app", r#"{app="a"} |= "x""#, r#"rate({app="a"}[1m])"#] {
            assert!(Retention::new(&limits(0, &[(bad, 1, 1)])).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_over_all_streams() {
        let check = |period, rules: &[(&str, i32, u64)], all: i64, shortest: Option<u64>| {
            let retention = Retention::new(&limits(period, rules)).unwrap();
            assert_eq!(retention.oldest_of_all(1000 * HOUR), all);
            assert_eq!(retention.shortest(), shortest.map(|h| hours(h).get()));
            assert_eq!(retention.usual(), (period > 0).then(|| hours(period).get()));
        };
        check(0, &[], i64::MIN, None);
        check(24, &[], 976 * HOUR, Some(24));
        check(24, &[(r#"{a="b"}"#, 1, 48)], 952 * HOUR, Some(24));
        check(0, &[(r#"{a="b"}"#, 1, 48)], i64::MIN, Some(48));
    }

    #[test]
    fn tenants_have_their_own_only_if_enabled() {
        let (a, b) = (TenantId::parse("a").unwrap(), TenantId::parse("b").unwrap());
        let overrides = Overrides::fixed(limits(24, &[]));
        overrides.replace([(a.clone(), limits(48, &[]))]);
        let retentions = Retentions::new(overrides.clone(), true);
        let of = |tenant: &TenantId| retentions.of(tenant).shortest();
        assert_eq!((of(&a), of(&b)), (Some(hours(48).get()), Some(hours(24).get())));
        assert!(Arc::ptr_eq(&retentions.of(&a), &retentions.of(&a)));
        overrides.replace([(a.clone(), limits(72, &[]))]);
        assert_eq!(of(&a), Some(hours(72).get()));
        assert_eq!(Retentions::new(overrides, false).of(&a).shortest(), None);
    }
}
