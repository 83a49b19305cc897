//! The `timberline-traces` binary.
use std::process::ExitCode;

static PROGRAM: service::Program = service::program!("timberline-traces");

fn main() -> ExitCode {
    service::start::<service::Cli, traces::Config>(&PROGRAM, async |cli, config, process| {
        traces::build(&cli, config, process).await.map(drop)
    })
}
