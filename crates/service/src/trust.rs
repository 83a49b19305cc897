//! Whom HTTP clients trust where no configuration says it: the system's authorities. An image may hold none, which must trouble
//! nobody who speaks plain HTTP.

use reqwest::{ClientBuilder, Url};

/// The system has no authorities, and somebody needs them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{scheme}://{host}' cannot be verified, since the system has no CA certificates: mount them (ca-certificates, at \
     /etc/ssl/certs), or name the authority's certificate in ca_file of this section's TLS"
)]
pub struct NoAuthorities {
    scheme: String,
    host: String,
}

/// A client for these URLs that is given no authorities of its own. Where the system has none either it is one that trusts nobody,
/// rather than one that cannot be built; an error if one of the URLs needs them.
pub fn by_system<'a>(
    client: ClientBuilder,
    urls: impl IntoIterator<Item = &'a Url>,
) -> Result<ClientBuilder, NoAuthorities> {
    // The library reads them when it builds a client, and has no other word for it that there are none.
    if reqwest::Client::builder().no_proxy().build().is_ok() {
        return Ok(client);
    }
    match urls.into_iter().find(|url| url.scheme() == "https") {
        Some(url) => Err(NoAuthorities {
            scheme: url.scheme().to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
        }),
        None => Ok(client.tls_certs_only([])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn built(url: &str) -> Result<reqwest::Client, String> {
        let url: Url = url.parse().unwrap();
        let client = by_system(reqwest::Client::builder(), [&url]).map_err(|e| e.to_string())?;
        client.build().map_err(|e| e.to_string())
    }

    /// Another process runs this one test in a system without certificates.
    #[test]
    fn plain_text_needs_no_authorities() {
        const CHILD: &str = "TIMBERLINE_TEST_WITHOUT_AUTHORITIES";
        if std::env::var_os(CHILD).is_none() {
            let name = std::thread::current().name().unwrap().to_owned();
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", &name]).env(CHILD, "1");
            child.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
            let done = child.output().unwrap();
            let text = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        assert!(reqwest::Client::builder().build().is_err());
        built("http://store:3100/push").unwrap();
        let error = built("https://user:secret@store/push").unwrap_err();
        assert!(error.starts_with("'https://store' ") && error.contains("ca_file"), "{error}");
    }
}
