//! One service under test: a real process on ports of its own, which can die and come back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::process::{Launch, Process};

/// Patience for whatever takes milliseconds on a machine with nothing else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer; the last error tells why there was none.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("not within {PATIENCE:?}: {what}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A service and how to start it again.
pub(crate) struct Service {
    binary: &'static str,
    args: Vec<String>,
    folder: PathBuf,
    ready: String,
    process: Option<Process>,
}

impl Service {
    /// A service that is not started yet. `config` is laid over the file `shipped` of `compose/`; the process works in `folder` and writes its output there. `ready` is the URL that answers 200 when it is.
    pub(crate) fn new(
        binary: &'static str,
        shipped: &str,
        config: &Value,
        folder: &Path,
        ready: String,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let own = folder.join(format!("{binary}.yaml"));
        // JSON is YAML.
        std::fs::write(&own, config.to_string()).with_context(|| own.display().to_string())?;
        let shipped = testkit::recorded::workspace().join("compose").join(shipped);
        let args =
            [shipped, own].into_iter().flat_map(|file| ["--config".to_owned(), file.display().to_string()]);
        Ok(Self { binary, args: args.collect(), folder: folder.to_owned(), ready, process: None })
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts the process without waiting for anything.
    pub(crate) fn launch(&mut self) -> Result<()> {
        let output = self.folder.join(format!("{}.log", self.binary));
        let launch = Launch::workspace(self.binary)?.args(&self.args).folder(&self.folder).output(output);
        self.process = Some(launch.start()?);
        Ok(())
    }

    /// Waits until it is ready; an early end is an error that shows its output.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else { bail!("{} was not started", self.binary) };
        process.wait_for_http(&self.ready, PATIENCE)
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait()
    }

    /// As [`start`](Self::start), of a service that is kept.
    pub(crate) fn started(mut self) -> Result<Self> {
        self.start()?;
        Ok(self)
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> Result<u32> {
        let process = self.process.as_ref().with_context(|| format!("{} was not started", self.binary))?;
        Ok(process.id())
    }

    /// Ends it as a power cut would; an error if it has ended before.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("{} was not started", self.binary) };
        if let Some(status) = process.ended()? {
            bail!("{} ended by itself ({status}): {}", self.binary, process.output());
        }
        process.kill()
    }

    /// Ends it as an operator would; an error if it does not end well.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("{} was not started", self.binary) };
        let status = process.terminate(PATIENCE)?;
        if !status.success() {
            bail!("{} ended with {status}: {}", self.binary, process.output());
        }
        Ok(())
    }
}
