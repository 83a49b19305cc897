//! The `timberline-agent` binary.

use std::process::ExitCode;

static PROGRAM: service::Program = service::program!("timberline-agent");

fn main() -> ExitCode {
    agent::main(&PROGRAM)
}
