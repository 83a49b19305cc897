//! A process: named tasks with owners, and one way down.
//!
//! `build` functions register tasks here and start nothing; [`Process::run`] starts them all, waits for a signal or for a
//! task that ends when it should not, and takes everything down in four phases within one grace period:
//! drain (take nothing new) → finish (what is on its way) → flush (to durable storage) → stop.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::{Id, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Health, Metrics, Program,
    signals::{Signal, Signals},
};

/// When a task is told to end. All tasks of a phase end before the next phase begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Listeners, receivers, tailers: take nothing new, answer what was taken.
    Drain,
    /// Pipelines, queues, batches: pass on what is on its way.
    Finish,
    /// Stores, exporters: bring it to durable storage.
    Flush,
    /// The rest: logs' commit threads, observers, caches.
    Stop,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Drain, Phase::Finish, Phase::Flush, Phase::Stop];
}

/// Why a process ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A task ended, failed or panicked while the process was running.
    #[error("task {task} {what}")]
    Task {
        /// Name of the task.
        task: String,
        /// How it ended.
        what: String,
    },
    /// The grace period passed first.
    #[error("shutdown took longer than {grace:?}: {} did not end", tasks.join(", "))]
    Grace {
        /// The grace period.
        grace: Duration,
        /// Tasks that were cut off.
        tasks: Vec<String>,
    },
    /// The system does not let us listen to signals.
    #[error("cannot listen to signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// Asks a running process to shut down. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Begins the shutdown, as SIGTERM does.
    pub fn begin(&self, reason: &str) {
        tracing::info!(reason, "shutdown asked for");
        self.token.cancel();
    }

    /// Resolves when a shutdown begins, whoever asked for it.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }
}

type Work = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;
type Hook = Box<dyn FnOnce() -> Work + Send>;

enum Job {
    /// Told to end by its phase; `forever` if ending earlier is a failure.
    Task { start: Box<dyn FnOnce(CancellationToken) -> Work + Send>, forever: bool },
    /// Begun by its phase.
    Hook(Hook),
}

struct Registered {
    name: String,
    phase: Phase,
    job: Job,
}

/// Tasks, health, metrics and shutdown of one process.
pub struct Process {
    program: Program,
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
    grace: Duration,
    jobs: Vec<Registered>,
    reload: Vec<(String, Box<dyn FnMut() + Send>)>,
    log_level: Option<telemetry::LevelHandle>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.jobs.iter().map(|job| job.name.as_str()).collect();
        f.debug_struct("Process")
            .field("program", &self.program)
            .field("jobs", &names)
            .finish_non_exhaustive()
    }
}

impl Process {
    /// An empty process with a grace period of 30 s.
    pub fn new(program: &Program) -> Process {
        Process {
            program: *program,
            health: Health::default(),
            metrics: Metrics::with_process(),
            shutdown: Shutdown::default(),
            grace: Duration::from_secs(30),
            jobs: Vec::new(),
            reload: Vec::new(),
            log_level: None,
        }
    }

    /// How long the four phases may take together.
    pub fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// Name and version of the binary.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Components' health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Metrics registry.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Reads and changes the log level (`/log_level`); `None` where nobody started telemetry, as in tests.
    pub fn log_level(&self) -> Option<&telemetry::LevelHandle> {
        self.log_level.as_ref()
    }

    pub(crate) fn set_log_level(&mut self, level: telemetry::LevelHandle) {
        self.log_level = Some(level);
    }

    /// A handle that ends the process.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Adds a task that runs until its token is cancelled, which happens when `phase` begins. Ending earlier, with an error or
    /// without, and panicking bring the process down with a message naming it.
    pub fn task<F, Fut>(&mut self, name: impl Into<String>, phase: Phase, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let start = Box::new(|token| Box::pin(task(token)) as Work);
        self.jobs.push(Registered { name: name.into(), phase, job: Job::Task { start, forever: true } });
    }

    /// Adds a task that may end by itself when its work is done; failing or panicking still brings the process down.
    pub fn once<F, Fut>(&mut self, name: impl Into<String>, phase: Phase, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let start = Box::new(|token| Box::pin(task(token)) as Work);
        self.jobs.push(Registered { name: name.into(), phase, job: Job::Task { start, forever: false } });
    }

