//! The `syslog` target: RFC 5424 and RFC 3164 over TCP, TLS and UDP.

mod framing;
mod message;
mod peer;
mod rfc3164;
mod rfc5424;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use model::{Timestamp, is_label_name};
use serde::{Deserialize, Serialize};
use service::CancellationToken;
use service::config::Problems;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::inlet::{Mailbox, mailbox};
use super::{Inlets, Received, TargetMetrics};
use crate::relabel::TargetLabels;
use framing::{Frame, Framer};
use tls::SyslogTls;

/// The `syslog` section.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct SyslogConfig {
    /// Where to listen, `127.0.0.1:1514`; `:1514` is every interface.
    pub listen_address: String,
    /// How messages come.
    pub listen_protocol: SyslogProtocol,
    /// A connection over which nothing has come for so long is closed.
    pub idle_timeout: service::config::Duration,
    /// Structured data becomes `__syslog_message_sd_<id>_<name>`.
    pub label_structured_data: bool,
    /// Labels of every message.
    pub labels: BTreeMap<String, String>,
    /// Messages keep the time they carry, rather than that of their receipt.
    pub use_incoming_timestamp: bool,
    /// The line is the whole message as it came, rather than its text.
    pub use_rfc5424_message: bool,
    /// How messages are written.
    pub syslog_format: SyslogFormat,
    /// Bytes after which a message is cut.
    pub max_message_length: usize,
    /// TLS, with `tcp`.
    pub tls_config: SyslogTls,
}

impl Default for SyslogConfig {
    fn default() -> Self {
        Self {
            listen_address: String::new(),
            listen_protocol: SyslogProtocol::Tcp,
            idle_timeout: service::config::Duration::from_secs(120),
            label_structured_data: false,
            labels: BTreeMap::new(),
            use_incoming_timestamp: false,
            use_rfc5424_message: false,
            syslog_format: SyslogFormat::Rfc5424,
            max_message_length: 8192,
            tls_config: SyslogTls::default(),
        }
    }
}

/// `listen_protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogProtocol {
    /// Connections, with or without TLS.
    Tcp,
    /// A datagram is a message.
    Udp,
}

/// `syslog_format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogFormat {
    /// The newer form.
    Rfc5424,
    /// The older form.
    Rfc3164,
}

impl SyslogConfig {
    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        if self.listen_address.is_empty() {
            problems.add(format!("{path}.listen_address"), "is missing: write 127.0.0.1:1514, say");
        }
        for name in self.labels.keys().filter(|name| !is_label_name(name)) {
            problems.add(format!("{path}.labels"), format!("'{name}' is not a label name"));
        }
        if !(64..=MAX_MESSAGE).contains(&self.max_message_length) {
            let text = format!("{} is not between 64 and {MAX_MESSAGE}", self.max_message_length);
            problems.add(format!("{path}.max_message_length"), text);
        }
        if self.idle_timeout.is_zero() {
            problems.add(format!("{path}.idle_timeout"), "must not be 0: connections would never end");
        }
        let tls = &self.tls_config;
        if tls.is_on() && (tls.cert_file.is_empty() || tls.key_file.is_empty()) {
            problems.add(format!("{path}.tls_config"), "TLS needs both cert_file and key_file");
        }
        if tls.is_on() && self.listen_protocol == SyslogProtocol::Udp {
            problems.add(format!("{path}.tls_config"), "TLS needs listen_protocol: tcp");
        }
    }
}

/// Largest `max_message_length`.
const MAX_MESSAGE: usize = 16 << 20;
/// Connections open at a time; more wait in the system's backlog.
const CONNECTIONS: usize = 1000;
/// How long a connection's first bytes, or its TLS handshake, may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long what peers have sent before the agent stops is still read.
const LAST_READS: Duration = Duration::from_secs(1);
/// Silence that ends it sooner.
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// A listener that is bound.
pub(crate) struct SyslogTarget {
    socket: Socket,
    address: SocketAddr,
    reader: Reader,
    inlets: Inlets,
}

enum Socket {
    Tcp(std::net::TcpListener, Option<TlsAcceptor>),
    Udp(std::net::UdpSocket),
}

impl SyslogTarget {
    /// Binds the listener.
    pub(crate) fn bind(config: &SyslogConfig, inlets: Inlets) -> Result<Self> {
        let context = || format!("syslog.listen_address '{}'", config.listen_address);
        let addresses = super::inlet::addresses(&config.listen_address).with_context(context)?;
        let (socket, address) = match config.listen_protocol {
            SyslogProtocol::Tcp => {
                let tls = config.tls_config.is_on().then(|| config.tls_config.acceptor());
                let tls = tls.transpose().context("syslog.tls_config")?;
                let socket = std::net::TcpListener::bind(&addresses[..]).with_context(context)?;
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?;
                (Socket::Tcp(socket, tls), address)
            }
            SyslogProtocol::Udp => {
                let socket = std::net::UdpSocket::bind(&addresses[..]).with_context(context)?;
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?;
                (Socket::Udp(socket), address)
            }
        };
        let reader = Reader { config: config.clone(), metrics: inlets.metrics.clone() };
        Ok(Self { socket, address, reader, inlets })
    }

