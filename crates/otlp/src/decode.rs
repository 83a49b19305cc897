//! Decoding beside the threads that move bytes.

use bytes::Bytes;
use service::Failure;
use wire::otlp::{Counts, Format, Signal};

/// Bodies above this size are decoded on a thread of their own: a millisecond's work must not hold up others.
const INLINE_BYTES: usize = 64 << 10;

/// Turns a body into checked protobuf bytes; see [`Signal::decode`].
pub async fn decode(signal: Signal, body: Bytes, format: Format) -> Result<(Bytes, Counts), Failure> {
    let size = body.len();
    off_thread(size, move || signal.decode(body, format).map_err(|e| Failure::invalid(e.to_string()))).await
}

/// Runs work over `size` bytes: here if that is little, else on a thread for such work.
pub async fn off_thread<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    if size <= INLINE_BYTES {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::internal("the decoding was interrupted")))
}
