//! Exporters: where pipelines end.

pub mod debug;
pub mod otlp_grpc;
pub mod otlp_http;

use serde::{Deserialize, Serialize};
use service::config::Duration;

use crate::queue::{Backoff, QueueLimits};

/// `retry_on_failure` of an exporter; it counts where a `sending_queue` is on.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct RetryConfig {
    /// Whether to try again.
    pub enabled: bool,
    /// First pause.
    pub initial_interval: Duration,
    /// Accepted; pauses vary by half.
    pub randomization_factor: f64,
    /// Growth of the pause.
    pub multiplier: f64,
    /// Longest pause.
    pub max_interval: Duration,
    /// Drop the data after so long; 0 never.
    pub max_elapsed_time: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
        }
    }
}

impl RetryConfig {
    /// The queue's form of it.
    pub fn backoff(&self) -> Backoff {
        let give_up = self.max_elapsed_time.get();
        Backoff {
            initial: self.initial_interval.get(),
            max: self.max_interval.get(),
            multiplier: self.multiplier.max(1.0),
            give_up: if self.enabled {
                (!give_up.is_zero()).then_some(give_up)
            } else {
                Some(Duration::default().get())
            },
        }
    }
}

/// `sending_queue` of an exporter. Off unless asked for, other than the Collector's: without it the
/// result of the export travels back to the sender, who still has the data.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct QueueConfig {
    /// Acknowledge before the export.
    pub enabled: bool,
    /// Exports at the same time.
    pub num_consumers: usize,
    /// Requests that may wait.
    pub queue_size: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { enabled: false, num_consumers: 10, queue_size: 1000 }
    }
}

impl QueueConfig {
    /// Bytes that may wait in one queue.
    const MAX_BYTES: usize = 128 << 20;

    /// The queue's bounds.
    pub fn limits(&self) -> QueueLimits {
        QueueLimits {
            requests: self.queue_size.max(1),
            bytes: Self::MAX_BYTES,
            workers: self.num_consumers.clamp(1, 64),
        }
    }
}

/// `tls` of an exporter.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TlsConfig {
    /// Plain text, no TLS.
    pub insecure: bool,
    /// Accepted as `false` only: certificates are always verified.
    pub insecure_skip_verify: bool,
    /// Authorities to trust, PEM.
    pub ca_file: String,
    /// Our certificate, PEM.
    pub cert_file: String,
    /// Our key, PEM.
    pub key_file: String,
    /// Name to expect in the peer's certificate.
    pub server_name_override: String,
}
