//! Label sets of answers.
//!
//! Unlike a stream's labels they may hold empty values: `json x="path"` sets a missing field to the empty text, and answers show it.

use std::fmt;
use std::sync::Arc;

use model::Labels;

/// A sorted set of labels with distinct names, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelSet(Arc<[(Arc<str>, Arc<str>)]>);

impl LabelSet {
    /// The set of these labels, in any order; of equal names the last wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let owned = pairs.into_iter().map(|(n, v)| (n.as_ref().into(), v.as_ref().into()));
        Self::from_shared(owned.collect())
    }

    pub(crate) fn from_shared(mut pairs: Vec<(Arc<str>, Arc<str>)>) -> Self {
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self(pairs.into())
    }

    /// The value of `name`, if the set has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let i = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.0[i].1)
    }

    /// Name and value of each label in order of name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels whose names pass.
    pub(crate) fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(n, _)| keep(n)).cloned().collect())
    }

    /// The labels that have a value.
    pub(crate) fn non_empty(&self) -> Self {
        if self.0.iter().all(|(_, v)| !v.is_empty()) {
            return self.clone();
        }
        Self(self.0.iter().filter(|(_, v)| !v.is_empty()).cloned().collect())
    }

    /// A changed copy: `name` set, or removed if the value is empty.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut pairs: Vec<_> = self.0.iter().filter(|(n, _)| **n != *name).cloned().collect();
        if !value.is_empty() {
            pairs.push((name.into(), value.into()));
        }
        Self::from_shared(pairs)
    }
}

impl Default for LabelSet {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl From<&Labels> for LabelSet {
    fn from(labels: &Labels) -> Self {
        Self::from_pairs(labels.iter())
    }
}

impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{name}={}", model::quote(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_last_wins_empty_stays() {
        let set = LabelSet::from_pairs([("b", "1"), ("a", ""), ("b", "2")]);
        assert_eq!(set.to_string(), r#"{a="", b="2"}"#);
        assert_eq!(set.with("a", "x").with("b", "").to_string(), r#"{a="x"}"#);
    }
}
