//! SIGTERM and SIGINT end a process, SIGHUP reloads it. A seam, so that tests need not signal themselves.

use tokio::sync::mpsc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    End(&'static str),
    Reload,
}

/// Where signals come from.
pub(crate) struct Signals {
    queue: mpsc::Receiver<Signal>,
    /// The task that listens to the system; it ends with us. `None` in tests.
    listener: Option<tokio::task::JoinSet<()>>,
}

impl Signals {
    /// The system's signals.
    pub(crate) fn listen() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut hup = signal(SignalKind::hangup())?;
        let (sender, queue) = mpsc::channel(4);
        let mut listener = tokio::task::JoinSet::new();
        listener.spawn(async move {
            loop {
                let signal = tokio::select! {
                    _ = term.recv() => Signal::End("SIGTERM"),
                    _ = int.recv() => Signal::End("SIGINT"),
                    _ = hup.recv() => Signal::Reload,
                };
                // Full: the same news is waiting to be heard.
                let _ = sender.try_send(signal);
            }
        });
        Ok(Signals { queue, listener: Some(listener) })
    }

    /// Signals sent by a test; they never exit the process.
    #[cfg(test)]
    pub(crate) fn channel() -> (mpsc::Sender<Signal>, Signals) {
        let (sender, queue) = mpsc::channel(4);
        (sender, Signals { queue, listener: None })
    }

    /// The next signal; pends for ever when none can come.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.queue.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// Exits at once, as a shell reports a process that a signal ended.
    pub(crate) fn exit(&self) {
        if self.listener.is_some() {
            std::process::exit(130);
        }
    }
}
