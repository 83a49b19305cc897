//! `docker_sd_configs`: containers of an engine, read from their log files where these can be
//! reached, and over the engine's API where not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Result;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Fuse};
use model::{Labels, Timestamp};
use service::CancellationToken;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::NotRead;
use super::container::{ApiReader, Outcome};
use super::container_labels::{Networks, of_stream, targets};
use super::docker_config::DockerSdConfig;
use super::engine::{Container, Engine, Event, Events};
use super::newcomers::{Lookout, Newcomers, Ready};
use crate::board::{Found, Notes, Target};
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
    /// Its output is kept from everybody until it is started again, for what its driver can do.
    Unreadable,
}

/// What is read.
#[derive(Default)]
struct Readings {
    /// By container.
    states: HashMap<String, Reading>,
    /// How far those are that are, or were, read over the API.
    progress: HashMap<String, Arc<Progress>>,
    /// Tells those that are read over the API that they have ended.
    ends: HashMap<String, CancellationToken>,
    /// Each gives back the id of its container.
    readers: JoinSet<(String, Outcome)>,
    newcomers: Newcomers,
    /// As they were last listed.
    containers: Vec<Container>,
    networks: Networks,
}

impl Readings {
    /// One that read over the API has ended; how soon its container is looked at again.
    fn ended(&mut self, id: &str, outcome: Outcome) -> Option<Duration> {
        self.ends.remove(id);
        let (state, pause) = match outcome {
            Outcome::Complete => (Some(Reading::Ended), None),
            Outcome::Unreadable => (Some(Reading::Unreadable), None),
            // It is begun again where it was left.
            Outcome::GoesOn => (None, Some(GATHER)),
            Outcome::Broken => (None, Some(AGAIN)),
        };
        self.states.remove(id);
        self.states.extend(state.map(|state| (id.to_owned(), state)));
        pause
    }
}

