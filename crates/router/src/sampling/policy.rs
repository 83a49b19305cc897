//! Policies: from their configuration to a decision about one trace.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::TraceId;
use model::regex::Regex;

use super::condition::{Bits, Condition, Conditions, ValueTest};
use super::config::{CompositeConfig, PolicyConfig};
use super::limit::{Nanos, PerSecond, Share, TokenBucket};

/// What becomes of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Goes on.
    Sampled,
    /// No policy wants it.
    NotSampled,
    /// A `drop` policy refuses it.
    Dropped,
}

/// What policies know of a trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) id: TraceId,
    /// Conditions that a span of the trace passed.
    pub(super) bits: Bits,
    /// First start and last end, ns since the epoch.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) spans: u64,
    /// Protobuf bytes.
    pub(super) bytes: u64,
}

/// A checked list of policies with the state of their limits.
#[derive(Debug)]
pub struct Policies {
    pub(super) conditions: Arc<Conditions>,
    /// `drop` policies first, the others as listed.
    rules: Vec<(String, Rule)>,
    first_match: bool,
}

#[derive(Debug)]
enum Rule {
    Always,
    Bit { bit: Bits, invert: bool },
    Latency { threshold: u64, upper: Option<u64> },
    Share(Share),
    Rate(TokenBucket),
    Bytes(TokenBucket),
    SpanCount { min: u64, max: Option<u64> },
    And(Vec<Rule>),
    Not(Box<Rule>),
    Drop(Vec<Rule>),
    Composite { max: u64, used: PerSecond, parts: Vec<Part>, fall_through: bool },
}

/// One sub-policy of a composite with its share of spans per second.
#[derive(Debug)]
struct Part {
    rule: Rule,
    budget: u64,
    used: PerSecond,
}

impl Policies {
    /// Checks a policy list; all problems come back together, each with the path of its policy.
    pub fn compile(configs: &[PolicyConfig], first_match: bool) -> Result<Self, Vec<String>> {
        let mut compiler = Compiler::default();
        let mut rules = compiler.list("policies", configs);
        if configs.is_empty() {
            compiler.problems.push("policies: at least one policy is needed".to_owned());
        }
        rules.sort_by_key(|(_, rule)| !matches!(rule, Rule::Drop(_)));
        if compiler.problems.is_empty() {
            Ok(Self { conditions: Arc::new(compiler.conditions), rules, first_match })
        } else {
            Err(compiler.problems)
        }
    }

    /// Decides about a trace, and names the policy that gave the decision.
    pub(super) fn decide(&mut self, now: Nanos, facts: &Facts) -> (Decision, Option<&str>) {
        let mut sampled_by = None;
        for (place, (_, rule)) in self.rules.iter_mut().enumerate() {
            let drops = matches!(rule, Rule::Drop(_));
            if !rule.holds(now, facts) {
                continue;
            }
            if drops {
                return (Decision::Dropped, Some(&self.rules[place].0));
            }
            sampled_by.get_or_insert(place);
            if self.first_match {
                break;
            }
        }
        match sampled_by {
            Some(place) => (Decision::Sampled, Some(&self.rules[place].0)),
            None => (Decision::NotSampled, None),
        }
    }
}

impl Rule {
    fn holds(&mut self, now: Nanos, facts: &Facts) -> bool {
        match self {
            Self::Always => true,
            Self::Bit { bit, invert } => (facts.bits & *bit != 0) != *invert,
            Self::Latency { threshold, upper } => {
                let millis = facts.end.saturating_sub(facts.start) / 1_000_000;
                match upper {
                    Some(upper) => millis > *threshold && millis <= *upper,
                    None => millis >= *threshold,
                }
            }
            Self::Share(share) => share.holds(facts.id),
            Self::Rate(bucket) => bucket.take(now, facts.spans),
            Self::Bytes(bucket) => bucket.take(now, facts.bytes),
            Self::SpanCount { min, max } => facts.spans >= *min && max.is_none_or(|m| facts.spans <= m),
            Self::And(rules) | Self::Drop(rules) => rules.iter_mut().all(|r| r.holds(now, facts)),
            Self::Not(rule) => !rule.holds(now, facts),
            Self::Composite { max, used, parts, fall_through } => {
                for part in parts {
                    if !part.rule.holds(now, facts) {
                        continue;
                    }
                    let fits = part.used.used(now) + facts.spans <= part.budget
                        && used.used(now) + facts.spans <= *max;
                    if fits {
                        part.used.add(facts.spans);
                        used.add(facts.spans);
                        return true;
                    }
                    if !*fall_through {
                        return false;
                    }
                }
                false
            }
        }
    }
}

