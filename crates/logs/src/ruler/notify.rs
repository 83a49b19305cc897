//! Alerts on their way to Alertmanager: a bounded queue, and requests of many alerts of one tenant to every Alertmanager.
//!
//! An alert that fires is told again and again while it fires, and for a while after it has ended, so losing one message is no harm;
//! that is why a message is given up after a few tries and nothing of this is kept on disk.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use model::{TenantId, Timestamp};
use parking_lot::Mutex;
use service::CancellationToken;
use tokio::sync::Notify;
use wire::prometheus::rules::{PostableAlert, Time};

use crate::overrides::Overrides;
use crate::ruler::alert::Alert;
use crate::ruler::client::Client;
use crate::ruler::config::{AlertmanagerConfig, RulerConfig};
use crate::ruler::group::CheckedRule;
use crate::ruler::metrics::{OfAlertmanager, OfTenant, RulerMetrics};
use model::relabel::{Relabel, relabel};

/// Alerts of a request.
const BATCH: usize = 256;
/// Tries of a request.
const TRIES: u32 = 3;
/// The pause after the first.
const BACKOFF: Duration = Duration::from_millis(500);

/// Sends alerts.
pub(crate) struct Notifier {
    config: Arc<RulerConfig>,
    limits: Overrides,
    metrics: RulerMetrics,
    default: Arc<Alertmanagers>,
    /// Of tenants with a configuration of their own, what was made of it.
    own: Mutex<HashMap<TenantId, (AlertmanagerConfig, Arc<Alertmanagers>)>>,
    queue: Mutex<VecDeque<(TenantId, PostableAlert)>>,
    filled: Notify,
}

/// Where alerts go.
struct Alertmanagers {
    client: Client,
    urls: Vec<reqwest::Url>,
    relabel: Vec<Relabel>,
}

impl Alertmanagers {
    fn new(config: &AlertmanagerConfig, timeout: Duration) -> anyhow::Result<Self> {
        let (basic, authorization, tls) = config.alertmanager_client.access();
        let compiled: Result<Vec<Relabel>, String> =
            config.alert_relabel_configs.iter().map(Relabel::compile).collect();
        let urls = config.urls().map_err(anyhow::Error::msg)?;
        Ok(Self {
            client: Client::new(&basic, &authorization, &tls, &urls, timeout)?,
            urls,
            relabel: compiled.map_err(anyhow::Error::msg)?,
        })
    }
}

impl Notifier {
    pub(crate) fn new(
        config: Arc<RulerConfig>,
        limits: Overrides,
        metrics: RulerMetrics,
    ) -> anyhow::Result<Self> {
        let default =
            Arc::new(Alertmanagers::new(&config.alertmanager(), config.notification_timeout.get())?);
        metrics.queue_capacity.set(i64::try_from(config.notification_queue_capacity).unwrap_or(i64::MAX));
        Ok(Self {
            config,
            limits,
            metrics,
            default,
            own: Mutex::default(),
            queue: Mutex::default(),
            filled: Notify::new(),
        })
    }

    /// Queues alerts of a rule; the oldest of the queue make room.
    pub(crate) fn push(
        &self,
        tenant: &TenantId,
        rule: &CheckedRule,
        alerts: Vec<Alert>,
        at: Timestamp,
        interval: i64,
    ) {
        let managers = self.managers(tenant);
        if managers.urls.is_empty() || alerts.is_empty() {
            return;
        }
        let url = generator_url(&self.config, &rule.source.expr);
        // So long an Alertmanager that hears nothing more takes the alert for firing.
        let trust = interval.max(self.config.resend_delay.get().as_nanos() as i64).saturating_mul(4);
        let mut queue = self.queue.lock();
        for alert in alerts {
            let mut labels = alert.labels;
            for (name, value) in &self.config.external_labels {
                labels.entry(name.clone()).or_insert_with(|| value.clone());
            }
            let Some(labels) = relabel(&managers.relabel, labels) else { continue };
            let alert = PostableAlert {
                labels,
                annotations: alert.annotations.into_iter().filter(|(_, text)| !text.is_empty()).collect(),
                starts_at: Time(Some(alert.fired_at.unwrap_or(alert.active_at))),
                ends_at: Time(Some(alert.resolved_at.unwrap_or(at.plus(trust)))),
                generator_url: url.clone(),
            };
            queue.push_back((tenant.clone(), alert));
        }
        while queue.len() > self.config.notification_queue_capacity {
            if let Some((tenant, _)) = queue.pop_front() {
                self.drop_alerts(&tenant, 1);
            }
        }
        self.metrics.queue_length.set(queue.len() as i64);
        self.filled.notify_one();
    }

