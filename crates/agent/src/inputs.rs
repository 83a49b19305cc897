//! Where the lines of one configuration come from: the reading thread, the discoveries, and the targets that receive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, anyhow};
use service::config::ByteSize;

use crate::board::{Board, Found, Target};
use crate::config::{Config, ScrapeConfig, StartAt};
use crate::discovery::{
    Announce, DockerDiscovery, DockerJob, FileDiscovery, FileJob, FileTarget, KubernetesDiscovery, NotRead,
    group,
};
use crate::outlets::{Outlets, Reader, World};
use crate::pipeline::begins_with_docker;
use crate::positions::Positions;
use crate::spool::{SpoolReader, Spools};
use crate::tail::{Encoding, Poller, PollerOptions, Reading};
use crate::targets::{Inlets, Way, listeners};
use crate::tasks::Tasks;

/// Commands from discovery that may wait for the reading thread.
const COMMANDS: usize = 1024;
/// Bytes after which a line is cut in reading, unless longer ones are configured.
const MAX_LINE: ByteSize = ByteSize::mib(1);

/// A target that receives. It stays through a reload that leaves its configuration as it is.
pub(crate) struct Listener {
    kind: &'static str,
    inlets: Inlets,
    tasks: Tasks,
    address: String,
}

/// Listeners by their job and configuration.
pub(crate) type Listeners = BTreeMap<String, Listener>;

/// Everything that reads.
#[derive(Default)]
pub(crate) struct Inputs {
    tasks: Tasks,
    listeners: Listeners,
}

impl Inputs {
    /// Prepares everything: opens, binds, starts nothing. What is found goes to `board`. Listeners of `kept` are taken over where
    /// the configuration has them; `outlets` must be where they lead by now.
    pub(crate) fn build(
        config: &Config,
        world: &World,
        outlets: &Outlets,
        positions: &Arc<Positions>,
        spools: &Spools,
        board: &Board,
        kept: &mut Listeners,
    ) -> Result<Self> {
        let mut inputs = Self::default();
        for (i, reader) in outlets.readers.iter().enumerate() {
            let positions = Arc::new(positions.for_client(&reader.client));
            // What all readers find is shown once.
            let aside = Board::default();
            inputs.reader(config, reader, &positions, if i == 0 { board } else { &aside })?;
            inputs.spooled(config, reader, spools);
        }
        for (job, (scrape, way)) in config.scrape_configs.iter().zip(&outlets.ways).enumerate() {
            let place = || format!("scrape_configs[{job}]");
            inputs
                .listeners(scrape, &spooled(way, scrape, spools), world, board, kept)
                .with_context(place)?;
        }
        Ok(inputs)
    }