    /// Where it listens, with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Receives until `stop`, then hands on what was received.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        let Self { socket, address, reader, inlets } = self;
        let (sender, messages) = mailbox();
        tracing::info!(%address, protocol = ?reader.config.listen_protocol, "syslog listens");
        let pump = inlets.clone().pump("syslog", messages, stop.clone());
        let receive = async {
            match socket {
                Socket::Tcp(listener, tls) => {
                    connections(TcpListener::from_std(listener)?, tls, reader, sender, stop).await
                }
                Socket::Udp(socket) => datagrams(UdpSocket::from_std(socket)?, reader, sender, stop).await,
            }
        };
        tokio::join!(receive, pump).0
    }
}

/// Understands messages.
#[derive(Clone)]
struct Reader {
    config: SyslogConfig,
    metrics: TargetMetrics,
}

impl Reader {
    /// What a message comes to; `None` if it has no text. One that cannot be read is passed on as it came, and counted.
    fn read(&self, frame: Frame, peer: &TargetLabels) -> Option<Received> {
        let (config, metrics) = (&self.config, &self.metrics);
        metrics.syslog_entries.inc();
        if frame.is_cut {
            metrics.syslog_cut_messages.inc();
        }
        let mut labels = peer.clone();
        labels.extend(config.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
        let message = match config.syslog_format {
            SyslogFormat::Rfc5424 => rfc5424::parse(&frame.text),
            SyslogFormat::Rfc3164 => rfc3164::parse(&frame.text, Timestamp::now()),
        };
        let Some(message) = message else {
            metrics.syslog_parsing_errors.inc();
            tracing::debug!(
                message = frame.text,
                "a syslog message cannot be read: it is passed on as it came"
            );
            return Some(Received { labels, timestamp: None, line: frame.text });
        };
        let Some(text) = message.text else {
            metrics.syslog_empty_messages.inc();
            return None;
        };
        message.label(&mut labels, config.label_structured_data);
        let timestamp = message.timestamp.filter(|_| config.use_incoming_timestamp);
        let whole = config.use_rfc5424_message && config.syslog_format == SyslogFormat::Rfc5424;
        let line = if whole { frame.text.clone() } else { text.to_owned() };
        Some(Received { labels, timestamp, line })
    }
}

/// Accepts connections until `stop`; owns a task for each.
async fn connections(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    reader: Reader,
    sender: Mailbox,
    stop: CancellationToken,
) -> Result<()> {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept(), if open.len() < CONNECTIONS => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "syslog cannot accept connections");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let connection = Connection {
            labels: peer::labels(peer.ip()),
            reader: reader.clone(),
            sender: sender.clone(),
            stop: stop.clone(),
        };
        let tls = tls.clone();
        open.spawn(async move {
            match tls {
                None => connection.run(stream).await,
                Some(tls) => match timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection.run(stream).await,
                    Ok(Err(error)) => tracing::warn!(%peer, %error, "syslog: TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "syslog: TLS handshake took too long"),
                },
            }
        });
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    Ok(())
}

/// One peer's connection.
struct Connection {
    labels: TargetLabels,
    reader: Reader,
    sender: Mailbox,
    stop: CancellationToken,
}

impl Connection {
    /// Reads messages until the peer ends, is idle for too long or cannot be understood, or the agent stops. While the pipeline has
    /// no room nothing is read, so that the peer keeps what it has.
    async fn run(self, mut stream: impl AsyncRead + Unpin) {
        let mut framer = Framer::new(self.reader.config.max_message_length);
        let mut buffer = vec![0; 16 << 10];
        let mut last = None;
        loop {
            let wait = match last {
                None => Instant::now() + self.reader.config.idle_timeout.get(),
                Some(end) => (Instant::now() + LAST_PAUSE).min(end),
            };
            let read = tokio::select! {
                biased;
                () = self.stop.cancelled(), if last.is_none() => {
                    last = Some(Instant::now() + LAST_READS);
                    continue;
                }
                read = timeout_at(wait, stream.read(&mut buffer)) => read,
            };
            let count = match read {
                Ok(Ok(count)) => count,
                Ok(Err(_)) | Err(_) => 0,
            };
            framer.push(&buffer[..count]);
            if !self.take(&mut framer, count == 0).await || count == 0 {
                return;
            }
        }
    }

    /// Hands on complete messages, with `end` all; `false` if there can be no more.
    async fn take(&self, framer: &mut Framer, end: bool) -> bool {
        loop {
            let frame = match framer.next() {
                Ok(None) if end => framer.finish(),
                next => next,
            };
            match frame {
                Ok(Some(frame)) => {
                    let received = self.reader.read(frame, &self.labels);
                    if let Some(received) = received
                        && !self.sender.send(received).await
                    {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(error) => {
                    self.reader.metrics.syslog_parsing_errors.inc();
                    let peer = &self.labels["__syslog_connection_ip_address"];
                    tracing::warn!(peer, %error, "syslog: the connection is cut");
                    return false;
                }
            }
        }
    }
}

/// Receives datagrams until `stop`. They cannot be held back: while the pipeline has no room they are lost, and counted.
async fn datagrams(
    socket: UdpSocket,
    reader: Reader,
    sender: Mailbox,
    stop: CancellationToken,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut peers = peer::Peers::default();
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
                    Err(_) => return Ok(()),
                }
            }
            Some(_) => return Ok(()),
        };
        let (count, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "syslog cannot receive datagrams");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Some(frame) = framing::datagram(&buffer[..count], reader.config.max_message_length) else {
            continue;
        };
        let Some(received) = reader.read(frame, peers.labels(peer.ip())) else { continue };
        if !sender.try_send(received) {
            reader.metrics.lost("syslog", "queue_full", 1);
        }
    }
}
