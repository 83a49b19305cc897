//! Benchmarks: `cargo xtask bench ingest|query|agent|agent-backlog`. They print figures; nothing here passes or fails.

mod agent;
mod agent_backlog;
mod ingest;
mod query;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask bench ingest [logs|traces] [--mb N] [--spans N]
       cargo xtask bench query [--mb N] [--runs N]
       cargo xtask bench agent [--lines N] [--runs N]
       cargo xtask bench agent-backlog [--gb N]

  ingest  pushes a generated workload into a real server and prints its CPU seconds, peak memory and bytes
          on disk, beside zstd -3 of the same raw bytes
  query   stores the log workload and prints what each of a list of questions costs the server
  agent   has a real agent read a file of a container, work on its lines and push them to a server that takes
          everything, and prints its CPU seconds and peak memory beside zstd -3 of the same file
  agent-backlog
          lets the agent catch up with Docker's files into a server that keeps nothing, and prints its time, CPU
          seconds and peak memory";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("agent-backlog") => agent_backlog::run(&args[1..]),
        Some("ingest") => ingest::run(&args[1..]),
        Some("agent") => agent::run(&args[1..]),
        Some("query") => query::run(&args[1..]),
        Some("--help" | "help") | None => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("no benchmark is called '{other}'\n{USAGE}"),
    }
}
