//! `sampling`: a random part of the entries.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct SamplingConfig {
    /// The part that is kept.
    rate: f64,
    drop_counter_reason: Option<String>,
}

struct Sampling {
    rate: f64,
    dropped: Counter,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let config: SamplingConfig = compile.read(body)?;
    if !(0.0..=1.0).contains(&config.rate) {
        return compile.problem(body, "rate", "give the part that is kept, from 0 to 1");
    }
    let reason = config.drop_counter_reason.as_deref().filter(|r| !r.is_empty());
    let dropped = compile.dropped(reason.unwrap_or("sampling_stage"));
    Stage::edit(Sampling { rate: config.rate, dropped })
}

impl Edit for Sampling {
    fn edit(&mut self, _: &mut Entry, _: Instant) -> Verdict {
        if rand::random::<f64>() < self.rate {
            return Verdict::Keep;
        }
        self.dropped.inc();
        Verdict::Drop
    }
}
