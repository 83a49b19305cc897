//! `drop`: entries for which all of the conditions hold end here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use model::Timestamp;
use model::regex::Regex;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use service::config::{ByteSize, Duration, Value};

use super::compile::Compile;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;
use crate::extracted::Extract;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
struct DropConfig {
    /// A name or a list of names.
    source: Value,
    separator: String,
    expression: Option<String>,
    value: Option<String>,
    older_than: Option<Duration>,
    longer_than: Option<ByteSize>,
    drop_counter_reason: Option<String>,
}

impl Default for DropConfig {
    fn default() -> Self {
        Self {
            source: Value::default(),
            separator: ";".to_owned(),
            expression: None,
            value: None,
            older_than: None,
            longer_than: None,
            drop_counter_reason: None,
        }
    }
}

struct DropStage {
    sources: Vec<Arc<str>>,
    separator: String,
    condition: Option<Condition>,
    older_than: Option<std::time::Duration>,
    longer_than: Option<usize>,
    dropped: Counter,
}

enum Condition {
    Matches(Regex),
    Equals(String),
}

impl Condition {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Matches(regex) => regex.is_match(text),
            Self::Equals(value) => text == value,
        }
    }
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: DropConfig = compile.read(body)?;
    let mut sources: Vec<Arc<str>> = Vec::new();
    match config.source.as_str().filter(|_| !config.source.is_null()) {
        Some("") => {}
        Some(source) => sources.push(source.into()),
        None => sources.extend(config.source.items().filter_map(|item| item.as_str().map(Arc::from))),
    }
    let nothing = config.expression.is_none() && config.older_than.is_none() && config.longer_than.is_none();
    if sources.is_empty() && config.value.is_some() {
        return compile.problem(body, "value", "also give the source that it is compared to");
    }
    if sources.is_empty() && nothing {
        return compile.problem(
            body,
            "",
            "give at least one of source, expression, older_than and longer_than",
        );
    }
    let condition = match (&config.expression, config.value) {
        (Some(_), Some(_)) => return compile.problem(body, "value", "give either value or expression"),
        (Some(expression), None) => {
            Some(Condition::Matches(compile.any_regex(body, "expression", expression)?))
        }
        // An empty one is none.
        (None, value) => value.filter(|value| !value.is_empty()).map(Condition::Equals),
    };
    let reason = config.drop_counter_reason.as_deref().filter(|r| !r.is_empty()).unwrap_or("drop_stage");
    Stage::edit(DropStage {
        sources,
        separator: config.separator,
        condition,
        older_than: config.older_than.map(Duration::get),
        longer_than: config.longer_than.map(ByteSize::as_usize),
        dropped: compile.dropped(reason),
    })
}

impl DropStage {
    fn all_hold(&self, entry: &Entry) -> bool {
        if self.longer_than.is_some_and(|limit| entry.line.len() <= limit) {
            return false;
        }
        if let Some(age) = self.older_than {
            let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            if entry.timestamp.nanos() >= Timestamp::now().nanos().saturating_sub(age) {
                return false;
            }
        }
        match (&self.condition, &self.sources[..]) {
            (None, sources) => sources.iter().all(|source| entry.extracted.get(source).is_some()),
            (Some(condition), []) => condition.holds(&entry.line),
            (Some(condition), [source]) => {
                entry.extracted.text(source).is_some_and(|text| condition.holds(&text))
            }
            (Some(condition), sources) => {
                let there = sources.iter().filter_map(|source| entry.extracted.get(source));
                // Null has no text, and without one of the texts nothing is known of them together.
                let texts: Option<Vec<Cow<'_, str>>> = there.map(Extract::text).collect();
                texts.is_some_and(|t| !t.is_empty() && condition.holds(&t.join(&self.separator)))
            }
        }
    }
}

impl Edit for DropStage {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        if self.all_hold(entry) {
            self.dropped.inc();
            return Verdict::Drop;
        }
        Verdict::Keep
    }
}
