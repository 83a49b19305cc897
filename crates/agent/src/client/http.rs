//! Clients of HTTP as a configuration wants them: whom they trust, as whom they come, and through which proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::dns::{Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::tls::Version;
use reqwest::{Certificate, ClientBuilder, Identity, NoProxy, Proxy, Url};

use crate::config::{ProxyConfig, TlsConfig};

#[cfg(test)]
mod tests;

/// As many as Go's client follows.
const MAX_REDIRECTS: usize = 10;

/// A client with TLS and proxy as configured; reads certificates. It follows no redirect. `url` becomes what is to be asked, where TLS
/// knows the server under another name.
pub(crate) fn builder(tls: &TlsConfig, proxy: &ProxyConfig, url: &mut Url) -> Result<ClientBuilder> {
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("timberline-agent/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none());
    if !tls.server_name.is_empty() && url.scheme() == "https" {
        let host = [(header::HOST, HeaderValue::try_from(host_of(url))?)];
        client = with_alias(client.default_headers(host.into_iter().collect()), url, &tls.server_name)?;
    }
    with_proxy(with_tls(client, tls, url).context("tls_config")?, proxy)
}

/// Host and port of a URL.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

/// Follows redirects that keep method and body. The others make a GET of a push, and its answer says nothing about the lines.
pub(crate) fn redirects() -> Policy {
    Policy::custom(|attempt| match attempt.status().as_u16() {
        307 | 308 if attempt.previous().len() >= MAX_REDIRECTS => attempt.error("too many redirects"),
        307 | 308 => attempt.follow(),
        _ => attempt.stop(),
    })
}

/// A header value that is never logged.
pub(crate) fn secret(value: &str) -> Result<HeaderValue> {
    // The error must not show it.
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| anyhow!("a header's value has characters that HTTP forbids"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn with_tls(mut client: ClientBuilder, tls: &TlsConfig, url: &Url) -> Result<ClientBuilder> {
    let read = |text: &str, file: &str| match file {
        "" => Ok(text.as_bytes().to_vec()),
        file => std::fs::read(file).with_context(|| format!("'{file}'")),
    };
    let authorities = read(&tls.ca, &tls.ca_file).context("ca_file")?;
    if !authorities.is_empty() {
        let bundle = Certificate::from_pem_bundle(&authorities).context("ca_file")?;
        if bundle.is_empty() {
            return Err(anyhow!("ca_file: '{}' holds no certificate", tls.ca_file));
        }
        client = client.tls_certs_only(bundle);
    } else if !tls.insecure_skip_verify {
        client = service::trust::by_system(client, [url])?;
    }
    let mut identity = read(&tls.cert, &tls.cert_file).context("cert_file")?;
    if !identity.is_empty() {
        identity.push(b'\n');
        identity.extend(read(tls.key.reveal(), &tls.key_file).context("key_file")?);
        client = client.identity(Identity::from_pem(&identity).context("cert_file and key_file")?);
    }
    let version = |name: &str| match name {
        "TLS13" => Some(Version::TLS_1_3),
        "TLS12" => Some(Version::TLS_1_2),
        _ => None,
    };
    if let Some(version) = version(&tls.min_version) {
        client = client.tls_version_min(version);
    }
    if let Some(version) = version(&tls.max_version) {
        client = client.tls_version_max(version);
    }
    Ok(client.tls_danger_accept_invalid_certs(tls.insecure_skip_verify))
}

fn with_proxy(client: ClientBuilder, config: &ProxyConfig) -> Result<ClientBuilder> {
    let mut headers = HeaderMap::new();
    for (name, values) in &config.headers {
        let name = HeaderName::try_from(name.as_str()).context("proxy_connect_header")?;
        for value in values {
            headers.append(name.clone(), secret(value.reveal())?);
        }
    }
    if config.from_environment {
        // The client looks at the environment by itself, but gives no headers to what it finds there.
        let variable = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).ok();
        let mut client = client.no_proxy();
        type Make = fn(String) -> reqwest::Result<Proxy>;
        let found: [(&str, Make); 2] = [("HTTP_PROXY", Proxy::http), ("HTTPS_PROXY", Proxy::https)];
        for (name, make) in found {
            if let Some(url) = variable(name).filter(|url| !url.is_empty()) {
                let proxy = make(url).map_err(|_| anyhow!("{name}: is no URL"))?;
                client = client.proxy(proxy.no_proxy(NoProxy::from_env()).headers(headers.clone()));
            }
        }
        return Ok(client);
    }
    if config.url.is_empty() {
        return Ok(client.no_proxy());
    }
    // The error would show credentials of the URL.
    let proxy = Proxy::all(config.url.reveal()).map_err(|_| anyhow!("proxy_url: is no URL"))?;
    Ok(client.proxy(proxy.no_proxy(NoProxy::from_string(&config.exceptions)).headers(headers)))
}

/// Lets a server go by another name: TLS asks for `name` and checks it, the connection goes to where `host` is.
struct Alias {
    /// What the server is called.
    name: String,
    /// Where it is.
    host: String,
}

impl Resolve for Alias {
    fn resolve(&self, name: Name) -> Resolving {
        let host = if name.as_str() == self.name { self.host.clone() } else { name.as_str().to_owned() };
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            match found.is_empty() {
                true => Err(io::Error::other(format!("'{host}' has no address")).into()),
                false => Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>),
            }
        })
    }
}

/// Has a client ask for a server under another name than it has in `url`.
fn with_alias(client: ClientBuilder, url: &mut Url, name: &str) -> Result<ClientBuilder> {
    let host = url.host_str().context("the URL has no host")?.trim_matches(['[', ']']).to_owned();
    if host == name.trim_matches(['[', ']']) {
        return Ok(client);
    }
    url.set_host(Some(name)).with_context(|| format!("tls_config.server_name: '{name}' is no host name"))?;
    let name = url.domain().with_context(|| {
        format!("tls_config.server_name: '{name}' is an address: write a name, or that address into url")
    })?;
    Ok(client.dns_resolver(Arc::new(Alias { name: name.to_owned(), host })))
}
