//! Builds the running pipelines: from their ends to their beginnings, one instance of each exporter,
//! one of each processor per pipeline.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use futures::future::BoxFuture;
use service::{Failure, Phase, Process};
use wire::otlp::Signal;

use crate::Embedded;
use crate::components::{Components, Exporter, Pipeline, Processor};
use crate::data::{Consumer, Data, Fanout};
use crate::exporters::debug::Debug;
use crate::exporters::otlp_grpc::OtlpGrpc;
use crate::exporters::otlp_http::OtlpHttp;
use crate::exporters::{QueueConfig, RetryConfig};
use crate::metrics::{ExporterLabels, ExporterMetrics, SamplingMetrics};
use crate::processors::batch::Batch;
use crate::processors::memory_limiter::MemoryLimiter;
use crate::processors::resource::Resource;
use crate::processors::tail_sampling::TailSampling;
use crate::queue::{Backoff, Queue, QueueLimits, SendingQueue};

/// Bytes of released spans that may wait for the stage behind `tail_sampling`.
const OUTBOX_BYTES: usize = 128 << 20;

/// The beginnings of all pipelines: consumers by receiver id and signal.
pub(crate) type Entrances = HashMap<(String, Signal), Arc<dyn Consumer>>;

/// Builds everything behind the receivers and gives the process its tasks.
pub(crate) fn build(
    components: &Components,
    embedded: Option<&Embedded>,
    process: &mut Process,
) -> Result<Entrances> {
    let metrics = process.metrics().prefixed("otelcol");
    let mut exporters = BTreeMap::new();
    let exporter_metrics = ExporterMetrics::new(&metrics);
    for (id, exporter) in &components.exporters {
        if components.pipelines.iter().any(|p| p.exporters.contains(id)) {
            let built = build_exporter(id, exporter, embedded, &exporter_metrics, process)
                .with_context(|| format!("exporters.{id}"))?;
            exporters.insert(id.clone(), built);
        }
    }
    let sampling_metrics = SamplingMetrics::new(&metrics.prefixed("processor_tail_sampling"));
    let mut entrances: HashMap<(String, Signal), Vec<Arc<dyn Consumer>>> = HashMap::new();
    for pipeline in &components.pipelines {
        let ends = pipeline.exporters.iter().filter_map(|id| exporters.get(id).cloned()).collect();
        let mut next = Fanout::of(ends);
        for id in pipeline.processors.iter().rev() {
            let processor =
                components.processors.get(id).ok_or_else(|| anyhow!("processors.{id}: not defined"))?;
            next = build_processor(pipeline, id, processor, next, &sampling_metrics, process)
                .with_context(|| format!("processors.{id}"))?;
        }
        for id in &pipeline.receivers {
            entrances.entry((id.clone(), pipeline.signal)).or_default().push(next.clone());
        }
    }
    Ok(entrances.into_iter().map(|(key, consumers)| (key, Fanout::of(consumers))).collect())
}

fn build_exporter(
    id: &str,
    exporter: &Exporter,
    embedded: Option<&Embedded>,
    metrics: &ExporterMetrics,
    process: &mut Process,
) -> Result<Arc<dyn Consumer>> {
    let (inner, queue): (Arc<dyn Consumer>, Option<(&QueueConfig, &RetryConfig)>) = match exporter {
        Exporter::OtlpGrpc(c) => (
            Arc::new(OtlpGrpc::new(c).map_err(|e| anyhow!(e))?),
            Some((&c.sending_queue, &c.retry_on_failure)),
        ),
        Exporter::OtlpHttp(c) => (
            Arc::new(OtlpHttp::new(c).map_err(|e| anyhow!(e))?),
            Some((&c.sending_queue, &c.retry_on_failure)),
        ),
        Exporter::Debug => (Arc::new(Debug), None),
        Exporter::Embedded => {
            let stores =
                embedded.ok_or_else(|| anyhow!("only the all-in-one `timberline` has stores of its own"))?;
            (Arc::new(stores.clone()), None)
        }
    };
    let labels = ExporterLabels { exporter: id.to_owned() };
    let counted: Arc<dyn Consumer> = Arc::new(Counted { inner, labels, metrics: metrics.clone() });
    match queue {
        Some((config, retry)) if config.enabled => {
            let queue = Arc::new(Queue::new(id, counted, config.limits(), retry.backoff()));
            run_queue(format!("router/{id}/queue"), Phase::Stop, queue.clone(), process);
            Ok(Arc::new(SendingQueue(queue)))
        }
        _ => Ok(counted),
    }
}

fn build_processor(
    pipeline: &Pipeline,
    id: &str,
    processor: &Processor,
    next: Arc<dyn Consumer>,
    sampling_metrics: &SamplingMetrics,
    process: &mut Process,
) -> Result<Arc<dyn Consumer>> {
    let task = format!("router/{}/{id}", pipeline.id);
    Ok(match processor {
        Processor::Batch(config) => {
            let batch = Arc::new(Batch::new(config.clone(), next));
            let running = batch.clone();
            process.task(task, Phase::Stop, move |stop| async move {
                running.run(stop).await;
                Ok(())
            });
            batch
        }
        Processor::TailSampling(config) => {
            let limits = QueueLimits { requests: usize::MAX, bytes: OUTBOX_BYTES, workers: 1 };
            let outbox = Arc::new(Queue::new(id, next, limits, Backoff::STUBBORN));
            run_queue(format!("{task}/outbox"), Phase::Flush, outbox.clone(), process);
            let sampling = TailSampling::new(config, outbox, sampling_metrics.clone());
            let sampling = Arc::new(sampling.map_err(|problems| anyhow!(problems.join("; ")))?);
            let running = sampling.clone();
            process.task(task, Phase::Finish, move |stop| async move {
                running.run(stop).await;
                Ok(())
            });
            sampling
        }
        Processor::MemoryLimiter(config) => {
            let limiter = Arc::new(MemoryLimiter::new(config, next).map_err(|e| anyhow!(e))?);
            let running = limiter.clone();
            process.task(task, Phase::Finish, move |stop| async move {
                running.run(stop).await;
                Ok(())
            });
            limiter
        }
        Processor::Resource(config) => {
            Arc::new(Resource::new(config, next).map_err(|problems| anyhow!(problems.join("; ")))?)
        }
    })
}

fn run_queue(task: String, phase: Phase, queue: Arc<Queue>, process: &mut Process) {
    process.task(task, phase, move |stop| async move {
        queue.run(stop).await;
        Ok(())
    });
}

/// Counts what an exporter sends.
struct Counted {
    inner: Arc<dyn Consumer>,
    labels: ExporterLabels,
    metrics: ExporterMetrics,
}

impl Consumer for Counted {
    fn consume(&self, data: Data) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let (signal, items) = (data.signal, data.items);
            let result = self.inner.consume(data).await;
            self.metrics.count(signal, &self.labels, items, result.is_ok());
            result
        })
    }
}
