//! Where something stands in a configuration: `clients[0].basic_auth.password`.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Keys and list indices from the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Path(Vec<Step>);

impl Path {
    pub(super) fn key(&self, key: &str) -> Path {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Path {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Path {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Path(steps)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether a pattern (`scrape_configs.*.journal`) names this path, seen from its step `base` on, or something above it.
    pub(super) fn is_under(&self, pattern: &str, base: usize) -> bool {
        let mut steps = self.0.iter().skip(base);
        pattern.split('.').all(|part| match steps.next() {
            None => false,
            Some(_) if part == "*" => true,
            Some(Step::Key(key)) => key == part,
            Some(Step::Index(_)) => false,
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "{}{key}", if n == 0 { "" } else { "." })?,
            }
        }
        Ok(())
    }
}
