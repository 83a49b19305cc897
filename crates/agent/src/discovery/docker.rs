//! `docker_sd_configs`: containers of an engine, read from their log files where these can be
//! reached, and over the engine's API where not.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use anyhow::{Context, Result, anyhow};
use bollard::Docker;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{ListContainersOptions, LogsOptions};
use futures::StreamExt as _;
use model::{Labels, Timestamp};
use service::CancellationToken;
use tokio::task::JoinSet;

use super::sanitize;
use crate::config::DockerSdConfig;
use crate::dispatch::Dispatcher;
use crate::positions::Positions;
use crate::progress::Progress;
use crate::relabel::{Relabel, TargetLabels, relabel};
use crate::tail::{Command, Line, Stream, StreamLabels};
use crate::targets::stream_labels;

/// What a job says of its containers.
pub(crate) struct DockerJob {
    /// Index of the job.
    pub job: usize,
    /// The engine.
    pub config: DockerSdConfig,
    /// The job's rules.
    pub rules: Vec<Relabel>,
}

/// Finds the containers of one job. [`run`](Self::run) is its one task, which owns those that read over the API.
pub(crate) struct DockerDiscovery {
    job: DockerJob,
    files: SyncSender<Command>,
    positions: Arc<Positions>,
    /// Makes a dispatcher for each container that is read over the API.
    dispatcher: Arc<dyn Fn() -> Dispatcher + Send + Sync>,
}

/// How a container is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    File,
    Api,
    /// To its end; it may be started again.
    Ended,
}

impl DockerDiscovery {
    /// A discovery that hands log files to the reading thread.
    pub(crate) fn new(
        job: DockerJob,
        files: SyncSender<Command>,
        positions: Arc<Positions>,
        dispatcher: Arc<dyn Fn() -> Dispatcher + Send + Sync>,
    ) -> Self {
        Self { job, files, positions, dispatcher }
    }

    /// Lists containers until `stop`. An engine that is away is asked again at the next turn.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        check_host(&self.job.config.host)?;
        let begun = Timestamp::now().nanos() / 1_000_000_000;
        let mut reading: HashMap<String, Reading> = HashMap::new();
        let mut readers: JoinSet<String> = JoinSet::new();
        let mut complained = false;
        loop {
            match self.list().await {
                Ok((docker, containers)) => {
                    complained = false;
                    self.follow(&docker, begun, containers, &mut reading, &mut readers).await;
                }
                Err(error) if !complained => {
                    complained = true;
                    tracing::warn!(
                        host = self.job.config.host,
                        error = format!("{error:#}"),
                        "containers cannot be listed"
                    );
                }
                Err(_) => {}
            }
            let pause = tokio::time::sleep(self.job.config.refresh_interval.get());
            tokio::select! {
                () = pause => {}
                Some(ended) = readers.join_next(), if !readers.is_empty() => {
                    if let Some(state) = ended.ok().and_then(|id| reading.get_mut(&id)) {
                        *state = Reading::Ended;
                    }
                }
                () = stop.cancelled() => break,
            }
        }
        readers.shutdown().await;
        Ok(())
    }

    /// The engine and its containers. It is connected to anew each time: its socket may come and go.
    async fn list(&self) -> Result<(Docker, Vec<ContainerSummary>)> {
        let docker = connect(&self.job.config.host)?;
        let filters: HashMap<String, Vec<String>> =
            self.job.config.filters.iter().map(|f| (f.name.clone(), f.values.clone())).collect();
        // Those that have ended too: a container may live shorter than the pause between two lists.
        let options =
            ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let containers = docker.list_containers(Some(options)).await?;
        Ok((docker, containers))
    }

    /// Starts reading containers that run, that ran since `begun` (seconds since the epoch), or that were being read when the
    /// agent last stopped; lets go of those that ended.
    async fn follow(
        &self,
        docker: &Docker,
        begun: i64,
        containers: Vec<ContainerSummary>,
        reading: &mut HashMap<String, Reading>,
        readers: &mut JoinSet<String>,
    ) {
        let mut gone: Vec<String> = reading.keys().cloned().collect();
        for container in containers {
            let Some(id) = container.id.clone() else { continue };
            gone.retain(|g| *g != id);
            let runs = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            let is_new = container.created.is_some_and(|created| created >= begun);
            let state = reading.get(&id).copied();
            let starts = match state {
                None => runs || is_new || self.positions.knows(&id),
                Some(Reading::Ended) => runs,
                Some(Reading::File | Reading::Api) => false,
            };
            let state = if starts { self.start(docker, &container, &id, readers).await } else { state };
            // The API's stream ends by itself when the engine has sent everything.
            let state = match state {
                Some(Reading::File) if !runs && self.stop(&id) => Some(Reading::Ended),
                state => state,
            };
            reading.extend(state.map(|state| (id, state)));
        }
        for id in gone {
            if reading.get(&id) != Some(&Reading::File) || self.stop(&id) {
                reading.remove(&id);
            }
        }
    }

    /// Starts reading a container; `None` if it is not to be read, or cannot be now.
    async fn start(
        &self,
        docker: &Docker,
        container: &ContainerSummary,
        id: &str,
        readers: &mut JoinSet<String>,
    ) -> Option<Reading> {
        let labels = StreamLabels {
            stdout: self.labels(container, Stream::Stdout),
            stderr: self.labels(container, Stream::Stderr),
        };
        if labels.stdout.is_none() && labels.stderr.is_none() {
            return None;
        }
        match self.log_file(docker, id).await {
            Ok(Some(path)) => {
                let command = Command::Start { key: id.to_owned(), path, job: self.job.job, labels };
                self.files.try_send(command).ok().map(|()| Reading::File)
            }
            Ok(None) => {
                let reader = ApiReader {
                    docker: docker.clone(),
                    container: id.to_owned(),
                    job: self.job.job,
                    labels,
                    progress: self.positions.open_cursor(id),
                    dispatcher: (self.dispatcher)(),
                };
                readers.spawn(reader.run());
                Some(Reading::Api)
            }
            Err(error) => {
                tracing::debug!(container = id, error = format!("{error:#}"), "container went away");
                None
            }
        }
    }

    /// Tells the reading thread that a container's file is complete.
    fn stop(&self, id: &str) -> bool {
        self.files.try_send(Command::Stop { key: id.to_owned() }).is_ok()
    }

    /// The container's log file, if it is one of Docker's JSON files that this process can read.
    async fn log_file(&self, docker: &Docker, id: &str) -> Result<Option<PathBuf>> {
        let details = docker.inspect_container(id, None).await?;
        let driver = details.host_config.and_then(|h| h.log_config).and_then(|l| l.typ);
        let path = details.log_path.map(PathBuf::from);
        let readable = |path: &PathBuf| std::fs::File::open(path).is_ok();
        Ok(path.filter(|path| driver.as_deref() == Some("json-file") && readable(path)))
    }

    /// Labels of one of the container's outputs; `None` if relabelling drops it.
    fn labels(&self, container: &ContainerSummary, stream: Stream) -> Option<Labels> {
        let labels = relabel(&self.job.rules, meta_labels(container, stream))?;
        Some(stream_labels(&labels))
    }
}

