//! The `timberline` binary.

use std::process::ExitCode;

static PROGRAM: service::Program = service::program!("timberline");

fn main() -> ExitCode {
    service::start::<timberline::Args, timberline::Config>(&PROGRAM, async |args, config, process| {
        timberline::build(args, config, process).await
    })
}
