//! From `main` to a running process: command line, configuration, telemetry, runtime, build, run, exit code.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;

use crate::{
    Cli, Process, Program,
    cli::parse,
    config::{self, Config, Dialect, Layer, Loaded},
};

/// How long the last logs and spans may take to leave after everything else has ended.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// The whole of a `main`: reads flags and configuration, answers `--check`, `--print-config` and `--version`, starts
/// telemetry and the runtime, calls `build`, and runs the process. `A` is [`Cli`] or a struct that flattens it. Exit codes:
/// 0 done or shut down, 1 failed or a configuration with problems, 2 flags with problems, 130 a second signal.
pub fn start<A, C>(
    program: &Program,
    build: impl AsyncFnOnce(A, C, &mut Process) -> anyhow::Result<()>,
) -> ExitCode
where
    A: Parser + AsRef<Cli>,
    C: Config,
{
    let args = match parse::<A>(program.name, std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let cli = args.as_ref();
    if cli.version {
        println!("{}", program.describe());
        return ExitCode::SUCCESS;
    }
    if let Some(url) = &cli.probe {
        return match crate::probe::ask(url) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("{}: {problem}", program.name);
                ExitCode::FAILURE
            }
        };
    }
    let loaded = match read::<C>(cli) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{}: {error}", program.name);
            return ExitCode::FAILURE;
        }
    };
    if cli.check {
        for remark in remarks(&loaded) {
            eprintln!("{}: {remark}", program.name);
        }
        println!("the configuration is valid");
        return ExitCode::SUCCESS;
    }
    if cli.print_config {
        print!("{}", config::print(&loaded.config));
        return ExitCode::SUCCESS;
    }
    if cli.print_config_stderr {
        eprint!("{}", config::print(&loaded.config));
    }
    crate::memory::give_back();
    match live(program, args, loaded, build) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", program.name);
            ExitCode::FAILURE
        }
    }
}

fn live<A: AsRef<Cli>, C: Config>(
    program: &Program,
    args: A,
    loaded: Loaded<C>,
    build: impl AsyncFnOnce(A, C, &mut Process) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let logging = loaded.config.logging();
    let mut settings = telemetry::Settings::new(program.name).version(program.version);
    if let Some(level) = logging.level {
        settings = settings.level(level);
    }
    if let Some(format) = logging.format {
        settings = settings.format(format);
    }
    let guard = telemetry::init(settings).context("cannot start telemetry")?;
    tracing::info!(version = program.version, commit = program.commit.unwrap_or("unknown"), "starting");
    for remark in remarks(&loaded) {
        tracing::warn!("{remark}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let ended = runtime.block_on(async {
        let mut process = Process::new(program);
        process.set_grace(loaded.config.grace());
        process.set_log_level(guard.level());
        let print_metrics = args.as_ref().print_metrics;
        build(args, loaded.config, &mut process).await?;
        if print_metrics {
            for (name, help) in process.metrics().describe() {
                println!("| `{name}` | {help} |");
            }
            return Ok(());
        }
        process.run().await.map_err(anyhow::Error::from)
    });
    if let Err(error) = &ended {
        tracing::error!(error = format!("{error:#}"), "ended");
    }
    // Blocking work that outlived the grace period must not keep us.
    runtime.shutdown_timeout(Duration::from_secs(1));
    guard.shutdown(LAST_EXPORT);
    ended
}

/// What an operator should know about a configuration that is valid.
pub fn remarks<C>(loaded: &Loaded<C>) -> Vec<String> {
    let mut remarks = loaded.warnings.clone();
    if !loaded.unneeded.is_empty() {
        remarks.push(format!(
            "accepted without effect, not needed or not built here: {}",
            loaded.unneeded.join(", ")
        ));
    }
    remarks
}

/// Reads the configuration that a command line asks for: once at the start, and again by services that reload theirs. The
/// error names every problem, one a line.
pub fn read<C: Config>(cli: &Cli) -> Result<Loaded<C>, String> {
    let mut layers = Vec::new();
    for source in &cli.config {
        layers.extend(layer(source, C::DIALECT)?);
    }
    for (flags, from_go) in [(&cli.go_flag, true), (&cli.set, false)] {
        for text in flags {
            let (name, value) =
                text.split_once('=').ok_or_else(|| format!("--set {text}: write it as path.to.key=value"))?;
            layers.push(match from_go {
                true => Layer::Set {
                    path: C::flag_path(name),
                    value: C::flag_value(name, value),
                    flag: format!("-{name}"),
                },
                false => Layer::Set {
                    path: name.to_owned(),
                    value: value.to_owned(),
                    flag: format!("--set {name}"),
                },
            });
        }
    }
    config::load::<C>(&layers, cli.expand_env, &|name| std::env::var(name).ok()).map_err(|problems| {
        let count = problems.iter().count();
        let plural = if count == 1 { "" } else { "s" };
        format!("the configuration has {count} problem{plural}:\n{problems}").trim_end().to_owned()
    })
}

/// A `--config` value: a path, or for the Collector's dialect also `file:`, `env:` and `yaml:`.
fn layer(source: &str, dialect: Dialect) -> Result<Vec<Layer>, String> {
    let scheme = match source.split_once(':') {
        // One letter is a drive of another system, not a scheme.
        Some((scheme, rest))
            if dialect == Dialect::Collector && scheme.len() > 1 && !scheme.contains('/') =>
        {
            Some((scheme, rest))
        }
        _ => None,
    };
    let path = match scheme {
        Some(("env", name)) => {
            let text = std::env::var(name).map_err(|_| format!("--config {source}: {name} is not set"))?;
            return Ok(vec![Layer::Yaml { name: source.to_owned(), text }]);
        }
        Some(("yaml", text)) => {
            // `yaml:processors::batch::timeout: 2s` sets one key; anything else is a document.
            let set =
                text.split_once(": ").filter(|(path, _)| path.contains("::") && !path.contains(['{', '\n']));
            return Ok(vec![match set {
                Some((path, value)) => Layer::Set {
                    path: path.to_owned(),
                    value: value.to_owned(),
                    flag: format!("--config {source}"),
                },
                None => Layer::Yaml { name: "--config yaml:".to_owned(), text: text.to_owned() },
            }]);
        }
        Some(("file", path)) => path,
        Some((scheme @ ("http" | "https"), _)) => {
            return Err(format!("--config {source}: {scheme} is not supported: give a file"));
        }
        _ => source,
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the configuration file `{path}`: {error}"))?;
    Ok(vec![Layer::Yaml { name: path.to_owned(), text }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_collector() {
        let yaml = |name: &str, text: &str| Layer::Yaml { name: name.to_owned(), text: text.to_owned() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, "a: 1").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(layer(path, Dialect::Loki), Ok(vec![yaml(path, "a: 1")]));
        assert_eq!(layer(&format!("file:{path}"), Dialect::Collector), Ok(vec![yaml(path, "a: 1")]));
        assert_eq!(layer("yaml:{a: 1}", Dialect::Collector), Ok(vec![yaml("--config yaml:", "{a: 1}")]));
        let set = layer("yaml:processors::batch::timeout: 2s", Dialect::Collector).unwrap();
        assert!(
            matches!(&set[0], Layer::Set { path, value, .. } if path == "processors::batch::timeout" && value == "2s")
        );
        assert!(layer("http://x/y", Dialect::Collector).unwrap_err().contains("not supported"));
        assert!(layer("/nowhere/at/all", Dialect::Loki).unwrap_err().contains("`/nowhere/at/all`"));
    }
}
