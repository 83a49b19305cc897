//! Named tasks that begin and end together: what a reload replaces while the process goes on.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use anyhow::{Result, anyhow};
use futures::FutureExt as _;
use service::CancellationToken;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

type Work = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
type Begin = Box<dyn FnOnce(CancellationToken) -> Work + Send>;

/// Tasks that do not run yet, or that run. Dropping it cuts them off.
#[derive(Default)]
pub(crate) struct Tasks {
    token: CancellationToken,
    waiting: Vec<(String, Begin)>,
    running: JoinSet<(String, Result<()>)>,
}

impl Tasks {
    /// Adds a task that runs until its token is cancelled. Ending earlier is a failure.
    pub(crate) fn task<F, Fut>(&mut self, name: impl Into<String>, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.waiting.push((name.into(), Box::new(|token| Box::pin(task(token)))));
    }

    /// Adds a thread with synchronous work; the same rules.
    pub(crate) fn thread<F>(&mut self, name: impl Into<String>, work: F)
    where
        F: FnOnce(CancellationToken) -> Result<()> + Send + 'static,
    {
        let name = name.into();
        let thread = name.clone();
        self.task(name, move |token| async move {
            let (done, ended) = oneshot::channel();
            let runtime = tokio::runtime::Handle::current();
            std::thread::Builder::new().name(thread).spawn(move || {
                // Work that hands over to async code finds the runtime it belongs to.
                let _entered = runtime.enter();
                let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(token)));
                // Nobody waits where the tasks were cut off.
                let _ = done.send(result);
            })?;
            match ended.await {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => Err(anyhow!("the thread vanished")),
            }
        });
    }

    /// Begins all that wait.
    pub(crate) fn start(&mut self) {
        for (name, begin) in self.waiting.drain(..) {
            let token = self.token.clone();
            self.running.spawn(async move {
                // Called inside, so that a panic of the closure is the task's own.
                let work = AssertUnwindSafe(async move { begin(token).await }).catch_unwind();
                let result = work.await.unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                    Err(anyhow!("panicked: {text}"))
                });
                (name, result)
            });
        }
    }

    /// Resolves when a task has ended that nobody asked to.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.running.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("task {name} ended though nobody asked it to"),
            Some(Ok((name, Err(error)))) => error.context(format!("task {name} failed")),
            Some(Err(error)) => anyhow!("a task was cut off: {error}"),
            None => std::future::pending().await,
        }
    }

    /// Asks all to end, and waits until they have; the first failure among them.
    pub(crate) async fn end(&mut self) -> Result<()> {
        self.token.cancel();
        self.waiting.clear();
        let mut result = Ok(());
        while let Some(ended) = self.running.join_next().await {
            let ended = match ended {
                Ok((name, ended)) => ended.map_err(|error| error.context(format!("task {name} failed"))),
                Err(error) => Err(anyhow!("a task was cut off: {error}")),
            };
            if result.is_ok() {
                result = ended;
            }
        }
        result
    }
}
