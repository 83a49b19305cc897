//! Groups and alerts as `/prometheus/api/v1/rules` and `/alerts` show them.

use model::Matcher;
use wire::prometheus::rules::{self, AlertingRule, RecordingRule, Time, exponent};

use crate::ruler::alert::Alert;
use crate::ruler::eval::RuleState;
use crate::ruler::group::{CheckedRule, Span};
use crate::ruler::task::Group;

/// Which rules are shown; empty lists show all.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Names of namespaces.
    pub(crate) files: Vec<String>,
    /// Names of groups.
    pub(crate) groups: Vec<String>,
    /// Names of rules.
    pub(crate) rules: Vec<String>,
    /// `Some(true)` for rules of alerts, `Some(false)` for recording rules.
    pub(crate) alerting: Option<bool>,
    /// Matchers of labels of rules; one list must match.
    pub(crate) matchers: Vec<Vec<Matcher>>,
    /// Leaves alerts out.
    pub(crate) exclude_alerts: bool,
}

impl Filter {
    fn has(list: &[String], name: &str) -> bool {
        list.is_empty() || list.iter().any(|item| item == name)
    }

    fn shows(&self, rule: &CheckedRule) -> bool {
        let is_alert = !rule.source.alert.is_empty();
        let value = |name: &str| rule.labels.get(name).map_or("", String::as_str);
        let matches = |list: &Vec<Matcher>| list.iter().all(|m| m.matches(value(m.name())));
        Self::has(&self.rules, rule.name())
            && self.alerting.is_none_or(|wanted| wanted == is_alert)
            && (self.matchers.is_empty() || self.matchers.iter().any(matches))
    }
}

fn seconds(span: Option<Span>) -> f64 {
    span.map_or(0.0, |span| span.0 as f64 / 1e9)
}

/// A group; none if the filter leaves nothing of it.
pub(crate) fn group(group: &Group, filter: &Filter) -> Option<rules::Group> {
    if !Filter::has(&filter.files, &group.id.namespace) || !Filter::has(&filter.groups, &group.id.name) {
        return None;
    }
    let state = group.state.lock();
    let pairs = group.checked.rules.iter().zip(&state.rules);
    let shown: Vec<_> =
        pairs.filter(|(checked, _)| filter.shows(checked)).map(|(c, s)| rule(c, s, filter)).collect();
    let filtered = !filter.rules.is_empty() || filter.alerting.is_some() || !filter.matchers.is_empty();
    if shown.is_empty() && filtered {
        return None;
    }
    Some(rules::Group {
        name: group.id.name.clone(),
        file: group.id.namespace.clone(),
        rules: shown,
        interval: group.interval as f64 / 1e9,
        limit: group.checked.source.limit,
        last_evaluation: Time(state.evaluated),
        evaluation_time: state.took.as_secs_f64(),
    })
}

fn rule(checked: &CheckedRule, state: &RuleState, filter: &Filter) -> rules::Rule {
    let (health, last_error) = match &state.outcome {
        None => ("unknown", String::new()),
        Some(Ok(())) => ("ok", String::new()),
        Some(Err(error)) => ("err", error.clone()),
    };
    let (name, query) = (checked.name().to_owned(), checked.source.expr.trim().to_owned());
    let (last_evaluation, evaluation_time) = (Time(state.evaluated), state.took.as_secs_f64());
    if checked.source.alert.is_empty() {
        return rules::Rule::Recording(RecordingRule {
            name,
            query,
            labels: checked.labels.clone(),
            health,
            last_error,
            kind: "recording",
            last_evaluation,
            evaluation_time,
        });
    }
    let alerts = if filter.exclude_alerts { Vec::new() } else { state.alerts.active().map(alert).collect() };
    rules::Rule::Alerting(AlertingRule {
        state: state.state().name(),
        name,
        query,
        duration: seconds(checked.source.hold),
        keep_firing_for: seconds(checked.source.keep_firing_for),
        labels: checked.labels.clone(),
        annotations: checked.source.annotations.clone(),
        alerts,
        health,
        last_error,
        kind: "alerting",
        last_evaluation,
        evaluation_time,
    })
}

/// The active alerts of a group.
pub(crate) fn alerts(group: &Group) -> Vec<rules::Alert> {
    group.state.lock().rules.iter().flat_map(|state| state.alerts.active().map(alert)).collect()
}

fn alert(alert: &Alert) -> rules::Alert {
    rules::Alert {
        labels: alert.labels.clone(),
        annotations: alert.annotations.clone(),
        state: alert.state.name(),
        active_at: Time(Some(alert.active_at)),
        value: exponent(alert.value),
    }
}
