//! `tenant`: whose line it is.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use service::config::Value;

use super::compile::Compile;
use super::label_cache::LabelCache;
use super::{Edit, Stage, Verdict};
use crate::entry::{Entry, TENANT_LABEL};

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct TenantConfig {
    label: String,
    source: String,
    value: String,
}

enum Source {
    Label(String),
    Extracted(Arc<str>),
    Value(String),
}

struct Tenant {
    source: Source,
    cache: LabelCache,
}

pub(super) fn compile(body: &Value, compile: &mut Compile<'_>) -> Option<Stage> {
    let TenantConfig { label, source, value } = compile.read(body)?;
    let source = match (label.is_empty(), source.is_empty(), value.is_empty()) {
        (false, true, true) => Source::Label(label),
        (true, false, true) => Source::Extracted(source.into()),
        (true, true, false) => Source::Value(value),
        _ => return compile.problem(body, "", "give exactly one of label, source and value"),
    };
    Stage::edit(Tenant { source, cache: LabelCache::default() })
}

impl Edit for Tenant {
    fn edit(&mut self, entry: &mut Entry, _: Instant) -> Verdict {
        let tenant = match &self.source {
            Source::Label(name) => entry.labels.get(name).map(Into::into),
            Source::Extracted(name) => entry.extracted.text(name),
            Source::Value(value) => Some(value.as_str().into()),
        };
        if let Some(tenant) = tenant.filter(|t| !t.is_empty()) {
            self.cache.begin();
            self.cache.value(Some(&tenant));
            entry.labels = self.cache.apply(&entry.labels, |labels| {
                labels.set(TENANT_LABEL, &tenant);
            });
        }
        Verdict::Keep
    }
}
