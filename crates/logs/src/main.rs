//! The `timberline-logs` binary.

use std::process::ExitCode;

static PROGRAM: service::Program = service::program!("timberline-logs");

fn main() -> ExitCode {
    service::start::<service::Cli, logs::Config>(&PROGRAM, async |cli, config, process| {
        logs::build(&cli, config, process).await.map(drop)
    })
}
