//! Groups of rules as people write them, and as they are evaluated: parsed and checked, with errors that name group and rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use logql::{Expr, MetricExpr};
use model::{TenantId, duration, is_label_name};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wire::prometheus::rules::Pairs;

use crate::ruler::template::Template;

/// A span of time in Prometheus' form, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) i64);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration::format_prometheus(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration::parse_prometheus(&text).map(Self).map_err(de::Error::custom)
    }
}

/// A group as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleGroup {
    /// Its name, unique in its namespace.
    pub(crate) name: String,
    /// Time between evaluations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<Span>,
    /// How far behind now the rules look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) query_offset: Option<Span>,
    /// Most series or alerts of a rule; 0 for any number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) limit: u64,
    /// Labels that every rule has.
    #[serde(default, skip_serializing_if = "Pairs::is_empty")]
    pub(crate) labels: Pairs,
    /// The rules, in order of evaluation.
    #[serde(default)]
    pub(crate) rules: Vec<Rule>,
}

/// A rule as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Name of the series that it records.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) record: String,
    /// Name of its alerts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) alert: String,
    /// The metric query.
    #[serde(default)]
    pub(crate) expr: String,
    /// How long the condition must hold before alerts fire.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<Span>,
    /// How long alerts fire on when the condition is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_firing_for: Option<Span>,
    /// Labels that are added; of alerts, templates.
    #[serde(default, skip_serializing_if = "Pairs::is_empty")]
    pub(crate) labels: Pairs,
    /// Texts for people, as templates.
    #[serde(default, skip_serializing_if = "Pairs::is_empty")]
    pub(crate) annotations: Pairs,
}

/// A file of groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleFile {
    /// The groups.
    #[serde(default)]
    pub(crate) groups: Vec<RuleGroup>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Reads one group.
pub(crate) fn parse_group(yaml: &str) -> Result<RuleGroup, String> {
    read(yaml)
}

/// Reads a file of groups and checks that no two have a name in common.
pub(crate) fn parse_file(yaml: &str) -> Result<Vec<RuleGroup>, String> {
    let file: RuleFile = read(yaml)?;
    let mut names = BTreeSet::new();
    for group in &file.groups {
        if !names.insert(&group.name) {
            return Err(format!("groupname: \"{}\" is repeated in the same file", group.name));
        }
    }
    Ok(file.groups)
}

fn read<T: de::DeserializeOwned>(yaml: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|e| e.to_string())
}

/// Which group it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId {
    /// Whose it is.
    pub(crate) tenant: TenantId,
    /// The namespace, or the name of the file.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

impl GroupId {
    /// A number that stays the same for ever, by which groups are spread over time and their states are named.
    pub(crate) fn hash(&self) -> u64 {
        let text = format!("{}\0{}\0{}", self.tenant, self.namespace, self.name);
        xxhash_rust::xxh64::xxh64(text.as_bytes(), 0)
    }
}

/// A group that can be evaluated.
#[derive(Debug)]
pub(crate) struct CheckedGroup {
    /// As it was written.
    pub(crate) source: RuleGroup,
    /// In order of evaluation.
    pub(crate) rules: Vec<CheckedRule>,
}

/// A rule that can be evaluated.
#[derive(Debug)]
pub(crate) struct CheckedRule {
    pub(crate) source: Rule,
    /// Labels of group and rule.
    pub(crate) labels: Pairs,
    pub(crate) expr: Arc<MetricExpr>,
    pub(crate) kind: Kind,
}

/// What a rule makes of its answer.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A series.
    Recording,
    /// Alerts, with their labels and annotations.
    Alerting { labels: Vec<(String, Template)>, annotations: Vec<(String, Template)> },
}

impl CheckedRule {
    pub(crate) fn name(&self) -> &str {
        if self.source.alert.is_empty() { &self.source.record } else { &self.source.alert }
    }

    /// What tells rules of a group apart when a changed group takes over from its predecessor.
    pub(crate) fn identity(&self) -> (&str, &Pairs) {
        (self.name(), &self.labels)
    }
}

