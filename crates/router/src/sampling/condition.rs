//! Conditions on single spans: each is one bit of a trace, set once any of its spans passes.

use model::regex::Regex;
use wire::otlp::{AnyValue, Attributes};

/// What one span must be like to set the condition's bit.
#[derive(Debug)]
pub(super) enum Condition {
    /// The span's state is one of those whose bit (1 << OTLP number) is set.
    Status(u8),
    /// The span carries the W3C sampled flag.
    SampledFlag,
    /// The span's `tracestate` has this entry with one of these values.
    TraceState { key: String, values: Vec<String> },
    /// An attribute of the span or of its resource passes.
    Attribute { key: String, test: ValueTest },
}

/// A test of an attribute's value.
#[derive(Debug)]
pub(super) enum ValueTest {
    Int { min: Option<i64>, max: Option<i64> },
    Bool(bool),
    OneOf(Vec<String>),
    Regex(Vec<Regex>),
}

impl ValueTest {
    fn passes(&self, value: &AnyValue<'_>) -> bool {
        match (self, value) {
            (Self::Int { min, max }, AnyValue::Int(v)) => {
                min.is_none_or(|m| *v >= m) && max.is_none_or(|m| *v <= m)
            }
            (Self::Bool(want), AnyValue::Bool(v)) => v == want,
            (Self::OneOf(values), AnyValue::Str(v)) => values.iter().any(|x| x == v),
            (Self::Regex(regexes), AnyValue::Str(v)) => regexes.iter().any(|r| r.is_match(v)),
            _ => false,
        }
    }
}

/// Bit set over the conditions of a policy list. 128 conditions are more than anybody lists.
pub(super) type Bits = u128;

/// All conditions of a policy list; a condition's place is its bit.
#[derive(Debug, Default)]
pub struct Conditions {
    list: Vec<Condition>,
    attributes: Bits,
    spans: Bits,
}

impl Conditions {
    /// Adds a condition and returns its bit, or `None` when there are too many.
    pub(super) fn add(&mut self, condition: Condition) -> Option<Bits> {
        let bit = 1u128.checked_shl(u32::try_from(self.list.len()).ok()?)?;
        match condition {
            Condition::Attribute { .. } => self.attributes |= bit,
            _ => self.spans |= bit,
        }
        self.list.push(condition);
        Some(bit)
    }

    /// The bits that attributes (of a resource, or of a span) set, of those not in `known`.
    pub(super) fn of_attributes(&self, attributes: Attributes<'_>, known: Bits) -> Bits {
        if self.attributes & !known == 0 {
            return 0;
        }
        let mut found = 0;
        for pair in attributes.iter() {
            for (place, condition) in self.list.iter().enumerate() {
                if let Condition::Attribute { key, test } = condition
                    && *key == pair.key
                    && test.passes(&pair.value)
                {
                    found |= 1 << place;
                }
            }
        }
        found
    }

    /// The bits that the span's own fields set, of those not in `known`.
    pub(super) fn of_span(&self, status: i32, flags: u32, trace_state: &str, known: Bits) -> Bits {
        if self.spans & !known == 0 {
            return 0;
        }
        let mut found = 0;
        for (place, condition) in self.list.iter().enumerate() {
            let passes = match condition {
                Condition::Status(mask) => u32::try_from(status).is_ok_and(|s| s < 8 && mask & (1 << s) != 0),
                Condition::SampledFlag => flags & 1 != 0,
                Condition::TraceState { key, values } => {
                    entries(trace_state).any(|(k, v)| k == key && values.iter().any(|x| x == v))
                }
                Condition::Attribute { .. } => false,
            };
            found |= Bits::from(passes) << place;
        }
        found
    }
}

/// Entries of a W3C `tracestate`: `k=v,k2=v2`.
fn entries(trace_state: &str) -> impl Iterator<Item = (&str, &str)> {
    trace_state.split(',').filter_map(|entry| entry.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_fields_set_their_bits() {
        let mut conditions = Conditions::default();
        let error = conditions.add(Condition::Status(1 << 2)).unwrap();
        let flag = conditions.add(Condition::SampledFlag).unwrap();
        let gold = conditions
            .add(Condition::TraceState { key: "tier".into(), values: vec!["gold".into()] })
            .unwrap();
        assert_eq!(conditions.of_span(2, 0, "", 0), error);
        assert_eq!(conditions.of_span(0, 0x101, "x=1, tier=gold", 0), flag | gold);
        assert_eq!(conditions.of_span(2, 1, "tier=gold", error | flag | gold), 0);
    }
}
