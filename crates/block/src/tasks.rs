//! The work behind a store, to be run by its owner as one named task.

use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::commit::{Command, Committer};
use crate::store::Shared;
use crate::{IngestLog, Signal, flush, janitor};

/// The work behind a [`crate::Store`]: the commit thread, the flushes, the janitor.
#[must_use = "a store answers only while its tasks run"]
pub struct StoreTasks<S: Signal> {
    shared: Arc<Shared<S>>,
    commands: mpsc::Sender<Command<S>>,
    queue: mpsc::Receiver<Command<S>>,
    log: Box<dyn IngestLog>,
}

impl<S: Signal> StoreTasks<S> {
    pub(crate) fn new(
        shared: Arc<Shared<S>>,
        commands: mpsc::Sender<Command<S>>,
        queue: mpsc::Receiver<Command<S>>,
        log: Box<dyn IngestLog>,
    ) -> Self {
        Self { shared, commands, queue, log }
    }

    /// Runs until `cancel` is cancelled, then refuses new appends, answers those that wait, and ends. It does not flush: call
    /// [`crate::Store::flush`] before, or leave it to the replay, for what is not in blocks is in the log.
    ///
    /// Dropping the future instead is like a crash: safe, but appends under way get no answer.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { shared, commands, queue, log } = self;
        // However this ends, nobody waits for it any more.
        let _closing = shared.closed.clone().drop_guard();
        let committer = Committer::new(Arc::clone(&shared), log);
        let (ended, mut commit_ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(format!("{}-commit", S::NAME)).spawn(move || {
            committer.run(queue);
            drop(ended);
        });
        if let Err(error) = thread {
            tracing::error!(signal = S::NAME, %error, "cannot start the commit thread");
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            // A panic in a head: whatever it left behind, the log has it all for the next start.
            _ = &mut commit_ended => tracing::error!(signal = S::NAME, "the commit thread died"),
            () = flush::run(&shared, &commands) => {}
            () = janitor::run(&shared) => {}
        }
        shared.closed.cancel();
        if commands.send(Command::Close).await.is_ok() {
            let _ = commit_ended.await;
        }
    }
}
