//! The running agent: what one configuration comes to, and how another takes its place.
//!
//! A reload validates first. Then readers end, what they have read goes out, positions are saved, and readers of the new
//! configuration begin where the old ones were acknowledged: nothing is lost, and nothing read twice. Listeners that are in both
//! configurations never stop listening. If the new configuration cannot be had after all (a port is taken), the old one is
//! begun again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::RwLock;
use service::CancellationToken;
use tokio::sync::{mpsc, oneshot};

use crate::board::Board;
use crate::config::Config;
use crate::inputs::{self, Inputs, Listeners};
use crate::outlets::{ClientView, Outlets, Reader, World};
use crate::positions::Positions;
use crate::spool::{SpoolClient, Spools};
use crate::tasks::Tasks;

/// Reads the configuration again; the error names every problem.
pub type Reread = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// What is in force now, for pages and `explain`.
#[derive(Clone)]
pub(crate) struct Live {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// What its discoveries have found.
    pub(crate) board: Board,
    /// How far everything is acknowledged.
    pub(crate) positions: Arc<Positions>,
    /// The clients.
    pub(crate) clients: Vec<ClientView>,
}

/// What is in force, as it changes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct InForce(Arc<RwLock<Live>>);

impl std::fmt::Debug for InForce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InForce")
    }
}

impl InForce {
    /// As it is now.
    pub(crate) fn now(&self) -> Live {
        self.0.read().clone()
    }
}

/// Asks the agent to read its configuration again. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reloads(mpsc::Sender<Answer>);

type Answer = Option<oneshot::Sender<Result<(), String>>>;

impl Reloads {
    /// Asks, and waits for what came of it.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let ended = || "the agent is stopping".to_owned();
        let (answer, answered) = oneshot::channel();
        self.0.send(Some(answer)).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Asks. If many have asked already, one more changes nothing.
    pub(crate) fn ask(&self) {
        let _ = self.0.try_send(None);
    }
}

/// The agent, with everything that runs in it.
pub(crate) struct Agent {
    world: World,
    config: Arc<Config>,
    reread: Option<Reread>,
    outlets: Outlets,
    inputs: Inputs,
    /// What listeners took in; stays through reloads.
    spools: Spools,
    /// Saves positions now and then.
    saver: Tasks,
    live: InForce,
    reloads: mpsc::Receiver<Answer>,
}

impl Agent {
    /// Prepares everything that the configuration asks for; starts nothing.
    pub(crate) fn build(
        config: Config,
        world: World,
        reread: Option<Reread>,
    ) -> Result<(Self, InForce, Reloads)> {
        let config = Arc::new(config);
        let outlets = Outlets::build(&config, &world)?;
        let positions = positions(&config, &world)?;
        // Nothing is sent, so nothing may be remembered.
        let positions = if world.dry_run { Arc::new((*positions).clone().unsaved()) } else { positions };
        let board = Board::default();
        let mut spools = match world.dry_run {
            true => Spools::none(),
            false => Spools::new(&config, world.target_metrics.clone()),
        };
        spools.prepare(&config).context("target_config.spool")?;
        let kept = &mut Listeners::default();
        let inputs = Inputs::build(&config, &world, &outlets, &positions, &spools, &board, kept)?;
        let saver = saver(&config, &world, &positions);
        let clients = outlets.clients.clone();
        let live = InForce(Arc::new(RwLock::new(Live { config: config.clone(), board, positions, clients })));
        let (sender, reloads) = mpsc::channel(4);
        let agent =
            Self { world, config, reread, outlets, inputs, spools, saver, live: live.clone(), reloads };
        Ok((agent, live, Reloads(sender)))
    }

