//! Real processes of the workspace's binaries: started, watched, terminated, killed without mercy.
//!
//! ```ignore
//! let port = testkit::port::free();
//! let mut logs = Launch::workspace("timberline-logs")?.args(["--config", path]).start()?;
//! logs.wait_for_http(&format!("http://127.0.0.1:{port}/ready"), Duration::from_secs(10))?;
//! logs.kill()?; // as kill -9
//! ```

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::http::Request;
use crate::recorded::workspace;

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(10);
/// As much of the output as an error tells.
const TAIL: usize = 4000;

/// A process to be started.
#[derive(Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    output: Option<PathBuf>,
}

/// A running process; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    output: PathBuf,
    status: Option<ExitStatus>,
    // Holds the output file if nobody asked for another place.
    _folder: Option<TempDir>,
}

impl Launch {
    /// A program anywhere.
    pub fn program(path: impl Into<PathBuf>) -> Self {
        Self { program: path.into(), args: Vec::new(), env: Vec::new(), folder: None, output: None }
    }

    /// A binary of this workspace, brought up to date once per test process.
    ///
    /// With `TIMBERLINE_BIN` set to a folder its binaries are taken as they are (another profile, an
    /// unpacked image).
    pub fn workspace(binary: &str) -> Result<Self> {
        binary_path(binary).map(Self::program)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Where the process works; else where the test does.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The file that gets standard output and standard error, after what it has already; else a temporary one.
    pub fn output(mut self, file: impl Into<PathBuf>) -> Self {
        self.output = Some(file.into());
        self
    }

    /// Starts the process.
    pub fn start(self) -> Result<Process> {
        let name = self.program.file_name().unwrap_or(OsStr::new("process")).to_string_lossy().into_owned();
        let (output, folder) = match self.output {
            Some(output) => (output, None),
            None => {
                let folder = tempfile::tempdir()?;
                (folder.path().join("output"), Some(folder))
            }
        };
        let file = File::options().create(true).append(true).open(&output);
        let file = file.with_context(|| format!("output file {}", output.display()))?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Process { child, name, output, status: None, _folder: folder })
    }
}

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has written so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.output).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits for a line of output that contains `text` and gives it back. Fails at once if the process ends.
    pub fn wait_for_line(&mut self, text: &str, patience: Duration) -> Result<String> {
        self.poll(&format!("line with {text:?}"), patience, |process| {
            let output = process.output();
            // An unfinished line may still grow.
            let complete = output.rsplit_once('\n').map_or("", |(lines, _)| lines);
            complete.lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// Waits until a `GET` of this URL answers 200. Fails at once if the process ends.
    pub fn wait_for_http(&mut self, url: &str, patience: Duration) -> Result<()> {
        let mut last = String::new();
        let answered = self.poll(&format!("200 from {url}"), patience, |_| {
            match Request::new("GET", url).timeout(Duration::from_secs(2)).send() {
                Ok(response) if response.status == 200 => return Some(()),
                Ok(response) => last = format!("status {}: {}", response.status, response.text()),
                Err(error) => last = format!("{error:#}"),
            }
            None
        });
        answered.with_context(|| format!("the last answer was: {last}"))
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} still runs after {patience:?}; its output ends with\n{}", self.name, self.tail());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(patience)
    }

    /// Ends it on the spot (SIGKILL), as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.status = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Sends a signal; it is an error if the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let ended = self.ended()?;
        ensure!(ended.is_none(), "{} has ended already; its output ends with\n{}", self.name, self.tail());
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("process id")?;
        Ok(kill_process(id, signal)?)
    }

    fn poll<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + patience;
        loop {
            // Looked at before the last look at the output, so that nothing it wrote is missed.
            let ended = self.ended()?;
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) before {what}; its output ends with\n{}", self.name, self.tail());
            }
            if Instant::now() >= end {
                bail!("no {what} from {} in {patience:?}; its output ends with\n{}", self.name, self.tail());
            }
            std::thread::sleep(POLL);
        }
    }

    fn tail(&self) -> String {
        let output = self.output();
        let start = output.len().saturating_sub(TAIL);
        let start = (start..=output.len()).find(|&at| output.is_char_boundary(at)).unwrap_or(0);
        output[start..].to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("cannot kill {} ({}): {error:#}", self.name, self.id());
        }
    }
}

/// Builds a binary of the workspace, once, and tells where it is.
fn binary_path(name: &str) -> Result<PathBuf> {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    if let Some(folder) = std::env::var_os("TIMBERLINE_BIN") {
        return Ok(Path::new(&folder).join(name));
    }
    // Held while building: cargo would make a second one wait anyway.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    // Tests run from `<target>/<profile>/deps`, programs from the folder above.
    let program = std::env::current_exe()?;
    let is_profile = |folder: &&Path| folder.file_name() != Some(OsStr::new("deps"));
    let profile =
        program.ancestors().skip(1).find(is_profile).context("the test runs outside of a target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--quiet", "--bin", name]);
    if profile.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    if let Some(target) = profile.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status = command.arg("--workspace").status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo could not build {name}");
    let path = profile.join(name);
    ensure!(path.exists(), "no binary at {} after building it", path.display());
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        Launch::program("/bin/sh").args(["-c", script]).env("GREETING", "hello").start().unwrap()
    }

    #[test]
    fn lines_are_waited_for() {
        let mut process = shell("echo $GREETING one; echo two >&2; exec sleep 60");
        assert_eq!(process.wait_for_line("one", PATIENCE).unwrap(), "hello one");
        assert_eq!(process.wait_for_line("two", PATIENCE).unwrap(), "two");
        let error = process.wait_for_line("three", Duration::from_millis(30)).unwrap_err().to_string();
        assert!(error.contains(r#"no line with "three""#) && error.contains("hello one"), "{error}");
        assert!(!process.terminate(PATIENCE).unwrap().success());
        assert!(process.signal(Signal::TERM).is_err());
    }

    #[test]
    fn an_early_end_is_told() {
        let mut process = shell("echo broken; exit 3");
        let error = process.wait_for_line("ready", PATIENCE).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("broken"), "{error}");
        let error = process.wait_for_http("http://127.0.0.1:1/", PATIENCE).unwrap_err();
        assert!(format!("{error:#}").contains("the last answer was"), "{error:#}");
        assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(3));
    }

    #[test]
    fn nothing_survives() {
        // A process that does not listen to SIGTERM, in a file that outlives it.
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("log");
        let launch = || Launch::program("/bin/sh").output(&output);
        let mut process = launch().args(["-c", "trap '' TERM; echo up; exec sleep 60"]).start().unwrap();
        process.wait_for_line("up", PATIENCE).unwrap();
        assert!(process.terminate(Duration::from_millis(50)).is_err());
        process.kill().unwrap();
        assert!(process.ended().unwrap().is_some());

        let process = launch().args(["-c", "exec sleep 60"]).start().unwrap();
        let id = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        drop(process);
        assert!(rustix::process::test_kill_process(id).is_err());
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "up\n");
    }
}
