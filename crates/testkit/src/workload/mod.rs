//! Deterministic workloads that look like a small fleet's: request bodies of logs and traces, files of containers.

mod docker;
mod logs;
mod proto;
mod traces;

pub use docker::{container_lines, docker_lines};
pub use logs::{LogLoad, log_bodies};
pub use traces::{TraceLoad, trace_bodies};

/// One request body and what it carries.
#[derive(Debug, Clone)]
pub struct Body {
    /// The bytes to post.
    pub bytes: Vec<u8>,
    /// Lines or spans in it.
    pub rows: u64,
    /// The same content as bytes without compression: lines with their newlines, or the OTLP message.
    pub raw: Vec<u8>,
}
