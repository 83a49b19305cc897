//! Where the lines of one configuration go: the stages of every job, the limits, and the clients with their queues.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use service::config::Problems;

use crate::board::{ClientState, ClientStatus};
use crate::client::{Destination, LocalStore, Queue, QueueOptions, Remote, Sender};
use crate::config::{ClientConfig, Config, ScrapeConfig};
use crate::dispatch::Dispatcher;
use crate::dry_run::Printer;
use crate::inspect::Inspector;
use crate::limits::{ClientLimits, LineLimits};
use crate::metrics::{AgentMetrics, StageMetrics};
use crate::pipeline::{Pipeline, Watch};
use crate::relabel::Relabel;
use crate::targets::{MakeDispatcher, TargetMetrics, Way};
use crate::tasks::Tasks;

/// What does not change when the configuration does.
#[derive(Clone)]
pub(crate) struct World {
    /// What is counted.
    pub(crate) metrics: AgentMetrics,
    /// What targets count.
    pub(crate) target_metrics: TargetMetrics,
    /// The store of the same process.
    pub(crate) local: Option<Arc<dyn LocalStore>>,
    /// Prints entries rather than sending them, and remembers no position.
    pub(crate) dry_run: bool,
    /// Prints what every stage does.
    pub(crate) inspect: bool,
}

/// One client as the pages show it.
#[derive(Clone)]
pub(crate) struct ClientView {
    /// Its name.
    pub(crate) name: String,
    /// Host and port.
    pub(crate) host: String,
    /// Under which positions are kept of what is read for it.
    pub(crate) reader: String,
    status: Arc<ClientStatus>,
    queue: Arc<Queue>,
}

impl ClientView {
    /// How it fares.
    pub(crate) fn state(&self) -> ClientState {
        self.status.now()
    }

    /// How long the oldest line has waited that the store does not have.
    pub(crate) fn oldest(&self) -> Duration {
        self.queue.oldest()
    }
}

/// What reads for one client, so that the client can stay behind without holding up others.
pub(crate) struct Reader {
    /// Under which name positions are kept for the client; empty if it is the only one.
    pub(crate) client: String,
    /// Names under which they may have been kept before.
    pub(crate) aliases: Vec<String>,
    /// For each job, where its lines go.
    pub(crate) ways: Vec<Way>,
    /// What is counted: what each of several readers does is counted of the first.
    pub(crate) world: World,
}

/// Stages, limits and clients.
pub(crate) struct Outlets {
    /// For each job, where lines go that can be had only once: to all clients.
    pub(crate) ways: Vec<Way>,
    /// Of each client.
    pub(crate) readers: Vec<Reader>,
    /// The clients.
    pub(crate) clients: Vec<ClientView>,
    queues: Vec<Arc<Queue>>,
    senders: Tasks,
}

impl Outlets {
    /// Prepares everything; starts nothing, and touches no file but those that hold keys.
    pub(crate) fn build(config: &Arc<Config>, world: &World) -> Result<Self> {
        check_stages(config)?;
        let (mut queues, mut clients, mut senders) = (Vec::new(), Vec::new(), Tasks::default());
        let mut bounded = Vec::new();
        for (client, destination) in destinations(config, world)? {
            let (host, status) = (destination.host(), Arc::new(ClientStatus::default()));
            let options = QueueOptions::of(&client, host.clone());
            let queue = Arc::new(Queue::new(options, world.metrics.clone()));
            bounded
                .push((client.url.clone(), ClientLimits::new(&config.limits_config, &client, host.clone())));
            clients.push(ClientView {
                name: client.name.clone(),
                host,
                reader: String::new(),
                status: status.clone(),
                queue: queue.clone(),
            });
            let name = format!("agent/client-{}", client.name);
            let sender = Sender::new(queue.clone(), destination, client, world.metrics.clone());
            let patience = config.server.graceful_shutdown_timeout.get() / 2;
            let sender = sender.with_status(status).with_patience(patience);
            senders.task(name, move |stop| async move {
                sender.run(stop).await;
                Ok(())
            });
            queues.push(queue);
        }
        let readers = bounded.iter().zip(&queues).enumerate().map(|(i, (client, queue))| {
            let (metrics, target_metrics) = match i {
                0 => (world.metrics.clone(), world.target_metrics.clone()),
                _ => (world.metrics.apart(), TargetMetrics::default()),
            };
            let world = World { metrics, target_metrics, ..world.clone() };
            let (url, limits) = client;
            let ways = ways(config, &world, std::slice::from_ref(limits), std::slice::from_ref(queue))?;
            let same_url = bounded.iter().filter(|(other, _)| other == url).count();
            let client = match (bounded.len(), same_url) {
                (1, _) => String::new(),
                (_, 1) => url.clone(),
                _ => clients[i].name.clone(),
            };
            let aliases = vec![url.clone(), clients[i].name.clone()];
            Ok(Reader { client, aliases, ways, world })
        });
        let readers: Vec<Reader> = readers.collect::<Result<_>>()?;
        for (view, reader) in clients.iter_mut().zip(&readers) {
            view.reader.clone_from(&reader.client);
        }
        let limits: Vec<_> = bounded.into_iter().map(|(_, limits)| limits).collect();
        let ways = ways(config, world, &limits, &queues)?;
        Ok(Self { ways, readers, clients, queues, senders })
    }

