//! `match`: stages for some entries only, or their end.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::selector::Selector;
use super::{Edit, Hold, Pipeline, Stage, Verdict};
use crate::entry::Entry;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct MatchConfig {
    selector: String,
    stages: Value,
    action: Option<String>,
    drop_counter_reason: Option<String>,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    // `pipeline_name` is the name that Promtail's own metrics give it, which nobody reads.
    let config: MatchConfig = compile.read(body)?;
    let selector = match Selector::parse(&config.selector) {
        Ok(selector) => Some(selector),
        Err(problem) => compile.problem(body, "selector", &problem),
    };
    let stages = compile.stages(&config.stages);
    let has_stages = config.stages.items().next().is_some();
    match config.action.as_deref() {
        None | Some("" | "keep") if has_stages => {
            let pipeline = Pipeline { stages, ..Pipeline::default() };
            Stage::hold(Inner { selector: selector?, pipeline })
        }
        None | Some("" | "keep") => {
            compile.problem(body, "stages", "give at least one stage, or action: drop")
        }
        Some("drop") if has_stages => {
            compile.problem(body, "stages", "entries that are dropped reach no stage: remove the stages")
        }
        Some("drop") => {
            let reason = config.drop_counter_reason.as_deref().filter(|r| !r.is_empty());
            let dropped = compile.dropped(reason.unwrap_or("match_stage"));
            Stage::edit(DropMatching { selector: selector?, dropped })
        }
        Some(other) => compile.problem(body, "action", &format!("'{other}' is neither keep nor drop")),
    }
}

struct DropMatching {
    selector: Selector,
    dropped: Counter,
}

impl Edit for DropMatching {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        if self.selector.matches(&entry.labels, &entry.line) {
            self.dropped.inc();
            return Verdict::Drop;
        }
        Verdict::Keep
    }
}

struct Inner {
    selector: Selector,
    pipeline: Pipeline,
}

impl Hold for Inner {
    fn take(&mut self, mut entry: Entry, now: Instant, out: &mut Vec<Entry>) {
        if self.selector.matches(&entry.labels, &entry.line) {
            entry.extracted.set_labels(&entry.labels);
            self.pipeline.run_inside(entry, now, out);
        } else {
            out.push(entry);
        }
    }

    fn release(&mut self, now: Option<Instant>, out: &mut Vec<Entry>) {
        self.pipeline.release_inside(now, out);
    }

    fn pause(&self) -> Option<Instant> {
        self.pipeline.pause()
    }
}
