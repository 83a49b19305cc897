//! One destination of remote write: requests one after the other, repeated while the destination is not able to take them.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use model::Timestamp;
use service::CancellationToken;
use wire::prometheus::remote::{CONTENT_TYPE, VERSION, compress, decode, encode_series};
use wire::prometheus::rules::Pairs;
use wire::proto::Writer;

use crate::ruler::client::{Client, ClientConfig, Refused};
use crate::ruler::config::RulerConfig;
use crate::ruler::metrics::{Dropped, OfRemote, RulerMetrics};
use crate::ruler::remote::queue::{Batch, Queue};
use model::relabel::{Relabel, relabel};

/// Where samples go.
pub(super) struct Destination {
    id: String,
    client: Client,
    url: reqwest::Url,
    relabel: Vec<Relabel>,
    samples: usize,
    backoff: (Duration, Duration),
    retry_on_429: bool,
    max_age: Duration,
    tenant_header: bool,
    labels: OfRemote,
    metrics: RulerMetrics,
}

impl Destination {
    pub(super) fn new(
        id: &str,
        client: &ClientConfig,
        config: &RulerConfig,
        metrics: RulerMetrics,
    ) -> anyhow::Result<Self> {
        let url: reqwest::Url = client.url.parse()?;
        let mut shown = url.clone();
        // Credentials do not belong into metrics; a URL with a host can always lose them.
        let _ = shown.set_username("").and_then(|()| shown.set_password(None));
        let name = if client.name.is_empty() { id } else { &client.name };
        let compiled: Result<Vec<Relabel>, String> =
            client.write_relabel_configs.iter().map(Relabel::compile).collect();
        let queue = &client.queue_config;
        let age = if queue.sample_age_limit.is_zero() { config.wal.max_age } else { queue.sample_age_limit };
        Ok(Self {
            id: id.to_owned(),
            client: client.build()?,
            url,
            relabel: compiled.map_err(anyhow::Error::msg)?,
            samples: queue.max_samples_per_send,
            backoff: (queue.min_backoff.get(), queue.max_backoff.get().max(queue.min_backoff.get())),
            retry_on_429: queue.retry_on_http_429,
            max_age: age.get(),
            tenant_header: config.remote_write.add_org_id_header,
            labels: OfRemote { remote_name: name.to_owned(), url: shown.to_string() },
            metrics,
        })
    }

    /// Under which its progress is remembered.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Counts samples that were dropped unsent.
    pub(super) fn count_dropped(&self, reason: &'static str, samples: u64) {
        let OfRemote { remote_name, url } = self.labels.clone();
        self.metrics.remote_dropped.get_or_create(&Dropped { remote_name, url, reason }).inc_by(samples);
    }

    /// Sends the queue from the front until told to end.
    pub(super) async fn run(&self, queue: &Queue, at: usize, cancel: CancellationToken) {
        loop {
            let batches = queue.front(at, self.samples);
            self.metrics
                .remote_pending
                .get_or_create(&self.labels)
                .set(i64::try_from(queue.samples(at)).unwrap_or(i64::MAX));
            let step = async {
                if batches.is_empty() {
                    queue.filled(at).await;
                } else {
                    self.deliver(&batches).await;
                    queue.done(at, &batches);
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = step => {}
            }
        }
    }

    /// Sends batches of one tenant until they are taken, refused for good, or too old.
    async fn deliver(&self, batches: &[(u64, Arc<Batch>)]) {
        let (mut pause, longest) = self.backoff;
        loop {
            let oldest = Timestamp::now().nanos() / 1_000_000 - self.max_age.as_millis() as i64;
            let is_old = |batch: &Batch| !self.max_age.is_zero() && batch.timestamp_ms < oldest;
            let old: u64 =
                batches.iter().filter(|(_, b)| is_old(b)).map(|(_, batch)| u64::from(batch.samples)).sum();
            let fresh = batches.iter().filter(|(_, b)| !is_old(b)).map(|(_, batch)| &**batch);
            let Some((tenant, body, samples)) = self.body(fresh.clone()) else {
                self.count_dropped("too_old", old);
                return;
            };
            let Some(body) = body else {
                self.count_dropped("too_old", old);
                return;
            };
            let length = body.len() as u64;
            let refused = match self.client.post(&self.url, self.headers(tenant), body).await {
                Ok(()) => {
                    self.metrics.remote_samples.get_or_create(&self.labels).inc_by(samples);
                    self.metrics.remote_bytes.get_or_create(&self.labels).inc_by(length);
                    if let Some(newest) = fresh.map(|batch| batch.timestamp_ms).max() {
                        self.metrics.remote_highest.get_or_create(&self.labels).set(newest as f64 / 1000.0);
                    }
                    self.count_dropped("too_old", old);
                    return;
                }
                Err(refused) => refused,
            };
            if !self.is_worth_repeating(&refused) {
                tracing::error!(
                    remote = self.id,
                    tenant,
                    samples,
                    error = refused.message,
                    "recorded samples are refused and dropped"
                );
                self.metrics.remote_failed.get_or_create(&self.labels).inc_by(samples);
                self.count_dropped("too_old", old);
                return;
            }
            self.metrics.remote_retried.get_or_create(&self.labels).inc_by(samples);
            tracing::warn!(
                remote = self.id,
                tenant,
                samples,
                error = refused.message,
                "recorded samples are sent again"
            );
            tokio::time::sleep(refused.retry_after.unwrap_or(pause).max(pause)).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn is_worth_repeating(&self, refused: &Refused) -> bool {
        match refused.status {
            None => true,
            Some(StatusCode::TOO_MANY_REQUESTS) => self.retry_on_429,
            Some(status) => status.is_server_error(),
        }
    }

    /// Tenant, body and number of samples of a request; no body where relabelling leaves nothing, nothing without batches.
    fn body<'a>(&self, batches: impl Iterator<Item = &'a Batch>) -> Option<(&'a str, Option<Vec<u8>>, u64)> {
        let (mut request, mut samples, mut tenant) = (Writer::default(), 0, None);
        for batch in batches {
            tenant = Some(batch.tenant.as_str());
            if self.relabel.is_empty() {
                request.raw(&batch.series);
                samples += u64::from(batch.samples);
                continue;
            }
            let Ok(all) = decode(&batch.series) else { continue };
            for series in all {
                let labels: Pairs = series.labels.into_iter().collect();
                let Some(labels) = relabel(&self.relabel, labels) else { continue };
                samples += series.samples.len() as u64;
                encode_series(
                    &mut request,
                    labels.iter().map(|(n, v)| (n.as_str(), v.as_str())),
                    &series.samples,
                );
            }
        }
        let body = (!request.is_empty()).then(|| compress(&request.finish()));
        tenant.map(|tenant| (tenant, body, samples))
    }

    fn headers(&self, tenant: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert("X-Prometheus-Remote-Write-Version", HeaderValue::from_static(VERSION));
        if self.tenant_header
            && let Ok(tenant) = HeaderValue::try_from(tenant)
        {
            headers.insert("X-Scope-OrgID", tenant);
        }
        headers
    }
}