    /// Begins to send.
    pub(crate) fn start(&mut self) {
        self.senders.start();
    }

    /// Resolves when a client has ended that nobody asked to.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        self.senders.failed().await
    }

    /// Sends what is queued, once more if it has to be, and ends. No reader may lead here any more.
    pub(crate) async fn end(&mut self) -> Result<()> {
        self.senders.end().await
    }

    /// Takes over from clients of the same name that have ended what can be had nowhere else: lines that were received, not read.
    /// What comes of files is read again from there.
    pub(crate) fn inherit(&self, old: &Self) {
        for (client, queue) in old.clients.iter().zip(&old.queues) {
            let heir = self.clients.iter().position(|new| new.name == client.name).map(|at| &self.queues[at]);
            let received = queue.take_received();
            let entries: u64 =
                received.iter().flat_map(|batch| batch.streams()).map(|stream| stream.entries).sum();
            match heir {
                Some(heir) => heir.inherit(received),
                None if entries == 0 => {}
                None => {
                    tracing::warn!(
                        client = client.name,
                        entries,
                        "a client is gone with lines that it had not sent"
                    );
                }
            }
        }
    }
}

/// Where the lines of each job go: through its stages and the limits to some clients.
fn ways(
    config: &Arc<Config>,
    world: &World,
    clients: &[Arc<ClientLimits>],
    queues: &[Arc<Queue>],
) -> Result<Vec<Way>> {
    let limits = LineLimits::new(&config.limits_config, clients.to_vec(), world.metrics.clone());
    let limits = Arc::new(limits);
    let dispatcher: MakeDispatcher = {
        let (config, queues, metrics) = (config.clone(), queues.to_vec(), world.metrics.clone());
        let inspector = world.inspect.then(|| Arc::new(Inspector) as Arc<dyn Watch>);
        Arc::new(move || {
            let pipelines = pipelines(&config, &metrics.stages, inspector.as_ref());
            Dispatcher::new(pipelines, queues.clone(), metrics.clone()).with_limits(limits.clone())
        })
    };
    let way = |(job, scrape): (usize, &ScrapeConfig)| {
        let rules = scrape.relabel_configs.iter().map(Relabel::compile).collect::<Result<Vec<_>, _>>();
        let rules = rules.map_err(|e| anyhow!(e)).with_context(|| format!("scrape_configs[{job}]"))?;
        Ok(Way { job, rules: rules.into(), dispatcher: dispatcher.clone(), spool: None })
    };
    config.scrape_configs.iter().enumerate().map(way).collect()
}

/// The configured clients; the store of the process where none is.
fn destinations(config: &Config, world: &World) -> Result<Vec<(ClientConfig, Destination)>> {
    let clients = config.all_clients();
    if world.dry_run {
        let labels = clients.into_iter().next().map(|client| client.external_labels).unwrap_or_default();
        let client = ClientConfig {
            name: "dry-run".to_owned(),
            batchwait: service::config::Duration(Duration::from_millis(100)),
            external_labels: labels,
            ..ClientConfig::default()
        };
        return Ok(vec![(client, Destination::Local(Arc::new(Printer::default())))]);
    }
    let remote = |(i, client): (usize, ClientConfig)| {
        let remote = Remote::new(&client).with_context(|| format!("clients[{i}]"))?;
        Ok((client, Destination::Remote(Box::new(remote))))
    };
    let remotes = clients.into_iter().enumerate().map(remote).collect::<Result<Vec<_>>>()?;
    match (remotes.is_empty(), world.local.clone()) {
        (false, _) => Ok(remotes),
        (true, Some(store)) => {
            let client = ClientConfig { name: "embedded".to_owned(), ..ClientConfig::default() };
            Ok(vec![(client, Destination::Local(store))])
        }
        (true, None) => Err(anyhow!("clients: name at least one, with the url of the store")),
    }
}

/// Compiled stages of every job. What is wrong with them has been reported by [`check_stages`] before.
fn pipelines(config: &Config, metrics: &StageMetrics, watch: Option<&Arc<dyn Watch>>) -> Vec<Pipeline> {
    let compile = |scrape: &ScrapeConfig| {
        let (stages, problems) = (&scrape.pipeline_stages, &mut Problems::default());
        match watch {
            Some(watch) => Pipeline::compile_watched(stages, metrics, problems, watch.clone()),
            None => Pipeline::compile(stages, metrics, problems),
        }
    };
    config.scrape_configs.iter().map(compile).collect()
}

/// Refuses faulty stages: lines that should have been dropped or changed must not pass as they are.
fn check_stages(config: &Config) -> Result<()> {
    // Not the metrics of the process: those may still be what the configuration in force says of them.
    let (metrics, mut problems) = (StageMetrics::default(), Problems::default());
    let compile = |scrape: &ScrapeConfig| Pipeline::compile(&scrape.pipeline_stages, &metrics, &mut problems);
    let _together: Vec<Pipeline> = config.scrape_configs.iter().map(compile).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
}
