//! The life of an alert: pending while its condition is young, firing when it has held for long enough, resolved when it is gone.
//!
//! Pure: time comes from outside, so a table of evaluations tests it. The rules are Prometheus'.

use std::collections::BTreeMap;

use model::{Timestamp, duration};
use serde::{Deserialize, Serialize};
use wire::prometheus::rules::Pairs;

/// A resolved alert is remembered, and told again, for so long: Alertmanager may have missed it.
const RESOLVED_RETENTION: i64 = 15 * duration::MINUTE;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Its condition is gone.
    Inactive,
    /// Its condition holds, but not for long enough.
    Pending,
    /// People should know.
    Firing,
}

impl State {
    /// Prometheus' name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One alert of a rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Alert {
    /// What tells it from others.
    pub(crate) labels: Pairs,
    /// What people read.
    pub(crate) annotations: Pairs,
    /// Where it stands.
    pub(crate) state: State,
    /// The value of its condition when it last held.
    pub(crate) value: f64,
    /// Since when its condition holds.
    pub(crate) active_at: Timestamp,
    /// Since when it fires.
    pub(crate) fired_at: Option<Timestamp>,
    /// When it ended.
    pub(crate) resolved_at: Option<Timestamp>,
    /// Since when it fires only because of `keep_firing_for`.
    pub(crate) keep_firing_since: Option<Timestamp>,
    /// When Alertmanager was told last.
    pub(crate) last_sent: Option<Timestamp>,
}

/// What an evaluation found for an alert.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// The value of the condition.
    pub(crate) value: f64,
    /// Annotations with that value.
    pub(crate) annotations: Pairs,
}

/// How long conditions must hold, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// `for`
    pub(crate) hold: i64,
    /// `keep_firing_for`
    pub(crate) keep_firing: i64,
}

/// All alerts of a rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Alerts(BTreeMap<Pairs, Alert>);

impl Alerts {
    /// Moves every alert on by one evaluation.
    pub(crate) fn update(&mut self, timing: Timing, at: Timestamp, found: BTreeMap<Pairs, Found>) {
        let since = |start: Timestamp| at.nanos().saturating_sub(start.nanos());
        let mut holds = found;
        self.0.retain(|labels, alert| {
            if let Some(found) = holds.remove(labels) {
                if alert.state == State::Inactive {
                    *alert = Alert::new(labels.clone(), at, found);
                } else {
                    alert.value = found.value;
                    alert.annotations = found.annotations;
                    alert.keep_firing_since = None;
                }
                return true;
            }
            if alert.state == State::Firing && timing.keep_firing > 0 {
                let start = *alert.keep_firing_since.get_or_insert(at);
                if since(start) < timing.keep_firing {
                    return true;
                }
            }
            match (alert.state, alert.resolved_at) {
                (State::Pending, _) => return false,
                (_, Some(resolved)) if since(resolved) > RESOLVED_RETENTION => return false,
                (State::Firing, _) => {
                    alert.state = State::Inactive;
                    alert.resolved_at = Some(at);
                }
                _ => {}
            }
            true
        });
        for (labels, found) in holds {
            self.0.insert(labels.clone(), Alert::new(labels, at, found));
        }
        for alert in self.0.values_mut() {
            if alert.state == State::Pending && since(alert.active_at) >= timing.hold {
                alert.state = State::Firing;
                alert.fired_at = Some(at);
            }
        }
    }

    /// The alerts that Alertmanager must be told about now; they count as told.
    pub(crate) fn due(&mut self, at: Timestamp, resend: i64) -> Vec<Alert> {
        let mut due = Vec::new();
        for alert in self.0.values_mut().filter(|alert| alert.state != State::Pending) {
            let news = match (alert.last_sent, alert.resolved_at) {
                (None, _) => true,
                (Some(sent), Some(resolved)) if resolved > sent => true,
                (Some(sent), _) => at.nanos().saturating_sub(sent.nanos()) >= resend,
            };
            if news {
                alert.last_sent = Some(at);
                due.push(alert.clone());
            }
        }
        due
    }

