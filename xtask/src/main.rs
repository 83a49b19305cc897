//! Tasks of the workspace: `cargo xtask ci | tidy | codegen | images | bench`.

mod codegen;
mod images;
mod run;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::run::Cargo;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Timberline workspace")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything a change must pass: format, tidy, lints, tests, documentation.
    Ci,
    /// Checks what compilers do not: layers, file headers and sizes, generated files, shipped configs.
    Tidy,
    /// Writes the generated files anew: the configuration and metrics reference.
    Codegen,
    /// Builds the container images from the workspace's own binaries, pulling nothing.
    Images(images::Options),
    /// Measures a workload, for example `cargo xtask bench ingest`.
    Bench {
        /// Passed on to the bench program; `--help` lists the workloads.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Args::parse().task {
        Task::Ci => ci(),
        Task::Tidy => tidy::check(),
        Task::Codegen => codegen::write(),
        Task::Images(options) => images::build(&options),
        Task::Bench { args } => bench(&args),
    }
}

fn ci() -> Result<()> {
    Cargo::new(["fmt", "--all", "--check"]).run()?;
    Cargo::new(["build", "--workspace", "--bins"]).run()?;
    tidy::check()?;
    Cargo::new(["clippy", "--workspace", "--all-targets"]).args(["--", "-D", "warnings"]).run()?;
    Cargo::new(["test", "--workspace"]).run()?;
    Cargo::new(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run()
}

fn bench(args: &[String]) -> Result<()> {
    Cargo::new(["build", "--release", "--workspace", "--bins"]).run()?;
    let bench = Cargo::new(["run", "--release", "--package", "testkit", "--bin", "bench", "--"]).args(args);
    bench.env("TIMBERLINE_BIN", &run::target_dir().join("release").to_string_lossy()).run()
}
