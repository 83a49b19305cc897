//! The OpenTelemetry SDK for Python and DuckDB as clients: programs under `clients/`, run in an environment made once per target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs `clients/<program>` and returns what it printed. Anything on standard error is a failure: the SDK complains there
/// and goes on.
pub(crate) fn run(program: &str, args: &[String]) -> Result<String> {
    run_file(&sources().join(program), args)
}

/// As [`run`], of a program anywhere.
pub(crate) fn run_file(program: &Path, args: &[String]) -> Result<String> {
    let output = Command::new(python()?).arg(program).args(args).output()?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    let good = output.status.success() && complaints.is_empty();
    ensure!(good, "{}: {}\n{complaints}", program.display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// The interpreter of the environment, which is made if it is not there or was made for other requirements.
fn python() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| testkit::recorded::workspace().join("target"));
    std::fs::create_dir_all(&target)?;
    let folder = target.join("python-otel");
    let wanted = std::fs::read_to_string(sources().join("requirements.txt"))?;
    // Tests run side by side, in this process and in others.
    let lock = std::fs::File::create(target.join("python-otel.lock"))?;
    lock.lock()?;
    let (made_for, interpreter) = (folder.join("made-for.txt"), folder.join("bin/python"));
    if std::fs::read_to_string(&made_for).ok().as_ref() != Some(&wanted) {
        finish(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
            .context("these tests need Python 3 with venv (Debian: python3-venv)")?;
        let requirements = sources().join("requirements.txt");
        finish(Command::new(&interpreter).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements))
            .context("these tests need the OpenTelemetry SDK for Python and DuckDB, from PyPI")?;
        std::fs::write(&made_for, wanted)?;
    }
    Ok(interpreter)
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    Ok(())
}
