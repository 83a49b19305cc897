//! Export over OTLP/gRPC on a thread of its own, behind bounded queues.
//!
//! The SDK's own batch processors are not used: they log every failure through `tracing` itself, do not say what they dropped,
//! and want the application to run tokio. Here the application's threads only ever try to put an item into a queue; when it is
//! full, the item is counted and gone. Everything the exporter does happens on the one thread, which is marked, so
//! that its own events are never exported. A failing collector is reported once, and once again when it is back.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use opentelemetry::{Context, InstrumentationScope, trace::TracerProvider};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord, SdkLoggerProvider},
    trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::environment::{Plan, Protocol, Target};

thread_local! {
    static EXPORTING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is the export thread.
pub(crate) fn is_exporting() -> bool {
    EXPORTING.get()
}

type Log = Box<(SdkLogRecord, InstrumentationScope)>;

/// One end of a bounded queue, with its count of what did not fit.
struct Queue<T> {
    sender: mpsc::Sender<T>,
    dropped: Arc<AtomicU64>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue { sender: self.sender.clone(), dropped: self.dropped.clone() }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} free)", self.sender.capacity())
    }
}

impl<T> Queue<T> {
    fn put(&self, item: T) {
        if self.sender.try_send(item).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The running export thread.
pub(crate) struct Export {
    spans: Option<Queue<SpanData>>,
    logs: Option<Queue<Log>>,
    dropped: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    done: Receiver<()>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("spans", &self.spans).field("logs", &self.logs).finish_non_exhaustive()
    }
}

impl Export {
    pub(crate) fn start(plan: &Plan) -> std::io::Result<Export> {
        let dropped = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = watch::channel(false);
        let (finished, done) = std::sync::mpsc::channel();
        let resource = resource(plan);
        let (spans, spans_out) = queue(plan.export.traces.as_ref(), &dropped);
        let (logs, logs_out) = queue(plan.export.logs.as_ref(), &dropped);
        let targets = plan.export.clone();
        let counter = dropped.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("telemetry-export".to_owned()).spawn(move || {
            EXPORTING.set(true);
            let _quiet = Context::enter_telemetry_suppressed_scope();
            runtime.block_on(async move {
                let traces = async {
                    if let (Some(target), Some(items)) = (&targets.traces, spans_out) {
                        let worker = Worker::new("traces", target, items, stopped.clone(), counter.clone());
                        worker.run(Spans::connect(target, &resource)).await;
                    }
                };
                let logs = async {
                    if let (Some(target), Some(items)) = (&targets.logs, logs_out) {
                        let worker = Worker::new("logs", target, items, stopped.clone(), counter.clone());
                        worker.run(Logs::connect(target, &resource)).await;
                    }
                };
                tokio::join!(traces, logs);
            });
            // Nobody waits after a timeout.
            let _ = finished.send(());
        })?;
        Ok(Export { spans, logs, dropped, stop, done })
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Exports what is queued and ends the thread; `true` if it ended in time and nothing was lost on the way.
    pub(crate) fn end(self, timeout: Duration) -> bool {
        let before = self.dropped();
        let _ = self.stop.send(true);
        self.done.recv_timeout(timeout).is_ok() && self.dropped() == before
    }
}

fn queue<T>(
    target: Option<&Target>,
    dropped: &Arc<AtomicU64>,
) -> (Option<Queue<T>>, Option<mpsc::Receiver<T>>) {
    match target {
        None => (None, None),
        Some(target) => {
            let (sender, receiver) = mpsc::channel(target.queue);
            (Some(Queue { sender, dropped: dropped.clone() }), Some(receiver))
        }
    }
}

fn resource(plan: &Plan) -> Resource {
    let builder = Resource::builder().with_attributes(plan.attributes.clone());
    builder.with_service_name(plan.service.clone()).build()
}

/// What makes spans: with a queue behind it, or without, for trace context in lines and in outgoing requests only.
pub(crate) fn tracer(plan: &Plan, export: Option<&Export>) -> SdkTracer {
    let mut provider =
        SdkTracerProvider::builder().with_resource(resource(plan)).with_sampler(plan.sampler.clone());
    if let Some(queue) = export.and_then(|export| export.spans.clone()) {
        provider = provider.with_span_processor(queue);
    }
    provider.build().tracer("tracing")
}

pub(crate) fn logger_provider(plan: &Plan, export: &Export) -> Option<SdkLoggerProvider> {
    let queue = export.logs.clone()?;
    Some(SdkLoggerProvider::builder().with_resource(resource(plan)).with_log_processor(queue).build())
}

impl SpanProcessor for Queue<SpanData> {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.put(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl LogProcessor for Queue<Log> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.put(Box::new((record.clone(), scope.clone())));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends batches of one signal.
trait Sender: Sized {
    type Item;

    fn connect(target: &Target, resource: &Resource) -> Result<Self, String>;

    async fn send(&self, batch: Vec<Self::Item>) -> OTelSdkResult;
}

struct Spans(opentelemetry_otlp::SpanExporter);

impl Sender for Spans {
    type Item = SpanData;

    fn connect(target: &Target, resource: &Resource) -> Result<Spans, String> {
        let builder = opentelemetry_otlp::SpanExporter::builder();
        let exporter = match target.protocol {
            Protocol::Grpc => secure(addressed(builder.with_tonic(), target), target).build(),
            Protocol::Http => addressed(builder.with_http(), target).build(),
        };
        let mut exporter = exporter.map_err(|error| error.to_string())?;
        exporter.set_resource(resource);
        Ok(Spans(exporter))
    }

    async fn send(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.export(batch).await
    }
}

struct Logs(opentelemetry_otlp::LogExporter);

impl Sender for Logs {
    type Item = Log;

    fn connect(target: &Target, resource: &Resource) -> Result<Logs, String> {
        let builder = opentelemetry_otlp::LogExporter::builder();
        let exporter = match target.protocol {
            Protocol::Grpc => secure(addressed(builder.with_tonic(), target), target).build(),
            Protocol::Http => addressed(builder.with_http(), target).build(),
        };
        let mut exporter = exporter.map_err(|error| error.to_string())?;
        exporter.set_resource(resource);
        Ok(Logs(exporter))
    }

    async fn send(&self, batch: Vec<Log>) -> OTelSdkResult {
        let batch: Vec<_> = batch.iter().map(|item| (&item.0, &item.1)).collect();
        self.0.export(LogBatch::new(&batch)).await
    }
}

fn addressed<B: WithExportConfig>(builder: B, target: &Target) -> B {
    builder.with_endpoint(&target.endpoint).with_timeout(target.timeout)
}

fn secure<B: WithTonicConfig>(builder: B, target: &Target) -> B {
    match target.endpoint.starts_with("https://") {
        true => builder.with_tls_config(tonic::transport::ClientTlsConfig::new().with_enabled_roots()),
        false => builder,
    }
}

/// The loop of one signal: collect a batch, send it.
struct Worker<'a, T> {
    signal: &'static str,
    target: &'a Target,
    items: mpsc::Receiver<T>,
    stopped: watch::Receiver<bool>,
    dropped: Arc<AtomicU64>,
    /// When sending began to fail, and what was lost since.
    failing: Option<(Instant, u64)>,
    /// Nobody can put items any more.
    over: bool,
}

impl<'a, T> Worker<'a, T> {
    fn new(
        signal: &'static str,
        target: &'a Target,
        items: mpsc::Receiver<T>,
        stopped: watch::Receiver<bool>,
        dropped: Arc<AtomicU64>,
    ) -> Worker<'a, T> {
        Worker { signal, target, items, stopped, dropped, failing: None, over: false }
    }

