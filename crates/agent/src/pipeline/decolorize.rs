//! `decolorize`: the line without ANSI escape sequences.

use std::time::Instant;

use model::regex::Regex;
use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::{Edit, Stage, Verdict};
use crate::entry::Entry;

/// ANSI escape sequences, as the usual strippers define them.
const ANSI: &str = "[\u{1b}\u{9b}][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z\\d]*(?:;[a-zA-Z\\d]*)*)?\u{7})|\
                    (?:(?:\\d{1,4}(?:;\\d{0,4})*)?[\\dA-PRZcf-ntqry=><~]))";

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct DecolorizeConfig {}

struct Decolorize(Regex);

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let _: DecolorizeConfig = compile.read(body)?;
    Stage::edit(Decolorize(compile.regex(body, "", ANSI)?))
}

impl Edit for Decolorize {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        if entry.line.contains(['\u{1b}', '\u{9b}']) {
            entry.line = self.0.replace_all(&entry.line, "");
        }
        Verdict::Keep
    }
}