impl CheckedGroup {
    /// Checks a group; the error names the rule. Templates may link to `external_url`.
    pub(crate) fn check(source: RuleGroup, external_url: &str) -> Result<Self, String> {
        if source.name.trim().is_empty() {
            return Err("invalid rule group: its name must not be empty".to_owned());
        }
        let wrong = |what: String| format!("invalid rule group '{}': {what}", source.name);
        if source.interval.is_some_and(|span| span.0 <= 0) {
            return Err(wrong("interval must be longer than 0: leave it out for the default".to_owned()));
        }
        check_labels(&source.labels).map_err(wrong)?;
        let mut rules = Vec::with_capacity(source.rules.len());
        for (at, rule) in source.rules.iter().enumerate() {
            if source.rules[..at].contains(rule) {
                return Err(wrong(format!("rule {} is a duplicate of one before it", described(at, rule))));
            }
            let rule = check_rule(&source, rule, external_url)
                .map_err(|e| wrong(format!("rule {}: {e}", described(at, rule))))?;
            rules.push(rule);
        }
        Ok(Self { source, rules })
    }
}

/// Number and name of a rule, for errors.
fn described(at: usize, rule: &Rule) -> String {
    let name = if rule.alert.is_empty() { &rule.record } else { &rule.alert };
    format!("{} '{name}'", at + 1)
}

fn check_rule(group: &RuleGroup, rule: &Rule, external_url: &str) -> Result<CheckedRule, String> {
    match (rule.record.is_empty(), rule.alert.is_empty()) {
        (false, false) => return Err("only one of 'record' and 'alert' must be set".to_owned()),
        (true, true) => return Err("one of 'record' or 'alert' must be set".to_owned()),
        _ => {}
    }
    if rule.expr.trim().is_empty() {
        return Err("field 'expr' must be set in rule".to_owned());
    }
    check_labels(&rule.labels)?;
    let expr = match logql::parse(&rule.expr) {
        Ok(Expr::Metric(expr)) => Arc::new(expr),
        Ok(Expr::Log(_)) => {
            return Err(format!(
                "'{}' is a log query: rules must be metric queries, such as count_over_time({}[5m])",
                rule.expr.trim(),
                rule.expr.trim()
            ));
        }
        Err(error) => return Err(format!("could not parse expression: {error}")),
    };
    let mut labels = group.labels.clone();
    labels.extend(rule.labels.clone());
    let kind = if rule.alert.is_empty() {
        check_recording(rule)?;
        Kind::Recording
    } else {
        let name = format!("__alert_{}", rule.alert);
        for annotation in rule.annotations.keys() {
            if !is_label_name(annotation) {
                return Err(format!("invalid annotation name: {annotation}"));
            }
        }
        if rule.hold.or(rule.keep_firing_for).is_some_and(|span| span.0 < 0) {
            return Err("'for' and 'keep_firing_for' must not be negative".to_owned());
        }
        let compile = |what: &str, pairs: &Pairs| -> Result<Vec<(String, Template)>, String> {
            pairs
                .iter()
                .map(|(key, text)| {
                    let template = Template::parse(&name, text, external_url)
                        .map_err(|e| format!("{what} '{key}': {e}"))?;
                    Ok((key.clone(), template))
                })
                .collect()
        };
        Kind::Alerting {
            labels: compile("label", &labels)?,
            annotations: compile("annotation", &rule.annotations)?,
        }
    };
    Ok(CheckedRule { source: rule.clone(), labels, expr, kind })
}

fn check_recording(rule: &Rule) -> Result<(), String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if rule.record.starts_with(|c: char| c.is_ascii_digit()) || !rule.record.chars().all(valid) {
        return Err(format!("invalid recording rule name: {}", rule.record));
    }
    let misplaced = [
        ("annotations", !rule.annotations.is_empty()),
        ("for", rule.hold.is_some()),
        ("keep_firing_for", rule.keep_firing_for.is_some()),
    ];
    match misplaced.into_iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(format!("invalid field '{field}' in recording rule")),
        None => Ok(()),
    }
}

fn check_labels(labels: &Pairs) -> Result<(), String> {
    match labels.keys().find(|name| !is_label_name(name) || *name == "__name__") {
        Some(name) => Err(format!("invalid label name: {name}")),
        None => Ok(()),
    }
}

