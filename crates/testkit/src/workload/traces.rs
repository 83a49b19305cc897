//! Traces: random call trees over a dozen services.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Body;
use super::proto::{field, fixed64, number};

const SERVICES: [&str; 12] = [
    "frontend", "api", "auth", "search", "checkout", "cart", "catalog", "payment", "shipping", "currency",
    "worker", "email",
];

/// How much to make.
#[derive(Debug, Clone, Copy)]
pub struct TraceLoad {
    /// Spans in all, about.
    pub spans: u64,
    /// Spans in one body, about.
    pub body_spans: u64,
    /// Start of the first trace, ns since the epoch.
    pub start: u64,
    /// Time between two traces, ns.
    pub step: u64,
    /// The same seed gives the same bytes.
    pub seed: u64,
}

/// OTLP `ExportTraceServiceRequest` bodies of a load, one after the other.
pub fn trace_bodies(load: TraceLoad) -> impl Iterator<Item = Body> {
    let mut random = StdRng::seed_from_u64(load.seed);
    let mut time = load.start;
    let mut left = load.spans;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let mut by_service: Vec<Vec<u8>> = vec![Vec::new(); SERVICES.len()];
        let mut rows = 0;
        while rows < load.body_spans && rows < left {
            rows += write_trace(&mut random, time, &mut by_service);
            time += load.step;
        }
        left = left.saturating_sub(rows);
        let mut request = Vec::new();
        for (service, spans) in by_service.iter().enumerate().filter(|(_, spans)| !spans.is_empty()) {
            let mut resource = Vec::new();
            attribute(&mut resource, 1, "service.name", SERVICES[service]);
            attribute(&mut resource, 1, "service.namespace", "shop");
            attribute(&mut resource, 1, "host.name", &format!("node-{}", service % 4));
            attribute(&mut resource, 1, "telemetry.sdk.language", "rust");
            let mut scope_spans = Vec::new();
            let mut scope = Vec::new();
            field(&mut scope, 1, b"workload");
            field(&mut scope_spans, 1, &scope);
            scope_spans.extend_from_slice(spans);
            let mut resource_spans = Vec::new();
            field(&mut resource_spans, 1, &resource);
            field(&mut resource_spans, 2, &scope_spans);
            field(&mut request, 1, &resource_spans);
        }
        Some(Body { raw: request.clone(), bytes: request, rows })
    })
}

/// Writes the spans of one trace under their services and returns how many there are.
fn write_trace(random: &mut StdRng, start: u64, by_service: &mut [Vec<u8>]) -> u64 {
    let trace: [u8; 16] = random.random();
    let failed = random.random_bool(0.04);
    let root = random.random_range(5_000_000..60_000_000) * if random.random_bool(0.03) { 20 } else { 1 };
    let count = random.random_range(1..30);
    let mut nodes: Vec<(usize, [u8; 8], u64, u64)> = Vec::new();
    for i in 0..count {
        let (service, parent, at, duration) = if i == 0 {
            (0, None, start, root)
        } else {
            let (service, id, at, duration) = nodes[random.random_range(0..nodes.len())];
            let service =
                if random.random_bool(0.5) { random.random_range(0..SERVICES.len()) } else { service };
            let inner = (duration * random.random_range(5..80) / 100).max(1_000);
            (service, Some(id), at + random.random_range(0..=duration.saturating_sub(inner)), inner)
        };
        let id: [u8; 8] = random.random();
        nodes.push((service, id, at, duration));
        let mut span = Vec::with_capacity(320);
        field(&mut span, 1, &trace);
        field(&mut span, 2, &id);
        if let Some(parent) = parent {
            field(&mut span, 4, &parent);
        }
        field(
            &mut span,
            5,
            format!("{} operation {}", SERVICES[service], random.random_range(0..4)).as_bytes(),
        );
        number(&mut span, 6, if parent.is_none() { 2 } else { random.random_range(1..4) });
        fixed64(&mut span, 7, at);
        fixed64(&mut span, 8, at + duration);
        attribute(&mut span, 9, "http.request.method", ["GET", "POST"][random.random_range(0..2)]);
        attribute(
            &mut span,
            9,
            "url.path",
            &format!("/{}/{}", SERVICES[service], random.random_range(0..5_000)),
        );
        attribute(&mut span, 9, "user.id", &format!("u{}", random.random_range(0..100_000)));
        let mut status_code = Vec::new();
        number(&mut status_code, 3, if failed { 500 } else { 200 });
        let mut pair = Vec::new();
        field(&mut pair, 1, b"http.response.status_code");
        field(&mut pair, 2, &status_code);
        field(&mut span, 9, &pair);
        if failed && i == count - 1 {
            let mut status = Vec::new();
            field(&mut status, 2, b"deadline exceeded");
            number(&mut status, 3, 2);
            field(&mut span, 15, &status);
        }
        field(&mut by_service[service], 2, &span);
    }
    count
}

fn attribute(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
    let (mut any, mut pair) = (Vec::new(), Vec::new());
    field(&mut any, 1, value.as_bytes());
    field(&mut pair, 1, key.as_bytes());
    field(&mut pair, 2, &any);
    field(out, number, &pair);
}