    /// What reads for one client: all that can be read more than once.
    fn reader(
        &mut self,
        config: &Config,
        reader: &Reader,
        positions: &Arc<Positions>,
        board: &Board,
    ) -> Result<()> {
        let inputs = self;
        let world = &reader.world;
        let named = |name: String| match reader.client.as_str() {
            "" => name,
            client => format!("{name} for {client}"),
        };
        let (commands, received) = sync_channel(COMMANDS);
        let mut targets: Vec<FileTarget> = Vec::new();
        for (job, (scrape, way)) in config.scrape_configs.iter().zip(&reader.ways).enumerate() {
            let place = || format!("scrape_configs[{job}]");
            let docker = begins_with_docker(&scrape.pipeline_stages);
            let files = |kind, part: usize| FileJob {
                job,
                rules: way.rules.to_vec(),
                docker,
                notes: board.notes(job, kind, part.to_string()),
            };
            for target in static_targets(&files("static_configs", 0), scrape, world).with_context(place)? {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
            for (i, sd) in scrape.file_sd_configs.iter().enumerate() {
                let name = named(format!("agent/{}/file-{i}", scrape.job_name));
                let announce = Announce::new(&name, commands.clone());
                let metrics = world.target_metrics.clone();
                let discovery = FileDiscovery::new(files("file_sd_configs", i), sd, announce, metrics);
                let discovery = discovery.map_err(|e| anyhow!(e)).with_context(place)?;
                inputs.tasks.task(name, move |stop| discovery.run(stop));
            }
            for (i, sd) in scrape.kubernetes_sd_configs.iter().enumerate() {
                let name = named(format!("agent/{}/kubernetes-{i}", scrape.job_name));
                let announce = Announce::new(&name, commands.clone());
                let metrics = world.target_metrics.clone();
                let job = files("kubernetes_sd_configs", i);
                let discovery = KubernetesDiscovery::new(job, sd, announce, metrics);
                let discovery = discovery.context("kubernetes_sd_configs").with_context(place)?;
                inputs.tasks.task(name, move |stop| discovery.run(stop));
            }
            for (i, sd) in scrape.docker_sd_configs.iter().enumerate() {
                let notes = board.notes(job, "docker_sd_configs", i.to_string());
                let docker = DockerJob { job, config: sd.clone(), rules: way.rules.to_vec(), notes };
                let discovery =
                    DockerDiscovery::new(docker, commands.clone(), positions.clone(), way.dispatcher.clone());
                let name = named(format!("agent/{}/docker-{i}", scrape.job_name));
                inputs.tasks.task(name, move |stop| discovery.run(stop));
            }
            inputs.journal(scrape, way, world, positions, board).with_context(place)?;
        }
        drop(commands);
        if let Some(way) = reader.ways.first() {
            let (watching, files) = (&config.global.file_watch_config, &config.target_config);
            let options = PollerOptions {
                poll: (watching.min_poll_frequency.get(), watching.max_poll_frequency.get()),
                from_end: files.start_at == StartAt::End,
                ignore_older: Some(files.ignore_older.get()).filter(|most| !most.is_zero()),
                sync_period: config.target_config.sync_period.get(),
                max_line: config.limits_config.max_line_size.max(MAX_LINE).as_usize(),
                readers: config.all_clients().len(),
                jobs: config.scrape_configs.iter().map(reading).collect(),
                metrics: world.metrics.clone(),
            };
            let dispatcher = (way.dispatcher)();
            let poller = Poller::new(options, targets, received, positions.clone(), dispatcher);
            inputs.tasks.thread(named("agent/tail".to_owned()), move |stop| {
                poller.run(&stop);
                Ok(())
            });
        }
        Ok(())
    }

    /// What reads the spools of all jobs for one client.
    fn spooled(&mut self, config: &Config, reader: &Reader, spools: &Spools) {
        for (scrape, way) in config.scrape_configs.iter().zip(&reader.ways) {
            let Some(spool) = spools.of(&scrape.job_name) else { continue };
            let inlet = Inlets::new(way.clone(), reader.world.target_metrics.clone()).open();
            let client = reader.client.clone();
            self.tasks.task(format!("agent/{}/spool for {client}", scrape.job_name), move |stop| {
                SpoolReader::run(spool, client, inlet, stop)
            });
        }
    }

    fn journal(
        &mut self,
        scrape: &ScrapeConfig,
        way: &Way,
        world: &World,
        positions: &Arc<Positions>,
        board: &Board,
    ) -> Result<()> {
        let Some(config) = &scrape.journal else { return Ok(()) };
        let cursor = positions.open_journal(&scrape.job_name);
        let inlets = Inlets::new(way.clone(), world.target_metrics.clone());
        let target = crate::targets::JournalTarget::new(config, cursor, inlets)?;
        let labels = config.labels.clone();
        let found =
            Found { discovered: labels, result: Ok(Target::Inlet("the journal of this host".to_owned())) };
        board.notes(way.job, "journal", "").all([found]);
        self.tasks.task(format!("agent/{}/journal", scrape.job_name), move |stop| target.run(stop));
        Ok(())
    }

    fn listeners(
        &mut self,
        scrape: &ScrapeConfig,
        way: &Way,
        world: &World,
        board: &Board,
        kept: &mut Listeners,
    ) -> Result<()> {
        for (key, bind) in listeners(scrape) {
            let listener = match kept.remove(&key) {
                Some(listener) => listener,
                None => {
                    let inlets = Inlets::new(way.clone(), world.target_metrics.clone());
                    let mut tasks = Tasks::default();
                    let (kind, address) = bind.bind(&scrape.job_name, inlets.clone(), &mut tasks)?;
                    Listener { kind, inlets, tasks, address }
                }
            };
            let spool = way.spool.as_ref().map(|spool| format!(", spooled in {}", spool.dir().display()));
            let result = Ok(Target::Inlet(listener.address.clone() + &spool.unwrap_or_default()));
            let found = Found { discovered: bind.labels(), result };
            board.notes(way.job, listener.kind, "").all([found]);
            self.listeners.insert(key, listener);
        }
        Ok(())
    }

    /// Takes over listeners that nothing else has taken.
    pub(crate) fn keep(&mut self, listeners: Listeners) {
        self.listeners.extend(listeners);
    }

    /// Begins to read.
    pub(crate) fn start(&mut self) {
        self.tasks.start();
        self.listeners.values_mut().for_each(|listener| listener.tasks.start());
    }

    /// Resolves when something has ended that nobody asked to.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let mut all = vec![Box::pin(self.tasks.failed())];
        all.extend(self.listeners.values_mut().map(|listener| Box::pin(listener.tasks.failed())));
        futures::future::select_all(all).await.0
    }

