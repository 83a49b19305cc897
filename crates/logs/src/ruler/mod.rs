//! The ruler: evaluates rules over logs, records series to Prometheus and raises alerts in Alertmanager.
//!
//! Rules come over HTTP and are kept in the bucket (`store`), or from files (`files`). Every group has a task (`task`) that
//! asks the querier (`query`) at the group's times and hands the answer to pure code: `eval` makes series of it, `alert` moves
//! alerts on. Series go to disk and then to Prometheus (`remote`), alerts to Alertmanager (`notify`). `Ruler::run` owns all of it.

pub(crate) mod alert;
mod client;
pub mod config;
mod eval;
mod files;
mod functions;
pub(crate) mod group;
mod metrics;
mod notify;
mod query;
mod remote;
mod saved;
pub(crate) mod status;
mod store;
mod task;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use blob::Blob;
use model::TenantId;
use parking_lot::Mutex;
use service::{CancellationToken, Failure, Metrics};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::overrides::Overrides;
use crate::query::run::Querier;
use crate::ruler::config::RulerConfig;
use crate::ruler::files::RuleFiles;
use crate::ruler::group::{CheckedGroup, GroupId, Namespaces, RuleGroup};
use crate::ruler::metrics::{OfTenant, RulerMetrics};
use crate::ruler::notify::Notifier;
use crate::ruler::query::{OwnQuerier, Query};
use crate::ruler::remote::RemoteWrite;
use crate::ruler::store::BucketRules;
use crate::ruler::task::{Group, Order, Services};

/// Where rules come from and what there is on the local disk.
#[derive(Debug, Clone)]
pub(crate) struct Places<'a> {
    /// Folders of rules in files.
    pub(crate) files: &'a [String],
    /// Whether rules come from files alone.
    pub(crate) files_only: bool,
    /// The folder of recorded samples.
    pub(crate) wal: &'a Path,
}

/// Evaluates the rules of all tenants.
pub(crate) struct Ruler {
    services: Arc<Services>,
    bucket: BucketRules,
    files: Arc<Mutex<Vec<RuleFiles>>>,
    files_only: bool,
    /// Rules in files, as last read.
    filed: Mutex<BTreeMap<TenantId, Namespaces>>,
    groups: Mutex<BTreeMap<GroupId, Arc<Group>>>,
    /// Rules were changed over HTTP.
    changed: Notify,
}

