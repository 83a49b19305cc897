//! List, then watch: the changes of a set of pods, over reconnects and forgotten versions.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::access::{Access, ApiError};

/// What has happened.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// These are all pods.
    All(Vec<Value>),
    /// A pod is new or different.
    Set(Value),
    /// A pod is gone.
    Gone(Value),
}

/// Follows the pods of a namespace.
pub(super) struct Watch {
    access: Access,
    path: String,
    field_selector: String,
    label_selector: String,
    state: State,
}

enum State {
    /// Everything must be listed.
    List,
    /// Changes after this version are to be watched.
    Resume(String),
    /// They are being watched.
    Open { response: reqwest::Response, lines: Lines, version: String },
}

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

impl Watch {
    /// Pods asked for at a time.
    const PAGE: &str = "200";
    /// After so many seconds the server ends a watch, and the next one goes on from there.
    const SECONDS: &str = "300";
    /// Between the end of a watch and the next.
    const PAUSE: Duration = Duration::from_millis(300);
    /// Largest answer to a list.
    const MAX_PAGE: usize = 64 << 20;

    /// A watch over a namespace, or over all if its name is empty.
    pub(super) fn new(
        access: Access,
        namespace: &str,
        field_selector: String,
        label_selector: String,
    ) -> Self {
        let path = match namespace {
            "" => "/api/v1/pods".to_owned(),
            name => format!("/api/v1/namespaces/{name}/pods"),
        };
        Self { access, path, field_selector, label_selector, state: State::List }
    }

    /// Waits for the next changes; may be none. After an error, the next call takes up where this one left off. Cancel safe:
    /// changes are lost with this object only.
    pub(super) async fn next(&mut self) -> Result<Vec<Change>> {
        match &mut self.state {
            State::List => {
                let (pods, version) = self.list().await?;
                self.state = State::Resume(version);
                Ok(vec![Change::All(pods)])
            }
            State::Resume(version) => {
                let version = version.clone();
                let mut query = self.query();
                query.extend([
                    ("watch", "1"),
                    ("allowWatchBookmarks", "true"),
                    ("timeoutSeconds", Self::SECONDS),
                ]);
                query.push(("resourceVersion", &version));
                match self.access.get(&self.path, &query).await {
                    Ok(response) => self.state = State::Open { response, lines: Lines::default(), version },
                    Err(ApiError::Gone) => self.state = State::List,
                    Err(ApiError::Other(error)) => {
                        self.state = State::List;
                        return Err(error.context("watching pods"));
                    }
                }
                Ok(Vec::new())
            }
            State::Open { response, lines, version } => {
                let chunk = match response.chunk().await {
                    Ok(Some(chunk)) => chunk,
                    // It has ended, by its time or by accident: both are usual. One that ends at once must not make us
                    // hurry.
                    Ok(None) | Err(_) => {
                        self.state = State::Resume(std::mem::take(version));
                        tokio::time::sleep(Self::PAUSE).await;
                        return Ok(Vec::new());
                    }
                };
                let mut changes = Vec::new();
                match lines.push(&chunk, |line| understand(line, version, &mut changes)) {
                    Ok(true) => {}
                    Ok(false) => self.state = State::List,
                    Err(error) => {
                        self.state = State::List;
                        return Err(error);
                    }
                }
                Ok(changes)
            }
        }
    }

    fn query(&self) -> Vec<(&str, &str)> {
        let selectors = [("fieldSelector", &self.field_selector), ("labelSelector", &self.label_selector)];
        selectors.into_iter().filter(|(_, s)| !s.is_empty()).map(|(name, s)| (name, s.as_str())).collect()
    }

    /// All pods, and the version after which changes are to be watched.
    async fn list(&self) -> Result<(Vec<Value>, String)> {
        let (mut pods, mut next, mut size) = (Vec::new(), String::new(), 0);
        loop {
            let mut query = self.query();
            query.push(("limit", Self::PAGE));
            if !next.is_empty() {
                query.push(("continue", &next));
            }
            let mut response = match self.access.get(&self.path, &query).await {
                Ok(response) => response,
                // The pages have grown old while they were read.
                Err(ApiError::Gone) if !next.is_empty() => {
                    (pods, next, size) = (Vec::new(), String::new(), 0);
                    continue;
                }
                Err(error) => return Err(anyhow::Error::new(error).context("listing pods")),
            };
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.context("listing pods")? {
                size += chunk.len();
                if size > Self::MAX_PAGE {
                    bail!("the list of pods is larger than {} bytes: select fewer", Self::MAX_PAGE);
                }
                body.extend_from_slice(&chunk);
            }
            let page: Page = serde_json::from_slice(&body).context("listing pods: not a list")?;
            pods.extend(page.items.unwrap_or_default());
            if page.metadata.next.is_empty() {
                return Ok((pods, page.metadata.resource_version));
            }
            next = page.metadata.next;
        }
    }
}

/// Takes one event; `Ok(false)` if everything must be listed again.
fn understand(line: &[u8], version: &mut String, changes: &mut Vec<Change>) -> Result<bool> {
    let event: Event = serde_json::from_slice(line).context("watching pods: not an event")?;
    if event.kind == "ERROR" {
        let message = event.object.get("message").and_then(Value::as_str).unwrap_or_default();
        return match event.object.get("code").and_then(Value::as_u64) {
            Some(410) => Ok(false),
            _ => bail!("watching pods: {message}"),
        };
    }
    if let Some(newer) = event.object.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
        newer.clone_into(version);
    }
    match event.kind.as_str() {
        "ADDED" | "MODIFIED" => changes.push(Change::Set(event.object)),
        "DELETED" => changes.push(Change::Gone(event.object)),
        // A bookmark tells the version only.
        _ => {}
    }
    Ok(true)
}

/// Cuts a stream into lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Longest line: an object of etcd has at most 1.5 MiB, so this is generous.
    const MAX: usize = 16 << 20;

    /// Adds bytes and hands on each line that is complete, until one says `Ok(false)`.
    fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8]) -> Result<bool>) -> Result<bool> {
        self.0.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(end) = memchr::memchr(b'\n', &self.0[at..]).map(|n| at + n) {
            let line = self.0[at..end].trim_ascii();
            if !line.is_empty() && !take(line)? {
                return Ok(false);
            }
            at = end + 1;
        }
        self.0.drain(..at);
        if self.0.len() > Self::MAX {
            bail!("watching pods: an event is larger than {} bytes", Self::MAX);
        }
        Ok(true)
    }
}