    /// Ends everything but the listeners that `config` has too, and hands those out.
    pub(crate) async fn end(&mut self, next: Option<&Config>) -> (Listeners, Result<()>) {
        let keys: Vec<String> = next
            .into_iter()
            .flat_map(|config| &config.scrape_configs)
            .flat_map(listeners)
            .map(|(key, _)| key)
            .collect();
        let (kept, ends): (Listeners, Listeners) =
            std::mem::take(&mut self.listeners).into_iter().partition(|(key, _)| keys.contains(key));
        let mut ends: Vec<Tasks> = ends.into_values().map(|listener| listener.tasks).collect();
        ends.push(std::mem::take(&mut self.tasks));
        let ended = futures::future::join_all(ends.iter_mut().map(Tasks::end)).await;
        (kept, ended.into_iter().collect())
    }
}

/// Leads listeners that stay to where a new configuration wants them.
pub(crate) fn lead(kept: &Listeners, config: &Config, outlets: &Outlets, spools: &Spools) {
    for (scrape, way) in config.scrape_configs.iter().zip(&outlets.ways) {
        for (key, _) in listeners(scrape) {
            if let Some(listener) = kept.get(&key) {
                listener.inlets.lead(spooled(way, scrape, spools));
            }
        }
    }
}

/// The way of a job whose lines lie in its spool, if it has one.
fn spooled(way: &Way, scrape: &ScrapeConfig, spools: &Spools) -> Way {
    Way { spool: spools.of(&scrape.job_name), ..way.clone() }
}

/// How the files of a job are read.
fn reading(scrape: &ScrapeConfig) -> Reading {
    // A name that is none was reported when the configuration was checked.
    let encoding = Encoding::named(&scrape.encoding).unwrap_or_default();
    Reading { encoding, decompression: scrape.decompression.clone() }
}

/// The targets that the configuration itself names.
fn static_targets(files: &FileJob, scrape: &ScrapeConfig, world: &World) -> Result<Vec<FileTarget>> {
    let mut problem = None;
    let labels = scrape.static_configs.iter().flat_map(group);
    let targets = files.targets(labels, |not_read| match not_read {
        NotRead::Dropped(_) | NotRead::WrongHost => world.target_metrics.failed(not_read.reason()),
        wrong => problem = Some(wrong.clone()),
    });
    match problem {
        Some(problem) => Err(anyhow!(problem)).context("static_configs"),
        None => Ok(targets),
    }
}
