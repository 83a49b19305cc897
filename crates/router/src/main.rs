//! The `timberline-router` binary.

use std::process::ExitCode;

static PROGRAM: service::Program = service::program!("timberline-router");

fn main() -> ExitCode {
    service::start::<service::Cli, router::Config>(&PROGRAM, async |cli, config, process| {
        router::build(&cli, config, None, process).map(drop)
    })
}
