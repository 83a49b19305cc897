//! Listening sockets: bound while building, so that a taken port is a clear error before anything runs.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}: change {key}")]
    Bind {
        /// The address asked for.
        address: String,
        /// YAML key that named it.
        key: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Certificate or key files are not usable.
    #[error("cannot use `{file}` for TLS: {message}: change {key}")]
    Tls {
        /// The file.
        file: String,
        /// What is wrong with it.
        message: String,
        /// YAML key of the listener it is for.
        key: String,
    },
}

/// TLS of a listener: on when `cert_file` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// PEM file with the certificate chain.
    pub cert_file: String,
    /// PEM file with the private key.
    pub key_file: String,
    /// PEM file with the authorities whose client certificates are required and accepted; none: no client certificates.
    pub client_ca_file: String,
}

impl TlsConfig {
    /// Whether TLS is on.
    pub fn is_on(&self) -> bool {
        !self.cert_file.is_empty()
    }

    fn acceptor(&self, key: &str) -> Result<Option<TlsAcceptor>, ListenError> {
        if !self.is_on() {
            return Ok(None);
        }
        let failed = |file: &str, message: String| ListenError::Tls {
            file: file.to_owned(),
            message,
            key: key.to_owned(),
        };
        let read = |file: &str| -> Result<Vec<CertificateDer<'static>>, ListenError> {
            let certificates = CertificateDer::pem_file_iter(Path::new(file))
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| failed(file, error.to_string()))?;
            match certificates.is_empty() {
                true => Err(failed(file, "it holds no certificate".to_owned())),
                false => Ok(certificates),
            }
        };
        let chain = read(&self.cert_file)?;
        let private = PrivateKeyDer::from_pem_file(Path::new(&self.key_file))
            .map_err(|error| failed(&self.key_file, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&self.cert_file, error.to_string()))?;
        let builder = if self.client_ca_file.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            for authority in read(&self.client_ca_file)? {
                roots.add(authority).map_err(|error| failed(&self.client_ca_file, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| failed(&self.client_ca_file, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder
            .with_single_cert(chain, private)
            .map_err(|error| failed(&self.key_file, format!("it does not fit the certificate: {error}")))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// A bound socket that does not accept yet.
pub struct Listener {
    pub(crate) socket: std::net::TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    local: SocketAddr,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener({}{})", self.local, if self.tls.is_some() { ", TLS" } else { "" })
    }
}

impl Listener {
    /// Binds `address` (`127.0.0.1:3100`, `localhost:4317`, `:3200` for every interface, `[::]:80`; port 0 takes a free
    /// one); `key` is the YAML key that says so.
    pub fn bind(address: &str, key: &str, tls: &TlsConfig) -> Result<Listener, ListenError> {
        let failed = |source| ListenError::Bind { address: address.to_owned(), key: key.to_owned(), source };
        let tls = tls.acceptor(key)?;
        let socket = match address.strip_prefix(':') {
            // Every interface: both families where the system has IPv6.
            Some(port) => std::net::TcpListener::bind(format!("[::]:{port}"))
                .or_else(|_| std::net::TcpListener::bind(format!("0.0.0.0:{port}"))),
            None => std::net::TcpListener::bind(address),
        };
        let socket = socket.map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        Ok(Listener { socket, tls, local })
    }

    /// A free port of loopback without TLS, for tests.
    pub fn loopback() -> Result<Listener, ListenError> {
        Listener::bind("127.0.0.1:0", "the test", &TlsConfig::default())
    }

    /// The address in use, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.local
    }
}
