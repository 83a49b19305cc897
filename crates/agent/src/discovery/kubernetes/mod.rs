//! `kubernetes_sd_configs`: containers of this node's pods, as the API server tells them.
//!
//! A list and a watch over plain HTTPS are all that is needed, so they are written out here rather than taken from a client
//! library with types for every resource.

mod access;
mod config;
mod pods;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use service::CancellationToken;
use tokio::task::JoinSet;

use super::announce::Announce;
use super::files::{FileJob, hostname};
use crate::targets::TargetMetrics;
use access::Access;
pub use config::KubernetesSdConfig;
use watch::{Change, Watch};

/// Follows the pods of one `kubernetes_sd_configs` entry. [`run`](Self::run) is its one task, which owns one for each namespace.
pub(crate) struct KubernetesDiscovery {
    job: FileJob,
    access: Access,
    /// Namespaces; the empty name is all of them.
    namespaces: Vec<String>,
    field_selector: String,
    label_selector: String,
    announce: Announce,
    metrics: TargetMetrics,
}

impl KubernetesDiscovery {
    /// Prepares a discovery; asks nothing of the server yet.
    pub(crate) fn new(
        job: FileJob,
        config: &KubernetesSdConfig,
        announce: Announce,
        metrics: TargetMetrics,
    ) -> Result<Self> {
        let access = Access::new(config)?;
        let mut namespaces = config.namespaces.names.clone();
        if config.namespaces.own_namespace {
            namespaces.push(access.own_namespace()?);
        }
        namespaces.sort();
        namespaces.dedup();
        if namespaces.is_empty() {
            namespaces.push(String::new());
        }
        let (field_selector, label_selector) = config.pod_selectors(&hostname());
        Ok(Self { job, access, namespaces, field_selector, label_selector, announce, metrics })
    }

    /// Follows pods until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut namespaces = JoinSet::new();
        for namespace in &self.namespaces {
            let follow = Namespace {
                job: FileJob { notes: self.job.notes.part(namespace), ..self.job.clone() },
                watch: Watch::new(
                    self.access.clone(),
                    namespace,
                    self.field_selector.clone(),
                    self.label_selector.clone(),
                ),
                announce: self.announce.renamed(namespace),
                metrics: self.metrics.clone(),
                pods: BTreeMap::new(),
            };
            namespaces.spawn(follow.run(stop.clone()));
        }
        while let Some(ended) = namespaces.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// Follows the pods of one namespace, or of all.
struct Namespace {
    job: FileJob,
    watch: Watch,
    announce: Announce,
    metrics: TargetMetrics,
    /// By uid.
    pods: BTreeMap<String, serde_json::Value>,
}

impl Namespace {
    const MIN_PAUSE: Duration = Duration::from_millis(200);
    const MAX_PAUSE: Duration = Duration::from_secs(30);

    async fn run(mut self, stop: CancellationToken) {
        let mut pause = Self::MIN_PAUSE;
        loop {
            let changes = tokio::select! {
                changes = self.watch.next() => changes,
                () = stop.cancelled() => return,
            };
            match changes {
                Ok(changes) => {
                    pause = Self::MIN_PAUSE;
                    if self.apply(changes) {
                        self.announce(&stop).await;
                    }
                }
                // The pods that are known stay: their files are there, whether the server is or not.
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "pods cannot be watched: trying again");
                    self.metrics.kubernetes_errors.inc();
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => return,
                    }
                    pause = (pause * 2).min(Self::MAX_PAUSE);
                }
            }
        }
    }

    /// Whether anything is different now.
    fn apply(&mut self, changes: Vec<Change>) -> bool {
        let mut changed = false;
        for change in changes {
            changed |= match change {
                Change::All(pods) => {
                    let pods = pods.into_iter().filter_map(|pod| Some((pods::uid(&pod)?, pod))).collect();
                    let different = self.pods != pods;
                    self.pods = pods;
                    different
                }
                Change::Set(pod) => match pods::uid(&pod) {
                    Some(uid) => self.pods.insert(uid, pod.clone()).as_ref() != Some(&pod),
                    None => false,
                },
                Change::Gone(pod) => pods::uid(&pod).is_some_and(|uid| self.pods.remove(&uid).is_some()),
            };
        }
        changed
    }

    async fn announce(&self, stop: &CancellationToken) {
        let labels = self.pods.values().flat_map(pods::targets);
        let targets = self.job.targets(labels, |not_read| self.metrics.failed(not_read.reason()));
        self.announce.targets(targets, stop).await;
    }
}
