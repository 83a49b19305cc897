//! A group at work: evaluated at its own times, its rules one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blob::Blob;
use model::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::overrides::Overrides;
use crate::ruler::config::RulerConfig;
use crate::ruler::eval::{Evaluation, RuleState};
use crate::ruler::group::{CheckedGroup, GroupId};
use crate::ruler::metrics::RulerMetrics;
use crate::ruler::notify::Notifier;
use crate::ruler::query::Query;
use crate::ruler::remote::RemoteWrite;
use crate::ruler::saved::{self, Saved};

/// What groups share.
pub(crate) struct Services {
    pub(crate) config: Arc<RulerConfig>,
    pub(crate) limits: Overrides,
    pub(crate) query: Box<dyn Query>,
    pub(crate) notifier: Notifier,
    pub(crate) remote: Option<RemoteWrite>,
    pub(crate) blob: Blob,
    pub(crate) metrics: RulerMetrics,
    /// Groups that are evaluated at the same time.
    pub(crate) permits: Semaphore,
}

/// What a group's task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Go on.
    Run,
    /// The process ends, or a changed group takes over.
    Stop,
    /// The group is gone.
    Remove,
}

/// A group and how it fares.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) checked: CheckedGroup,
    /// Nanoseconds between evaluations.
    pub(crate) interval: i64,
    pub(crate) state: Mutex<GroupState>,
}

/// How a group fares.
#[derive(Debug, Default)]
pub(crate) struct GroupState {
    /// Of every rule.
    pub(crate) rules: Vec<RuleState>,
    /// Series of rules that are gone, whose end is not marked yet.
    orphans: Vec<wire::prometheus::rules::Pairs>,
    /// When its last evaluation began.
    pub(crate) evaluated: Option<Timestamp>,
    /// How long that took.
    pub(crate) took: Duration,
    saved: Saved,
}

/// Waits for another order than to go on. The sender is gone only with the ruler.
async fn told(order: &mut watch::Receiver<Order>) -> Order {
    order.wait_for(|order| *order != Order::Run).await.map_or(Order::Stop, |order| *order)
}

impl Group {
    pub(crate) fn new(id: GroupId, checked: CheckedGroup, default_interval: i64) -> Self {
        let interval = checked.source.interval.map_or(default_interval, |span| span.0);
        let rules = checked.rules.iter().map(|_| RuleState::default()).collect();
        Self { id, checked, interval, state: Mutex::new(GroupState { rules, ..GroupState::default() }) }
    }

    /// Takes over from a group of the same name whose rules were others: rules that are in both keep their alerts and series.
    pub(crate) fn adopt(&self, before: &Self) {
        let mut old = std::mem::take(&mut *before.state.lock());
        let mut state = self.state.lock();
        state.saved = old.saved;
        state.orphans = old.orphans;
        for (rule, new) in self.checked.rules.iter().zip(&mut state.rules) {
            let pairs = before.checked.rules.iter().zip(&mut old.rules);
            let mut same = pairs.filter(|(candidate, _)| candidate.identity() == rule.identity());
            if let Some((_, kept)) = same.find(|(_, kept)| kept.outcome.is_some()) {
                *new = std::mem::take(kept);
            }
        }
        let gone = old.rules.into_iter().flat_map(|rule| rule.series);
        state.orphans.extend(gone);
    }

    /// Evaluates the group at its times until told otherwise.
    pub(crate) async fn run(self: Arc<Self>, services: Arc<Services>, mut order: watch::Receiver<Order>) {
        let labels = services.metrics.group(&self.id);
        services.metrics.interval.get_or_create(&labels).set(self.interval as f64 / 1e9);
        services.metrics.rules.get_or_create(&labels).set(self.checked.rules.len() as i64);
        let is_new = self.state.lock().rules.iter().all(|rule| rule.outcome.is_none());
        let mut restore = is_new && self.checked.rules.iter().any(|rule| !rule.source.alert.is_empty());
        let mut due = self.slot_after(Timestamp::now());
        loop {
            let wait = Duration::from_nanos((due.nanos() - Timestamp::now().nanos()).max(0).unsigned_abs());
            let told = tokio::select! {
                told = told(&mut order) => Some(told),
                () = tokio::time::sleep(wait) => None,
            };
            match told {
                None | Some(Order::Run) => {}
                Some(Order::Stop) => return,
                Some(Order::Remove) => return self.retire(&services).await,
            }
            let Ok(_permit) = services.permits.acquire().await else { return };
            services.metrics.iterations.get_or_create(&labels).inc();
            if restore {
                restore = !self.restore(&services, due).await;
            }
            self.evaluate(&services, due).await;
            let next = self.slot_after(Timestamp::now().max(due));
            let missed = (next.nanos() - due.nanos()) / self.interval - 1;
            if missed > 0 {
                let missed = missed.unsigned_abs();
                services.metrics.iterations.get_or_create(&labels).inc_by(missed);
                services.metrics.missed.get_or_create(&labels).inc_by(missed);
            }
            due = next;
        }
    }

