//! What rules make of the answers to their queries: series and alerts. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::Timestamp;
use wire::prometheus::rules::Pairs;

use crate::ruler::alert::{Alerts, Found, State, Timing};
use crate::ruler::group::{CheckedRule, Kind};
use crate::ruler::template::Subject;

/// Series with their values of one instant.
pub(crate) type Vector = Vec<(Pairs, f64)>;

/// How a rule fared.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleState {
    /// Its alerts, if it has any.
    pub(crate) alerts: Alerts,
    /// The series of the evaluation before, whose ends must be marked.
    pub(crate) series: BTreeSet<Pairs>,
    /// What went wrong in the last evaluation, if something did; none before the first.
    pub(crate) outcome: Option<Result<(), String>>,
    /// When it was last evaluated.
    pub(crate) evaluated: Option<Timestamp>,
    /// How long that took.
    pub(crate) took: Duration,
}

/// What an evaluation needs to know beside the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evaluation<'a> {
    pub(crate) at: Timestamp,
    /// Most series or alerts; 0 for any number.
    pub(crate) limit: u64,
    pub(crate) external_labels: &'a BTreeMap<String, String>,
}

impl RuleState {
    /// Moves the rule on by the answer to its query; returns the samples to write, series that have ended among them with `None`.
    pub(crate) fn apply(
        &mut self,
        rule: &CheckedRule,
        answer: Vector,
        evaluation: Evaluation<'_>,
    ) -> Result<Vec<(Pairs, Option<f64>)>, String> {
        let vector = match &rule.kind {
            Kind::Recording => record(rule, answer, evaluation.limit)?,
            Kind::Alerting { labels, annotations } => {
                let mut found = BTreeMap::new();
                for (series, value) in answer {
                    let subject =
                        Subject { labels: &series, external_labels: evaluation.external_labels, value };
                    let mut own = series.clone();
                    own.remove("__name__");
                    for (name, template) in labels {
                        set(&mut own, name, template.render(subject));
                    }
                    set(&mut own, "alertname", rule.source.alert.clone());
                    let annotations: Pairs =
                        annotations.iter().map(|(name, text)| (name.clone(), text.render(subject))).collect();
                    if found.insert(own, Found { value, annotations }).is_some() {
                        return Err(
                            "vector contains metrics with the same labelset after applying alert labels"
                                .to_owned(),
                        );
                    }
                }
                let span = |span: Option<crate::ruler::group::Span>| span.map_or(0, |span| span.0);
                let timing =
                    Timing { hold: span(rule.source.hold), keep_firing: span(rule.source.keep_firing_for) };
                self.alerts.update(timing, evaluation.at, found);
                let count = self.alerts.active().count() as u64;
                if evaluation.limit > 0 && count > evaluation.limit {
                    self.alerts.clear();
                    return Err(format!("exceeded limit of {} with {count} alerts", evaluation.limit));
                }
                self.alert_series()
            }
        };
        let now: BTreeSet<Pairs> = vector.iter().map(|(labels, _)| labels.clone()).collect();
        let ended = self.series.difference(&now).map(|labels| (labels.clone(), None)).collect::<Vec<_>>();
        self.series = now;
        Ok(vector.into_iter().map(|(labels, value)| (labels, Some(value))).chain(ended).collect())
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of every active alert.
    fn alert_series(&self) -> Vector {
        let mut vector = Vec::new();
        for alert in self.alerts.active() {
            let mut labels = alert.labels.clone();
            set(&mut labels, "__name__", "ALERTS_FOR_STATE".to_owned());
            vector.push((labels.clone(), (alert.active_at.nanos() / 1_000_000_000) as f64));
            set(&mut labels, "__name__", "ALERTS".to_owned());
            set(&mut labels, "alertstate", alert.state.name().to_owned());
            vector.push((labels, 1.0));
        }
        vector
    }

    /// The state of a rule of alerts.
    pub(crate) fn state(&self) -> State {
        self.alerts.state()
    }
}

fn record(rule: &CheckedRule, answer: Vector, limit: u64) -> Result<Vector, String> {
    let mut series = BTreeMap::new();
    for (mut labels, value) in answer {
        set(&mut labels, "__name__", rule.source.record.clone());
        for (name, value) in &rule.labels {
            set(&mut labels, name, value.clone());
        }
        if series.insert(labels, value).is_some() {
            return Err(
                "vector contains metrics with the same labelset after applying rule labels".to_owned()
            );
        }
    }
    if limit > 0 && series.len() as u64 > limit {
        return Err(format!("exceeded limit of {limit} with {} series", series.len()));
    }
    Ok(series.into_iter().collect())
}

/// Sets a label; an empty value removes it.
fn set(labels: &mut Pairs, name: &str, value: String) {
    if value.is_empty() {
        labels.remove(name);
    } else {
        labels.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruler::group::{CheckedGroup, parse_group};

    fn rule(yaml: &str) -> CheckedRule {
        let group =
            parse_group(&format!("name: g\nlabels: {{team: t, sev: low}}\nrules:\n- {yaml}")).unwrap();
        CheckedGroup::check(group, "http://grafana").unwrap().rules.remove(0)
    }

    fn pairs(text: &str) -> Pairs {
        text.split_whitespace().filter_map(|p| p.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect()
    }

    fn shown(samples: Vec<(Pairs, Option<f64>)>) -> Vec<String> {
        let pair = |(name, value): (&String, &String)| format!("{name}={value}");
        let line = |(labels, value): (Pairs, Option<f64>)| {
            let labels: Vec<_> = labels.iter().map(pair).collect();
            format!("{} {}", labels.join(","), value.map_or("end".to_owned(), |v| v.to_string()))
        };
        let mut lines: Vec<_> = samples.into_iter().map(line).collect();
        lines.sort();
        lines
    }

    fn apply(
        state: &mut RuleState,
        rule: &CheckedRule,
        seconds: i64,
        limit: u64,
        answer: &[(&str, f64)],
    ) -> Result<Vec<String>, String> {
        let answer = answer.iter().map(|(labels, value)| (pairs(labels), *value)).collect();
        let external = pairs("region=eu");
        let at = Timestamp::from_seconds(seconds);
        state.apply(rule, answer, Evaluation { at, limit, external_labels: &external }).map(shown)
    }

    #[test]
    fn recording() {
        let rule = rule(
            "{record: 'job:errors', expr: 'count_over_time({a=\"b\"}[1m])', labels: {sev: high, app: ''}}",
        );
        let mut state = RuleState::default();
        let answer = apply(&mut state, &rule, 0, 0, &[("job=a app=x", 1.0), ("job=b", 2.5)]);
        assert_eq!(
            answer.unwrap(),
            ["__name__=job:errors,job=a,sev=high,team=t 1", "__name__=job:errors,job=b,sev=high,team=t 2.5"]
        );
        let answer = apply(&mut state, &rule, 60, 0, &[("job=b", 3.0)]);
        assert_eq!(
            answer.unwrap(),
            ["__name__=job:errors,job=a,sev=high,team=t end", "__name__=job:errors,job=b,sev=high,team=t 3"]
        );
        let twice = apply(&mut state, &rule, 120, 0, &[("job=b app=x", 3.0), ("job=b app=y", 1.0)]);
        assert!(twice.unwrap_err().contains("same labelset"));
        let over = apply(&mut state, &rule, 120, 1, &[("job=a", 3.0), ("job=b", 1.0)]);
        assert_eq!(over.unwrap_err(), "exceeded limit of 1 with 2 series");
        assert_eq!(
            apply(&mut state, &rule, 180, 0, &[]).unwrap(),
            ["__name__=job:errors,job=b,sev=high,team=t end"]
        );
    }

    #[test]
    fn alerting() {
        let rule = rule(
            "{alert: Many, expr: 'count_over_time({a=\"b\"}[1m])', for: 1m, labels: {sev: '{{ if gt $value 5.0 }}high{{ else }}mid{{ end }}'}, annotations: {text: '{{ $labels.app }} has {{ $value }} in {{ $externalLabels.region }}'}}",
        );
        let mut state = RuleState::default();
        let answer = apply(&mut state, &rule, 1000, 0, &[("app=x", 9.0)]).unwrap();
        assert_eq!(
            answer,
            [
                "__name__=ALERTS,alertname=Many,alertstate=pending,app=x,sev=high,team=t 1",
                "__name__=ALERTS_FOR_STATE,alertname=Many,app=x,sev=high,team=t 1000",
            ]
        );
        assert_eq!(state.state(), State::Pending);
        let answer = apply(&mut state, &rule, 1060, 0, &[("app=x", 9.5)]).unwrap();
        assert_eq!(
            answer,
            [
                "__name__=ALERTS,alertname=Many,alertstate=firing,app=x,sev=high,team=t 1",
                "__name__=ALERTS,alertname=Many,alertstate=pending,app=x,sev=high,team=t end",
                "__name__=ALERTS_FOR_STATE,alertname=Many,app=x,sev=high,team=t 1000",
            ]
        );
        let alert = state.alerts.active().next().unwrap().clone();
        assert_eq!((alert.annotations["text"].as_str(), alert.value), ("x has 9.5 in eu", 9.5));
        let answer = apply(&mut state, &rule, 1120, 0, &[]).unwrap();
        assert_eq!(answer.iter().filter(|line| line.ends_with(" end")).count(), 2);
        assert_eq!(state.state(), State::Inactive);
        let over = apply(&mut state, &rule, 1180, 1, &[("app=x", 1.0), ("app=y", 1.0)]);
        assert_eq!(over.unwrap_err(), "exceeded limit of 1 with 2 alerts");
    }
}
