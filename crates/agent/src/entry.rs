//! One log line on its way through the agent.

use std::sync::Arc;

use model::{LabelsBuilder, Timestamp};

use crate::progress::Ticket;
use crate::tail::Stream;

/// A line with everything that stages may look at and change.
#[derive(Debug)]
pub struct Entry {
    /// When it happened; the time of reading until a stage knows better.
    pub timestamp: Timestamp,
    /// The text, without its line end.
    pub line: String,
    /// Its stream.
    pub labels: LabelsBuilder,
    /// Structured metadata in the order in which it was set.
    pub metadata: Vec<(String, String)>,
    /// What stages have taken out of the line for later ones.
    pub extracted: Extracted,
    /// Whose line it is; empty leaves it to the client.
    pub tenant: String,
    /// The output that Docker's record named, where the reader has taken the line out of it already.
    pub docker: Option<Stream>,
    /// Acknowledges the line to where it was read.
    pub ticket: Option<Arc<Ticket>>,
}

impl Entry {
    /// A line just read.
    pub fn new(timestamp: Timestamp, line: String, labels: LabelsBuilder) -> Self {
        let (metadata, extracted) = (Vec::new(), Extracted::default());
        Self {
            timestamp,
            line,
            labels,
            metadata,
            extracted,
            tenant: String::new(),
            docker: None,
            ticket: None,
        }
    }
}

/// Values by name; few, so a list beats a map.
#[derive(Debug, Clone, Default)]
pub struct Extracted(Vec<(String, serde_json::Value)>);

impl Extracted {
    /// Sets a value.
    pub fn set(&mut self, name: &str, value: serde_json::Value) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// A value as stages know it.
    pub fn get(&self, name: &str) -> Option<&serde_json::Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// A value as text; `None` if it is absent, null or a structure.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Bool(value) => Some(value.to_string()),
            serde_json::Value::Number(number) => Some(plain(number)),
            _ => None,
        }
    }
}

/// A number as plain decimal, the way Go prints a float64 with `%f` and no more digits than needed.
fn plain(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => format!("{value}"),
        _ => number.to_string(),
    }
}
