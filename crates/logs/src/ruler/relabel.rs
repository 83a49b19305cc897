//! Prometheus' relabelling: rules that change the labels of alerts and recorded series, or drop them.

use model::is_label_name;
use model::regex::Regex;
use serde::{Deserialize, Serialize};
use wire::prometheus::rules::Pairs;

/// One of `relabel_configs`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct RelabelConfig {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// Between the joined values.
    pub separator: String,
    /// Must match the whole joined text.
    pub regex: String,
    /// For `hashmod`, which is not available here.
    pub modulus: u64,
    /// The label that is set.
    pub target_label: String,
    /// What it is set to; `$1` stands for a group.
    pub replacement: String,
    /// `replace`, `keep`, `drop`, …
    pub action: String,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            regex: "(.*)".to_owned(),
            modulus: 0,
            target_label: String::new(),
            replacement: "$1".to_owned(),
            action: "replace".to_owned(),
        }
    }
}

/// A compiled rule.
#[derive(Debug, Clone)]
pub(crate) struct Relabel {
    config: RelabelConfig,
    action: Action,
    regex: Regex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Relabel {
    /// Compiles a rule; the error names the key and the remedy.
    pub(crate) fn compile(config: &RelabelConfig) -> Result<Self, String> {
        let action = match config.action.to_lowercase().as_str() {
            "replace" => Action::Replace,
            "keep" => Action::Keep,
            "drop" => Action::Drop,
            "keepequal" => Action::KeepEqual,
            "dropequal" => Action::DropEqual,
            "labelmap" => Action::LabelMap,
            "labeldrop" => Action::LabelDrop,
            "labelkeep" => Action::LabelKeep,
            "lowercase" => Action::Lowercase,
            "uppercase" => Action::Uppercase,
            "hashmod" => return Err("action: hashmod is not available here: use keep or drop".to_owned()),
            other => return Err(format!("action: '{other}' is no relabel action")),
        };
        use Action::*;
        let needs_target = matches!(action, Replace | Lowercase | Uppercase | KeepEqual | DropEqual);
        if needs_target && config.target_label.is_empty() {
            return Err(format!("target_label: needed by {}", config.action));
        }
        // Groups of a match must be had, so the anchors are written out.
        let regex = Regex::new(&format!("^(?s:{})$", config.regex)).map_err(|e| format!("regex: {e}"))?;
        Ok(Self { config: config.clone(), action, regex })
    }

    /// Applies the rule; `false` drops what has them.
    fn apply(&self, labels: &mut Pairs) -> bool {
        let config = &self.config;
        let values: Vec<&str> =
            config.source_labels.iter().map(|name| labels.get(name).map_or("", String::as_str)).collect();
        let joined = values.join(&config.separator);
        let target = labels.get(&config.target_label).map_or("", String::as_str);
        match self.action {
            Action::Keep => return self.regex.is_match(&joined),
            Action::Drop => return !self.regex.is_match(&joined),
            Action::KeepEqual => return joined == target,
            Action::DropEqual => return joined != target,
            Action::Replace => {
                if self.regex.is_match(&joined) {
                    let name = self.regex.replace_all(&joined, &config.target_label);
                    let value = self.regex.replace_all(&joined, &config.replacement);
                    if is_label_name(&name) {
                        set(labels, name, value);
                    }
                }
            }
            Action::Lowercase => set(labels, config.target_label.clone(), joined.to_lowercase()),
            Action::Uppercase => set(labels, config.target_label.clone(), joined.to_uppercase()),
            Action::LabelMap => {
                let matching = labels.iter().filter(|(name, _)| self.regex.is_match(name));
                let mapped: Vec<_> = matching
                    .map(|(name, value)| (self.regex.replace_all(name, &config.replacement), value.clone()))
                    .collect();
                mapped.into_iter().for_each(|(name, value)| set(labels, name, value));
            }
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
        }
        true
    }
}

/// Applies all rules; `None` drops what has them.
pub(crate) fn relabel(rules: &[Relabel], mut labels: Pairs) -> Option<Pairs> {
    rules.iter().all(|rule| rule.apply(&mut labels)).then_some(labels)
}

fn set(labels: &mut Pairs, name: String, value: String) {
    if value.is_empty() {
        labels.remove(&name);
    } else {
        labels.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies one rule, given as JSON, to `a=foobar, b=x, __m_l=v`; shows the labels, or nothing if dropped.
    fn check(rule: serde_json::Value, want: Option<&str>) {
        let rule = Relabel::compile(&serde_json::from_value(rule).unwrap()).unwrap();
        let labels = [("a", "foobar"), ("b", "x"), ("__m_l", "v")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let shown = relabel(&[rule], labels.into())
            .map(|labels| labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(","));
        assert_eq!(shown.as_deref(), want);
    }

    #[test]
    fn actions() {
        use serde_json::json;
        let same = Some("__m_l=v,a=foobar,b=x");
        check(json!({"source_labels": ["a"], "regex": "foo", "target_label": "c"}), same);
        check(
            json!({"source_labels": ["a", "b"], "regex": "foo(.*);(x)", "target_label": "c", "replacement": "$2-$1"}),
            Some("__m_l=v,a=foobar,b=x,c=x-bar"),
        );
        check(
            json!({"target_label": "job", "replacement": "docker"}),
            Some("__m_l=v,a=foobar,b=x,job=docker"),
        );
        check(json!({"target_label": "b", "replacement": ""}), Some("__m_l=v,a=foobar"));
        check(json!({"source_labels": ["b"], "regex": "x|y", "action": "keep"}), same);
        check(json!({"source_labels": ["b"], "regex": "x|y", "action": "drop"}), None);
        check(json!({"source_labels": ["b"], "target_label": "a", "action": "keepequal"}), None);
        check(json!({"regex": "__m_(.*)", "action": "labelmap"}), Some("__m_l=v,a=foobar,b=x,l=v"));
        check(json!({"regex": "a|b", "action": "labeldrop"}), Some("__m_l=v"));
        check(
            json!({"source_labels": ["b"], "target_label": "b", "action": "Uppercase"}),
            Some("__m_l=v,a=foobar,b=X"),
        );
    }
}