/// Namespaces with their groups.
pub(crate) type Namespaces = BTreeMap<String, Vec<RuleGroup>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expect: Result<usize, &str>) {
        let found =
            parse_group(yaml).and_then(|group| CheckedGroup::check(group, "")).map(|group| group.rules.len());
        match (found, expect) {
            (Err(error), Err(part)) => assert!(error.contains(part), "{yaml}\n{error}"),
            (found, expect) => assert_eq!(found, expect.map_err(str::to_owned), "{yaml}"),
        }
    }

    #[test]
    fn groups() {
        let rate = r#"sum(rate({app="a"} |= "error" [5m])) > 0"#;
        let with = |rule: &str| format!("name: g\nrules:\n- {}", rule.replace("EXPR", &format!("'{rate}'")));
        check("name: g", Ok(0));
        check("name: g\ninterval: 1m30s\nlimit: 5\nquery_offset: 30s\nlabels: {team: a}\nrules: []", Ok(0));
        check(
            &with(
                "{alert: A, expr: EXPR, for: 5m, keep_firing_for: 1m, labels: {severity: 1}, annotations: {s: '{{ $value }}'}}",
            ),
            Ok(1),
        );
        check(&with("{record: 'a:b', expr: EXPR, labels: {x: y}}"), Ok(1));
        check(&with("{alert: A, expr: EXPR, for: 0}"), Ok(1));
        check("rules: []", Err("name"));
        check("name: ''", Err("must not be empty"));
        check("name: g\ninterval: 5x", Err("5x"));
        check("name: g\ninterval: 0", Err("interval must be longer than 0"));
        check("name: g\nintervall: 5m", Err("intervall"));
        check("name: g\nname: h", Err("name"));
        check("name: [", Err("line"));
        check("name: g\nlabels: {__name__: a}", Err("invalid label name: __name__"));
        check(&with("{expr: EXPR}"), Err("'g': rule 1 '': one of 'record' or 'alert'"));
        check(&with("{alert: A, record: b, expr: EXPR}"), Err("only one of"));
        check(&with("{alert: A}"), Err("'expr' must be set"));
        check(&with("{record: a-b, expr: EXPR}"), Err("invalid recording rule name: a-b"));
        check(&with("{record: b, expr: EXPR, for: 1m}"), Err("invalid field 'for' in recording rule"));
        check(&with("{record: b, expr: EXPR, annotations: {a: b}}"), Err("invalid field 'annotations'"));
        check(&with("{alert: A, expr: EXPR, labels: {'a-b': c}}"), Err("invalid label name: a-b"));
        check(&with("{alert: A, expr: EXPR, annotations: {'a-b': c}}"), Err("invalid annotation name: a-b"));
        check(&with("{alert: A, expr: '{a=\"b\"}'}"), Err("rules must be metric queries"));
        check(
            &with("{alert: A, expr: 'sum(rate({a=\"b\"}[5m])'}"),
            Err("'g': rule 1 'A': could not parse expression: parse error at line 1"),
        );
        check(
            &with("{alert: A, expr: EXPR, annotations: {s: '{{ .x '}}"),
            Err("rule 1 'A': annotation 's': template: __alert_A:1"),
        );
        check(&with("{alert: A, expr: EXPR, labels: {s: '{{ nosuch 1 }}'}}"), Err("nosuch"));
        let twice = with("{alert: A, expr: EXPR}") + &format!("\n- {{alert: A, expr: '{rate}'}}");
        check(&twice, Err("rule 2 'A' is a duplicate"));
    }

    #[test]
    fn files() {
        let two = parse_file("groups:\n- {name: a}\n- {name: b}").unwrap();
        assert_eq!(two.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(parse_file("groups:\n- {name: a}\n- {name: a}").unwrap_err().contains("is repeated"));
        assert_eq!(parse_file("{}"), Ok(Vec::new()));
    }

    #[test]
    fn written_as_read() {
        let yaml = "name: g\ninterval: 1m30s\nrules:\n- alert: A\n  expr: |\n    sum(rate({a=\"b\"}[1m]))\n    > 1\n  for: 5m\n  labels: {severity: '1', t: 'true'}\n  annotations: {summary: '{{ $value }} \"x\"'}\n";
        let group = parse_group(yaml).unwrap();
        let text = serde_saphyr::to_string(&group).unwrap();
        assert_eq!(parse_group(&text).unwrap(), group, "{text}");
        assert!(text.contains("for: 5m") && text.contains("interval: 1m30s"), "{text}");
    }
}