    /// The alerts that are pending or firing.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Alert> {
        self.0.values().filter(|alert| alert.state != State::Inactive)
    }

    /// The highest state of all alerts.
    pub(crate) fn state(&self) -> State {
        self.0.values().map(|alert| alert.state).max().unwrap_or(State::Inactive)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What must survive a restart.
    pub(crate) fn save(&self) -> Vec<SavedAlert> {
        let saved = self.active().map(|alert| SavedAlert {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            state: alert.state,
            active_at: alert.active_at.nanos(),
            fired_at: alert.fired_at.map(Timestamp::nanos),
            keep_firing_since: alert.keep_firing_since.map(Timestamp::nanos),
        });
        saved.collect()
    }

    /// Takes back what was saved. The time of an outage does not count as time for which a condition held: what was pending
    /// stays so for what was missing then, and for at least `grace` where `for` is that long.
    pub(crate) fn restore(&mut self, saved: Vec<SavedAlert>, timing: Timing, outage: Outage) {
        let Outage { down_at, at, grace } = outage;
        for saved in saved {
            let mut active_at = Timestamp(saved.active_at);
            if saved.state == State::Pending {
                let spent = down_at.nanos().saturating_sub(saved.active_at);
                let missing = timing.hold.saturating_sub(spent);
                if timing.hold >= grace && missing > 0 && missing < grace {
                    active_at = at.plus(grace - timing.hold);
                } else if missing > 0 {
                    active_at = active_at.plus(at.nanos().saturating_sub(down_at.nanos()).max(0));
                }
            }
            let alert = Alert {
                labels: saved.labels.clone(),
                annotations: saved.annotations,
                state: saved.state,
                value: f64::NAN,
                active_at,
                fired_at: saved.fired_at.map(Timestamp),
                resolved_at: None,
                keep_firing_since: saved.keep_firing_since.map(Timestamp),
                last_sent: None,
            };
            self.0.entry(saved.labels).or_insert(alert);
        }
    }
}

/// From when to when nothing was evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    /// The last evaluation known.
    pub(crate) down_at: Timestamp,
    /// The first one after it.
    pub(crate) at: Timestamp,
    /// `for_grace_period`, nanoseconds.
    pub(crate) grace: i64,
}

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedAlert {
    labels: Pairs,
    annotations: Pairs,
    state: State,
    active_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fired_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep_firing_since: Option<i64>,
}

impl SavedAlert {
    /// What must not be lost; texts and values change with every evaluation.
    pub(crate) fn key(&self) -> (&Pairs, State, i64, Option<i64>) {
        (&self.labels, self.state, self.active_at, self.keep_firing_since)
    }
}