    async fn run<S: Sender<Item = T>>(mut self, sender: Result<S, String>) {
        let sender = match sender {
            Ok(sender) => sender,
            Err(error) => {
                let endpoint = self.target.endpoint.as_str();
                tracing::warn!(signal = self.signal, endpoint, error, "nothing is exported");
                return self.items.close();
            }
        };
        loop {
            // A dropped handle ends it as well.
            let ending = *self.stopped.borrow() || self.stopped.has_changed().is_err();
            let batch = self.batch(ending).await;
            if !batch.is_empty() {
                self.send(&sender, batch).await;
            } else if ending || self.over {
                return;
            }
        }
    }

    /// A full batch, or what came within the delay, or when ending what is there.
    async fn batch(&mut self, ending: bool) -> Vec<T> {
        let mut batch = Vec::new();
        let deadline = Instant::now() + self.target.delay;
        while batch.len() < self.target.batch {
            let room = self.target.batch - batch.len();
            if ending {
                match self.items.try_recv() {
                    Ok(item) => batch.push(item),
                    Err(_) => break,
                }
                continue;
            }
            tokio::select! {
                count = self.items.recv_many(&mut batch, room) => if count == 0 {
                    // Every producer is gone.
                    self.over = true;
                    break;
                },
                _ = self.stopped.wait_for(|stopped| *stopped) => break,
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        batch
    }

    async fn send<S: Sender<Item = T>>(&mut self, sender: &S, batch: Vec<T>) {
        let count = batch.len() as u64;
        // The exporter retries by itself, within this time.
        let result = match tokio::time::timeout(self.target.timeout, sender.send(batch)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("timed out after {:?}", self.target.timeout)),
        };
        let (signal, endpoint) = (self.signal, self.target.endpoint.as_str());
        match (result, &mut self.failing) {
            (Ok(()), None) => {}
            (Ok(()), Some((since, lost))) => {
                let seconds = since.elapsed().as_secs();
                tracing::info!(signal, endpoint, seconds, lost = *lost, "export works again");
                self.failing = None;
            }
            (Err(error), failing) => {
                self.dropped.fetch_add(count, Ordering::Relaxed);
                match failing {
                    Some((_, lost)) => *lost += count,
                    None => {
                        tracing::warn!(
                            signal,
                            endpoint,
                            error,
                            "cannot export; said once until it works again"
                        );
                        *failing = Some((Instant::now(), count));
                    }
                }
            }
        }
    }
}
