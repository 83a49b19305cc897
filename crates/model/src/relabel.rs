//! Prometheus' relabelling: rules that change labels of targets, alerts and series, or drop what has them.

use std::collections::BTreeMap;
use std::fmt;

use md5::Digest as _;
use serde::{Deserialize, Serialize};

use crate::is_label_name;
use crate::regex::Regex;

/// One of `relabel_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct RelabelConfig {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// Between the joined values.
    pub separator: String,
    /// Must match the whole joined text.
    pub regex: String,
    /// For `hashmod`.
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

/// As it would be written on one line: only what is not as by default.
impl fmt::Display for RelabelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        write!(f, "{{action: {}", self.action)?;
        if !self.source_labels.is_empty() {
            write!(f, ", source_labels: [{}]", self.source_labels.join(", "))?;
        }
        let texts = [
            ("separator", &self.separator, &default.separator),
            ("regex", &self.regex, &default.regex),
            ("target_label", &self.target_label, &default.target_label),
            ("replacement", &self.replacement, &default.replacement),
        ];
        for (key, value, _) in texts.into_iter().filter(|(_, value, default)| value != default) {
            write!(f, ", {key}: '{}'", value.replace('\'', "''"))?;
        }
        if self.modulus != 0 {
            write!(f, ", modulus: {}", self.modulus)?;
        }
        f.write_str("}")
    }
}

/// A compiled rule.
#[derive(Debug, Clone)]
pub struct Relabel {
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
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

/// Labels while rules run over them.
pub type TargetLabels = BTreeMap<String, String>;

impl Relabel {
    /// Compiles a rule; the error names the key and the remedy.
    pub fn compile(config: &RelabelConfig) -> Result<Self, String> {
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
            "hashmod" => Action::HashMod,
            other => return Err(format!("action: '{other}' is no relabel action")),
        };
        use Action::*;
        let needs_target =
            matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
        if needs_target && config.target_label.is_empty() {
            return Err(format!("target_label: needed by {}", config.action));
        }
        let is_template = config.target_label.contains('$') && action == Replace;
        if needs_target && !is_template && !is_label_name(&config.target_label) {
            return Err(format!("target_label: '{}' is not a label name", config.target_label));
        }
        if action == HashMod && config.modulus == 0 {
            return Err("modulus: must be more than 0 for hashmod".to_owned());
        }
        let default = RelabelConfig::default();
        let (regex_only, equality) =
            (matches!(action, LabelDrop | LabelKeep), matches!(action, KeepEqual | DropEqual));
        let other = [
            ("source_labels", regex_only && !config.source_labels.is_empty()),
            ("target_label", regex_only && !config.target_label.is_empty()),
            ("separator", (regex_only || equality) && config.separator != default.separator),
            ("regex", equality && config.regex != default.regex),
            ("modulus", (regex_only || equality) && config.modulus != 0),
            ("replacement", (regex_only || equality) && config.replacement != default.replacement),
        ];
        if let Some((key, _)) = other.iter().find(|(_, given)| *given) {
            return Err(format!("{key}: {} does not take it", config.action));
        }
        // Groups of a match must be had, so the anchors are written out.
        let regex = Regex::new(&format!("^(?s:{})$", config.regex)).map_err(|e| format!("regex: {e}"))?;
        Ok(Self { config: config.clone(), action, regex })
    }

    /// What it was compiled from.
    pub fn config(&self) -> &RelabelConfig {
        &self.config
    }

    /// Applies the rule; `false` drops what has the labels.
    pub fn apply(&self, labels: &mut TargetLabels) -> bool {
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
            Action::HashMod => {
                set(labels, config.target_label.clone(), hash_mod(&joined, config.modulus).to_string());
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

/// Applies all rules; `None` drops what has the labels.
pub fn relabel(rules: &[Relabel], labels: TargetLabels) -> Option<TargetLabels> {
    trace(rules, labels).ok()
}

/// Applies all rules; where one drops what has the labels, its index.
pub fn trace(rules: &[Relabel], mut labels: TargetLabels) -> Result<TargetLabels, usize> {
    match rules.iter().position(|rule| !rule.apply(&mut labels)) {
        None => Ok(labels),
        Some(dropped) => Err(dropped),
    }
}

/// The last eight bytes of the text's MD5, big endian, modulo `modulus`.
fn hash_mod(text: &str, modulus: u64) -> u64 {
    let digest = md5::Md5::digest(text);
    let last = digest.iter().skip(8).fold(0, |n: u64, byte| n << 8 | u64::from(*byte));
    last.checked_rem(modulus).unwrap_or_default()
}

fn set(labels: &mut TargetLabels, name: String, value: String) {
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
        check(json!({"regex": "a|b", "action": "labelkeep"}), Some("a=foobar,b=x"));
        check(json!({"source_labels": ["a"], "target_label": "b", "action": "dropequal"}), same);
        check(
            json!({"source_labels": ["b"], "modulus": 1000, "target_label": "h", "action": "hashmod"}),
            Some("__m_l=v,a=foobar,b=x,h=726"),
        );
        check(
            json!({"source_labels": ["b"], "target_label": "b", "action": "Uppercase"}),
            Some("__m_l=v,a=foobar,b=X"),
        );
    }

    #[test]
    fn a_rule_that_drops_is_known_and_shown() {
        use serde_json::json;
        let rules: Vec<RelabelConfig> = serde_json::from_value(json!([
            {"target_label": "a", "replacement": "it's"},
            {"source_labels": ["a", "b"], "regex": "x.*", "action": "keep"},
        ]))
        .unwrap();
        let rules: Vec<_> = rules.iter().map(|rule| Relabel::compile(rule).unwrap()).collect();
        assert_eq!(trace(&rules, TargetLabels::new()), Err(1));
        let shown: Vec<_> = rules.iter().map(|rule| rule.config().to_string()).collect();
        let want = [
            "{action: replace, target_label: 'a', replacement: 'it''s'}",
            "{action: keep, source_labels: [a, b], regex: 'x.*'}",
        ];
        assert_eq!(shown, want);
    }

    #[test]
    fn hashes() {
        assert_eq!(hash_mod("a", 8), 1);
    }

    #[test]
    fn faults() {
        let check = |rule: serde_json::Value, want: &str| {
            let problem = Relabel::compile(&serde_json::from_value(rule).unwrap()).unwrap_err();
            assert!(problem.starts_with(want), "{problem}");
        };
        use serde_json::json;
        check(json!({"action": "nope"}), "action: ");
        check(json!({}), "target_label: needed by replace");
        check(json!({"target_label": "a-b"}), "target_label: 'a-b'");
        check(json!({"target_label": "a", "action": "hashmod"}), "modulus: ");
        check(json!({"regex": "(", "target_label": "a"}), "regex: ");
        check(json!({"regex": "a", "action": "labeldrop", "source_labels": ["b"]}), "source_labels: ");
        check(json!({"regex": "a", "action": "keepequal", "target_label": "b"}), "regex: ");
    }
}
