//! How an engine is reached: over its socket, or over TCP.
//!
//! Lists, details and events come through `bollard`. The output of containers is read here, as the bytes that the engine sends: of a
//! container with a terminal that client keeps everything up to a line end in memory, however far that is, and it asks for whole
//! seconds only.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bollard::Docker;
use model::Timestamp;
use reqwest::{Response, Url};

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Its socket.
    Unix(PathBuf),
    /// `http://host:port`.
    Http(String),
}

impl FromStr for Host {
    type Err = String;

    fn from_str(host: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("'{host}': {why}"));
        let Some((scheme, rest)) = host.split_once("://") else {
            return wrong("write unix:///var/run/docker.sock, or tcp://host:port");
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => wrong("the path of a socket is absolute: unix:///var/run/docker.sock"),
            "tcp" | "http" => {
                let base = format!("http://{}", rest.trim_end_matches('/'));
                // A port that is the scheme's own is not told by the URL.
                let names_port = |url: &Url| url.port().is_some() || base.ends_with(":80");
                match Url::parse(&base) {
                    Ok(url) if names_port(&url) && url.path() == "/" => Ok(Self::Http(base)),
                    _ => wrong("write tcp://host:port; engines usually listen on port 2375"),
                }
            }
            "https" => wrong(
                "TLS to an engine is not supported: run the agent on the engine's host with unix:///var/run/docker.sock, or \
                 through a proxy that speaks TLS",
            ),
            "ssh" => wrong(
                "ssh is not supported: forward the socket (ssh -L /run/remote.sock:/var/run/docker.sock host) and write \
                 unix:///run/remote.sock",
            ),
            "npipe" => wrong("named pipes are Windows': have the engine listen on tcp://host:port"),
            _ => wrong("write unix:///var/run/docker.sock, or tcp://host:port"),
        }
    }
}

impl Host {
    /// A client for lists, details and events.
    pub(super) fn connect(&self) -> Result<Docker> {
        const TIMEOUT_SECONDS: u64 = 120;
        let version = bollard::API_DEFAULT_VERSION;
        match self {
            Self::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), TIMEOUT_SECONDS, version),
            Self::Http(base) => Docker::connect_with_http(base, TIMEOUT_SECONDS, version),
        }
        .with_context(|| format!("{self:?}"))
    }

    /// What a container has printed at or after a time, and if `follow`, what it prints from now on.
    pub(super) async fn logs(&self, container: &str, since: Timestamp, follow: bool) -> Result<Response> {
        let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(10)).no_proxy();
        let (client, base) = match self {
            Self::Unix(path) => (client.unix_socket(path.as_path()), "http://docker"),
            Self::Http(base) => (client, base.as_str()),
        };
        let since = format!("{}.{:09}", since.nanos() / 1_000_000_000, since.nanos() % 1_000_000_000);
        let url = format!(
            "{base}/containers/{container}/logs?stdout=1&stderr=1&timestamps=1&follow={}&since={since}",
            u8::from(follow)
        );
        let response = client.build()?.get(url).send().await?;
        let status = response.status();
        if !status.is_success() {
            bail!("{status}: {:.300}", response.text().await.unwrap_or_default().trim());
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let good = |host: &str| host.parse::<Host>().unwrap();
        assert_eq!(good("unix:///var/run/docker.sock"), Host::Unix("/var/run/docker.sock".into()));
        assert_eq!(good("tcp://10.0.0.1:2375"), Host::Http("http://10.0.0.1:2375".into()));
        assert_eq!(good("http://proxy:80/"), Host::Http("http://proxy:80".into()));
        for (host, says) in [
            ("/var/run/docker.sock", "write unix:///var/run"),
            ("unix://docker.sock", "is absolute"),
            ("tcp://10.0.0.1", "2375"),
            ("tcp://", "2375"),
            ("http://host:2375/path", "2375"),
            ("https://host:2376", "TLS to an engine is not supported"),
            ("ssh://me@host", "ssh -L"),
            ("npipe:////./pipe/docker_engine", "named pipes are Windows'"),
            ("fd://", "write unix:///var/run"),
        ] {
            let error = host.parse::<Host>().unwrap_err();
            assert!(error.contains(says) && error.contains(host), "{error}");
        }
    }
}
