//! How a discovery tells the reading thread which files it has found.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use service::CancellationToken;

use super::files::FileTarget;
use crate::tail::Command;

/// One discovery's line to the reading thread.
#[derive(Debug, Clone)]
pub(crate) struct Announce {
    source: String,
    commands: SyncSender<Command>,
}

impl Announce {
    /// For the discovery that is called `source`: what it announces replaces what it announced before.
    pub(crate) fn new(source: impl Into<String>, commands: SyncSender<Command>) -> Self {
        Self { source: source.into(), commands }
    }

    /// The same line under another name.
    pub(crate) fn renamed(&self, part: &str) -> Self {
        Self { source: format!("{}/{part}", self.source), commands: self.commands.clone() }
    }

    /// Announces all targets of this source; `false` if nobody listens any more.
    pub(crate) async fn targets(&self, targets: Vec<FileTarget>, stop: &CancellationToken) -> bool {
        let mut command = Command::Targets { source: self.source.clone(), targets };
        loop {
            command = match self.commands.try_send(command) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                // The thread waits for a store: it will come to its commands.
                Err(TrySendError::Full(command)) => command,
            };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
                () = stop.cancelled() => return false,
            }
        }
    }
}