    /// Adds a thread with synchronous work (a commit thread); same rules as [`Process::task`]. It polls
    /// `token.is_cancelled()`, or waits on something that ends with it. A thread that outlives the grace period is left behind
    /// when the process exits.
    pub fn thread<F>(&mut self, name: impl Into<String>, phase: Phase, work: F)
    where
        F: FnOnce(CancellationToken) -> anyhow::Result<()> + Send + 'static,
    {
        let name = name.into();
        let thread = name.clone();
        self.task(name, phase, move |token| async move {
            let (done, ended) = oneshot::channel();
            let runtime = tokio::runtime::Handle::current();
            let spawned = std::thread::Builder::new().name(thread).spawn(move || {
                // Work that hands over to async code finds the runtime it belongs to.
                let _entered = runtime.enter();
                let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(token)));
                // The receiver is gone only when the grace period has passed.
                let _ = done.send(result);
            });
            spawned.map_err(|error| anyhow::anyhow!("cannot start the thread: {error}"))?;
            match ended.await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => Err(anyhow::anyhow!("the thread vanished")),
            }
        });
    }

    /// Adds work to be done when `phase` has come: the last flush of a store, say.
    pub fn at<F, Fut>(&mut self, phase: Phase, name: impl Into<String>, work: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let hook = Box::new(|| Box::pin(work()) as Work);
        self.jobs.push(Registered { name: name.into(), phase, job: Job::Hook(hook) });
    }

    /// Calls `hook` at every SIGHUP, one after the other; it must not block.
    pub fn on_reload(&mut self, name: impl Into<String>, hook: impl FnMut() + Send + 'static) {
        self.reload.push((name.into(), Box::new(hook)));
    }

    /// Starts every task and returns when the process is down: `Ok` when it was asked to end and ended in time. SIGTERM,
    /// SIGINT and [`Shutdown::begin`] ask; a second signal exits at once with code 130.
    pub async fn run(self) -> Result<(), ProcessError> {
        let signals = Signals::listen()?;
        self.run_with(signals).await
    }

    pub(crate) async fn run_with(self, mut signals: Signals) -> Result<(), ProcessError> {
        let Process { health, shutdown, grace, jobs, mut reload, .. } = self;
        let mut running = Running::start(jobs);

        // Running: until asked, or until a task ends that should not.
        let mut failure = loop {
            tokio::select! {
                biased;
                () = shutdown.token.cancelled() => break None,
                signal = signals.next() => match signal {
                    Signal::End(name) => {
                        tracing::info!(signal = name, "shutting down");
                        break None;
                    }
                    Signal::Reload => {
                        for (name, hook) in &mut reload {
                            tracing::info!(hook = name.as_str(), "reloading");
                            hook();
                        }
                    }
                },
                Some(ended) = running.next() => {
                    if let Some(error) = ended.failure(true) {
                        tracing::error!(%error, "shutting down because a task ended");
                        break Some(error);
                    }
                }
            }
        };
        shutdown.token.cancel();
        health.stop_all();

        // Going down: phase by phase, within one deadline, and at once at a second signal.
        let begun = Instant::now();
        let deadline = begun + grace;
        for phase in Phase::ALL {
            running.begin(phase);
            while running.is_busy(phase) {
                tokio::select! {
                    biased;
                    signal = signals.next() => {
                        if let Signal::End(name) = signal {
                            let tasks = running.names();
                            tracing::warn!(signal = name, tasks = tasks.join(", "), "second signal: exiting at once");
                            signals.exit();
                            return Err(ProcessError::Grace { grace: begun.elapsed(), tasks });
                        }
                    }
                    () = tokio::time::sleep_until(deadline) => {
                        let error = ProcessError::Grace { grace, tasks: running.names() };
                        tracing::error!(%error, "exiting");
                        return Err(failure.unwrap_or(error));
                    }
                    Some(ended) = running.next() => {
                        if let Some(error) = ended.failure(ended.phase > phase) {
                            tracing::error!(%error, "during shutdown");
                            failure.get_or_insert(error);
                        }
                    }
                }
            }
        }
        tracing::info!("stopped");
        failure.map_or(Ok(()), Err)
    }
}

/// A task's end.
struct Ended {
    name: String,
    phase: Phase,
    forever: bool,
    result: Result<anyhow::Result<()>, tokio::task::JoinError>,
}

impl Ended {
    /// What is wrong with it; `early` if its phase has not begun.
    fn failure(&self, early: bool) -> Option<ProcessError> {
        let what = match &self.result {
            Ok(Ok(())) if early && self.forever => "ended though nobody asked it to".to_owned(),
            Ok(Ok(())) => return None,
            Ok(Err(error)) => format!("failed: {error:#}"),
            Err(error) => format!("panicked: {error}"),
        };
        Some(ProcessError::Task { task: self.name.clone(), what })
    }
}

struct Entry {
    name: String,
    phase: Phase,
    forever: bool,
}

/// The tasks of a running process. Dropping it aborts what is left.
struct Running {
    set: JoinSet<anyhow::Result<()>>,
    entries: HashMap<Id, Entry>,
    tokens: BTreeMap<Phase, CancellationToken>,
    hooks: Vec<(String, Phase, Hook)>,
}

impl Running {
    fn start(jobs: Vec<Registered>) -> Running {
        let tokens = Phase::ALL.into_iter().map(|phase| (phase, CancellationToken::new())).collect();
        let mut running = Running { set: JoinSet::new(), entries: HashMap::new(), tokens, hooks: Vec::new() };
        for Registered { name, phase, job } in jobs {
            match job {
                Job::Hook(hook) => running.hooks.push((name, phase, hook)),
                Job::Task { start, forever } => {
                    let token = running.tokens[&phase].clone();
                    // Called inside, so that a panic of the closure is the task's own.
                    let work = async move { start(token).await };
                    running.spawn(Entry { name, phase, forever }, work);
                }
            }
        }
        running
    }

    fn spawn(&mut self, entry: Entry, work: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let id = self.set.spawn(work).id();
        self.entries.insert(id, entry);
    }

    fn begin(&mut self, phase: Phase) {
        tracing::debug!(?phase, "shutdown phase");
        self.tokens[&phase].cancel();
        let (now, later) = std::mem::take(&mut self.hooks).into_iter().partition(|(_, p, _)| *p == phase);
        self.hooks = later;
        for (name, phase, hook) in now {
            self.spawn(Entry { name, phase, forever: false }, async move { hook().await });
        }
    }

    /// The next task to end; `None` when there is none.
    async fn next(&mut self) -> Option<Ended> {
        let (id, result) = match self.set.join_next_with_id().await? {
            Ok((id, result)) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        let entry = self.entries.remove(&id).expect("every spawned task has an entry");
        Some(Ended { name: entry.name, phase: entry.phase, forever: entry.forever, result })
    }

    fn is_busy(&self, phase: Phase) -> bool {
        self.entries.values().any(|entry| entry.phase == phase)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.entries.values().map(|entry| entry.name.clone()).collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests;