    /// Sends what is queued until told to end.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        loop {
            let Some((tenant, batch)) = self.take() else {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = self.filled.notified() => continue,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.send(&tenant, batch) => {}
            }
        }
    }

    /// Alerts of one tenant from the front of the queue.
    fn take(&self) -> Option<(TenantId, Vec<PostableAlert>)> {
        let mut queue = self.queue.lock();
        let tenant = queue.front()?.0.clone();
        let mut batch = Vec::new();
        while batch.len() < BATCH && queue.front().is_some_and(|(of, _)| *of == tenant) {
            batch.extend(queue.pop_front().map(|(_, alert)| alert));
        }
        self.metrics.queue_length.set(queue.len() as i64);
        Some((tenant, batch))
    }

    async fn send(&self, tenant: &TenantId, batch: Vec<PostableAlert>) {
        let managers = self.managers(tenant);
        let Ok(body) = serde_json::to_vec(&batch) else { return };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(value) = HeaderValue::try_from(tenant.as_str()) {
            headers.insert("X-Scope-OrgID", value);
        }
        let count = batch.len() as u64;
        let posts = managers.urls.iter().map(|url| self.post(&managers, tenant, url, &headers, &body, count));
        let taken = futures::future::join_all(posts).await;
        if !taken.contains(&true) {
            self.drop_alerts(tenant, count);
        }
    }

    /// Tells one Alertmanager; whether it took the alerts.
    async fn post(
        &self,
        managers: &Alertmanagers,
        tenant: &TenantId,
        url: &reqwest::Url,
        headers: &HeaderMap,
        body: &[u8],
        count: u64,
    ) -> bool {
        let mut shown = url.clone();
        // Credentials do not belong into metrics; a URL with a host can always lose them.
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        let labels = OfAlertmanager { user: tenant.to_string(), alertmanager: shown.to_string() };
        let mut pause = BACKOFF;
        for attempt in 1..=TRIES {
            match managers.client.post(url, headers.clone(), body.to_vec()).await {
                Ok(()) => {
                    self.metrics.sent.get_or_create(&labels).inc_by(count);
                    return true;
                }
                Err(refused) => {
                    self.metrics.errors.get_or_create(&labels).inc();
                    let message = refused.message;
                    tracing::warn!(alertmanager = %shown, %tenant, alerts = count, attempt, error = message, "alerts could not be sent");
                    let hopeless = refused.status.is_some_and(|s| s.is_client_error() && s.as_u16() != 429);
                    if hopeless || attempt == TRIES {
                        return false;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        false
    }

    /// The Alertmanagers of a tenant.
    fn managers(&self, tenant: &TenantId) -> Arc<Alertmanagers> {
        let limits = self.limits.of(tenant);
        let Some(config) = &limits.ruler_alertmanager_config else { return self.default.clone() };
        if let Some((known, managers)) = self.own.lock().get(tenant)
            && known == config
        {
            return managers.clone();
        }
        let made = Alertmanagers::new(config, self.config.notification_timeout.get());
        let managers = made.map_or_else(
            |error| {
                tracing::error!(%tenant, %error, "ruler_alertmanager_config of the tenant cannot be used: the ruler's own holds");
                self.default.clone()
            },
            Arc::new,
        );
        self.own.lock().insert(tenant.clone(), (config.clone(), managers.clone()));
        managers
    }

    fn drop_alerts(&self, tenant: &TenantId, count: u64) {
        self.metrics.dropped.get_or_create(&OfTenant { user: tenant.to_string() }).inc_by(count);
    }
}

/// The query in Grafana's Explore.
fn generator_url(config: &RulerConfig, expr: &str) -> String {
    let source = serde_json::json!({"type": "loki", "uid": config.datasource_uid});
    let left = serde_json::json!({
        "datasource": config.datasource_uid,
        "queries": [{"refId": "A", "datasource": source, "expr": expr, "queryType": "range"}],
        "range": {"from": "now-1h", "to": "now"},
    });
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("left", &left.to_string()).finish();
    format!("{}/explore?{query}", config.external_url.trim_end_matches('/'))
}