/// Turns configurations into rules and collects what is wrong with them.
#[derive(Default)]
struct Compiler {
    conditions: Conditions,
    problems: Vec<String>,
}

impl Compiler {
    fn list(&mut self, path: &str, configs: &[PolicyConfig]) -> Vec<(String, Rule)> {
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for (i, config) in configs.iter().enumerate() {
            let path = format!("{path}[{i}]");
            if config.name.is_empty() {
                self.problems.push(format!("{path}.name: must not be empty"));
            } else if !names.insert(&config.name) {
                self.problems.push(format!("{path}.name: '{}' is used twice", config.name));
            }
            match self.rule(&path, config) {
                Ok(rule) => rules.push((config.name.clone(), rule)),
                Err(problem) => self.problems.push(problem),
            }
        }
        rules
    }

    /// Sub-policies, of which there must be some.
    fn parts(&mut self, path: &str, configs: &[PolicyConfig]) -> Result<Vec<(String, Rule)>, String> {
        if configs.is_empty() {
            return Err(format!("{path}: at least one sub-policy is needed"));
        }
        Ok(self.list(path, configs))
    }

    fn bit(&mut self, path: &str, condition: Condition, invert: bool) -> Result<Rule, String> {
        match self.conditions.add(condition) {
            Some(bit) => Ok(Rule::Bit { bit, invert }),
            None => Err(format!("{path}: more than 128 conditions; join some with regular expressions")),
        }
    }