    /// The first of the group's times after `now`. The times of groups are spread over the interval by their names, and are the
    /// same after a restart.
    pub(crate) fn slot_after(&self, now: Timestamp) -> Timestamp {
        let offset = (self.id.hash() % self.interval.unsigned_abs()) as i64;
        let since = (now.nanos() - offset).rem_euclid(self.interval);
        now.plus(self.interval - since)
    }

    /// Evaluates every rule at an instant.
    pub(crate) async fn evaluate(&self, services: &Services, at: Timestamp) {
        let begun = Instant::now();
        let labels = services.metrics.group(&self.id);
        let limits = services.limits.of(&self.id.tenant);
        let delay = limits.ruler_evaluation_delay_duration.get().as_nanos() as i64;
        let offset = self.checked.source.query_offset.map_or(delay, |span| span.0);
        self.state.lock().evaluated = Some(at);
        let orphans = std::mem::take(&mut self.state.lock().orphans);
        self.write(services, at, orphans.into_iter().map(|labels| (labels, None)).collect()).await;
        let mut samples = 0;
        for (index, rule) in self.checked.rules.iter().enumerate() {
            let rule_begun = Instant::now();
            let answer = services.query.instant(&self.id.tenant, &rule.expr, at.plus(-offset)).await;
            let (written, due) = {
                let mut state = self.state.lock();
                let state = &mut state.rules[index];
                let evaluation = Evaluation {
                    at,
                    limit: self.checked.source.limit,
                    external_labels: &services.config.external_labels,
                };
                let applied = answer
                    .map_err(|failure| failure.message().to_owned())
                    .and_then(|answer| state.apply(rule, answer, evaluation));
                let resend = services.config.resend_delay.get().as_nanos() as i64;
                let due = state.alerts.due(at, resend);
                state.evaluated = Some(at);
                state.took = rule_begun.elapsed();
                let (written, outcome) = match applied {
                    Ok(written) => (written, Ok(())),
                    Err(error) => (Vec::new(), Err(error)),
                };
                if let Err(error) = &outcome {
                    services.metrics.failures.get_or_create(&labels).inc();
                    let (tenant, group) = (&self.id.tenant, &self.id.name);
                    tracing::warn!(%tenant, group, rule = rule.name(), error, "a rule could not be evaluated");
                }
                state.outcome = Some(outcome);
                (written, due)
            };
            services.metrics.evaluations.get_or_create(&labels).inc();
            services.metrics.evaluation_seconds.observe(rule_begun.elapsed().as_secs_f64());
            services.notifier.push(&self.id.tenant, rule, due, at, self.interval);
            samples += written.len();
            self.write(services, at, written).await;
        }
        self.save(services, at).await;
        let took = begun.elapsed();
        self.state.lock().took = took;
        services.metrics.last_duration.get_or_create(&labels).set(took.as_secs_f64());
        services.metrics.last_evaluation.get_or_create(&labels).set(at.nanos() as f64 / 1e9);
        services.metrics.last_samples.get_or_create(&labels).set(i64::try_from(samples).unwrap_or(i64::MAX));
    }

    async fn write(
        &self,
        services: &Services,
        at: Timestamp,
        samples: Vec<(wire::prometheus::rules::Pairs, Option<f64>)>,
    ) {
        if let Some(remote) = &services.remote
            && !services.limits.of(&self.id.tenant).ruler_remote_write_disabled
        {
            remote.append(&self.id.tenant, at, samples).await;
        }
    }

    /// Gives rules the alerts back that they had before a restart; false if the bucket did not answer.
    async fn restore(&self, services: &Services, at: Timestamp) -> bool {
        match saved::read(&services.blob, &self.id).await {
            Ok(found) => {
                if let Some(found) = found {
                    let config = &services.config;
                    let tolerance = config.for_outage_tolerance.get().as_nanos() as i64;
                    let grace = config.for_grace_period.get().as_nanos() as i64;
                    found.apply(&self.checked, &mut self.state.lock().rules, at, tolerance, grace);
                }
                true
            }
            Err(error) => {
                tracing::warn!(tenant = %self.id.tenant, group = self.id.name, %error, "the alerts of before the restart cannot be read");
                false
            }
        }
    }

    async fn save(&self, services: &Services, at: Timestamp) {
        let object = {
            let mut state = self.state.lock();
            let GroupState { saved, rules, .. } = &mut *state;
            saved.next(&self.checked, rules, at)
        };
        let Some(object) = object else { return };
        if let Err(error) = saved::write(&services.blob, &self.id, object).await {
            tracing::warn!(tenant = %self.id.tenant, group = self.id.name, %error, "active alerts cannot be saved");
            self.state.lock().saved.failed();
        }
    }

    /// Ends the series of a group that is gone.
    async fn retire(&self, services: &Services) {
        let ended = {
            let mut state = std::mem::take(&mut *self.state.lock());
            let series = state.rules.drain(..).flat_map(|rule| rule.series);
            series.chain(state.orphans.drain(..)).map(|labels| (labels, None)).collect()
        };
        self.write(services, Timestamp::now(), ended).await;
        if let Err(error) = saved::remove(&services.blob, &self.id).await {
            tracing::debug!(%error, "the saved alerts of a removed group stay");
        }
        services.metrics.forget(&self.id);
    }
}