/// The `__meta_docker_*` labels of one output of a container.
fn meta_labels(container: &ContainerSummary, stream: Stream) -> TargetLabels {
    let mut labels = BTreeMap::new();
    let mut set = |name: String, value: &str| {
        labels.insert(format!("__meta_docker_{name}"), value.to_owned());
    };
    set("container_id".into(), container.id.as_deref().unwrap_or_default());
    let name = container.names.iter().flatten().next();
    set("container_name".into(), name.map_or("", String::as_str));
    set("container_log_stream".into(), stream.as_str());
    let mode = container.host_config.as_ref().and_then(|h| h.network_mode.as_deref());
    set("container_network_mode".into(), mode.unwrap_or_default());
    for (key, value) in container.labels.iter().flatten() {
        set(format!("container_label_{}", sanitize(key)), value);
    }
    let networks = container.network_settings.iter().flat_map(|n| &n.networks).flatten();
    if let Some((name, network)) = networks.min_by_key(|(name, _)| (*name).clone()) {
        set("network_name".into(), name);
        set("network_id".into(), network.network_id.as_deref().unwrap_or_default());
        set("network_ip".into(), &network.ip_address.as_ref().map(ToString::to_string).unwrap_or_default());
    }
    labels
}

fn check_host(host: &str) -> Result<()> {
    match host.split_once("://") {
        Some(("unix", path)) if Path::new(path).is_absolute() => Ok(()),
        Some(("tcp" | "http", _)) => Ok(()),
        _ => Err(anyhow!(
            "host '{host}': write unix:///var/run/docker.sock, tcp://host:port or http://host:port"
        )),
    }
}

fn connect(host: &str) -> Result<Docker> {
    const TIMEOUT_SECONDS: u64 = 120;
    let version = bollard::API_DEFAULT_VERSION;
    match host.strip_prefix("unix://") {
        Some(path) => Docker::connect_with_unix(path, TIMEOUT_SECONDS, version),
        None => Docker::connect_with_http(host, TIMEOUT_SECONDS, version),
    }
    .with_context(|| host.to_owned())
}