    fn rule(&mut self, path: &str, config: &PolicyConfig) -> Result<Rule, String> {
        fn block<'a, T>(path: &str, kind: &str, block: &'a Option<T>) -> Result<&'a T, String> {
            block.as_ref().ok_or_else(|| format!("{path}: type {kind} needs a block `{kind}`"))
        }
        let kind = config.kind.as_str();
        let bare = |rules: Vec<(String, Rule)>| rules.into_iter().map(|(_, rule)| rule).collect();
        match kind {
            "always_sample" => Ok(Rule::Always),
            "trace_flags" => self.bit(path, Condition::SampledFlag, false),
            "latency" => {
                let c = block(path, kind, &config.latency)?;
                let upper = (c.upper_threshold_ms > 0).then_some(c.upper_threshold_ms);
                Ok(Rule::Latency { threshold: c.threshold_ms, upper })
            }
            "status_code" => {
                let c = block(path, kind, &config.status_code)?;
                let mask = status_mask(&format!("{path}.status_code.status_codes"), &c.status_codes)?;
                self.bit(path, Condition::Status(mask), false)
            }
            "probabilistic" => {
                let c = block(path, kind, &config.probabilistic)?;
                Ok(Rule::Share(Share::new(&c.hash_salt, c.sampling_percentage)))
            }
            "numeric_attribute" => {
                let c = block(path, kind, &config.numeric_attribute)?;
                let bound = |v: i64| (v != 0).then_some(v);
                let (min, max) = (bound(c.min_value), bound(c.max_value));
                if min.is_none() && max.is_none() {
                    return Err(format!(
                        "{path}.numeric_attribute: set min_value or max_value to other than 0"
                    ));
                }
                let test = ValueTest::Int { min, max };
                self.bit(path, Condition::Attribute { key: c.key.clone(), test }, c.invert_match)
            }
            "boolean_attribute" => {
                let c = block(path, kind, &config.boolean_attribute)?;
                let test = ValueTest::Bool(c.value);
                self.bit(path, Condition::Attribute { key: c.key.clone(), test }, c.invert_match)
            }
            "string_attribute" => {
                let c = block(path, kind, &config.string_attribute)?;
                let test = if c.enabled_regex_matching {
                    let regexes = c.values.iter().map(|v| Regex::new(v)).collect::<Result<_, _>>();
                    ValueTest::Regex(regexes.map_err(|e| format!("{path}.string_attribute.values: {e}"))?)
                } else {
                    ValueTest::OneOf(c.values.iter().filter(|v| !v.is_empty()).cloned().collect())
                };
                self.bit(path, Condition::Attribute { key: c.key.clone(), test }, c.invert_match)
            }
            "trace_state" => {
                let c = block(path, kind, &config.trace_state)?;
                let values: Vec<String> =
                    c.values.iter().filter(|v| c.key.len() + v.len() < 256).cloned().collect();
                self.bit(path, Condition::TraceState { key: c.key.clone(), values }, false)
            }
            "rate_limiting" => {
                let c = block(path, kind, &config.rate_limiting)?;
                Ok(Rule::Rate(TokenBucket::new(c.spans_per_second, c.burst_capacity)))
            }
            "bytes_limiting" => {
                let c = block(path, kind, &config.bytes_limiting)?;
                Ok(Rule::Bytes(TokenBucket::new(c.bytes_per_second, c.burst_capacity)))
            }
            "span_count" => {
                let c = block(path, kind, &config.span_count)?;
                Ok(Rule::SpanCount { min: c.min_spans, max: (c.max_spans > 0).then_some(c.max_spans) })
            }
            "and" => {
                let c = block(path, kind, &config.and)?;
                Ok(Rule::And(bare(self.parts(&format!("{path}.and.and_sub_policy"), &c.and_sub_policy)?)))
            }
            "drop" => {
                let c = block(path, kind, &config.drop)?;
                Ok(Rule::Drop(bare(self.parts(&format!("{path}.drop.drop_sub_policy"), &c.drop_sub_policy)?)))
            }
            "not" => {
                let c = block(path, kind, &config.not)?;
                Ok(Rule::Not(Box::new(self.rule(&format!("{path}.not.not_sub_policy"), &c.not_sub_policy)?)))
            }
            "composite" => {
                let c = block(path, kind, &config.composite)?;
                self.composite(&format!("{path}.composite"), c)
            }
            "ottl_condition" => Err(format!("{path}.type: ottl_condition is not built yet")),
            "" => Err(format!("{path}.type: missing")),
            other => Err(format!("{path}.type: no policy is called '{other}'")),
        }
    }

    fn composite(&mut self, path: &str, config: &CompositeConfig) -> Result<Rule, String> {
        let mut rules = self.parts(&format!("{path}.composite_sub_policy"), &config.composite_sub_policy)?;
        let max = config.max_total_spans_per_second;
        let mut parts = Vec::new();
        let equal = max / config.composite_sub_policy.len() as u64;
        let budget = |name: &str| {
            let share = config.rate_allocation.iter().find(|a| a.policy == name).map_or(0, |a| a.percent);
            if share == 0 { equal } else { max * share / 100 }
        };
        let order: Vec<String> = match config.policy_order.is_empty() {
            true => rules.iter().map(|(name, _)| name.clone()).collect(),
            false => config.policy_order.clone(),
        };
        for name in &order {
            let Some(place) = rules.iter().position(|(n, _)| n == name) else {
                return Err(format!("{path}.policy_order: '{name}' is not a sub-policy, or named twice"));
            };
            let (name, rule) = rules.remove(place);
            parts.push(Part { rule, budget: budget(&name), used: PerSecond::default() });
        }
        if let Some((name, _)) = rules.first() {
            return Err(format!("{path}.policy_order: '{name}' is missing; name each sub-policy once"));
        }
        Ok(Rule::Composite { max, used: PerSecond::default(), parts, fall_through: config.fall_through })
    }
}