/// One answer of the engine: the way to it, its containers and networks, and what happens from now on, if that was asked for.
type Listed = (Lookout, Vec<Container>, Networks, Option<Events>);

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

    /// Lists containers, and follows what happens to them, until `stop`. An engine that is away is asked again at the next turn.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        let now = Timestamp::now().nanos() / 1_000_000_000;
        // What was not listed yet when positions were saved is not known.
        let refresh = self.job.config.refresh_interval.get();
        let listed = i64::try_from(refresh.as_secs()).unwrap_or(MAX_ABSENCE);
        let saved =
            self.positions.saved_at().map(|saved| saved.saturating_sub(listed).saturating_sub(MAX_DELAY));
        let begun = saved.map_or(now, |saved| saved.clamp(now - MAX_ABSENCE, now));
        let mut reading = Readings::default();
        let mut lookout: Option<Lookout> = None;
        let mut events: Option<Events> = None;
        let mut complained = false;
        let mut list_at = Instant::now();
        let mut listing: Fuse<BoxFuture<'_, Result<Listed>>> = Fuse::terminated();
        let mut is_listing = false;
        loop {
            let soon = |at: Instant| at.min(Instant::now() + GATHER);
            tokio::select! {
                () = tokio::time::sleep_until(list_at), if !is_listing => {
                    listing = self.list(lookout.clone(), events.is_none()).boxed().fuse();
                    (is_listing, list_at) = (true, Instant::now() + refresh);
                }
                listed = &mut listing, if is_listing => {
                    is_listing = false;
                    match listed {
                        Ok((way, containers, networks, happens)) => {
                            complained = false;
                            events = happens.or(events);
                            reading.networks = networks;
                            self.follow(&way, begun, containers, &mut reading);
                            lookout = Some(way);
                        }
                        Err(error) => {
                            // Certificates may have been renewed, and the engine may be another one when it is back.
                            (lookout, events) = (None, None);
                            if !std::mem::replace(&mut complained, true) {
                                self.complain(&error);
                            }
                        }
                    }
                }
                event = next_of(&mut events) => match event {
                    Some(event) => {
                        if let Some(lookout) = &lookout {
                            self.happened(&event, lookout, &mut reading);
                        }
                        list_at = soon(list_at);
                    }
                    None => {
                        // The engine went away, or is too old to tell. Lists are what counts.
                        events = None;
                        list_at = soon(list_at);
                    }
                },
                ready = reading.newcomers.next() => {
                    if let (Some(ready), Some(lookout)) = (ready, &lookout) {
                        let has_ended = !ready.container.runs();
                        self.start(lookout, ready, &mut reading);
                        if has_ended {
                            list_at = soon(list_at);
                        }
                    }
                }
                Some(ended) = reading.readers.join_next(), if !reading.readers.is_empty() => {
                    let pause = ended.ok().and_then(|(id, outcome)| reading.ended(&id, outcome));
                    list_at = list_at.min(Instant::now() + pause.unwrap_or(refresh));
                }
                () = stop.cancelled() => break,
            }
        }
        reading.newcomers.shutdown().await;
        reading.readers.shutdown().await;
        Ok(())
    }

    fn complain(&self, error: &anyhow::Error) {
        self.job.notes.failing(format!("containers cannot be listed: {error:#}"));
        tracing::warn!(
            host = self.job.config.host,
            error = format!("{error:#}"),
            "containers cannot be listed"
        );
    }

    /// Containers and networks, and from before they were listed on what happens to them, if `listens`.
    async fn list(&self, known: Option<Lookout>, listens: bool) -> Result<Listed> {
        let lookout = match known {
            Some(lookout) => lookout,
            None => {
                let engine = Engine::new(&self.job.config)?;
                let root = engine.root().await.ok();
                Lookout::new(engine, self.job.config.by_filter(), root)
            }
        };
        let events = match listens {
            true => lookout.engine.events().await.ok(),
            false => None,
        };
        // Those that have ended too: a container may live shorter than the pause between two lists.
        let containers = lookout.engine.containers(&lookout.filters).await?;
        // Proxies in front of engines may not let them be seen.
        let networks = lookout.engine.networks().await.unwrap_or_default();
        let networks = networks.into_iter().map(|network| (network.id.clone(), network)).collect();
        Ok((lookout, containers, networks, events))
    }

    /// Something happened to a container; the next list tells the rest.
    fn happened(&self, event: &Event, lookout: &Lookout, reading: &mut Readings) {
        let id = &event.container;
        match (event.action.as_str(), reading.states.get(id)) {
            ("create", None) => reading.newcomers.made(id, lookout),
            // Its start is under way, and until that is done the engine makes who asks for the output wait. Who has asked by then is
            // answered, however soon it ends.
            ("connect", None) if !lookout.reaches(id) => reading.newcomers.started(id, None, lookout),
            ("start", None | Some(Reading::Ended | Reading::Unreadable)) => {
                reading.newcomers.started(id, None, lookout)
            }
            ("die", Some(Reading::Api)) => {
                if let Some(end) = reading.ends.get(id) {
                    end.cancel();
                }
            }
            _ => {}
        }
    }

    /// Starts reading containers that run, that were made since `begun` (seconds since the epoch), or that were being read when
    /// the agent last stopped; lets go of those that ended.
    fn follow(&self, lookout: &Lookout, begun: i64, containers: Vec<Container>, reading: &mut Readings) {
        self.job.notes.retain(|id| containers.iter().any(|c| c.id == id));
        reading.newcomers.forget();
        // Who asks for those that ended wants them read.
        let by_status = lookout.filters.contains_key("status");
        let mut gone: Vec<String> = reading.states.keys().cloned().collect();
        for container in &containers {
            let (id, runs) = (&container.id, container.runs());
            gone.retain(|g| g != id);
            let is_wanted = || by_status || container.created >= begun || self.positions.knows(id);
            let starts = match reading.states.get(id) {
                // Until it is started it has no log file, and nobody knows whether it will be within reach.
                None => container.is_started() && (runs || is_wanted()),
                Some(Reading::Ended) => runs,
                Some(Reading::File) => {
                    if !runs && self.stop(id) {
                        reading.states.insert(id.clone(), Reading::Ended);
                    }
                    false
                }
                // Its stream ends by itself when the engine has sent everything.
                Some(Reading::Api | Reading::Unreadable) => false,
            };
            if starts && !reading.newcomers.expects(id) {
                reading.newcomers.started(id, Some(container.clone()), lookout);
            }
        }
        for id in gone {
            match reading.states.get(&id) {
                Some(Reading::File) if !self.stop(&id) => continue,
                // It gives back what it is.
                Some(Reading::Api) => continue,
                _ => {}
            }
            reading.states.remove(&id);
        }
        let is_there =
            |id: &String| reading.states.contains_key(id) || containers.iter().any(|c| c.id == *id);
        reading.progress.retain(|id, _| is_there(id));
        reading.containers = containers;
    }

    /// Starts reading a container, unless it is read or relabelling drops it.
    fn start(&self, lookout: &Lookout, ready: Ready, reading: &mut Readings) {
        let Ready { container, file } = ready;
        let id = container.id.clone();
        if matches!(reading.states.get(&id), Some(Reading::File | Reading::Api)) {
            return;
        }
        let Some(labels) = self.labels(&container, reading) else { return };
        let state = match file {
            Some((path, file)) => {
                let command = Command::Start { key: id.clone(), path, job: self.job.job, labels, file };
                match self.files.try_send(command) {
                    Ok(()) => Reading::File,
                    // The next list brings it again.
                    Err(_) => return,
                }
            }
            None => {
                // What was read before and is on its way is not read again.
                let progress = reading.progress.entry(id.clone());
                let progress =
                    progress.or_insert_with(|| self.positions.open_container(&id, self.job.job)).clone();
                let end = CancellationToken::new();
                let reader = ApiReader {
                    engine: lookout.engine.clone(),
                    container: id.clone(),
                    job: self.job.job,
                    labels,
                    progress,
                    positions: self.positions.clone(),
                    dispatcher: (self.dispatcher)(),
                    end: end.clone(),
                };
                reading.ends.insert(id.clone(), end);
                reading.readers.spawn(reader.run());
                Reading::Api
            }
        };
        reading.states.insert(id, state);
    }

    /// Tells the reading thread that a container's file is complete.
    fn stop(&self, id: &str) -> bool {
        self.files.try_send(Command::Stop { key: id.to_owned() }).is_ok()
    }

    /// Labels of a container's outputs; `None` if relabelling drops all.
    fn labels(&self, container: &Container, reading: &Readings) -> Option<StreamLabels> {
        let rules = &self.job.rules;
        let of = |target: &TargetLabels, stream| -> Option<Labels> {
            relabel(rules, of_stream(target, stream)).map(|labels| stream_labels(&labels))
        };
        let targets = targets(container, &reading.containers, &reading.networks, &self.job.config);
        let found = targets.iter().find_map(|target| {
            let labels =
                StreamLabels { stdout: of(target, Stream::Stdout), stderr: of(target, Stream::Stderr) };
            let is_kept = labels.stdout.is_some() || labels.stderr.is_some();
            is_kept.then(|| (of_stream(target, Stream::Stdout), labels))
        });
        let (discovered, result) = match found {
            Some((discovered, labels)) => (discovered, Ok(labels)),
            None => {
                let discovered = of_stream(targets.first()?, Stream::Stdout);
                let rule = trace(rules, discovered.clone()).err().unwrap_or_default();
                (discovered, Err(NotRead::Dropped(rule)))
            }
        };
        let labels = result.as_ref().ok().cloned();
        let result = result.map(Target::Container);
        self.job.notes.set(&container.id, Found { discovered, result });
        labels
    }
}

/// Never, where nobody tells.
async fn next_of(events: &mut Option<Events>) -> Option<Event> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Containers that ended while nobody looked are read if they are not older, seconds. Well below the time for which it is remembered what
/// was read of them.
const MAX_ABSENCE: i64 = 12 * 3600;

/// A list, and the start of reading what is in it, may take so long, seconds.
const MAX_DELAY: i64 = 60;

/// After so long a container whose output broke off is asked for it again.
const AGAIN: Duration = Duration::from_secs(2);

/// Gathers what happens to containers before they are listed again.
const GATHER: Duration = Duration::from_millis(500);