impl Alert {
    fn new(labels: Pairs, at: Timestamp, found: Found) -> Self {
        Self {
            labels,
            annotations: found.annotations,
            state: State::Pending,
            value: found.value,
            active_at: at,
            fired_at: None,
            resolved_at: None,
            keep_firing_since: None,
            last_sent: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(app: &str) -> Pairs {
        Pairs::from([("app".to_owned(), app.to_owned())])
    }

    fn minute(at: f64) -> Timestamp {
        Timestamp((at * duration::MINUTE as f64) as i64)
    }

    fn found(apps: &str) -> BTreeMap<Pairs, Found> {
        let one = |app| (labels(app), Found { value: 1.0, annotations: Pairs::new() });
        apps.split_whitespace().map(one).collect()
    }

    /// Evaluations at these minutes with these apps over the threshold; after each the states, and what is sent.
    fn check(hold: f64, keep: f64, steps: &[(f64, &str, &str, &str)]) {
        let timing = Timing { hold: minute(hold).nanos(), keep_firing: minute(keep).nanos() };
        let mut alerts = Alerts::default();
        for &(at, over, states, sent) in steps {
            alerts.update(timing, minute(at), found(over));
            let shown = |alert: &Alert| format!("{}:{}", alert.labels["app"], alert.state.name());
            let now: Vec<_> = alerts.0.values().map(shown).collect();
            assert_eq!(now.join(" "), states, "states at {at}");
            let due: Vec<_> = alerts.due(minute(at), minute(2.0).nanos()).iter().map(shown).collect();
            assert_eq!(due.join(" "), sent, "sent at {at}");
        }
    }

    #[test]
    fn at_once() {
        check(
            0.0,
            0.0,
            &[
                (0.0, "", "", ""),
                (1.0, "a", "a:firing", "a:firing"),
                (2.0, "a b", "a:firing b:firing", "b:firing"),
                (3.0, "a", "a:firing b:inactive", "a:firing b:inactive"),
                (4.0, "a b", "a:firing b:firing", "b:firing"),
                (5.0, "", "a:inactive b:inactive", "a:inactive b:inactive"),
                (6.0, "", "a:inactive b:inactive", ""),
                (7.0, "", "a:inactive b:inactive", "a:inactive b:inactive"),
                (20.0, "", "a:inactive b:inactive", "a:inactive b:inactive"),
                (20.1, "", "", ""),
            ],
        );
    }

    #[test]
    fn after_a_while() {
        check(
            2.0,
            0.0,
            &[
                (0.0, "a", "a:pending", ""),
                (1.0, "", "", ""),
                (2.0, "a", "a:pending", ""),
                (3.0, "a", "a:pending", ""),
                (4.0, "a", "a:firing", "a:firing"),
                (5.0, "a", "a:firing", ""),
                (6.0, "a", "a:firing", "a:firing"),
                (7.0, "", "a:inactive", "a:inactive"),
                (8.0, "a", "a:pending", ""),
            ],
        );
    }

    #[test]
    fn kept_firing() {
        check(
            0.0,
            2.0,
            &[
                (0.0, "a", "a:firing", "a:firing"),
                (1.0, "", "a:firing", ""),
                (2.0, "a", "a:firing", "a:firing"),
                (3.0, "", "a:firing", ""),
                (4.0, "", "a:firing", "a:firing"),
                (5.0, "", "a:inactive", "a:inactive"),
            ],
        );
    }

    #[test]
    fn restored() {
        // An alert with `for: 20m` that began at 0 and was last seen at `down`; back at `back`, when does it fire?
        let check = |down: f64, back: f64, grace: f64, fires: f64| {
            let timing = Timing { hold: minute(20.0).nanos(), keep_firing: 0 };
            let mut before = Alerts::default();
            before.update(timing, minute(0.0), found("a"));
            before.update(timing, minute(down), found("a"));
            let saved: Vec<SavedAlert> =
                serde_json::from_str(&serde_json::to_string(&before.save()).unwrap()).unwrap();
            let mut after = Alerts::default();
            let outage = Outage { down_at: minute(down), at: minute(back), grace: minute(grace).nanos() };
            after.restore(saved, timing, outage);
            let state = |at: f64| {
                let mut now = after.clone();
                now.update(timing, minute(at), found("a"));
                now.state()
            };
            if fires > back {
                assert_eq!(state(fires - 0.5), State::Pending, "{down} {back}");
            }
            assert_eq!(state(fires), State::Firing, "{down} {back}");
        };
        check(5.0, 15.0, 1.0, 30.0);
        check(25.0, 30.0, 10.0, 30.0);
        check(15.0, 20.0, 10.0, 30.0);
        check(15.0, 20.0, 1.0, 25.0);
    }

    #[test]
    fn what_fired_before_a_restart_is_resolved_after_it() {
        let timing = Timing { hold: 0, keep_firing: 0 };
        let mut before = Alerts::default();
        before.update(timing, minute(0.0), found("a b"));
        let mut after = Alerts::default();
        let outage = Outage { down_at: minute(0.0), at: minute(5.0), grace: 0 };
        after.restore(before.save(), timing, outage);
        after.update(timing, minute(5.0), found("b"));
        let sent = after.due(minute(5.0), minute(1.0).nanos());
        assert_eq!(sent.iter().map(|a| a.state).collect::<Vec<_>>(), [State::Inactive, State::Firing]);
        assert_eq!(sent[1].fired_at, Some(minute(0.0)));
    }
}
