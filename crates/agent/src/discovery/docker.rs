//! `docker_sd_configs`: containers of an engine, read from their log files where these can be
//! reached, and over the engine's API where not.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Result, anyhow};
use bollard::Docker;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use model::{Labels, Timestamp};
use service::CancellationToken;
use tokio::task::JoinSet;

use super::container::ApiReader;
use super::{Host, NotRead, sanitize};
use crate::board::{Found, Notes, Target};
use crate::config::DockerSdConfig;
use crate::dispatch::Dispatcher;
use crate::positions::Positions;
use crate::progress::Progress;
use crate::relabel::{Relabel, TargetLabels, relabel, trace};
use crate::tail::{Command, Stream, StreamLabels};
use crate::targets::stream_labels;

/// What a job says of its containers.
pub(crate) struct DockerJob {
    /// Index of the job.
    pub job: usize,
    /// The engine.
    pub config: DockerSdConfig,
    /// The job's rules.
    pub rules: Vec<Relabel>,
    /// Where it is told what was found.
    pub notes: Notes,
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

/// What is read.
#[derive(Default)]
struct Readings {
    /// By container.
    states: HashMap<String, Reading>,
    /// How far those are that are, or were, read over the API.
    progress: HashMap<String, Arc<Progress>>,
    /// Each gives back the id of its container.
    readers: JoinSet<String>,
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
        let host: Host = self.job.config.host.parse().map_err(|problem: String| anyhow!("host {problem}"))?;
        let now = Timestamp::now().nanos() / 1_000_000_000;
        // What was not listed yet when positions were saved is not known.
        let listed = i64::try_from(self.job.config.refresh_interval.get().as_secs()).unwrap_or(MAX_ABSENCE);
        let saved =
            self.positions.saved_at().map(|saved| saved.saturating_sub(listed).saturating_sub(MAX_DELAY));
        let begun = saved.map_or(now, |saved| saved.clamp(now - MAX_ABSENCE, now));
        let mut reading = Readings::default();
        let mut complained = false;
        // What happens to containers is told while the engine is there; lists are what counts.
        let (mut events, mut listens) = (futures::stream::pending().boxed(), false);
        loop {
            match self.list(&host).await {
                Ok((docker, containers)) => {
                    complained = false;
                    if !listens {
                        (events, listens) = (happenings(&docker), true);
                    }
                    self.follow((&docker, &host), begun, containers, &mut reading).await;
                }
                Err(error) if !complained => {
                    complained = true;
                    self.job.notes.failing(format!("containers cannot be listed: {error:#}"));
                    tracing::warn!(
                        host = self.job.config.host,
                        error = format!("{error:#}"),
                        "containers cannot be listed"
                    );
                }
                Err(_) => {}
            }
            let pause = tokio::time::sleep(self.job.config.refresh_interval.get());
            let is_early = tokio::select! {
                () = pause => false,
                Some(ended) = reading.readers.join_next(), if !reading.readers.is_empty() => {
                    if let Some(state) = ended.ok().and_then(|id| reading.states.get_mut(&id)) {
                        *state = Reading::Ended;
                    }
                    true
                }
                happened = events.next() => {
                    if happened.is_none() {
                        // The engine went away, or is too old to tell.
                        (events, listens) = (futures::stream::pending().boxed(), false);
                    }
                    true
                }
                () = stop.cancelled() => break,
            };
            if is_early {
                // Containers come and go in numbers, and an engine that went away takes a while to come back.
                tokio::select! {
                    () = tokio::time::sleep(GATHER) => {}
                    () = stop.cancelled() => break,
                }
                while events.next().now_or_never().flatten().is_some() {}
            }
        }
        reading.readers.shutdown().await;
        Ok(())
    }

    /// The engine and its containers. It is connected to anew each time: its socket may come and go.
    async fn list(&self, host: &Host) -> Result<(Docker, Vec<ContainerSummary>)> {
        let docker = host.connect()?;
        let filters: HashMap<String, Vec<String>> =
            self.job.config.filters.iter().map(|f| (f.name.clone(), f.values.clone())).collect();
        // Those that have ended too: a container may live shorter than the pause between two lists.
        let options =
            ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let containers = docker.list_containers(Some(options)).await?;
        Ok((docker, containers))
    }

