//! The `timberline-agent` binary.

use std::process::ExitCode;

static PROGRAM: service::Program = service::program!("timberline-agent");

fn main() -> ExitCode {
    service::start::<service::Cli, agent::Config>(&PROGRAM, async |cli, config, process| {
        agent::build(&cli, config, None, process).map(drop)
    })
}