/// A group's task, which ends with its owner.
struct Task {
    group: Arc<Group>,
    order: watch::Sender<Order>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Ruler {
    /// Opens the ruler. Starts nothing; what rules there are is found when it runs.
    pub(crate) fn open(
        config: &RulerConfig,
        places: &Places<'_>,
        blob: Blob,
        querier: Arc<Querier>,
        limits: Overrides,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let query = OwnQuerier { querier, limits: limits.clone() };
        Self::with_query(config, places, blob, Box::new(query), limits, metrics)
    }

    fn with_query(
        config: &RulerConfig,
        places: &Places<'_>,
        blob: Blob,
        query: Box<dyn Query>,
        limits: Overrides,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let config = Arc::new(config.clone());
        let metrics = RulerMetrics::register(metrics, config.disable_rule_group_label);
        let remote = match config.remote_write.enabled {
            true => Some(RemoteWrite::open(&config, places.wal, metrics.clone())?),
            false => None,
        };
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let services = Services {
            notifier: Notifier::new(config.clone(), limits.clone(), metrics.clone())
                .context("ruler.alertmanager_client")?,
            query,
            remote,
            blob: blob.clone(),
            metrics,
            limits,
            permits: Semaphore::new(cores),
            config: config.clone(),
        };
        let folders = places.files.iter().map(|dir| RuleFiles::new(dir, &config.external_url)).collect();
        Ok(Self {
            services: Arc::new(services),
            bucket: BucketRules::new(blob),
            files: Arc::new(Mutex::new(folders)),
            files_only: places.files_only,
            filed: Mutex::default(),
            groups: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Whether rules may be read and written over HTTP.
    pub(crate) fn has_api(&self) -> bool {
        self.services.config.enable_api
    }

    /// Evaluates rules until told to end; then everything that was evaluated is on disk.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        let sending = CancellationToken::new();
        let send = async {
            let remote = async {
                if let Some(remote) = &self.services.remote {
                    remote.run(sending.clone()).await;
                }
            };
            futures::future::join(remote, self.services.notifier.run(sending.clone())).await;
        };
        let evaluate = async {
            self.supervise(cancel).await;
            if let Some(remote) = &self.services.remote {
                remote.close();
            }
            sending.cancel();
        };
        futures::future::join(evaluate, send).await;
    }

    async fn supervise(&self, cancel: CancellationToken) {
        let mut tasks: BTreeMap<GroupId, Task> = BTreeMap::new();
        let mut ending: Vec<Task> = Vec::new();
        loop {
            let wanted = tokio::select! {
                () = cancel.cancelled() => break,
                wanted = self.wanted() => wanted,
            };
            ending.retain(|task| !task.handle.is_finished());
            for (tenant, namespaces) in wanted {
                self.arrange(&tenant, namespaces, &mut tasks, &mut ending);
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(self.services.config.poll_interval.get()) => {}
            }
        }
        ending.extend(tasks.into_values());
        for task in &mut ending {
            // An evaluation under way is not waited for: its rules are evaluated again after the restart.
            task.handle.abort();
            let _ = (&mut task.handle).await;
        }
    }

    /// The rules of every tenant whose rules could be read.
    async fn wanted(&self) -> BTreeMap<TenantId, Namespaces> {
        let filed = self.read_files().await;
        let mut tenants: BTreeSet<TenantId> = filed.keys().cloned().collect();
        tenants.extend(self.groups.lock().keys().map(|id| id.tenant.clone()));
        if !self.files_only {
            match self.bucket.tenants().await {
                Ok(found) => tenants.extend(found),
                Err(error) => tracing::warn!(%error, "the tenants with rules cannot be listed"),
            }
        }
        let mut wanted = BTreeMap::new();
        for tenant in tenants {
            let served = self.services.config.serves(tenant.as_str());
            let rules = match served {
                true => self.rules(&tenant).await,
                false => Ok(Namespaces::new()),
            };
            let good = rules.is_ok() && self.files.lock().iter().all(|files| files.is_good(&tenant));
            let labels = OfTenant { user: tenant.to_string() };
            self.services.metrics.reload_successful.get_or_create(&labels).set(i64::from(good));
            match rules {
                Ok(rules) => drop(wanted.insert(tenant, rules)),
                Err(error) => {
                    tracing::warn!(%tenant, error = error.message(), "the rules of a tenant cannot be read: those known stay");
                }
            }
        }
        wanted
    }

    /// Reads the files again.
    async fn read_files(&self) -> BTreeMap<TenantId, Namespaces> {
        let files = self.files.clone();
        let read = move || {
            let mut all: BTreeMap<TenantId, Namespaces> = BTreeMap::new();
            for files in files.lock().iter_mut() {
                for (tenant, namespaces) in files.read() {
                    all.entry(tenant).or_default().extend(namespaces);
                }
            }
            all
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(all) => {
                self.filed.lock().clone_from(&all);
                all
            }
            Err(error) => {
                tracing::error!(%error, "reading the files of rules died: those known stay");
                self.filed.lock().clone()
            }
        }
    }

    /// Starts, replaces and ends groups of a tenant so that they are those wanted.
    fn arrange(
        &self,
        tenant: &TenantId,
        namespaces: Namespaces,
        tasks: &mut BTreeMap<GroupId, Task>,
        ending: &mut Vec<Task>,
    ) {
        let mut wanted = BTreeMap::new();
        for (namespace, groups) in namespaces {
            for group in groups {
                let id = GroupId {
                    tenant: tenant.clone(),
                    namespace: namespace.clone(),
                    name: group.name.clone(),
                };
                wanted.insert(id, group);
            }
        }
        let mut updates = 0;
        let of_tenant: Vec<GroupId> = tasks.keys().filter(|id| id.tenant == *tenant).cloned().collect();
        for id in of_tenant {
            if !wanted.contains_key(&id)
                && let Some(task) = tasks.remove(&id)
            {
                self.groups.lock().remove(&id);
                task.order.send_replace(Order::Remove);
                ending.push(task);
                updates += 1;
            }
        }
        for (id, source) in wanted {
            if tasks.get(&id).is_some_and(|task| task.group.checked.source == source) {
                continue;
            }
            let checked = match CheckedGroup::check(source, &self.services.config.external_url) {
                Ok(checked) => checked,
                Err(error) => {
                    tracing::error!(%tenant, error, "a stored group of rules is not good any more");
                    continue;
                }
            };
            let interval = self.services.config.evaluation_interval.get().as_nanos() as i64;
            let group = Arc::new(Group::new(id.clone(), checked, interval));
            let (order, ordered) = watch::channel(Order::Run);
            let mut before = tasks.remove(&id);
            let (services, own) = (self.services.clone(), group.clone());
            let handle = tokio::spawn(async move {
                if let Some(before) = &mut before {
                    before.order.send_replace(Order::Stop);
                    // It ends when the evaluation under way has.
                    let _ = (&mut before.handle).await;
                    own.adopt(&before.group);
                }
                own.run(services, ordered).await;
            });
            self.groups.lock().insert(id.clone(), group.clone());
            tasks.insert(id, Task { group, order, handle });
            updates += 1;
        }
        if updates > 0 {
            let labels = OfTenant { user: tenant.to_string() };
            self.services.metrics.reloads.get_or_create(&labels).inc_by(updates);
        }
    }

    /// All rules of a tenant, files before what was written over HTTP.
    pub(crate) async fn rules(&self, tenant: &TenantId) -> Result<Namespaces, Failure> {
        let mut rules = match self.files_only {
            true => Namespaces::new(),
            false => (*self.bucket.read(tenant).await?).clone(),
        };
        if let Some(filed) = self.filed.lock().get(tenant) {
            rules.extend(filed.clone());
        }
        rules.retain(|_, groups| !groups.is_empty());
        Ok(rules)
    }

    /// Adds or replaces a group.
    pub(crate) async fn set_group(
        &self,
        tenant: &TenantId,
        namespace: &str,
        group: RuleGroup,
    ) -> Result<(), Failure> {
        self.check_writable(tenant, namespace)?;
        let limits = self.services.limits.of(tenant);
        let exceeded = |what: &str, limit: usize, actual: usize, key: &str| {
            Err(Failure::invalid(format!(
                "per-user {what} limit (limit: {limit} actual: {actual}) exceeded: raise limits_config.{key}"
            )))
        };
        let (most, count) = (limits.ruler_max_rules_per_rule_group, group.rules.len());
        if most > 0 && count > most {
            return exceeded("rules per rule group", most, count, "ruler_max_rules_per_rule_group");
        }
        CheckedGroup::check(group.clone(), &self.services.config.external_url).map_err(Failure::invalid)?;
        let most = limits.ruler_max_rule_groups_per_tenant;
        let update = self.bucket.update(tenant, |namespaces| {
            let groups = namespaces.entry(namespace.to_owned()).or_default();
            match groups.iter_mut().find(|known| known.name == group.name) {
                Some(known) => *known = group.clone(),
                None => groups.push(group.clone()),
            }
            let count = namespaces.values().map(Vec::len).sum();
            if most > 0 && count > most {
                return exceeded("rule groups", most, count, "ruler_max_rule_groups_per_tenant");
            }
            Ok(())
        });
        update.await?;
        self.changed.notify_one();
        Ok(())
    }

    /// Removes a group, or with none named the whole namespace; false if there is none.
    pub(crate) async fn remove(
        &self,
        tenant: &TenantId,
        namespace: &str,
        group: Option<&str>,
    ) -> Result<bool, Failure> {
        self.check_writable(tenant, namespace)?;
        let known = self.bucket.read(tenant).await?;
        let is_there = known.get(namespace).is_some_and(|groups| {
            !groups.is_empty() && group.is_none_or(|name| groups.iter().any(|known| known.name == name))
        });
        if !is_there {
            return Ok(false);
        }
        let update = self.bucket.update(tenant, |namespaces| {
            if let (Some(name), Some(groups)) = (group, namespaces.get_mut(namespace)) {
                groups.retain(|known| known.name != name);
            }
            if group.is_none() || namespaces.get(namespace).is_some_and(Vec::is_empty) {
                namespaces.remove(namespace);
            }
            Ok(())
        });
        update.await?;
        self.changed.notify_one();
        Ok(true)
    }

    fn check_writable(&self, tenant: &TenantId, namespace: &str) -> Result<(), Failure> {
        let in_file = self.filed.lock().get(tenant).is_some_and(|filed| filed.contains_key(namespace));
        if self.files_only || in_file {
            return Err(Failure::invalid(format!(
                "rules of namespace '{namespace}' come from files and cannot be changed over HTTP: change the file"
            )));
        }
        Ok(())
    }

    /// The groups of a tenant with how they fare.
    pub(crate) fn status(
        &self,
        tenant: &TenantId,
        filter: &status::Filter,
    ) -> Vec<wire::prometheus::rules::Group> {
        self.of(tenant).iter().filter_map(|group| status::group(group, filter)).collect()
    }

    /// The active alerts of a tenant.
    pub(crate) fn alerts(&self, tenant: &TenantId) -> Vec<wire::prometheus::rules::Alert> {
        self.of(tenant).iter().flat_map(|group| status::alerts(group)).collect()
    }

    fn of(&self, tenant: &TenantId) -> Vec<Arc<Group>> {
        let groups = self.groups.lock();
        groups.values().filter(|group| group.id.tenant == *tenant).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