    /// Runs until `stop`: then readers end, clients send what they can, and positions are saved.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<()> {
        self.start().await;
        loop {
            let answer = tokio::select! {
                () = stop.cancelled() => break,
                error = self.inputs.failed() => return Err(error),
                error = self.outlets.failed() => return Err(error),
                error = self.saver.failed() => return Err(error),
                error = self.spools.failed() => return Err(error),
                Some(answer) = self.reloads.recv() => answer,
            };
            let result = self.reload().await?;
            if let Some(answer) = answer {
                // Who asked may have gone.
                let _ = answer.send(result);
            }
        }
        let (_, ended) = self.inputs.end(None).await;
        let ended = ended.and(self.outlets.end().await);
        self.spools.end().await;
        ended.and(self.saver.end().await)
    }

    async fn start(&mut self) {
        self.outlets.start();
        self.spools.start();
        self.start_inputs().await;
    }

    /// Begins to read. Before that the spools are told for whom: what they have of others goes, or is taken over.
    async fn start_inputs(&mut self) {
        let client =
            |reader: &Reader| SpoolClient { name: reader.client.clone(), aliases: reader.aliases.clone() };
        let clients: Vec<SpoolClient> = self.outlets.readers.iter().map(client).collect();
        self.spools.settle(&self.config, &clients).await;
        self.inputs.start();
        self.saver.start();
    }

    /// Reads the configuration again and puts it in force; the inner error says why the old one stays. The outer one says that
    /// neither runs.
    async fn reload(&mut self) -> Result<Result<(), String>> {
        let checked = match &self.reread {
            None => Err("this agent was given no file that could be read again".to_owned()),
            Some(reread) => reread().and_then(|config| self.check(&config).map(|()| config)),
        };
        let config = match checked {
            Ok(config) => config,
            Err(problem) => return Ok(self.refused(&problem)),
        };
        if serde_json::to_value(&config.server).ok() != serde_json::to_value(&self.config.server).ok() {
            tracing::warn!("changes of `server` are in force at the next start");
        }
        let old = self.config.clone();
        match self.switch(Arc::new(config)).await {
            Ok(()) => {
                self.world.metrics.reload_success.inc();
                tracing::info!(jobs = self.config.scrape_configs.len(), "configuration reloaded");
                Ok(Ok(()))
            }
            Err(problem) => {
                let problem = format!("{problem:#}");
                self.switch(old).await.context("neither the new configuration runs, nor the old one")?;
                Ok(self.refused(&problem))
            }
        }
    }

    fn refused(&self, problem: &str) -> Result<(), String> {
        self.world.metrics.reload_fail.inc();
        tracing::error!(problem, "configuration not reloaded: the old one stays in force");
        Err(problem.to_owned())
    }

    /// What can be known to be wrong before anything is ended.
    fn check(&self, config: &Config) -> Result<(), String> {
        let text = |error: anyhow::Error| format!("{error:#}");
        Outlets::build(&Arc::new(config.clone()), &self.world).map_err(text)?;
        // Where positions cannot be saved, nobody could go on from them.
        if !self.world.dry_run {
            let saved = self.live.now().positions.save();
            saved.map_err(|error| format!("positions cannot be written, and would be lost: {error:#}"))?;
        }
        Ok(())
    }

    /// Replaces everything but listeners that stay.
    async fn switch(&mut self, config: Arc<Config>) -> Result<()> {
        let outlets = Outlets::build(&config, &self.world)?;
        self.spools.prepare(&config).context("target_config.spool")?;
        self.spools.start();
        let (mut kept, ended) = self.inputs.end(Some(&config)).await;
        if let Err(error) = ended {
            tracing::warn!(error = format!("{error:#}"), "while readers ended");
        }
        inputs::lead(&kept, &config, &outlets, &self.spools);
        let mut old = std::mem::replace(&mut self.outlets, outlets);
        self.outlets.start();
        if let Err(error) = old.end().await {
            tracing::warn!(error = format!("{error:#}"), "while clients ended");
        }
        let saved = self.saver.end().await;
        self.outlets.inherit(&old);
        self.config = config.clone();
        let positions = match &saved {
            Ok(()) if !self.world.dry_run => positions(&config, &self.world)?,
            // They are in memory only.
            _ => Arc::new((*self.live.now().positions).clone().of_jobs(job_names(&config))),
        };
        if let Err(error) = saved {
            tracing::error!(error = format!("{error:#}"), "positions cannot be written");
        }
        let board = Board::default();
        let built =
            Inputs::build(&config, &self.world, &self.outlets, &positions, &self.spools, &board, &mut kept);
        self.inputs = match built {
            Ok(built) => built,
            Err(error) => {
                // Those that were not taken over stay for whoever is next.
                self.inputs.keep(kept);
                return Err(error);
            }
        };
        self.saver = saver(&config, &self.world, &positions);
        *self.live.0.write() = Live { config, board, positions, clients: self.outlets.clients.clone() };
        self.start_inputs().await;
        Ok(())
    }
}

/// Positions as they were saved, for the jobs of a configuration.
pub(crate) fn positions(config: &Config, world: &World) -> Result<Arc<Positions>> {
    let positions = Positions::load(&config.positions).context("positions.filename")?;
    world.metrics.positions_damaged.inc_by(positions.damaged() as u64);
    Ok(Arc::new(positions.identified_by(config.target_config.identity).of_jobs(job_names(config))))
}

fn job_names(config: &Config) -> impl Iterator<Item = String> {
    config.scrape_configs.iter().map(|job| job.job_name.clone())
}

/// The task that saves positions.
fn saver(config: &Config, world: &World, positions: &Arc<Positions>) -> Tasks {
    let mut tasks = Tasks::default();
    if world.dry_run {
        return tasks;
    }
    let (saved, period) = (positions.clone(), config.positions.sync_period.get());
    tasks.task("agent/positions", move |stop| async move {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = saved.due() => {}
                () = stop.cancelled() => break,
            }
            let begun = Instant::now();
            if let Err(error) = saved.save_changes() {
                tracing::error!(error = format!("{error:#}"), "positions cannot be written");
            }
            // Where files are many, or the disk is slow, there is more to do than saving.
            pause = period.max(begun.elapsed() * 4);
        }
        saved.save()
    });
    tasks
}

#[cfg(test)]
pub(crate) mod tests;
