//! TLS of the syslog listener: its own certificate, and the authority whose clients may come in.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

/// `tls_config` of a syslog listener: on when `cert_file` is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct SyslogTls {
    /// PEM file with the certificate chain.
    pub cert_file: String,
    /// PEM file with the private key.
    pub key_file: String,
    /// PEM file with the authorities whose client certificates are required; none: anyone may connect.
    pub ca_file: String,
}

impl SyslogTls {
    /// Whether anything of it was configured.
    pub(super) fn is_on(&self) -> bool {
        *self != Self::default()
    }

    /// Reads the files.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor> {
        let chain = certificates(&self.cert_file).context("cert_file")?;
        let key = PrivateKeyDer::from_pem_file(Path::new(&self.key_file));
        let key = key.with_context(|| format!("key_file: '{}'", self.key_file))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = if self.ca_file.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            for authority in certificates(&self.ca_file).context("ca_file")? {
                roots.add(authority).context("ca_file")?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.context("ca_file")?)
        };
        let config = builder.with_single_cert(chain, key).context("key_file does not fit cert_file")?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found =
        CertificateDer::pem_file_iter(Path::new(file)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.with_context(|| format!("'{file}'"))?;
    if found.is_empty() {
        bail!("'{file}' holds no certificate");
    }
    Ok(found)
}