/// Reads one container over the engine's API.
struct ApiReader {
    docker: Docker,
    container: String,
    job: usize,
    labels: StreamLabels,
    /// Its offset is the time of the last acknowledged line, ns since the epoch.
    progress: Arc<Progress>,
    dispatcher: Dispatcher,
}

impl ApiReader {
    /// Follows the container's output until it ends; returns the container's id.
    async fn run(mut self) -> String {
        let since = self.progress.acknowledged();
        let options = LogsOptions {
            follow: true,
            stdout: true,
            stderr: true,
            timestamps: true,
            since: i32::try_from(since / 1_000_000_000).unwrap_or(0),
            ..LogsOptions::default()
        };
        tracing::info!(container = self.container, "reading container over the engine's API");
        let docker = self.docker.clone();
        let mut output = std::pin::pin!(docker.logs(&self.container, Some(options)));
        // Per output: time and text of a message whose end has not come yet.
        let mut partial: [Option<(Timestamp, String)>; 2] = [None, None];
        loop {
            let (stream, message) = match output.next().await {
                Some(Ok(bollard::container::LogOutput::StdErr { message })) => (Stream::Stderr, message),
                Some(Ok(other)) => (Stream::Stdout, other.into_bytes()),
                Some(Err(error)) => {
                    tracing::debug!(container = self.container, %error, "output ended");
                    break;
                }
                None => break,
            };
            let text = String::from_utf8_lossy(&message);
            let Some((time, text)) = split_time(&text) else { continue };
            let slot = &mut partial[usize::from(stream == Stream::Stderr)];
            let (time, mut line) = match slot.take() {
                // Parts of one message carry the same time.
                Some((first, begun)) if first == time => (first, begun + text),
                Some((first, begun)) => {
                    self.emit(stream, first, begun, since).await;
                    (time, text.to_owned())
                }
                None => (time, text.to_owned()),
            };
            if line.ends_with('\n') {
                line.truncate(line.trim_end_matches(['\r', '\n']).len());
                self.emit(stream, time, line, since).await;
            } else {
                *slot = Some((time, line));
            }
        }
        for (slot, stream) in partial.into_iter().zip([Stream::Stdout, Stream::Stderr]) {
            if let Some((time, line)) = slot {
                self.emit(stream, time, line, since).await;
            }
        }
        self.container
    }

    async fn emit(&mut self, stream: Stream, time: Timestamp, text: String, since: u64) {
        let nanos = u64::try_from(time.nanos()).unwrap_or(0);
        // The API counts in whole seconds, so the last second comes again.
        if nanos <= since {
            return;
        }
        self.dispatcher.room().await;
        let ticket = self.progress.open(nanos);
        let labels = match stream {
            Stream::Stdout => self.labels.stdout.clone(),
            Stream::Stderr => self.labels.stderr.clone(),
        };
        if let Some(labels) = labels {
            let line = Line { text, stream: Some(stream), time: Some(time) };
            self.dispatcher.note_container_line();
            self.dispatcher.dispatch(self.job, line, &labels, Some(&ticket));
        }
        ticket.done(1);
    }
}

/// `2024-01-02T03:04:05.123456789Z text` into its two parts.
fn split_time(text: &str) -> Option<(Timestamp, &str)> {
    let (time, rest) = text.split_once(' ')?;
    let layout = model::gotime::Layout::named("RFC3339Nano")?;
    Some((layout.read(time, &model::gotime::Zone::utc()).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_labels_of_a_container() {
        let container = ContainerSummary {
            id: Some("abc".into()),
            names: Some(vec!["/web-1".into()]),
            labels: Some(HashMap::from([("com.docker.compose.service".into(), "web".into())])),
            ..ContainerSummary::default()
        };
        let labels = meta_labels(&container, Stream::Stderr);
        assert_eq!(labels["__meta_docker_container_name"], "/web-1");
        assert_eq!(labels["__meta_docker_container_label_com_docker_compose_service"], "web");
        assert_eq!(labels["__meta_docker_container_log_stream"], "stderr");
    }

    #[test]
    fn time_in_front_of_a_line() {
        let (time, text) = split_time("2024-01-02T03:04:05.5Z hello world\n").unwrap();
        assert_eq!((time.to_string().as_str(), text), ("2024-01-02T03:04:05.5Z", "hello world\n"));
        assert!(split_time("nonsense").is_none());
    }
}
