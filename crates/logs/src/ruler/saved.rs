//! Active alerts in the bucket, so that a restart neither forgets them nor lets their `for` begin anew.
//!
//! One small object per group, `ruler/<tenant>/alerts/<hash of the group>.json`, written when alerts come, change state or go, and
//! otherwise once a minute while there are some: its time tells how long an outage was.

use blob::{Blob, BlobError};
use model::{Timestamp, duration};
use serde::{Deserialize, Serialize};
use wire::prometheus::rules::Pairs;

use crate::ruler::alert::{Outage, SavedAlert, Timing};
use crate::ruler::eval::RuleState;
use crate::ruler::group::{CheckedGroup, GroupId};
use crate::ruler::store::ROOT;

/// Alerts of a group that are kept; more than anyone acts on.
const MAX_ALERTS: usize = 10_000;
/// A state with alerts is written at least this often.
const REFRESH: i64 = duration::MINUTE;

/// What the bucket knows of a group.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    content: Vec<SavedRule>,
    at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Object {
    /// The last evaluation before it was written, nanoseconds.
    at: i64,
    rules: Vec<SavedRule>,
}

/// The alerts of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedRule {
    name: String,
    labels: Pairs,
    alerts: Vec<SavedAlert>,
}

fn path(id: &GroupId) -> String {
    format!("{ROOT}/{}/alerts/{:016x}.json", id.tenant, id.hash())
}

impl Saved {
    /// What is to be written after an evaluation; nothing if the bucket knows enough.
    pub(crate) fn next(
        &mut self,
        group: &CheckedGroup,
        states: &[RuleState],
        at: Timestamp,
    ) -> Option<Vec<u8>> {
        let mut left = MAX_ALERTS;
        let mut content = Vec::new();
        for (rule, state) in group.rules.iter().zip(states) {
            let mut alerts = state.alerts.save();
            alerts.truncate(left);
            left -= alerts.len();
            if !alerts.is_empty() {
                let (name, labels) = rule.identity();
                content.push(SavedRule { name: name.to_owned(), labels: labels.clone(), alerts });
            }
        }
        let same = content.len() == self.content.len()
            && content.iter().zip(&self.content).all(|(a, b)| {
                (&a.name, &a.labels) == (&b.name, &b.labels)
                    && a.alerts.iter().map(SavedAlert::key).eq(b.alerts.iter().map(SavedAlert::key))
            });
        if same && (content.is_empty() || at.nanos().saturating_sub(self.at) < REFRESH) {
            return None;
        }
        let object = Object { at: at.nanos(), rules: content };
        let text = serde_json::to_vec(&object).ok()?;
        (self.content, self.at) = (object.rules, object.at);
        Some(text)
    }

    /// The bucket did not take it: the next evaluation tries again.
    pub(crate) fn failed(&mut self) {
        self.at = i64::MIN;
    }
}

/// Writes a state.
pub(crate) async fn write(blob: &Blob, id: &GroupId, object: Vec<u8>) -> Result<(), BlobError> {
    blob.put(&path(id), object.into()).await
}

/// Removes the state of a group that is gone.
pub(crate) async fn remove(blob: &Blob, id: &GroupId) -> Result<(), BlobError> {
    blob.delete(&path(id)).await
}

/// Reads the state of a group; none if there is none of use.
pub(crate) async fn read(blob: &Blob, id: &GroupId) -> Result<Option<Restored>, BlobError> {
    let Some(bytes) = blob.get(&path(id)).await? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(object) => Ok(Some(Restored(object))),
        Err(error) => {
            tracing::warn!(tenant = %id.tenant, group = id.name, %error, "the saved alerts of a group cannot be read: they begin anew");
            Ok(None)
        }
    }
}

/// A state out of the bucket.
#[derive(Debug)]
pub(crate) struct Restored(Object);

impl Restored {
    /// Gives the rules their alerts back, unless the outage was longer than `tolerance`; before the first evaluation, at `at`.
    pub(crate) fn apply(
        self,
        group: &CheckedGroup,
        states: &mut [RuleState],
        at: Timestamp,
        tolerance: i64,
        grace: i64,
    ) {
        let down_at = Timestamp(self.0.at);
        if at.nanos().saturating_sub(down_at.nanos()) > tolerance {
            return;
        }
        let mut saved = self.0.rules;
        for (rule, state) in group.rules.iter().zip(states) {
            let (name, labels) = rule.identity();
            let Some(found) = saved.iter().position(|s| s.name == name && s.labels == *labels) else {
                continue;
            };
            let timing = Timing {
                hold: rule.source.hold.map_or(0, |span| span.0),
                keep_firing: rule.source.keep_firing_for.map_or(0, |span| span.0),
            };
            state.alerts.restore(saved.remove(found).alerts, timing, Outage { down_at, at, grace });
        }
    }
}
