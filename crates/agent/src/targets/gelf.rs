//! The `gelf` target: Graylog's messages over UDP, plain or compressed, whole or in chunks.

mod chunks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use model::{Timestamp, is_label_name};
use serde::{Deserialize, Serialize};
use service::CancellationToken;
use service::config::Problems;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use wire::decompress::{DecompressError, Encoding, decompress};

use super::inlet::{Mailbox, mailbox};
use super::{Inlets, Received};
use crate::relabel::TargetLabels;
use chunks::Chunks;

/// The `gelf` section.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct GelfConfig {
    /// Where to listen; `:12201` is every interface.
    pub listen_address: String,
    /// Labels of every message.
    pub labels: BTreeMap<String, String>,
    /// Messages keep the time they carry, rather than that of their receipt.
    pub use_incoming_timestamp: bool,
}

impl Default for GelfConfig {
    fn default() -> Self {
        Self {
            listen_address: "127.0.0.1:12201".to_owned(),
            labels: BTreeMap::new(),
            use_incoming_timestamp: false,
        }
    }
}

impl GelfConfig {
    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        if self.listen_address.is_empty() {
            problems.add(format!("{path}.listen_address"), "must not be empty: write 127.0.0.1:12201, say");
        }
        for name in self.labels.keys().filter(|name| !is_label_name(name)) {
            problems.add(format!("{path}.labels"), format!("'{name}' is not a label name"));
        }
    }
}

/// Largest message, after decompression.
const MAX_MESSAGE: usize = 1 << 20;
/// How long what has arrived before the agent stops is still read.
const LAST_READS: Duration = Duration::from_secs(1);
/// Silence that ends it sooner.
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
enum GelfError {
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error("it is no JSON object: {0}")]
    Json(#[from] serde_json::Error),
}

/// The message's fields; of those with one name the last counts. What is no number or text where it should be is as if it were not
/// there: nothing is lost for it.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Fields(serde_json::Map<String, serde_json::Value>);

impl Fields {
    fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A number; some senders write it as a text.
    fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?.trim().parse().ok()
    }
}

/// Reads a whole message. The line is its JSON as it came.
fn read(bytes: Bytes, config: &GelfConfig) -> Result<Received, GelfError> {
    let encoding = match bytes[..] {
        [0x1f, 0x8b, ..] => Encoding::Gzip,
        [0x78, ..] => Encoding::Zlib,
        _ => Encoding::Identity,
    };
    let json = decompress(bytes, encoding, MAX_MESSAGE)?;
    // Over TCP a zero byte ends a message, and some senders write it here too.
    let json = json.strip_suffix(&[0]).unwrap_or(&json);
    let fields: Fields = serde_json::from_slice(json)?;
    let mut labels: TargetLabels = config.labels.clone();
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            labels.insert(format!("__gelf_message_{name}"), value.to_owned());
        }
    };
    set("level", level(fields.number("level")));
    for name in ["host", "version", "facility"] {
        set(name, &fields.text(name).unwrap_or_default());
    }
    let timestamp = fields.number("timestamp").filter(|_| config.use_incoming_timestamp);
    let timestamp = timestamp.filter(|t| t.is_finite() && *t > 0.0).map(seconds);
    Ok(Received { labels, timestamp, line: String::from_utf8_lossy(json).trim().to_owned() })
}

/// The level's keyword; a message without one is an alert, as the format has it.
fn level(level: Option<f64>) -> &'static str {
    const NAMES: [&str; 8] =
        ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"];
    let level = level.unwrap_or(1.0);
    if level.fract() == 0.0 && (0.0..8.0).contains(&level) { NAMES[level as usize] } else { "" }
}

/// Seconds with a fraction, which are written with microseconds at most.
fn seconds(seconds: f64) -> Timestamp {
    let whole = seconds.trunc();
    let micros = ((seconds - whole) * 1e6).round();
    Timestamp::from_seconds(whole as i64).plus(micros as i64 * 1_000)
}

/// A listener that is bound.
pub(crate) struct GelfTarget {
    socket: std::net::UdpSocket,
    address: SocketAddr,
    config: GelfConfig,
    inlets: Inlets,
}

impl GelfTarget {
    /// Binds the listener.
    pub(crate) fn bind(config: &GelfConfig, inlets: Inlets) -> Result<Self> {
        let context = || format!("gelf.listen_address '{}'", config.listen_address);
        let addresses = super::inlet::addresses(&config.listen_address).with_context(context)?;
        let socket = std::net::UdpSocket::bind(&addresses[..]).with_context(context)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, config: config.clone(), inlets })
    }

    /// Where it listens, with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Receives until `stop`, then hands on what was received.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        let Self { socket, address, config, inlets } = self;
        let (sender, messages) = mailbox();
        tracing::info!(%address, "gelf listens");
        let pump = inlets.clone().pump("gelf", messages, stop.clone());
        let receive = async {
            let socket = UdpSocket::from_std(socket)?;
            receive(&socket, &config, &inlets, sender, &stop).await;
            anyhow::Ok(())
        };
        tokio::join!(receive, pump).0
    }
}

/// Receives datagrams until `stop`. They cannot be held back: while the pipeline has no room they are lost, and counted.
async fn receive(
    socket: &UdpSocket,
    config: &GelfConfig,
    inlets: &Inlets,
    sender: Mailbox,
    stop: &CancellationToken,
) {
    let metrics = &inlets.metrics;
    let mut chunks = Chunks::new(MAX_MESSAGE);
    let mut buffer = vec![0; 64 << 10];
    let mut last: Option<Instant> = None;
    loop {
        let received = match last {
            None => tokio::select! {
                biased;
                () = stop.cancelled() => {
                    last = Some(Instant::now() + LAST_READS);
                    continue;
                }
                received = socket.recv_from(&mut buffer) => received,
            },
            // What has arrived already is still taken.
            Some(end) if Instant::now() < end => {
                match timeout(LAST_PAUSE, socket.recv_from(&mut buffer)).await {
                    Ok(received) => received,
                    Err(_) => return,
                }
            }
            Some(_) => return,
        };
        let (count, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "gelf cannot receive datagrams");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let whole = match chunks.push(peer.ip(), &buffer[..count], Instant::now()) {
            Ok(whole) => whole,
            Err(error) => {
                metrics.gelf_parsing_errors.inc();
                tracing::debug!(%peer, %error, "a datagram is no part of a GELF message");
                continue;
            }
        };
        let forgotten = chunks.take_forgotten();
        if forgotten > 0 {
            metrics.lost("gelf", "incomplete", forgotten);
        }
        let Some(whole) = whole else { continue };
        match read(whole, config) {
            Ok(received) => {
                metrics.gelf_entries.inc();
                if !sender.try_send(received) {
                    metrics.lost("gelf", "queue_full", 1);
                }
            }
            Err(error) => {
                metrics.gelf_parsing_errors.inc();
                tracing::debug!(%peer, %error, "a datagram is no GELF message");
            }
        }
    }
}
