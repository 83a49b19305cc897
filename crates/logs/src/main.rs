//! The `timberline-logs` binary.

use std::process::ExitCode;

// Pushes allocate on one thread and are freed on another, where glibc's arenas keep what they got.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static PROGRAM: service::Program = service::program!("timberline-logs");

fn main() -> ExitCode {
    service::start::<service::Cli, logs::Config>(&PROGRAM, async |cli, config, process| {
        logs::build(&cli, config, process).await.map(drop)
    })
}