    /// Starts reading containers that run, that were made since `begun` (seconds since the epoch), or that were being read when
    /// the agent last stopped; lets go of those that ended.
    async fn follow(
        &self,
        engine: (&Docker, &Host),
        begun: i64,
        containers: Vec<ContainerSummary>,
        reading: &mut Readings,
    ) {
        self.job.notes.retain(|id| containers.iter().any(|c| c.id.as_deref() == Some(id)));
        let mut gone: Vec<String> = reading.states.keys().cloned().collect();
        for container in containers {
            let Some(id) = container.id.clone() else { continue };
            gone.retain(|g| *g != id);
            let runs = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            // Until it is started it has no log file, and nobody knows whether it will be within reach.
            let is_started = container.state != Some(ContainerSummaryStateEnum::CREATED);
            let is_new = container.created.is_some_and(|created| created >= begun);
            let state = reading.states.get(&id).copied();
            let starts = match state {
                None => is_started && (runs || is_new || self.positions.knows(&id)),
                Some(Reading::Ended) => runs,
                Some(Reading::File | Reading::Api) => false,
            };
            let state = if starts { self.start(engine, &container, &id, reading).await } else { state };
            // The API's stream ends by itself when the engine has sent everything.
            let state = match state {
                Some(Reading::File) if !runs && self.stop(&id) => Some(Reading::Ended),
                state => state,
            };
            reading.states.extend(state.map(|state| (id, state)));
        }
        for id in gone {
            if reading.states.get(&id) != Some(&Reading::File) || self.stop(&id) {
                reading.states.remove(&id);
                reading.progress.remove(&id);
            }
        }
    }

    /// Starts reading a container; `None` if it is not to be read, or cannot be now.
    async fn start(
        &self,
        (docker, host): (&Docker, &Host),
        container: &ContainerSummary,
        id: &str,
        reading: &mut Readings,
    ) -> Option<Reading> {
        let labels = StreamLabels {
            stdout: self.labels(container, Stream::Stdout),
            stderr: self.labels(container, Stream::Stderr),
        };
        let discovered = meta_labels(container, Stream::Stdout);
        let result = trace(&self.job.rules, discovered.clone()).map_err(NotRead::Dropped);
        let result = match labels.stderr.is_some() {
            true => Ok(Target::Container(labels.clone())),
            false => result.map(|_| Target::Container(labels.clone())),
        };
        self.job.notes.set(id, Found { discovered, result });
        if labels.stdout.is_none() && labels.stderr.is_none() {
            return None;
        }
        match self.log_file(docker, id).await {
            Ok((Some(path), _)) => {
                let command = Command::Start { key: id.to_owned(), path, job: self.job.job, labels };
                self.files.try_send(command).ok().map(|()| Reading::File)
            }
            Ok((None, has_terminal)) => {
                // What was read before and is on its way is not read again.
                let progress = reading.progress.entry(id.to_owned());
                let progress =
                    progress.or_insert_with(|| self.positions.open_container(id, self.job.job)).clone();
                let reader = ApiReader {
                    docker: docker.clone(),
                    host: host.clone(),
                    container: id.to_owned(),
                    has_terminal,
                    job: self.job.job,
                    labels,
                    progress,
                    positions: self.positions.clone(),
                    dispatcher: (self.dispatcher)(),
                };
                reading.readers.spawn(reader.run());
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

    /// The container's log file, if it is one of Docker's JSON files that this process can read; whether it has a terminal.
    async fn log_file(&self, docker: &Docker, id: &str) -> Result<(Option<PathBuf>, bool)> {
        let details = docker.inspect_container(id, None).await?;
        let has_terminal = details.config.as_ref().and_then(|config| config.tty) == Some(true);
        let driver = details.host_config.and_then(|h| h.log_config).and_then(|l| l.typ);
        let path = details.log_path.map(PathBuf::from);
        let readable = |path: &PathBuf| std::fs::File::open(path).is_ok();
        let path = path.filter(|path| driver.as_deref() == Some("json-file") && readable(path));
        Ok((path, has_terminal))
    }

    /// Labels of one of the container's outputs; `None` if relabelling drops it.
    fn labels(&self, container: &ContainerSummary, stream: Stream) -> Option<Labels> {
        let labels = relabel(&self.job.rules, meta_labels(container, stream))?;
        Some(stream_labels(&labels))
    }
}

/// Containers that ended while nobody looked are read if they are not older, seconds. Well below the time for which it is remembered what
/// was read of them.
const MAX_ABSENCE: i64 = 12 * 3600;

/// A list, and the start of reading what is in it, may take so long, seconds.
const MAX_DELAY: i64 = 60;

/// Gathers what happens to containers before they are listed again.
const GATHER: Duration = Duration::from_millis(500);

/// Tells whenever a container begins or ends, as long as the engine is there.
fn happenings(docker: &Docker) -> BoxStream<'static, ()> {
    let actions = ["start", "restart", "die", "destroy"].map(str::to_owned).to_vec();
    let filters =
        HashMap::from([("type".to_owned(), vec!["container".to_owned()]), ("event".to_owned(), actions)]);
    let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
    docker.events(Some(options)).take_while(|event| std::future::ready(event.is_ok())).map(|_| ()).boxed()
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
}