fn status_mask(path: &str, codes: &[String]) -> Result<u8, String> {
    if codes.is_empty() {
        return Err(format!("{path}: at least one of OK, ERROR, UNSET is needed"));
    }
    codes.iter().try_fold(0, |mask, code| match code.as_str() {
        "UNSET" => Ok(mask | 1),
        "OK" => Ok(mask | 1 << 1),
        "ERROR" => Ok(mask | 1 << 2),
        other => Err(format!("{path}: '{other}' is none of OK, ERROR, UNSET")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(spans: u64, bits: Bits) -> Facts {
        Facts { id: TraceId([0xff; 16]), bits, start: 0, end: 0, spans, bytes: 0 }
    }

    fn compile(policies: serde_json::Value, first_match: bool) -> Result<Policies, Vec<String>> {
        let configs: Vec<PolicyConfig> = serde_json::from_value(policies).unwrap();
        Policies::compile(&configs, first_match)
    }

    /// Decisions in order for traces given as (has an error, spans), all in one instant.
    fn run(policies: &mut Policies, traces: &[(bool, u64)]) -> String {
        let one = |&(error, spans): &(bool, u64)| match policies.decide(0, &facts(spans, u128::from(error))).0
        {
            Decision::Sampled => 'S',
            Decision::NotSampled => 'N',
            Decision::Dropped => 'D',
        };
        traces.iter().map(one).collect()
    }

    fn errors() -> serde_json::Value {
        serde_json::json!({"name": "err", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}})
    }

    #[test]
    fn composite_shares_a_rate() {
        let all = serde_json::json!({"name": "all", "type": "always_sample"});
        let composite = |parts: Vec<serde_json::Value>, order: Vec<&str>| {
            serde_json::json!([{"name": "c", "type": "composite", "composite": {
                "max_total_spans_per_second": 100, "policy_order": order, "composite_sub_policy": parts,
                "rate_allocation": [{"policy": "err", "percent": 60}, {"policy": "all", "percent": 40}]}}])
        };
        let mut listed = compile(composite(vec![errors(), all.clone()], vec![]), false).unwrap();
        let traces = [(true, 50), (true, 20), (false, 30), (false, 20), (true, 10)];
        assert_eq!(run(&mut listed, &traces), "SNSNS");
        let mut ordered = compile(composite(vec![all, errors()], vec!["err", "all"]), false).unwrap();
        assert_eq!(run(&mut ordered, &[(true, 50)]), "S");
    }

    #[test]
    fn first_match_spares_the_limits() {
        let list = serde_json::json!([errors(), {"name": "r", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 10}}]);
        let traces = [(true, 20), (false, 20)];
        assert_eq!(run(&mut compile(list.clone(), true).unwrap(), &traces), "SS");
        assert_eq!(run(&mut compile(list, false).unwrap(), &traces), "SN");
    }

    #[test]
    fn drop_comes_first_wherever_it_stands() {
        let list = serde_json::json!([{"name": "all", "type": "always_sample"},
            {"name": "d", "type": "drop", "drop": {"drop_sub_policy": [errors()]}}]);
        assert_eq!(run(&mut compile(list, false).unwrap(), &[(true, 1), (false, 1)]), "DS");
    }

    #[test]
    fn all_problems_at_once() {
        let problems = compile(
            serde_json::json!([
                {"name": "n", "type": "numeric_attribute", "numeric_attribute": {"key": "n"}},
                {"name": "n", "type": "and", "and": {"and_sub_policy": []}},
                {"name": "x", "type": "latency"},
                {"name": "y", "type": "status_code", "status_code": {"status_codes": ["BAD"]}},
                {"name": "", "type": "magic"}]),
            false,
        )
        .unwrap_err();
        assert_eq!(problems.len(), 7, "{problems:#?}");
        assert!(problems[0].starts_with("policies[0].numeric_attribute:"), "{problems:#?}");
    }
}
